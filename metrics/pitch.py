"""Pitch: whether the output of a speech system keeps intonation and voicing.

- ``f0_corr``: Pearson correlation of the fundamental frequencies in Hz, over the frames voiced in both signals
- ``f0_rmse``: their root-mean-square difference in cents (1200 a doubling), over the same frames
- ``vuv_error``: share of frames in which only one of the two is voiced

How to read them: a correlation of 1, 0 cents and 0 are identical. 5 cents is hardly audible, 100 is a semitone. One
jump by an octave is 1200 cents, so ``f0_rmse`` above 200 mostly counts jumps. Frames that lost their voicing are in
``vuv_error`` alone: read the three together.

The pitch tracker is the autocorrelation method of Boersma (1993), at the settings that Praat uses by default: 75 to
600 Hz, a frame every 10 ms, at 16 kHz. Nothing is warped in time: output and reference are parallel.
"""

from __future__ import annotations

from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from codecbench.audio import Audio
from codecbench.metrics.base import SPEECH, Failed, Metric, Output, Reference, Signal, Undefined, require_sound

Array: TypeAlias = NDArray[np.float64]

RATE, HOP = 16_000, 160
LOWEST, HIGHEST = 75.0, 600.0
WINDOW = int(3 * RATE / LOWEST)
"""Three periods of the lowest pitch."""
CANDIDATES = 15
SILENCE_THRESHOLD, VOICING_THRESHOLD = 0.03, 0.45
OCTAVE_COST, JUMP_COST, VOICING_COST = 0.01, 0.35, 0.14
MIN_FRAMES = 10
"""Fewer frames in common (100 ms) say nothing of intonation."""
MONOTONE = 1e-4
"""Relative deviation of a pitch contour (0.2 cents) under which it is constant but for rounding."""


