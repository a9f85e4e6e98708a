"""DAC against values from the released package; ``tests/golden/regenerate_dac.py`` says how. Windows and loudness."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from codecbench.audio import Clip
from codecbench.benchmark.coding import check_codes
from codecbench.models.base import Codes, LoadOptions
from codecbench.models.bitstream import pack, unpack
from codecbench.models.blocks import dac_windows
from codecbench.models.blocks.dac import DACNetwork, DACShape
from codecbench.models.dac import DAC, DAC16, DAC44
from codecbench.models.dac_chunked import DAC44Chunked
from codecbench.models.loudness import FLOOR, loudness

FOLDER = Path(__file__).parents[1] / "golden"
RECIPE = runpy.run_path(str(FOLDER / "checkpoints.py"))
SEED, GAIN = 1, 0.65
TIE = 1e-6
"""Relative margin between the best and the second-best entry below which rounding may choose either."""


def narrow(system: type[DAC]) -> type[DAC]:
    """`system` with an eighth of the channels."""

    class Narrow(system):  # type: ignore[misc, valid-type]
        @classmethod
        def shape(cls) -> DACShape:
            return replace(system.shape(), width=8, decoder_width=48, dimension=128)

    return Narrow


class Golden:
    """A codec with the weights of the golden values, and those values."""

    def __init__(self, system: type[DAC], folder: Path) -> None:
        self.values = np.load(FOLDER / f"{system.card.name}.npz")
        self.lengths = sorted(int(name.split("_")[1]) for name in self.values if name.startswith("codes_"))
        shapes = json.loads(str(self.values["shapes"]))
        state = {name: torch.from_numpy(tensor) for name, tensor in RECIPE["content"](shapes, SEED, GAIN).items()}
        torch.save({"state_dict": state, "metadata": {"kwargs": {"encoder_dim": 8}}}, folder / "released.pth")
        self.codec = narrow(system).load(LoadOptions(weights=folder / "released.pth"))

    def clip(self, length: int) -> Clip:
        return Clip(RECIPE["clip"](length)[None], self.codec.card.sample_rate or 1)

    def encode(self, length: int) -> Codes:
        (codes,) = self.codec.encode([self.clip(length)], self.codec.card.points[-1])
        return codes

    def decode(self, codes: Codes, length: int, count: int) -> NDArray[np.float32]:
        """What the codec makes of the released codes."""
        theirs = tuple(self.values[f"codes_{length}"][:count])
        (samples,) = self.codec.decode([replace(codes.prefix(count), streams=theirs)])
        return cast("NDArray[np.float32]", samples[0])


@pytest.fixture(scope="module")
def at_once(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    return Golden(DAC16, tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def chunked(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    return Golden(DAC44Chunked, tmp_path_factory.mktemp("weights"))


def margins(network: DACNetwork, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Relative margin ``[K, F]`` between the two best entries, for the waveform `x` ``[T]``."""
    with torch.inference_mode():
        residual, found = network.encoder(torch.from_numpy(x)[None, None]), []
        for layer in network.quantiser.layers:
            best, second = layer.scores(layer.in_proj(residual)[0].T).topk(2).values.unbind(-1)
            found.append(((best - second) / second.abs()).numpy())
            residual = residual - layer.encode(residual)[1]
    return np.stack(found)


def assert_codes_equal(ours: NDArray[Any], theirs: NDArray[Any], margin: NDArray[np.float32]) -> None:
    assert ours.shape == theirs.shape == margin.shape
    tied = np.logical_or.accumulate(margin < TIE, axis=0)
    assert not ((ours != theirs) & ~tied).any()
    assert tied.mean() < 0.01


