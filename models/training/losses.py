"""What codecs are trained to make small, but for mel distances (`mel`): functions of waveforms and of verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from codecbench.models.training.discriminators import Verdict

Game = Literal["hinge", "squares"]
"""The adversarial loss: hinge, or least squares (arXiv:1611.04076)."""


def waveform(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of waveforms ``[B, C, T]``."""
    return functional.l1_loss(output, target)


def multi_scale_stft(output: Tensor, target: Tensor, windows: Sequence[int] = (2048, 512)) -> Tensor:
    """Mean absolute difference of magnitudes, and of their squares' logarithms to base 10, summed over `windows`.

    Of waveforms ``[B, C, T]``, in the form that DAC's release offers (after arXiv:2001.04643).
    """
    total = output.new_zeros(())
    for window in windows:
        one, other = (magnitudes(x, window, window // 4) for x in (output, target))
        total = total + functional.l1_loss(one, other)
        total = total + 2 * functional.l1_loss(one.clamp(1e-5).log10(), other.clamp(1e-5).log10())
    return total


def loudness(output: Tensor, target: Tensor, windows: Sequence[int] = (256, 512, 1024)) -> Tensor:
    """Mean absolute difference of STFT magnitudes to the power of 0.3, a mean over `windows`.

    Of waveforms ``[B, C, T]``. The power is near that by which loudness follows amplitude, as speech enhancement
    compresses spectra; unlike a logarithm, it lets silence be.
    """
    total = output.new_zeros(())
    for window in windows:
        one, other = (magnitudes(x, window, window // 4).clamp(min=1e-4).pow(0.3) for x in (output, target))
        total = total + functional.l1_loss(one, other)
    return total / len(windows)


def magnitudes(x: Tensor, window: int, step: int, *, centred: bool = True) -> Tensor:
    """Magnitudes ``[B * C, window // 2 + 1, N]`` of `x` ``[B, C, T]`` under a Hann window, in single precision."""
    x = x.flatten(0, 1).float()
    shape = torch.hann_window(window, device=x.device)
    spectra = torch.stft(x, window, step, window=shape, center=centred, return_complex=True)
    # The gradient of an absolute value at zero is none; there are zeros in digital silence.
    return (spectra.real.pow(2) + spectra.imag.pow(2)).clamp(min=1e-14).sqrt()


def fool(fake: Sequence[Verdict], game: Game) -> Tensor:
    """The generator's adversarial loss: how far the verdicts on its output are from real, a mean over them."""
    return _mean([-v.logits.mean() if game == "hinge" else (1 - v.logits).pow(2).mean() for v in fake])


def tell_apart(fake: Sequence[Verdict], real: Sequence[Verdict], game: Game) -> Tensor:
    """The discriminators' loss, a mean over the verdicts: 0 where they tell what is real from what is not."""
    if game == "hinge":
        each = [(1 + f.logits).relu().mean() + (1 - r.logits).relu().mean() for f, r in zip(fake, real, strict=True)]
    else:
        each = [f.logits.pow(2).mean() + (1 - r.logits).pow(2).mean() for f, r in zip(fake, real, strict=True)]
    return _mean(each)


def match_features(fake: Sequence[Verdict], real: Sequence[Verdict], *, relative: bool = False) -> Tensor:
    """Mean absolute difference of the features of output and target, a mean over layers and verdicts.

    With `relative`, each layer's is divided by the mean absolute feature of the target (EnCodec, section 3.4).
    """
    each = []
    for one, other in zip(fake, real, strict=True):
        for output, target in zip(one.features, other.features, strict=True):
            difference = functional.l1_loss(output, target.detach())
            each.append(difference / target.detach().abs().mean().clamp(min=1e-8) if relative else difference)
    return _mean(each)


def distil(first: Tensor, target: Tensor) -> Tensor:
    """SpeechTokenizer's loss for the first codebook (arXiv:2308.16692, equation 2).

    Args:
        first: What is predicted from its entries, ``[B, D, F]``.
        target: Features of the clip, ``[B, D, F]``.

    Returns:
        The mean over dimensions of ``-log sigmoid(cosine)``, the cosine taken along time.
    """
    return -functional.logsigmoid(functional.cosine_similarity(first, target, dim=-1)).mean()


def _mean(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean()
