"""Unit vocoders against those of textlesslib on equal weights, and the codecs that they decode."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from codecbench import tolerant_torchaudio, weights
from codecbench.audio import Clip
from codecbench.errors import InvalidSystem
from codecbench.models import unit_files
from codecbench.models.base import LoadOptions
from codecbench.models.blocks import pitch_codes, unit_vocoder
from codecbench.models.blocks.pitch_codes import PitchQuantiser
from codecbench.models.blocks.unit_vocoder import UnitVocoder, UnitVocoderShape
from codecbench.models.checks.runner import check
from codecbench.models.checks.subject import Options
from codecbench.models.registry import find

tolerant_torchaudio.load()  # `transformers` imports it plainly

GOLDEN = Path(__file__).parents[1] / "golden"
RECIPE = runpy.run_path(str(GOLDEN / "checkpoints.py"))
SHAPES: dict[str, Any] = json.loads((GOLDEN / "units.json").read_text())
SYSTEMS = Path(__file__).parents[1] / "rogues" / "tiny_units.py"
NAMES = list(SHAPES["vocoders"])


def released(name: str) -> dict[str, Tensor]:
    """The tiny checkpoint of that name, as its authors' code writes it."""
    return {key: torch.from_numpy(value) for key, value in RECIPE["content"](SHAPES[name], SHAPES["seed"], 1.0).items()}


def golden(name: str) -> Tensor:
    with np.load(GOLDEN / "units.npz") as file:
        return torch.from_numpy(file[name])


def vocoder(name: str) -> UnitVocoder:
    net = unit_vocoder.from_config(SHAPES["vocoders"][name])
    network = UnitVocoder(net).requires_grad_(False).eval()
    weights.load_state(network, unit_vocoder.own_names(released(name), net), Path(name))
    return network


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_waveform_against_textlesslib(name: str) -> None:
    assert len(NAMES) == 4
    pitch = golden(f"{name}_f0") if name in ("pitch", "continuous") else None
    expected = golden(name)
    assert expected.std() > 0.02
    close(vocoder(name)(golden("units"), pitch, speaker=2, style=1), expected)


def test_durations_against_textlesslib() -> None:
    network, units = vocoder("plain"), golden("units")
    found = network.durations(units)
    assert found.tolist() == golden("durations").tolist()
    assert len(set(found.tolist())) > 3
    close(network(torch.repeat_interleave(units, found)), golden("spoken"))


def test_what_a_vocoder_lacks() -> None:
    with pytest.raises(ValueError, match="predicts no durations"):
        vocoder("voices").durations(golden("units"))
    with pytest.raises(ValueError, match="needs a pitch"):
        vocoder("pitch")(golden("units"))
    with pytest.raises(ValueError, match="12 steps do not fit into 17"):
        vocoder("continuous")(golden("units"), torch.zeros(17))
    with pytest.raises(ValueError, match="another kind"):
        unit_vocoder.from_config(SHAPES["vocoders"]["plain"] | {"resblock": "2"})
    with pytest.raises(ValueError, match="embedder"):
        unit_vocoder.from_config(SHAPES["vocoders"]["plain"] | {"embedder_params": {"a": 1}})


def test_shape_of_the_released_configuration() -> None:
    """The numbers of the paper's configuration; its model also has a quantiser of pitch."""
    config = SHAPES["vocoders"]["plain"] | {
        "upsample_rates": [5, 4, 4, 2, 2], "upsample_kernel_sizes": [11, 8, 8, 4, 4], "upsample_initial_channel": 512,
        "num_embeddings": 100, "embedding_dim": 128, "f0": True, "multispkr": "_",
        "f0_quantizer": {"f0_vq_params": {"l_bins": 20}}, "dur_predictor_params": None,
    }  # fmt: skip
    net = unit_vocoder.from_config(config)
    assert net == UnitVocoderShape(pitch=20, speakers=200)
    assert (net.hop, net.inputs) == (320, 384)


