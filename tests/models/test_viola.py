"""VioLA in a tiny size: its networks, its requests, and the checks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from codecbench.audio import Clip
from codecbench.errors import InvalidSystem
from codecbench.models import valle_files
from codecbench.models.base import LoadOptions, Request, Sampling
from codecbench.models.blocks import autoregressive
from codecbench.models.blocks.valle import ValleShape
from codecbench.models.blocks.viola import Question, ViolaCausal, ViolaLM, ViolaShape
from codecbench.models.checks.runner import check
from codecbench.models.checks.subject import Options
from codecbench.models.registry import find
from codecbench.models.viola import TASKS, Viola

SYSTEMS = Path(__file__).parents[1] / "rogues" / "tiny_valle.py"
TinyViola = cast("type[Viola]", find(f"{SYSTEMS}:TinyViola"))
GREEDY = Sampling(temperature=0, max_seconds=0.2)
FINE = ValleShape(dimension=32, layers=2, heads=4, text=20, codebooks=3, codebook_size=16, languages=2)
SHAPE = ViolaShape(dimension=32, layers=2, heads=4, tasks=4, languages=2, fine=FINE)


def noise(frames: int, seed: int = 0) -> Clip:
    samples = 0.3 * np.random.default_rng(seed).standard_normal((1, 320 * frames))
    return Clip(samples.astype(np.float32), 24_000)


def small(layers: int = 2) -> ViolaLM:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ViolaLM(replace(SHAPE, layers=layers, fine=replace(FINE, layers=layers)))


def question(task: int, text: int, speech: int, voice: int, seed: int = 0) -> Question:
    random = torch.Generator().manual_seed(seed)

    def draw(size: int, *shape: int) -> Tensor:
        return torch.randint(0, size, shape, generator=random)

    return Question(task, seed % 2, draw(20, text), draw(2, text), draw(16, 3, speech), 1, draw(16, 3, voice))


@pytest.fixture(scope="module")
def model() -> Viola:
    return TinyViola.load(LoadOptions(random_seed=0))


@pytest.mark.slow
def test_every_check_of_language_models_passes() -> None:
    """In a tiny size: on random weights of the paper's size they take minutes to hours on a CPU."""
    report = check(f"{SYSTEMS}:TinyViola", Options(random_seed=0))
    assert [result for result in report.results if not result.ok] == []
    assert report.result("cache_is_exact").outcome == "passed"


