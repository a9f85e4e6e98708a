"""Metrics of what a recogniser hears: diversity, BLEU, perplexity, the prompt region, utterance by utterance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecbench.errors import UsageError
from codecbench.metrics import bleu, diversity, perplexity, pretrained, prompt_wer, seedtts
from codecbench.metrics.base import Failed, Metric, Output, Reference, Value, evaluate
from codecbench.metrics.corpus import jackknife, require_items
from codecbench.metrics.registry import find

RATE = 16_000
ANSWERS = [
    "the cat sat on the mat and the cat sat", "the dog ran to the park", "a cat and a dog sat on the mat",
    "no no no no", "hello",
]  # fmt: skip
WORDS = [answer.split() for answer in ANSWERS]


class Hears:
    """A cache in which every recording has been transcribed already."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def get(self, key: Mapping[str, Any]) -> str:
        return self.texts[key["audio"]]

    def put(self, key: Mapping[str, Any], value: Any) -> None:
        raise AssertionError(f"nothing is left to transcribe, but {key} gave {value}")


def noise(seed: int, seconds: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, int(seconds * RATE)).astype(np.float32)


def heard(metric: Metric, said: str, found: str, language: str = "en") -> Value:
    """What `metric` gives where `said` is the transcript and the recogniser hears `found` in the output."""
    hears = Hears()
    reference = Reference(noise(0), RATE, transcript=said, language=language, cache=hears)
    output = Output(noise(1), RATE, cache=hears)
    hears.texts = {reference.digest: said, output.digest: found}
    return evaluate(metric, reference, output)


def corpus_value(metric: Metric, pairs: list[tuple[str, str]]) -> float:
    values = [heard(metric, said, found) for said, found in pairs]
    assert [value.status for value in values] == ["ok"] * len(pairs)
    assert metric.shares
    return float(np.mean(metric.shares([value.material for value in values])))


def test_the_mean_of_shares_is_the_value_and_their_spread_the_jackknife() -> None:
    items = np.random.default_rng(0).normal(3, 1, 30)
    without = np.array([math.log(np.delete(items, k).mean()) for k in range(30)])
    shares = np.array(jackknife(math.log(items.mean()), without))
    assert shares.mean() == pytest.approx(math.log(items.mean()), abs=1e-12)
    variance = 29 / 30 * ((without - without.mean()) ** 2).sum()
    assert shares.var(ddof=1) / 30 == pytest.approx(variance)
    assert jackknife(items.mean(), (items.sum() - items) / 29) == pytest.approx(
        items
    )  # of a mean, the items themselves
    with pytest.raises(Failed, match=r"too_few_items\(1 of at least 2\)"):
        require_items([1])


def test_repetition_is_that_of_an_independent_count() -> None:
    """NLTK 3.10's n-grams and clipped counts, with the counting of the paper's scripts around them."""
    expected = [0.557773351022717, 0.0, 0.0, 0.816496580927726, 0.0]
    assert [diversity.auto_bleu(words) for words in WORDS] == pytest.approx(expected, abs=1e-12)
    among = [0.4830458915396479, 0.0, 0.5400617248673217, 0.0, 0.0]
    assert diversity.self_bleu(WORDS)[0] == pytest.approx(np.mean(among), abs=1e-12)
    assert np.mean(diversity.vert_shares(WORDS)) == pytest.approx(math.sqrt(np.mean(expected) * np.mean(among)))


@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=9), min_size=3, max_size=8))
def test_what_is_left_without_an_answer_is_what_the_others_have(answers: list[list[str]]) -> None:
    expected = [diversity.self_bleu(answers[:k] + answers[k + 1 :])[0] for k in range(len(answers))]
    assert diversity.self_bleu(answers)[1] == pytest.approx(expected, abs=1e-12)


def test_diversity_of_what_is_heard() -> None:
    said = [("anything", answer) for answer in ANSWERS]
    assert corpus_value(find("self_bleu"), said) == pytest.approx(diversity.self_bleu(WORDS)[0])
    assert heard(find("auto_bleu"), "anything", "No, no, no. No!").value == pytest.approx(0.816496580927726)
    silent = heard(find("vert"), "anything", " . ")
    assert (silent.status, silent.reason) == ("failed", "no_words")
    assert "n:2|mean:geometric" in find("vert").signature()


def test_bleu_of_a_corpus_is_sacrebleus_and_its_signature_is_in_ours() -> None:
    from sacrebleu.metrics import BLEU

    said = ["the cat sat on the mat today", "a dog ran to the park at noon", "there is no more bread at home"]
    found = ["the cat sat on a mat today", "a dog went to the park at noon", "there is bread at home"]
    scorer = BLEU()
    expected = scorer.corpus_score(found, [said]).score
    assert corpus_value(find("asr_bleu"), list(zip(said, found, strict=True))) == pytest.approx(expected, abs=1e-9)
    signature = find("asr_bleu").signature()
    assert str(scorer.get_signature()).replace("|", ",").replace(":", "=") in signature
    assert "norm:whisper" in signature
    nothing = heard(find("asr_bleu"), said[0], "")
    assert nothing.status == "ok"  # nothing said is a translation without a word, not a missing one
    assert bleu.shares([nothing.material] * 2) == [0.0, 0.0]


def test_bleu_of_a_text_is_of_the_text_as_it_stands() -> None:
    metric = find("answer_bleu")
    reference = Reference(noise(0), RATE, transcript="Das ist ein Test, ja.", language="de",
                          comparable=frozenset({"texts"}))  # fmt: skip
    same, other = (
        evaluate(metric, reference, Output(np.zeros(0, np.float32), RATE, text=text))
        for text in ("Das ist ein Test, ja.", "das ist ein test ja")
    )
    assert bleu.shares([same.material] * 2) == pytest.approx([100, 100])
    assert bleu.shares([other.material] * 2)[0] < 20
    assert evaluate(metric, reference, Output(np.zeros(0, np.float32), RATE)).reason == "no_text"


