"""How an outcome becomes a status, and what a signal knows of itself."""

import numpy as np
import pytest

from codecbench.metrics import registry
from codecbench.metrics.base import (
    Alignment,
    Failed,
    Metric,
    Output,
    Reference,
    Score,
    Signal,
    Undefined,
    evaluate,
    undefined_reason,
)

RATE = 16_000


def tone(seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * 220 * time)).astype(np.float32)


def metric_that(outcome: object, **facts: object) -> Metric:
    def score(reference: Reference, output: Output) -> float | Score:
        del reference, output
        if isinstance(outcome, Exception):
            raise outcome
        return outcome  # type: ignore[return-value]

    return Metric("m", "M", "", "higher", score, lambda: {"impl": "test"}, **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (0.5, ("ok", "", 0.5, 1.0)),
        (Score(0.25, 8), ("ok", "", 0.25, 8.0)),
        (Undefined("ref_silent"), ("undefined", "ref_silent", None, 1.0)),
        (Failed("output_silent"), ("failed", "output_silent", None, 1.0)),
        (ZeroDivisionError("division"), ("error", "metric(ZeroDivisionError: division)", None, 1.0)),
        (float("nan"), ("error", "metric(returned nan)", None, 1.0)),
        (float("inf"), ("error", "metric(returned inf)", None, 1.0)),
    ],
)
def test_every_outcome_is_a_status_and_none_a_stand_in(outcome: object, expected: tuple[object, ...]) -> None:
    value = evaluate(metric_that(outcome), Reference(tone(), RATE), Output(tone(), RATE))
    assert (value.status, value.reason, value.value, value.weight) == expected


@pytest.mark.parametrize(
    ("facts", "samples", "reason"),
    [
        ({"domains": frozenset({"music"})}, tone(), "domain(speech)"),
        ({"min_seconds": 2.0}, tone(), "too_short"),
        ({"needs_transcript": True}, tone(), "no_transcript"),
        ({"domains": frozenset({"speech"})}, np.eye(1, RATE, 500, dtype=np.float32)[0], "ref_no_speech"),
    ],
)
def test_a_reference_outside_the_domain_is_undefined(
    facts: dict[str, object], samples: np.ndarray, reason: str
) -> None:
    metric = metric_that(1.0, **facts)
    reference = Reference(samples, RATE, domain="speech")
    assert evaluate(metric, reference, Output(samples, RATE)).reason == reason
    assert undefined_reason(metric, reference) == reason


def test_active_seconds_are_those_within_40_db_of_the_loudest() -> None:
    samples = np.concatenate([tone(0.5), np.zeros(RATE, np.float32), 0.005 * tone(0.5)])
    assert Signal(samples, RATE).active_seconds == pytest.approx(0.5, abs=0.02)


def test_memo_and_remember_compute_once() -> None:
    class Kept(dict[str, object]):
        def get(self, key: object, default: object = None) -> object:
            return super().get(repr(key), default)

        def put(self, key: object, value: object) -> None:
            self[repr(key)] = value

    calls: list[int] = []
    cache = Kept()

    def compute() -> str:
        calls.append(1)
        return "text"

    for _ in range(2):
        signal = Signal(tone(), RATE, cache)
        assert signal.remember({"model": "a"}, compute) == "text"
        assert signal.remember({"model": "a"}, compute) == "text"
    assert len(calls) == 1
    Signal(tone(2.0), RATE, cache).remember({"model": "a"}, compute)
    assert len(calls) == 2


def test_a_signature_names_implementation_frame_resampler_and_version() -> None:
    signature = metric_that(1.0, version=3).signature()
    assert signature.startswith("m|impl:test|frame:system|rs:soxr-")
    assert signature.endswith("|v:3")
    assert metric_that(1.0).in_codec_frame().signature().startswith("m@codec|impl:test|frame:codec|")


def test_every_registered_metric_states_its_facts() -> None:
    metrics = registry.all_metrics()
    assert len(metrics) >= 15
    for name, metric in metrics.items():
        assert name == metric.name
        assert metric.title
        assert metric.direction in {"higher", "lower", "none"}
        assert metric.domains


def test_names_are_resolved_with_variant_and_frame() -> None:
    assert registry.find("mel@codec").frame == "codec"
    with pytest.raises(Exception, match="unknown frame 'nonsense'"):
        registry.find("mel@nonsense")
    with pytest.raises(Exception, match="metric 'mel' has no variants"):
        registry.find("mel:large")


@pytest.mark.parametrize("samples", [np.zeros((1, 5), np.float32), np.zeros(5)])
def test_a_signal_is_mono_float32(samples: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"float32 \[T\]"):
        Signal(samples, RATE)


def test_the_neutral_alignment_changes_nothing() -> None:
    assert Output(tone(), RATE).alignment == Alignment(0.0, 1, 0.0)
