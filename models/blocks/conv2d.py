"""Two-dimensional convolutions over spectrograms ``[B, C, bands, frames]``, with the padding of the released FunCodec.

Each axis is padded as by `Conv1d`, but for what the last window lacks: over bands it is left out, so bands that do not
fill a window are not seen, and over frames it is added on the left. A spectrogram whose frames are no multiple of
the stride thus comes out later by the frames that were added.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from codecbench.models.blocks.conv import ConvStyle, output_norm, split, weight_normalised

Pair = tuple[int, int]
"""A number for the bands and one for the frames."""


class Conv2d(nn.Module):
    """A convolution ``[B, C, K, N]`` to ``[B, C', floor(K / stride), ceil(N / stride)]``; it is not causal."""

    def __init__(
        self, inputs: int, outputs: int, kernel_size: Pair, *, stride: Pair = (1, 1), dilation: Pair = (1, 1),
        groups: int = 1, style: ConvStyle,
    ) -> None:  # fmt: skip
        super().__init__()
        conv = nn.Conv2d(inputs, outputs, kernel_size, stride, dilation=dilation, groups=groups)
        self.conv = weight_normalised(conv, style)
        self.norm = output_norm(outputs, style)
        self.stride = stride
        self.style = style
        bands, frames = ((k - 1) * d + 1 - s for k, d, s in zip(kernel_size, dilation, stride, strict=True))
        self.padding = split(bands, style), split(frames, style)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `x` ``[B, C, K, N]``, ``K`` and ``N`` at least 1."""
        bands, (left, right) = self.padding
        left += -x.shape[-1] % self.stride[1]
        return cast("Tensor", self.norm(self.conv(pad(x, bands, (left, right), self.style.padding))))


class ConvTranspose2d(nn.Module):
    """A transposed convolution ``[B, C, K, N]`` to ``[B, C', K * stride + extra, N * stride]``.

    `extra` bands at the top are kept that its mirror would not have seen.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel_size: Pair, *, stride: Pair, groups: int = 1, extra: int = 0,
        style: ConvStyle,
    ) -> None:  # fmt: skip
        super().__init__()
        self.conv = weight_normalised(nn.ConvTranspose2d(inputs, outputs, kernel_size, stride, groups=groups), style)
        self.norm = output_norm(outputs, style)
        (low, high), frames = (split(k - s, style) for k, s in zip(kernel_size, stride, strict=True))
        self.trim = (low, high - extra), frames

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `x` ``[B, C, K, N]``."""
        (low, high), (left, right) = self.trim
        x = self.norm(self.conv(x))
        return x[..., low : x.shape[-2] - high, left : x.shape[-1] - right]


def pad(x: Tensor, bands: Pair, frames: Pair, mode: str) -> Tensor:
    """Pad `x` ``[B, C, K, N]`` on both sides of both axes.

    As in one dimension, an axis that is too short to be mirrored is first extended with zeros, which are cut off again.
    """
    if not any((*bands, *frames)):
        return x
    low, early = (max(0, max(side) + 1 - size) if mode == "reflect" else 0
                  for side, size in zip((bands, frames), x.shape[-2:], strict=True))  # fmt: skip
    padded = functional.pad(functional.pad(x, (0, early, 0, low)), (*frames, *bands), mode)
    return padded[..., : padded.shape[-2] - low, : padded.shape[-1] - early]
