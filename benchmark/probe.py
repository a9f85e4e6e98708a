"""What is known of a system before its items are scored: its delay, polarity and gain, and whether it repeats itself.

Intrusive metrics have aligned variants, and alignment belongs to the *system*, so it is estimated over the first
recordings of the dataset, at every point, before any item is scored. The coded probes are kept for scoring.
"""

from __future__ import annotations

from dataclasses import astuple
from typing import Any, ClassVar

import numpy as np

from codecbench.benchmark.coding import Coded, ItemLost, SystemFailure
from codecbench.benchmark.plan import Plan, PlannedSystem, Unit
from codecbench.benchmark.scoring import at_rate
from codecbench.metrics.alignment import estimate, stability
from codecbench.metrics.base import Alignment, Output, Reference
from codecbench.models.base import OperatingPoint

Outcome = tuple[OperatingPoint, Coded | SystemFailure]


class Probe:
    """Hears the first `ITEMS` recordings coded, the first `REPEATED` of them twice.

    Attributes:
        alignments: For each point; the neutral one until `finish`.
        rows: Of corpus-level values, since `finish`.
        repeatable: What was coded twice was the same twice.
    """

    ITEMS: ClassVar[int] = 8
    REPEATED: ClassVar[int] = 2
    KEPT_SAMPLES: ClassVar[int] = 50_000_000
    """Outputs beyond so many samples (200 MB) are coded again when their turn comes."""

    def __init__(self, system: PlannedSystem, dataset: str) -> None:
        self.of = (system.label, dataset)
        self.alignments = {point.name: Alignment() for point in system.points}
        self.rows: list[dict[str, Any]] = []
        self._coded: dict[str, list[Outcome]] = {}
        self._pairs: dict[str, list[tuple[Reference, Output]]] = {point.name: [] for point in system.points}
        self._repeats: list[bool] = []
        self._kept = 0

    @property
    def repeatable(self) -> bool:
        """See `Probe`."""
        return all(self._repeats)

    def add(self, utterance: str, reference: Reference, outcomes: list[Outcome]) -> None:
        """Take what became of one recording at every point."""
        size = sum(outcome.output.size for _, outcome in outcomes if isinstance(outcome, Coded))
        if self._kept + size <= self.KEPT_SAMPLES:
            self._coded[utterance] = outcomes
            self._kept += size
        for point, outcome in outcomes:
            if isinstance(outcome, Coded):
                self._pairs[point.name].append((reference, at_rate(outcome, reference)))

    def wants_again(self, outcome: Coded | SystemFailure) -> bool:
        """Whether the recording of `outcome` is to be coded once more."""
        return len(self._repeats) < self.REPEATED and not isinstance(outcome, ItemLost)

    def compare(self, first: Coded | SystemFailure, again: Coded | SystemFailure) -> None:
        """Take what became of one recording, twice."""
        self._repeats.append(_same(first, again))

    def finish(self, parameters: float) -> None:
        """Estimate the alignment of every point."""
        for point, pairs in self._pairs.items():
            self.alignments[point] = alignment = estimate(pairs)
            agreeing = stability(pairs, alignment)
            values: dict[str, float | str] = {
                "delay_ms": 1000 * alignment.delay / alignment.sample_rate if agreeing >= 0.5 else "no_common_delay",
                "polarity": float(alignment.polarity) if agreeing >= 0.5 else "no_common_delay",
                "gain_db": alignment.gain_db,
                "align_stability": agreeing,
                "repeatable": float(self.repeatable),
                "parameters": parameters,
            }
            self._add_row(point, values)
        self._pairs.clear()

    def _add_row(self, point: str, values: dict[str, float | str]) -> None:
        row = {"system": self.of[0], "point": point, "dataset": self.of[1], "utterance": "*", "corpus": values}
        self.rows.append(row)

    def to_json(self) -> dict[str, Any]:
        """What `recall` needs."""
        return {row["point"]: [list(astuple(self.alignments[row["point"]])), row["corpus"]] for row in self.rows}

    def recall(self, known: dict[str, Any]) -> None:
        """Take what an earlier probe found, in place of recordings."""
        for point, (alignment, values) in known.items():
            self.alignments[point] = Alignment(*alignment)
            self._add_row(point, values)
        self._pairs.clear()

    def keep(self, coded: dict[str, list[Outcome]]) -> None:
        """Hold `coded`, what came of whole recordings at every point, until it is taken."""
        self._coded |= coded

    def holds(self, utterance: str) -> bool:
        """Whether `take` gives anything."""
        return utterance in self._coded

    def take(self, utterance: str) -> list[Outcome] | None:
        """The coded outcomes of `utterance` at every point, once; None if it was no probe."""
        return self._coded.pop(utterance, None)


def _same(a: Coded | SystemFailure, b: Coded | SystemFailure) -> bool:
    if isinstance(a, SystemFailure) or isinstance(b, SystemFailure):
        return str(a) == str(b)
    same_tokens = all(np.array_equal(x, y) for x, y in zip(a.codes.streams, b.codes.streams, strict=True))
    return same_tokens and a.codes.packets == b.codes.packets and np.array_equal(a.output, b.output)


def recordings_for(plan: Plan, unit: Unit) -> list[str]:
    """The names of what a worker hears for `unit`: the recordings that probe a system, then its items."""
    probed = plan.datasets[unit.dataset].dataset.utterances[: Probe.ITEMS]
    return list(dict.fromkeys([*(utterance.id for utterance in probed), *(name for name, _ in unit.items)]))
