"""FunCodec and FreqCodec against what the release made of the same weights, and what the interface asks of a codec.

The golden values are from `tests/golden/regenerate_funcodec.py`.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray

from codecbench.audio import Clip
from codecbench.errors import InvalidSystem
from codecbench.models.base import Codes, LoadOptions
from codecbench.models.bitstream import pack, unpack
from codecbench.models.blocks.spectral import SpectralCodec
from codecbench.models.funcodec import SYSTEMS, FreqCodecGr1, FreqCodecGr8, FunCodec, FunCodecEn320, FunCodecEn640
from codecbench.models.funcodec_config import network

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "funcodec.npz")
SHAPES = (FunCodecEn320, FunCodecEn640, FreqCodecGr1, FreqCodecGr8)
"""One system of each shape."""
SMALL = (FunCodecEn320, FreqCodecGr1, FreqCodecGr8)
CASES = [tuple(key.split("/")[:2]) for key in GOLDEN.files if key.endswith("/codes")]
TIE = 1e-5
"""Relative margin between the best and the second-best entry below which rounding may choose either."""


@cache
def random(system: type[FunCodec], seed: int = 0) -> FunCodec:
    return system.load(LoadOptions(random_seed=seed))


def named(name: str) -> type[FunCodec]:
    return {system.card.name: system for system in SYSTEMS}[name]


def clip(length: int, seed: int | None = None) -> Clip:
    """Noise; digital silence between samples 2 000 and 5 000."""
    noise = np.random.RandomState(length if seed is None else seed).standard_normal((1, length))
    samples = np.asarray(0.1, np.float32) * noise.astype(np.float32)
    samples[:, 2_000:5_000] = 0
    return Clip(samples, 16_000)


def streams(codes: Codes) -> NDArray[np.int32]:
    return np.stack(codes.streams)


def is_spectral(codec: FunCodec) -> bool:
    return isinstance(codec._network, SpectralCodec)


def kept(samples: int) -> NDArray[np.int64]:
    """The positions whose samples the golden file holds."""
    starts = (0, 160, samples // 2, samples - 32) if samples > 400 else ()
    return np.concatenate([np.arange(start, start + 32) for start in starts]) if starts else np.arange(samples)


def margins(codec: FunCodec, audio: Clip) -> NDArray[np.float32]:
    """Relative margin ``[K, F]`` between the two best entries."""
    found = []
    with torch.inference_mode():
        x = torch.tensor(audio.samples)[None]
        residual = codec._network.encoder(x / x.square().mean().sqrt())[0].T
        for layer in codec._network.quantiser.layers:
            best, second = layer.scores(residual).topk(2).values.unbind(-1)
            found.append(((best - second) / second.abs()).numpy())
            residual = residual - layer.decode(layer.encode(residual))
    return np.stack(found)


@pytest.mark.parametrize(("name", "length"), [(name, int(length)) for name, length in CASES])
def test_equal_to_the_release(name: str, length: int) -> None:
    assert len(CASES) == 24
    codec, audio, golden = random(named(name)), clip(length), f"{name}/{length}"
    every = 10 if length > 100_000 else 1
    (ours,) = codec.encode([audio], codec.card.points[-1])
    expected = GOLDEN[f"{golden}/codes"]
    tied = np.logical_or.accumulate(margins(codec, audio) < TIE, axis=0)[:, ::every]
    differ = (streams(ours)[:, ::every] != expected) & ~tied
    assert not differ.any(), f"{differ.sum()} codes differ"
    assert tied.mean() < 0.1
    # Processors sum in an order of their own.
    np.testing.assert_allclose(ours.side["scale"], GOLDEN[f"{golden}/scale"], rtol=3e-7)
    if length > 100_000:
        assert min(len(set(stream.tolist())) for stream in ours.streams) >= 250
    (decoded,) = codec.decode([ours])
    assert decoded.shape == (1, length)
    assert_equal_waveforms(codec, decoded[0], golden)


def assert_equal_waveforms(codec: FunCodec, decoded: NDArray[np.float32], golden: str, count: str = "") -> None:
    """Where the release is late, our sample ``n`` is its sample ``n + 160``; where it is short, it has no more."""
    samples = int(GOLDEN[f"{golden}/samples"])
    spectra = len(decoded) // 160 + 1
    late = 160 * (spectra % 2) if is_spectral(codec) else 0
    assert len(decoded) - samples == ((len(decoded) % 160 if spectra % 2 == 0 else 0) if is_spectral(codec) else 0)
    there = kept(samples)
    expected = GOLDEN[f"{golden}/audio{count}"][there >= late]
    np.testing.assert_allclose(decoded[there[there >= late] - late], expected, rtol=0, atol=1e-6)
    if samples > 1000:
        assert expected.std() > 0.003, "an output this even would agree with anything"


@pytest.mark.parametrize("system", SHAPES)
def test_every_point_decodes_as_the_release_does(system: type[FunCodec]) -> None:
    codec, golden = random(system), f"{system.card.name}/7777"
    (richest,) = codec.encode([clip(7_777)], system.card.points[-1])
    assert len(system.card.points) == 6
    for point in system.card.points:
        count = "" if point.streams == 32 else f"/{point.streams}"
        (decoded,) = codec.decode([richest.prefix(point.streams or 0)])
        assert_equal_waveforms(codec, decoded[0], golden, count)


@pytest.mark.parametrize("system", SHAPES)
def test_number_of_parameters(system: type[FunCodec]) -> None:
    count = random(system).parameters()
    assert count == GOLDEN[f"{system.card.name}/parameters"]
    # The release counts without the group normalisation. Its 57.83 M for 640 samples a frame are the sum of 57.55 M
    # with it and of 0.28 M of the discriminator.
    published = {"funcodec_en_ds320": 14.85, "funcodec_en_ds640": 57.55, "freqcodec_en_gr1": 0.52,
                 "freqcodec_en_gr8": 4.50}[system.card.name]  # fmt: skip
    norms = sum(p.numel() for name, p in random(system)._network.named_parameters() if ".norm." in name)
    assert round((count - norms * (system is not FunCodecEn640)) / 1e6, 2) == published


@pytest.mark.parametrize(
    ("system", "billions"), [(FunCodecEn320, 3.72), (FunCodecEn640, 7.73), (FreqCodecGr1, 0.34), (FreqCodecGr8, 2.18)]
)
def test_number_of_multiply_adds(system: type[FunCodec], billions: float) -> None:
    """For one second, by the rules of the counter that the release's numbers are from."""
    network, found = random(system)._network, []

    def count(module: Any, inputs: tuple[torch.Tensor, ...], output: Any) -> None:
        if isinstance(module, torch.nn.LSTM):
            size, steps = module.hidden_size, len(inputs[0])
            found.append(steps * module.num_layers * (4 * (2 * size * size + 3 * size) + 4 * size))
        else:
            found.append(output.numel() * inputs[0].shape[1] // module.groups * module.weight[0, 0].numel())

    kinds = torch.nn.LSTM, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.ConvTranspose1d, torch.nn.ConvTranspose2d
    hooks = [module.register_forward_hook(count) for module in network.modules() if isinstance(module, kinds)]
    with torch.inference_mode():
        network.decode(network.encode(torch.ones(1, 1, 16_000), 1))
    for hook in hooks:
        hook.remove()
    assert len(found) == len(hooks)
    assert round(sum(found) / 1e9, 2) == billions


@pytest.mark.parametrize("system", SYSTEMS)
def test_card(system: type[FunCodec]) -> None:
    card = system.card
    rate = 25 if card.name.endswith("640") else 50
    assert {point.streams: point.kbps for point in card.points} == {n: n * rate / 100 for n in (1, 2, 4, 8, 16, 32)}
    assert all(card.nominal_kbps(point.streams or 0) == point.kbps for point in card.points)
    assert [side.name for side in card.side] == ["scale"]
    model, config = card.weights
    assert (model.name, config.name) == (f"{card.name}.pth", f"{card.name}.yaml")
    assert re.fullmatch(r"https://huggingface\.co/alibaba-damo/[\w-]+/resolve/\w+/model\.pth", model.url)
    assert config.url == model.url.replace("model.pth", "config.yaml")


def test_listing_imports_no_torch() -> None:
    code = "import sys, codecbench.models.funcodec; sys.exit('torch' in sys.modules or 'yaml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def released_state(codec: FunCodec) -> dict[str, torch.Tensor]:
    """The tensors of `codec` as a released file holds them, with those that only training needs."""
    state: dict[str, torch.Tensor] = {}
    for name, tensor in codec._network.state_dict().items():
        side, _, rest = name.partition(".layers.")
        if side != "quantiser":
            conv = "convtr" if side == "decoder" and re.fullmatch(r"\d+\.(conv|norm)\.\w+", rest) else "conv"
            up = conv == "convtr" and rest.split(".")[0] in transposed(codec)
            inner = {"conv": "convtr.convtr" if up else "conv.conv", "norm": "convtr.norm" if up else "conv.norm"}
            parts = rest.rsplit(".", 2)
            rest = ".".join([*parts[:-2], inner.get(parts[-2], parts[-2]), parts[-1]])
            state[f"{side}.model.{rest}"] = tensor
    root = "quantizer.rq.model"
    state[f"{root}.embed"] = torch.stack([layer.embed for layer in codec._network.quantiser.layers])
    state |= {f"{root}.embed_avg": state[f"{root}.embed"], f"{root}.inited": torch.ones(32, 1)}
    state[f"{root}.cluster_size"] = torch.ones(32, 1024)
    if is_spectral(codec):
        state |= {f"{side}_trans_func.window": torch.hann_window(512) for side in ("enc", "dec")}
    return state


def transposed(codec: FunCodec) -> list[str]:
    kinds = (torch.nn.ConvTranspose1d, torch.nn.ConvTranspose2d)
    layers = enumerate(codec._network.decoder.layers)
    return [str(i) for i, layer in layers if isinstance(getattr(layer, "conv", None), kinds)]


def save(folder: Path, codec: FunCodec, config: Any = None) -> Path:
    state = released_state(codec) | {"discriminator.discriminators.0.x": torch.zeros(1), "mel_spec_transforms.0.window":
                                     torch.zeros(32)}  # fmt: skip
    torch.save(state, folder / "model.pth")
    if config is not None:
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.mark.parametrize("system", SMALL)
@pytest.mark.parametrize("kind", ["folder", "file", "with its configuration"])
def test_released_files_load_the_same_model(system: type[FunCodec], kind: str, tmp_path: Path) -> None:
    codec = random(system)
    names = "\n".join(sorted(released_state(codec)))
    assert hashlib.sha256(names.encode()).hexdigest() == GOLDEN[f"{system.card.name}/names"]
    folder = save(tmp_path, codec, system.config if kind == "with its configuration" else None)
    loaded = system.load(LoadOptions(weights=folder / "model.pth" if kind == "file" else folder))
    ours = codec._network.state_dict()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in loaded._network.state_dict().items())


