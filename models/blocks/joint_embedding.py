"""What MusicLM is told (arXiv:2301.11325, section 3.2): text and music as points of one space, and those as tokens.

The paper's MuLan and its embedder of melodies were never published. `JointEmbedder` is the least that has their
interface: whatever else has it can stand in its place.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbench.models.blocks.chroma import CLASSES, HOP, chroma
from codecbench.models.blocks.quantise import ResidualVQ

WINDOW, FRAME = 1024, 4
"""Samples of a spectrum, and seconds of a piece of melody, of which one begins every second."""


class JointEmbedder(nn.Module):
    """Text, as the mean of vectors of three bytes each; audio, as that of log spectra; melody, as that of chroma.

    Args:
        sample_rate: In Hz.
        codebooks, codebook_size: Of the tokens of text and audio.
        melody_codebooks, melody_size: Of the tokens of melodies.
        dimension: Of the space.
    """

    def __init__(
        self, sample_rate: int, codebooks: int = 12, codebook_size: int = 1024, melody_codebooks: int = 24,
        melody_size: int = 512, dimension: int = 128,
    ) -> None:  # fmt: skip
        super().__init__()
        self.sample_rate = sample_rate
        self.triples = nn.Embedding(4096, dimension)
        self.spectrum = nn.Linear(WINDOW // 2 + 1, dimension)
        self.pitches = nn.Linear(CLASSES, dimension)
        self.quantiser = ResidualVQ(codebooks, codebook_size, dimension)
        self.melodies = ResidualVQ(melody_codebooks, melody_size, dimension)

    def text(self, text: str) -> Tensor:
        """Tokens ``[K, 1]`` of `text`."""
        device = self.triples.weight.device
        letters = torch.tensor(list(f"  {text} ".encode()), device=device)
        places = (letters[:-2] * 961 + letters[1:-1] * 31 + letters[2:]) % self.triples.num_embeddings
        return self._tokens(self.triples(places).mean(dim=0))

    def audio(self, samples: Tensor) -> Tensor:
        """Tokens ``[K, 1]`` of `samples` ``[T]``."""
        padded = functional.pad(samples, (0, max(0, WINDOW - len(samples))))
        window = torch.hann_window(WINDOW, device=samples.device)
        spectra = torch.stft(padded, WINDOW, WINDOW // 2, window=window, return_complex=True).abs()
        return self._tokens(self.spectrum((spectra + 1e-3).log().mean(dim=1)))

    def melody(self, samples: Tensor) -> Tensor:
        """Tokens ``[K, P]`` of the ``P`` pieces of `samples` ``[T]``: of 4 s, from every second; one at least."""
        classes = chroma(samples, self.sample_rate)
        starts = range(max(1, len(samples) // self.sample_rate - FRAME + 1))
        spans = [(round(s * self.sample_rate / HOP), round((s + FRAME) * self.sample_rate / HOP)) for s in starts]
        pieces = torch.stack([classes[start : end + 1].mean(dim=0) for start, end in spans])
        return self.melodies.encode(functional.normalize(self.pitches(pieces)).T[None])[0]

    def _tokens(self, point: Tensor) -> Tensor:
        return self.quantiser.encode(functional.normalize(point, dim=0)[None, :, None])[0]


def enliven(embedder: JointEmbedder, seed: int) -> None:
    """Give the untrained codebooks of `embedder` entries that points come near to."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for quantiser in (embedder.quantiser, embedder.melodies):
            for k, layer in enumerate(quantiser.layers):
                layer.embed.copy_(0.9**k * functional.normalize(torch.randn(layer.embed.shape, generator=random)))