def folder_of(tmp_path: Path, files: tuple[weights.WeightFile, ...]) -> Path:
    """A folder with the files of a release: HuBERT, its codebook, a vocoder and its configuration."""
    from transformers import HubertConfig, HubertModel

    hubert, codebook, checkpoint, config = (tmp_path / file.name for file in files)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = HubertModel(HubertConfig(
            hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32, conv_dim=[8] * 7,
            num_conv_pos_embedding_groups=4,
        ))  # fmt: skip
    torch.save(model.state_dict(), hubert)
    joblib = pytest.importorskip("joblib")
    joblib.dump(Codebook(np.random.default_rng(0).standard_normal((100, 16)).astype(np.float32)), codebook)
    facts = SHAPES["vocoders"]["plain"] | {"num_embeddings": 100}
    with torch.random.fork_rng():
        torch.manual_seed(2)
        state = UnitVocoder(unit_vocoder.from_config(facts)).state_dict()
    torch.save({"generator": {released_name(name): tensor for name, tensor in state.items()}}, checkpoint)
    config.write_text(json.dumps(facts))
    return tmp_path


class Codebook:
    """What scikit-learn's k-means looks like to joblib."""

    def __init__(self, centres: Any) -> None:
        self.cluster_centers_ = centres


def released_name(own: str) -> str:
    """The release's name of one of our vocoder's parameters."""
    net = unit_vocoder.from_config(SHAPES["vocoders"]["plain"])
    (found,) = [old for old in SHAPES["plain"] if unit_vocoder.own_names({old: torch.zeros(0)}, net).keys() == {
        own.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v")
    }]  # fmt: skip
    return str(found)


def test_codec_of_released_files(tmp_path: Path) -> None:
    system = find(f"{SYSTEMS}:TinyResynthesis")
    folder = folder_of(tmp_path, system.card.weights)
    codec: Any = system.load(LoadOptions(weights=folder))
    samples = (0.2 * np.random.default_rng(0).standard_normal((1, 3217))).astype(np.float32)
    (codes,) = codec.encode([Clip(samples, 16_000)], system.card.points[0])
    assert codes.streams[0].shape == (11,)
    assert len(set(codes.streams[0].tolist())) > 1

    wrong = json.loads((folder / system.card.weights[3].name).read_text()) | {"resblock": "2"}
    (folder / system.card.weights[3].name).write_text(json.dumps(wrong))
    with pytest.raises(InvalidSystem, match="describes no vocoder that is known here: residual stacks"):
        system.load(LoadOptions(weights=folder))
    np.save(folder / "few.npy", np.zeros((3, 16), np.float32))
    (folder / "few.npy").rename(folder / system.card.weights[1].name)
    with pytest.raises(InvalidSystem, match="cannot be read as k-means centroids"):
        system.load(LoadOptions(weights=folder))


