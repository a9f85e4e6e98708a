"""MusicLM in a tiny size: on random weights of the paper's, checks take hours."""

from __future__ import annotations

from dataclasses import replace

from codecbench.models.base import OperatingPoint
from codecbench.models.musiclm import MusicLM


class Tiny(MusicLM):
    """As small as it gets."""

    card = replace(
        MusicLM.card, name="tiny-musiclm", streams=MusicLM.card.streams[:4], points=(OperatingPoint("2kbps", 2.0, 4),)
    )  # fmt: skip
    size = replace(MusicLM.size, dimension=32, layers=2, heads=4, units=50, coarse=2, width=4, chunk=12)
