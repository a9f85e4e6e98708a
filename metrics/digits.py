"""Spoken digits: how many of the digits that were to be said are heard, by a recogniser that knows nothing else.

- ``digit_error_rate``: errors (substitutions, deletions, insertions) for each digit of the transcript, in what a
  recogniser of the ten English digits hears in the output; 0.05 is 5 %, lower is better. A corpus has one rate
- ``answer_digit_error_rate``: the same for an answer that is a text; a word that is no digit is an error.
  ``answer_wer`` would not do: its normaliser makes one number of "three one four", and so one word

The recogniser is a small convolutional network, trained on the training recordings of the Free Spoken Digit Dataset by
``scripts/train-digit-recogniser``; docs/small-language-models.md has its own error rates. Every frame is judged by less
than a second around it, so it has no idea of which digits follow each other, and it hears nothing above 4 kHz. It was
trained on the test set's six speakers, on other takes: rates of other voices are to be read with care.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from codecbench.audio import Audio, resampler_signature
from codecbench.errors import UsageError
from codecbench.metrics.base import SPEECH, Failed, Metric, Output, Reference, Score, Signal, Undefined
from codecbench.metrics.melscale import mel_power
from codecbench.metrics.recognition import edits
from codecbench.paths import sha256_of
from codecbench.weights import load_state, read_state_dict

if TYPE_CHECKING:
    from torch import nn

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
WEIGHTS = Path(__file__).with_name("digits.safetensors")

RATE, WINDOW, HOP, BANDS = 8_000, 200, 80, 40
PADDING = 800
"""Zeros before and after: 0.1 s."""
LEVEL = 10 ** (-24 / 20)
FLOOR = 1e-4
"""Added to the mel power."""
BLANK = len(WORDS)


def digits_of(text: str) -> list[str]:
    """The digits in `text`, as words or as numerals; a word that is none of them stands as it is."""
    found: list[str] = []
    for word in re.findall(r"\w+", text.lower()):
        found += list(word) if word.isdecimal() and word.isascii() else [{"oh": "zero"}.get(word, word)]
    return [str(WORDS.index(word)) if word in WORDS else word for word in found]


def features(samples: Audio) -> NDArray[np.float32]:
    """What the network hears of `samples` ``[T]`` at `RATE`, which are not silent: log mel power ``[BANDS, F]``."""
    level = LEVEL / max(float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))), 1e-9)
    padded = np.pad(samples * np.float32(level), PADDING)
    return np.asarray(np.log(mel_power(padded, RATE, WINDOW, HOP, BANDS).T + np.float32(FLOOR)), np.float32)


def network(width: int = 96) -> nn.Sequential:
    """The network: features ``[B, BANDS, F]`` to logits ``[B, 11, ceil(F / 2)]`` of the digits and the blank of CTC."""
    from torch import nn

    layers: list[nn.Module] = []
    inputs = BANDS
    for stride, dilation in ((2, 1), (1, 1), (1, 1), (1, 2), (1, 4)):
        conv = nn.Conv1d(inputs, width, 5, stride, padding=2 * dilation, dilation=dilation, bias=False)
        layers += [conv, nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.1)]
        inputs = width
    return nn.Sequential(*layers, nn.Conv1d(width, BLANK + 1, 1))


def collapsed(best: Sequence[int]) -> list[int]:
    """What CTC reads in the best label of each frame: changes, without blanks (Graves et al., ICML 2006)."""
    return [label for before, label in zip([BLANK, *best], best, strict=False) if label not in (before, BLANK)]


def heard(signal: Signal) -> str:
    """The digits that the recogniser hears in `signal`, as numerals; nothing in a silent one. Kept between runs."""
    if signal.silent:
        return ""
    key = {"what": "digits", **_parts(), "rs": resampler_signature()}
    return signal.remember(key, lambda: recognise(signal.at(RATE)))


def recognise(samples: Audio) -> str:
    """The digits that the recogniser hears in `samples` ``[T]`` at `RATE`, as numerals."""
    import torch

    with torch.inference_mode():
        logits = _loaded()(torch.from_numpy(features(samples))[None])[0]
    return "".join(str(digit) for digit in collapsed(logits.argmax(0).tolist()))


@cache
def _loaded() -> nn.Sequential:
    made = network()
    load_state(made, read_state_dict(WEIGHTS), WEIGHTS)  # half precision becomes single
    return made.eval()


@cache
def _parts() -> Mapping[str, str]:
    release = version("torch").partition("+")[0]
    return {"impl": f"torch-{release}", "model": f"fsdd-ctc-{sha256_of(WEIGHTS)[:8]}", "feat": "mel40", "rate": "8k"}


def digit_error_rate(reference: Reference, output: Output) -> Score:
    """Errors in the digits of `output` for each digit of the transcript, from 0 up, weighted with their number.

    Raises:
        Undefined: ``ref_silent``; ``no_digits``: the transcript has other words, or none.
    """
    if reference.silent:
        raise Undefined("ref_silent")
    return _score(_expected(reference), heard(output), {"heard": heard(output), "said": reference.transcript})


def answer_digit_error_rate(reference: Reference, output: Output) -> Score:
    """Errors in a text answer for each digit of the transcript, from 0 up, weighted with their number.

    Raises:
        Undefined: ``no_digits``: the transcript has other words, or none.
        Failed: ``no_text``: there is no answer.
    """
    expected = _expected(reference)
    if output.text is None:
        raise Failed("no_text")
    found = digits_of(output.text)
    return _score(expected, found, {"answer": output.text, "said": reference.transcript})


def _expected(reference: Reference) -> list[str]:
    expected = digits_of(reference.transcript)
    if not expected or any(len(word) > 1 for word in expected):
        raise Undefined("no_digits")
    return expected


def _score(expected: Sequence[str], found: Sequence[str], texts: Mapping[str, str]) -> Score:
    errors, count = edits(" ".join(expected), " ".join(found), "words")
    return Score(errors / count, count, texts)


def _prepare() -> None:
    if not WEIGHTS.is_file():
        raise UsageError(f"digit_error_rate: its recogniser {WEIGHTS} is missing; install codecbench again")


def _of_text() -> Mapping[str, str]:
    return {"edit": f"jiwer-{version('jiwer')}"}


METRICS = (
    Metric(
        "digit_error_rate", "Digit error rate", "", "lower", digit_error_rate, lambda: {**_parts(), **_of_text()},
        domains=SPEECH, needs_transcript=True, compares="sounds", prepare=_prepare,
    ),
    Metric(
        "answer_digit_error_rate", "Digit error rate of the answer", "", "lower", answer_digit_error_rate, _of_text,
        needs_transcript=True, compares="texts",
    ),
)  # fmt: skip
