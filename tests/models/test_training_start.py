"""What a network of strided convolutions passes before it has learnt anything."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from codecbench.models import small
from codecbench.models.training import transform
from codecbench.models.training.objective import reconstruct

STRIDED = [system for system in small.SYSTEMS if system.card.name != "funcodec-small"]


def hum(samples: int = 12_800) -> torch.Tensor:
    """Harmonics below 700 Hz at the level of speech, ``[1, 1, T]``."""
    time = torch.arange(samples) / small.SAMPLE_RATE
    tones = sum(torch.sin(2 * torch.pi * frequency * time + frequency) for frequency in (110, 220, 330, 550))
    return 0.04 * torch.as_tensor(tones)[None, None]


def begun(system: type[small.Small]) -> Any:
    network = system.network(0)
    small.enliven(network, 0)
    transform.begin(network)
    return network.eval()


@torch.no_grad()
def likeness(network: Any) -> float:
    """Correlation of what comes out with what went in, at the best lag within a frame."""
    x = hum()
    y = reconstruct(network, x, None, quantised=False).output[0, 0].numpy()
    inner = x[0, 0, 3200:-3200].numpy()
    found = np.correlate(y[3200 - small.HOP : len(y) - 3200 + small.HOP], inner, "valid")
    windows = np.lib.stride_tricks.sliding_window_view(y[3200 - small.HOP : len(y) - 3200 + small.HOP], len(inner))
    return float(np.max(found / np.linalg.norm(windows, axis=1) / np.linalg.norm(inner)))


@pytest.mark.parametrize("system", STRIDED, ids=lambda system: system.card.name)
def test_low_frequencies_pass_from_the_first_step_on(system: type[small.Small]) -> None:
    untouched = system.network(0)
    small.enliven(untouched, 0)
    assert likeness(begun(system)) > 0.75
    assert likeness(untouched.eval()) < 0.6


def test_a_spectral_network_stays_as_it_is() -> None:
    network: Any = small.SmallFunCodec.network(0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    transform.begin(network)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_cosines_are_orthonormal_and_scipys(size: int) -> None:
    from scipy.fft import dct

    rows = transform.cosines(size)
    np.testing.assert_allclose(rows @ rows.T, np.eye(size), atol=1e-6)
    x = np.random.default_rng(size).standard_normal(size)
    np.testing.assert_allclose(rows.numpy() @ x, dct(x, norm="ortho"), atol=1e-6)


def test_bands_are_sorted_by_frequency() -> None:
    # The second of two bands is upside down: its last coefficient is the lowest.
    assert transform.split(2, 3, 6) == [(0, 0), (0, 1), (0, 2), (1, 2), (1, 1), (1, 0)]
    assert transform.split(2, 3, 4) == [(0, 0), (0, 1), (0, 2), (1, 2)]