def changed(config: Any, **settings: Any) -> Any:
    """A copy of `config` with settings changed, each named ``part__setting``, as in its file."""
    config = json.loads(json.dumps(config))
    for name, value in settings.items():
        part, _, setting = name.rpartition("__")
        (config.setdefault(part, {}) if part else config)[setting] = value
    return config


def test_the_configuration_beside_the_weights_decides(tmp_path: Path) -> None:
    sides = {"kernel_size": 5, "n_residual_layers": 1, "seq_model": "lstm", "seq_layer_num": 1, "n_filters": 16}
    config = changed(FreqCodecGr1.config, **{f"{side}_conf__{k}": v for side in ("encoder", "decoder")
                                             for k, v in sides.items()},
                     encoder_conf__conv_group_ratio=2, decoder_conf__conv_group_ratio=-1,
                     decoder_conf__norm_params={"num_groups": 1}, encoder_conf__true_skip=True,
                     quantizer_conf={"num_quantizers": 32, "codebook_size": 1024, "ema_decay": 0.99},
                     optim="adam")  # fmt: skip
    found = network(config, FreqCodecGr1.card, "here")
    shapes = {name: tuple(tensor.shape) for name, tensor in found.state_dict().items()}
    assert shapes["encoder.layers.0.conv.weight"] == (16, 3, 5, 5)
    assert shapes["encoder.layers.1.block.1.conv.weight"] == (8, 8, 3, 3)  # 16 channels in, 8 / 2 / 2 groups
    assert shapes["encoder.layers.3.conv.weight"] == (32, 4, 8, 2)
    assert shapes["decoder.layers.5.block.1.conv.weight"] == (64, 128, 3, 3)
    assert shapes["decoder.layers.1.lstm.weight_hh_l0"] == (1024, 256)
    assert "encoder.layers.1.shortcut.conv.weight" not in shapes
    codec = FreqCodecGr1(found, "cpu")
    save(tmp_path, codec, config)
    loaded = FreqCodecGr1.load(LoadOptions(weights=tmp_path))
    assert loaded.parameters() == codec.parameters() != random(FreqCodecGr1).parameters()
    (tmp_path / "config.yaml").unlink()
    with pytest.raises(InvalidSystem, match=r"does not fit the model: .*; put the config\.yaml"):
        FreqCodecGr1.load(LoadOptions(weights=tmp_path))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "encodec_next"}, r"here describes no model that can be built here: 'encodec_next'"),
        ({"encoder_conf__activation": "snake"}, r"activation is snake, not ELU"),
        ({"encoder_conf__causal": True}, r"causal is True, not False"),
        ({"encoder_conf__norm": "layer_norm"}, r"built here: 'layer_norm'"),
        ({"decoder_conf__seq_model": "transformer"}, r"seq_model is transformer, not lstm or none"),
        ({"encoder_conf__new": 1}, r"encoder_conf has the unknown settings new"),
        ({"encoder_conf__ratios": [8, 5, 4, 4], "decoder_conf__ratios": [8, 5, 4, 4]}, r"frames of 640 samples, but"),
        ({"decoder_conf__n_filters": 16}, r"shape of the decoder is"),
        ({"quantizer_conf__codec_dim": 8}, r"codec_dim is 8, not None"),
        ({"quantizer_conf__num_quantizers": 8}, r"num_quantizers is 8, not 32"),
        ({"quantizer_conf__rotate": 1}, r"quantizer_conf has the unknown settings rotate"),
        ({"model_conf__segment_dur": 1.0}, r"segment_dur is 1.0, not None"),
        ({"model_conf__audio_normalize": False}, r"audio_normalize is False, not True"),
        ({"model_conf__target_sample_hz": 24_000}, r"target_sample_hz is 24000, not 16000"),
        ({"model_conf__codec_domain": "stft"}, r"codec_domain is stft, not time"),
        ({"encoder_conf": None}, r"built here: "),
    ],
)
def test_other_configurations_are_refused(settings: dict[str, Any], message: str) -> None:
    config = changed(FunCodecEn320.config, **settings)
    with pytest.raises(InvalidSystem, match=message):
        network(config, FunCodecEn320.card, "here")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model_conf__codec_domain", ["mag_angle", "mag_angle"], "codec_domain is "),
        ("decoder_conf__ratios", [[4, 1], [4, 2], [4, 1], [4, 1]], "ratios of the decoder is "),
        ("model_conf__domain_conf", {"hop_length": 320}, "frames of 640 samples, but"),
    ],
)
def test_other_spectra_are_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidSystem, match=message):
        network(changed(FreqCodecGr8.config, **{name: value}), FreqCodecGr8.card, "here")


