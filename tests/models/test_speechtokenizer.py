"""SpeechTokenizer against values from the released package; ``tests/golden/regenerate_speechtokenizer.py`` says how."""

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
from codecbench.models.blocks.activations import Snake
from codecbench.models.blocks.conv import ConvStyle
from codecbench.models.blocks.seanet import SEANet, build, enliven
from codecbench.models.speechtokenizer import SYSTEMS, SpeechTokenizer

FOLDER = Path(__file__).parents[1] / "golden"
RECIPE = runpy.run_path(str(FOLDER / "checkpoints.py"))
MODELS = json.loads((FOLDER / "speechtokenizer.json").read_text())
LENGTHS = (1, 2, 3, 319, 320, 321, 7_777, 24_001)
TIE = 1e-5
"""Relative margin between the best and the second-best entry below which another machine may choose either."""


def released(model: str) -> dict[str, torch.Tensor]:
    """The checkpoint that the golden values come from, in the released format."""
    entry, golden = MODELS[model], np.load(FOLDER / f"speechtokenizer_{model}.npz")
    state = RECIPE["content"](entry["shapes"], entry["seed"], entry["gain"])
    for k, (mean, deviation) in enumerate(zip(golden["means"], golden["deviations"], strict=True)):
        state[f"quantizer.vq.layers.{k}._codebook.embed"] = RECIPE["codebook"](mean, deviation, 1024, k)
    return {name: torch.from_numpy(values) for name, values in state.items()}


class Golden:
    """A model with the weights of the golden values, and those values."""

    def __init__(self, system: type[SpeechTokenizer], folder: Path) -> None:
        self.model = system.card.name.removeprefix("speechtokenizer_")
        self.found: dict[int, Codes] = {}
        self.values = np.load(FOLDER / f"speechtokenizer_{self.model}.npz")
        path = folder / "released.pt"
        torch.save(released(self.model), path)
        self.codec = system.load(LoadOptions(weights=path))
        path.unlink()

    def encode(self, length: int) -> Codes:
        if length not in self.found:
            (self.found[length],) = self.codec.encode([clip(length)], self.codec.card.points[-1])
        return self.found[length]

    def check(self, length: int, codebooks: int = 8) -> None:
        """Compare the codes and the samples of the golden clip of `length`."""
        expected, found = self.values[f"codes_{length}"][:codebooks], self.encode(length).prefix(codebooks)
        differ = streams(found) != expected
        if differ.any():
            tied = np.logical_or.accumulate(self.margins(length)[:codebooks] < TIE, axis=0)
            assert not (differ & ~tied).any(), f"{differ.sum()} of {differ.size} codes differ"
            assert tied.mean() < 0.05
        item = Codes(length, 16_000, 1, tuple(expected.astype(np.int32)), (1024,) * codebooks)
        (samples,) = self.codec.decode([item])
        assert samples.shape == (1, length)
        wanted = self.values[f"samples_{length}_{codebooks}"]
        np.testing.assert_allclose(RECIPE["excerpt"](samples[0]), wanted, rtol=0, atol=1e-5)
        if length > 300:
            assert wanted.std() > 0.05, "an output this even would agree with anything"

    def margins(self, length: int) -> NDArray[np.float32]:
        """Relative margin ``[K, F]`` between the two best entries of each codebook."""
        network: Any = self.codec._network
        found = []
        with torch.inference_mode():
            residual = network.encoder(torch.tensor(clip(length).samples)[None]).transpose(1, 2)[0]
            for layer in network.quantiser.layers:
                best, second = layer.scores(residual).topk(2).values.unbind(-1)
                found.append(((best - second) / second.abs()).numpy())
                residual = residual - layer.decode(layer.encode(residual))
        return np.stack(found)


def clip(length: int) -> Clip:
    return Clip(RECIPE["clip"](length)[None], 16_000)


def streams(codes: Codes) -> NDArray[np.int32]:
    return np.stack(codes.streams)


