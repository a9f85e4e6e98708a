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
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, cast

from codecbench.audio import Clip
from codecbench.benchmark.answering import Answerer, facts_of
from codecbench.benchmark.batches import code_together
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
    decode_clips,
    encode_clips,
    one_line,
)  # fmt: skip
from codecbench.benchmark.evidence import Keeper
from codecbench.benchmark.isolation.client import IsolatedCodec
from codecbench.benchmark.isolation.client_lm import IsolatedLM
from codecbench.benchmark.isolation.hosts import HostSettings
from codecbench.benchmark.isolation.levels import limits_for
from codecbench.benchmark.isolation.loading import LoadFailure, load_system
from codecbench.benchmark.plan import Plan, PlannedSystem, Unit, UnitItem
from codecbench.benchmark.probe import Outcome, Probe
from codecbench.benchmark.recall import Recall
from codecbench.benchmark.resources import PeakMemory, die_with_parent
from codecbench.benchmark.scoring import References, Scorer, tokens_of
from codecbench.errors import CodecbenchError
from codecbench.metrics.base import Reference, Status
from codecbench.models.base import Codec, OperatingPoint, SpeechLM
from codecbench.models.bitstream import unpack

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


class _RuleBroken(Exception):
    """The adapter did what none may; `str` is the reason."""


