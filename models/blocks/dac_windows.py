"""DAC at 44.1 kHz in windows: how its release codes clips of any length in little memory."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbench.models.blocks.dac import DACNetwork

SECOND = 44_100
"""Samples of the longest clip that is coded at once."""
WINDOW, MARGIN = 44_544, 7_904
"""Samples that a window takes in, and those of them before the first that it puts out."""
STRIDE, FRAMES = 28_522, 72
"""Samples that a window puts out, and its frames."""


class WindowedDAC(nn.Module):
    """A network made ready to run, which codes clips of more than a second without padding, in windows.

    Windows overlap, so that all convolutions see what is around them. Transposed ones lack a frame at either end of a
    window: up to 500 samples from a seam, the output is not what it is inside a window.
    """

    def __init__(self, network: DACNetwork) -> None:
        super().__init__()
        self.net = network.net
        self.whole = network
        tensors = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
        self.inner = deepcopy(network, tensors)
        for part in self.inner.modules():
            if isinstance(part, nn.Conv1d | nn.ConvTranspose1d):
                part.padding = (0,)

    def encode(self, x: Tensor, codebooks: int | None = None) -> Tensor:
        """Codes ``[B, K, F]`` of the waveform `x` ``[B, 1, T]``."""
        length = x.shape[-1]
        if length <= SECOND:
            return self.whole.encode(functional.pad(x, (0, -length % self.net.hop)), codebooks)
        x = functional.pad(x, (MARGIN, WINDOW))
        windows = [x[..., start : start + WINDOW] for start in range(0, length, STRIDE)]
        return torch.cat([self.inner.encode(window, codebooks) for window in windows], dim=-1)

    def decode(self, codes: Tensor) -> Tensor:
        """Waveform ``[B, 1, T]`` of `codes` ``[B, K, F]``, at least as long as what was encoded."""
        if codes.shape[-1] * self.net.hop < SECOND + self.net.hop:
            return self.whole.decode(codes)
        return torch.cat([self.inner.decode_raw(window) for window in torch.split(codes, FRAMES, dim=-1)], dim=-1)
