"""SoundStream against the package that published weights, `transformers`, and what the interface asks of a codec."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from codecbench.audio import Audio, Clip
from codecbench.benchmark.plan import _weights
from codecbench.errors import InvalidSystem
from codecbench.metrics.conformance import signals
from codecbench.models.base import Codes, LoadOptions
from codecbench.models.bitstream import pack, unpack
from codecbench.models.blocks.conv import fold_weight_norm
from codecbench.models.soundstream import SYSTEMS, SoundStream16, SoundStream24, SoundStreamSystem

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "soundstream.npz")
NOISE = signals.noise
LENGTHS = sorted(int(key.split("/")[0]) for key in GOLDEN.files if key.endswith("/codes"))
TIE = 1e-5
"""Relative margin between the best and the second-best entry below which rounding may choose either."""


def clip(length: int, rate: int = 16_000, seed: int | None = None) -> Clip:
    return Clip(np.float32(0.1) * NOISE(length, seed=length if seed is None else seed)[None], rate)


@pytest.fixture(scope="module")
def codec16() -> SoundStream16:
    return SoundStream16.load(LoadOptions(random_seed=0))


@pytest.fixture(scope="module")
def codec24() -> SoundStream24:
    return SoundStream24.load(LoadOptions(random_seed=0))


@pytest.fixture(params=SYSTEMS, ids=lambda system: system.card.name)
def codec(request: pytest.FixtureRequest) -> SoundStreamSystem:
    codec: SoundStreamSystem = request.getfixturevalue("codec16" if request.param is SoundStream16 else "codec24")
    return codec


def encode(codec: SoundStreamSystem, audio: Clip) -> Codes:
    (codes,) = codec.encode([audio], codec.card.points[-1])
    return codes


def decode(codec: SoundStreamSystem, codes: Codes) -> Audio:
    (decoded,) = codec.decode([codes])
    return decoded


def streams(codes: Codes) -> NDArray[Any]:
    return np.stack(codes.streams)


def margins(codec: SoundStreamSystem, audio: Clip) -> NDArray[np.float32]:
    """Relative margin ``[K, F]`` between the two best entries of our codebooks."""
    network: Any = codec._network
    padded = np.pad(audio.samples, [(0, 0), (0, -audio.length % network.net.hop)])
    found = []
    with torch.inference_mode():
        residual = network.encoder(torch.tensor(padded)[None]).transpose(1, 2)[0]
        for layer in network.quantiser.layers:
            best, second = layer.scores(residual).topk(2).values.unbind(-1)
            found.append(((best - second) / second.abs()).numpy())
            residual = residual - layer.decode(layer.encode(residual))
    return np.stack(found)


@pytest.mark.parametrize("length", [pytest.param(n, marks=[pytest.mark.slow] * (n > 100_000)) for n in LENGTHS])
def test_equal_to_the_package(codec16: SoundStream16, length: int) -> None:
    audio = clip(length)
    expected, codes = GOLDEN[f"{length}/codes"], encode(codec16, audio)
    assert streams(codes).shape == expected.shape
    tied = np.logical_or.accumulate(margins(codec16, audio) < TIE, axis=0)
    differ = (streams(codes) != expected) & ~tied
    assert not differ.any(), f"{differ.sum()} codes differ"
    assert tied.mean() < 0.1
    decoded = decode(codec16, replace(codes, streams=tuple(expected)))[0]
    edges = GOLDEN[f"{length}/audio"]
    np.testing.assert_allclose(np.concatenate([decoded[:200], decoded[-200:]]), edges, rtol=0, atol=1e-5)
    if length > 10_000:
        assert min(len(set(stream.tolist())) for stream in expected) >= 90
        assert edges.std() > 0.01, "an output this even would agree with anything"


def test_all_lengths_are_compared() -> None:
    assert LENGTHS == [2_200, 2_201, 24_001, 160_000]


def test_the_paper_s_model_equals_transformers() -> None:
    """The layout is a SEANet's with ELU before every convolution but the first; `transformers` can build it."""
    from transformers import EncodecConfig
    from transformers.models.encodec.modeling_encodec import EncodecDecoder, EncodecEncoder

    ours = SoundStream24.network(3)
    config = EncodecConfig(
        num_filters=32, hidden_size=64, upsampling_ratios=[8, 5, 4, 2], num_residual_layers=3, dilation_growth_rate=3,
        kernel_size=7, residual_kernel_size=7, last_kernel_size=3, compress=1, use_conv_shortcut=False,
        num_lstm_layers=1, norm_type="weight_norm", use_causal_conv=True, pad_mode="constant", trim_right_ratio=1.0,
    )  # fmt: skip
    encoder = EncodecEncoder(config)
    config.last_kernel_size = 7
    decoder = EncodecDecoder(config)
    for mine, other in ((ours.encoder, encoder), (ours.decoder, decoder)):
        (at,) = (i for i, layer in enumerate(other.layers) if "LSTM" in type(layer).__name__)
        other.layers[at] = torch.nn.Identity()
        fold_weight_norm(other)
        kinds = (torch.nn.Conv1d, torch.nn.ConvTranspose1d)
        pairs = [[part for part in net.modules() if isinstance(part, kinds)] for net in (mine, other)]
        with torch.no_grad():
            for one, two in zip(*pairs, strict=True):
                two.weight.copy_(one.weight)
                two.bias.copy_(one.bias)
    for length in (1, 320, 6_400):
        x = torch.from_numpy(clip(length).samples)[None]
        x = torch.nn.functional.pad(x, (0, -length % 320))
        with torch.inference_mode():
            latent = ours.encoder(x)
            assert latent.shape == (1, 64, -(-length // 320))
            torch.testing.assert_close(latent, encoder(x), rtol=0, atol=1e-5)
            decoded = ours.decoder(latent)
            torch.testing.assert_close(decoded, decoder(latent), rtol=0, atol=1e-5)
        assert length == 1 or decoded.std() > 0.01


def package_name(name: str) -> str:
    """The package's name for a parameter, by the order in which it stacks its layers."""
    half, where, *rest = name.split(".")
    if half == "quantiser":
        return f"quantizer.layers.{rest[0]}._codebook.embed"
    if where != "blocks":
        return f"{half}.layers.{0 if where == 'first' else 5}.{'.'.join(rest)}"
    block, what = int(rest[0]) + 1, rest[1]
    if what == "conv":
        return f"{half}.layers.{block}.layers.{3 if half == 'encoder' else 0}.{'.'.join(rest[2:])}"
    unit = int(rest[2]) + (half == "decoder")
    return f"{half}.layers.{block}.layers.{unit}.layers.{2 * int(rest[4])}.{'.'.join(rest[5:])}"


def test_published_names_load_the_same_model(codec16: SoundStream16, tmp_path: Path) -> None:
    mine: Any = codec16._network
    state = {}
    for name, tensor in mine.state_dict().items():
        published = package_name(name)
        state[published] = tensor[None] if name.endswith(".embed") else tensor
        if name.endswith(".embed"):
            codebook = published.removesuffix("embed")
            state |= {codebook + extra: torch.zeros(1) for extra in ("initted", "cluster_size", "embed_avg")}
    assert hashlib.sha256("\n".join(sorted(state)).encode()).hexdigest() == str(GOLDEN["names"])
    torch.save(state, tmp_path / "x.pt")
    theirs: Any = SoundStream16.load(LoadOptions(weights=tmp_path / "x.pt"))._network
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in mine.state_dict().items())
    del state["encoder.layers.5.conv.bias"]
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(InvalidSystem, match=r"does not fit the model: 1 missing: encoder\.last\.conv\.bias"):
        SoundStream16.load(LoadOptions(weights=tmp_path / "x.pt"))


def test_own_weights_for_the_paper_s_model(tmp_path: Path) -> None:
    network = SoundStream24.network(None)
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    loaded: Any = SoundStream24.load(LoadOptions(weights=tmp_path / "model.safetensors"))._network
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in network.state_dict().items())


