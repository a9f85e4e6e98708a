"""VGGish: 128 numbers for each 0.96 s of sound, from the weights of the port that FAD is computed with in PyTorch.

Mel bands of magnitudes from 125 to 7500 Hz at 16 kHz, their logarithms, six convolutions and three layers. The last
layer is taken before its rectifier, and without the principal components and the 8 bits of the release, as in the
package frechet-audio-distance. Hershey et al., "CNN Architectures for Large-Scale Audio Classification", ICASSP 2017.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from codecbench.audio import Audio
from codecbench.weights import WeightFile, load_state, read_state_dict

if TYPE_CHECKING:
    from torch import Tensor, nn

RATE, BANDS, FRAMES = 16_000, 64, 96
WINDOW, HOP, FFT = 400, 160, 512
LOWEST_HZ, HIGHEST_HZ = 125.0, 7500.0
OFFSET = 0.01
PLACES = (0, 3, 6, 8, 11, 13)
"""Where the convolutions stand among the layers of the release; after the first two and every second one, it pools."""

WEIGHTS = WeightFile(
    "vggish-10086976.pth",
    "https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth",
    "10086976",
    "Apache-2.0",
)


def load(path: Path) -> Callable[[Audio], Tensor]:
    """The network with the weights at `path`: maps samples ``[T]`` at 16 kHz to embeddings ``[F, 128]``."""
    import torch

    state = read_state_dict(path)
    network = _network(state)
    load_state(network, state, path)
    network.eval()

    def embed(samples: Audio) -> Tensor:
        return network["embeddings"](  # type: ignore[no-any-return]
            network["features"](torch.from_numpy(patches(samples))[:, None]).permute(0, 2, 3, 1).flatten(1)
        )

    return embed


def patches(samples: Audio) -> NDArray[np.float32]:
    """Logarithms of mel bands ``[F, 96, 64]`` of each 0.96 s of `samples` ``[T]``; what is left over is left out.

    Less than one patch is filled up with zeros.
    """
    least = (FRAMES - 1) * HOP + WINDOW
    whole = np.pad(samples.astype(np.float64), (0, max(0, least - len(samples))))
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    frames = sliding_window_view(whole, WINDOW)[::HOP] * hann
    mel = np.log(np.abs(np.fft.rfft(frames, FFT)) @ _filters() + OFFSET)
    count = len(mel) // FRAMES
    return mel[: count * FRAMES].reshape(count, FRAMES, BANDS).astype(np.float32)


@cache
def _filters() -> NDArray[np.float64]:
    """Triangles over the mel scale of HTK, ``[257, 64]``; the mean of the signal is in none."""
    bins, low, high = (
        1127 * np.log1p(hz / 700) for hz in (np.linspace(0, RATE / 2, FFT // 2 + 1), LOWEST_HZ, HIGHEST_HZ)
    )
    edges = np.linspace(low, high, BANDS + 2)
    rising = (bins[:, None] - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - bins[:, None]) / np.diff(edges)[1:]
    filters = np.maximum(0, np.minimum(rising, falling))
    filters[0] = 0
    return np.asarray(filters)


def _network(state: dict[str, Tensor]) -> nn.ModuleDict:
    """The layers, as wide as `state` has them: those of the release, or a test's."""
    from torch import nn

    features: list[nn.Module] = []
    for place in PLACES:
        wide, narrow = state[f"features.{place}.weight"].shape[:2]
        features += [nn.Conv2d(narrow, wide, 3, padding=1), nn.ReLU()]
        if place not in (6, 11):
            features.append(nn.MaxPool2d(2))
    shapes = [state[f"embeddings.{place}.weight"].shape for place in (0, 2, 4)]
    layers = [layer for wide, narrow in shapes for layer in (nn.Linear(narrow, wide), nn.ReLU())][:-1]
    return nn.ModuleDict({"features": nn.Sequential(*features), "embeddings": nn.Sequential(*layers)})