def places(count: int, dimension: int) -> Tensor:
    """Sines and cosines in turn, one by one."""
    rows = [
        [(np.sin, np.cos)[i % 2](place / 10_000 ** (i // 2 * 2 / dimension)) for i in range(dimension)]
        for place in range(count)
    ]
    return torch.tensor(rows, dtype=torch.float32).reshape(count, dimension)


class Oracle:
    """The causal network written anew, from the same weights, on PyTorch's own layers."""

    def __init__(self, network: ViolaCausal) -> None:
        shape, self.own = network.shape, network
        layer = nn.TransformerEncoderLayer(
            shape.dimension, shape.heads, 4 * shape.dimension, 0.0, batch_first=True, norm_first=True
        )
        norm = nn.LayerNorm(shape.dimension)
        self.encoder = nn.TransformerEncoder(layer, shape.layers, norm, enable_nested_tensor=False).eval()
        norm.load_state_dict(network.backbone.norm.state_dict())
        for theirs, ours in zip(self.encoder.layers, network.backbone.layers, strict=True):
            block: Any = ours
            inner = block.attention
            state = {
                "self_attn.in_proj_weight": torch.cat([inner.query.weight, inner.key.weight, inner.value.weight]),
                "self_attn.in_proj_bias": torch.cat([inner.query.bias, inner.key.bias, inner.value.bias]),
            }
            parts = {
                "self_attn.out_proj": inner.output, "linear1": block.feed.inner, "linear2": block.feed.outer,
                "norm1": block.attention_norm, "norm2": block.feed_norm,
            }  # fmt: skip
            for name, part in parts.items():
                state |= {f"{name}.weight": part.weight, f"{name}.bias": part.bias}
            theirs.load_state_dict(state)

    @torch.inference_mode()
    def logits(self, asked: Question, answer: Tensor) -> Tensor:
        own, dimension = self.own, self.own.shape.dimension
        language = own.languages.weight
        speech = torch.zeros(asked.speech.shape[1], dimension)
        for k, row in enumerate(asked.speech):
            speech += cast("nn.Embedding", own.codes[k]).weight[row]
        speech += language[asked.speech_language] + own.code_places.alpha * places(len(speech), dimension)
        text = own.text.weight[asked.text] + language[asked.text_languages]
        text += own.text_places.alpha * places(len(text), dimension)
        begin = own.tasks.weight[asked.task] + language[asked.language]
        first = cast("nn.Embedding", own.codes[0]).weight
        tokens = [*(20 + asked.voice[0]).tolist(), *answer.tolist()]
        rows = [own.text.weight[token] if token < 20 else first[token - 20] for token in tokens]
        said = torch.stack(rows) + language[asked.language]
        alpha = own.text_places.alpha if tokens[0] < 20 else own.code_places.alpha
        said += alpha * places(len(said), dimension)
        x = torch.cat([speech, text, begin[None], said])
        mask = nn.Transformer.generate_square_subsequent_mask(len(x))
        out = self.encoder(x[None], mask=mask, is_causal=True)[0]
        return cast("Tensor", (out @ own.head.weight.T)[-len(answer) - 1 :])


@pytest.mark.parametrize("kind", ["text", "codes"])
def test_logits_against_torch(kind: str) -> None:
    network = small().causal.requires_grad_(False)
    for part in (network.text_places, network.code_places):
        part.alpha.fill_(0.7 if part is network.text_places else 1.3)
    asked = [question(b, 3 + b, 4 * b, 2 * b if kind == "codes" else 0, seed=b) for b in range(3)]
    random = torch.Generator().manual_seed(1)
    low, high = (0, 20) if kind == "text" else (20, 36)
    answers = [torch.randint(low, high, (5 + b,), generator=random) for b in range(3)]
    oracle = Oracle(network)
    found = autoregressive.logits(network, [network.open(own) for own in asked], answers)
    for own, answer, logits in zip(asked, answers, found, strict=True):
        torch.testing.assert_close(logits, oracle.logits(own, answer), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("use_cache", [True, False])
def test_company_and_cache_change_no_token(use_cache: bool) -> None:
    network = small().causal.requires_grad_(False)
    openings = [network.open(question(b, 3 + b, 2 * b, b, seed=b)) for b in range(4)]

    def likeliest(_request: int, logits: Tensor, _found: object) -> int:
        return int(logits[:-1].argmax())

    together = autoregressive.generate(network, openings, 12, likeliest, SHAPE.end, use_cache=use_cache)
    alone = [autoregressive.generate(network, [own], 12, likeliest, SHAPE.end)[0] for own in openings]
    assert together == alone
    assert {len(tokens) for tokens, _ in together} == {12}


def test_it_overfits_an_example_of_each_task() -> None:
    """Recognition, translation of text and of speech, and synthesis, with one network."""
    network = small(layers=1)
    random = torch.Generator().manual_seed(3)
    asked = [question(0, 0, 8, 0, 1), question(1, 5, 0, 0, 2), question(2, 0, 8, 0, 3), question(3, 6, 0, 3, 4)]
    answers = [torch.randint(0, 20, (5 + b,), generator=random) for b in range(3)]
    answers.append(torch.randint(0, 16, (3, 9), generator=random))
    optimiser = torch.optim.AdamW(network.parameters(), 5e-3, weight_decay=0)
    first = network.loss(asked, answers, random).item()
    for _ in range(80):
        optimiser.zero_grad()
        network.loss(asked, answers, random).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert network.loss(asked, answers, random).item() < 0.05 < 2 < first
    assert network.loss(asked[:3], answers[:3], random).item() < 0.05
    network.requires_grad_(False)
    openings = [network.causal.open(own) for own in asked]
    found = autoregressive.generate(
        network.causal, openings, 30, lambda _b, logits, _found: int(logits.argmax()), SHAPE.end
    )
    assert all(ended for _, ended in found)
    assert [tokens for tokens, _ in found[:3]] == [own.tolist() for own in answers[:3]]
    assert torch.equal(network.refine(asked[3], found[3][0]), answers[3])
    nats = network.loglikelihood(asked[3], answers[3])
    assert nats.shape == answers[3].shape
    assert float(nats.mean()) > -0.05


def test_questions(model: Viola) -> None:
    """What each task tells the model, and in which languages."""
    audio = noise(10)
    codes = model.codec.encode(audio)

    def ask(**parts: Any) -> Question:
        return model.question(Request(**parts))

    heard = ask(task="asr", audio=audio, language="zh")
    assert (heard.task, heard.language, heard.speech_language) == (TASKS.index("asr"), 1, 1)
    assert torch.equal(heard.speech, codes)
    assert heard.voice.shape == (8, 0)
    assert heard.text.tolist() == [1, 2]
    abroad = ask(task="s2tt", audio=audio, language="en")
    assert (abroad.language, abroad.speech_language) == (0, 1)
    text = ask(task="mt", text="ab", language="zh")
    assert (text.language, text.text_languages.tolist()) == (1, [0, 0, 0, 0])
    assert text.text.tolist() == [1, 100, 101, 2]
    said = ask(task="tts", text="a", audio=audio, transcript="b", language="en", source_language="zh")
    assert said.text_languages.tolist() == [1, 1, 0, 0]
    assert torch.equal(said.voice, codes)
    assert said.speech.shape == (8, 0)


def test_text_is_text_and_speech_is_speech(model: Viola) -> None:
    audio = noise(10)
    asked = [
        Request("asr", audio=audio), Request("tts", text="a", audio=audio, transcript="b"),
        Request("mt", text="one", language="zh"), Request("s2st", audio=audio, language="en"),
        Request("s2tt", audio=audio, language="en"),
    ]  # fmt: skip
    together = model.generate(asked, GREEDY)
    for own, response in zip(asked, together, strict=True):
        (alone,) = model.generate([own], GREEDY)
        assert alone.text == response.text
        assert alone.tokens == response.tokens
        assert (response.audio is not None) == (own.task in ("tts", "s2st"))
        assert (response.text is not None) == (own.task in ("asr", "mt", "s2tt"))
    assert together[1].tokens == 15 * 8
    assert together[3].tokens > 15 * 8  # with those of the words


def test_speech_is_translated_by_the_tasks_in_turn(model: Viola) -> None:
    audio = noise(10)
    (words,) = model.generate([Request("s2tt", audio=audio, language="en", source_language="zh")], GREEDY)
    (heard,) = model.generate([Request("asr", audio=audio, language="zh", source_language="zh")], GREEDY)
    speak = Request("tts", text=words.text, audio=audio, transcript=heard.text, language="en", source_language="zh")
    (expected,) = model._speak([speak], GREEDY)  # the random model's words are too odd for a request
    (found,) = model.generate([Request("s2st", audio=audio, language="en")], GREEDY)
    assert expected.audio is not None
    assert found.audio is not None
    np.testing.assert_array_equal(found.audio.samples, expected.audio.samples)
    assert found.tokens == expected.tokens + words.tokens + heard.tokens


def test_languages_of_a_translation(model: Viola, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked in turn; without a source language, it is the other one. A transcript is taken as it is."""
    asked: list[Request] = []
    question = model.question

    def listen(request: Request) -> Question:
        asked.append(request)
        return question(request)

    monkeypatch.setattr(model, "question", listen)
    model.generate([Request("s2st", audio=noise(5), language="en")], GREEDY)
    assert [(own.task, own.language, own.source_language) for own in asked] == [
        ("asr", "zh", "zh"), ("s2tt", "en", "zh"), ("tts", "en", "zh"),
    ]  # fmt: skip
    asked.clear()
    model.generate([Request("s2st", audio=noise(5), language="zh", transcript="words")], GREEDY)
    assert [(own.task, own.language, own.source_language) for own in asked] == [
        ("s2tt", "zh", "en"), ("tts", "zh", "en"),
    ]  # fmt: skip
    assert asked[-1].transcript == "words"


def test_what_it_refuses(model: Viola) -> None:
    for request, message in (
        (Request("mt", text="a", language="fr"), "does not know the language 'fr'"),
        (Request("tts", text="a", language="fr"), "knows en, zh, not 'fr'"),
        (Request("tts", text="a", audio=noise(5)), "needs the words of the voice"),
        (Request("s2st", language="en"), "needs audio"),
    ):
        with pytest.raises(ValueError, match=message):
            model.generate([request], GREEDY)


def test_files_of_ones_own(tmp_path: Path, model: Viola, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import save_model

    with pytest.raises(InvalidSystem, match="its weights were never published"):
        TinyViola.load(LoadOptions())
    save_model(model.lm, str(tmp_path / valle_files.OWN))
    monkeypatch.setattr(valle_files, "encodec_file", lambda _folder: None)  # random weights
    own = TinyViola.load(LoadOptions(weights=tmp_path)).lm.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in model.lm.state_dict().items())