@pytest.fixture(scope="module", params=SYSTEMS, ids=lambda system: system.card.name)
def golden(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Golden:
    return Golden(request.param, tmp_path_factory.mktemp("weights"))


@pytest.mark.parametrize("length", LENGTHS)
def test_equal_to_the_release(golden: Golden, length: int) -> None:
    golden.check(length)
    if length > 20_000:
        assert min(len(set(stream)) for stream in golden.values[f"codes_{length}"].tolist()) >= 50


@pytest.mark.slow
def test_equal_to_the_release_over_ten_seconds(golden: Golden) -> None:
    golden.check(160_000)


@pytest.mark.parametrize("codebooks", range(1, 9))
def test_equal_to_the_release_at_every_point(golden: Golden, codebooks: int) -> None:
    golden.check(7_777, codebooks)


def test_a_poorer_point_is_a_prefix(golden: Golden) -> None:
    (poorest,) = golden.codec.encode([clip(7_777)], golden.codec.card.points[0])
    assert np.array_equal(streams(poorest), golden.values["codes_7777"][:1])


def test_the_checkpoints_are_the_released_ones() -> None:
    elu, snake = MODELS["hubert_avg"]["shapes"], MODELS["snake"]["shapes"]
    assert (len(elu), len(snake)) == (166, 192)
    assert {name for name in snake if not name.endswith(".alpha")} == elu.keys()
    assert snake["encoder.model.14.alpha"] == [1, 2048, 1]
    assert elu["encoder.model.13.lstm.weight_hh_l1_reverse"] == [4096, 1024]
    assert elu["encoder.model.15.conv.conv.weight_v"] == [1024, 2048, 7]
    assert elu["quantizer.vq.layers.7._codebook.embed"] == [1024, 1024]
    assert elu["transform.weight"] == [768, 1024]
    # The released files hold these tensors, four bytes a number, and a few hundred bytes about each.
    for shapes, size in ((elu, 481_906_997), (snake, 481_944_941)):
        overhead = size - 4 * sum(int(np.prod(shape)) for shape in shapes.values())
        assert 100 < overhead / len(shapes) < 500


def test_number_of_parameters(golden: Golden) -> None:
    count = {"hubert_avg": 102_888_386, "snake": 102_896_258}[golden.model]
    assert golden.codec.parameters() == count
    shapes = MODELS[golden.model]["shapes"].items()
    assert sum(int(np.prod(shape)) for name, shape in shapes if name.startswith(("encoder", "decoder"))) == count


@pytest.mark.parametrize("system", SYSTEMS)
def test_card(system: type[SpeechTokenizer]) -> None:
    card = system.card
    assert {point.name: point.streams for point in card.points} == {
        "0.5kbps": 1, "1kbps": 2, "1.5kbps": 3, "2kbps": 4, "2.5kbps": 5, "3kbps": 6, "3.5kbps": 7, "4kbps": 8,
    }  # fmt: skip
    assert all(card.nominal_kbps(point.streams or 0) == point.kbps for point in card.points)
    assert (card.sample_rate, card.channels, card.nested, card.causal) == (16_000, 1, True, False)
    (file,) = card.weights
    assert file.url.startswith("https://huggingface.co/fnlp/")
    assert len(file.sha256) in (0, 64)


def test_bytes_hold_all_that_the_decoder_needs(interface: Any, golden: Golden) -> None:
    assert interface.bits_that_hold_all(golden.codec, golden.encode(7_777)) == 8 * 10 * 25


def test_neighbours_in_a_list_change_nothing(interface: Any, golden: Golden) -> None:
    interface.neighbours_change_nothing(golden.codec, [clip(length) for length in (2_000, 321, 2_000)])


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_silence_and_full_scale(interface: Any, golden: Golden, value: float) -> None:
    interface.level_comes_back(golden.codec, value)


def small(activation: Any) -> SEANet:
    return SEANet(
        width=4, dimension=8, bidirectional=True, activation=activation, style=ConvStyle("weight", causal=False)
    )


def test_a_frame_is_heard_where_it_was_seen() -> None:
    """The samples that a frame decodes to are those that it was encoded from: there is no delay.

    With the LSTMs' weights at zero, for these see the whole clip.
    """
    network = build(small(Snake), 2, 16)
    for name, parameter in network.named_parameters():
        if ".lstm." in name:
            parameter.data.zero_()
    x = torch.randn(1, 1, 40 * 320, requires_grad=True)
    network.encoder(x)[0, :, 20].sum().backward()
    assert x.grad is not None
    seen = x.grad[0, 0].nonzero().flatten()
    frame = torch.zeros(1, 8, 40)
    frame[..., 20] = 1
    _, slope = jvp(network.decoder, torch.randn(frame.shape), frame)  # type: ignore[no-untyped-call]
    heard = slope[0, 0].nonzero().flatten()
    assert (seen[0], seen[-1]) == (heard[0], heard[-1])
    assert 0 < seen[0] < 20 * 320 < 21 * 320 < seen[-1] < 40 * 320 - 1


def test_random_weights_of_a_small_network_follow_the_seed(interface: Any) -> None:
    def make(seed: int) -> dict[str, torch.Tensor]:
        network = build(small(Snake), 2, 16, seed)
        enliven(network, seed, level=0.1)
        return network.state_dict()

    interface.weights_follow_the_seed(make)


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS)
def test_random_weights_behave_like_a_codec(system: type[SpeechTokenizer]) -> None:
    """The same from the same seed; varied codes, a lively output, and less distortion with more codebooks."""
    state = torch.get_rng_state()
    codec, same, other = (system.load(LoadOptions(random_seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    audio = clip(16_000)
    (codes,), (again,), (different,) = (each.encode([audio], system.card.points[-1]) for each in (codec, same, other))
    assert np.array_equal(streams(codes), streams(again))
    assert not np.array_equal(streams(codes), streams(different))
    assert min(len(set(stream.tolist())) for stream in codes.streams) >= 20
    with torch.inference_mode():
        network: Any = codec._network
        latent = network.encoder(torch.tensor(audio.samples)[None])
        quantiser, found = network.quantiser, torch.tensor(streams(codes))[None].long()
        errors = [float((quantiser.decode(found[:, :k]) - latent).pow(2).mean()) for k in range(1, 9)]
    assert errors == sorted(errors, reverse=True)
    (decoded,) = codec.decode([codes])
    assert 0.01 < decoded.std() < 1


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.card.name)
@pytest.mark.usefixtures("no_weights")
def test_missing_weights_name_the_command(interface: Any, system: type[SpeechTokenizer]) -> None:
    interface.missing_weights_name_the_command(system)


def test_a_checkpoint_that_is_not_complete_is_refused(tmp_path: Path) -> None:
    state = {"decoder.model.15.conv.conv.bias": torch.zeros(1), "transform.weight": torch.zeros(1)}
    torch.save({**state, "decoder.model.16.alpha": torch.zeros(1)}, tmp_path / "x.pt")
    message = r"139 missing: encoder\.layers\.0\.conv\.bias, .*; 1 unexpected: decoder\.layers\.16\.alpha"
    with pytest.raises(InvalidSystem, match=message) as caught:
        SYSTEMS[0].load(LoadOptions(weights=tmp_path / "x.pt"))
    assert "\n" not in str(caught.value)
