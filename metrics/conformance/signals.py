"""The signals of the golden values: a reference that behaves like speech, and what was done to it.

Pure numpy with a frozen random stream, so that the tests and any other implementation make the same samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
Samples = NDArray[np.float32]


def noise(length: int, seed: int = 0) -> Samples:
    """White Gaussian noise of unit power."""
    return np.asarray(np.random.RandomState(seed).standard_normal(length), dtype=np.float32)


def speech(seconds: float = 3.0, rate: int = RATE, seed: int = 0) -> Samples:
    """Voiced syllables of gliding pitch with three formants, bursts of noise between them, and pauses."""
    time = np.arange(round(seconds * rate)) / rate
    pitch = 140 * 2 ** (0.35 * np.sin(2 * np.pi * 0.45 * time) - 0.08 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    voice = np.zeros(len(time))
    for harmonic in range(1, 40):
        frequency = harmonic * pitch
        gain = sum(
            level / (1 + ((frequency - centre * (1 + 0.15 * np.sin(2 * np.pi * rise * time))) / width) ** 2)
            for centre, width, level, rise in ((550, 90, 1.0, 1.1), (1500, 130, 0.5, 1.7), (2600, 180, 0.25, 2.3))
        )
        voice += np.where(frequency < rate / 2, gain, 0) * np.sin(harmonic * phase)
    syllable = np.clip(3 * np.sin(2 * np.pi * 2.5 * time) + 0.6, 0, 1) * (np.sin(2 * np.pi * 0.7 * time) > -0.7)
    burst = np.clip(4 * np.sin(2 * np.pi * 2.5 * time + np.pi) - 3, 0, 1)
    hiss = np.diff(noise(len(time) + 1, seed)) * burst * 0.05
    return np.asarray(0.15 * syllable * voice + hiss + 1e-4 * noise(len(time), seed + 1), dtype=np.float32)


def at_snr(reference: NDArray[np.floating[Any]], decibels: float, seed: int = 7) -> Samples:
    """`reference` with white noise at exactly that ratio of energies."""
    added = noise(len(reference), seed).astype(np.float64)
    power = np.sum(reference.astype(np.float64) ** 2) / np.sum(added**2)
    return np.asarray(reference + added * np.sqrt(power * 10 ** (-decibels / 10)), dtype=np.float32)


def late(reference: Samples, samples: int) -> Samples:
    """`reference` later by a whole number of samples, as long as before."""
    return np.concatenate([np.zeros(samples, dtype=np.float32), reference[: len(reference) - samples]])


def cases(reference: Samples) -> dict[str, Samples]:
    """The outputs that golden values are given for."""
    return {
        "identical": reference.copy(),
        "noise_20": at_snr(reference, 20),
        "noise_10": at_snr(reference, 10),
        "noise_0": at_snr(reference, 0),
        "late_5ms": late(reference, RATE // 200),
        "gain_half": reference * np.float32(0.5),
    }