def test_clips_at_once_are_equal_to_the_release(at_once: Golden) -> None:
    assert len(at_once.lengths) >= 6
    for length in at_once.lengths:
        codes, theirs = at_once.encode(length), at_once.values[f"codes_{length}"]
        padded = np.pad(at_once.clip(length).samples[0], (0, -length % 320))
        assert_codes_equal(np.stack(codes.streams), theirs, margins(cast("Any", at_once.codec)._network, padded))
        for count in (1, 12):
            # All that the release puts out: 8 samples less than the frames have, which here are zeros before it.
            whole = at_once.decode(replace(codes, length=320 * theirs.shape[1]), length, count)
            assert not whole[:8].any()
            expected = at_once.values[f"samples_{length}_{count}"]
            np.testing.assert_allclose(RECIPE["excerpt"](whole[8:]), expected, rtol=0, atol=1e-5)
            assert np.array_equal(at_once.decode(codes, length, count), whole[:length])
    assert min(len(set(stream.tolist())) for stream in at_once.values["codes_16017"]) >= 20


def windows(golden: Golden, length: int) -> NDArray[np.float32]:
    """Margins of what a clip's windows are coded to."""
    network = cast("Any", golden.codec)._network
    x = golden.clip(length).samples[0]
    x = x * np.float32(10 ** ((-16 - loudness(x, 44_100)) / 20))
    x = x * min(1, 1 / np.abs(x).max())
    if length <= 44_100:
        return margins(network.whole, np.pad(x, (0, -length % 512)))
    x = np.pad(x, (7_904, 44_544))
    return np.concatenate([margins(network.inner, x[i : i + 44_544]) for i in range(0, length, 28_522)], axis=1)


def test_windows_are_equal_to_the_release(chunked: Golden) -> None:
    assert {44_100, 44_101, 57_044, 57_045} <= set(chunked.lengths)
    for length in chunked.lengths:
        codes, theirs = chunked.encode(length), chunked.values[f"codes_{length}"]
        assert_codes_equal(np.stack(codes.streams), theirs, windows(chunked, length))
        assert codes.side["loudness"] == pytest.approx(chunked.values[f"loudness_{length}"], abs=1e-4)
        assert codes.side["loudness"].dtype == np.float32
        samples, expected = chunked.decode(codes, length, 9), chunked.values[f"samples_{length}_9"]
        assert len(samples) == length
        np.testing.assert_allclose(RECIPE["excerpt"](samples), expected, rtol=0, atol=2e-5)
    assert min(len(set(stream.tolist())) for stream in chunked.values["codes_100000"]) >= 30
    assert expected.std() > 0.05


@pytest.mark.parametrize(("length", "frames"), [(1, 1), (44_100, 87), (44_101, 144), (57_044, 144), (57_045, 216)])
def test_the_frames_that_windows_cost(chunked: Golden, length: int, frames: int) -> None:
    codes = chunked.encode(length)
    check_codes(chunked.codec.card, chunked.codec.card.points[-1], codes)
    assert {len(stream) for stream in codes.streams} == {frames}
    packed = pack(codes)
    assert packed.bits == 32 + 90 * frames + -(90 * frames) % 8
    received = unpack(packed.to_bytes())
    assert np.array_equal(chunked.codec.decode([received])[0], chunked.codec.decode([codes])[0])


def test_a_window_has_the_size_that_its_network_needs() -> None:
    with torch.device("meta"):
        network = DACNetwork(replace(narrow(DAC44).shape(), padded=False))
        frames = network.encoder(torch.zeros(1, 1, dac_windows.WINDOW))
        assert frames.shape[-1] == dac_windows.FRAMES
        assert network.decoder(frames).shape[-1] == dac_windows.STRIDE


