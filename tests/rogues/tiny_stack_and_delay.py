"""MusicGen with other orders of its codes, in a tiny size: on random weights of the real one, checks take hours."""

from __future__ import annotations

from dataclasses import replace

from codecbench.models.musicgen import Size
from codecbench.models.stack_and_delay import MusicGenFlat, MusicGenParallel, MusicGenStack, MusicGenStackDelay

TINY = Size(32, 2, 4, text=(16, 2, 2), width=4)


class TinyFlat(MusicGenFlat):
    """One code a step."""

    card, size = replace(MusicGenFlat.card, name="tiny-flat"), TINY


class TinyParallel(MusicGenParallel):
    """A frame a step."""

    card, size = replace(MusicGenParallel.card, name="tiny-parallel"), TINY


class TinyStack(MusicGenStack):
    """One row of the cache a frame."""

    card, size = replace(MusicGenStack.card, name="tiny-stack"), TINY


class TinyStackDelay(MusicGenStackDelay):
    """Several frames at once."""

    card, size = replace(MusicGenStackDelay.card, name="tiny-stack-delay"), TINY