def test_features_may_be_a_folder_of_transformers(tmp_path: Path) -> None:
    from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

    from codecbench.models.blocks.units import Features

    config = HubertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=[8] * 8,
        conv_kernel=[10, 3, 3, 3, 3, 2, 2, 2], conv_stride=[5, 2, 2, 2, 2, 2, 2, 2], num_feat_extract_layers=8,
        num_conv_pos_embedding_groups=4,
    )  # fmt: skip
    model = HubertModel(config).eval()
    model.save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path)
    np.save(tmp_path / "km.npy", np.eye(5, 16, dtype=np.float32))
    found = unit_files.read_tokeniser(Features(2), tmp_path, tmp_path / "km.npy", 5).eval()
    assert (found.net.hop, found.net.normalise, found.net.layer) == (640, True, 2)
    heard = 0.1 + 0.2 * torch.randn(5000, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        normal = (heard - heard.mean()) / (heard.var(correction=0) + 1e-5).sqrt()
        expected = model(normal[None]).last_hidden_state[0]
        torch.testing.assert_close(found.features(heard), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(InvalidSystem, match=r"has centroids \[5, 16\], not \[6, 16\]"):
        unit_files.read_tokeniser(Features(2), tmp_path, tmp_path / "km.npy", 6)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InvalidSystem, match=r"no model\.safetensors and no pytorch_model\.bin"):
        unit_files.read_tokeniser(Features(2), tmp_path, tmp_path / "km.npy", 5)


@pytest.mark.parametrize("length", [560, 5000, 5360, 5519])
def test_features_may_be_those_of_w2v_bert(tmp_path: Path, length: int) -> None:
    from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2BertConfig, Wav2Vec2BertModel

    from codecbench.models.blocks.units import Features

    config = Wav2Vec2BertConfig(
        hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32, output_hidden_size=16
    )
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = Wav2Vec2BertModel(config).eval()
    model.save_pretrained(tmp_path)
    hear = SeamlessM4TFeatureExtractor(
        feature_size=80, num_mel_bins=80, sampling_rate=16_000, stride=2, padding_value=1
    )
    hear.save_pretrained(tmp_path)
    np.save(tmp_path / "km.npy", np.eye(5, 16, dtype=np.float32))
    found = unit_files.read_tokeniser(Features(2), tmp_path, tmp_path / "km.npy", 5).eval()
    assert (found.net.hop, found.net.reach, found.net.layer) == (320, 560, 2)
    heard = 0.2 * torch.randn(length, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        frames = hear(heard.numpy(), sampling_rate=16_000, return_tensors="pt")
        states = model(**frames, output_hidden_states=True).hidden_states
        count = (length - 560) // 320 + 1
        torch.testing.assert_close(found.features(heard), states[2][0, :count], rtol=1e-4, atol=1e-4)
        assert len(found(heard)) == count
        assert found.whole(heard).shape == (-(-length // 320),)


def test_pitch_codes_against_the_paper() -> None:
    quantiser = PitchQuantiser().requires_grad_(False).eval()
    weights.load_state(quantiser, pitch_codes.own_names(released("pitch_codes")), Path("pitch_codes"))
    close(quantiser.features(golden("pitch_codes_in")), golden("pitch_codes_vectors"))
    found = quantiser(golden("pitch_codes_in"))
    assert torch.equal(found, golden("pitch_codes_out"))
    assert found.shape == (640 // pitch_codes.FRAMES,)


def test_standardised_pitch() -> None:
    found = pitch_codes.standardised(torch.tensor([0.0, 100.0, 120.0, 0.0, 140.0]))
    assert found.tolist() == [0.0, -1.0, 0.0, 0.0, 1.0]
    assert not pitch_codes.standardised(torch.tensor([0.0, 100.0])).any()


def test_codec_of_pitch_from_a_folder(tmp_path: Path) -> None:
    """The vocoder's checkpoint has the quantiser of pitch in it."""
    system = find(f"{SYSTEMS}:TinyPitch")
    folder = folder_of(tmp_path, unit_files_of_hubert())
    facts = SHAPES["vocoders"]["plain"] | {
        "num_embeddings": 100, "f0": True, "f0_quantizer": {"f0_vq_params": {"l_bins": 20}},
        "upsample_rates": [5, 4, 4, 2, 2], "upsample_kernel_sizes": [11, 8, 8, 4, 4], "upsample_initial_channel": 32,
        "dur_predictor_params": None,
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(2)
        state = UnitVocoder(unit_vocoder.from_config(facts)).state_dict()
    generator = {"f0_dict.weight" if name == "pitch.weight" else _released(name): t for name, t in state.items()}
    torch.save({"generator": generator | released("pitch_codes")}, folder / "generator.pt")
    (folder / "config.json").write_text(json.dumps(facts))
    codec: Any = system.load(LoadOptions(weights=folder))
    samples = (0.2 * np.sin(2 * np.pi * 150 * np.arange(9000) / 16_000)).astype(np.float32)[None]
    (codes,) = codec.encode([Clip(samples, 16_000)], system.card.points[0])
    assert [len(stream) for stream in codes.streams] == [32, 8]
    assert codec.decode([codes])[0].shape == (1, 9000)
    (folder / "config.json").write_text(json.dumps(facts | {"f0": False}))
    with pytest.raises(InvalidSystem, match=r"does not fit|without 20 codes"):
        system.load(LoadOptions(weights=folder))


def unit_files_of_hubert() -> tuple[weights.WeightFile, ...]:
    return find("speech_resynthesis_hubert100").card.weights


def _released(own: str) -> str:
    """The release's name of a parameter of a vocoder with three kernel sizes and any number of strides."""
    if own.startswith("resample."):
        return own.replace("resample.", "ups.")
    if not own.startswith("fields."):
        return released_name(own)
    _, field, _, branch, kind, rest = own.split(".", 5)
    return f"resblocks.{3 * int(field) + int(branch)}.{'convs1' if kind == 'dilated' else 'convs2'}.{rest}"


@pytest.mark.parametrize(
    "name", ["TinyResynthesis", *(pytest.param(name, marks=pytest.mark.slow) for name in ("TinyPitch", "TinyVoices"))]
)
def test_every_check_of_codecs_passes(name: str) -> None:
    report = check(f"{SYSTEMS}:{name}", Options(random_seed=0, long_seconds=2.5))
    assert [result for result in report.results if not result.ok] == []
