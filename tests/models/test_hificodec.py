"""HiFi-Codec against values from the released code; ``tests/golden/regenerate_hificodec.py`` says how they came."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.autograd.functional import jvp

from codecbench.audio import Clip
from codecbench.errors import InvalidSystem
from codecbench.models.base import Codes, LoadOptions
from codecbench.models.blocks.grouped import GroupedResidualVQ
from codecbench.models.blocks.hificodec import HiFiGAN, build, enliven
from codecbench.models.hificodec import PARTS, SYSTEMS, HiFiCodec, HiFiCodec16, HiFiCodec24Fast

FOLDER = Path(__file__).parents[1] / "golden"
RECIPE = runpy.run_path(str(FOLDER / "checkpoints.py"))
MODELS = json.loads((FOLDER / "hificodec.json").read_text())
HOPS = {HiFiCodec16: 320, HiFiCodec24Fast: 240}
LENGTHS = (1, 2, 239, 240, 241, 319, 320, 321, 7_777, 24_001)
TIE = 1e-5
"""Relative margin between the best and the second-best entry below which another machine may choose either."""


def released(hop: int) -> dict[str, dict[str, torch.Tensor]]:
    """The checkpoint that the golden values come from, in the released format."""
    entry, golden = MODELS[str(hop)], np.load(FOLDER / f"hificodec_{hop}.npz")
    state = RECIPE["content"](entry["shapes"], entry["seed"], entry["gain"])
    for k, (mean, deviation) in enumerate(zip(golden["means"], golden["deviations"], strict=True)):
        layer, group = "2" if k > 1 else "", k % 2
        name = f"quantizer.quantizer_modules{layer}.{group}.embedding.weight"
        state[name] = RECIPE["codebook"](mean, deviation, 1024, k)
    parts: dict[str, dict[str, torch.Tensor]] = {part: {} for part in PARTS}
    for name, values in state.items():
        part, _, inner = name.partition(".")
        parts[part][inner] = torch.from_numpy(values)
    return parts


class Golden:
    """A model with the weights of the golden values, and those values."""

    def __init__(self, system: type[HiFiCodec], folder: Path) -> None:
        self.hop = HOPS[system]
        self.values = np.load(FOLDER / f"hificodec_{self.hop}.npz")
        path = folder / "released"
        torch.save(released(self.hop), path)
        self.codec = system.load(LoadOptions(weights=path))
        path.unlink()

    def clip(self, length: int) -> Clip:
        return Clip(RECIPE["clip"](length)[None], self.codec.card.sample_rate or 0)

    def encode(self, length: int) -> Codes:
        return self.codec.encode([self.clip(length)], self.codec.card.points[0])[0]

    def check(self, length: int) -> None:
        """Compare the codes and the samples of the golden clip of `length`."""
        expected, found = self.values[f"codes_{length}"], self.encode(length)
        differ = streams(found) != expected
        if differ.any():
            tied = np.logical_or.accumulate(self.margins(length) < TIE, axis=0)
            assert not (differ & ~tied).any(), f"{differ.sum()} of {differ.size} codes differ"
            assert tied.mean() < 0.05
        item = Codes(length, found.sample_rate, 1, tuple(expected.astype(np.int32)), (1024,) * 4)
        (samples,) = self.codec.decode([item])
        assert samples.shape == (1, length)
        wanted = self.values[f"samples_{length}"]
        np.testing.assert_allclose(RECIPE["excerpt"](samples[0]), wanted, rtol=0, atol=1e-5)
        if length > 200:
            assert wanted.std() > 0.03, "an output this even would agree with anything"

    def margins(self, length: int) -> NDArray[np.float32]:
        """Relative margin ``[K, F]`` between the two best entries of each codebook."""
        network: Any = self.codec._network
        found = []
        x = np.pad(self.clip(length).samples, [(0, 0), (0, -length % self.hop)])
        with torch.inference_mode():
            residual = network.encoder(torch.tensor(x)[None])[0].T
            for layer in network.quantiser.layers:
                entries = []
                for book, part in zip(layer, residual.chunk(2, -1), strict=True):
                    best, second = book.scores(part).topk(2).values.unbind(-1)
                    found.append(((best - second) / second.abs()).numpy())
                    entries.append(book.decode(book.encode(part)))
                residual = residual - torch.cat(entries, -1)
        return np.stack(found)


def streams(codes: Codes) -> NDArray[np.int32]:
    return np.stack(codes.streams)


@pytest.fixture(scope="module", params=HOPS, ids=lambda system: system.card.name)
def golden(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Golden:
    return Golden(request.param, tmp_path_factory.mktemp("weights"))


@pytest.mark.parametrize("length", LENGTHS)
def test_equal_to_the_release(golden: Golden, length: int) -> None:
    golden.check(length)
    if length > 20_000:
        assert min(len(set(stream)) for stream in golden.values[f"codes_{length}"].tolist()) >= 50


@pytest.mark.slow
def test_equal_to_the_release_over_160_000_samples(golden: Golden) -> None:
    golden.check(160_000)


def test_the_checkpoints_are_the_released_ones() -> None:
    shapes, fast = MODELS["320"]["shapes"], MODELS["240"]["shapes"]
    assert {name for name in shapes if shapes[name] != fast[name]} == {
        "encoder.ups.1.weight_v", "generator.ups.2.weight_v",
    }  # fmt: skip
    assert shapes.keys() == fast.keys()
    counts = {part: sum(name.startswith(part) for name in shapes) for part in PARTS}
    assert counts == {"encoder": 257, "generator": 234, "quantizer": 4}
    assert shapes["quantizer.quantizer_modules2.1.embedding.weight"] == [1024, 256]
    assert shapes["encoder.conv_post.weight"] == [512, 512, 3]
    assert shapes["encoder.ups.2.weight_v"] == [256, 128, 11]
    assert shapes["generator.ups.0.weight_g"] == [512, 1, 1]
    assert shapes["encoder.resblocks.0.convs1.0.weight_v"] == [64, 64, 11]
    assert shapes["generator.resblocks.0.convs1.0.weight_v"] == [256, 256, 3]
    # The released file holds these tensors, four bytes a number, and a few hundred bytes about each.
    overhead = 254_693_430 - 4 * sum(int(np.prod(shape)) for shape in shapes.values())
    assert 100 < overhead / len(shapes) < 500


def test_number_of_parameters(golden: Golden) -> None:
    count = {320: 47_228_960 + 15_353_346, 240: 47_220_768 + 15_345_154}[golden.hop]
    assert golden.codec.parameters() == count
    shapes = MODELS[str(golden.hop)]["shapes"].items()
    assert sum(int(np.prod(shape)) for name, shape in shapes if not name.startswith("quantizer")) == count


@pytest.mark.parametrize(
    ("system", "name", "sample_rate", "frame_rate", "kbps"),
    [
        (SYSTEMS[0], "hificodec_16k_320d", 16_000, 50, 2),
        (SYSTEMS[1], "hificodec_16k_320d_large_universal", 16_000, 50, 2),
        (SYSTEMS[2], "hificodec_24k_320d", 24_000, 75, 3),
        (SYSTEMS[3], "hificodec_24k_240d", 24_000, 100, 4),
    ],
)
def test_card(system: type[HiFiCodec], name: str, sample_rate: int, frame_rate: float, kbps: float) -> None:
    card = system.card
    assert (card.name, card.sample_rate, card.channels, card.causal) == (name, sample_rate, 1, False)
    assert [(stream.codebook_size, stream.frame_rate) for stream in card.streams] == [(1024, frame_rate)] * 4
    ((point,), (file,)) = card.points, card.weights
    assert (point.name, point.kbps, point.streams) == (f"{kbps}kbps", kbps, 4)
    assert card.nominal_kbps(4) == kbps
    assert file.url.endswith(f"/{file.name}")
    assert file.name.lower() == name.replace("hificodec", "hifi-codec").replace("_", "-")
    assert len(file.sha256) == 64


def test_the_files_differ() -> None:
    assert len({system.card.weights[0].sha256 for system in SYSTEMS}) == len(SYSTEMS) == 4


def test_bytes_hold_all_that_the_decoder_needs(interface: Any, golden: Golden) -> None:
    assert interface.bits_that_hold_all(golden.codec, golden.encode(7_777)) == 4 * 10 * -(-7_777 // golden.hop)


def test_neighbours_in_a_list_change_nothing(interface: Any, golden: Golden) -> None:
    interface.neighbours_change_nothing(golden.codec, [golden.clip(length) for length in (2_000, 321, 2_000)])


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_silence_and_full_scale(interface: Any, golden: Golden, value: float) -> None:
    interface.level_comes_back(golden.codec, value)


def test_fewer_codebooks_are_refused() -> None:
    network = build(SMALL, 16)
    with pytest.raises(ValueError, match="has 4 codebooks and needs all of them, not 2"):
        network.encode(torch.zeros(1, 1, 8), 2)


SMALL = HiFiGAN((2, 4), (4, 8), width=16)
NETS = [HiFiGAN(width=8), HiFiGAN((2, 3, 5, 8), (4, 7, 11, 16), width=8)]


@pytest.mark.parametrize("net", NETS, ids=["hop320", "hop240"])
def test_a_frame_is_heard_where_it_was_seen(net: HiFiGAN) -> None:
    """The samples that a frame decodes to have the same centre as those that it was encoded from: there is no delay.

    Without the encoder's normalisation, for that sees the whole clip.
    """
    network: Any = build(net, 16)
    frames = 160
    for field in network.encoder.fields:
        field.norms = torch.nn.ModuleList(torch.nn.Identity() for _ in field.norms)
    x = torch.randn(1, 1, frames * net.hop, requires_grad=True)
    network.encoder(x)[0, :, 80].sum().backward()
    assert x.grad is not None
    seen = x.grad[0, 0].nonzero().flatten()
    frame = torch.zeros(1, net.dimension, frames)
    frame[..., 80] = 1
    _, slope = jvp(network.decoder, torch.randn(frame.shape), frame)  # type: ignore[no-untyped-call]
    heard = slope[0, 0].nonzero().flatten()
    assert 0 < seen[0] < heard[0] < 80 * net.hop < 81 * net.hop < heard[-1] < seen[-1] < frames * net.hop - 1
    assert seen[0] + seen[-1] == heard[0] + heard[-1] == 161 * net.hop - 1


def test_random_weights_of_a_small_network_follow_the_seed(interface: Any) -> None:
    def make(seed: int) -> dict[str, torch.Tensor]:
        network = build(SMALL, 16, seed)
        enliven(network, seed, level=0.1)
        return network.state_dict()

    interface.weights_follow_the_seed(make)


@pytest.mark.slow
@pytest.mark.parametrize("system", HOPS)
def test_random_weights_behave_like_a_codec(system: type[HiFiCodec]) -> None:
    """The same from the same seed; varied codes, a lively output, and less distortion with the second layer."""
    state = torch.get_rng_state()
    codec, same, other = (system.load(LoadOptions(random_seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    audio = Clip(RECIPE["clip"](system.card.sample_rate)[None], system.card.sample_rate or 0)
    (codes,), (again,), (different,) = (each.encode([audio], system.card.points[0]) for each in (codec, same, other))
    assert np.array_equal(streams(codes), streams(again))
    assert not np.array_equal(streams(codes), streams(different))
    assert min(len(set(stream.tolist())) for stream in codes.streams) >= 20
    (decoded,) = codec.decode([codes])
    assert 0.01 < decoded.std() < 0.5


def test_groups_are_quantised_apart_and_layers_in_cascade() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, 50, generator=generator)
    quantiser = GroupedResidualVQ(2, 3, 16, 6)
    quantiser.fill(x, generator)
    codes = quantiser.encode(x)
    assert codes.shape == (2, 6, 50)
    residual, errors = x.double(), []
    for n, layer in enumerate(quantiser.layers):
        for g, book in enumerate(layer):
            vectors = residual[:, 2 * g : 2 * g + 2].transpose(1, 2)
            nearest = torch.cdist(vectors, book.embed.double()).argmin(-1)
            assert torch.equal(codes[:, 3 * n + g], nearest)
            assert len(set(nearest.flatten().tolist())) > 8
            residual[:, 2 * g : 2 * g + 2] -= book.embed.double()[nearest].transpose(1, 2)
        errors.append(float(residual.pow(2).mean()))
    torch.testing.assert_close(quantiser.decode(codes).double(), x - residual, rtol=0, atol=1e-6)
    assert errors[1] < errors[0] < 1


def test_unequal_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="7 channels cannot be split into 2 equal groups"):
        GroupedResidualVQ(2, 2, 16, 7)


def test_kernels_that_lose_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="do not exceed strides"):
        HiFiGAN(kernel_sizes=(4, 8, 10, 16))


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.card.name)
@pytest.mark.usefixtures("no_weights")
def test_missing_weights_name_the_command(interface: Any, system: type[HiFiCodec]) -> None:
    interface.missing_weights_name_the_command(system)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"encoder": {"conv_post.bias": torch.zeros(512)}, "mpd": {}}, "holds a dict under 'mpd'"),
        ({"encoder": {"conv_post.bias": torch.zeros(512)}, "generator": {"other": torch.zeros(1)}},
         r"494 missing: encoder\.first\.bias, .*; 1 unexpected: decoder\.other"),
        ({"encoder": {"conv_post.bias": torch.zeros(511)}}, r"size mismatch for encoder\.last\.bias: .*511.*512"),
    ],
)  # fmt: skip
def test_checkpoints_that_do_not_fit_are_refused(state: object, message: str, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "x")
    with pytest.raises(InvalidSystem, match=message) as caught:
        HiFiCodec16.load(LoadOptions(weights=tmp_path / "x"))
    assert "\n" not in str(caught.value)
