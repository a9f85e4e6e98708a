"""STOI and ESTOI: how intelligible the output of a speech system is, given the original.

- ``stoi`` (Taal et al. 2011): mean correlation of short-time envelopes (384 ms) in 15 third-octave bands from 150 Hz,
  over the frames in which the reference is less than 40 dB below its loudest
- ``estoi`` (Jensen and Taal 2016): the same idea on whole normalised spectrograms; it also sees distortions that come
  and go, such as modulated noise

How to read it: a correlation; 1 is identical, higher is better. An unrelated output has about 0 ``estoi``, but up to
about 0.5 ``stoi``: compare with a noise control. Both are level-blind and see 130 Hz to 4.3 kHz only. Above 0.95 they
saturate and do not tell good codecs apart.

Both run at STOI's own 10 kHz. They agree with the package pystoi to 1e-6 at every rate: to that end they resample as it
and the authors' code do, since another resampler changes them by up to 1e-3. Where all 384 ms of an output's band are
digital silence, pystoi's ESTOI correlates noise that it adds; here such a band has no correlation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache, partial

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from codecbench.metrics.base import SPEECH, Metric, Output, Reference, Signal, Undefined, require_sound

Array = NDArray[np.float64]

RATE = 10_000
FRAME, HOP, FFT = 256, 128, 512
SEGMENT = 30
"""Frames that are correlated at a time: 384 ms."""
RANGE_DB = 40.0
CLIP = 1 + 10 ** (15 / 20)
"""What is louder than the reference by 15 dB counts as louder by 15 dB (Taal et al. 2011, equation 3)."""
REJECTION_DB = 60.0
TINY = float(np.finfo(np.float64).eps)
WINDOW: Array = np.hanning(FRAME + 2)[1:-1]


def stoi(reference: Reference, output: Output, extended: bool) -> float:
    """STOI, or ESTOI if `extended`, from -1 to 1.

    Raises:
        Undefined: ``ref_silent``, or ``too_short``: fewer than 30 frames of 25.6 ms are left without silence.
        Failed: ``output_silent``.
    """
    require_sound(reference, output)
    kept, original = reference.memo("stoi", lambda: _reference_bands(reference))
    coded = output.memo(f"stoi against {reference.digest}", lambda: bands(_frames(output)[kept]))
    segments = [sliding_window_view(signal, SEGMENT, axis=0) for signal in (original, coded)]
    value = (_extended if extended else _classic)(*segments)
    return round(value, 12)  # an identical output is 1, not 1 + 2e-16


def bands(frames: Array) -> Array:
    """Magnitudes ``[F - 1, 15]`` in third-octave bands of the signal that windowed `frames` ``[F, 256]`` add up to.

    The frames overlap by half. The last of the signal's frames is left out, as in the authors' code.
    """
    from scipy.fft import rfft

    joined = frames.copy()
    joined[1:, :HOP] += frames[:-1, HOP:]
    joined[:-1, HOP:] += frames[1:, :HOP]
    spectrum = rfft(joined[:-1] * WINDOW, FFT, axis=1)
    power = spectrum.real**2 + spectrum.imag**2
    return np.asarray(np.sqrt(np.add.reduceat(power[:, : _edges()[-1]], _edges()[:-1], axis=1)))


def _reference_bands(reference: Reference) -> tuple[NDArray[np.bool_], Array]:
    """Which frames of the reference are no silence, and its bands without the others."""
    frames = _frames(reference)
    level = 20 * np.log10(np.linalg.norm(frames, axis=1) + TINY)
    kept = level > level.max() - RANGE_DB
    if np.count_nonzero(kept) <= SEGMENT:
        raise Undefined("too_short")
    return kept, bands(frames[kept])


def _frames(signal: Signal) -> Array:
    """Windowed frames ``[F, 256]`` at 10 kHz."""
    samples = signal.memo("stoi samples", lambda: _resampled(signal))
    samples = samples[:-1]  # a frame that ends with the last sample is left out, as in the authors' code
    if len(samples) < FRAME:
        raise Undefined("too_short")
    return np.asarray(sliding_window_view(samples, FRAME)[::HOP] * WINDOW)


def _resampled(signal: Signal) -> Array:
    """The samples ``[T']`` at 10 kHz."""
    samples = signal.samples.astype(np.float64)
    if signal.sample_rate == RATE:
        return samples
    from scipy.signal import resample_poly

    common = math.gcd(RATE, signal.sample_rate)
    up, down = RATE // common, signal.sample_rate // common
    return np.asarray(resample_poly(samples, up, down, window=_low_pass(up, down)))


@cache
def _low_pass(up: int, down: int) -> Array:
    """The filter of Octave's ``resample``: a sinc in the Kaiser window for `REJECTION_DB` (Kaiser 1974)."""
    cutoff = 1 / (2 * max(up, down))
    half = math.ceil((REJECTION_DB - 8) / (28.714 * cutoff / 10))  # falls within a tenth of the pass band
    window = np.kaiser(2 * half + 1, 0.1102 * (REJECTION_DB - 8.7))
    taps = window * np.sinc(2 * cutoff * np.arange(-half, half + 1))
    return np.asarray(taps / taps.sum())


@cache
def _edges() -> NDArray[np.intp]:
    """The first bin of each of the 15 bands, and the end of the last: adjacent bands share an edge."""
    edges = 150 * 2 ** ((2 * np.arange(16) - 1) / 6)
    return np.asarray(np.round(edges * FFT / RATE), dtype=np.intp)


def _classic(original: Array, coded: Array) -> float:
    """Mean correlation over segments and bands ``[J, 15, 30]``, the output's level limited to the reference's."""
    gain = np.linalg.norm(original, axis=2, keepdims=True) / (np.linalg.norm(coded, axis=2, keepdims=True) + TINY)
    limited = np.minimum(coded * gain, original * CLIP)
    one, other = (x - x.mean(axis=2, keepdims=True) for x in (original, limited))
    norms = (np.sqrt(np.einsum("jbn,jbn->jb", x, x)) + TINY for x in (one, other))
    return float(np.mean(np.einsum("jbn,jbn->jb", one, other) / np.prod(list(norms), axis=0)))


def _extended(original: Array, coded: Array) -> float:
    """Mean correlation over segments and frames, after bands and then frames are set to mean 0 and norm 1."""
    one, other = (_normalise(_normalise(x, 2), 1) for x in (original, coded))
    return float(np.einsum("jbn,jbn->", one, other)) / (len(one) * SEGMENT)


def _normalise(values: Array, axis: int) -> Array:
    """`values` with mean 0 and norm 1 along `axis`; zeros where they do not vary by more than rounding."""
    centred = values - values.mean(axis=axis, keepdims=True)
    norm = np.linalg.norm(centred, axis=axis, keepdims=True)
    rounding = TINY * values.shape[axis] * (1 + np.abs(values).max(axis=axis, keepdims=True))
    return np.asarray(centred / np.where(norm > rounding, norm, np.inf))


def _parts() -> Mapping[str, str]:
    return {"impl": "codecbench", "resampler": "octave"}


def _metric(name: str, title: str, extended: bool) -> Metric:
    return Metric(
        name, title, "", "higher", partial(stoi, extended=extended), floor=-1.0, perfect=1.0, domains=SPEECH,
        min_seconds=0.4, parts=_parts, version=3,
    )  # fmt: skip


METRICS = (_metric("stoi", "STOI", extended=False), _metric("estoi", "ESTOI", extended=True))