def track(samples: Audio) -> Array:
    """Fundamental frequency ``[F]`` in Hz of `samples` ``[T]`` at 16 kHz; 0 where a frame is unvoiced.

    Frame ``f`` is centred on sample ``320 + 160 * f``; there are none if the samples do not fill one window.
    """
    if len(samples) < WINDOW:
        return np.zeros(0)
    centred = samples.astype(np.float64) - np.mean(samples, dtype=np.float64)
    frames = sliding_window_view(centred, WINDOW)[::HOP]
    frames = frames - frames.mean(axis=1, keepdims=True)
    period = int(RATE / LOWEST / 2)
    middle = frames[:, WINDOW // 2 - period : WINDOW // 2 + period + 1]
    intensity = np.abs(middle).max(axis=1) / max(float(np.abs(centred).max()), 1e-12)
    pitch, strength = _candidates(frames)
    silence = 2 - intensity / SILENCE_THRESHOLD * (1 + VOICING_THRESHOLD)
    strength[:, 0] = VOICING_THRESHOLD + np.maximum(0, silence)
    return _best_path(pitch, strength)


def _candidates(frames: Array) -> tuple[Array, Array]:
    """The likeliest pitches ``[F, 15]`` of frames ``[F, WINDOW]`` and their strengths; the first is 0, "unvoiced"."""
    window = np.hanning(WINDOW + 2)[1:-1]
    longest = int(RATE / LOWEST) + 2
    size = 2048  # holds the window and the longest lag, so that nothing wraps around
    power, of_window = (np.abs(np.fft.rfft(x, size)) ** 2 for x in (frames * window, window))
    shape = np.fft.irfft(of_window, size)[: longest + 1]
    correlation = np.fft.irfft(power, size, axis=1)[:, : longest + 1]
    correlation /= np.maximum(correlation[:, :1], 1e-30) * (shape / shape[0])
    left, middle, right = correlation[:, :-2], correlation[:, 1:-1], correlation[:, 2:]
    peak = (middle >= left) & (middle > right) & (middle > VOICING_THRESHOLD / 2)
    bend = np.where(peak, left - 2 * middle + right, -1.0)
    offset = np.where(peak, (left - right) / (2 * bend), 0.0)
    height = middle - (left - right) * offset / 4
    height = np.where(height > 1, 1 / np.maximum(height, 1), height)
    pitch = RATE / (np.arange(1, longest) + offset)
    usable = peak & (pitch >= LOWEST) & (pitch <= HIGHEST)
    strength = np.where(usable, height - OCTAVE_COST * np.log2(HIGHEST / pitch), -np.inf)
    best = np.argpartition(-strength, CANDIDATES - 2, axis=1)[:, : CANDIDATES - 1]
    unvoiced = np.zeros((len(frames), 1))
    return (
        np.concatenate([unvoiced, np.take_along_axis(pitch, best, axis=1)], axis=1),
        np.concatenate([unvoiced, np.take_along_axis(strength, best, axis=1)], axis=1),
    )


def _best_path(pitch: Array, strength: Array) -> Array:
    """The path ``[F]`` through the candidates with the greatest strength less the costs of jumps (Viterbi)."""
    voiced = pitch > 0
    octave = np.log2(np.where(voiced, pitch, 1))
    both = voiced[1:, None, :] & voiced[:-1, :, None]
    change = voiced[1:, None, :] != voiced[:-1, :, None]
    cost = both * JUMP_COST * np.abs(octave[1:, None, :] - octave[:-1, :, None]) + change * VOICING_COST
    total = strength[0]
    origins = np.zeros(pitch.shape, dtype=np.intp)
    every = np.arange(pitch.shape[1])
    for frame in range(1, len(pitch)):
        arriving = total[:, None] - cost[frame - 1]
        origins[frame] = arriving.argmax(axis=0)
        total = arriving[origins[frame], every] + strength[frame]
    path = np.zeros(len(pitch), dtype=np.intp)
    path[-1] = total.argmax()
    for frame in range(len(pitch) - 1, 0, -1):
        path[frame - 1] = origins[frame, path[frame]]
    return pitch[np.arange(len(pitch)), path]


def contour(signal: Signal) -> Array:
    """`track` of the signal at 16 kHz."""
    return signal.memo("f0", lambda: track(signal.at(RATE)))


def _contours(reference: Reference, output: Output) -> tuple[Array, Array]:
    require_sound(reference, output)
    original, coded = contour(reference), contour(output)
    if not len(original):
        raise Undefined("too_short")
    return original, coded


def _common(reference: Reference, output: Output) -> tuple[Array, Array]:
    """Both contours ``[F']`` over the frames voiced in both.

    Raises:
        Undefined: ``ref_silent``, ``too_short``, or ``ref_unvoiced``: fewer than 10 voiced frames.
        Failed: ``output_silent``, ``output_unvoiced``, or ``few_common_frames``: fewer than 10.
    """
    original, coded = _contours(reference, output)
    if np.count_nonzero(original) < MIN_FRAMES:
        raise Undefined("ref_unvoiced")
    if not coded.any():
        raise Failed("output_unvoiced")
    both = (original > 0) & (coded > 0)
    if np.count_nonzero(both) < MIN_FRAMES:
        raise Failed("few_common_frames")
    return original[both], coded[both]


def f0_corr(reference: Reference, output: Output) -> float:
    """Correlation of the pitch contours, from -1 to 1.

    Raises:
        Undefined: As `_common`, and ``ref_monotone``: the reference's pitch never changes.
        Failed: As `_common`, and ``output_monotone``: the pitch does not change over the common frames.
    """
    original, coded = _common(reference, output)
    whole = contour(reference)
    if _constant(whole[whole > 0]):
        raise Undefined("ref_monotone")
    if _constant(original) or _constant(coded):
        raise Failed("output_monotone")
    return round(float(np.corrcoef(original, coded)[0, 1]), 12)


def _constant(pitch: Array) -> bool:
    return bool(pitch.std() < MONOTONE * pitch.mean())


def f0_rmse(reference: Reference, output: Output) -> float:
    """Root-mean-square difference of the pitch contours in cents, from 0 up."""
    original, coded = _common(reference, output)
    return float(np.sqrt(np.mean((1200 * np.log2(coded / original)) ** 2)))


def vuv_error(reference: Reference, output: Output) -> float:
    """Share of frames with a different voicing decision, from 0 to 1."""
    original, coded = _contours(reference, output)
    return float(np.mean((original > 0) != (coded > 0)))


_metric = partial(
    Metric, domains=SPEECH, parts=lambda: {"f0": "boersma93-ac", "range": "75-600Hz", "hop": "10ms", "rate": "16k"}
)
METRICS = (
    _metric("f0_corr", "Pitch correlation", "", "higher", f0_corr, floor=-1.0, perfect=1.0),
    _metric("f0_rmse", "Pitch error", "cents", "lower", f0_rmse, perfect=0.0),
    _metric("vuv_error", "Voicing error", "", "lower", vuv_error, floor=1.0, perfect=0.0),
)