def test_a_sweep_can_run_the_paper_s_model_on_random_weights(tmp_path: Path) -> None:
    (tmp_path / "own.safetensors").write_bytes(b"weights")
    for file, seed, label in ((None, 7, "random:7"), (tmp_path / "own.safetensors", None, "local:9a129038")):
        found, _, planned = _weights(SoundStream24.card, file, seed)
        assert (found, planned) == (f"soundstream_24khz[{label}]", seed)
    assert _weights(SoundStream24.card, None, None) == ("soundstream_24khz", "unpublished", None)


def test_missing_weights_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path))
    with pytest.raises(InvalidSystem, match=r"never published; .*--weights PATH.*--random-weights SEED"):
        SoundStream24.load(LoadOptions())
    with pytest.raises(InvalidSystem, match="`codecbench weights get soundstream_16khz`"):
        SoundStream16.load(LoadOptions())


@pytest.mark.parametrize(("system", "count"), [(SoundStream24, 9_510_977), (SoundStream16, 27_365_121)])
def test_number_of_parameters(system: type[SoundStreamSystem], count: int) -> None:
    assert sum(parameter.numel() for parameter in system.network(None).parameters()) == count


def test_cards() -> None:
    paper, package = SoundStream24.card, SoundStream16.card
    assert {p.name: p.streams for p in paper.points} == {
        "3kbps": 4, "6kbps": 8, "9kbps": 12, "12kbps": 16, "18kbps": 24,
    }  # fmt: skip
    assert {p.name: p.streams for p in package.points} == {"12.8kbps": 16}
    for card in (paper, package):
        assert all(card.nominal_kbps(point.streams or 0) == pytest.approx(point.kbps) for point in card.points)
    assert paper.weights == ()
    assert package.weights_licence == "MIT"


