"""MusicGen and AudioGen, in a tiny size, against `transformers` on equal weights, and against audiocraft's names."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from codecbench import tolerant_torchaudio, weights
from codecbench.audio import Clip
from codecbench.errors import InvalidSystem
from codecbench.models import musicgen
from codecbench.models.base import LoadOptions, Request, Sampling
from codecbench.models.blocks import codebook_generation, codebook_lm, patterns, seanet
from codecbench.models.blocks.codebook_lm import CodebookLM, CodebookLMShape
from codecbench.models.blocks.seanet import RELEASED_NAMES, TRAINING_STATE
from codecbench.models.checks.runner import check
from codecbench.models.checks.subject import Options
from codecbench.models.musicgen import MusicGen, MusicGenSmall
from codecbench.models.registry import find

tolerant_torchaudio.load()  # `transformers` imports it plainly

WORDS = ("soft", "rain", "loud", "drums")


SYSTEMS = Path(__file__).parents[1] / "rogues" / "tiny_musicgen.py"
Tiny, TinyStereo, TinyAudioGen = (cast("type[MusicGen]", find(f"{SYSTEMS}:{name}")) for name in (
    "Tiny", "TinyStereo", "TinyAudioGen",
))  # fmt: skip


def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(models.WordLevel({word: 5 + i for i, word in enumerate(("?", *WORDS))}, unk_token="?"))  # noqa: S106
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made


class Pair:
    """Our model and the oracle, on the same weights."""

    def __init__(self, system: type[MusicGen], folder: Path) -> None:
        from transformers import (
            EncodecConfig,
            MusicgenConfig,
            MusicgenDecoderConfig,
            MusicgenForConditionalGeneration,
            T5Config,
        )  # fmt: skip

        channels = system.card.channels or 1
        text = T5Config(d_model=16, d_kv=8, num_heads=2, num_layers=2, d_ff=64, vocab_size=32_128)
        codec = EncodecConfig(
            sampling_rate=32_000, num_filters=4, upsampling_ratios=[8, 5, 4, 4], codebook_size=2048,
            use_causal_conv=False, use_conv_shortcut=False, target_bandwidths=[2.2], normalize=False,
        )  # fmt: skip
        decoder = MusicgenDecoderConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_dim=128, num_codebooks=4 * channels,
            audio_channels=channels,
        )  # fmt: skip
        with torch.random.fork_rng():
            torch.manual_seed(4)
            config = MusicgenConfig(text_encoder=text, audio_encoder=codec, decoder=decoder)
            self.oracle = MusicgenForConditionalGeneration(config).eval().requires_grad_(False)
            for name, tensor in self.oracle.state_dict().items():
                if not name.startswith("audio_encoder."):  # as built, all is too small to tell a fault by
                    tensor.add_(0.1 * torch.randn_like(tensor))
                elif name.endswith(".embed"):
                    tensor.normal_()
        self.oracle.save_pretrained(folder)
        saved = tokenizer()
        saved.enable_truncation(1)  # which is not to be done
        saved.enable_padding(length=9)
        saved.save(str(folder / "tokenizer.json"))
        self.folder = folder
        self.ours = system.load(LoadOptions(weights=folder))

    def tokens(self, text: str, frames: int, guidance: float, prompt: Tensor | None = None) -> Tensor:
        """The oracle's greedy codes ``[K, F]``, those of the prompt first."""
        ids = torch.tensor([tokenizer().encode(text).ids])
        taken: list[Tensor] = []

        def decode(codes: Tensor, *_: Any, **__: Any) -> SimpleNamespace:
            taken.append(codes)
            return SimpleNamespace(audio_values=torch.zeros(codes.shape[1], 1, 640 * codes.shape[-1]))

        self.oracle.audio_encoder.decode = decode
        try:
            self.oracle.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, guidance_scale=guidance,
                max_length=frames + len(self.ours.delays) // (self.ours.card.channels or 1),
                decoder_input_ids=prompt, pad_token_id=2048, decoder_start_token_id=2048, bos_token_id=2048,
            )  # fmt: skip
        finally:
            del self.oracle.audio_encoder.decode
        parts = [codes[0, 0] for codes in taken]
        return torch.stack(parts, dim=1).flatten(0, 1)


