"""The digit error rate: what counts as an error, and how well its recogniser hears."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from codecbench.audio import resample
from codecbench.metrics import digits, registry
from codecbench.metrics.base import Output, Reference, evaluate
from codecbench.metrics.conformance import signals
from codecbench.metrics.digits import RATE, collapsed, digits_of, features, network, recognise
from codecbench.paths import sha256_of
from codecbench.weights import read_state_dict

METRICS = {metric.name: metric for metric in digits.METRICS}
SPEECH = signals.speech(1.0)
FSDD = Path(os.environ.get("CODECBENCH_FSDD", "nowhere"))
needs_recordings = pytest.mark.skipif(not FSDD.is_dir(), reason="$CODECBENCH_FSDD names no folder of spoken digits")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("three one four", "314"),
        ("Three, ONE; four.", "314"),
        ("314", "314"),
        ("3 oh 4", "304"),
        ("zero zero seven", "007"),
        ("", ""),
    ],
)
def test_digits_of_a_text(text: str, found: str) -> None:
    assert digits_of(text) == list(found)


def test_other_words_stay() -> None:
    assert digits_of("a tree, four ²") == ["a", "tree", "4", "²"]


@given(st.lists(st.integers(0, 9), max_size=8))
def test_ctc_reads_what_was_spelled(said: list[int]) -> None:
    frames = [label for digit in said for label in (digits.BLANK, digit, digit)]
    assert collapsed(frames) == said


def test_repeated_frames_are_one_digit() -> None:
    blank = digits.BLANK
    assert collapsed([3, 3, 3, blank, blank, 3, 1, 1, blank]) == [3, 3, 1]
    assert collapsed([blank, blank]) == []


def test_features_do_not_hear_the_level() -> None:
    speech = resample(SPEECH, signals.RATE, RATE)
    one = features(speech)
    assert one.shape == (digits.BANDS, 1 + (len(speech) + 2 * digits.PADDING) // digits.HOP)
    assert one.dtype == np.float32
    np.testing.assert_allclose(features(speech * np.float32(0.01)), one, atol=1e-3)


def test_the_network_has_two_features_a_label() -> None:
    made = network().eval()
    with torch.inference_mode():
        assert made(torch.zeros(2, digits.BANDS, 51)).shape == (2, 11, 26)
    # Less than a second around a frame: it cannot learn which digits follow each other.
    x = torch.randn(1, digits.BANDS, 400).requires_grad_()
    made(x)[0, 0, 100].backward()
    assert x.grad is not None
    seen = x.grad.abs().sum(dim=(0, 1)).nonzero()[:, 0]
    assert float(seen.max() - seen.min()) * digits.HOP / RATE < 1.0


def score(heard: str, said: str, monkeypatch: pytest.MonkeyPatch) -> tuple[float | None, float, str]:
    monkeypatch.setattr(digits, "recognise", lambda _: heard)
    reference = Reference(SPEECH, signals.RATE, transcript=said, language="en")
    value = evaluate(METRICS["digit_error_rate"], reference, Output(SPEECH, signals.RATE))
    return value.value, value.weight, value.reason


@pytest.mark.parametrize(
    ("heard", "said", "rate", "count"),
    [
        ("314", "three one four", 0, 3),
        ("34", "three one four", 1 / 3, 3),
        ("3144", "three one four", 1 / 3, 3),
        ("215", "three one four", 2 / 3, 3),
        ("", "three one four five", 1, 4),
        ("00000", "seven", 5, 1),
    ],
)
def test_errors_are_counted(heard: str, said: str, rate: float, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    value, weight, reason = score(heard, said, monkeypatch)
    assert value == pytest.approx(rate)
    assert (weight, reason) == (count, "")


@pytest.mark.parametrize(("said", "reason"), [("", "no_transcript"), ("three fish", "no_digits"), ("...", "no_digits")])
def test_a_transcript_of_other_words_has_no_rate(said: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert score("3", said, monkeypatch) == (None, 1, reason)


def test_nothing_is_heard_in_silence() -> None:
    reference = Reference(SPEECH, signals.RATE, transcript="one two", language="en")
    silence = Output(np.zeros_like(SPEECH), signals.RATE)
    assert evaluate(METRICS["digit_error_rate"], reference, silence).value == 1.0
    silent = Reference(np.zeros_like(SPEECH), signals.RATE, transcript="one", language="en")
    assert evaluate(METRICS["digit_error_rate"], silent, Output(SPEECH, signals.RATE)).status == "undefined"


@pytest.mark.parametrize(
    ("answer", "rate"), [("three one four", 0), ("3 1 four", 0), ("three one", 1 / 3), ("tree one four", 1 / 3)]
)
def test_answers_are_texts(answer: str, rate: float) -> None:
    metric = METRICS["answer_digit_error_rate"]
    asked = Reference(SPEECH, signals.RATE, transcript="three one four", language="en", comparable=frozenset({"texts"}))
    assert evaluate(metric, asked, Output(SPEECH, signals.RATE, text=answer)).value == pytest.approx(rate)
    assert evaluate(metric, asked, Output(SPEECH, signals.RATE)).reason == "no_text"


def test_the_signature_names_the_weights() -> None:
    metric = registry.find("digit_error_rate")
    assert f"model:fsdd-ctc-{sha256_of(digits.WEIGHTS)[:8]}" in metric.signature()
    assert metric.prepare is not None
    metric.prepare()


def test_the_weights_are_small_and_of_half_precision() -> None:
    state = read_state_dict(digits.WEIGHTS)
    assert digits.WEIGHTS.stat().st_size < 1e6
    assert {value.dtype for value in state.values()} == {torch.float16, torch.int64}


def test_noise_has_few_digits() -> None:
    assert len(recognise(signals.noise(2 * RATE) * np.float32(0.1))) <= 2


@needs_recordings
def test_it_hears_real_digits() -> None:
    from codecbench.models.training.digits import DigitStrings, spoken

    strings = DigitStrings(FSDD, "test")
    alone = [spoken([take], np.random.default_rng(n)) for n, take in enumerate(strings.takes)]
    wrong = sum(recognise(resample(one.samples, 16_000, RATE)) != str(digits.WORDS.index(one.text)) for one in alone)
    assert len(alone) == 300
    assert wrong / len(alone) <= 0.03
