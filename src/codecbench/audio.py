"""Audio as the benchmark holds it: clips of float32 samples, and the one resampler.

Values are in [-1, 1] nominally (full scale); nothing is clipped silently.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Audio: TypeAlias = NDArray[np.float32]
"""Samples ``[C, T]`` (or ``[T]`` where a function says so), float32."""


@dataclass(frozen=True, eq=False)
class Clip:
    """A recording: `samples` ``[C, T]`` float32, and its `sample_rate` in Hz."""

    samples: Audio
    sample_rate: int

    def __post_init__(self) -> None:
        if self.samples.ndim != 2 or self.samples.dtype != np.float32:
            raise ValueError(
                f"a clip's samples are float32 [C, T], got {self.samples.dtype} {list(self.samples.shape)}"
            )

    @property
    def channels(self) -> int:
        """Number of channels, ``C``."""
        return int(self.samples.shape[0])

    @property
    def length(self) -> int:
        """Number of samples a channel, ``T``."""
        return int(self.samples.shape[1])

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.length / self.sample_rate


@cache
def resampler_signature() -> str:
    """Name and version of the resampler, part of every metric's signature."""
    from importlib.metadata import version

    return f"soxr-{version('soxr')}-VHQ"


def resample(samples: Audio, rate_from: int, rate_to: int) -> Audio:
    """Resample `samples` ``[C, T]`` or ``[T]`` from `rate_from` to `rate_to` Hz.

    The one resampler of the benchmark: soxr at its "very high quality" setting (linear phase, passband to
    0.95 of the lower Nyquist frequency). Equal rates return the same object: no filter touches the samples.
    The result has ``round(T * rate_to / rate_from)`` samples.
    """
    if rate_from == rate_to:
        return samples
    import soxr

    expected = round(samples.shape[-1] * rate_to / rate_from)
    out = np.asarray(soxr.resample(samples.T, rate_from, rate_to, quality="VHQ"), dtype=np.float32).T
    return fit_length(np.ascontiguousarray(out), expected)


def fit_length(samples: Audio, length: int) -> Audio:
    """Cut `samples` ``[..., T]`` to `length`, or extend them with zeros.

    For the sample or so that resampling rounds by; never a repair of a system's wrong length.
    """
    missing = length - samples.shape[-1]
    if missing <= 0:
        return samples[..., :length]
    return np.pad(samples, [(0, 0)] * (samples.ndim - 1) + [(0, missing)])
