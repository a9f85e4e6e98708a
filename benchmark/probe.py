"""What is known of a system before its items are scored: its delay, polarity and gain, and whether it repeats itself.

Intrusive metrics have aligned variants, and alignment belongs to the *system*, so it is estimated over the first
recordings of the dataset, at every point, before any item is scored. The coded probes are kept for scoring.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from codecbench.audio import Clip
from codecbench.benchmark.coding import Coded, ItemLost, SystemFailure, code_clip, codec_input
from codecbench.benchmark.plan import PlannedSystem
from codecbench.benchmark.scoring import at_rate
from codecbench.metrics.alignment import estimate, stability
from codecbench.metrics.base import Alignment, Output, Reference
from codecbench.models.base import Codec, OperatingPoint

Outcome = tuple[OperatingPoint, Coded | SystemFailure]


class Probe:
    """Codes the first `ITEMS` recordings, the first `REPEATED` of them twice.

    Attributes:
        alignments: For each point; the neutral one until `finish`.
    """

    ITEMS: ClassVar[int] = 8
    REPEATED: ClassVar[int] = 2
    KEPT_SAMPLES: ClassVar[int] = 50_000_000
    """Outputs beyond so many samples (200 MB) are coded again when their turn comes."""

    def __init__(self, codec: Codec, system: PlannedSystem, dataset: str) -> None:
        self.of = (system.label, dataset)
        self.alignments = {point.name: Alignment() for point in system.points}
        self.codec = codec
        self._system = system
        self._coded: dict[str, list[Outcome]] = {}
        self._pairs: dict[str, list[tuple[Reference, Output]]] = {point.name: [] for point in system.points}
        self._repeats: list[bool] = []
        self._kept = 0

    def add(self, utterance: str, clip: Clip, reference: Reference, outcomes: list[Outcome] | None = None) -> None:
        """Code one recording at every point, unless that was done and `outcomes` came of it."""
        card = self._system.card
        given = codec_input(clip, card)
        outcomes = outcomes or list(code_clip(self.codec, card, given, self._system.points))
        size = sum(outcome.output.size for _, outcome in outcomes if isinstance(outcome, Coded))
        if self._kept + size <= self.KEPT_SAMPLES:
            self._coded[utterance] = outcomes
            self._kept += size
        for point, outcome in outcomes:
            if isinstance(outcome, Coded):
                self._pairs[point.name].append((reference, at_rate(outcome, reference)))
        if len(self._repeats) < self.REPEATED and not isinstance(outcomes[-1][1], ItemLost):
            again = list(code_clip(self.codec, card, given, self._system.points[-1:]))
            self._repeats.append(_same(outcomes[-1][1], again[0][1]))

    def finish(self) -> list[dict[str, Any]]:
        """Estimate the alignment of every point; returns rows of corpus-level values."""
        rows = []
        for point, pairs in self._pairs.items():
            self.alignments[point] = alignment = estimate(pairs)
            agreeing = stability(pairs, alignment)
            values: dict[str, float | str] = {
                "delay_ms": 1000 * alignment.delay / alignment.sample_rate if agreeing >= 0.5 else "no_common_delay",
                "polarity": float(alignment.polarity) if agreeing >= 0.5 else "no_common_delay",
                "gain_db": alignment.gain_db,
                "align_stability": agreeing,
                "repeatable": float(all(self._repeats)),
                "parameters": float(self.codec.parameters()),
            }
            rows.append(
                {"system": self.of[0], "point": point, "dataset": self.of[1], "utterance": "*", "corpus": values}
            )
        self._pairs.clear()
        return rows

    def keep(self, coded: dict[str, list[Outcome]]) -> None:
        """Hold `coded`, what came of whole recordings at every point, until it is taken."""
        self._coded |= coded

    def take(self, utterance: str) -> list[Outcome] | None:
        """The coded outcomes of `utterance` at every point, once; None if it was no probe."""
        return self._coded.pop(utterance, None)


def _same(a: Coded | SystemFailure, b: Coded | SystemFailure) -> bool:
    if isinstance(a, SystemFailure) or isinstance(b, SystemFailure):
        return str(a) == str(b)
    same_tokens = all(np.array_equal(x, y) for x, y in zip(a.codes.streams, b.codes.streams, strict=True))
    return same_tokens and a.codes.packets == b.codes.packets and np.array_equal(a.output, b.output)
