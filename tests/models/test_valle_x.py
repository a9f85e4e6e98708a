"""VALL-E X as in its paper, in a tiny size: languages of codes, translation, and the checks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

from codecbench.audio import Clip
from codecbench.models.base import LoadOptions, Request, Sampling
from codecbench.models.blocks.positions import interleaved
from codecbench.models.blocks.viola import TranslatingLM
from codecbench.models.checks.runner import check
from codecbench.models.checks.subject import Options
from codecbench.models.registry import find
from codecbench.models.valle_x import HEARD, TRANSLATED, ValleXPaper

SYSTEMS = Path(__file__).parents[1] / "rogues" / "tiny_valle.py"
TinyValleXPaper = cast("type[ValleXPaper]", find(f"{SYSTEMS}:TinyValleXPaper"))
GREEDY = Sampling(temperature=0, max_seconds=0.2)


def noise(frames: int, seed: int = 0) -> Clip:
    samples = 0.3 * np.random.default_rng(seed).standard_normal((1, 320 * frames))
    return Clip(samples.astype(np.float32), 24_000)


@pytest.fixture(scope="module")
def model() -> ValleXPaper:
    return cast("ValleXPaper", TinyValleXPaper.load(LoadOptions(random_seed=0)))


@pytest.mark.slow
def test_every_check_of_language_models_passes() -> None:
    """In a tiny size: on random weights of the paper's size they take minutes to hours on a CPU."""
    report = check(f"{SYSTEMS}:TinyValleXPaper", Options(random_seed=0))
    assert [result for result in report.results if not result.ok] == []
    assert report.result("cache_is_exact").outcome == "passed"


def test_codes_have_the_languages_of_the_voice_and_of_the_text(model: ValleXPaper) -> None:
    asked = Request("tts", text="ab", audio=noise(5), transcript="c", language="en", source_language="zh")
    prompt, coarse = model.prompt(asked), model.lm.coarse
    assert prompt.code_languages == (1, 0)
    assert prompt.text_languages is None
    assert prompt.said is not None
    assert prompt.text[prompt.said].tolist() == [1, 3 + 97, 3 + 98, 2]
    opening = coarse.open(prompt)
    english, chinese = coarse.languages.weight
    expected = coarse.codes(prompt.codes[0]) + chinese + coarse.code_places.alpha * interleaved(torch.arange(5), 32)
    torch.testing.assert_close(opening.steps[-5:], expected)
    assert torch.equal(opening.manner, english)
    assert (opening.place, opening.prefix) == (5, 5)


def test_the_second_network_reads_what_is_to_be_said_alone(model: ValleXPaper) -> None:
    asked = Request("tts", text="ab", audio=noise(5), transcript="c", language="en", source_language="zh")
    codes = model.codec.encode(noise(6, seed=1))
    one, other = (model.lm.fine([model.prompt(own)], [codes], 2)[0] for own in (asked, replace(asked, transcript="d")))
    assert torch.equal(one, other)
    english = model.lm.fine([model.prompt(replace(asked, source_language="en"))], [codes], 2)[0]
    assert not torch.equal(one, english)


def test_speech_is_translated_in_three_steps(model: ValleXPaper) -> None:
    audio = noise(10)
    asked = Request("s2st", audio=audio, language="en")
    heard = model._write(HEARD, [asked], GREEDY)[id(asked)]
    said = model._write(TRANSLATED, [asked], GREEDY)[id(asked)]
    assert heard.text != said.text
    told = replace(asked, transcript=heard.text, text=said.text)
    (found,), (oracle,) = model.generate([asked], GREEDY), model.generate([told], GREEDY)
    assert found.audio is not None
    assert oracle.audio is not None
    np.testing.assert_array_equal(found.audio.samples, oracle.audio.samples)
    assert found.tokens == oracle.tokens + heard.tokens + said.tokens
    spoken = replace(told, task="tts", source_language="zh")
    (alone,) = model.generate([spoken], GREEDY)
    assert alone.audio is not None
    np.testing.assert_array_equal(alone.audio.samples, oracle.audio.samples)


def test_the_translator_hears_the_recording_and_the_task(model: ValleXPaper) -> None:
    translator = cast("TranslatingLM", model.lm).translator
    asked = [Request("s2st", audio=noise(10, seed), language="en") for seed in (0, 1)]
    questions = [model._question(task, own) for own in asked for task in (HEARD, TRANSLATED)]
    assert [own.language for own in questions] == [1, 0, 1, 0]
    assert {own.speech_language for own in questions} == {1}
    steps = [translator.open(own).steps for own in questions]
    assert len({tuple(own.flatten().tolist()) for own in steps}) == 4
