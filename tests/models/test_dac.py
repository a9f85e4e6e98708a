"""DAC against `transformers` on shared random weights, and what the interface asks of a codec.

Most tests run on a narrow network, an eighth as wide as the released ones and otherwise the same.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from codecbench.audio import Clip
from codecbench.errors import InfrastructureError, InvalidSystem
from codecbench.models.base import Codes, LoadOptions
from codecbench.models.blocks.activations import Snake
from codecbench.models.blocks.conv import symmetric_padding
from codecbench.models.blocks.dac import DACNetwork, DACShape
from codecbench.models.blocks.factorised import FactorisedVQ, ResidualFactorisedVQ
from codecbench.models.dac import DAC, DAC16, DAC24, DAC44, SYSTEMS, DAC44At16
from codecbench.paths import cache_dir

TIE = 5e-6
"""Relative margin between the best and the second-best entry below which rounding may choose either.

The margins are of squared distances between unit vectors; `transformers` adds one of the squared lengths, which are 1
but for rounding, with the wrong sign.
"""


def narrow(system: type[DAC]) -> type[DAC]:
    """`system` with an eighth of the channels."""

    class Narrow(system):  # type: ignore[misc, valid-type]
        @classmethod
        def shape(cls) -> DACShape:
            shape = system.shape()
            return replace(shape, width=8, decoder_width=48, dimension=shape.dimension // 8)

    return Narrow


NARROW = [narrow(system) for system in SYSTEMS]


def clip(system: type[DAC], length: int, seed: int = 0) -> Clip:
    """Noise under an envelope that swings between loud and nearly silent."""
    rate = system.card.sample_rate or 1
    noise = np.random.default_rng(seed).standard_normal((1, length)) * 0.2
    envelope = 0.501 + 0.5 * np.sin(2 * np.pi * 3 * np.arange(length) / rate)
    return Clip((noise * envelope).astype(np.float32), rate)


def streams(codes: Codes) -> NDArray[np.int32]:
    return np.stack(codes.streams)


class Pair:
    """Our codec and the oracle, on the same weights."""

    def __init__(self, system: type[DAC], folder: Path) -> None:
        from transformers import DacConfig, DacModel

        self.system, self.folder, shape = system, folder, system.shape()
        config = DacConfig(
            encoder_hidden_size=shape.width, decoder_hidden_size=shape.decoder_width, n_codebooks=shape.codebooks,
            downsampling_ratios=list(shape.strides), sampling_rate=system.card.sample_rate,
        )  # fmt: skip
        config.hidden_size = shape.dimension
        with torch.random.fork_rng():
            self.oracle = DacModel(config).eval()
        fill(self.oracle)
        self.oracle.save_pretrained(folder)
        self.ours = system.load(LoadOptions(weights=folder))

    @torch.inference_mode()
    def encode(self, audio: Clip, codebooks: int) -> NDArray[np.int64]:
        """The oracle's codes ``[K, F]`` of `audio`, which zeros extend to whole frames as its extractor has it."""
        whole = torch.zeros(1, 1, -(-audio.length // self.oracle.config.hop_length) * self.oracle.config.hop_length)
        whole[..., : audio.length] = torch.from_numpy(audio.samples)
        return np.asarray(self.oracle.encode(whole, n_quantizers=codebooks).audio_codes[0].numpy())

    @torch.inference_mode()
    def decode(self, codes: NDArray[np.int64]) -> NDArray[np.float32]:
        """The oracle's waveform ``[1, T]``, all of it."""
        return np.asarray(self.oracle.decode(audio_codes=torch.from_numpy(codes)[None]).audio_values.numpy())

    @torch.inference_mode()
    def margins(self, audio: Clip) -> NDArray[np.float32]:
        """Relative margin ``[K, F]`` between the two best entries of our codebooks."""
        network: Any = self.ours._network
        padded = np.pad(audio.samples, [(0, 0), (0, -audio.length % network.net.hop)])
        residual, found = network.encoder(torch.from_numpy(padded)[None]), []
        for layer in network.quantiser.layers:
            best, second = layer.scores(layer.in_proj(residual)[0].T).topk(2).values.unbind(-1)
            found.append(((best - second) / second.abs()).numpy())
            residual = residual - layer.encode(residual)[1]
        return np.stack(found)


@torch.no_grad()
def fill(oracle: nn.Module) -> None:
    """Weights that leave enough of a signal's variance, where the oracle's own would leave next to nothing."""
    generator = torch.Generator().manual_seed(5)
    for name, parameter in oracle.named_parameters():
        if name.endswith("alpha"):
            parameter.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith("bias"):
            parameter.uniform_(-0.01, 0.01, generator=generator)
        else:
            deviation = 1.0 if "codebook" in name else 0.65 * parameter[0].numel() ** -0.5
            parameter.normal_(0, deviation, generator=generator)


@pytest.fixture(scope="module", params=NARROW, ids=lambda system: system.card.name)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(request.param, tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module", params=NARROW, ids=lambda system: system.card.name)
def codec(request: pytest.FixtureRequest) -> DAC:
    codec: DAC = request.param.load(LoadOptions(random_seed=0))
    return codec


def assert_equal(pair: Pair, audio: Clip) -> Codes:
    """Codes and waveforms are equal at every operating point; returns the richest codes."""
    card = pair.system.card
    (richest,) = pair.ours.encode([audio], card.points[-1])
    margins = pair.margins(audio)
    assert len(card.points) >= 5
    for point in card.points:
        ours = richest.prefix(point.streams or 0)
        theirs = pair.encode(audio, point.streams or 0)
        assert theirs.shape == streams(ours).shape == (point.streams, -(-audio.length // pair.system.shape().hop))
        tied = np.logical_or.accumulate(margins[: len(theirs)] < TIE, axis=0)
        differ = (streams(ours) != theirs) & ~tied
        assert not differ.any(), f"{differ.sum()} codes differ; the smallest margin is {margins.min():.1e}"
        assert tied.mean() < 0.01
        (decoded,) = pair.ours.decode([replace(ours, streams=tuple(theirs))])
        whole = pair.decode(theirs)
        early = -card.delay
        assert whole.shape[1] == theirs.shape[1] * pair.system.shape().hop - early
        assert not decoded[:, :early].any()
        np.testing.assert_allclose(decoded[:, early:], whole[:, : max(0, audio.length - early)], rtol=0, atol=1e-5)
        if audio.length > 1000:
            assert whole.std() > 0.01, "an output this even would agree with anything"
    return richest


@pytest.mark.parametrize(
    "length", [1, 321, *(pytest.param(n, marks=pytest.mark.slow) for n in (7, 320, 512, 513, 2_555))]
)
def test_equal_to_transformers_at_awkward_lengths(pair: Pair, length: int) -> None:
    assert_equal(pair, clip(pair.system, length))


def test_equal_to_transformers_on_a_second(pair: Pair) -> None:
    codes = assert_equal(pair, clip(pair.system, (pair.system.card.sample_rate or 0) + 17))
    assert min(len(set(stream.tolist())) for stream in codes.streams) >= 30


@pytest.mark.slow
@pytest.mark.parametrize("system", NARROW, ids=lambda system: system.card.name)
def test_equal_to_transformers_on_ten_seconds(system: type[DAC], tmp_path: Path) -> None:
    codes = assert_equal(Pair(system, tmp_path), clip(system, 10 * (system.card.sample_rate or 0)))
    assert min(len(set(stream.tolist())) for stream in codes.streams) >= 120


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.card.name)
def test_equal_to_transformers_at_full_width(system: type[DAC], tmp_path: Path) -> None:
    codes = assert_equal(Pair(system, tmp_path), clip(system, 40 * 512 + 5))
    assert min(len(set(stream.tolist())) for stream in codes.streams) >= 25


def released_name(name: str) -> str:
    """The release's name for a parameter of `transformers` with normalised weights."""
    inside = {"snake1": "0", "conv1": "1", "snake2": "2", "conv2": "3"}
    stage = {
        "encoder": ["res_unit1", "res_unit2", "res_unit3", "snake1", "conv1"],
        "decoder": ["snake1", "conv_t1", "res_unit1", "res_unit2", "res_unit3"],
    }
    name = name.replace("parametrizations.weight.original0", "weight_g")
    name = name.replace("parametrizations.weight.original1", "weight_v")
    part, *rest = name.split(".")
    if part == "quantizer":
        return name
    stack = {"encoder": "block", "decoder": "model"}[part]
    if rest[0] != "block":
        return ".".join([part, stack, {"conv1": "0", "snake1": "5", "conv2": "6"}[rest[0]], rest[1]])
    _, index, layer, *tail = rest
    if layer.startswith("res_unit"):
        tail = ["block", inside[tail[0]], *tail[1:]]
    return ".".join([part, stack, str(int(index) + 1), "block", str(stage[part].index(layer)), *tail])


def released_state(oracle: Any) -> dict[str, Tensor]:
    """The oracle's state under the release's names. From now on, its weights are normalised."""
    oracle.apply_weight_norm()
    generator = torch.Generator().manual_seed(6)
    for name, parameter in oracle.named_parameters():
        if name.endswith("original0"):  # as they are, the gains are the lengths of the vectors they scale
            parameter.data.mul_(torch.empty(parameter.shape).uniform_(0.8, 1.3, generator=generator))
    return {released_name(name): tensor.clone() for name, tensor in oracle.state_dict().items()}


def test_released_file_loads_the_same_model(tmp_path: Path) -> None:
    pair = Pair(narrow(DAC16), tmp_path)
    state = released_state(pair.oracle)
    assert len(state) == 322
    for name in (
        "encoder.block.0.weight_g", "encoder.block.1.block.0.block.0.alpha", "encoder.block.4.block.4.weight_v",
        "encoder.block.5.alpha", "encoder.block.6.bias", "quantizer.quantizers.11.in_proj.weight_g",
        "quantizer.quantizers.0.codebook.weight", "decoder.model.0.bias", "decoder.model.1.block.1.weight_g",
        "decoder.model.4.block.4.block.3.bias", "decoder.model.5.alpha", "decoder.model.6.weight_v",
    ):  # fmt: skip
        assert name in state
    kwargs = {"encoder_dim": 8, "encoder_rates": [2, 4, 5, 8], "latent_dim": None, "quantizer_dropout": 0.5}
    torch.save({"state_dict": state, "metadata": {"kwargs": kwargs}}, tmp_path / "released.pth")
    pair.ours = pair.system.load(LoadOptions(weights=tmp_path / "released.pth"))
    assert_equal(pair, clip(pair.system, 3_333))


@pytest.mark.parametrize(("system", "tensors"), [(DAC16, 322), (DAC24, 462), (DAC44, 301), (DAC44At16, 364)])
def test_number_of_tensors_in_a_release(system: type[DAC], tensors: int) -> None:
    with torch.device("meta"):
        assert len(DACNetwork(system.shape()).state_dict()) == tensors


@pytest.mark.parametrize(
    ("system", "count"),
    [(DAC16, 74_175_906), (DAC24, 74_708_706), (DAC44, 76_651_890), (DAC44At16, 64_213_250)],
)
def test_number_of_parameters(system: type[DAC], count: int) -> None:
    with torch.device("meta"):
        network = DACNetwork(system.shape())
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_all_parameters_are_reported() -> None:
    codec = narrow(DAC16).load(LoadOptions(random_seed=0))
    with torch.device("meta"):
        network = DACNetwork(narrow(DAC16).shape())
    assert codec.parameters() == sum(parameter.numel() for parameter in network.parameters())


def test_wrong_weights_are_refused(pair: Pair, tmp_path: Path) -> None:
    state = {name: tensor.clone() for name, tensor in pair.oracle.state_dict().items()}
    del state["encoder.snake1.alpha"]
    state["decoder.conv2.bias"] = torch.zeros(2)
    save_file(state, tmp_path / "wrong.safetensors")
    with pytest.raises(InvalidSystem, match=r"does not fit the model: size mismatch for decoder\.6\.bias") as caught:
        pair.system.load(LoadOptions(weights=tmp_path / "wrong.safetensors"))
    assert "\n" not in str(caught.value)
    state["decoder.conv2.bias"] = torch.zeros(1)
    save_file(state, tmp_path / "wrong.safetensors")
    with pytest.raises(InvalidSystem, match=r"does not fit the model: 1 missing: encoder\.5\.alpha$"):
        pair.system.load(LoadOptions(weights=tmp_path / "wrong.safetensors"))


def test_a_file_without_a_state_is_refused(tmp_path: Path) -> None:
    torch.save({"encoder.block.0.bias": torch.zeros(8)}, tmp_path / "flat.pth")
    with pytest.raises(InvalidSystem, match="holds no tensors under state_dict"):
        narrow(DAC16).load(LoadOptions(weights=tmp_path / "flat.pth"))


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.card.name)
@pytest.mark.usefixtures("no_weights")
def test_missing_weights_name_the_command(interface: Any, system: type[DAC]) -> None:
    interface.missing_weights_name_the_command(system)


@pytest.mark.usefixtures("no_weights")
def test_a_file_in_the_cache_that_is_not_the_released_one_is_refused() -> None:
    path = cache_dir("weights", DAC16.card.weights[0].name)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else")
    with pytest.raises(InfrastructureError, match=r"not the published file.*expected 95ab7176"):
        narrow(DAC16).load(LoadOptions())


@pytest.mark.parametrize(
    ("system", "hertz", "table"),
    [
        (DAC16, 50, {"0.5kbps": 1, "1kbps": 2, "2kbps": 4, "4kbps": 8, "6kbps": 12}),
        (DAC24, 75, {"0.75kbps": 1, "1.5kbps": 2, "3kbps": 4, "6kbps": 8, "12kbps": 16, "24kbps": 32}),
        (DAC44, 86.1328125, {"0.861kbps": 1, "1.72kbps": 2, "3.45kbps": 4, "6.89kbps": 8, "7.75kbps": 9}),
        (DAC44At16, 86.1328125, {"0.861kbps": 1, "1.72kbps": 2, "3.45kbps": 4, "6.89kbps": 8, "13.8kbps": 16,
                                 "15.5kbps": 18}),
    ],
)  # fmt: skip
def test_card(system: type[DAC], hertz: float, table: dict[str, int]) -> None:
    card = system.card
    assert {point.name: point.streams for point in card.points} == table
    assert {stream.frame_rate for stream in card.streams} == {hertz}
    for point in card.points:
        assert point.kbps == pytest.approx(card.nominal_kbps(point.streams or 0), rel=1e-12)
        assert point.kbps == pytest.approx((point.streams or 0) * 10 * hertz / 1000, rel=1e-12)


def test_files_have_names_of_their_own() -> None:
    assert len({system.card.weights[0].name for system in SYSTEMS}) == len(SYSTEMS)


@pytest.mark.parametrize("length", [1, 2, 8, 9, 319, 512, 7_777])
def test_any_length_comes_back(codec: DAC, length: int) -> None:
    audio = clip(type(codec), length)
    (codes,) = codec.encode([audio], codec.card.points[-1])
    assert codes.codebook_sizes == (1024,) * len(codec.card.streams)
    for point in (codec.card.points[0], codec.card.points[-1]):
        (decoded,) = codec.decode([codes.prefix(point.streams or 0)])
        assert decoded.dtype == np.float32
        assert decoded.shape == audio.samples.shape
        assert np.isfinite(decoded).all()


def test_bytes_hold_all_that_the_decoder_needs(interface: Any, codec: DAC) -> None:
    audio = clip(type(codec), 9_999)
    (codes,) = codec.encode([audio], codec.card.points[1])
    tokens = 2 * -(-9_999 // codec.shape().hop)
    assert interface.bits_that_hold_all(codec, codes) == 10 * tokens + -(10 * tokens) % 8


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_silence_and_full_scale(interface: Any, codec: DAC, value: float) -> None:
    interface.level_comes_back(codec, value, 5_000)


def test_neighbours_in_a_list_change_nothing(interface: Any, codec: DAC) -> None:
    clips = [clip(type(codec), length, seed) for seed, length in enumerate((4_000, 9_000, 4_000))]
    interface.neighbours_change_nothing(codec, clips)


def test_a_poorer_point_is_a_prefix(codec: DAC) -> None:
    audio = clip(type(codec), 6_000)
    (richest,) = codec.encode([audio], codec.card.points[-1])
    for point in codec.card.points:
        (poorer,) = codec.encode([audio], point)
        assert np.array_equal(streams(poorer), streams(richest)[: point.streams])


def test_random_weights_follow_the_seed(interface: Any, codec: DAC) -> None:
    def make(seed: int) -> dict[str, torch.Tensor]:
        loaded: Any = type(codec).load(LoadOptions(random_seed=seed))
        return dict(loaded._network.state_dict())

    interface.weights_follow_the_seed(make)


def test_random_weights_have_varied_codes_and_a_lively_output(codec: DAC) -> None:
    (codes,) = codec.encode([clip(type(codec), 60 * 512)], codec.card.points[-1])
    assert min(len(set(stream.tolist())) for stream in codes.streams) >= 30
    (decoded,) = codec.decode([codes])
    assert decoded.std() > 0.01


@pytest.mark.parametrize("stride", range(2, 10))
def test_symmetric_padding_gives_a_frame_a_stride(stride: int) -> None:
    padding = symmetric_padding(2 * stride, stride)
    assert padding == -(-stride // 2)
    down = nn.Conv1d(1, 1, 2 * stride, stride, padding)
    up = nn.ConvTranspose1d(1, 1, 2 * stride, stride, padding)
    for frames in (1, 2, 7):
        assert down(torch.zeros(1, 1, frames * stride)).shape[-1] == frames
        assert up(torch.zeros(1, 1, frames)).shape[-1] == frames * stride - stride % 2
    assert [symmetric_padding(7, dilation=dilation) for dilation in (1, 3, 9)] == [3, 9, 27]
    assert symmetric_padding(1) == 0


def test_snake_is_its_formula() -> None:
    snake = Snake(3).double()
    x = torch.randn(2, 3, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    alpha = np.array([0.3, 1.0, 2.5]).reshape(1, 3, 1)
    snake.alpha.data = torch.from_numpy(alpha)
    before = x.clone()
    np.testing.assert_allclose(snake(x).detach().numpy(), x.numpy() + np.sin(alpha * x.numpy()) ** 2 / alpha, rtol=1e-7)
    assert torch.equal(x, before)
    assert torch.autograd.gradcheck(snake, (x[:, :, :5].clone().requires_grad_(),))


@pytest.fixture(scope="module")
def quantiser() -> ResidualFactorisedVQ:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ResidualFactorisedVQ(6, 64, 20, 4).requires_grad_(False)


@pytest.fixture(scope="module")
def latent() -> Tensor:
    return torch.randn(2, 20, 50, generator=torch.Generator().manual_seed(1))


def test_codes_are_nearest_directions(quantiser: ResidualFactorisedVQ, latent: Tensor) -> None:
    codes, residual = quantiser.encode(latent), latent.numpy().astype(np.float64)
    for k, layer in enumerate(quantiser.layers):
        z = conv1x1(layer.in_proj, residual)
        entries = layer.codebook.weight.numpy().astype(np.float64)
        cosine = np.einsum("nd,bdf->bnf", entries / np.linalg.norm(entries, axis=1, keepdims=True), z)
        assert np.array_equal(codes[:, k].numpy(), cosine.argmax(1))
        assert len(set(codes[:, k].flatten().tolist())) > 20
        # What the decoder adds is made of the entries at their own lengths.
        residual = residual - conv1x1(layer.out_proj, entries[codes[:, k].numpy()].transpose(0, 2, 1))


def conv1x1(conv: Any, x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.einsum("oi,bif->bof", conv.weight[..., 0].numpy(), x) + conv.bias.numpy()[:, None])


def test_fewer_codebooks_are_a_prefix(quantiser: ResidualFactorisedVQ, latent: Tensor) -> None:
    codes = quantiser.encode(latent)
    for count in range(1, 7):
        assert torch.equal(quantiser.encode(latent, count), codes[:, :count])
        parts = [layer.decode(codes[:, k]) for k, layer in enumerate(quantiser.layers[:count])]
        torch.testing.assert_close(quantiser.decode(codes[:, :count]), torch.stack(parts).sum(0))


def test_too_many_codebooks_are_refused(quantiser: ResidualFactorisedVQ) -> None:
    with pytest.raises(ValueError, match="zip"):
        quantiser.decode(torch.zeros(1, 7, 3, dtype=torch.long))


def test_the_length_of_a_vector_changes_no_code() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = FactorisedVQ(64, 20, 4).requires_grad_(False)
    z = torch.randn(30, 4, generator=torch.Generator().manual_seed(2))
    assert torch.equal(layer.scores(z).argmax(1), layer.scores(7 * z).argmax(1))
