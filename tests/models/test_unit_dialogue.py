"""dGSLM and pGSLM in a tiny size: files in the released layouts, company, cache and pitch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from codecbench import tolerant_torchaudio
from codecbench.audio import Clip
from codecbench.errors import InvalidSystem
from codecbench.models import pgslm
from codecbench.models.base import LoadOptions, Request, Sampling
from codecbench.models.blocks import pitch, units
from codecbench.models.blocks.unit_vocoder import UnitVocoder, from_config
from codecbench.models.blocks.units import Features, Tokeniser
from codecbench.models.checks.runner import check
from codecbench.models.checks.subject import Options
from codecbench.models.registry import find

tolerant_torchaudio.load()  # `transformers` imports it plainly

SYSTEMS = Path(__file__).parents[1] / "rogues" / "tiny_units.py"
NAMES = ("TinyDGSLM", "TinyPGSLM", "TinyPGSLMNumbers")


def system(name: str) -> Any:
    return find(f"{SYSTEMS}:{name}")


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest) -> Any:
    return system(request.param).load(LoadOptions(random_seed=0))


def hum(seconds: float, hertz: float, channels: int = 1) -> Clip:
    times = np.arange(int(16_000 * seconds)) / 16_000
    rows = [
        sum(np.sin(2 * np.pi * k * hertz * (1 + 0.2 * c) * times) / k for k in range(1, 12)) for c in range(channels)
    ]
    noise = 0.02 * np.random.default_rng(0).standard_normal((channels, len(times)))
    return Clip((0.2 * np.stack(rows) * np.sin(3 * times) + noise).astype(np.float32), 16_000)


@pytest.mark.parametrize("sampling", [Sampling(temperature=0, max_seconds=0.3), Sampling(top_k=20, max_seconds=0.3)])
def test_neither_company_nor_cache_change_anything(model: Any, sampling: Sampling) -> None:
    channels = model.card.channels
    clips = [hum(0.4, 120, channels), hum(0.9, 200, channels), hum(0.2, 90, channels)]
    requests = [Request("continuation", audio=clip) for clip in clips]
    together = model.generate(requests, sampling)
    model.use_cache = False
    try:
        alone = [model.generate([request], sampling)[0] for request in requests]
    finally:
        model.use_cache = True
    for a, b in zip(together, alone, strict=True):
        assert (a.tokens, a.ended) == (b.tokens, b.ended)
        assert a.audio.samples.shape[0] == channels
        assert a.audio.length <= 4800
        np.testing.assert_array_equal(a.audio.samples, b.audio.samples)


def test_company_that_nearly_fills_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    model = system("TinyPGSLM").load(LoadOptions(random_seed=0))
    clips = [hum(0.2, 90), hum(0.9, 200)]
    monkeypatch.setattr(pgslm, "LONGEST", len(model.encode(clips[1])[0]) + 3)
    requests = [Request("continuation", audio=own) for own in clips]
    sampling = Sampling(seed=2, max_seconds=0.3)
    together = model.generate(requests, sampling)
    alone = [model.generate([request], sampling)[0] for request in requests]
    assert [(own.tokens, own.ended) for own in together] == [(own.tokens, own.ended) for own in alone]
    assert together[1].tokens <= 6


def test_a_dialogue_has_two_sides() -> None:
    model = system("TinyDGSLM").load(LoadOptions(random_seed=0))
    clip = hum(0.5, 120, 2)
    codes = model.encode(clip)
    assert codes.shape == (2, 24)
    (response,) = model.generate([Request("continuation", audio=clip)], Sampling(max_seconds=0.5, seed=2))
    assert response.audio.samples.shape == (2, 8000)
    assert response.tokens == 50
    assert not np.array_equal(*response.audio.samples)
    turned = Clip(clip.samples[::-1].copy(), 16_000)
    (one,), (other,) = model.loglikelihood([clip]), model.loglikelihood([turned])
    assert one.nats == pytest.approx(other.nats, rel=1e-4)  # the two towers are one
    assert one.tokens == int((codes[:, 1:] != codes[:, :-1]).sum()) + 2


def test_a_dialogue_that_fills_the_context_is_refused() -> None:
    model = system("TinyDGSLM").load(LoadOptions(random_seed=0))
    with pytest.raises(ValueError, match="has room for 6144"):
        model.generate([Request("continuation", audio=hum(0.5, 120, 2))], Sampling(max_seconds=123.0))


@pytest.mark.parametrize("hertz", [70.0, 120.0, 220.0, 380.0])
def test_pitch_of_a_hum(hertz: float) -> None:
    clip = hum(0.5, hertz)
    found = pitch.track(torch.tensor(clip.samples[0]))[20:80]
    assert len(pitch.track(torch.zeros(8001))) == 101
    assert float((found > 0).float().mean()) > 0.9
    assert float(found[found > 0].median()) == pytest.approx(hertz, rel=0.02)


def test_noise_and_silence_have_no_pitch() -> None:
    noise = torch.randn(8000, generator=torch.Generator().manual_seed(0))
    assert float((pitch.track(noise) > 0).float().mean()) < 0.1
    assert not pitch.track(torch.zeros(8000)).any()


def test_pitch_of_units() -> None:
    heights = torch.tensor([100.0, 0.0, 120.0, 140.0, 0.0, 0.0, 200.0])
    found = pitch.of_units(heights, torch.tensor([1, 2, 1]), 2)
    assert found.tolist() == [100.0, 130.0, 200.0]
    found = pitch.of_units(heights, torch.tensor([2, 1]), 2)
    assert found.tolist() == [120.0, 0.0]


def test_normalised_pitch_against_numpy() -> None:
    spoken = np.array([0, 100, 0, 0, 160, 120, 0], np.float32)
    filled = np.interp(np.arange(7), [1, 4, 5], [100, 160, 120], left=0, right=0)
    mean = np.mean(np.log([100, 160, 120]))
    expected = np.where(filled > 0, np.log(np.maximum(filled, 1)) - mean, 0)
    np.testing.assert_allclose(pitch.normalised(torch.tensor(spoken)), expected, rtol=1e-5, atol=1e-6)
    assert pitch.normalised(torch.zeros(4)).tolist() == [0, 0, 0, 0]
    assert pitch.normalised(torch.tensor([0.0, 90.0])).tolist() == [0, 0]


FAIRSEQ = {
    "parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v",
    "encoder.transformer.pos_conv_embed.conv.": "encoder.pos_conv.0.", "encoder.transformer.": "encoder.",
    "encoder.feature_projection.layer_norm.": "layer_norm.", ".attention.": ".self_attn.",
    "encoder.feature_projection.projection.": "post_extract_proj.", "feed_forward.intermediate_dense.": "fc1.",
    "feed_forward.output_dense.": "fc2.",
}  # fmt: skip


def fairseq_hubert(own: dict[str, Tensor]) -> dict[str, Tensor]:
    """A tokeniser's state under fairseq's names, as torchaudio knows them, and what else a checkpoint has."""
    from torchaudio.models.wav2vec2.utils.import_fairseq import _map_key

    found = {"mask_emb": torch.zeros(16), "final_proj.weight": torch.zeros(2, 2), "label_embs_concat": torch.zeros(2)}
    for name, tensor in own.items():
        if name == "centroids":
            continue
        theirs = new = name.removeprefix("network.")
        for old, other in FAIRSEQ.items():
            new = new.replace(old, other)
        if "conv_layers" in new:
            new = new.replace(".conv.", ".0.").replace(".layer_norm.", ".2.")
        elif ".layers." in new and ".layer_norm." in new:
            new = new.replace(".layer_norm.", ".self_attn_layer_norm.")
        for part, old in ((0, "g"), (1, "v")):
            theirs = theirs.replace(f"parametrizations.weight.original{part}", f"weight_{old}")
        assert _map_key(new) == theirs
        found[new] = tensor
    return found


def test_hubert_of_fairseq() -> None:
    net = Features(2, 16, 2, 32, tuple((8, size, stride) for _, size, stride in units.HEAD), position_groups=4)
    own = Tokeniser(net, 3).state_dict()
    released = fairseq_hubert(own)
    assert "post_extract_proj.weight" in released
    assert "encoder.layers.1.self_attn.k_proj.weight" in released
    assert "encoder.layers.0.fc1.bias" in released
    assert "feature_extractor.conv_layers.0.2.weight" in released
    released["encoder.layers.2.fc1.weight"] = torch.zeros(1)  # beyond the layer that is used
    found = units.from_fairseq(released, net)
    assert {*found, "centroids"} == set(own)
    assert all(torch.equal(tensor, own[name]) for name, tensor in found.items())


def test_dgslm_of_released_files(tmp_path: Path) -> None:
    model = system("TinyDGSLM")
    lm, dictionary, hubert, codebook, checkpoint, config = (tmp_path / file.name for file in model.card.weights)
    built = model.load(LoadOptions(random_seed=4))
    names = {
        "embedding.": "embed_tokens.", "norm.": "layer_norm.", "head.": "output_projection.0.",
        "duration.": "output_duration_prediction.0.", ".attention.": ".self_attn.", ".cross.": ".cross_channel_attn.",
        ".attention_norm.": ".self_attn_layer_norm.", ".cross_norm.": ".cross_channel_attn_layer_norm.",
        ".feed_norm.": ".final_layer_norm.", ".feed.inner.": ".fc1.", ".feed.outer.": ".fc2.",
        ".query.": ".q_proj.", ".key.": ".k_proj.", ".value.": ".v_proj.", ".output.": ".out_proj.",
    }  # fmt: skip
    state = {"decoder.version": torch.tensor([3.0])}
    for name, tensor in built.lm.state_dict().items():
        new = name
        for own, other in names.items():
            if own[0] == "." or name.startswith(own):
                new = new.replace(own, other)
        state[f"decoder.{new}"] = tensor
    torch.save({"model": state, "cfg": {"model": None}}, lm)
    dictionary.write_text("".join(f"{unit} 1\n" for unit in range(500)))
    net = Features(**model.features)
    torch.save({"model": fairseq_hubert(Tokeniser(net, 500).state_dict())}, hubert)
    joblib = pytest.importorskip("joblib")
    joblib.dump(Codebook(np.random.default_rng(0).standard_normal((500, 16)).astype(np.float32)), codebook)
    facts: dict[str, Any] = {
        "resblock": "1", "upsample_rates": [5, 4, 4, 2, 2], "upsample_kernel_sizes": [11, 8, 8, 4, 4],
        "upsample_initial_channel": 32, "resblock_kernel_sizes": [3, 7, 11], "num_embeddings": 500,
        "resblock_dilation_sizes": [[1, 3, 5]] * 3, "embedding_dim": 16, "multispkr": "from_input", "num_speakers": 5,
    }  # fmt: skip
    config.write_text(json.dumps(facts))
    torch.save({"generator": released_vocoder(UnitVocoder(from_config(facts)))}, checkpoint)
    loaded = model.load(LoadOptions(weights=tmp_path))
    tokens = 4 + torch.randint(0, 500, (2, 1, 9), generator=torch.Generator().manual_seed(0))
    for found, expected in zip(loaded.lm(tokens), built.lm(tokens), strict=True):
        torch.testing.assert_close(found, expected)
    clip = hum(0.3, 100, 2)
    assert loaded.generate([Request("continuation", audio=clip)], Sampling(max_seconds=0.2))[0].audio.length == 3200
    dictionary.write_text("7 1\n")
    with pytest.raises(InvalidSystem, match="the dictionary lacks 499 of 500 units"):
        model.load(LoadOptions(weights=tmp_path))


class Codebook:
    """What scikit-learn's k-means looks like to joblib."""

    def __init__(self, centres: Any) -> None:
        self.cluster_centers_ = centres


