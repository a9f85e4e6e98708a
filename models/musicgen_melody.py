"""MusicGen that follows a melody (arXiv:2306.05284, section 2.3), in mono and in stereo.

`Request.reference` is the melody: a recording of which the loudest pitch class of every 128 ms is heard. Without one,
it hears what it hears in silence. The melody, then the text, stand before the music; there is no cross-attention.

Equal to ``transformers`` on equal weights and equal recordings. Audiocraft first takes drums and bass out of the
recording, with a network for that; here, as in ``transformers``, it is left to whoever makes the recording. Beyond
30 s, each stride hears the recording from where it is, again from its start when it is over. All else is as in
`codecbench.models.musicgen`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from codecbench.audio import Clip
from codecbench.models.base import Request
from codecbench.models.musicgen import FRAME_RATE, LARGE, MEDIUM, WINDOW, MusicGen, musicgen_card

if TYPE_CHECKING:
    from torch import Tensor

    from codecbench.models.blocks.codebook_lm import CodebookLMShape
    from codecbench.models.musicgen import Melody


class Melodious(MusicGen):
    """What all of them share."""

    @classmethod
    def shape(cls) -> CodebookLMShape:
        """The language model's shape."""
        from codecbench.models.blocks import codebook_lm
        from codecbench.models.blocks.chroma import CLASSES

        size, plain = cls.size, super().shape()
        backbone = codebook_lm.musicgen(size.dimension, size.layers, size.heads, cross=False)
        return replace(plain, backbone=backbone, melody=CLASSES)

    def melodies(self, requests: Sequence[Request]) -> Sequence[Melody]:
        """What each request is to follow."""
        return [partial(self.heard, request.reference) for request in requests]

    def heard(self, clip: Clip | None, start: int) -> Tensor | None:
        """Pitch classes ``[M, 12]`` of up to 30 s of `clip`, from the frame `start` on; None without a clip."""
        import torch

        from codecbench.models.blocks.chroma import chroma

        if clip is None:
            return None
        whole = clip.samples.mean(axis=0)
        length = WINDOW * clip.sample_rate // FRAME_RATE
        if start:
            first = start * clip.sample_rate // FRAME_RATE
            whole = np.take(whole, np.arange(first, first + length), mode="wrap")
        return chroma(torch.tensor(whole[:length], device=self._device), clip.sample_rate)


class MusicGenMelody(Melodious):
    """MusicGen with 1.5 G parameters that follows a melody."""

    card, size = musicgen_card("musicgen-melody"), MEDIUM


class MusicGenMelodyLarge(Melodious):
    """MusicGen with 3.3 G parameters that follows a melody."""

    card, size = musicgen_card("musicgen-melody-large"), LARGE


class MusicGenStereoMelody(Melodious):
    """MusicGen with 1.5 G parameters that follows a melody, in stereo."""

    card, size = musicgen_card("musicgen-stereo-melody", 2), MEDIUM


class MusicGenStereoMelodyLarge(Melodious):
    """MusicGen with 3.3 G parameters that follows a melody, in stereo."""

    card, size = musicgen_card("musicgen-stereo-melody-large", 2), LARGE


SYSTEMS = (MusicGenMelody, MusicGenMelodyLarge, MusicGenStereoMelody, MusicGenStereoMelodyLarge)
