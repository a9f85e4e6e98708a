"""AudioPaLM in a tiny size."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from codecbench.models.audiopalm import AudioPaLM, Size
from codecbench.models.soundstorm import SoundStorm

if TYPE_CHECKING:
    from torch import nn


class _Narrow(SoundStorm):
    size = replace(SoundStorm.size, width=2)


class Tiny(AudioPaLM):
    """A tiny one."""

    card = replace(AudioPaLM.card, name="tiny-audiopalm")
    size = Size(300, 16, 2, 2, {"dimension": 16, "layers": 1, "heads": 2, "head_size": 8, "kernel": 3})

    @classmethod
    def build_codec(cls, seed: int) -> nn.Module:
        """A narrow codec."""
        return _Narrow.acoustic(seed)


class TinyChained(Tiny):
    """One that recognises and translates before it speaks."""

    chained = True