@pytest.mark.parametrize("text", ["a: [", "- 1", "a: !!python/object/apply:os.getcwd []"])
def test_a_damaged_configuration_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    (tmp_path / "model.pth").write_bytes(b"")
    with pytest.raises(InvalidSystem, match=r"config\.yaml (cannot be read as YAML|is no configuration)") as caught:
        FunCodecEn320.load(LoadOptions(weights=tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("system", SMALL)
def test_wrong_weights_are_refused(system: type[FunCodec], tmp_path: Path) -> None:
    whole = released_state(random(system))
    for change, message in (
        ({"encoder.model.0.conv.conv.bias": torch.zeros(31)}, r"size mismatch for encoder.layers.0.conv.bias"),
        ({"encoder.model.99.conv.conv.bias": torch.zeros(1)}, r"1 unexpected: encoder.layers.99.conv.bias"),
        ({"quantizer.rq.model.embed": torch.zeros(8, 1024, 128)}, r"24 missing: quantiser.layers.8.embed, "),
        ({"quantizer.input_proj.weight": torch.zeros(1)}, r"1 unexpected: quantizer.input_proj.weight"),
    ):
        torch.save(whole | change, tmp_path / "model.pth")
        with pytest.raises(InvalidSystem, match=message) as caught:
            system.load(LoadOptions(weights=tmp_path))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("system", SYSTEMS)
def test_missing_weights_name_the_command(
    system: type[FunCodec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path))
    with pytest.raises(InvalidSystem, match=f"`codecbench weights get {system.card.name}`.*--random-weights SEED"):
        system.load(LoadOptions())


@pytest.mark.parametrize("system", SMALL)
@pytest.mark.parametrize("length", [1, 2, 159, 160, 256, 257, 319, 320, 321, 479, 7_777])
def test_any_length_comes_back(system: type[FunCodec], length: int) -> None:
    codec, audio = random(system), clip(length)
    (codes,) = codec.encode([audio], codec.card.points[-1])
    assert codes.codebook_sizes == (1024,) * 32
    frames = -(-(length // 160 + 1) // 2) if is_spectral(codec) else -(-length // 320)
    assert {len(stream) for stream in codes.streams} == {frames}
    for point in codec.card.points[::5]:
        (decoded,) = codec.decode([codes.prefix(point.streams or 0)])
        assert decoded.dtype == np.float32
        assert decoded.shape == (1, length)
        assert np.isfinite(decoded).all()


@pytest.mark.parametrize("system", SMALL)
def test_bytes_hold_all_that_the_decoder_needs(system: type[FunCodec]) -> None:
    codec = random(system)
    (codes,) = codec.encode([clip(10_000)], codec.card.points[1])
    packed = pack(codes)
    assert packed.bits == 10 * 2 * 32 + 32
    (decoded,) = codec.decode([unpack(packed.to_bytes())])
    assert np.array_equal(decoded, codec.decode([codes])[0])


@pytest.mark.parametrize("system", SMALL)
@pytest.mark.parametrize("gain", [0.01, 10.0])
def test_loudness_passes_through_the_scale_alone(system: type[FunCodec], gain: float) -> None:
    codec, audio = random(system), clip(8_000)
    louder = Clip(audio.samples * np.float32(gain), 16_000)
    codes, other = codec.encode([audio, louder], codec.card.points[0])
    assert np.mean(streams(codes) == streams(other)) > 0.95
    assert other.side["scale"] == pytest.approx(gain * codes.side["scale"], rel=1e-4)
    decoded, twice = codec.decode([codes, Codes(8_000, 16_000, 1, codes.streams, codes.codebook_sizes, other.side)])
    np.testing.assert_allclose(twice, gain * decoded, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("system", SMALL)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_silence_and_full_scale(system: type[FunCodec], value: float) -> None:
    codec = random(system)
    audio = Clip(np.full((1, 5_000), value, np.float32), 16_000)
    (decoded,) = codec.decode(codec.encode([audio], codec.card.points[-1]))
    assert np.isfinite(decoded).all()
    if not value:
        assert np.abs(decoded).max() <= 1e-6


@pytest.mark.parametrize("system", SMALL)
def test_neighbours_in_a_list_change_nothing(system: type[FunCodec]) -> None:
    codec = random(system)
    clips = [clip(length, seed) for seed, length in enumerate((4_000, 9_000, 4_000))]
    together = codec.encode(clips, codec.card.points[-1])
    for audio, item, decoded in zip(clips, together, codec.decode(together), strict=True):
        (alone,) = codec.encode([audio], codec.card.points[-1])
        assert np.array_equal(streams(alone), streams(item))
        np.testing.assert_allclose(codec.decode([alone])[0], decoded, rtol=0, atol=1e-5)


@pytest.mark.parametrize("system", SMALL)
def test_random_weights_follow_the_seed(system: type[FunCodec]) -> None:
    state = torch.get_rng_state()
    same, other = (system.load(LoadOptions(random_seed=seed))._network.state_dict() for seed in (0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    mine = random(system)._network.state_dict()
    assert all(torch.equal(tensor, same[name]) for name, tensor in mine.items())
    assert not all(torch.equal(tensor, other[name]) for name, tensor in mine.items())


@pytest.mark.parametrize("system", SMALL)
def test_random_weights_behave_like_a_codec(system: type[FunCodec]) -> None:
    """Varied codes, and less distortion with more codebooks."""
    codec, audio = random(system), clip(48_000)
    (codes,) = codec.encode([audio], codec.card.points[-1])
    assert min(len(set(stream.tolist())) for stream in codes.streams) >= 90
    with torch.inference_mode():
        x = torch.tensor(audio.samples)[None]
        latent = codec._network.encoder(x / x.square().mean().sqrt())
        found = codec._network.quantiser.encode(latent)
        errors = [
            float((codec._network.quantiser.decode(found[:, : point.streams]) - latent).square().mean())
            for point in codec.card.points
        ]
    assert errors == sorted(errors, reverse=True)
