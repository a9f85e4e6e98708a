"""The signal metrics against other implementations; ``tests/golden/regenerate.py`` says which."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codecbench.metrics.base import Output, Reference, evaluate
from codecbench.metrics.conformance import signals
from codecbench.metrics.pitch import track

FOLDER = Path(__file__).parents[1] / "golden"
FAMILIES = ("pesq", "stoi", "mel", "spectral", "si_sdr", "pitch")
METRICS = {m.name: m for family in FAMILIES for m in import_module(f"codecbench.metrics.{family}").METRICS}
ENTRIES = json.loads(Path(signals.__file__).with_name("golden.json").read_text())
SPEECH = signals.speech()
CASES = signals.cases(SPEECH)


def test_every_metric_has_golden_values_for_every_case() -> None:
    expected = {(name, case) for name in METRICS for case in CASES}
    assert {(entry["metric"], entry["case"]) for entry in ENTRIES} == expected


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: f"{e['metric']}-{e['rate']}-{e['case']}")
def test_agrees_with_the_other_implementation(entry: dict[str, Any]) -> None:
    rate = entry["rate"]
    outcome = evaluate(METRICS[entry["metric"]], Reference(SPEECH, rate), Output(CASES[entry["case"]], rate))
    assert outcome.status == "ok", outcome.reason
    assert outcome.value == pytest.approx(entry["value"], abs=entry["atol"])


@pytest.mark.parametrize("name", sorted(METRICS))
def test_an_identical_output_is_perfect(name: str) -> None:
    metric = METRICS[name]
    outcome = evaluate(metric, Reference(SPEECH, 16_000), Output(SPEECH.copy(), 16_000))
    assert metric.perfect is not None
    assert outcome.value == pytest.approx(metric.perfect, abs=1e-6)
    if metric.direction == "lower":
        assert outcome.value == 0


@pytest.mark.parametrize("name", sorted(METRICS))
def test_more_noise_is_worse(name: str) -> None:
    values = []
    for decibels in (30, 20, 10, 0):
        noisy = signals.at_snr(SPEECH, decibels)
        value = evaluate(METRICS[name], Reference(SPEECH, 16_000), Output(noisy, 16_000)).value
        assert value is not None
        values.append(value if METRICS[name].direction == "lower" else -value)
    assert values == sorted(values)
    assert values[-1] > values[0]


@pytest.mark.parametrize("name", sorted(METRICS))
@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_silence_is_a_status_at_every_rate(name: str, rate: int) -> None:
    sound, silence = signals.speech(1.0, rate), np.zeros(rate, dtype=np.float32)
    assert evaluate(METRICS[name], Reference(silence, rate), Output(sound, rate)).reason == "ref_silent"
    assert evaluate(METRICS[name], Reference(silence, rate), Output(silence, rate)).status == "undefined"
    failed = evaluate(METRICS[name], Reference(sound, rate), Output(silence, rate))
    assert (failed.status, failed.reason) == ("failed", "output_silent")
    assert evaluate(METRICS[name], Reference(sound, rate), Output(sound, rate)).status == "ok"


@pytest.mark.parametrize("name", sorted(METRICS))
@pytest.mark.parametrize("seconds", [0.001, 0.02, 0.1, 0.3])
def test_a_short_recording_has_a_value_or_none_at_all(name: str, seconds: float) -> None:
    sound = SPEECH[8_000 : 8_000 + round(seconds * 16_000)]
    outcome = evaluate(METRICS[name], Reference(sound, 16_000), Output(sound, 16_000))
    assert outcome.status in ("ok", "undefined"), outcome.reason
    if outcome.status == "ok":
        assert outcome.value == pytest.approx(METRICS[name].perfect, abs=1e-6)


@pytest.mark.parametrize("name", sorted(METRICS))
def test_the_signature_names_what_the_value_depends_on(name: str) -> None:
    signature = METRICS[name].signature()
    assert signature.startswith(f"{name}|")
    assert "+" not in signature.split("fb:")[-1].split("|")[0], "a build tag of torchaudio changes no value"


@pytest.mark.parametrize(("case", "lost", "cents"), [("identical", 0.0, 0.3), ("noise_0", 0.01, 10)])
def test_pitch_contours_are_those_of_praat(case: str, lost: float, cents: float) -> None:
    golden = {entry["case"]: np.array(entry["hertz"]) for entry in json.loads((FOLDER / "praat_f0.json").read_text())}
    praat, own = golden[case], track(CASES[case])
    assert own.shape == praat.shape
    assert np.mean((own > 0) != (praat > 0)) <= lost
    both = (own > 0) & (praat > 0)
    assert both.sum() > 100
    assert np.abs(1200 * np.log2(own[both] / praat[both])).max() < cents
