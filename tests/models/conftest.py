from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codecbench.audio import Audio, Clip
from codecbench.errors import InvalidSystem
from codecbench.models.base import Codec, Codes, LoadOptions
from codecbench.models.bitstream import pack, unpack


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


class Interface:
    """What the interface asks of every codec, whatever its weights."""

    @staticmethod
    def neighbours_change_nothing(codec: Codec, clips: Sequence[Clip]) -> None:
        point = codec.card.points[-1]
        together = codec.encode(clips, point)
        for audio, item, decoded in zip(clips, together, codec.decode(together), strict=True):
            (alone,) = codec.encode([audio], point)
            assert np.array_equal(np.stack(alone.streams), np.stack(item.streams))
            assert decoded.shape == audio.samples.shape
            np.testing.assert_allclose(codec.decode([alone])[0], decoded, rtol=0, atol=1e-5)

    @staticmethod
    def level_comes_back(codec: Codec, value: float, length: int = 1_000) -> Audio:
        """Code a clip of one value, such as silence; returns what it is decoded to."""
        audio = Clip(np.full((codec.card.channels or 1, length), value, np.float32), codec.card.sample_rate or 1)
        (decoded,) = codec.decode(codec.encode([audio], codec.card.points[-1]))
        assert decoded.dtype == np.float32
        assert decoded.shape == audio.samples.shape
        assert np.isfinite(decoded).all()
        return decoded

    @staticmethod
    def bits_that_hold_all(codec: Codec, codes: Codes) -> int:
        """The bits of `codes`, from whose bytes alone the same is decoded."""
        packed = pack(codes)
        (decoded,) = codec.decode([unpack(packed.to_bytes())])
        assert np.array_equal(decoded, codec.decode([codes])[0])
        return packed.bits

    @staticmethod
    def missing_weights_name_the_command(system: type[Codec]) -> None:
        with pytest.raises(InvalidSystem, match=f"`codecbench weights get {system.card.name}`.*--random-weights SEED"):
            system.load(LoadOptions())

    @staticmethod
    def weights_follow_the_seed(make: Callable[[int], Mapping[str, Any]]) -> None:
        """`make` returns the state of a network from a seed."""
        import torch

        state = torch.get_rng_state()
        one, same, other = (make(seed) for seed in (0, 0, 1))
        assert torch.equal(torch.get_rng_state(), state)
        assert all(torch.equal(tensor, same[name]) for name, tensor in one.items())
        assert not all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.fixture(scope="session")
def interface() -> type[Interface]:
    """The checks that all codecs share."""
    return Interface


@pytest.fixture
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file was downloaded yet."""
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path))
