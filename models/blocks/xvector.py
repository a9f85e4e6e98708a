"""Who speaks, as an x-vector (Snyder et al., 2018): SpeechBrain's network on its filter banks."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from codecbench.tolerant_torchaudio import import_speechbrain


class XVector(nn.Module):
    """Samples ``[B, T]`` at 16 kHz to vectors ``[B, 512]`` of unit length.

    24 log-mel bands less their mean over the clip, then SpeechBrain's `network`, as in its
    ``spkrec-xvect-voxceleb``.
    """

    def __init__(self) -> None:
        super().__init__()
        import_speechbrain()
        from speechbrain.lobes.features import Fbank
        from speechbrain.lobes.models.Xvector import Xvector

        self.bands, self.network = Fbank(n_mels=24), Xvector(in_channels=24)

    def forward(self, samples: Tensor) -> Tensor:
        """The vector of each clip."""
        bands = self.bands(samples)
        vectors = cast("Tensor", self.network(bands - bands.mean(dim=1, keepdim=True)))[:, 0]
        return functional.normalize(vectors, dim=-1)
