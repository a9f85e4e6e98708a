"""Distances of mel spectra at several resolutions, in the forms of the codecs' papers and releases."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import sqrt
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbench.models.training.losses import magnitudes


@dataclass(frozen=True)
class Resolution:
    """One resolution of a mel distance.

    Attributes:
        window: In samples.
        step: In samples.
        bands: Mel bands from 0 Hz to the Nyquist frequency.
        linear: Weight of the mean absolute difference of mel spectra.
        log: Weight of the difference of their logarithms.
    """

    window: int
    step: int
    bands: int
    linear: float = 0.0
    log: float = 1.0


@dataclass(frozen=True)
class MelForm:
    """What the resolutions of a mel distance have in common.

    Attributes:
        resolutions: Their distances are added up.
        power: 1 for magnitudes, 2 for power spectra.
        squared: Logarithms differ by their mean square; otherwise by their mean absolute difference.
        scale: Slaney's mel scale with filters of unit area, or HTK's with filters of unit height.
        floor: Of a mel spectrum under the logarithm: less is raised to it. With `add_floor`, it is added instead.
        base: Of the logarithm, 10 or e.
        centred: Windows are centred on multiples of the step; otherwise they begin half of what they exceed it by
            before them. The signal is mirrored at its ends.
    """

    resolutions: tuple[Resolution, ...]
    power: int = 1
    squared: bool = False
    scale: Literal["slaney", "htk"] = "slaney"
    floor: float = 1e-5
    add_floor: bool = False
    base: Literal["10", "e"] = "10"
    centred: bool = True


def dac() -> MelForm:
    """DAC's: absolute differences of logarithms at seven resolutions of as many bands as they bear (section 3.4)."""
    pairs = ((5, 32), (10, 64), (20, 128), (40, 256), (80, 512), (160, 1024), (320, 2048))
    return MelForm(tuple(Resolution(window, window // 4, bands) for bands, window in pairs))


def encodec(windows: Sequence[int] = (64, 128, 256, 512, 1024)) -> MelForm:
    """EnCodec's: absolute differences, and squared ones of logarithms, of 64 bands (section 3.4).

    The weight of the latter is that of the release for training (AudioCraft): the root of the window less one.
    """
    scales = (Resolution(window, window // 4, 64, linear=1.0, log=sqrt(window - 1)) for window in windows)
    return MelForm(tuple(scales), power=2, squared=True, scale="htk", add_floor=True, centred=False)


def soundstream(windows: Sequence[int] = (64, 128, 256, 512, 1024, 2048)) -> MelForm:
    """SoundStream's: as EnCodec's, the logarithms weighted by the root of half the window (section III-E)."""
    scales = (Resolution(window, window // 4, 64, linear=1.0, log=sqrt(window / 2)) for window in windows)
    return MelForm(tuple(scales), squared=True, scale="htk", base="e")


def hifigan(windows: Sequence[int] = (1024,), bands: int = 80, step: int = 4) -> MelForm:
    """HiFi-GAN's, which AudioDec, HiFi-Codec and SpeechTokenizer use: absolute differences of natural logarithms.

    Steps are a `step`-th of the window.
    """
    return MelForm(tuple(Resolution(window, window // step, bands) for window in windows), base="e")


@cache
def filterbank(rate: int, window: int, bands: int, scale: Literal["slaney", "htk"]) -> Tensor:
    """Filters ``[bands, window // 2 + 1]``; those that no bin of a short window falls into are zero."""
    from codecbench import tolerant_torchaudio

    make = tolerant_torchaudio.load().functional.melscale_fbanks
    norm = "slaney" if scale == "slaney" else None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="At least one mel filterbank has all zero values")
        filters: Tensor = make(window // 2 + 1, 0.0, rate / 2, bands, rate, norm=norm, mel_scale=scale)
    return filters.t().contiguous()


class MelDistance(nn.Module):
    """Distance of waveforms ``[B, C, T]`` of `rate` Hz, as their mel spectra differ; 0 for equal ones."""

    def __init__(self, form: MelForm, rate: int) -> None:
        super().__init__()
        self.form = form
        self.rate = rate

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """The distance of `output` to `target`, a scalar."""
        total = torch.zeros((), device=output.device)
        for resolution in self.form.resolutions:
            one, other = (self.spectrum(x, resolution) for x in (output, target))
            if resolution.linear:
                total = total + resolution.linear * functional.l1_loss(one, other)
            if resolution.log:
                difference = functional.mse_loss if self.form.squared else functional.l1_loss
                total = total + resolution.log * difference(self._log(one), self._log(other))
        return total

    def spectrum(self, x: Tensor, resolution: Resolution) -> Tensor:
        """Mel spectra ``[B * C, bands, N]`` of `x` ``[B, C, T]``."""
        window, step = resolution.window, resolution.step
        if not self.form.centred:
            edge = (window - step) // 2
            # What the last window lacks of a whole one, for a window at every step.
            missing = -(x.shape[-1] + 2 * edge - window) % step
            x = functional.pad(functional.pad(x, (edge, edge), "reflect"), (0, missing))
        spectra = magnitudes(x, window, step, centred=self.form.centred).pow(self.form.power)
        return filterbank(self.rate, window, resolution.bands, self.form.scale).to(x.device) @ spectra

    def _log(self, mel: Tensor) -> Tensor:
        raised = mel + self.form.floor if self.form.add_floor else mel.clamp(min=self.form.floor)
        return raised.log10() if self.form.base == "10" else raised.log()
