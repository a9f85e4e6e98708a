"""AudioDec against what the released code made of the same random weights, and what the interface asks of a codec."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from codecbench.audio import Audio, Clip
from codecbench.errors import InvalidSystem
from codecbench.metrics.conformance import signals
from codecbench.models.audiodec import SYSTEMS, AudioDec
from codecbench.models.base import Codes, LoadOptions
from codecbench.models.bitstream import pack, unpack
from codecbench.models.blocks.causal import EarlyConv1d, HeldConvTranspose1d
from codecbench.models.blocks.conv import ConvStyle, fold_weight_norm

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "audiodec.npz")
NOISE = signals.noise
CASES = sorted({tuple(key.split("/")[:2]) for key in GOLDEN.files if key.count("/") == 2})
BY_NAME = {system.card.name: system for system in SYSTEMS}
DISTINCT = [BY_NAME[name] for name in sorted({name for name, _ in CASES})]
"""The systems whose networks differ; the others differ from one of them in their weights alone."""
TIE = 1e-5
"""Relative margin between the best and the second-best entry below which rounding may choose either."""


def clip(length: int, rate: int = 24_000, seed: int | None = None) -> Clip:
    return Clip(np.float32(0.1) * NOISE(length, seed=length if seed is None else seed)[None], rate)


@pytest.fixture(scope="module")
def loaded() -> Iterator[dict[str, AudioDec]]:
    """Systems on random weights, kept as long as this file runs."""
    found: dict[str, AudioDec] = {}
    yield found
    found.clear()


def get(loaded: dict[str, AudioDec], name: str) -> AudioDec:
    if name not in loaded:
        loaded[name] = BY_NAME[name].load(LoadOptions(random_seed=0))
    return loaded[name]


@pytest.fixture(params=DISTINCT, ids=lambda system: system.card.name)
def codec(request: pytest.FixtureRequest, loaded: dict[str, AudioDec]) -> AudioDec:
    return get(loaded, request.param.card.name)


def encode(codec: AudioDec, audio: Clip) -> Codes:
    (codes,) = codec.encode([audio], codec.card.points[0])
    return codes


def decode(codec: AudioDec, codes: Codes) -> Audio:
    (decoded,) = codec.decode([codes])
    return decoded


def streams(codes: Codes) -> NDArray[Any]:
    return np.stack(codes.streams)


def margins(codec: AudioDec, audio: Clip) -> NDArray[np.float32]:
    """Relative margin ``[K, F]`` between the two best entries of our codebooks."""
    network: Any = codec._network
    found = []
    with torch.inference_mode():
        residual = network.encoder(torch.tensor(audio.samples)[None]).transpose(1, 2)[0]
        for layer in network.quantiser.layers:
            best, second = layer.scores(residual).topk(2).values.unbind(-1)
            found.append(((best - second) / second.abs()).numpy())
            residual = residual - layer.decode(layer.encode(residual))
    return np.stack(found)


def test_every_kind_of_network_is_compared() -> None:
    assert len(CASES) == 6 * 7 + 1
    networks = {(system.strides, system.activate, system.vocoder): system.card.name for system in [*SYSTEMS, *DISTINCT]}
    assert set(networks.values()) == {system.card.name for system in DISTINCT}


@pytest.mark.parametrize(
    ("name", "length"),
    [pytest.param(*case, marks=[pytest.mark.slow] * (case[1] == "240000")) for case in CASES],
)
def test_equal_to_the_release(loaded: dict[str, AudioDec], name: str, length: str) -> None:
    codec, audio = get(loaded, name), clip(int(length))
    expected, codes = GOLDEN[f"{name}/{length}/codes"], encode(codec, audio)
    assert streams(codes).shape == expected.shape
    tied = np.logical_or.accumulate(margins(codec, audio) < TIE, axis=0)
    differ = (streams(codes) != expected) & ~tied
    assert not differ.any(), f"{differ.sum()} codes differ"
    assert tied.mean() < 0.01
    decoded = decode(codec, replace(codes, streams=tuple(expected)))
    edges = GOLDEN[f"{name}/{length}/audio"]
    whole = decoded if audio.length == edges.size else np.concatenate([decoded[:, :200], decoded[:, -200:]], axis=1)
    np.testing.assert_allclose(whole[0], edges, rtol=0, atol=1e-5)
    if audio.length > 10_000:
        assert min(len(set(stream.tolist())) for stream in expected) >= 70
        assert edges.std() > 0.01, "an output this even would agree with anything"


def random_state(system: type[AudioDec]) -> dict[str, torch.Tensor]:
    """Different values for every parameter, codebook and statistic, under our names."""
    generator = torch.Generator().manual_seed(0)
    state = system.network(None).state_dict()
    return {name: torch.randn(tensor.shape, generator=generator) for name, tensor in state.items()}


def released_files(system: type[AudioDec], ours: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """The release's two files for the weights `ours`, named after its modules."""
    encoder: dict[str, torch.Tensor] = {}
    decoder: dict[str, torch.Tensor] = {}
    for name, tensor in ours.items():
        head, _, rest = name.partition(".")
        if head == "quantiser":
            encoder["quantizer.codebook." + rest] = tensor.t()
            key = "quantizer.codebook." + rest.replace("embed", "")
            encoder |= {key + "cluster_size": torch.zeros(1024), key + "embed_avg": tensor.t()}
        elif head == "encoder" or not system.vocoder:
            autoencoder(name, tensor, system.activate, encoder if head == "encoder" else decoder)
        else:
            vocoder(head, rest, tensor, decoder)
    if system.vocoder:
        for name, tensor in random_state(BY_NAME["audiodec_24khz_sym"]).items():
            if name.startswith("decoder."):
                autoencoder(name, tensor, False, encoder)
        return {system.encoder: encoder, system.decoder: decoder}
    both = encoder | decoder
    return {system.encoder: both, system.decoder: both}


