"""UniAudio in a tiny size: on random weights of the released size, checks take minutes."""

from __future__ import annotations

from dataclasses import replace

from codecbench.models.uniaudio import Size, UniAudio


class Tiny(UniAudio):
    """A tiny one."""

    card = replace(UniAudio.card, name="tiny-uniaudio")
    size = Size(24, 2, 2, longest=400, text=(16, 2, 2, 24), codec=(8, 2), codec_codebooks=4)
