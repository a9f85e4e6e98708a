"""What one process does with its units: code, score, and tell, one message an item.

Messages to the coordinator: ``("corpus", rows)`` once a system is loaded and probed, or ``("invalid", label, reason)``
if it cannot be; for each item ``("start", utterance)``, then a ``("record", row)`` a point; ``("idle",)`` when the
unit is done, or ``("retire",)`` when a fresh process should take what is left of it.
"""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator
from multiprocessing.connection import Connection
from typing import Any

from codecbench.benchmark.cache import DiskCache
from codecbench.benchmark.coding import OUT_OF_MEMORY, SystemFailure, code_clip, codec_input, one_line
from codecbench.benchmark.evidence import Keeper
from codecbench.benchmark.plan import Plan, PlannedSystem, Unit
from codecbench.benchmark.probe import Probe
from codecbench.benchmark.resources import PeakMemory, die_with_parent
from codecbench.benchmark.scoring import References, Scorer, tokens_of
from codecbench.errors import CodecbenchError
from codecbench.models import registry as models
from codecbench.models.base import Codec

Message = tuple[Any, ...]
Row = dict[str, Any]


def main(connection: Connection, plan: Plan) -> None:
    """Entry point of a worker process: run units from `connection` until it closes."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the coordinator decides what an interrupt means
    worker = Worker(plan)
    try:
        while True:
            unit: Unit = connection.recv()
            for message in worker.run(unit):
                connection.send(message)
                if message[0] == "retire":
                    return
            connection.send(("idle",))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the coordinator has closed the connection, or is gone


class Worker:
    """Runs units; keeps the last system loaded, and the references it has met."""

    def __init__(self, plan: Plan) -> None:
        cache = DiskCache(plan.cache)
        self.plan = plan
        self.references = References(plan, cache)
        self.scorer = Scorer(plan, cache)
        self.keeper = Keeper(plan)
        self._loaded: tuple[str, Codec] | None = None
        self._probe: Probe | None = None
        self._load_memory_mb = 0.0

    def run(self, unit: Unit) -> Iterator[Message]:
        """Run `unit`, yielding messages."""
        system = self.plan.systems[unit.system]
        probe: Probe | None = None
        if any(utterance not in unit.verdicts for utterance, _ in unit.items):
            try:
                codec = self._load(system)
            except CodecbenchError as error:
                yield "invalid", system.label, f"load({one_line(error)})"
                return
            except Exception as error:  # noqa: BLE001 - the adapter is foreign code; its system becomes invalid
                yield "invalid", system.label, f"load({type(error).__name__}: {one_line(error)})"
                return
            probe = yield from self._probed(codec, system, unit)
        for utterance, points in unit.items:
            yield "start", utterance
            out_of_memory = False
            for point, row in self._rows(probe, system, unit, utterance, points):
                facts = {"system": system.label, "point": point, "dataset": unit.dataset, "utterance": utterance}
                yield "record", {**facts, **row}
                out_of_memory |= ["failed", OUT_OF_MEMORY] in [value[:2] for value in row["values"].values()]
            if out_of_memory:
                yield ("retire",)  # a GPU's allocator does not recover well: a fresh process takes the rest
                return

    def _load(self, system: PlannedSystem) -> Codec:
        if self._loaded is None or self._loaded[0] != system.label:
            self._loaded = self._probe = None  # the last system's memory is free before the next takes its own
            with PeakMemory() as memory:
                loaded = models.find(system.target).load(system.options)
                self._load_memory_mb = memory.growth_mb() or 0.0
            if not isinstance(loaded, Codec):
                raise TypeError(f"{system.target} loads a {type(loaded).__name__}, not a Codec")
            if system.options.device.startswith("cuda"):
                import torch

                torch.backends.cudnn.allow_tf32 = False  # cuDNN's default, and enough to flip codes
            self._loaded = (system.label, loaded)
        return self._loaded[1]

    def _probed(self, codec: Codec, system: PlannedSystem, unit: Unit) -> Generator[Message, None, Probe]:
        if self._probe is None or self._probe.of != (unit.system, unit.dataset):
            probe = Probe(codec, system, unit.dataset)
            for utterance in self.plan.datasets[unit.dataset].dataset.utterances[: Probe.ITEMS]:
                if utterance.id not in unit.verdicts:
                    yield "start", utterance.id
                    probe.add(utterance.id, *self.references.get(unit.dataset, utterance.id))
            yield "corpus", probe.finish()
            self._probe = probe
        return self._probe

    def _rows(
        self, probe: Probe | None, system: PlannedSystem, unit: Unit, utterance: str, points: tuple[str, ...]
    ) -> Iterator[tuple[str, Row]]:
        """The rows of one item, each with the point it is about."""
        try:
            clip, reference = self.references.get(unit.dataset, utterance)
        except CodecbenchError as error:
            row = {"duration": 0.0, **self.scorer.unreadable(f"dataset({one_line(error)})")}
            yield from ((point, row) for point in points)
            return
        facts = {"duration": reference.duration}
        verdict = unit.verdicts.get(utterance)
        if verdict or probe is None:
            row = {**facts, **self.scorer.not_coded(reference, verdict or ("error", "not_run"))}
            yield from ((point, row) for point in points)
            return
        wanted = [point for point in system.points if point.name in points]
        outcomes = probe.take(utterance) or code_clip(probe.codec, system.card, codec_input(clip, system.card), wanted)
        for point, outcome in outcomes:
            if point not in wanted:
                continue
            if isinstance(outcome, SystemFailure):
                yield point.name, {**facts, **self.scorer.not_coded(reference, ("failed", str(outcome)))}
                continue
            row = self.scorer.coded(outcome, reference, probe.alignments[point.name])
            if outcome.memory_mb is not None:
                row["timing"][2] = outcome.memory_mb + self._load_memory_mb
            if outcome.codes.streams and (not system.card.nested or point == system.richest):
                row["tokens"] = tokens_of(outcome)
            if kept := self.keeper.keep(unit.dataset, utterance, outcome, reference):
                row["evidence"] = kept
            yield point.name, {**facts, **row}