def weight_norm(name: str) -> str:
    return name.replace("parametrizations.weight.original0", "weight_g").replace(
        "parametrizations.weight.original1", "weight_v"
    )


def add(state: dict[str, torch.Tensor], module: str, leaf: str, tensor: torch.Tensor, past: int | None) -> None:
    """Add a parameter of a convolution, and the buffer of `past` samples that the release keeps beside it."""
    state[weight_norm(f"{module}.{leaf}")] = tensor
    if past is not None:
        state[module.rpartition(".")[0] + ".pad_buffer"] = torch.zeros(1, 1, past)


def autoencoder(name: str, tensor: torch.Tensor, activate: bool, state: dict[str, torch.Tensor]) -> None:
    half, where, *rest = name.split(".")
    inner = "1." if activate and half == "decoder" else ""
    if where == "blocks":
        block, what = f"{half}.conv_blocks.{rest[0]}.{inner}", rest[1]
        if what == "units":
            unit = f"{block}res_units.{rest[2]}."
            if rest[4] == "0":
                add(state, unit + "conv1.conv", ".".join(rest[6:]), tensor, 6)
            else:
                add(state, unit + "conv2", ".".join(rest[6:]), tensor, None)
        else:
            kind = "conv" if half == "encoder" else "deconv"
            add(state, f"{block}conv.{kind}", ".".join(rest[3:]), tensor, 1)
        return
    module = {
        "encoder.first": "encoder.conv", "encoder.last": "projector.project",
        "decoder.first": "decoder.conv1", "decoder.last": "decoder.conv2",
    }[f"{half}.{where}"]  # fmt: skip
    add(state, module + ".conv", ".".join(rest[1:]), tensor, 6)


def vocoder(head: str, rest: str, tensor: torch.Tensor, state: dict[str, torch.Tensor]) -> None:
    if head == "normalise":
        state[rest] = tensor
        return
    where, *parts = rest.split(".")
    leaf = ".".join(parts[parts.index("conv") + 1 :])
    if where in {"first", "last"}:
        add(state, {"first": "input", "last": "output"}[where] + "_conv.conv", leaf, tensor, 6)
    elif where == "ups":
        add(state, f"upsamples.{parts[0]}.deconv", leaf, tensor, 1)
    elif parts[1] == "mix":
        add(state, f"blocks.{parts[0]}.conv_out", leaf, tensor, None)
    else:
        *branch, kind, number = parts[1 : parts.index("conv")]
        prefix = f"blocks.{parts[0]}." + (f"blocks.{branch[1]}." if branch else "")
        add(state, f"{prefix}{'convs1' if kind == 'dilated' else 'convs2'}.{number}.conv", leaf, tensor, 2)


