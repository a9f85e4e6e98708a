"""Discriminators of spectra."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbench.models.training.discriminators import Stack, Verdict, normalised


def spectrum(x: Tensor, window: int, step: int, *, size: int | None = None, centred: bool = True) -> Tensor:
    """Complex spectra ``[B, C, N, size // 2 + 1]`` of `x` ``[B, C, T]`` under a Hann window, `step` samples apart."""
    shape = torch.hann_window(window, dtype=x.dtype, device=x.device)
    flat = torch.stft(x.flatten(0, 1), size or window, step, window, shape, center=centred, return_complex=True)
    return flat.view(*x.shape[:2], *flat.shape[1:]).transpose(2, 3)


def _complex(x: Tensor) -> Tensor:
    return torch.cat([x.real, x.imag], dim=1)


def _conv2d(
    inputs: int, outputs: int, kernel_size: tuple[int, int], stride: tuple[int, int] = (1, 1), dilation: int = 1
) -> nn.Module:
    padding = dilation * (kernel_size[0] // 2), kernel_size[1] // 2
    return normalised(nn.Conv2d(inputs, outputs, kernel_size, stride, padding, (dilation, 1)))


class MultiScaleSTFT(nn.Module):
    """Judges complex spectra at several resolutions (EnCodec, arXiv:2210.13438, section 3.4); FunCodec's is the same.

    The first layer's weights are not normalised, as in the release.

    Args:
        windows: Lengths in samples, each four times its step.
        width: Channels of all layers.
        channels: Of the audio.
        slope: Of the leaky ReLUs.
    """

    def __init__(
        self, windows: Sequence[int] = (2048, 1024, 512, 256, 128), *, width: int = 32, channels: int = 1,
        slope: float = 0.2,
    ) -> None:  # fmt: skip
        super().__init__()
        self.windows = tuple(windows)
        self.stacks = nn.ModuleList(self._stack(width, channels, slope) for _ in windows)

    @staticmethod
    def _stack(width: int, channels: int, slope: float) -> Stack:
        dilated = (_conv2d(width, width, (3, 9), (1, 2), dilation) for dilation in (1, 2, 4))
        first = nn.Conv2d(2 * channels, width, (3, 9), padding=(1, 4))
        return Stack((first, *dilated, _conv2d(width, width, (3, 3))), _conv2d(width, 1, (3, 3)), slope)

    def forward(self, x: Tensor) -> list[Verdict]:
        """Judge `x` ``[B, C, T]``, at least as long as the longest window."""
        verdicts = []
        for stack, window in zip(self.stacks, self.windows, strict=True):
            power = torch.hann_window(window, dtype=x.dtype, device=x.device).pow(2).sum()
            verdicts.append(stack(_complex(spectrum(x, window, window // 4, centred=False) / power.sqrt())))
        return verdicts


BANDS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
"""Edges of DAC's bands, as parts of the spectrum."""


class MultiBandSTFT(nn.Module):
    """Judges complex spectra at several resolutions, band by band (DAC, arXiv:2306.06546, section 3.3).

    Args:
        windows: Lengths in samples, each four times its step.
        width: Channels of all layers.
        bands: Edges of the bands, from 0 to 1.
    """

    def __init__(
        self, windows: Sequence[int] = (2048, 1024, 512), *, width: int = 32, bands: Sequence[float] = BANDS
    ) -> None:
        super().__init__()
        self.windows, self.bands = tuple(windows), tuple(bands)
        self.stacks = nn.ModuleList(
            nn.ModuleList(nn.ModuleList(self._layers(width)) for _ in bands[1:]) for _ in windows
        )
        self.lasts = nn.ModuleList(_conv2d(width, 1, (3, 3)) for _ in windows)

    @staticmethod
    def _layers(width: int) -> list[nn.Module]:
        strided = [_conv2d(width, width, (3, 9), (1, 2)) for _ in range(3)]
        return [_conv2d(2, width, (3, 9)), *strided, _conv2d(width, width, (3, 3))]

    def forward(self, x: Tensor) -> list[Verdict]:
        """Judge `x` ``[B, 1, T]``, longer than three eighths of the longest window."""
        parts = zip(self.windows, self.stacks, self.lasts, strict=True)
        return [self._judge(x, window, cast("nn.ModuleList", stacks), last) for window, stacks, last in parts]

    def _judge(self, x: Tensor, window: int, stacks: nn.ModuleList, last: nn.Module) -> Verdict:
        step = window // 4
        edge, missing = (window - step) // 2, -x.shape[-1] % step
        # Two spectra at either end see little but the padding; without them there is one a step.
        whole = _complex(spectrum(functional.pad(x, (edge, edge + missing), "reflect"), window, step))[:, :, 2:-2]
        edges = [int(part * (window // 2 + 1)) for part in self.bands]
        features, ends = [], []
        for stack, (low, high) in zip(stacks, pairwise(edges), strict=True):
            band = whole[..., low:high]
            for conv in cast("nn.ModuleList", stack):
                band = functional.leaky_relu(conv(band), 0.1)
                features.append(band)
            ends.append(band)
        return Verdict(last(torch.cat(ends, dim=-1)), features)


class MultiResolution(nn.Module):
    """Judges magnitudes at several resolutions (UnivNet, arXiv:2106.07889), as AudioDec's ``univ`` models are trained.

    Args:
        resolutions: Size of the transform, step and window of each, in samples.
        width: Channels of all layers.
    """

    def __init__(
        self, resolutions: Sequence[tuple[int, int, int]] = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240)), *,
        width: int = 32,
    ) -> None:  # fmt: skip
        super().__init__()
        self.resolutions = tuple(resolutions)
        self.stacks = nn.ModuleList(self._stack(width) for _ in resolutions)

    @staticmethod
    def _stack(width: int) -> Stack:
        strided = (_conv2d(width, width, (3, 9), (1, 2)) for _ in range(3))
        hidden = (_conv2d(1, width, (3, 9)), *strided, _conv2d(width, width, (3, 3)))
        return Stack(hidden, _conv2d(width, 1, (3, 3)), 0.2)

    def forward(self, x: Tensor) -> list[Verdict]:
        """Judge `x` ``[B, 1, T]``."""
        verdicts = []
        for stack, (size, step, window) in zip(self.stacks, self.resolutions, strict=True):
            padded = functional.pad(x, (window // 2, window // 2))
            verdicts.append(stack(spectrum(padded, window, step, size=size).abs()))
        return verdicts


class ResidualUnit2d(nn.Module):
    """Two convolutions with ELU, the second strided over spectra and bins, beside a strided skip."""

    def __init__(self, inputs: int, outputs: int, stride: tuple[int, int]) -> None:
        super().__init__()
        size = stride[0] + 2, stride[1] + 2
        self.convs = nn.Sequential(
            nn.ELU(), _conv2d(inputs, inputs, (3, 3)),
            nn.ELU(), normalised(nn.Conv2d(inputs, outputs, size, stride, padding=1)),
        )  # fmt: skip
        self.skip = normalised(nn.Conv2d(inputs, outputs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        """Shorten `x` ``[B, C, N, K]`` by the stride."""
        y: Tensor = self.convs(x)
        # Of an odd number of spectra, the skip keeps one more.
        skipped: Tensor = self.skip(x)[:, :, : y.shape[2], : y.shape[3]]
        return y + skipped


class ResidualSTFT(nn.Module):
    """Judges complex spectra at one resolution, through residual units (SoundStream, arXiv:2107.03312, section III-D).

    The paper leaves open how a unit skips its convolutions; here, by one of width 1.
    """

    def __init__(self, window: int = 1024, *, width: int = 32) -> None:
        super().__init__()
        self.window = window
        widths = [width * times for times in (1, 2, 4, 4, 8, 8)]
        units = [ResidualUnit2d(*pair, (1 + i % 2, 2)) for i, pair in enumerate(pairwise([width, *widths]))]
        self.layers = nn.ModuleList([_conv2d(2, width, (7, 7)), *units])
        # Over all bins that six strides leave of half the window.
        self.last = normalised(nn.Conv2d(widths[-1], 1, (1, window // 2 >> 6)))

    def forward(self, x: Tensor) -> list[Verdict]:
        """Judge `x` ``[B, 1, T]``."""
        y = _complex(spectrum(x, self.window, self.window // 4))[..., :-1]
        features = []
        for layer in self.layers:
            y = layer(y)
            features.append(y)
        return [Verdict(self.last(functional.elu(y)), features)]