class Worker:
    """Runs units; keeps the last system loaded, and the references it has met."""

    def __init__(self, plan: Plan, lifeline: int | None = None) -> None:
        cache = DiskCache(plan.cache)
        self.plan = plan
        self.lifeline = lifeline
        self.references = References(plan, cache)
        self.scorer = Scorer(plan, cache)
        self.keeper = Keeper(plan)
        self.recall = Recall(plan)
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
        try:
            yield from self._run(unit, system)
        except (LoadFailure, _RuleBroken) as reason:
            yield "invalid", system.label, str(reason)

    def _run(self, unit: Unit, system: PlannedSystem) -> Iterator[Message]:
        model: SpeechLM | None = None
        probe: Probe | None = None
        if any(utterance not in unit.verdicts for utterance, _ in unit.items):
            if system.generates:
                model = cast("SpeechLM", self._load(system))
                yield "corpus", facts_of(model, system, unit.dataset)
                yield from self.answerer.ask_together(model, system, unit)
            else:
                probe = yield from self._probed(system, unit)
            self._check_rules(system)
        for place, (utterance, points) in enumerate(unit.items):
            yield "start", utterance
            if probe and self.plan.batches(system) and place % self.plan.batch == 0:
                self._code_together(probe, system, unit, unit.items[place : place + self.plan.batch])
            spent = False
            for point, row in self._rows(model, probe, system, unit, utterance, points):
                facts = {"system": system.label, "point": point, "dataset": unit.dataset, "utterance": utterance}
                yield "record", {**facts, **row}
                spent |= any(str(v[1]).startswith((OUT_OF_MEMORY, DEVICE)) for v in row["values"].values())
            self._check_rules(system)
            if spent and system.isolation == "none":
                yield ("retire",)  # a GPU does not recover well in the same process: a fresh one takes the rest
                return
        yield from self._notes(system)

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

    def _hosted(self, system: PlannedSystem) -> Isolated | None:
        """The adapter of `system`, if it is loaded in a host."""
        found = self._loaded[1] if self._loaded and self._loaded[0] == system.label else None
        return found if isinstance(found, Isolated) else None

    def _broken_rule(self, system: PlannedSystem) -> str:
        """Why no more items of an isolated system are to be tried."""
        hosted = self._hosted(system)
        return hosted.condemned() or hosted.witnessed.trespassed(self._watched) if hosted else ""

    def _check_rules(self, system: PlannedSystem) -> None:
        if broken := self._broken_rule(system):
            raise _RuleBroken(broken)

    def _lasts(self, probe: Probe, system: PlannedSystem) -> bool:
        """Whether what the system makes follows from what is known of it, so that it may be kept for other runs."""
        hosted = self._hosted(system)
        alone = not (hosted and hosted.witnessed.network) and not self._broken_rule(system)
        return probe.repeatable and alone and not system.audit

    def _notes(self, system: PlannedSystem) -> Iterator[Message]:
        """What was seen of an isolated system in this unit; what it printed goes to its log."""
        if hosted := self._hosted(system):
            hosted.save_log()
            for address in sorted(hosted.witnessed.network):
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
        encoded: list[tuple[str, OperatingPoint, list[Encoded] | SystemFailure]] = []
        for name in order.sample(names, len(names)):
            yield "start", name
            with suppress(CodecbenchError):  # told when its turn comes
                clips[name] = codec_input(self.references.get(unit.dataset, name)[0], system.card)
                encoded += [(name, *pair) for pair in encode_clips(codec, system.card, [clips[name]], system.points)]
        outcomes: dict[tuple[str, OperatingPoint], Coded | SystemFailure] = {}
        for name, point, item in order.sample(encoded, len(encoded)):
            yield "start", name
            if isinstance(codec, Hosted):
                codec.begin_item()
            outcome = decode_clips(codec, [clips[name]], item)
            outcomes[name, point] = outcome if isinstance(outcome, SystemFailure) else outcome[0]
        return {name: [(point, outcomes[name, point]) for point in system.points] for name in clips}

    def _code_together(self, probe: Probe, system: PlannedSystem, unit: Unit, items: Sequence[UnitItem]) -> None:
        """Code those recordings that nothing is known of, and leave them with `probe` until their turn comes."""
        clips: dict[str, Clip] = {}
        for name, points in items:
            kept = (self.recall.item(system, point, unit.dataset, name) for point in system.points)
            if name in unit.verdicts or probe.holds(name) or len(points) < len(system.points) or any(kept):
                continue
            with suppress(CodecbenchError):  # told when its turn comes
                clips[name] = codec_input(self.references.get(unit.dataset, name)[0], system.card)
        if len(clips) > 1:
            probe.keep(code_together(self._codec(system), system.card, clips, system.points, system.richest))

    def _needs_probe(self, unit: Unit) -> bool:
        return self._probe is None or self._probe.of != (unit.system, unit.dataset)

    def _probes(self, unit: Unit) -> list[str]:
        first = self.plan.datasets[unit.dataset].dataset.utterances[: Probe.ITEMS]
        return [utterance.id for utterance in first if utterance.id not in unit.verdicts]

    def _probed(self, system: PlannedSystem, unit: Unit) -> Generator[Message, None, Probe]:
        apart = (yield from self._code_apart(self._codec(system), system, unit)) if system.audit else {}
        if self._needs_probe(unit):
            probe = Probe(system, unit.dataset)
            names = self._probes(unit)
            if known := self.recall.corpus(system, unit.dataset, names):
                probe.recall(known)
            else:
                yield from self._probe_anew(probe, system, unit.dataset, names, apart)
            yield "corpus", probe.rows
            self._probe = probe
        probe = cast("Probe", self._probe)
        probe.keep(apart)
        return probe

    def _probe_anew(
        self, probe: Probe, system: PlannedSystem, dataset: str, names: list[str], apart: dict[str, list[Outcome]]
    ) -> Iterator[Message]:
        codec, well = self._codec(system), True
        for name in names:
            yield "start", name
            clip, reference = self.references.get(dataset, name)
            given = codec_input(clip, system.card)
            found = dict(apart.get(name) or self._outcomes(system, dataset, name, given, system.points))
            outcomes = [(point, found[point]) for point in system.points]
            probe.add(name, reference, outcomes)
            last, first = outcomes[-1]
            if probe.wants_again(first):
                probe.compare(first, dict(code_clip(codec, system.card, given, [last]))[last])
            well &= all(isinstance(outcome, Coded) for _, outcome in outcomes)
            self._check_rules(system)
        probe.finish(float(codec.parameters()))
        if well and self._lasts(probe, system):
            self.recall.keep_corpus(system, dataset, names, probe.to_json())

    def _codec(self, system: PlannedSystem) -> Codec:
        return cast("Codec", self._load(system))

    def _outcomes(
        self, system: PlannedSystem, dataset: str, utterance: str, given: Clip, points: Sequence[OperatingPoint]
    ) -> Iterator[Outcome]:
        """What becomes of a recording at `points`, in any order; what earlier runs kept is not coded again."""
        missing = []
        for point in points:
            kept = self.recall.item(system, point, dataset, utterance)
            coded = kept.coded() if kept else None
            if coded:
                yield point, coded
            else:
                missing.append(point)
        if missing:
            yield from code_clip(self._codec(system), system.card, given, missing, system.richest)

    def _rows(
        self, model: SpeechLM | None, probe: Probe | None, system: PlannedSystem, unit: Unit, utterance: str,
        points: tuple[str, ...],
    ) -> Iterator[tuple[str, Row]]:  # fmt: skip
        """The rows of one item, each with the point it is about."""
        left = points
        if probe and utterance not in unit.verdicts:
            for point in system.points:
                if point.name in points and (row := self._recalled(probe, system, point, unit.dataset, utterance)):
                    yield point.name, row
                    left = tuple(name for name in left if name != point.name)
        if not left:
            return
        try:
            clip, reference = self.references.get(unit.dataset, utterance)
        except CodecbenchError as error:
            row = {"duration": 0.0, **self.scorer.unreadable(f"dataset({one_line(error)})")}
            yield from ((point, row) for point in left)
            return
        facts = {"duration": reference.duration}
        verdict = unit.verdicts.get(utterance)
        if verdict or (model is None and probe is None):
            row = {**facts, **self.scorer.not_coded(reference, verdict or ("error", "not_run"))}
            yield from ((point, row) for point in left)
        elif model:
            found = self.answerer.row(model, system, unit.dataset, utterance, clip, reference)
            row = self._failed(found, system, reference) if isinstance(found, SystemFailure) else found
            if "timing" in row and row["timing"][2] is not None:
                row["timing"][2] += self._load_memory_mb
            yield from ((point, {**facts, **row}) for point in left)
        elif probe:
            wanted = [point for point in system.points if point.name in left]
            given = codec_input(clip, system.card)
            outcomes = probe.take(utterance) or self._outcomes(system, unit.dataset, utterance, given, wanted)
            for point, outcome in outcomes:
                if point in wanted:
                    row = self._outcome_row(probe, system, point, unit.dataset, utterance, outcome, reference)
                    yield point.name, {**facts, **row}

    def _recalled(
        self, probe: Probe, system: PlannedSystem, point: OperatingPoint, dataset: str, utterance: str
    ) -> Row | None:
        """The row of an item of which earlier runs know everything, without its audio; None if there is more to do."""
        if probe.holds(utterance) or self.keeper.hears(dataset, utterance):
            return None
        kept = self.recall.item(system, point, dataset, utterance)
        values = self.recall.values(dataset, utterance, kept.digest, probe.alignments[point.name]) if kept else {}
        if kept is None or len(values) < len(self.scorer.metrics):
            return None
        row = {"duration": self.references.duration(dataset, utterance), **self.scorer.row(kept.facts, values)}
        if kept.facts["frames"] and (not system.card.nested or point == system.richest):
            row["tokens"] = tokens_of(unpack(kept.packed))
        if evidence := self.keeper.keep_codes(kept.packed):
            row["evidence"] = evidence
        return row

    def _outcome_row(
        self, probe: Probe, system: PlannedSystem, point: OperatingPoint, dataset: str, utterance: str,
        outcome: Coded | SystemFailure, reference: Reference,
    ) -> Row:  # fmt: skip
        if isinstance(outcome, SystemFailure):
            return self._failed(outcome, system, reference)
        alignment = probe.alignments[point.name]
        lasting = self._lasts(probe, system)
        known = self.recall.values(dataset, utterance, outcome.digest, alignment) if lasting else {}
        row, values = self.scorer.coded(outcome, reference, alignment, known)
        if lasting and outcome.encode_seconds is not None:
            self.recall.keep_item(system, point, dataset, utterance, outcome)
        if lasting and len(known) < len(values):
            self.recall.keep_values(dataset, utterance, outcome.digest, alignment, values)
        if outcome.memory_mb is not None:
            row["timing"][2] = outcome.memory_mb + self._load_memory_mb
        if outcome.codes.streams and (not system.card.nested or point == system.richest):
            row["tokens"] = tokens_of(outcome.codes)
        if kept := self.keeper.keep(dataset, utterance, outcome, reference):
            row["evidence"] = kept
        return row

    def _failed(self, failure: SystemFailure, system: PlannedSystem, reference: Reference) -> Row:
        """The part of a row for a failure; with the end of its traceback, once for each reason."""
        fault: Status = "error" if str(failure).startswith(DEVICE) else "failed"
        row = self.scorer.not_coded(reference, (fault, str(failure)))
        if failure.trace and (system.label, str(failure)) not in self._traced:
            self._traced.add((system.label, str(failure)))
            row["trace"] = failure.trace
        return row