def test_a_window_puts_out_what_is_in_its_middle(chunked: Golden) -> None:
    """It is what comes of a longer clip, but for the seams, where a neighbouring frame is missing."""
    network = cast("Any", chunked.codec)._network
    encoder_margin = 3_733  # of `MARGIN`
    x = torch.randn(1, 1, 120 * 512, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        codes = network.inner.encode(x[..., 8 * 512 - encoder_margin :][..., : dac_windows.WINDOW])
        assert torch.equal(codes, network.whole.encode(x)[..., 8 : 8 + dac_windows.FRAMES])
        middle = network.whole.decode(codes)[..., dac_windows.MARGIN - encoder_margin :][..., : dac_windows.STRIDE]
        differ = (network.inner.decode_raw(codes) - middle).abs()[0, 0] > 1e-5
    assert differ[:400].any()
    assert differ[-400:].any()
    assert not differ[500:-500].any()


def test_level_does_not_matter(chunked: Golden) -> None:
    """The codes are those of a clip at -16 LUFS, and the output has the loudness of the clip."""
    noise = np.random.default_rng(0).standard_normal((1, 50_000))
    quiet, loud = (Clip((gain * noise).astype(np.float32), 44_100) for gain in (0.001, 0.1))
    codes = chunked.codec.encode([quiet, loud], chunked.codec.card.points[-1])
    differ = np.stack(codes[0].streams) != np.stack(codes[1].streams)
    assert differ.mean() < 0.01  # rounding, then all later codebooks
    assert codes[1].side["loudness"][0] - codes[0].side["loudness"][0] == pytest.approx(40, abs=1e-3)
    for item, clip in zip(codes, (quiet, loud), strict=True):
        (decoded,) = chunked.codec.decode([item])
        assert loudness(decoded[0], 44_100) == pytest.approx(loudness(clip.samples[0], 44_100), abs=0.5)


def test_what_is_coded_stays_within_full_scale(chunked: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = (0.01 * np.random.default_rng(0).standard_normal((1, 20_000))).astype(np.float32)
    samples[0, 9_000] = -0.9
    network = cast("Any", chunked.codec)._network
    encode, heard = network.encode, []

    def listen(x: torch.Tensor, codebooks: int | None) -> torch.Tensor:
        heard.append(x)
        return cast("torch.Tensor", encode(x, codebooks))

    monkeypatch.setattr(network, "encode", listen)
    before = samples.copy()
    chunked.codec.encode([Clip(samples, 44_100)], chunked.codec.card.points[-1])
    assert float(heard[0].abs().max()) == pytest.approx(1)
    np.testing.assert_allclose(heard[0][0] / heard[0].abs().max(), samples / 0.9, rtol=1e-5, atol=1e-6)
    assert np.array_equal(samples, before)


def sine(seconds: float, rate: int, level: float = 0.0) -> NDArray[np.float32]:
    """997 Hz at `level` dB below full scale."""
    time = np.arange(round(seconds * rate)) / rate
    return (10 ** (level / 20) * np.sin(2 * np.pi * 997 * time)).astype(np.float32)


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_loudness_of_a_sine(rate: int) -> None:
    """The standard has 997 Hz at full scale on one channel be -3.01 LKFS; the filters are not quite the standard's."""
    assert loudness(sine(5, rate), rate) == pytest.approx(-3.01, abs=0.1)
    assert loudness(sine(5, rate, -40), rate) == pytest.approx(-43.01, abs=0.1)


def test_loudness_is_gated() -> None:
    loud, rate = sine(3, 48_000, -20), 48_000
    alone = loudness(loud, rate)
    # Silence falls below the absolute gate, a tone 30 dB down below the relative one, and one 6 dB down counts.
    assert loudness(np.concatenate([loud, np.zeros(5 * rate, np.float32)]), rate) == pytest.approx(alone, abs=0.5)
    assert loudness(np.concatenate([loud, sine(5, rate, -50)]), rate) == pytest.approx(alone, abs=0.5)
    assert loudness(np.concatenate([loud, sine(3, rate, -26)]), rate) == pytest.approx(alone - 2.04, abs=0.1)


@pytest.mark.parametrize("length", [1, 19_000, 100_000])
def test_silence_has_the_lowest_loudness(length: int) -> None:
    assert loudness(np.zeros(length, np.float32), 44_100) == FLOOR
    assert loudness(sine(length / 44_100, 44_100, -90), 44_100) == FLOOR