@pytest.mark.parametrize("system", DISTINCT, ids=lambda system: system.card.name)
def test_released_files_load_the_same_model(system: type[AudioDec], tmp_path: Path) -> None:
    state = random_state(system)
    files = released_files(system, state)
    names = "\n".join(sorted(set().union(*files.values())))
    assert hashlib.sha256(names.encode()).hexdigest() == str(GOLDEN[f"{system.card.name}/names"])
    for name, tensors in files.items():
        path = tmp_path / "unpacked" / "exp" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"model": {"generator": tensors}, "steps": 1}, path)
    with zipfile.ZipFile(tmp_path / "exp.zip", "w") as archive:
        for name in files:
            archive.write(tmp_path / "unpacked" / "exp" / name, f"exp/{name}")
    expected = system.network(None)
    expected.load_state_dict(state)
    fold_weight_norm(expected)
    for weights in ("exp.zip", "unpacked", "unpacked/exp"):
        theirs: Any = system.load(LoadOptions(weights=tmp_path / weights))._network
        loaded = theirs.state_dict()
        assert all(torch.equal(tensor, loaded[name]) for name, tensor in expected.state_dict().items())


def test_the_vocoder_s_own_file_must_be_there(tmp_path: Path) -> None:
    system = BY_NAME["audiodec_48khz_v2"]
    (encoder, state), _ = released_files(system, random_state(system)).items()
    with zipfile.ZipFile(tmp_path / "exp.zip", "w") as archive:
        torch.save({"model": {"generator": state}}, tmp_path / "x.pkl")
        archive.write(tmp_path / "x.pkl", f"exp/{encoder}")
    with pytest.raises(InvalidSystem, match=r"exp\.zip holds no file exp/vocoder/AudioDec_v2_symAD_vctk_48000"):
        system.load(LoadOptions(weights=tmp_path / "exp.zip"))
    with zipfile.ZipFile(tmp_path / "exp.zip", "a") as archive:
        archive.write(tmp_path / "x.pkl", f"exp/{system.decoder}")
    with pytest.raises(InvalidSystem, match=r"does not fit the model: \d+ missing: .*normalise"):
        system.load(LoadOptions(weights=tmp_path / "exp.zip"))


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.card.name)
def test_missing_weights_name_the_command(
    system: type[AudioDec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path))
    with pytest.raises(InvalidSystem, match=f"`codecbench weights get {system.card.name}`.*--random-weights SEED"):
        system.load(LoadOptions())


@pytest.mark.parametrize(
    ("name", "count"),
    [
        # The encoder has 3 417 152 of symAD's 7 939 936, and 4 191 008 of those of 16 codebooks.
        ("audiodec_24khz_sym", 7_939_936),
        ("audiodec_24khz_v1", 3_904_672 + 19_461_090),
        ("audiodec_48khz_v0", 3_904_672 + 12_932_610),
        ("audiodec_48khz_v2", 3_904_672 + 6_927_330),
        ("audiodec_48khz_activate_sym", 7_948_225),
        ("audiodec_48khz_c16_sym", 9_504_608),
    ],
)
def test_number_of_parameters(loaded: dict[str, AudioDec], name: str, count: int) -> None:
    assert get(loaded, name).parameters() == count


def test_cards() -> None:
    table = {
        (s.card.name.removeprefix("audiodec_"), s.card.sample_rate, len(s.card.streams), s.card.points[0].kbps)
        for s in SYSTEMS
    }
    assert table == {
        ("24khz_v1", 24_000, 8, 6.4), ("24khz_sym", 24_000, 8, 6.4), ("48khz_v0", 48_000, 8, 12.8),
        ("48khz_v1", 48_000, 8, 12.8), ("48khz_v2", 48_000, 8, 12.8), ("48khz_sym", 48_000, 8, 12.8),
        ("48khz_univ", 48_000, 8, 12.8), ("48khz_univ_sym", 48_000, 8, 12.8), ("48khz_activate_sym", 48_000, 8, 12.8),
        ("48khz_c16_sym", 48_000, 16, 24.0),
    }  # fmt: skip
    for system in SYSTEMS:
        (point,) = system.card.points
        assert system.card.nominal_kbps(point.streams or 0) == point.kbps
        assert system.card.weights_licence == "CC-BY-NC-4.0"
        assert np.prod(system.strides) == (system.card.sample_rate or 0) / (system.card.streams[0].frame_rate or 1)


def test_listing_imports_no_torch() -> None:
    code = "import sys, codecbench.models.audiodec; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("length", [1, 2, 599, 601, 7_777])
def test_any_length_comes_back(codec: AudioDec, length: int) -> None:
    audio = clip(length)
    decoded = decode(codec, encode(codec, audio))
    assert decoded.dtype == np.float32
    assert decoded.shape == audio.samples.shape
    assert np.isfinite(decoded).all()


