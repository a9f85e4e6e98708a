"""DNSMOS: equal to the package speechmos, whose values ``tests/golden/regenerate_models.py`` has written down."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codecbench.benchmark.cache import DiskCache
from codecbench.errors import UsageError
from codecbench.metrics import dnsmos
from codecbench.metrics.base import Output, Reference, evaluate
from codecbench.metrics.conformance import signals
from codecbench.metrics.melscale import filterbank

FOLDER = Path(__file__).parents[1] / "golden"
GOLDEN = json.loads((FOLDER / "model_metrics.json").read_text())
ENTRIES = [entry for entry in GOLDEN if entry["of"] == "dnsmos"]
METRICS = {metric.name: metric for metric in dnsmos.METRICS}
SPEECH = signals.speech(1.0)

needs_models = pytest.mark.skipif(find_spec("speechmos") is None, reason="the package speechmos is not installed")


def test_there_are_golden_values() -> None:
    assert [entry["of"] for entry in GOLDEN if entry["of"] != "ge2e"] == ["dnsmos"] * 4 + ["filterbank"] * 2


def _case(entry: dict[str, Any]) -> Any:
    return pytest.param(entry, marks=[pytest.mark.slow] if entry["seconds"] > 16 else [])


@needs_models
@pytest.mark.parametrize(
    "entry", [_case(entry) for entry in ENTRIES], ids=lambda entry: f"{entry['seconds']}s-{entry['snr']}dB"
)
def test_agrees_with_speechmos(entry: dict[str, Any]) -> None:
    samples = signals.speech(entry["seconds"]) * np.float32(0.5)
    if entry["snr"] is not None:
        samples = signals.at_snr(samples, entry["snr"])
    reference, output = Reference(samples, 16_000), Output(samples, 16_000)
    for name, metric in METRICS.items():
        outcome = evaluate(metric, reference, output)
        assert outcome.status == "ok", outcome.reason
        assert outcome.value == pytest.approx(entry[f"{name.removeprefix('dnsmos_')}_mos"], abs=1e-4)


@pytest.mark.parametrize(
    ("seconds", "starts"),
    [
        (1.0, range(7)),  # repeated to 16 s
        (3.0, range(3)),  # repeated to 12 s
        (9.0, range(7)),  # repeated to 18 s
        (9.01, [0]),
        (10.99, [0]),
        (11.0, [0, 1]),
        (16.0, range(7)),
        (30.0, range(7)),
        (34.0, [*range(7), 24]),
    ],
)
def test_windows_are_those_of_speechmos(seconds: float, starts: list[int]) -> None:
    samples = np.arange(round(seconds * 16_000), dtype=np.float32)
    windows = dnsmos.windows(samples)
    assert [len(window) for window in windows] == [dnsmos.WINDOW] * len(starts)
    assert [window[0] for window in windows] == [(16_000 * start) % len(samples) for start in starts]


@pytest.mark.parametrize("entry", [e for e in GOLDEN if e["of"] == "filterbank"], ids=lambda entry: entry["window"])
def test_filters_are_librosas(entry: dict[str, Any]) -> None:
    filters = filterbank(16_000, entry["window"], entry["bands"])
    assert filters.shape == (1 + entry["window"] // 2, entry["bands"])
    np.testing.assert_allclose(filters.sum(axis=0), entry["sums"], atol=2e-7)
    np.testing.assert_allclose(filters.max(axis=0), entry["peaks"], atol=2e-7)
    np.testing.assert_array_equal(filters.argmax(axis=0), entry["centres"])


@needs_models
def test_one_inference_serves_the_three_scales_and_later_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def fake(samples: np.ndarray[Any, Any]) -> list[float]:
        calls.append(len(samples))
        return [1.0, 2.0, 3.0]

    monkeypatch.setattr(dnsmos, "_p835", fake)
    for _ in range(2):
        reference, output = Reference(SPEECH, 16_000), Output(SPEECH, 16_000, cache=DiskCache(tmp_path))
        values = [evaluate(metric, reference, output).value for name, metric in METRICS.items() if "p808" not in name]
        assert values == [1.0, 2.0, 3.0]
    assert calls == [16_000]


@needs_models
def test_p808_alone_does_not_run_the_larger_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dnsmos, "_p835", lambda _: pytest.fail("ran"))
    outcome = evaluate(METRICS["dnsmos_p808"], Reference(SPEECH, 16_000), Output(SPEECH, 16_000))
    assert outcome.status == "ok"


def test_what_has_no_score() -> None:
    speech, silence = Reference(SPEECH, 16_000), np.zeros_like(SPEECH)
    music = Reference(SPEECH, 16_000, domain="music")
    short = Reference(SPEECH[:15_999], 16_000)
    for metric in METRICS.values():
        reasons = [
            evaluate(metric, reference, Output(samples, 16_000))
            for reference, samples in (
                (speech, silence), (Reference(silence, 16_000), SPEECH), (music, SPEECH), (short, SPEECH),
            )
        ]  # fmt: skip
        assert [(value.status, value.reason) for value in reasons] == [
            ("failed", "output_silent"),
            ("undefined", "ref_silent"),
            ("undefined", "domain(music)"),
            ("undefined", "too_short"),
        ]


def test_missing_models_are_one_line_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dnsmos, "find_spec", lambda _: None)
    prepare = METRICS["dnsmos_ovrl"].prepare
    assert prepare
    dnsmos._path.cache_clear()
    with pytest.raises(UsageError, match=r"pip install 'codecbench\[demo\]'"):
        prepare()


@needs_models
def test_signature_names_model_and_runtime() -> None:
    signature = METRICS["dnsmos_ovrl"].signature()
    assert "|model:sig_bak_ovr-269fbebd|" in signature
    assert "|impl:onnxruntime-" in signature
    assert "|model:model_v8-" in METRICS["dnsmos_p808"].signature()
