"""AudioPaLM in a tiny size: its text model against `transformers`, its prompts, and what makes its speech audible."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from codecbench import tolerant_torchaudio, weights
from codecbench.audio import Clip
from codecbench.errors import InvalidSystem
from codecbench.models.audiopalm import AudioPaLM
from codecbench.models.base import LoadOptions, Request, Sampling
from codecbench.models.blocks import text_audio_lm
from codecbench.models.blocks.random_units import RandomProjectionUnits
from codecbench.models.blocks.text_audio_lm import TextAudioLM, TextAudioLMShape, palm
from codecbench.models.blocks.unit_lm import TRANSFORMERS_NAMES
from codecbench.models.checks.runner import check
from codecbench.models.checks.subject import Options
from codecbench.models.registry import find

tolerant_torchaudio.load()  # `transformers` imports it plainly

SYSTEMS = Path(__file__).parents[1] / "rogues" / "tiny_audiopalm.py"
Tiny, TinyChained = (cast("type[AudioPaLM]", find(f"{SYSTEMS}:{name}")) for name in ("Tiny", "TinyChained"))


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def likeliest(logits: Tensor) -> Tensor:
    return logits.argmax(dim=-1)


def halves(weight: Tensor, size: int) -> Tensor:
    """Rows of a projection whose heads turn neighbouring channels, for heads that turn the halves."""
    order = [*range(0, size, 2), *range(1, size, 2)]
    return weight.view(-1, size, weight.shape[1])[:, order].flatten(0, 1)


@pytest.fixture(scope="module")
def pair() -> tuple[TextAudioLM, torch.nn.Module]:
    """Our Transformer of PaLM and that of Cohere, which is the same, on the same weights."""
    from transformers import CohereConfig, CohereForCausalLM

    config = CohereConfig(
        vocab_size=50, hidden_size=32, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=1, logit_scale=32**-0.5, layer_norm_eps=1e-6, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(2)
        oracle = CohereForCausalLM(config).eval().requires_grad_(False)
        for parameter in oracle.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    state = weights.rename_keys(oracle.state_dict(), TRANSFORMERS_NAMES)
    for name in state:
        if name.endswith((".query.weight", ".key.weight")):
            state[name] = halves(state[name], 8)
    own = TextAudioLM(TextAudioLMShape(palm(32, 2, 4), 50, logit_scale=32**-0.5)).requires_grad_(False)
    weights.load_state(own, state, Path("cohere"))
    return own, oracle


def test_logits_and_likelihoods_against_transformers(pair: tuple[TextAudioLM, torch.nn.Module]) -> None:
    own, oracle = pair
    ids = torch.randint(0, 50, (2, 12), generator=torch.Generator().manual_seed(0))
    expected = oracle(ids).logits
    close(own(own.embed(ids)), expected)
    assert float(expected.std()) > 0.1
    nats = expected[0, 3:-1].log_softmax(dim=-1).gather(-1, ids[0, 4:, None])[:, 0]
    close(own.nats(own.embed(ids[0, :4]), ids[0, 4:]), nats)


@pytest.mark.parametrize("use_cache", [True, False])
def test_greedy_tokens_against_transformers(pair: tuple[TextAudioLM, torch.nn.Module], use_cache: bool) -> None:
    own, oracle = pair
    ids = torch.randint(0, 50, (1, 5), generator=torch.Generator().manual_seed(1))
    whole = ids
    for _ in range(15):
        whole = torch.cat([whole, oracle(whole).logits[:, -1].argmax(dim=-1)[:, None]], dim=1)
    every = torch.ones(50, dtype=torch.bool)
    before = own.embed(ids[0])
    found, ended = text_audio_lm.generate(own, before, 15, allowed=every, end=-1, draw=likeliest, use_cache=use_cache)
    assert torch.equal(found, whole[0, 5:])
    assert not ended
    stop = int(whole[0, 9])
    found, ended = text_audio_lm.generate(own, before, 15, allowed=every, end=stop, draw=likeliest, use_cache=use_cache)
    assert ended
    assert torch.equal(found, whole[0, 5 : 5 + whole[0, 5:].tolist().index(stop)])


def test_growth_leaves_the_text_model_as_it_was(pair: tuple[TextAudioLM, torch.nn.Module]) -> None:
    own, oracle = pair
    wide = TextAudioLM(TextAudioLMShape(palm(32, 2, 4), 60, logit_scale=32**-0.5)).requires_grad_(False)
    weights.load_state(wide, text_audio_lm.grown(own.state_dict(), 60), Path("grown"))
    ids = torch.randint(0, 50, (1, 9), generator=torch.Generator().manual_seed(3))
    logits = wide(wide.embed(ids))
    close(logits[..., :50], oracle(ids).logits)
    assert not logits[..., 50:].any()


def test_released_size_is_that_of_palm() -> None:
    with torch.device("meta"):
        size = AudioPaLM.size
        backbone = palm(size.dimension, size.layers, size.heads)
        own = TextAudioLM(TextAudioLMShape(backbone, AudioPaLM.ids().size))
    count = sum(parameter.numel() for parameter in own.parameters())
    assert abs(count - 8.63e9) < 0.01e9  # table 1 of arXiv:2204.02311


def tone(seconds: float, pitch: float = 300.0) -> Clip:
    time = np.arange(int(16_000 * seconds)) / 16_000
    return Clip((0.3 * np.sin(2 * np.pi * pitch * time * (1 + time)))[None].astype(np.float32), 16_000)


@pytest.fixture(scope="module")
def model() -> AudioPaLM:
    return Tiny.load(LoadOptions(random_seed=0))


@pytest.fixture(scope="module")
def chained() -> AudioPaLM:
    return TinyChained.load(LoadOptions(random_seed=0))


def test_prompts(model: AudioPaLM, chained: AudioPaLM) -> None:
    speech = tone(0.4)
    translated = Request("s2st", audio=speech, source_language="en", language="fr")
    assert model.prompt(translated) == "[S2ST English French]"
    assert model.prompt(Request("asr", audio=speech, language="fr")) == "[ASR French]"
    assert model.prompt(Request("s2tt", audio=speech, language="de")) == "[AST German]"
    assert chained.prompt(translated) == "[ASR AST S2ST English French]"
    assert chained.prompt(Request("mt", text="one", language="fr")) == "[MT French]"
    words = [*b"[S2ST English French]"]
    heard = (300 + model.units(speech)).tolist()
    assert torch.equal(model._asked(translated), model.lm.embed(torch.tensor([*words, *heard])))
    spoken = model._asked(Request("mt", text="one", language="fr"))
    assert torch.equal(spoken, model.lm.embed(torch.tensor([*b"[MT French] one"])))


def test_company_changes_nothing(model: AudioPaLM) -> None:
    requests = [
        Request("asr", audio=tone(0.4)),
        Request("s2st", audio=tone(0.3), language="fr"),
        Request("tts", text="one two"),
    ]
    for sampling in (Sampling(temperature=0, max_seconds=0.4), Sampling(max_seconds=0.4)):
        for asked, response in zip(requests, model.generate(requests, sampling), strict=True):
            (alone,) = model.generate([asked], sampling)
            assert alone.text == response.text
            assert (response.audio is None) == (asked.task == "asr")
            if response.audio is not None:
                assert alone.audio is not None
                np.testing.assert_array_equal(alone.audio.samples, response.audio.samples)


def test_a_chain_gives_words_and_speech(chained: AudioPaLM) -> None:
    (response,) = chained.generate([Request("s2st", audio=tone(0.4), language="fr")], Sampling(max_seconds=0.4))
    assert response.text is not None
    assert response.audio is not None


def test_another_stage_may_speak(model: AudioPaLM, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, Clip | None]] = []

    def speak(units: Tensor, voice: Clip | None, draw: Callable[[Tensor], Tensor]) -> Clip:  # noqa: ARG001
        asked.append((len(units), voice))
        return tone(len(units) / 25)

    monkeypatch.setattr(model, "speech_out", speak)
    request = Request("s2st", audio=tone(0.4), language="fr")
    (response,) = model.generate([request], Sampling(temperature=0, max_seconds=0.4))
    ((count, voice),) = asked
    assert voice is request.audio
    assert response.audio is not None
    assert (response.audio.length, response.tokens) == (count * 640, count + response.ended)


def test_speech_is_as_long_as_its_units_and_in_a_voice(model: AudioPaLM) -> None:
    units = torch.arange(6)
    alone, other, same = (model.speech_out(units, voice, likeliest) for voice in (None, tone(0.4), tone(0.4)))
    assert alone.length == other.length == 6 * 640
    np.testing.assert_array_equal(other.samples, same.samples)
    assert not np.array_equal(alone.samples, other.samples)


def test_tiny_model_learns_four_examples() -> None:
    model = Tiny.load(LoadOptions(random_seed=1))
    examples: list[tuple[Request, Clip | str]] = [
        (Request("asr", audio=tone(0.3)), "one"),
        (Request("asr", audio=tone(0.3, 900.0)), "two"),
        (Request("tts", text="one"), tone(0.4)),
        (Request("tts", text="two"), tone(0.4, 900.0)),
    ]
    model.lm.requires_grad_()
    optimiser = torch.optim.Adam(model.lm.parameters(), 0.02)
    for _ in range(80):
        loss = model.loss(examples)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert float(loss.detach()) < 0.1
    model.lm.requires_grad_(False)
    greedy = Sampling(temperature=0)
    for request, answer in examples:
        (response,) = model.generate([request], greedy)
        assert response.ended
        if isinstance(answer, str):
            assert response.text == answer
        else:
            assert response.tokens == 1 + len(model.units(answer))


def test_random_units_hear_their_own_frame_alone() -> None:
    tokeniser = RandomProjectionUnits(64, 16_000, 640, 0)
    samples = torch.from_numpy(tone(1.0).samples[0])
    found = tokeniser(samples)
    assert found.shape == (25,)
    assert len(set(found.tolist())) > 3
    assert torch.equal(tokeniser(samples[:6400]), found[:10])
    assert float((tokeniser(0.5 * samples) == found).float().mean()) > 0.7
    assert len(tokeniser(samples[:641])) == 2
    assert not torch.equal(RandomProjectionUnits(64, 16_000, 640, 1)(samples), found)


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(models.WordLevel({"?": 0, "one": 1, "two": 2}, unk_token="?"))  # noqa: S106
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    networks = Tiny.build(3)
    state = {name: tensor.clone() for name, tensor in networks.state_dict().items()}
    file = tmp_path / "model.safetensors"
    save_file(state, file)
    loaded = Tiny.load(LoadOptions(weights=tmp_path))
    assert torch.equal(loaded.lm.embedding.weight, state["lm.embedding.weight"])
    assert loaded._words("one two").tolist() == [1, 2]
    words = {name: tensor[:300].clone() if tensor.shape[:1] == (1324,) else tensor for name, tensor in state.items()}
    save_file(words, file)
    young = Tiny.load(LoadOptions(weights=tmp_path))
    assert not young.lm.embedding.weight[300:].any()
    assert torch.equal(young.lm.embedding.weight[:300], state["lm.embedding.weight"][:300])
    save_file({name: tensor for name, tensor in state.items() if "layers.1" not in name}, file)
    with pytest.raises(InvalidSystem, match="does not fit the model"):
        Tiny.load(LoadOptions(weights=tmp_path))


@pytest.mark.usefixtures("no_weights")
def test_missing_weights_say_what_to_do() -> None:
    with pytest.raises(InvalidSystem, match="its weights were never published"):
        Tiny.load(LoadOptions())


@pytest.mark.parametrize("system", ["Tiny", pytest.param("TinyChained", marks=pytest.mark.slow)])
def test_every_check_of_language_models_passes(system: str) -> None:
    report = check(f"{SYSTEMS}:{system}", Options(random_seed=0))
    assert [result for result in report.results if not result.ok] == []
    assert report.result("cache_is_exact").outcome == "passed"