@pytest.fixture(scope="module", params=[Tiny, TinyStereo], ids=["mono", "stereo"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(request.param, tmp_path_factory.mktemp("oracle"))


def likeliest(_request: int, logits: Tensor) -> Tensor:
    return logits.argmax(dim=-1)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_text_and_logits_against_transformers(pair: Pair) -> None:
    codes = torch.randint(0, 2049, (2, len(pair.ours.delays), 30), generator=torch.Generator().manual_seed(1))
    texts = ["soft rain", "loud loud drums ?"]
    vectors = [pair.ours.read(text) for text in texts]
    ids = [tokenizer().encode(text).ids for text in texts]
    padded, mask = torch.zeros(2, 4, dtype=torch.long), torch.zeros(2, 4, dtype=torch.long)
    for b, own in enumerate(ids):
        padded[b, : len(own)], mask[b, : len(own)] = torch.tensor(own), 1
    expected = pair.oracle(
        input_ids=padded, attention_mask=mask, decoder_input_ids=codes.flatten(0, 1), use_cache=False
    ).logits
    network = pair.ours.lm
    found = network(codes, memory=network.listen(vectors))
    close(found.flatten(0, 1), expected)
    alone = pair.oracle.text_encoder(input_ids=padded[:1, :2]).last_hidden_state[0]
    assert vectors[0] is not None
    close(vectors[0], alone)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_greedy_tokens_against_transformers(pair: Pair, guidance: float) -> None:
    (found,) = pair.ours.extend([pair.ours.encode(None)], [pair.ours.read("soft rain")], 30, likeliest, guidance)
    expected = pair.tokens("soft rain", 30, guidance)
    assert found.shape == expected.shape == (len(pair.ours.delays), 30)
    assert len(set(found.flatten().tolist())) > 20
    assert torch.equal(found, expected)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_greedy_continuation_against_transformers(pair: Pair, guidance: float) -> None:
    prompt = torch.randint(0, 2048, (len(pair.ours.delays), 9), generator=torch.Generator().manual_seed(2))
    (found,) = pair.ours.extend([prompt], [pair.ours.read("loud drums")], 15, likeliest, guidance)
    start = torch.full((len(prompt), 1), 2048)
    expected = pair.tokens("loud drums", 24, guidance, torch.cat([start, prompt], dim=1))
    assert torch.equal(expected[:, :9], prompt)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("system", [Tiny, TinyAudioGen])
def test_codec_against_transformers(system: type[MusicGen]) -> None:
    from transformers import EncodecConfig, EncodecModel

    size = system.size
    config = EncodecConfig(
        num_filters=4, upsampling_ratios=list(size.strides[::-1]), codebook_size=2048, use_causal_conv=False,
        use_conv_shortcut=False, target_bandwidths=[2.2], sampling_rate=system.card.sample_rate, pad_mode=size.padding,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(5)
        oracle = EncodecModel(config).eval().requires_grad_(False)
    networks = system.build(0)
    seanet.enliven(networks.codec, 0, level=0.1)
    for layer, own in zip(oracle.quantizer.layers, networks.codec.quantiser.layers, strict=True):
        layer.codebook.embed.copy_(own.embed)
    weights.load_state(
        networks.codec, weights.rename_keys(oracle.state_dict(), RELEASED_NAMES, drop=TRAINING_STATE), Path("oracle")
    )
    ours = system(networks, None, "cpu")
    samples = (0.3 * np.random.default_rng(0).standard_normal((1, 10_000))).astype(np.float32)
    codes = ours.encode(Clip(samples, system.card.sample_rate or 0))
    encoded = oracle.encode(torch.tensor(samples)[None], bandwidth=2.2).audio_codes
    assert torch.equal(codes, encoded[0, 0])
    codes = torch.randint(0, 2048, (4, 30), generator=torch.Generator().manual_seed(3))
    expected = oracle.decode(codes[None, None], [None]).audio_values[0]
    close(torch.tensor(ours.decode(codes, 30).samples), expected)


GOLDEN = Path(__file__).parents[1] / "golden"
RECIPE = runpy.run_path(str(GOLDEN / "checkpoints.py"))


def golden(name: str) -> tuple[CodebookLM, dict[str, Any]]:
    """The tiny model in audiocraft's names, and what audiocraft's code gave."""
    shapes = json.loads((GOLDEN / "musicgen.json").read_text())
    filled = RECIPE["content"](shapes[name], shapes["seed"], 1.0)
    state = {key: torch.from_numpy(value) for key, value in filled.items()}
    delays = DELAYS[name]
    network = CodebookLM(CodebookLMShape(codebook_lm.musicgen(32, 2, 4), len(delays), 64, 12)).requires_grad_(False)
    weights.load_state(network, codebook_lm.from_audiocraft(state), Path(name))
    with np.load(GOLDEN / "musicgen.npz") as file:
        return network, {key.removeprefix(f"{name}_"): torch.from_numpy(file[key]) for key in file}


DELAYS = {"mono": (0, 1, 2, 3), "stereo": (0, 0, 1, 1, 2, 2, 3, 3)}


def layout(name: str) -> codebook_generation.Layout:
    delays = DELAYS[name]
    return lambda frames: patterns.delay(len(delays), frames, delays)


RAIN = [ord(letter) - 96 for letter in "rain"]


@pytest.mark.parametrize("name", DELAYS)
def test_likelihoods_against_audiocraft(name: str) -> None:
    network, expected = golden(name)
    logits = torch.log_softmax(expected["logits"], dim=-1)
    codes = expected["codes"]
    nats = torch.gather(logits, -1, codes[..., None])[..., 0]
    close(codebook_generation.loglikelihood(network, codes[1], layout(name)), nats[1])  # which has no text


@pytest.mark.parametrize("name", DELAYS)
@pytest.mark.parametrize("prompt", [0, 5])
@pytest.mark.parametrize("use_cache", [True, False])
def test_guided_greedy_codes_against_audiocraft(name: str, prompt: int, use_cache: bool) -> None:
    network, expected = golden(name)
    past = expected["codes"][0, :, :prompt]
    (found,) = codebook_generation.generate(
        network, [past], [expected["t5"][RAIN]], 20 - prompt, layout=layout(name),
        draw=likeliest, guidance=3.0, use_cache=use_cache,
    )  # fmt: skip
    assert torch.equal(torch.cat([past, found], dim=1), expected[f"greedy_{prompt}"])


def test_names_and_shapes_are_those_of_the_released_size() -> None:
    shapes = json.loads((GOLDEN / "musicgen.json").read_text())["musicgen-small"]
    state = codebook_lm.from_audiocraft({name: torch.empty(*shape, device="meta") for name, shape in shapes.items()})
    with torch.device("meta"):
        size = MusicGenSmall.size
        backbone = codebook_lm.musicgen(size.dimension, size.layers, size.heads)
        own = CodebookLM(CodebookLMShape(backbone, 4, 2048, size.text[0])).state_dict()
    assert {name: tensor.shape for name, tensor in state.items()} == {name: t.shape for name, t in own.items()}
    assert len(own) == 396


@pytest.fixture(scope="module", params=[Tiny, TinyStereo, TinyAudioGen], ids=["mono", "stereo", "audiogen"])
def model(request: pytest.FixtureRequest) -> MusicGen:
    loaded: MusicGen = request.param.load(LoadOptions(random_seed=0))
    return loaded


def test_company_changes_nothing(model: MusicGen) -> None:
    """Requests with prompts of unequal length and different texts, or none."""
    channels, rate = model.card.channels or 1, model.card.sample_rate or 1
    task = model.card.tasks[0]
    noise = (0.3 * np.random.default_rng(1).standard_normal((channels, rate // 4))).astype(np.float32)
    requests = [
        Request(task, text="soft rain"),
        Request("continuation", audio=Clip(noise, rate)),
        Request(task, text="a much longer text", audio=Clip(noise[:, : rate // 10].copy(), rate)),
    ]
    for sampling in (Sampling(temperature=0, max_seconds=0.21), Sampling(top_k=250, guidance=3.0, max_seconds=0.21)):
        together = model.generate(requests, sampling)
        for asked, response in zip(requests, together, strict=True):
            (alone,) = model.generate([asked], sampling)
            assert response.audio is not None
            assert alone.audio is not None
            assert response.audio.length == 10 * rate // 50
            assert response.tokens == 10 * len(model.delays)
            np.testing.assert_array_equal(alone.audio.samples, response.audio.samples)


def test_text_and_guidance_matter(model: MusicGen) -> None:
    def tokens(text: str, guidance: float = 1.0) -> Tensor:
        return model.extend([model.encode(None)], [model.read(text)], 10, likeliest, guidance)[0]

    assert not torch.equal(tokens("soft rain"), tokens("loud drums"))
    assert not torch.equal(tokens("soft rain"), tokens("soft rain", 3.0))
    assert torch.equal(tokens("soft rain", 0.0), tokens("loud drums", 0.0))


def test_it_goes_on_beyond_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """With windows of 10 frames that begin with the last 4: 0 to 10, 6 to 16, 12 to 17."""
    model = Tiny.load(LoadOptions(random_seed=0))
    monkeypatch.setattr(musicgen, "WINDOW", 10)
    monkeypatch.setattr(musicgen, "OVERLAP", 4)
    text = model.read("rain")
    (whole,) = model.extend([model.encode(None)], [text], 17, likeliest)
    parts = [model.encode(None)]
    for count, past in ((10, 0), (6, 4), (1, 4)):
        own = parts[0][:, parts[0].shape[1] - past :]
        parts = [torch.cat([parts[0], model.extend([own], [text], count, likeliest)[0][:, past:]], dim=1)]
    assert torch.equal(whole, parts[0])


def test_the_files_of_a_release_give_the_model_of_transformers(tmp_path: Path) -> None:
    pair = Pair(Tiny, tmp_path / "transformers")
    own = pair.ours.lm.state_dict()
    state = {}
    for name in json.loads((GOLDEN / "musicgen.json").read_text())["mono"]:
        (found,) = codebook_lm.from_audiocraft({name: torch.zeros(3)}).keys() if "in_proj" not in name else (name,)
        if "in_proj" in name:
            (query, *_) = codebook_lm.from_audiocraft({name: torch.zeros(3)})
            parts = [own[query.replace("query", part)] for part in ("query", "key", "value")]
            state[name] = torch.cat(parts)
        else:
            state[name] = own[found]
    folder = tmp_path / "release"
    folder.mkdir()
    lm, codec, text, tokens = (folder / file.name for file in Tiny.card.weights)
    torch.save({"best_state": state, "xp.cfg": "seed: 0"}, lm)
    save_file(pair.oracle.audio_encoder.state_dict(), codec)
    save_file({name: tensor.clone() for name, tensor in pair.oracle.text_encoder.state_dict().items()}, text)
    tokenizer().save(str(tokens))
    request = Request("music", text="soft rain")
    sampling = Sampling(temperature=0, max_seconds=0.1)
    (expected,) = pair.ours.generate([request], sampling)
    (found,) = Tiny.load(LoadOptions(weights=folder)).generate([request], sampling)
    assert expected.audio is not None
    assert found.audio is not None
    np.testing.assert_array_equal(found.audio.samples, expected.audio.samples)

    tokens.unlink()
    with pytest.raises(InvalidSystem, match=r"no such file or folder for its weights: .*t5-base.tokenizer.json"):
        Tiny.load(LoadOptions(weights=folder))
    (pair.folder / "tokenizer.json").write_text("{}")
    with pytest.raises(InvalidSystem, match="cannot be read as a tokeniser"):
        Tiny.load(LoadOptions(weights=pair.folder))
    with pytest.raises(InvalidSystem, match="does not fit the model"):
        TinyStereo.load(LoadOptions(weights=pair.folder))


@pytest.mark.usefixtures("no_weights")
def test_missing_weights_name_the_command() -> None:
    with pytest.raises(InvalidSystem, match="`codecbench weights get tiny`"):
        Tiny.load(LoadOptions())


@pytest.mark.parametrize(
    "system", ["Tiny", *(pytest.param(name, marks=pytest.mark.slow) for name in ("TinyStereo", "TinyAudioGen"))]
)
def test_every_check_of_language_models_passes(system: str) -> None:
    """In a tiny size: on random weights of the released sizes they take minutes to hours on a CPU."""
    report = check(f"{SYSTEMS}:{system}", Options(random_seed=0))
    assert [result for result in report.results if not result.ok] == []
    assert report.result("cache_is_exact").outcome == "passed"


def test_vectors_before_the_codes_against_the_melody_model_of_transformers() -> None:
    from transformers import MusicgenMelodyDecoderConfig, MusicgenMelodyForCausalLM

    config = MusicgenMelodyDecoderConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_dim=128, num_codebooks=4
    )
    with torch.random.fork_rng():
        torch.manual_seed(6)
        oracle = MusicgenMelodyForCausalLM(config).eval().requires_grad_(False)
        for parameter in oracle.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    backbone = codebook_lm.musicgen(32, 2, 4, cross=False)
    network = CodebookLM(CodebookLMShape(backbone, 4, 64, 16, melody=12)).requires_grad_(False)
    own = {name: tensor for name, tensor in network.state_dict().items() if name.startswith(("text.", "melody."))}
    weights.load_state(network, codebook_lm.from_transformers(oracle.state_dict()) | own, Path("melody"))
    generator = torch.Generator().manual_seed(0)
    codes, prefix = torch.randint(0, 65, (2, 4, 11), generator=generator), torch.randn(2, 7, 32, generator=generator)
    expected = oracle(input_ids=codes.flatten(0, 1), encoder_hidden_states=prefix, use_cache=False).logits[:, -11:]
    close(network(codes, prefix=prefix).flatten(0, 1), expected)
    cache = network.backbone.cache(2, 18)
    first = network(codes[:, :, :4], prefix=prefix, cache=cache)
    close(torch.cat([first, network(codes[:, :, 4:], cache=cache)], dim=2).flatten(0, 1), expected)
