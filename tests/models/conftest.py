from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from codecbench.audio import Audio


def speech(length: int, sample_rate: int, seed: int = 0) -> Audio:
    """Samples ``[T]`` shaped like speech: syllables of gliding harmonics with formants, and of noise, in turn."""
    rng = np.random.RandomState(seed)
    seconds = np.arange(length) / sample_rate
    pitch = 2 * np.pi * np.cumsum(120 + 18 * np.sin(4.4 * seconds)) / sample_rate
    voiced = np.zeros(length)
    for harmonic in range(1, int(min(4000, 0.45 * sample_rate) / 130)):
        formants = ((500, 200), (1500, 300), (2500, 400))
        weight = 0.02 + sum(np.exp(-(((130 * harmonic - f) / width) ** 2)) for f, width in formants)
        voiced += weight * np.cos(harmonic * pitch + 2 * np.pi * rng.rand())
    syllable = np.sin(2 * np.pi * 3.1 * seconds)
    samples = voiced * np.maximum(syllable + 0.3, 0) + 0.3 * rng.randn(length) * np.maximum(-syllable - 0.5, 0)
    return np.asarray(0.3 * samples / max(np.abs(samples).max(), 1e-9) + 1e-4 * rng.randn(length), np.float32)


@pytest.fixture(scope="session")
def make_speech() -> Callable[..., Audio]:
    """The function that makes samples shaped like speech: ``(length, sample_rate, seed=0) -> [T]``."""
    return speech
