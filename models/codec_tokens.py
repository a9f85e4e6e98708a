"""A codec as language models use it: from a clip to codes, and from codes to a clip."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from codecbench import weights
from codecbench.audio import Clip

if TYPE_CHECKING:
    from torch import Tensor


class CodecTokens:
    """The first codebooks of a mono codec.

    Args:
        network: With ``encode([1, 1, T], codebooks)``, which gives ``[1, K, F]``, and ``decode([1, K, F])``.
        codebooks: ``K``.
        hop: Samples a frame.
        sample_rate: In Hz.
        device: Where the network is.
        zero_padded: The network takes whole frames: zeros follow a clip that is none.
    """

    def __init__(
        self, network: Any, codebooks: int, hop: int, sample_rate: int, device: str, *, zero_padded: bool = False
    ) -> None:
        self.network, self.codebooks, self.hop, self.sample_rate = network, codebooks, hop, sample_rate
        self._device, self._zero_padded = device, zero_padded

    def frames(self, seconds: float) -> int:
        """Whole frames in `seconds`."""
        return int(seconds * self.sample_rate / self.hop + 1e-6)

    def encode(self, clip: Clip | None) -> Tensor:
        """Codes ``[K, F]`` of a clip; of none, none."""
        import torch

        if clip is None:
            return torch.zeros(self.codebooks, 0, dtype=torch.long, device=self._device)
        with torch.inference_mode():
            missing = -clip.length % self.hop if self._zero_padded else 0
            audio = torch.tensor(np.pad(clip.samples, [(0, 0), (0, missing)]), device=self._device)[None]
            found: Tensor = self.network.encode(audio, self.codebooks)[0]
            return found.long()

    def decode(self, codes: Tensor) -> Clip:
        """The clip of `codes` ``[K, F]``, of ``F`` times the hop samples."""
        import torch

        if not codes.shape[1]:
            return Clip(np.zeros((1, 0), np.float32), self.sample_rate)
        with torch.inference_mode():
            audio = self.network.decode(codes[None])[0, :, : codes.shape[1] * self.hop]
        return Clip(np.ascontiguousarray(audio.cpu().numpy()), self.sample_rate)

    def parameters(self) -> int:
        """Number of learnt parameters."""
        return sum(parameter.numel() for parameter in self.network.parameters())


def encodec_24khz(
    device: str, *, path: Path | None = None, seed: int | None = None, codebooks: int = 8, width: int = 32
) -> CodecTokens:
    """EnCodec at 24 kHz (75 frames a second, 1024 entries) from the released file at `path`, or random from a `seed`.

    Raises:
        InvalidSystem: The file is damaged, or another model's.
    """
    from codecbench.models.blocks.conv import ConvStyle
    from codecbench.models.blocks.inference import ready
    from codecbench.models.blocks.seanet import RELEASED_NAMES, TRAINING_STATE, SEANet, build, enliven

    net = SEANet(width=width, style=ConvStyle("weight", causal=True))
    network = build(net, codebooks if path is None else 32, 1024, seed=seed or 0)
    if path is None:
        enliven(network, seed or 0, level=0.1, output_level=0.1)
    else:
        state = weights.rename_keys(weights.read_state_dict(path), RELEASED_NAMES, drop=TRAINING_STATE)
        weights.load_state(network, state, path)
    return CodecTokens(ready(network, device), codebooks, net.hop, 24_000, device)
