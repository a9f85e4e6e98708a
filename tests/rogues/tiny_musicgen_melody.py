"""MusicGen that follows a melody, in a tiny size: on random weights of the released ones, checks take hours."""

from __future__ import annotations

from dataclasses import replace

from codecbench.models.musicgen import Size
from codecbench.models.musicgen_melody import MusicGenMelody, MusicGenStereoMelody

TINY = Size(32, 2, 4, text=(16, 2, 2), width=4)


class TinyMelody(MusicGenMelody):
    """Mono."""

    card, size = replace(MusicGenMelody.card, name="tiny-melody"), TINY


class TinyStereoMelody(MusicGenStereoMelody):
    """Stereo."""

    card, size = replace(MusicGenStereoMelody.card, name="tiny-stereo-melody"), TINY
