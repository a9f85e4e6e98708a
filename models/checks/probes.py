"""The signals that the checks send through a system: made from seeds, the same everywhere."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from codecbench.audio import Audio, Clip

CONTROL_RATE = 16_000
"""Of the clips for a system that runs at any rate, in Hz."""


def frozen(samples: NDArray[np.floating], sample_rate: int) -> Clip:
    """A clip of `samples` ``[C, T]`` that nobody can write to."""
    own = np.array(samples, np.float32, order="C")
    own.setflags(write=False)
    return Clip(own, sample_rate)


def speechlike(length: int, sample_rate: int, seed: int = 0) -> NDArray[np.float64]:
    """Samples ``[T]`` of bursts of harmonics on a gliding pitch, with bursts of noise between; peak about 0.5."""
    rng = np.random.default_rng(seed)
    seconds = np.arange(length) / sample_rate
    pitch = rng.uniform(90, 220) * (1 + 0.15 * np.sin(2 * np.pi * rng.uniform(1, 3) * seconds))
    phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
    formant = rng.uniform(400, 1200)
    partials = [n for n in range(1, 40) if n * 260 < 0.45 * sample_rate]
    tone = sum(np.exp(-abs(n * 150 - formant) / 700) * np.cos(n * phase + rng.uniform(0, 6)) for n in partials)
    gate = np.sin(2 * np.pi * rng.uniform(4, 7) * seconds + rng.uniform(0, 6))
    mixed = tone * np.maximum(gate + 0.2, 0) + 2 * rng.standard_normal(length) * np.maximum(-gate - 0.4, 0)
    return np.asarray(0.5 * mixed / max(float(np.abs(mixed).max(initial=0)), 1e-9) + 1e-4 * rng.standard_normal(length))


def quiet(length: int, sample_rate: int) -> NDArray[np.float64]:
    """The speech-like signal at -90 dBFS: about one step of 16 bits."""
    samples = speechlike(length, sample_rate)
    return np.asarray(samples * 10 ** (-90 / 20) / max(float(np.sqrt(np.mean(samples**2))), 1e-9))


@cache
def _mel_filters(sample_rate: int, size: int, bands: int = 40) -> NDArray[np.float64]:
    """Triangles ``[M, N]`` evenly spaced on the mel scale (O'Shaughnessy's) from 50 Hz to the Nyquist frequency."""
    edges = np.linspace(2595 * np.log10(1 + 50 / 700), 2595 * np.log10(1 + sample_rate / 1400), bands + 2)
    hertz = 700 * (10 ** (edges / 2595) - 1)
    bins = np.fft.rfftfreq(size, 1 / sample_rate)
    rise = (bins - hertz[:-2, None]) / np.diff(hertz)[:-1, None]
    fall = (hertz[2:, None] - bins) / np.diff(hertz)[1:, None]
    return np.asarray(np.maximum(np.minimum(rise, fall), 0), np.float64)


def _log_mel(samples: NDArray[np.floating], sample_rate: int) -> NDArray[np.float64]:
    size = 2 ** int(np.log2(0.04 * sample_rate))
    padded = np.pad(np.asarray(samples, np.float64), (size // 2, size))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[:: size // 2] * np.hanning(size)
    return np.asarray((np.abs(np.fft.rfft(frames)) ** 2) @ _mel_filters(sample_rate, size).T)


def mel_distance(reference: Audio, other: Audio, sample_rate: int) -> float:
    """Root mean square difference in dB of the log-mel spectra of ``[C, T]``, channels averaged.

    What lies 50 dB or more below the reference's loudest band is one floor: it says nothing of a codec.
    """
    wanted, found = (_log_mel(x.mean(axis=0), sample_rate) for x in (reference, other))
    floor = max(float(wanted.max()) * 1e-5, 1e-12)
    difference = 10 * np.log10(np.maximum(wanted, floor) / np.maximum(found, floor))
    return float(np.sqrt(np.mean(difference**2)))


def lag(reference: Audio, output: Audio, furthest: int) -> tuple[int, float]:
    """By how many samples `output` ``[C, T]`` is late of `reference`, and their normalised correlation there.

    Looked for among ``-furthest .. furthest``; polarity does not matter.
    """
    x, y = (np.asarray(a.mean(axis=0), np.float64) for a in (reference, output))
    size = 2 ** int(np.ceil(np.log2(2 * len(x) + 1)))
    product = np.fft.irfft(np.conj(np.fft.rfft(x, size)) * np.fft.rfft(y, size), size)
    lags = np.arange(-furthest, furthest + 1)
    found = product[lags] / max(float(np.linalg.norm(x) * np.linalg.norm(y)), 1e-12)
    best = int(np.argmax(np.abs(found)))
    return int(lags[best]), float(abs(found[best]))
