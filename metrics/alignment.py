"""The delay, polarity and gain of a system, estimated over several recordings.

Each recording gives an estimate of its own: the peak of the cross-correlation of reference and output within
±100 ms, whitened by its magnitude to the power 0.8 (generalised cross-correlation, Knapp and Carter 1976), which makes
the peak of pitched sounds sharp. The peak's place to a hundredth of a sample is the delay, its sign the polarity; the
ratio of energies is the gain. A system has a constant delay only if its recordings agree: the largest group that
agrees to one sample decides, and if it is less than half of the recordings, the system has no alignment and gets none.
That is the rule for vocoders, whose output does not follow the waveform.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from codecbench.metrics.base import Alignment, Output, Reference

MAX_DELAY = 0.1
"""Seconds, either way."""
TOLERANCE = 1.0
"""Samples within which two recordings agree."""

Pair = tuple[Reference, Output]


def of_clip(reference: Reference, output: Output) -> Alignment | None:
    """The alignment that one recording shows, at its own rate; None if either signal is silent."""

    def compute() -> Alignment | None:
        if reference.silent or output.silent:
            return None
        delay, polarity = _peak(reference, output)
        energies = [float(np.sum(signal.samples.astype(np.float64) ** 2)) for signal in (reference, output)]
        return Alignment(delay, polarity, 10 * float(np.log10(energies[1] / energies[0])), reference.sample_rate)

    return output.memo("alignment", compute)


def estimate(pairs: Sequence[Pair]) -> Alignment:
    """The system's alignment, from recordings that it has coded.

    Delay and polarity are those of the largest group of recordings that agree, and 0 and 1 if that is less than
    half of them; the gain is the median. The neutral alignment if no recording has sound. The delay counts samples
    at the first recording's rate.
    """
    clips = _clips(pairs)
    if not clips:
        return Alignment()
    rate = clips[0].sample_rate
    gain = float(np.median([clip.gain_db for clip in clips]))
    delays = np.array([clip.delay * rate / clip.sample_rate for clip in clips])
    agree = np.abs(delays[:, None] - delays) <= TOLERANCE
    group = agree[np.argmax(agree.sum(axis=1))]
    if 2 * group.sum() < len(clips):
        return Alignment(0.0, 1, gain, rate)
    votes = sum(clip.polarity for clip, member in zip(clips, group, strict=True) if member)
    return Alignment(float(np.median(delays[group])), 1 if votes >= 0 else -1, gain, rate)


def stability(pairs: Sequence[Pair], alignment: Alignment) -> float:
    """Share of the recordings with sound that show `alignment`'s delay to one sample, and its polarity; 0 of none."""
    clips = _clips(pairs)
    agree = [
        clip.polarity == alignment.polarity
        and abs(clip.delay - alignment.delay * clip.sample_rate / alignment.sample_rate) <= TOLERANCE
        for clip in clips
    ]
    return sum(agree) / len(clips) if clips else 0.0


def _clips(pairs: Sequence[Pair]) -> list[Alignment]:
    return [clip for clip in (of_clip(*pair) for pair in pairs) if clip is not None]


def _peak(reference: Reference, output: Output) -> tuple[float, int]:
    """Delay in samples, with a fraction, and sign of the strongest peak of the whitened cross-correlation."""
    from scipy.fft import irfft, next_fast_len, rfft

    most = int(MAX_DELAY * reference.sample_rate)
    padded = next_fast_len(len(reference.samples) + most + 1, real=True)
    one, other = (rfft(signal.samples.astype(np.float64), padded) for signal in (reference, output))
    cross = np.conj(one) * other
    size = np.abs(cross)
    cross /= np.maximum(size, 1e-12 * size.max()) ** 0.8
    correlation = irfft(cross, padded)
    lags = np.arange(-most, most + 1)
    coarse = int(lags[np.argmax(np.abs(correlation[lags]))])
    left, middle, right = (float(correlation[(coarse + step) % padded]) for step in (-1, 0, 1))
    bend = left - 2 * middle + right
    start = coarse + (0.5 * (left - right) / bend if bend else 0.0)
    return _refine(cross, padded, start), 1 if middle >= 0 else -1


def _refine(cross: NDArray[np.complex128], padded: int, start: float) -> float:
    """The lag of the peak near `start`: Newton's method on the correlation as a function of a real lag."""
    turns = 2 * np.pi * np.arange(len(cross)) / padded
    lag = start
    for _ in range(4):
        turned = cross * np.exp(1j * turns * lag)
        slope, bend = turns @ turned.imag, turns**2 @ turned.real
        lag = float(np.clip(lag - slope / bend, start - 0.5, start + 0.5)) if bend else lag
    return lag
