"""LauraTTS and LauraGPT, in a tiny size: against their authors' code, `transformers`, and slow sums."""

from __future__ import annotations

import json
import runpy
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

from codecbench import tolerant_torchaudio, weights
from codecbench.audio import Clip
from codecbench.errors import InvalidSystem
from codecbench.models import lauratts
from codecbench.models.base import LoadOptions, Request, Sampling
from codecbench.models.blocks import laura, lauragpt, text_audio_lm
from codecbench.models.blocks.laura import LauraShape, LauraTTS
from codecbench.models.blocks.relative import RelativeShape, RelativeTransformer
from codecbench.models.blocks.text_audio_lm import TextAudioLM, TextAudioLMShape
from codecbench.models.blocks.unit_lm import TRANSFORMERS_NAMES
from codecbench.models.checks.runner import check
from codecbench.models.checks.subject import Options
from codecbench.models.lauragpt import LauraGPTModel
from codecbench.models.lauratts import LauraTTSModel
from codecbench.models.registry import find

tolerant_torchaudio.load()  # `transformers` imports it plainly

GOLDEN = Path(__file__).parents[1] / "golden"
RECIPE = runpy.run_path(str(GOLDEN / "checkpoints.py"))
TOLD = json.loads((GOLDEN / "laura.json").read_text())
SYSTEMS = Path(__file__).parents[1] / "rogues" / "tiny_laura.py"
TinyTTS = cast("type[LauraTTSModel]", find(f"{SYSTEMS}:TinyTTS"))
TinyGPT = cast("type[LauraGPTModel]", find(f"{SYSTEMS}:TinyGPT"))
SHAPE = LauraShape(72, 12, (2, 3, 2), 16, 2, 24, 8)


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with np.load(GOLDEN / "laura.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file}


def released() -> dict[str, Tensor]:
    """The tiny checkpoint in the release's names."""
    state = {key: torch.from_numpy(value) for key, value in RECIPE["content"](TOLD["tiny"], TOLD["seed"], 1.0).items()}
    state["quantizer_codebook.embed"] *= TOLD["gain"]
    return state


@pytest.fixture(scope="module")
def network() -> LauraTTS:
    own = LauraTTS(SHAPE).requires_grad_(False).eval()
    weights.load_state(own, laura.from_release(released()), Path("laura"))
    return own


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def likeliest(logits: Tensor) -> Tensor:
    return logits.argmax(dim=-1)


def test_text_and_likelihoods_against_the_release(network: LauraTTS, golden: dict[str, Tensor]) -> None:
    text, codes = network.read(golden["phones"]), golden["codes"][:2]
    close(text, golden["text"])
    logits = network.logits(text, codes)
    close(logits[..., ::41], golden["logits"])
    targets = torch.nn.functional.pad(codes, (0, 1), value=1024)
    close(logits.log_softmax(dim=-1).gather(-1, targets[..., None])[..., 0], golden["nats"])


@pytest.mark.parametrize("prompt", [0, 5])
@pytest.mark.parametrize("use_cache", [True, False])
def test_greedy_codes_against_the_release(
    network: LauraTTS, golden: dict[str, Tensor], prompt: int, use_cache: bool
) -> None:
    past = golden["codes"][:2, :prompt]
    found, ended = laura.generate(network, golden["text"], past, 12, likeliest, use_cache=use_cache)
    assert not ended
    assert torch.equal(torch.cat([past, found], dim=1), golden[f"greedy_{prompt}"])


def test_predicted_frames_and_losses_against_the_release(network: LauraTTS, golden: dict[str, Tensor]) -> None:
    frames = network.predictor.embed(golden["codes"][:2])
    close(network.predictor(golden["text"], frames), golden["frames"])
    for truth in (0.0, 1.0):
        close(network.loss(golden["phones"], golden["codes"], truth=truth)[None], golden[f"loss_{truth:g}"])


def test_names_and_shapes_are_those_of_the_released_size() -> None:
    told = {name: torch.empty(*shape, device="meta") for name, shape in TOLD["released"].items()}
    state = laura.from_release(told)
    with torch.device("meta"):
        own = LauraTTS(LauraTTSModel.shape()).state_dict()
    assert {name: tensor.shape for name, tensor in state.items()} == {name: t.shape for name, t in own.items()}
    learnt = sum(tensor.numel() for name, tensor in own.items() if name != "predictor.entries")
    assert 83e6 < learnt < 85e6  # 84.19 M are published


def test_lauragpt_is_as_large_as_in_the_paper() -> None:
    with torch.device("meta"):
        own = lauragpt.LauraGPT(lauragpt.LauraGPTShape(LauraGPTModel.ids().size))
    assert round(sum(parameter.numel() for parameter in own.lm.parameters()) / 1e9, 1) == 1.8  # Qwen's
    assert round(sum(parameter.numel() for parameter in own.parameters()) / 1e9, 1) == 2.0


@pytest.mark.parametrize("relative", [True, False])
def test_cache_and_padding_change_nothing(relative: bool) -> None:
    shape = RelativeShape(6, 16, 2, 2, 24, causal=True, relative=relative)
    own = RelativeTransformer(shape).requires_grad_(False)
    x = torch.randn(2, 9, 6, generator=torch.Generator().manual_seed(0))
    prefix = torch.tensor([3, 2])
    whole = own(x, prefix=prefix)
    cache = own.cache(2, 9)
    pieces = [own(x[:, :4], prefix=prefix, cache=cache)]
    pieces += [own(x[:, f : f + 1], prefix=prefix, cache=cache) for f in range(4, 9)]
    close(torch.cat(pieces, dim=1), whole)
    alone = own(x[1:, :5], prefix=prefix[1:])
    close(own(x, counts=torch.tensor([9, 5]), prefix=prefix)[1, :5], alone[0])


def test_conformer_against_a_slow_one() -> None:
    """Every part written out for one step and one head after another."""
    shape = RelativeShape(6, 8, 1, 2, 12, relative=False, kernel=3)
    own = RelativeTransformer(shape).requires_grad_(False)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for parameter in own.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    (layer,) = cast("Any", own.layers)

    def norm(module: Any, y: Tensor) -> Tensor:
        centred = y - y.mean(dim=-1, keepdim=True)
        size = (centred.square().mean(dim=-1, keepdim=True) + module.eps).sqrt()
        return cast("Tensor", centred / size * module.weight + module.bias)

    def half(feed: Any, y: Tensor) -> Tensor:
        hidden = y @ feed[0].weight.T + feed[0].bias
        return cast("Tensor", 0.5 * (hidden * hidden.sigmoid() @ feed[2].weight.T + feed[2].bias))

    rates = [10_000 ** (-2 * i / 8) for i in range(4)]
    waves = torch.tensor([[f(p * r) for r in rates for f in (np.sin, np.cos)] for p in range(5)], dtype=torch.float32)
    y = norm(own.into_norm, x @ own.into.weight.T + own.into.bias) * 8**0.5 + waves
    y = y + half(layer.first, norm(layer.first_norm, y))
    heard, attention = norm(layer.attention_norm, y), layer.attention
    query, key, value = (
        (heard @ part.weight.T + part.bias).view(5, 2, 4) for part in (attention.query, attention.key, attention.value)
    )
    mixed = torch.stack([
        torch.stack([((key[:, h] @ query[f, h]) / 2).softmax(0) @ value[:, h] for h in range(2)]).flatten()
        for f in range(5)
    ])  # fmt: skip
    y = y + mixed @ attention.output.weight.T + attention.output.bias
    part = layer.convolution
    inner = norm(layer.convolution_norm, y) @ part.gated.weight.T + part.gated.bias
    gated = torch.nn.functional.pad(inner[:, :8] * inner[:, 8:].sigmoid(), (0, 0, 1, 1))
    along = torch.stack([part.along.bias + (gated[f : f + 3] * part.along.weight[:, 0].T).sum(dim=0) for f in range(5)])
    smooth = norm(part.norm, along)
    y = y + (smooth * smooth.sigmoid()) @ part.out.weight.T + part.out.bias
    y = norm(layer.last_norm, y + half(layer.feed, norm(layer.feed_norm, y)))
    close(own(x[None])[0], norm(own.norm, y))


def test_text_model_against_qwen() -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        intermediate_size=24, tie_word_embeddings=False, rms_norm_eps=1e-6,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(2)
        oracle = Qwen2ForCausalLM(config).eval().requires_grad_(False)
        for parameter in oracle.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    own = TextAudioLM(TextAudioLMShape(text_audio_lm.qwen(16, 2, 2, 24), 50, tied=False)).requires_grad_(False)
    weights.load_state(own, weights.rename_keys(oracle.state_dict(), TRANSFORMERS_NAMES), Path("qwen"))
    ids = torch.randint(0, 50, (2, 11), generator=torch.Generator().manual_seed(0))
    close(own(own.embed(ids)), oracle(ids).logits)


def test_features_of_audio_are_energies_every_60_ms() -> None:
    shape = lauragpt.LauraGPTShape(9, 16, 1, 2, 24, (16, 1, 2, 24, 3), (16, 1, 2, 24), 8, 2, 4)
    own = lauragpt.LauraGPT(shape).requires_grad_(False)
    time = torch.arange(16_000) / 16_000
    tone = torch.where(time < 0.5, (2 * torch.pi * 300 * time).sin(), (2 * torch.pi * 3000 * time).sin())
    found = own.features(tone).view(-1, 7, 80)
    assert len(found) == 17  # 98 spectra, in steps of six
    assert len(own.features(tone[:100])) == 1
    peaks = found[:, 0].argmax(dim=-1)
    assert len(set(peaks[:7].tolist())) == len(set(peaks[10:].tolist())) == 1
    assert peaks[0] < 20 < 50 < peaks[-1]
    assert torch.equal(found[3, 6], found[4, 0])


def test_tiny_models_learn_four_examples() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        own = LauraTTS(LauraShape(20, 12, (1, 2, 1), 32, 2, 48, 8, 4, 2, 16))
        own.predictor.entries.normal_()
        examples = [(torch.randint(0, 20, (n,)), torch.randint(0, 16, (4, n + 3))) for n in (2, 4, 3, 5)]
        optimiser = torch.optim.Adam(own.parameters(), 0.003)
        first = 0.0
        for _ in range(100):
            loss = torch.stack([own.loss(*example) for example in examples]).mean()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            first = first or float(loss.detach())
    assert float(loss.detach()) < 0.4 * first
    with torch.inference_mode():
        for phones, codes in examples:
            found, ended = laura.generate(own, own.read(phones), codes[:2, :0], 20, likeliest)
            assert ended
            assert torch.equal(found, codes[:2])


def noise(seconds: float, seed: int = 1) -> Clip:
    samples = 0.3 * np.random.default_rng(seed).standard_normal((1, int(16_000 * seconds)))
    return Clip(samples.astype(np.float32), 16_000)


@pytest.fixture(scope="module")
def speaker() -> LauraTTSModel:
    return TinyTTS.load(LoadOptions(random_seed=0))


@pytest.fixture(scope="module")
def generalist() -> LauraGPTModel:
    return TinyGPT.load(LoadOptions(random_seed=0))


def test_lauratts_company_and_voice(speaker: LauraTTSModel) -> None:
    voiced = Request("tts", text="two", audio=noise(0.3), transcript="one")
    requests = [Request("tts", text="two"), voiced]
    for sampling in (Sampling(temperature=0, max_seconds=0.4), Sampling(top_k=25, max_seconds=0.4)):
        together = speaker.generate(requests, sampling)
        for asked, response in zip(requests, together, strict=True):
            (alone,) = speaker.generate([asked], sampling)
            assert response.audio is not None
            assert alone.audio is not None
            assert response.audio.length == 6400
            assert not response.ended
            np.testing.assert_array_equal(alone.audio.samples, response.audio.samples)
    with pytest.raises(ValueError, match="only with its transcript"):
        speaker.generate([Request("tts", text="two", audio=noise(0.3))], Sampling())
    with pytest.raises(ValueError, match="leave no frame of the 30 s"):
        speaker.generate([Request("tts", text="two", audio=noise(30.1), transcript="one")], Sampling())


def test_end_of_either_codebook_is_the_end(speaker: LauraTTSModel, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0

    def draw(_requests: object, _sampling: object) -> Any:
        def one(_request: int, _logits: Tensor) -> Tensor:
            nonlocal count
            count += 1
            return torch.tensor([1, 1024]) if count == 4 else torch.tensor([count, 7])

        return one

    monkeypatch.setattr("codecbench.models.blocks.sampling.drawer", draw)
    (response,) = speaker.generate([Request("tts", text="two")], Sampling())
    assert response.audio is not None
    assert (response.audio.length, response.tokens, response.ended) == (3 * 640, 8, True)


def test_lauragpt_company_and_loss(generalist: LauraGPTModel) -> None:
    requests = [
        Request("asr", audio=noise(0.3)),
        Request("mt", text="two words", language="zh"),
        Request("enhancement", audio=noise(0.2)),
        Request("tts", text="two", audio=noise(0.3), transcript="one"),
    ]
    sampling = Sampling(temperature=0, max_seconds=0.4)
    together = generalist.generate(requests, sampling)
    for asked, response in zip(requests, together, strict=True):
        (alone,) = generalist.generate([asked], sampling)
        assert alone.text == response.text
        assert (response.audio is None) == (asked.task in ("asr", "mt"))
        if response.audio is not None:
            assert alone.audio is not None
            np.testing.assert_array_equal(alone.audio.samples, response.audio.samples)
    examples: list[tuple[Request, Clip | str]] = [(requests[0], "one two"), (requests[2], noise(0.2, 3))]
    own = generalist.network.requires_grad_()
    try:
        optimiser = torch.optim.Adam(own.parameters(), 0.01)
        losses = []
        for _ in range(12):
            loss = generalist.loss(examples)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            losses.append(float(loss.detach()))
    finally:
        own.requires_grad_(False)
    assert losses[-1] < 0.8 * losses[0]


def test_task_language_and_audio_matter(generalist: LauraGPTModel) -> None:
    with torch.inference_mode():
        asked = [generalist._asked(Request("s2tt", audio=noise(0.3), language=language)) for language in ("en", "zh")]
        other = generalist._asked(Request("s2tt", audio=noise(0.3, 2), language="en"))
    assert asked[0].shape == (6, 16)
    close(asked[0][:-1], asked[1][:-1])
    assert not torch.equal(asked[0][-1], asked[1][-1])
    assert not torch.allclose(asked[0][:-1], other[:-1])


def config() -> dict[str, Any]:
    encoder = {
        "output_size": 16, "attention_heads": 2, "linear_units": 24, "num_blocks": 2, "input_layer": "linear",
        "normalize_before": True, "rel_pos_type": "latest", "pos_enc_layer_type": "rel_pos",
        "selfattention_layer_type": "rel_selfattn", "use_cnn_module": False,
    }  # fmt: skip
    lm = {
        "name": "transformer", "pos_enc": "rel_pos", "selfattention_layer_type": "rel_selfattn", "embed_unit": 8,
        "att_unit": 16, "head": 2, "unit": 24, "layer": 3, "pe_type": "uni", "bidirectional_inputs": True,
    }  # fmt: skip
    codec = {"num_quantizers": 32, "codebook_size": 1024, "codebook_dim": 8}
    return {
        "input_size": 12, "text_encoder_conf": encoder, "codec_encoder_conf": encoder,
        "model_conf": {"predict_nq": 2, "codec_conf": codec, "codec_lm_conf": lm},
        "token_list": [f"P{number}" for number in range(72)],
    }  # fmt: skip


def codec_files(folder: Path) -> None:
    """FunCodec's files, as released, of a narrow codec on random weights."""
    import codecbench.models.funcodec_config as described

    folder.mkdir(parents=True)
    plain = described.time_domain(8, 5, 4, 2, 2)
    narrow = {"n_filters": 2, "dimension": 8}
    own = {**plain, "encoder_conf": {**plain["encoder_conf"], **narrow}}
    own["decoder_conf"] = {**plain["decoder_conf"], **narrow}
    (folder / "config.yaml").write_text(yaml.safe_dump({**own, "quantizer_conf": {}}))
    network = cast("Any", TinyTTS.build_codec(LoadOptions(random_seed=5)))._network
    state = {}
    for name, tensor in network.state_dict().items():
        if not name.startswith("quantiser."):
            former = (
                name.replace(".layers.", ".model.", 1).replace(".conv.", ".conv.conv.").replace(".norm.", ".conv.norm.")
            )
            state[former] = tensor
    state["quantizer.rq.model.embed"] = torch.stack([layer.embed for layer in network.quantiser.layers])
    torch.save(state, folder / "model.pth")


def test_the_files_of_a_release(network: LauraTTS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lauratts, "phonemiser", lambda phones: lambda text: [len(text) % len(phones), 4])
    torch.save(released(), tmp_path / "model.pth")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config()))
    codec_files(tmp_path / "codec")
    loaded = TinyTTS.load(LoadOptions(weights=tmp_path))
    own = network.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in loaded.lm.state_dict().items())
    clip = noise(0.3)
    assert torch.equal(loaded.codec.codes(clip), TinyTTS.build_codec(LoadOptions(random_seed=5)).codes(clip))
    (response,) = loaded.generate([Request("tts", text="hello")], Sampling(max_seconds=0.2))
    assert response.audio is not None
    assert float(np.abs(response.audio.samples).max()) <= 0.6
    for change, reason in (
        ({"token_list": None}, "no list of phones"),
        ({"text_encoder_conf": config()["text_encoder_conf"] | {"use_cnn_module": True}}, "use_cnn_module is True"),
        ({"input_size": 13}, "does not fit the model"),
    ):
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config() | change))
        with pytest.raises(InvalidSystem, match=reason):
            TinyTTS.load(LoadOptions(weights=tmp_path))
    with pytest.raises(InvalidSystem, match="is no folder with"):
        TinyTTS.load(LoadOptions(weights=tmp_path / "model.pth"))