def released_vocoder(vocoder: UnitVocoder) -> dict[str, Tensor]:
    plain = {"unit.": "dict.", "speaker.": "spkr.", "pitch.": "f0_quant_embed.", "first.": "conv_pre.",
             "last.": "conv_post.", "resample.": "ups."}  # fmt: skip
    found = {}
    for name, tensor in vocoder.state_dict().items():
        new = name
        for own, other in plain.items():
            new = other + new.removeprefix(own) if name.startswith(own) else new
        if name.startswith("fields."):
            _, field, _, branch, kind, rest = name.split(".", 5)
            kinds = {"dilated": "convs1", "plain": "convs2"}
            new = f"resblocks.{3 * int(field) + int(branch)}.{kinds[kind]}.{rest}"
        found[new] = tensor
    return found


@pytest.mark.parametrize("name", ["TinyPGSLM", "TinyPGSLMNumbers"])
def test_pgslm_of_released_files(tmp_path: Path, name: str) -> None:
    from transformers import HubertConfig, HubertModel

    model = system(name)
    lm, hubert, codebook, checkpoint, config, edges = (tmp_path / file.name for file in model.card.weights)
    built = model.load(LoadOptions(random_seed=4))
    names = {
        "embedding.": "embed_tokens.", "head.": "project_out_dim.", "backbone.norm.": "layer_norm.",
        "backbone.": "", ".attention.": ".self_attn.", ".attention_norm.": ".self_attn_layer_norm.",
        ".feed_norm.": ".final_layer_norm.", ".feed.inner.": ".fc1.", ".feed.outer.": ".fc2.",
        ".query.": ".q_proj.", ".key.": ".k_proj.", ".value.": ".v_proj.", ".output.": ".out_proj.",
        "prosody.": "embed_other_list." if model.discrete else "proj_other_list.",
    }  # fmt: skip
    state = {"decoder.version": torch.tensor([3.0]), "decoder.output_projection.weight": torch.zeros(104, 32)}
    for own_name, tensor in built.lm.state_dict().items():
        new = own_name
        for own, other in names.items():
            if own[0] == "." or new.startswith(own):
                new = new.replace(own, other)
        state[f"decoder.{new}"] = tensor
    torch.save({"model": state}, lm)
    torch.save(HubertModel(HubertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, conv_dim=[8] * 7,
        num_conv_pos_embedding_groups=4,
    )).state_dict(), hubert)  # fmt: skip
    joblib = pytest.importorskip("joblib")
    joblib.dump(Codebook(np.random.default_rng(0).standard_normal((100, 16)).astype(np.float32)), codebook)
    facts: dict[str, Any] = {
        "resblock": "1", "upsample_rates": [5, 4, 2, 2], "upsample_kernel_sizes": [11, 8, 4, 4],
        "upsample_initial_channel": 32, "resblock_kernel_sizes": [3, 7, 11], "num_embeddings": 100,
        "resblock_dilation_sizes": [[1, 3, 5]] * 3, "embedding_dim": 16, "f0": True,
    } | ({"f0_quant_num_bin": 32} if model.discrete else {})  # fmt: skip
    config.write_text(json.dumps(facts))
    torch.save({"generator": released_vocoder(UnitVocoder(from_config(facts)))}, checkpoint)
    torch.save({16: np.zeros(15), 32: np.linspace(-0.5, 0.5, 31)}, edges)
    loaded = model.load(LoadOptions(weights=tmp_path))
    streams = built.encode(hum(0.5, 150))
    inputs = [stream[None] for stream in built.lm.steps(*built._heard(streams))]
    for found, expected in zip(loaded.lm(*inputs), built.lm(*inputs), strict=True):
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(loaded._edges, torch.linspace(-0.5, 0.5, 31))
    response = loaded.generate([Request("continuation", audio=hum(0.5, 150))], Sampling(max_seconds=0.2))[0]
    assert response.audio.length <= 3200
    torch.save({16: np.zeros(15)}, edges)
    with pytest.raises(InvalidSystem, match="holds no bins of pitch"):
        model.load(LoadOptions(weights=tmp_path))
    config.write_text(json.dumps(facts | {"f0": False}))
    with pytest.raises(InvalidSystem, match=r"does not fit|another pitch"):
        model.load(LoadOptions(weights=tmp_path))


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in NAMES])
def test_every_check_of_language_models_passes(name: str) -> None:
    report = check(f"{SYSTEMS}:{name}", Options(random_seed=0))
    assert [result for result in report.results if not result.ok] == []
    assert report.result("cache_is_exact").outcome == "passed"