def test_chinese_is_cut_into_characters() -> None:
    reference = Reference(noise(0), RATE, transcript="你好世界", language="zh", comparable=frozenset({"texts"}))
    value = evaluate(find("answer_bleu"), reference, Output(np.zeros(0, np.float32), RATE, text="你好世界"))
    assert value.material[:2] == [4, 4]


@pytest.fixture(scope="module")
def tiny_lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model of random weights with a tokenizer of words, as transformers saves them."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers

    library = pretrained.transformers()
    folder = tmp_path_factory.mktemp("lm") / "tiny"
    words = ["<s>", "<unk>", *sorted({word for words in WORDS for word in words})]
    tokenizer = Tokenizer(models.WordLevel({word: k for k, word in enumerate(words)}, unk_token="<unk>"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"bos_token": "<s>", "unk_token": "<unk>"}
    library.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    torch.manual_seed(0)
    config = library.GPT2Config(vocab_size=len(words), n_positions=64, n_embd=8, n_layer=1, n_head=2)
    library.GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def test_perplexity_is_that_of_the_models_own_loss(tiny_lm: Path) -> None:
    import torch

    library = pretrained.transformers()
    metric = find(f"text_perplexity:{tiny_lm}")
    assert metric.prepare
    metric.prepare()
    model = library.AutoModelForCausalLM.from_pretrained(tiny_lm)
    tokenizer = library.AutoTokenizer.from_pretrained(tiny_lm)
    nats = tokens = 0.0
    for answer in ANSWERS:
        ids = torch.tensor([[0, *tokenizer(answer)["input_ids"]]])
        nats += model(ids, labels=ids).loss.item() * (ids.shape[1] - 1)
        tokens += ids.shape[1] - 1
    found = corpus_value(metric, [("anything", answer) for answer in ANSWERS])
    assert found == pytest.approx(math.exp(nats / tokens), rel=1e-5)
    assert "|lm:tiny-" in metric.signature()
    assert heard(metric, "anything", "").reason == "no_words"


def test_a_language_model_has_to_be_named_and_there(tmp_path: Path) -> None:
    for name, said in {
        "text_perplexity": "needs a language model", f"text_perplexity:{tmp_path}": "no model of transformers",
        f"text_perplexity:{tmp_path}/none": "no such folder", "text_perplexity:nobody/nothing": "hf download nobody",
    }.items():  # fmt: skip
        metric = find(name)
        assert metric.prepare
        with pytest.raises(UsageError, match=said):
            metric.prepare()
    assert perplexity.shares([(2.0, 2), (2.0, 2)]) == pytest.approx([math.e, math.e])


@pytest.mark.parametrize(
    ("expected", "found", "errors"),
    [("a b c", "a b c d e f", 0), ("a b c", "a x c d", 1), ("a b c", "a b", 1), ("a b", "", 2), ("a b", "x y z", 2),
     ("a b", "z a b", 1)],
)  # fmt: skip
def test_errors_of_the_beginning(expected: str, found: str, errors: int) -> None:
    assert prompt_wer.edits_of_beginning(expected.split(), found.split()) == errors


@pytest.mark.parametrize(("whole", "value"), [("rain falls here today", 0.0), ("rain calls hear today", 2 / 3)])
@pytest.mark.parametrize("continues", [True, False])
def test_the_prompt_region_of_an_answer_and_of_a_codec(whole: str, value: float, continues: bool) -> None:
    hears, truth = Hears(), noise(0, 2.0)
    prompt = Output(truth[:RATE], RATE, cache=hears)
    reference = Reference(truth, RATE, transcript="x", language="en", prompt=prompt, cache=hears)
    answer = noise(1) if continues else noise(2, 2.0)
    joined = np.concatenate([truth[:RATE], answer]) if continues else answer
    hears.texts = {prompt.digest: "rain falls here", Output(joined, RATE).digest: whole}
    found = evaluate(find("prompt_wer"), reference, Output(answer, RATE, continues=continues, cache=hears))
    assert found.value == pytest.approx(value)
    assert found.weight == 3


def test_a_prompt_from_elsewhere_has_no_region() -> None:
    reference = Reference(noise(0), RATE, transcript="x", language="en", prompt=Output(noise(5, 0.5), RATE))
    assert evaluate(find("prompt_wer"), reference, Output(noise(1), RATE)).reason == "no_prompt"


@pytest.mark.parametrize(
    ("language", "text", "kept"),
    [
        ("en", "It's “fine”,  he said—OK?", "it's fine he saidok"),
        ("zh", "你好， 世界。", "你 好 世 界"),
        ("en", "?!", ""),
    ],
)
def test_punctuation_goes_and_nothing_else(language: str, text: str, kept: str) -> None:
    assert seedtts.normalise(text, language) == kept


def test_an_utterance_weighs_the_same_however_short() -> None:
    metric = find("wer_seedtts")
    short, long = heard(metric, "Two words.", "two birds"), heard(metric, "one two three four", "one two three four")
    assert (short.value, short.weight, long.value, long.weight) == (0.5, 1.0, 0.0, 1.0)
    assert heard(metric, "2 words", "two words").value == 0.5  # numbers are not spelt out, as they are for wer
    assert heard(metric, "zwei", "zwei", language="de").reason == "language(de)"
