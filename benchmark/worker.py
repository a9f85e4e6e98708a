"""What one process does with its units: code, score, and tell, one message an item.

Messages to the coordinator: ``("corpus", rows)`` once a system is loaded and probed, or ``("invalid", label, reason)``
if it cannot be, or breaks a rule; for each item ``("start", utterance)``, then a ``("record", row)`` a point;
``("note", label, text)`` for what a reader of the results should know; ``("idle",)`` when the unit is done, or
``("retire",)`` when a fresh process should take what is left of it.
"""

from __future__ import annotations

import os
import random
import re
import signal
from collections.abc import Generator, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, cast

from codecbench.audio import Clip
from codecbench.benchmark.answering import Answerer, facts_of
from codecbench.benchmark.cache import DiskCache
from codecbench.benchmark.coding import (
    DEVICE,
    OUT_OF_MEMORY,
    Coded,
    Encoded,
    Hosted,
    SystemFailure,
    code_clip,
    codec_input,
    decode_clip,
    encode_clip,
    one_line,
)  # fmt: skip
from codecbench.benchmark.evidence import Keeper
from codecbench.benchmark.isolation.client import IsolatedCodec
from codecbench.benchmark.isolation.client_lm import IsolatedLM
from codecbench.benchmark.isolation.hosts import HostSettings
from codecbench.benchmark.isolation.levels import limits_for
from codecbench.benchmark.isolation.loading import LoadFailure, load_system
from codecbench.benchmark.plan import Plan, PlannedSystem, Unit
from codecbench.benchmark.probe import Outcome, Probe
from codecbench.benchmark.resources import PeakMemory, die_with_parent
from codecbench.benchmark.scoring import References, Scorer, tokens_of
from codecbench.errors import CodecbenchError
from codecbench.metrics.base import Reference, Status
from codecbench.models.base import Codec, OperatingPoint, SpeechLM

Message = tuple[Any, ...]
Row = dict[str, Any]
Isolated = IsolatedCodec | IsolatedLM


