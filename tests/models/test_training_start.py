"""What a network of strided convolutions passes before it has learnt anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from codecbench.errors import InvalidSystem, UsageError
from codecbench.models import small
from codecbench.models.base import LoadOptions
from codecbench.models.training import state, transform
from codecbench.models.training.objective import reconstruct
from codecbench.models.training.trainer import begin

STRIDED = [system for system in small.FAMILIES if system.card.name != "funcodec-small"]


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
    # In two of them, noise that is loud enough for activations to bend comes with it.
    assert likeness(begun(system)) > (0.55 if system in (small.SmallEncodec, small.SmallDAC) else 0.75)
    assert likeness(untouched.eval()) < 0.15


def test_a_spectral_network_stays_as_it_is() -> None:
    network: Any = small.SmallFunCodec.network(0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    transform.begin(network)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@torch.no_grad()
@pytest.mark.parametrize("name", ["encodec-small", "funcodec-small"])
def test_a_training_may_begin_as_another_ended(name: str, tmp_path: Path) -> None:
    (system,) = (system for system in small.SYSTEMS if system.card.name == name)
    x = hum(3_200)
    trained: Any = system.filled(LoadOptions())
    latent = trained.encoder(x)
    for start in (name, str(small.FOLDER / f"{name}.safetensors")):
        network: Any = system.network(7)
        begin(network, start)
        assert any(".parametrizations." in key for key in network.state_dict()) == (name == "encodec-small")
        torch.testing.assert_close(network.encoder(x), latent, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(network.decoder(latent), trained.decoder(latent), rtol=1e-4, atol=1e-5)
    # Trained on and kept, it loads again.
    state.export(network, tmp_path / "again.safetensors", {"codec": name, "recipe": "{}"})
    again: Any = system.filled(LoadOptions(weights=tmp_path / "again.safetensors"))
    torch.testing.assert_close(again.encoder(x), latent, rtol=1e-2, atol=1e-2)


def test_a_start_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="'elsewhere' is neither transform, noise, a small codec with weights, nor"):
        begin(small.SmallSoundStream.network(0), "elsewhere")
    with pytest.raises(InvalidSystem, match="does not fit the model"):
        begin(small.SmallSoundStream.network(0), "hificodec-small")
    with pytest.raises(InvalidSystem, match="does not fit the model"):
        begin(small.SmallFunCodec.network(0), "encodec-small")


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
