"""From what a system returned for one recording to the values of a row."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from codecbench.audio import Clip, fit_length, resample
from codecbench.benchmark.asking import Answer, contrast_of, prompt_of
from codecbench.benchmark.coding import Coded
from codecbench.benchmark.datasets.base import PAIRS, Dataset, Utterance, digest_of
from codecbench.benchmark.datasets.requests import KEEPS_TIME, ListTask, comparable
from codecbench.benchmark.plan import Plan, Verdict
from codecbench.errors import InfrastructureError
from codecbench.metrics import registry as metrics
from codecbench.metrics.base import (
    Alignment,
    Cache,
    Likely,
    Metric,
    Output,
    Reference,
    Signal,
    Value,
    evaluate,
    undefined_reason,
)  # fmt: skip
from codecbench.metrics.tokens import encode_histograms
from codecbench.models.base import Codes, Likelihood

KEPT_REFERENCES = 64
"""References that a worker keeps, each with everything computed from it: about 1 MB for a few seconds."""


class References:
    """The recordings of a plan as metrics see them, each loaded once while it is among the last ones used."""

    def __init__(self, plan: Plan, cache: Cache) -> None:
        self._plan, self._cache = plan, cache
        self._facts = {
            (name, utterance.id): utterance
            for name, planned in plan.datasets.items()
            for utterance in planned.dataset.utterances
        }
        self._checked = {(p.name, checked.id): checked for p in plan.datasets.values() for checked in p.checked}
        self._kept: OrderedDict[tuple[str, str], tuple[Clip, Reference]] = OrderedDict()

    def duration(self, dataset: str, utterance: str) -> float:
        """Seconds of a recording, which is not read for that."""
        return self._checked[dataset, utterance].duration

    def utterance(self, dataset: str, name: str) -> Utterance:
        """What `dataset` says of the utterance called `name`."""
        return self._facts[dataset, name]

    def get(self, dataset: str, utterance: str) -> tuple[Clip, Reference]:
        """The mono clip and its reference.

        Raises:
            CodecbenchError: The recording cannot be read any more, or is another one.
        """
        key = (dataset, utterance)
        if key not in self._kept:
            facts = self._facts[key]
            source = self._plan.datasets[dataset].dataset
            clip = source.load(facts)
            if digest_of(clip) != self._checked[key].digest:
                raise InfrastructureError(f"{facts.path} has changed since it was checked: run the same command again")
            prompt = prompt_of(source, facts, clip)
            reference = Reference(
                clip.samples[0], clip.sample_rate, transcript=facts.transcript, language=facts.language,
                domain=facts.domain, comparable=comparable(source.task), cache=self._cache,
                prompt=Signal(prompt.samples[0], prompt.sample_rate, self._cache) if prompt else None,
                text=facts.asked.text if facts.asked else "", contrast=self._contrast(source, facts),
            )  # fmt: skip
            self._kept[key] = (clip, reference)
            if len(self._kept) > KEPT_REFERENCES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _contrast(self, source: Dataset, facts: Utterance) -> Signal | None:
        if facts.asked is None or facts.asked.task == PAIRS or facts.asked.contrast is None:
            return None
        clip = contrast_of(source, facts)
        return Signal(clip.samples[0], clip.sample_rate, self._cache)


class Scorer:
    """Computes the metrics of a plan."""

    def __init__(self, plan: Plan, cache: Cache) -> None:
        self.metrics = [metrics.find(name) for name in plan.metrics]
        self._cache = cache

    def coded(
        self, coded: Coded, reference: Reference, alignment: Alignment, known: Mapping[str, Value] | None = None
    ) -> tuple[dict[str, Any], dict[str, Value]]:
        """The part of a row that comes from a coded item, and its values, of which some are `known` already."""
        known = known or {}
        output: dict[str, tuple[Reference, Output]] = {}
        values = {}
        for metric in self.metrics:
            if metric.name in known:
                values[metric.name] = known[metric.name]
                continue
            if metric.frame not in output:
                output[metric.frame] = (
                    self._codec_frame(coded, reference, alignment)
                    if metric.frame == "codec"
                    else (reference, at_rate(coded, reference, alignment, self._cache))
                )
            values[metric.name] = evaluate(metric, *output[metric.frame])
        row = self.row(facts_of(coded), values)
        if coded.encode_seconds is not None:
            row["timing"] = [coded.encode_seconds, coded.decode_seconds, coded.memory_mb]
        return row, values

    def row(self, facts: Mapping[str, Any], values: Mapping[str, Value]) -> dict[str, Any]:
        """The part of a row that comes from an item of which `facts_of` says `facts`, and that has `values`."""
        return {**facts, "tokens": "", **_columns({metric.name: values[metric.name] for metric in self.metrics})}

    def _codec_frame(self, coded: Coded, reference: Reference, alignment: Alignment) -> tuple[Reference, Output]:
        """The pair at the codec's own rate; the reference is kept with the one it comes from."""
        rate = coded.sample_rate
        at_codec = reference.memo(
            f"reference at {rate}",
            lambda: Reference(
                reference.at(rate), rate, transcript=reference.transcript, language=reference.language,
                domain=reference.domain, cache=self._cache,
            ),
        )  # fmt: skip
        return at_codec, Output(coded.output, rate, alignment=alignment, cache=self._cache)

    def answered(self, answer: Answer, reference: Reference, task: ListTask | None) -> dict[str, Any]:
        """The part of a row that comes from an answer to a request of `task`."""
        given = np.zeros(0, np.float32) if answer.output is None else answer.output
        samples = resample(given, answer.sample_rate, reference.sample_rate)
        if task in KEEPS_TIME:
            samples = fit_length(samples, len(reference.samples))
        likelihood = answer.likelihood
        output = Output(
            samples, reference.sample_rate, text=answer.text, cache=self._cache,
            bits_per_second=likelihood.bits_per_second if likelihood else None, continues=task == "continuation",
            pair=(_likely(answer.pair[0]), _likely(answer.pair[1])) if answer.pair else None,
        )  # fmt: skip
        values = {metric.name: evaluate(metric, reference, output) for metric in self.metrics}
        return {
            "timing": [answer.seconds, None, answer.memory_mb, answer.first_audio, answer.tokens, answer.cache],
            **_columns(values),
        }

    def not_coded(self, reference: Reference, verdict: Verdict) -> dict[str, Any]:
        """The part of a row for an item without output: undefined if the reference is at fault, else `verdict`."""
        values = {}
        for metric in self.metrics:
            undefined = self._undefined(metric, reference)
            values[metric.name] = Value("undefined", undefined) if undefined else Value(*verdict)
        return {"values": _to_json(values)}

    def unreadable(self, reason: str) -> dict[str, Any]:
        """The part of a row for a recording that could not be read: our error, whatever the metric."""
        return {"values": _to_json({metric.name: Value("error", reason) for metric in self.metrics})}

    def _undefined(self, metric: Metric, reference: Reference) -> str:
        return reference.memo(f"undefined {metric.name}", lambda: undefined_reason(metric, reference))


