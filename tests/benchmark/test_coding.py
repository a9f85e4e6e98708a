"""One clip through one system."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from codecbench.audio import Audio, Clip
from codecbench.benchmark.coding import SystemFailure, code_clip
from codecbench.models.base import Card, Codec, Codes, OperatingPoint, Stream

CARD = Card(
    name="moody", kind="codec", family="Moody", track="classical", sample_rate=8000, channels=1,
    points=tuple(OperatingPoint(str(count), streams=count) for count in (1, 2, 3)), streams=(Stream(4, 100),) * 3,
    nested=True,
)  # fmt: skip
CLIP = Clip(np.zeros((1, 800), np.float32), 8000)


class Moody(Codec):
    """Its first encoding fails, and any other would not; it cannot decode two streams."""

    card = CARD

    def __init__(self, *, fails: bool) -> None:
        self.fails, self.asked = fails, 0

    def encode(self, clips: Sequence[Clip], point: OperatingPoint) -> list[Codes]:
        self.asked += 1
        if self.fails and self.asked == 1:
            raise ArithmeticError("not today")
        return [Codes(clip.length, 8000, 1, (np.zeros(10, int),) * (point.streams or 0), (4,) * (point.streams or 0))
                for clip in clips]  # fmt: skip

    def decode(self, codes: Sequence[Codes]) -> list[Audio]:
        if len(codes[0].streams) == 2:
            raise ArithmeticError("two")
        return [np.zeros((1, item.length), np.float32) for item in codes]


@pytest.mark.parametrize(("nested", "asked", "failed"), [(True, 1, 3), (False, 3, 2)])
def test_an_encoding_that_serves_all_points_is_asked_for_once(asked: int, failed: int, *, nested: bool) -> None:
    codec = Moody(fails=True)
    found = dict(code_clip(codec, replace(CARD, nested=nested), CLIP, CARD.points))
    assert list(found) == list(CARD.points)
    assert codec.asked == asked
    failures = [outcome for outcome in found.values() if isinstance(outcome, SystemFailure)]
    assert len(failures) == failed
    assert str(failures[0]) == "exception(ArithmeticError: not today)"
    if nested:
        assert {str(failure) for failure in failures} == {str(failures[0])}


def test_a_point_that_cannot_be_decoded_spoils_no_other() -> None:
    codec = Moody(fails=False)
    found = [outcome for _, outcome in code_clip(codec, CARD, CLIP, CARD.points)]
    assert [isinstance(outcome, SystemFailure) for outcome in found] == [False, True, False]
    assert codec.asked == 1