def test_missing_phonemiser_is_said() -> None:
    if find_spec("g2p_en") is not None:
        pytest.skip("g2p_en is installed")
    with pytest.raises(InvalidSystem, match="`pip install g2p_en`"):
        lauratts.phonemiser(["AA0"])


def test_a_folder_of_ones_own(generalist: LauraGPTModel, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    codec_files(tmp_path / "codec")
    save_file(generalist.network.state_dict(), tmp_path / "model.safetensors")
    made = Tokenizer(models.WordLevel({"?": 0, "one": 1, "two": 2}, unk_token="?"))  # noqa: S106
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    loaded = TinyGPT.load(LoadOptions(weights=tmp_path))
    assert loaded._words("one two").tolist() == [1, 2]
    assert loaded._written([2, 1]) == "two one"
    (response,) = loaded.generate([Request("enhancement", audio=noise(0.3))], Sampling(max_seconds=0.2))
    assert response.audio is not None


@pytest.mark.usefixtures("no_weights")
def test_missing_weights_say_what_to_do() -> None:
    with pytest.raises(InvalidSystem, match="`codecbench weights get tiny-lauratts`"):
        TinyTTS.load(LoadOptions())
    with pytest.raises(InvalidSystem, match="its weights were never published"):
        TinyGPT.load(LoadOptions())


@pytest.mark.parametrize("system", ["TinyTTS", "TinyGPT"])
def test_every_check_of_language_models_passes(system: str) -> None:
    report = check(f"{SYSTEMS}:{system}", Options(random_seed=0))
    assert [result for result in report.results if not result.ok] == []
    assert report.result("cache_is_exact").outcome == "passed"
