"""UniAudio in a tiny size: on random weights of the released size, checks take minutes."""

from __future__ import annotations

from dataclasses import replace

from codecbench.models.uniaudio import Size, UniAudio


class Tiny(UniAudio):
    """A tiny one."""

    card = replace(UniAudio.card, name="tiny-uniaudio")
    size = Size(
        24, 2, 2, longest=400, text=(16, 2, 2, 24), codec=(8, 2), codec_codebooks=4,
        features={
            "layer": 1, "dimension": 16, "heads": 2, "hidden": 32, "position_kernel": 16, "position_groups": 4,
            "convs": ((8, 10, 5), *[(8, 3, 2)] * 4, *[(8, 2, 2)] * 2),
        },
    )  # fmt: skip
