"""What one process does with its units: code, score, and tell, one message an item.

Messages to the coordinator, in order: ``("corpus", rows)`` once a system is loaded, or ``("invalid", label, reason)``;
then for each item ``("start", utterance)`` and a ``("record", row)`` a point; ``("idle",)`` when the unit is done.
"""

from __future__ import annotations

import signal
from collections import OrderedDict
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

from codecbench.audio import Clip, fit_length, resample
from codecbench.benchmark.cache import DiskCache
from codecbench.benchmark.coding import Coded, SystemFailure, code_clip, codec_input, one_line
from codecbench.benchmark.plan import Plan, PlannedSystem, Unit, Verdict
from codecbench.benchmark.probe import Probe
from codecbench.benchmark.resources import die_with_parent
from codecbench.errors import CodecbenchError
from codecbench.metrics import registry as metrics
from codecbench.metrics.base import Output, Reference, Value, evaluate, undefined_reason
from codecbench.metrics.tokens import encode_histograms
from codecbench.models import registry as models
from codecbench.models.base import Codec

KEPT_REFERENCES = 64
"""References a worker keeps with everything computed from them; a clip takes about 1 MB."""


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
            connection.send(("idle",))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the coordinator is gone, or has closed the connection: nothing more to do


class Worker:
    """Runs units; keeps the last system loaded, and the references it has met."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.cache = DiskCache(plan.cache)
        self.metrics = [metrics.find(name) for name in plan.metrics]
        self._references: OrderedDict[tuple[str, str], tuple[Clip, Reference]] = OrderedDict()
        self._codec: tuple[str, Codec] | None = None
        self._probe: Probe | None = None
        self._threads_pinned = False

    def run(self, unit: Unit) -> Iterator[tuple[Any, ...]]:
        """Run `unit`, yielding messages."""
        system = self.plan.systems[unit.system]
        codec: Codec | None = None
        if not all(utterance in unit.verdicts for utterance, _ in unit.items):
            try:
                codec = self._load(system)
            except CodecbenchError as error:
                yield "invalid", system.label, f"load({one_line(error)})"
                return
            except Exception as error:  # noqa: BLE001 - the adapter is foreign code; its system becomes invalid
                yield "invalid", system.label, f"load({type(error).__name__}: {one_line(error)})"
                return
        if codec:
            yield from self._probed(codec, system, unit)
        for utterance, points in unit.items:
            yield "start", utterance
            for row in self._item(codec, system, unit, utterance, points):
                yield "record", row

    def _load(self, system: PlannedSystem) -> Codec:
        if self._codec is None or self._codec[0] != system.label:
            self._codec = self._probe = None  # frees the last system's memory before the next takes its own
            loaded = models.find(system.target).load(system.options)
            if not isinstance(loaded, Codec):
                raise TypeError(f"{system.target} loads a {type(loaded).__name__}, not a Codec")
            self._codec = (system.label, loaded)
        return self._codec[1]

    def _probed(self, codec: Codec, system: PlannedSystem, unit: Unit) -> Iterator[tuple[Any, ...]]:
        if self._probe is not None and self._probe.of == (unit.system, unit.dataset):
            return
        self._probe = Probe(codec, system, unit.dataset)
        planned = self.plan.datasets[unit.dataset]
        for utterance in planned.dataset.utterances[: Probe.ITEMS]:
            if utterance.id not in unit.verdicts:
                yield "start", utterance.id
                self._probe.add(utterance.id, *self._reference(unit.dataset, utterance.id))
        yield "corpus", self._probe.finish()

    def _reference(self, dataset: str, utterance: str) -> tuple[Clip, Reference]:
        key = (dataset, utterance)
        if key not in self._references:
            planned = self.plan.datasets[dataset].dataset
            facts = next(u for u in planned.utterances if u.id == utterance)
            clip = planned.load(facts)
            reference = Reference(
                clip.samples[0], clip.sample_rate, transcript=facts.transcript, language=facts.language,
                domain=facts.domain, cache=self.cache,
            )  # fmt: skip
            self._references[key] = (clip, reference)
            if len(self._references) > KEPT_REFERENCES:
                self._references.popitem(last=False)
        self._references.move_to_end(key)
        return self._references[key]

    def _item(
        self, codec: Codec | None, system: PlannedSystem, unit: Unit, utterance: str, points: tuple[str, ...]
    ) -> Iterator[dict[str, Any]]:
        base = {"system": system.label, "dataset": unit.dataset, "utterance": utterance}
        try:
            clip, reference = self._reference(unit.dataset, utterance)
        except CodecbenchError as error:
            values = {m.name: Value("error", f"dataset({one_line(error)})") for m in self.metrics}
            for point in points:
                yield {**base, "point": point, "duration": 0.0, "values": _to_json(values)}
            return
        base["duration"] = reference.duration
        verdict = unit.verdicts.get(utterance)
        if verdict or codec is None or self._probe is None:
            for point in points:
                values = self._without_output(reference, verdict or ("error", "not_run"))
                yield {**base, "point": point, "values": _to_json(values)}
            return
        known = self._probe.take(utterance)
        wanted = [point for point in system.points if point.name in points]
        for point, outcome in known or code_clip(codec, system.card, codec_input(clip, system.card), wanted):
            if point.name not in points:
                continue
            if isinstance(outcome, SystemFailure):
                values = self._without_output(reference, ("failed", str(outcome)))
                yield {**base, "point": point.name, "values": _to_json(values)}
            else:
                yield {**base, "point": point.name, **self._scored(system, clip, reference, point.name, outcome)}

    def _scored(
        self, system: PlannedSystem, clip: Clip, reference: Reference, point: str, coded: Coded
    ) -> dict[str, Any]:
        assert self._probe is not None  # noqa: S101 - `_item` returned early without one
        alignment = self._probe.alignments[point]
        samples = resample(coded.output, coded.sample_rate, clip.sample_rate)
        output = Output(
            fit_length(samples, clip.length), clip.sample_rate, alignment=alignment, cache=self.cache
        )  # fmt: skip
        at_codec = Reference(
            reference.at(coded.sample_rate), coded.sample_rate, transcript=reference.transcript,
            language=reference.language, domain=reference.domain, cache=self.cache,
        )  # fmt: skip
        from_codec = Output(coded.output, coded.sample_rate, alignment=alignment, cache=self.cache)
        values = {}
        for metric in self.metrics:
            pair = (reference, output) if metric.frame == "system" else (at_codec, from_codec)
            values[metric.name] = evaluate(metric, *pair)
        richest = max(system.points, key=lambda p: p.streams or 0).name if system.card.nested else point
        return {
            "bits": coded.bits,
            "header_bits": coded.header_bits,
            "values": _to_json(values),
            "tokens": encode_histograms(coded.codes.streams) if point == richest else "",
            "frames": [len(stream) for stream in coded.codes.streams],
            "timing": [coded.encode_seconds, coded.decode_seconds, coded.peak_memory_mb],
        }

    def _without_output(self, reference: Reference, verdict: Verdict) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for metric in self.metrics:
            undefined = reference.memo(f"undefined {metric.name}", lambda m=metric: undefined_reason(m, reference))
            status, reason = ("undefined", undefined) if undefined else verdict
            values[metric.name] = Value(status, reason)  # type: ignore[arg-type]
        return values


def _to_json(values: dict[str, Value]) -> dict[str, list[Any]]:
    return {name: [v.status, v.reason, v.value, v.weight] for name, v in values.items()}
