"""SI-SDR: how much of the output is the reference's own waveform, whatever its gain (Le Roux et al. 2019).

- ``si_sdr``: output and reference as they are
- ``si_sdr_aligned``: after the system's delay, which is estimated over a corpus and has a fraction, is removed

The output is split into the part along the reference and the rest; the value is the ratio of their energies in dB. No
mean is removed. Gain and polarity drop out by the projection, so alignment only has to remove the delay.

How to read it: higher is better, no lower end, capped at 100 dB, where the rest is down to float32 rounding and an
identical output would be infinite. 0 dB: as much error as signal. A few samples of delay cost tens of dB, so a gap
between the two values tells of delay. Generative codecs do not keep the waveform: they are near or below 0 dB, however
good they sound; do not rank them by this.
"""

from __future__ import annotations

from math import ceil, log10

import numpy as np
from numpy.typing import NDArray

from codecbench.audio import Audio
from codecbench.metrics.base import Failed, Metric, Output, Reference, require_sound

CAP = 100.0


def ratio(reference: Audio, output: Audio) -> float:
    """SI-SDR in dB of `output` ``[T]`` against `reference` ``[T]``, at most 100.

    Raises:
        Failed: ``output_uncorrelated``: nothing in the output goes along with the reference.
    """
    original, coded = reference.astype(np.float64), output.astype(np.float64)
    energy = _inner(original, original)
    target = _inner(original, coded) / energy * original if energy else np.zeros_like(original)
    kept, rest = _inner(target, target), coded - target
    if not kept:
        raise Failed("output_uncorrelated")
    return min(CAP, 10 * log10(kept / max(_inner(rest, rest), kept * 10 ** (-CAP / 10))))


def _inner(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(np.sum(one * other))  # not BLAS, whose last digits depend on the number of threads


def advance(samples: Audio, delay: float) -> NDArray[np.float64]:
    """`samples` ``[T]`` earlier by `delay` samples, which may have a fraction; zeros come in from the ends."""
    from scipy.fft import irfft, next_fast_len, rfft, rfftfreq

    length = len(samples) + ceil(abs(delay))
    padded = next_fast_len(length + 64, real=True)  # room for the ripple of a fraction, which would wrap around
    turned = rfft(samples.astype(np.float64), padded) * np.exp(2j * np.pi * rfftfreq(padded) * delay)
    return np.asarray(irfft(turned, padded)[: len(samples)])


def si_sdr(reference: Reference, output: Output) -> float:
    """SI-SDR in dB, at most 100."""
    require_sound(reference, output)
    return ratio(reference.samples, output.samples)


def si_sdr_aligned(reference: Reference, output: Output) -> float:
    """SI-SDR in dB, at most 100, over the samples that both signals have once the delay is removed.

    Raises:
        Failed: As `ratio`, and ``delay_exceeds_clip``.
    """
    require_sound(reference, output)
    delay = output.alignment.delay * output.sample_rate / output.alignment.sample_rate
    if abs(delay) < 1e-3:
        return ratio(reference.samples, output.samples)
    first, last = ceil(max(0.0, -delay)), len(output.samples) - ceil(max(0.0, delay))
    if last <= first:
        raise Failed("delay_exceeds_clip")
    moved = advance(output.samples, delay)
    return ratio(reference.samples[first:last], moved[first:last].astype(np.float32))


METRICS = (
    Metric("si_sdr", "SI-SDR", "dB", "higher", si_sdr, perfect=CAP, parts=lambda: {"cap": "100dB"}),
    Metric(
        "si_sdr_aligned", "SI-SDR, delay removed", "dB", "higher", si_sdr_aligned, perfect=CAP,
        parts=lambda: {"cap": "100dB", "align": "system-delay-v1"},
    ),
)  # fmt: skip
