"""SoundStorm in a tiny size: on random weights of the real ones, checks take hours."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from codecbench.models.base import OperatingPoint
from codecbench.models.soundstorm import Conformer, SoundStorm, SoundStormConversion
from codecbench.models.speechtokenizer import SpeechTokenizerSnake

if TYPE_CHECKING:
    from codecbench.models.blocks.seanet import SEANet

SMALL = Conformer(32, 2, 4, 8)
FEATURES = {
    "layer": 1, "dimension": 16, "heads": 2, "hidden": 32, "position_kernel": 8, "position_groups": 2,
    "convs": ((16, 10, 5), *[(16, 3, 2)] * 4, *[(16, 2, 2)] * 3),
}  # fmt: skip


class Tiny(SoundStorm):
    """The paper's."""

    card = replace(
        SoundStorm.card, name="tiny-soundstorm", streams=SoundStorm.card.streams[:4],
        points=(OperatingPoint("2kbps", 2.0, 4),),
    )  # fmt: skip
    size = replace(SoundStorm.size, dimension=32, layers=2, heads=4, units=50, width=4)
    features = FEATURES
    conformer = SMALL


class TinySpeechTokenizer(SpeechTokenizerSnake):
    """A small codec of the same layout."""

    @classmethod
    def _net(cls) -> SEANet:
        return replace(super()._net(), dimension=16, width=4)


class TinyConversion(SoundStormConversion):
    """The one on SpeechTokenizer."""

    card = replace(SoundStormConversion.card, name="tiny-soundstorm-conversion")
    conformer, codec = SMALL, TinySpeechTokenizer
