"""Checkpoints in a release's own format, filled from a seed, and the clips that are coded with them.

Pure numpy with a frozen random stream, so that the tests and a release's own code get the same weights. A checkpoint of
a trained codec is too large to keep; all that is kept of one is its tensors' names and shapes, and the mean and the
deviation of what each codebook has to quantise. Without those, every frame would take the same code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
Shapes = Mapping[str, Sequence[int]]

SPREAD = 0.3
"""Deviation of a codebook's entries, as a fraction of that of what it quantises."""


def content(shapes: Shapes, seed: int, gain: float) -> dict[str, Samples]:
    """Every tensor but the codebooks, by its name.

    Each is uniform, within bounds that keep a signal's level about constant, times `gain` at each normalised
    convolution. What training alone needs is zero.
    """
    state = {}
    for index, (name, shape) in enumerate(sorted(shapes.items())):
        low, high = _bounds(name, shape, gain)
        uniform = np.random.RandomState([seed, index]).random_sample(tuple(shape))
        state[name] = np.asarray(low + (high - low) * uniform, np.float32)
    return state


def _bounds(name: str, shape: Sequence[int], gain: float) -> tuple[float, float]:
    last = name.rpartition(".")[2]
    if last in ("inited", "cluster_size", "embed_avg"):
        return 0.0, 0.0
    if last == "weight_g":
        return 0.8 * gain, 1.4 * gain
    if last == "alpha" or (last == "weight" and len(shape) == 1):
        return 0.5, 1.5
    if last.startswith("bias"):
        return -0.05, 0.05
    bound = (3 / float(np.prod(shape[1:]))) ** 0.5
    return -bound, bound


def codebook(mean: NDArray[np.float16], deviation: float, size: int, seed: int) -> Samples:
    """Entries ``[size, D]`` around `mean` ``[D]``."""
    normal = np.random.RandomState(seed).standard_normal((size, len(mean)))
    return np.asarray(mean.astype(np.float64) + SPREAD * deviation * normal, np.float32)


def clip(length: int) -> Samples:
    """Noise ``[length]`` that grows from silence to an RMS of 0.2."""
    normal = np.random.RandomState(length).standard_normal(length)
    return np.asarray(0.2 * np.arange(1, length + 1) / length * normal, np.float32)


def excerpt(samples: Samples) -> Samples:
    """What is kept of a waveform ``[T]``: both ends, and samples from all over it."""
    if len(samples) <= 600:
        return samples
    return np.concatenate([samples[:200], samples[:: len(samples) // 200][:200], samples[-200:]])


def distribution(k: int, size: int = 1024) -> Samples:
    """A distribution ``[size]``: even for even `k`, of differing steepness for odd ones.

    Of products, an exact sum and a division, which no machine rounds otherwise.
    """
    base = np.random.RandomState(k).randint(1, 1000, size).astype(np.float64)
    weight = base
    for _ in range(k % 2 * (k % 11)):
        weight = weight * base
    return np.asarray(weight / fsum(weight), np.float32)


def symbols(count: int = 400) -> list[int]:
    """A likely symbol of each `distribution` in turn, and now and then any."""
    draw = np.random.RandomState(count)
    return [int(draw.randint(1024) if k % 7 == 0 else distribution(k).argmax()) for k in range(count)]
