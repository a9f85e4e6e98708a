"""Discriminators of waveforms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from codecbench.models.training.discriminators import Norm, Stack, Verdict, normalised


class MultiPeriod(nn.Module):
    """Judges every ``p``-th sample, for several periods ``p`` (HiFi-GAN, arXiv:2010.05646, section 2.3).

    Args:
        periods: In samples.
        width: Channels of the first layer; the others have 4, 16, 32 and 32 times as many.
        last_kernel_size: 3, or 2 as AudioDec has it.
        always_padded: Whole periods are extended by one more, as DAC does.
    """

    def __init__(
        self, periods: Sequence[int] = (2, 3, 5, 7, 11), *, width: int = 32, last_kernel_size: int = 3,
        always_padded: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.periods, self.always_padded = tuple(periods), always_padded
        self.stacks = nn.ModuleList(self._stack(width, last_kernel_size) for _ in periods)

    @staticmethod
    def _stack(width: int, last_kernel_size: int) -> Stack:
        widths = [1] + [width * times for times in (1, 4, 16, 32, 32)]
        strides = (3, 3, 3, 3, 1)
        hidden = (
            normalised(nn.Conv2d(inputs, outputs, (5, 1), (stride, 1), (2, 0)))
            for (inputs, outputs), stride in zip(pairwise(widths), strides, strict=True)
        )
        return Stack(hidden, normalised(nn.Conv2d(widths[-1], 1, (last_kernel_size, 1), padding=(1, 0))), 0.1)

    def forward(self, x: Tensor) -> list[Verdict]:
        """Judge `x` ``[B, 1, T]``."""
        return [stack(self._fold(x, period)) for stack, period in zip(self.stacks, self.periods, strict=True)]

    def _fold(self, x: Tensor, period: int) -> Tensor:
        missing = -x.shape[-1] % period or period * self.always_padded
        return functional.pad(x, (0, missing), "reflect").view(*x.shape[:-1], -1, period)


@dataclass(frozen=True)
class Wave:
    """The layers of a discriminator of waveforms.

    Attributes:
        layers: Channels (as multiples of the width), kernel size, stride and groups of each.
        width: What the channels are multiples of.
        slope: Of the leaky ReLUs.
        norms: Of each scale's weights.
        reflect: The first layer mirrors the signal at its ends; otherwise, like the others, it adds zeros.
        pool_padding: Of the average over 4 samples that leads to the next scale, of half the rate.
        pool_zeros: The zeros that are added count in the average.
    """

    layers: tuple[tuple[int, int, int, int], ...]
    width: int
    slope: float
    norms: tuple[Norm, ...]
    reflect: bool = False
    pool_padding: int = 2
    pool_zeros: bool = True


def hifigan(width: int = 128) -> Wave:
    """HiFi-GAN's layers (arXiv:2010.05646); groups of its layers need a `width` that is a multiple of 16."""
    layers = (
        (1, 15, 1, 1),
        (1, 41, 2, 4),
        (2, 41, 2, 16),
        (4, 41, 4, 16),
        (8, 41, 4, 16),
        (8, 41, 1, 16),
        (8, 5, 1, 1),
    )
    return Wave(layers, width, 0.1, ("spectral", "weight", "weight"))


def audiodec(width: int = 128) -> Wave:
    """AudioDec's: HiFi-GAN's with longer strides, and, in the release, no normalised weights."""
    layers = (
        (1, 15, 1, 1),
        (1, 41, 4, 4),
        (2, 41, 4, 16),
        (4, 41, 4, 16),
        (8, 41, 4, 16),
        (8, 41, 1, 16),
        (8, 5, 1, 1),
    )
    return Wave(layers, width, 0.1, ("none",) * 3)


def melgan(width: int = 16) -> Wave:
    """MelGAN's (arXiv:1910.06711), which SoundStream uses; groups of four channels."""
    layers = (
        (1, 15, 1, 1), (4, 41, 4, width // 4), (16, 41, 4, width), (64, 41, 4, 4 * width), (64, 41, 4, 16 * width),
        (64, 5, 1, 1),
    )  # fmt: skip
    return Wave(layers, width, 0.2, ("weight",) * 3, reflect=True, pool_padding=1, pool_zeros=False)


class MultiScale(nn.Module):
    """Judges the waveform at its rate, half of it, a quarter, and so on."""

    def __init__(self, wave: Wave) -> None:
        super().__init__()
        self.stacks = nn.ModuleList(self._stack(wave, norm) for norm in wave.norms)
        self.pool = nn.AvgPool1d(4, 2, wave.pool_padding, count_include_pad=wave.pool_zeros)

    @staticmethod
    def _stack(wave: Wave, norm: Norm) -> Stack:
        hidden, inputs = [], 1
        for i, (times, kernel_size, stride, groups) in enumerate(wave.layers):
            mode: Literal["reflect", "zeros"] = "reflect" if wave.reflect and i == 0 else "zeros"
            conv = nn.Conv1d(
                inputs, times * wave.width, kernel_size, stride, kernel_size // 2, groups=groups, padding_mode=mode
            )
            hidden.append(normalised(conv, norm))
            inputs = times * wave.width
        return Stack(hidden, normalised(nn.Conv1d(inputs, 1, 3, padding=1), norm), wave.slope)

    def forward(self, x: Tensor) -> list[Verdict]:
        """Judge `x` ``[B, 1, T]``."""
        verdicts = []
        for stack in self.stacks:
            verdicts.append(stack(x))
            x = self.pool(x)
        return verdicts