def test_listing_imports_no_torch() -> None:
    code = "import sys, codecbench.models.soundstream; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("length", [1, 2, 199, 321, 2_199, 7_777])
def test_any_length_comes_back(codec: SoundStreamSystem, length: int) -> None:
    audio = clip(length)
    codes = encode(codec, audio)
    for point in codec.card.points:
        decoded = decode(codec, codes.prefix(point.streams or 0))
        assert decoded.dtype == np.float32
        assert decoded.shape == audio.samples.shape
        assert np.isfinite(decoded).all()


def test_bytes_hold_all_that_the_decoder_needs(codec: SoundStreamSystem) -> None:
    (codes,) = codec.encode([clip(6_000)], codec.card.points[0])
    packed = pack(codes)
    frames = -(-6_000 // (320 if isinstance(codec, SoundStream24) else 200))
    assert packed.bits == 10 * (codec.card.points[0].streams or 0) * frames
    assert np.array_equal(decode(codec, unpack(packed.to_bytes())), decode(codec, codes))


def test_a_poorer_point_is_a_prefix(codec24: SoundStream24) -> None:
    audio = clip(24_000)
    richest = encode(codec24, audio)
    (poorest,) = codec24.encode([audio], codec24.card.points[0])
    assert np.array_equal(streams(poorest), streams(richest)[:4])
    network: Any = codec24._network
    with torch.inference_mode():
        latent = network.encoder(torch.tensor(audio.samples)[None])
        codes = torch.tensor(streams(richest))[None].long()
        errors = [float((network.quantiser.decode(codes[:, :k]) - latent).pow(2).mean()) for k in (4, 8, 12, 16, 24)]
    assert errors == sorted(errors, reverse=True)
    assert min(len(set(stream.tolist())) for stream in richest.streams) >= 50


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_silence_and_full_scale(codec: SoundStreamSystem, value: float) -> None:
    assert np.isfinite(decode(codec, encode(codec, Clip(np.full((1, 3_000), value, np.float32), 16_000)))).all()


def test_neighbours_in_a_list_change_nothing(codec: SoundStreamSystem) -> None:
    clips = [clip(length, seed=seed) for seed, length in enumerate((1_000, 4_000, 1_000))]
    together = codec.encode(clips, codec.card.points[-1])
    for audio, item, decoded in zip(clips, together, codec.decode(together), strict=True):
        alone = encode(codec, audio)
        assert np.array_equal(streams(alone), streams(item))
        np.testing.assert_allclose(decode(codec, alone), decoded, rtol=0, atol=1e-5)


def test_random_weights_follow_the_seed(codec24: SoundStream24) -> None:
    state = torch.get_rng_state()
    same, other = (SoundStream24.network(seed).state_dict() for seed in (0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    mine: Any = codec24._network
    assert all(torch.equal(tensor, same[name]) for name, tensor in mine.state_dict().items())
    assert not any(torch.equal(tensor, other[name]) for name, tensor in same.items())


def test_no_frame_waits_for_a_later_one(codec: SoundStreamSystem) -> None:
    """Frame ``f`` hears its own samples and those before, and is heard from its first one on: nothing is late."""
    network: Any = codec._network
    hop = network.net.hop
    audio = torch.tensor(clip(20 * hop).samples)[None]
    with torch.inference_mode():
        latent = network.encoder(audio)
        for start, first in ((15 * hop, 15), (15 * hop - 1, 14)):
            changed = audio.clone()
            changed[..., start:] *= -1
            differ = (network.encoder(changed) != latent).any(dim=1)[0]
            assert differ.nonzero()[0] == first
        codes = network.quantiser.encode(latent)
        later = torch.where(torch.arange(20) >= 15, (codes + 1) % 1024, codes)
        differ = (network.decode(codes) != network.decode(later))[0, 0]
        assert differ.nonzero()[0] == 15 * hop