def main(connection: Connection, plan: Plan, lifeline: Connection) -> None:
    """Entry point of a worker process: run units from `connection` until it closes.

    `lifeline` is held open by this process and the supervisors of its hosts, so that the coordinator sees the last end.
    """
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the coordinator decides what an interrupt means
    worker = Worker(plan, lifeline.fileno())
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

    def __init__(self, plan: Plan, lifeline: int | None = None) -> None:
        cache = DiskCache(plan.cache)
        self.plan = plan
        self.lifeline = lifeline
        self.references = References(plan, cache)
        self.scorer = Scorer(plan, cache)
        self.keeper = Keeper(plan)
        self.answerer = Answerer(plan, self.references, self.scorer, self.keeper)
        self._loaded: tuple[str, Codec | SpeechLM] | None = None
        self._probe: Probe | None = None
        self._load_memory_mb = 0.0
        self._watched = plan.watched()
        self._traced: set[tuple[str, str]] = set()
        self._noted: set[tuple[str, str]] = set()

    def run(self, unit: Unit) -> Iterator[Message]:
        """Run `unit`, yielding messages."""
        system = self.plan.systems[unit.system]
        loaded: Codec | SpeechLM | None = None
        probe: Probe | None = None
        if any(utterance not in unit.verdicts for utterance, _ in unit.items):
            try:
                loaded = self._load(system)
            except LoadFailure as failure:
                yield "invalid", system.label, str(failure)
                return
            if isinstance(loaded, SpeechLM):
                yield "corpus", facts_of(loaded, system, unit.dataset)
            else:
                apart = (yield from self._code_apart(loaded, system, unit)) if system.audit else {}
                probe = yield from self._probed(loaded, system, unit, apart)
            if broken := self._broken_rule(loaded):
                yield "invalid", system.label, broken
                return
        for utterance, points in unit.items:
            yield "start", utterance
            spent = False
            for point, row in self._rows(loaded, probe, system, unit, utterance, points):
                facts = {"system": system.label, "point": point, "dataset": unit.dataset, "utterance": utterance}
                yield "record", {**facts, **row}
                spent |= any(str(v[1]).startswith((OUT_OF_MEMORY, DEVICE)) for v in row["values"].values())
            if broken := self._broken_rule(loaded):
                yield "invalid", system.label, broken
                return
            if spent and system.isolation == "none":
                yield ("retire",)  # a GPU does not recover well in the same process: a fresh one takes the rest
                return
        yield from self._notes(loaded, system)

    def _load(self, system: PlannedSystem) -> Codec | SpeechLM:
        if self._loaded is None or self._loaded[0] != system.label:
            if self._loaded and isinstance(self._loaded[1], Isolated):
                self._loaded[1].close()
            self._loaded = self._probe = None  # the last system's memory is free before the next takes its own
            if system.isolation == "none":
                with PeakMemory() as memory:
                    loaded = load_system(system.target, system.options)
                    self._load_memory_mb = memory.growth_mb() or 0.0
            else:
                kind = IsolatedLM if system.generates else IsolatedCodec
                loaded = isolated = kind(system.card, self._host_settings(system))
                isolated.start()
                self._load_memory_mb = isolated.load_memory_mb
            self._loaded = (system.label, loaded)
        return self._loaded[1]

    def _host_settings(self, system: PlannedSystem) -> HostSettings:
        name = re.sub(r"[^\w.-]", "_", system.label)[:80]
        log = self.plan.folder / "logs" / f"{name}.{os.getpid()}.log"
        return HostSettings(
            system.target, system.options, system.isolation, limits_for(self.plan.timeout), python=system.python,
            audit=system.audit, log=log, lifeline=self.lifeline,
        )  # fmt: skip

    def _broken_rule(self, system: Codec | SpeechLM | None) -> str:
        """Why no more items of an isolated system are to be tried."""
        if not isinstance(system, Isolated):
            return ""
        return system.condemned() or system.witnessed.trespassed(self._watched)

    def _notes(self, loaded: Codec | SpeechLM | None, system: PlannedSystem) -> Iterator[Message]:
        """What was seen of an isolated system in this unit; what it printed goes to its log."""
        if isinstance(loaded, Isolated):
            loaded.save_log()
            for address in sorted(loaded.witnessed.network):
                if (system.label, address) not in self._noted:
                    self._noted.add((system.label, address))
                    yield "note", system.label, f"used the network: {address}"

    def _code_apart(
        self, codec: Codec, system: PlannedSystem, unit: Unit
    ) -> Generator[Message, None, dict[str, list[Outcome]]]:
        """Code every clip that the unit needs: encode all of them, in one order, then decode all, in another."""
        probes = self._probes(unit) if self._needs_probe(unit) else []
        names = [name for name in dict.fromkeys([*probes, *(n for n, _ in unit.items)]) if name not in unit.verdicts]
        order = random.Random(f"{unit.system} {unit.dataset} {names}")  # noqa: S311 - an order, no secret
        clips: dict[str, Clip] = {}
        encoded: list[tuple[str, OperatingPoint, Encoded | SystemFailure]] = []
        for name in order.sample(names, len(names)):
            yield "start", name
            with suppress(CodecbenchError):  # told when its turn comes
                clips[name] = codec_input(self.references.get(unit.dataset, name)[0], system.card)
                encoded += [(name, *pair) for pair in encode_clip(codec, system.card, clips[name], system.points)]
        outcomes: dict[tuple[str, OperatingPoint], Coded | SystemFailure] = {}
        for name, point, item in order.sample(encoded, len(encoded)):
            yield "start", name
            if isinstance(codec, Hosted):
                codec.begin_item()
            outcomes[name, point] = decode_clip(codec, clips[name], item)
        return {name: [(point, outcomes[name, point]) for point in system.points] for name in clips}

    def _needs_probe(self, unit: Unit) -> bool:
        return self._probe is None or self._probe.of != (unit.system, unit.dataset)

    def _probes(self, unit: Unit) -> list[str]:
        first = self.plan.datasets[unit.dataset].dataset.utterances[: Probe.ITEMS]
        return [utterance.id for utterance in first if utterance.id not in unit.verdicts]

    def _probed(
        self, codec: Codec, system: PlannedSystem, unit: Unit, apart: dict[str, list[Outcome]]
    ) -> Generator[Message, None, Probe]:
        if self._needs_probe(unit):
            probe = Probe(codec, system, unit.dataset)
            for name in self._probes(unit):
                yield "start", name
                probe.add(name, *self.references.get(unit.dataset, name), apart.get(name))
                if self._broken_rule(codec):
                    return probe
            yield "corpus", probe.finish()
            self._probe = probe
        probe = cast("Probe", self._probe)
        probe.keep(apart)
        return probe

    def _rows(
        self, loaded: Codec | SpeechLM | None, probe: Probe | None, system: PlannedSystem, unit: Unit, utterance: str,
        points: tuple[str, ...],
    ) -> Iterator[tuple[str, Row]]:  # fmt: skip
        """The rows of one item, each with the point it is about."""
        try:
            clip, reference = self.references.get(unit.dataset, utterance)
        except CodecbenchError as error:
            row = {"duration": 0.0, **self.scorer.unreadable(f"dataset({one_line(error)})")}
            yield from ((point, row) for point in points)
            return
        facts = {"duration": reference.duration}
        verdict = unit.verdicts.get(utterance)
        if verdict or loaded is None:
            row = {**facts, **self.scorer.not_coded(reference, verdict or ("error", "not_run"))}
            yield from ((point, row) for point in points)
            return
        if isinstance(loaded, SpeechLM):
            found = self.answerer.row(loaded, system, unit.dataset, utterance, clip, reference)
            row = self._failed(found, system, reference) if isinstance(found, SystemFailure) else found
            if "timing" in row and row["timing"][2] is not None:
                row["timing"][2] += self._load_memory_mb
            yield from ((point, {**facts, **row}) for point in points)
            return
        wanted = [point for point in system.points if point.name in points]
        probe = cast("Probe", probe)
        outcomes = probe.take(utterance) or code_clip(probe.codec, system.card, codec_input(clip, system.card), wanted)
        for point, outcome in outcomes:
            if point not in wanted:
                continue
            if isinstance(outcome, SystemFailure):
                failed = {**facts, **self._failed(outcome, system, reference)}
                yield point.name, failed
                continue
            row = self.scorer.coded(outcome, reference, probe.alignments[point.name])
            if outcome.memory_mb is not None:
                row["timing"][2] = outcome.memory_mb + self._load_memory_mb
            if outcome.codes.streams and (not system.card.nested or point == system.richest):
                row["tokens"] = tokens_of(outcome)
            if kept := self.keeper.keep(unit.dataset, utterance, outcome, reference):
                row["evidence"] = kept
            yield point.name, {**facts, **row}

    def _failed(self, failure: SystemFailure, system: PlannedSystem, reference: Reference) -> Row:
        """The part of a row for a failure; with the end of its traceback, once for each reason."""
        fault: Status = "error" if str(failure).startswith(DEVICE) else "failed"
        row = self.scorer.not_coded(reference, (fault, str(failure)))
        if failure.trace and (system.label, str(failure)) not in self._traced:
            self._traced.add((system.label, str(failure)))
            row["trace"] = failure.trace
        return row
