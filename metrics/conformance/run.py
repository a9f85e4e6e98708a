"""Every metric against its golden values, which other implementations made: is this installation to be trusted?

The signals are made, not recorded, so nothing has to be downloaded. The recognition metrics are given what the
recogniser is to have heard: their golden values check normaliser and counting; the model itself is known by its hash.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from codecbench.errors import CodecbenchError
from codecbench.metrics import registry
from codecbench.metrics.base import Metric, Output, Reference, Value, evaluate
from codecbench.metrics.conformance import signals

FILES = ("golden.json", "golden_models.json", "golden_texts.json")


@dataclass(frozen=True)
class Finding:
    """How one metric fares here.

    Attributes:
        metric: Its name.
        status: ``ok``: every value within its tolerance. ``deviates``: one is not. ``skipped``: the metric cannot run
            here. ``no values``: nothing independent to compare with.
        values: How many golden values were compared.
        largest: The largest deviation of any, in the metric's unit; None if there is no value to compare.
        share: The largest deviation as a share of its tolerance, at most 1 if all is well; None as before.
        detail: Where the deviation is largest, why the metric was skipped, or what it gave in place of a value.
        signature: Of the metric as it runs here; empty if it does not.
    """

    metric: str
    status: Literal["ok", "deviates", "skipped", "no values"]
    values: int = 0
    largest: float | None = None
    share: float | None = None
    detail: str = ""
    signature: str = ""


def golden() -> list[dict[str, Any]]:
    """The golden values: each with its metric, case (or texts), value, tolerance `atol`, and who made it (`by`)."""
    return [entry for name in FILES for entry in json.loads(Path(__file__).with_name(name).read_text("utf-8"))]


def conform() -> Iterator[Finding]:
    """Compare every registered metric with its golden values."""
    entries = golden()
    for metric in registry.all_metrics().values():
        yield _examine(metric, [entry for entry in entries if entry["metric"] == metric.name])


def measure(metric: Metric, entry: Mapping[str, Any]) -> Value:
    """What `metric` gives here for the case of a golden value."""
    if "said" in entry:
        return _of_texts(metric, entry)
    speech = signals.speech() * np.float32(entry.get("level", 1.0))
    rate = entry["rate"]
    return evaluate(metric, Reference(speech, rate), Output(signals.cases(speech)[entry["case"]], rate))


def _examine(metric: Metric, entries: list[dict[str, Any]]) -> Finding:
    try:
        if metric.prepare:
            metric.prepare()
        signature = metric.signature()
    except CodecbenchError as error:
        return Finding(metric.name, "skipped", detail=str(error))
    if not entries:
        return Finding(metric.name, "no values", detail="no independent values to compare with", signature=signature)
    outcomes = [(measure(metric, entry), entry) for entry in entries]
    for outcome, entry in outcomes:
        if outcome.value is None:
            detail = f"{outcome.status}:{outcome.reason} at {_case(entry)}"
            return Finding(metric.name, "deviates", len(entries), None, None, detail, signature)
    deviations = [(abs((outcome.value or 0.0) - entry["value"]), entry) for outcome, entry in outcomes]
    largest, entry = max(deviations, key=lambda item: item[0] / item[1]["atol"])
    share = largest / entry["atol"]
    detail = f"largest at {_case(entry)}: {entry['value']:.6g} by {entry['by']}"
    return Finding(metric.name, "ok" if share <= 1 else "deviates", len(entries), largest, share, detail, signature)


def _case(entry: Mapping[str, Any]) -> str:
    return f"{entry['case']}, {entry['rate']} Hz" if "case" in entry else f"“{entry['said']}”, “{entry['output']}”"


@dataclass(frozen=True)
class _Heard:
    """A cache in which every recording has been transcribed already."""

    texts: Mapping[str, str]

    def get(self, key: Mapping[str, Any]) -> str:
        return self.texts[key["audio"]]

    def put(self, key: Mapping[str, Any], value: Any) -> None:
        raise AssertionError(f"nothing is left to transcribe, but {key} gave {value}")


def _of_texts(metric: Metric, entry: Mapping[str, Any]) -> Value:
    texts: dict[str, str] = {}
    heard = _Heard(texts)
    speech = signals.speech(1.0)
    noisy = signals.at_snr(speech, 20)
    reference = Reference(speech, signals.RATE, transcript=entry["said"], language="en", cache=heard)
    output = Output(noisy, signals.RATE, cache=heard)
    texts.update({reference.digest: entry["original"], output.digest: entry["output"]})
    return evaluate(metric, reference, output)