def test_bytes_hold_all_that_the_decoder_needs(codec: AudioDec) -> None:
    codes = encode(codec, clip(9_000))
    packed = pack(codes)
    assert packed.bits == 10 * len(codec.card.streams) * -(-9_000 // int(np.prod(codec.strides)))
    assert np.array_equal(decode(codec, unpack(packed.to_bytes())), decode(codec, codes))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_silence_and_full_scale(codec: AudioDec, value: float) -> None:
    assert np.isfinite(decode(codec, encode(codec, Clip(np.full((1, 3_000), value, np.float32), 24_000)))).all()


def test_neighbours_in_a_list_change_nothing(codec: AudioDec) -> None:
    clips = [clip(length, seed=seed) for seed, length in enumerate((1_000, 4_000, 1_000))]
    together = codec.encode(clips, codec.card.points[0])
    for audio, item, decoded in zip(clips, together, codec.decode(together), strict=True):
        alone = encode(codec, audio)
        assert np.array_equal(streams(alone), streams(item))
        np.testing.assert_allclose(decode(codec, alone), decoded, rtol=0, atol=1e-5)


def test_random_weights_follow_the_seed(loaded: dict[str, AudioDec]) -> None:
    state = torch.get_rng_state()
    same, other = (BY_NAME["audiodec_48khz_v2"].network(seed) for seed in (0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    fold_weight_norm(same)
    mine: Any = get(loaded, "audiodec_48khz_v2")._network
    assert all(torch.equal(tensor, mine.state_dict()[name]) for name, tensor in same.state_dict().items())
    assert not torch.equal(same.quantiser.layers[0].embed, other.quantiser.layers[0].embed)


def test_no_frame_waits_for_a_later_sample(codec: AudioDec) -> None:
    """Frame ``f`` hears the samples up to ``f * hop`` and is heard from there on: the output is not late."""
    network, hop = cast("Any", codec._network), int(np.prod(codec.strides))
    audio = torch.tensor(clip(20 * hop).samples)[None]
    with torch.inference_mode():
        latent = network.encoder(audio)
        for start, first in ((10 * hop, 10), (10 * hop + 1, 11)):
            changed = audio.clone()
            changed[..., start:] *= -1
            differ = (network.encoder(changed) != latent).any(dim=1)[0]
            assert differ.nonzero()[0] == first
        codes = network.quantiser.encode(latent)
        later = torch.where(torch.arange(20) >= 10, (codes + 1) % 1024, codes)
        differ = (network.decode(codes) != network.decode(later))[0, 0]
        assert differ.nonzero()[0] == 10 * hop


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(7, 1, 1), (7, 1, 9), (6, 3, 1), (10, 5, 1), (16, 8, 1)])
@pytest.mark.parametrize("length", [1, 5, 17, 100, 103])
def test_early_convolution_by_its_formula(kernel: int, stride: int, dilation: int, length: int) -> None:
    torch.manual_seed(0)
    conv = EarlyConv1d(2, 3, kernel, stride=stride, dilation=dilation, style=ConvStyle(causal=True))
    x = np.random.default_rng(0).standard_normal((2, length)).astype(np.float32)
    weight, bias = (parameter.detach().numpy() for parameter in conv.parameters())
    expected = np.zeros((3, -(-length // stride)))
    for frame in range(expected.shape[1]):
        expected[:, frame] = bias
        for tap in range(kernel):
            at = frame * stride - (kernel - 1 - tap) * dilation
            if at >= 0:
                expected[:, frame] += weight[:, :, tap] @ x[:, at]
    np.testing.assert_allclose(conv(torch.from_numpy(x)[None])[0].detach().numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("stride", [2, 3, 5])
@pytest.mark.parametrize("frames", [1, 2, 7])
def test_held_transposed_convolution_by_its_formula(stride: int, frames: int) -> None:
    torch.manual_seed(0)
    conv = HeldConvTranspose1d(3, 2, 2 * stride, stride=stride, style=ConvStyle(causal=True))
    x = np.random.default_rng(0).standard_normal((3, frames)).astype(np.float32)
    weight, bias = (parameter.detach().numpy() for parameter in conv.parameters())
    expected = np.zeros((2, frames * stride))
    for at in range(frames * stride):
        frame, tap = divmod(at, stride)
        before = x[:, max(frame - 1, 0)]
        expected[:, at] = bias + weight[:, :, tap].T @ x[:, frame] + weight[:, :, stride + tap].T @ before
    np.testing.assert_allclose(conv(torch.from_numpy(x)[None])[0].detach().numpy(), expected, atol=1e-5)