def at_rate(
    coded: Coded, reference: Reference, alignment: Alignment | None = None, cache: Cache | None = None
) -> Output:
    """The output at the reference's rate; resampling may round its length by a sample, which is mended here."""
    samples = resample(coded.output, coded.sample_rate, reference.sample_rate)
    samples = fit_length(samples, len(reference.samples))
    return Output(samples, reference.sample_rate, alignment=alignment, cache=cache)


def facts_of(coded: Coded) -> dict[str, Any]:
    """What a row says of an item whatever the metrics: bits, frames, and the share of the output beyond full scale."""
    return {
        "bits": coded.bits,
        "header_bits": coded.header_bits,
        "clipped": float(np.mean(np.abs(coded.output) > 1)),
        "frames": [len(stream) for stream in coded.codes.streams],
    }


def tokens_of(codes: Codes) -> str:
    """The histograms of the item's streams, as text."""
    return encode_histograms(codes.streams)


def _columns(values: Mapping[str, Value]) -> dict[str, Any]:
    """Values, their texts, and what items add to values of the corpus, as parts of a row."""
    material = {name: value.material for name, value in values.items() if value.material is not None}
    texts = {name: text for value in values.values() for name, text in value.texts.items()}
    return {"texts": texts, "values": _to_json(values), **({"material": material} if material else {})}


def _likely(likelihood: Likelihood) -> Likely:
    return likelihood.nats, likelihood.tokens, likelihood.seconds


def _to_json(values: Mapping[str, Value]) -> dict[str, list[Any]]:
    return {name: [v.status, v.reason, v.value, v.weight] for name, v in values.items()}
