"""The networks of LauraGPT (arXiv:2310.04673): a text model that hears audio as vectors, and answers in codes too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbench.models.blocks.laura import CodecPredictor
from codecbench.models.blocks.random_units import mel_bands
from codecbench.models.blocks.relative import RelativeShape, RelativeTransformer
from codecbench.models.blocks.text_audio_lm import TextAudioLM, TextAudioLMShape, qwen

BANDS, STACKED, STEP = 80, 7, 6
"""Bands of a spectrum every 10 ms; spectra in a vector, and from a vector to the next: 60 ms."""
WINDOW, HOP = 400, 160
"""Samples of a spectrum, and between spectra, at 16 kHz."""


@dataclass(frozen=True)
class LauraGPTShape:
    """The shape of a `LauraGPT`.

    Attributes:
        vocabulary: Words, codes, tasks and the end.
        dimension, layers, heads, hidden: Of the text model.
        audio: Channels, layers, heads, inner channels and kernel of the encoder of audio, a Conformer.
        predictor: Channels, layers, heads and inner channels of the predictor.
        channels, codebooks, codebook_size: Of the codec.
    """

    vocabulary: int
    dimension: int = 2048
    layers: int = 24
    heads: int = 16
    hidden: int = 5504
    audio: tuple[int, int, int, int, int] = (512, 32, 16, 1536, 31)
    predictor: tuple[int, int, int, int] = (512, 6, 8, 2048)
    channels: int = 128
    codebooks: int = 32
    codebook_size: int = 1024


class LauraGPT(nn.Module):
    """Text model, encoder of audio, and predictor."""

    bands: Tensor

    def __init__(self, shape: LauraGPTShape) -> None:
        super().__init__()
        self.shape = shape
        size, layers, heads, hidden, kernel = shape.audio
        backbone = qwen(shape.dimension, shape.layers, shape.heads, shape.hidden)
        self.lm = TextAudioLM(TextAudioLMShape(backbone, shape.vocabulary, tied=False))
        conformer = RelativeShape(BANDS * STACKED, size, layers, heads, hidden, relative=False, kernel=kernel)
        self.audio = RelativeTransformer(conformer)
        self.audio_out = nn.Linear(size, shape.dimension)
        size, layers, heads, hidden = shape.predictor
        self.about = nn.Linear(shape.dimension, shape.channels)
        inner = RelativeShape(shape.channels, size, layers, heads, hidden)
        self.predictor = CodecPredictor(inner, shape.channels, shape.codebooks, shape.codebook_size)
        self.register_buffer("bands", mel_bands(WINDOW // 2 + 1, BANDS, 16_000), persistent=False)

    def hear(self, samples: Tensor) -> Tensor:
        """Vectors ``[F, C]`` of `samples` ``[T]`` at 16 kHz, one every 60 ms."""
        return cast("Tensor", self.audio_out(self.audio(self.features(samples)[None])[0]))

    def features(self, samples: Tensor) -> Tensor:
        """Logarithms of the energies in bands, of several spectra at once ``[F, C]``; the last one is repeated."""
        window = torch.hann_window(WINDOW, device=samples.device)
        padded = functional.pad(samples, (0, max(0, WINDOW - len(samples))))
        spectra = torch.fft.rfft(padded.unfold(0, WINDOW, HOP) * window).abs().square()
        energies = (spectra @ self.bands + 1e-6).log()
        count = -(-len(energies) // STEP)
        firsts = torch.arange(count, device=samples.device)[:, None] * STEP
        index = firsts + torch.arange(STACKED, device=samples.device)
        return cast("Tensor", energies[index.clamp(max=len(energies) - 1)].flatten(1))

    def vectors(self, before: Tensor, codes: Tensor) -> Tensor:
        """All of each frame ``[F, C]`` of the first `codes` ``[1, F]``, given the vectors of what was asked."""
        return cast("Tensor", self.predictor(self.about(before), self.predictor.embed(codes)))

    def loss(self, before: Tensor, ids: Tensor, codes: Tensor | None = None) -> Tensor:
        """The training loss of one example: of the answer's `ids` ``[F]``, a mean in nats, and of the predictor.

        Args:
            before: Vectors ``[P, C]`` of what was asked, with the task.
            ids: The answer, with its end.
            codes: Of an answer in audio, all codebooks ``[N, F]``.
        """
        nats = -self.lm.nats(before, ids).mean()
        if codes is None:
            return nats
        about = self.about(before.detach())  # the predictor is trained apart
        return nats + self.predictor.loss(about, self.predictor.embed(codes[:1]), codes)
