"""MusicGen and AudioGen in a tiny size: on random weights of the released sizes, checks take minutes to hours."""

from __future__ import annotations

from dataclasses import replace

from codecbench.models.musicgen import AudioGen, MusicGen, MusicGenSmall, MusicGenStereoSmall, Size

TINY = Size(32, 2, 4, text=(16, 2, 2), width=4)


class Tiny(MusicGen):
    """Mono."""

    card, size = replace(MusicGenSmall.card, name="tiny"), TINY


class TinyStereo(MusicGen):
    """Stereo."""

    card, size = replace(MusicGenStereoSmall.card, name="tiny-stereo"), TINY


class TinyAudioGen(MusicGen):
    """At 16 kHz."""

    card = replace(AudioGen.card, name="tiny-audiogen")
    size = replace(TINY, strides=AudioGen.size.strides, padding=AudioGen.size.padding)
