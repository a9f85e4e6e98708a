"""What a system may return, and what becomes of everything else: a reason, never a repair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from codecbench.audio import Audio, Clip
from codecbench.benchmark.coding import Coded, SystemFailure, code_clip
from codecbench.models.base import Card, Codec, Codes, OperatingPoint, Stream

CARD = Card(
    name="given", kind="codec", family="Given", track="classical", sample_rate=8000, channels=2,
    points=(OperatingPoint("only", streams=1),), streams=(Stream(16, 100),),
)  # fmt: skip
LENGTH = 800
SOUND = np.linspace(-0.5, 0.5, 2 * LENGTH, dtype=np.float32).reshape(2, LENGTH)
TOKENS = np.arange(10)


@dataclass(frozen=True, eq=False)
class LooseCodes(Codes):
    """Codes that nobody checked."""

    def __post_init__(self) -> None:
        pass


class Given(Codec):
    """Sends and returns what it was made with."""

    card = CARD

    def __init__(self, codes: Any = None, output: Any = SOUND) -> None:
        self.codes, self.output = codes, output

    def encode(self, clips: Sequence[Clip], point: OperatingPoint) -> list[Codes]:  # noqa: ARG002
        return [self.codes() if self.codes else Codes(LENGTH, 8000, 2, (TOKENS,), (16,))]

    def decode(self, codes: Sequence[Codes]) -> list[Audio]:  # noqa: ARG002
        return [self.output]


def outcome(codec: Codec) -> Coded | SystemFailure:
    clip = Clip(np.zeros((2, LENGTH), np.float32), 8000)
    ((_, found),) = code_clip(codec, CARD, clip, CARD.points)
    return found


def tensor(**options: Any) -> Any:
    import torch

    return torch.tensor(SOUND, **options)


@pytest.mark.parametrize(
    "output",
    [
        lambda: SOUND,
        lambda: SOUND.astype(np.float64),
        lambda: np.asfortranarray(SOUND),
        lambda: np.repeat(SOUND, 2, axis=1)[:, ::2],
        lambda: tensor(),
        lambda: tensor(requires_grad=True),
    ],
    ids=["float32", "float64", "fortran", "strided", "tensor", "requires grad"],
)
def test_float_samples_of_any_layout_are_taken_as_they_are(output: Callable[[], Any]) -> None:
    found = outcome(Given(output=output()))
    assert isinstance(found, Coded)
    assert np.array_equal(found.output, SOUND.mean(axis=0, dtype=np.float32))
    assert found.output.dtype == np.float32


def with_value(value: float) -> Audio:
    samples = SOUND.copy()
    samples[1, 7] = value
    return samples


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (SOUND[:, :-1], "length(expected [2, 800], got [2, 799])"),
        (np.pad(SOUND, [(0, 0), (0, 1)]), "length(expected [2, 800], got [2, 801])"),
        (SOUND[:, 320:], "length(expected [2, 800], got [2, 480])"),
        (np.repeat(SOUND, 2, axis=1), "length(expected [2, 800], got [2, 1600])"),  # as at twice the rate
        (SOUND[:, :0], "length(expected [2, 800], got [2, 0])"),
        (SOUND[:1], "length(expected [2, 800], got [1, 800])"),
        (SOUND.T, "length(expected [2, 800], got [800, 2])"),
        (SOUND[0], "contract(decode returned float32 [800], not float samples [C, T])"),
        (SOUND[None], "contract(decode returned float32 [1, 2, 800], not float samples [C, T])"),
        ((SOUND * 32767).astype(np.int16), "contract(decode returned int16 [2, 800], not float samples [C, T])"),
        (SOUND.astype(np.complex64), "contract(decode returned complex64 [2, 800], not float samples [C, T])"),
        (SOUND.astype(object), "contract(decode returned object [2, 800], not float samples [C, T])"),
        (SOUND.tolist(), "contract(decode returned list, not float samples [C, T])"),
        (None, "contract(decode returned NoneType, not float samples [C, T])"),
        (with_value(np.nan), "nonfinite(1 of 1600 samples)"),
        (with_value(-np.inf), "nonfinite(1 of 1600 samples)"),
        (np.full_like(SOUND, np.nan), "nonfinite(1600 of 1600 samples)"),
    ],
)
def test_anything_else_fails_with_what_it_was(output: Any, reason: str) -> None:
    found = outcome(Given(output=output))
    assert isinstance(found, SystemFailure)
    assert str(found) == reason


def codes(stream: Any, kind: type[Codes] = Codes, size: int = 16) -> Callable[[], Codes]:
    return lambda: kind(LENGTH, 8000, 2, (stream,), (size,))


class Touched:
    """Tells when it is unpickled, or made a number."""

    touched = False

    def __reduce__(self) -> tuple[Any, ...]:
        type(self).touched = True
        return (int, ("1",))

    __index__ = __int__ = __reduce__


STREAMS = {
    "float": TOKENS / 2,
    "negative": TOKENS - 1,
    "above": TOKENS + 7,
    "huge": TOKENS + 2**40,
    "two axes": TOKENS[None],
    "objects": np.array([Touched()] * 10),
    "a list": TOKENS.tolist(),
    "lists": [[1, 2], [3]],
    "nothing": None,
}


@pytest.mark.parametrize("kind", [Codes, LooseCodes])
@pytest.mark.parametrize("name", STREAMS)
def test_only_integers_of_the_codebook_are_codes(name: str, kind: type[Codes]) -> None:
    found = outcome(Given(codes(STREAMS[name], kind)))
    assert isinstance(found, SystemFailure)
    assert str(found).startswith(("exception(ValueError: stream 0 ", "codes(stream 0 "))
    assert not Touched.touched


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (codes(np.arange(0)), ""),  # a clip may need no token
        (codes(np.arange(1000) % 16), "codes(stream 0 has 1000 frames in 0.10 s at 100 Hz)"),
        (codes(TOKENS, size=4096), "codes(codebook sizes (4096,) are not the card's)"),
        (lambda: Codes(LENGTH, 8000, 2, (TOKENS,) * 2, (16, 16)), "codes(codebook sizes (16, 16) are not the card's)"),
        (lambda: Codes(LENGTH, 8000, 2), "codes(codebook sizes () are not the card's)"),
        (lambda: Codes(LENGTH - 1, 8000, 2, (TOKENS,), (16,)), "contract(codes state another length"),
        (lambda: Codes(LENGTH, 16000, 2, (TOKENS,), (16,)), "contract(codes state another length"),
        (lambda: Codes(LENGTH, 8000, 2, (TOKENS,), (16,), {"x": np.zeros(2, np.float32)}), "codes(side information 'x"),
        (lambda: [TOKENS], "contract(encode must return a list of one Codes a clip)"),
        (lambda: b"bytes", "contract(encode must return a list of one Codes a clip)"),
    ],
)
def test_only_what_the_card_declares_is_sent(made: Callable[[], Any], reason: str) -> None:
    found = outcome(Given(made))
    assert str(found).startswith(reason) if reason else isinstance(found, Coded)
