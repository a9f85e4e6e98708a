"""Small language models: they learn, go on where they were stopped, and answer with the weights that come with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from codecbench.audio import Audio, Clip
from codecbench.errors import CodecbenchError, InvalidSystem, UsageError
from codecbench.models import small, small_lm, viola_small, word_marks
from codecbench.models.base import LoadOptions, Request, Sampling
from codecbench.models.musicgen_small import SmallMusicGen
from codecbench.models.phonemes import BYTES
from codecbench.models.training.digits import WORDS
from codecbench.models.training.lm import LMTrainer
from codecbench.models.training.loop import Progress, recipe_of, students, train
from codecbench.models.training.recipe import adapted
from codecbench.models.training.student import LMRecipe, Pool
from codecbench.models.uniaudio_small import SmallUniAudio
from codecbench.models.valle_small import SmallValle
from codecbench.models.viola_small import SmallViola

SYSTEMS: tuple[Any, ...] = (SmallValle, SmallViola, SmallMusicGen, SmallUniAudio)
QUICK = LMRecipe(steps=20, batch=2, warm_up=2, strings=6, held_out=2, save_every=5, sample_every=10, averaging=0.5)


def string(*digits: int, speaker: str = "ada") -> small_lm.Said:
    """A string in which every digit has a code of its own in every codebook, three frames each."""
    row = np.repeat(np.array(digits), 3)
    codes = np.stack([row + 20 * k for k in range(8)]).astype(np.int16)
    return small_lm.Said(codes, tuple(WORDS[digit] for digit in digits), speaker, tuple(range(0, len(row), 3)))


POOL = Pool([string(1, 2, 3), string(4, 5), string(6, 7, 8, 9)], [string(3, 2), string(5, 4, 6)], 1.0, 3, {})


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model learns from `POOL`."""
    for system in SYSTEMS:
        monkeypatch.setattr(system, "pool", lambda _data, _recipe: POOL)


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.card.name)
def test_the_losses_fall_within_thirty_steps(system: Any) -> None:
    recipe = replace(QUICK, steps=30, learning_rate=3e-3)
    trainer = LMTrainer(system, recipe, POOL, torch.device("cpu"), seed=0)
    totals = [sum(v for k, v in trainer.advance().items() if k == "codebook 1") for _ in range(30)]
    assert totals[0] > 6
    found = [total for total in totals if total]
    assert np.mean(found[-3:]) < 0.6 * found[0]
    assert trainer.examine(Path())["held-out codebook 1"] < found[0]


@pytest.mark.usefixtures("short")
def test_a_training_that_was_stopped_goes_on_as_if_it_was_not(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    class Stopped(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.step == 13:
            raise Stopped

    try:
        whole = train("valle-small", tmp_path, tmp_path / "whole", QUICK)
        with pytest.raises(Stopped):
            train("valle-small", tmp_path, tmp_path / "stopped", QUICK, tell=stop)
        steps = list[int]()
        resumed = train("valle-small", tmp_path, tmp_path / "stopped", QUICK, tell=lambda p: steps.append(p.step))
    finally:
        torch.set_num_threads(threads)
    assert steps == list(range(11, 21))
    one, other = load_file(whole), load_file(resumed)
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    lines = [(tmp_path / name / "losses.jsonl").read_text().splitlines() for name in ("whole", "stopped")]
    assert lines[0] == lines[1]
    assert "held-out codebook 1" in json.loads(lines[0][9])
    facts = small.metadata(whole)
    assert (facts["model"], facts["steps"]) == ("valle-small", "20")
    assert SmallValle.filled(LoadOptions(weights=whole)) is not None
    with pytest.raises(InvalidSystem, match="weights of valle-small, not of viola-small"):
        SmallViola.filled(LoadOptions(weights=whole))


@pytest.mark.usefixtures("short")
def test_a_training_goes_on_from_weights_and_counts_their_steps(tmp_path: Path) -> None:
    first = train("valle-small", tmp_path, tmp_path / "first", QUICK)
    recipe = replace(QUICK, start=str(first))
    begun = LMTrainer(SmallValle, recipe, POOL, torch.device("cpu"), seed=1).network.state_dict()
    for name, tensor in load_file(first).items():
        assert torch.equal(begun[name].half(), tensor)
    assert small.metadata(train("valle-small", tmp_path, tmp_path / "second", recipe))["steps"] == "40"
    with pytest.raises(UsageError, match="start: no such file of weights: nowhere"):
        train("valle-small", tmp_path, tmp_path / "third", replace(QUICK, start="nowhere"))
    with pytest.raises(InvalidSystem, match="weights of valle-small, not of viola-small"):
        train("viola-small", tmp_path, tmp_path / "third", recipe)


def test_what_is_no_number_stops_a_training() -> None:
    trainer = LMTrainer(SmallValle, QUICK, POOL, torch.device("cpu"), seed=0)
    network: Any = trainer.network
    with torch.no_grad():
        network.coarse.head.weight.fill_(torch.nan)
    with pytest.raises(CodecbenchError, match="codebook 1 became no number at step 0: set `learning_rate` lower"):
        trainer.advance()


def test_recipes_and_what_can_be_trained(tmp_path: Path) -> None:
    assert students().keys() >= {system.card.name for system in SYSTEMS}
    assert recipe_of("valle-small") == SmallValle.recipe
    (tmp_path / "recipe.yaml").write_text("batch: 0")
    with pytest.raises(UsageError, match="steps, batch, save_every, strings and held_out are at least 1"):
        adapted(recipe_of("valle-small"), tmp_path / "recipe.yaml")
    for wrong in ({"digits": (4, 2)}, {"digits": (0, 2)}, {"speed": (0.0, 1.0)}, {"speed": (1.1, 1.0)}):
        with pytest.raises(UsageError, match="digits are from 1 on, speed is above 0, and the first of each is not"):
            adapted(recipe_of("valle-small"), None, **wrong)
    with pytest.raises(UsageError, match="unknown setting discriminators"):
        adapted(recipe_of("valle-small"), None, discriminators={})


def test_the_pool_is_of_digits_and_holds_takes_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_speech: Callable[..., Audio]
) -> None:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path / "cache"))
    real = small_lm.CODEC.load
    monkeypatch.setattr(small_lm.CODEC, "load", lambda options: real(replace(options, random_seed=0)))
    for digit in range(10):
        for take in (5, 9):
            path = tmp_path / f"{digit}_ada_{take}.wav"
            soundfile.write(path, make_speech(2_400, 8_000, seed=10 * digit + take), 8_000)
    found = SmallValle.pool(tmp_path, QUICK)
    assert (len(found.training), len(found.held_out), found.recordings) == (6, 2, 10)
    assert found.seconds == pytest.approx(3.0)
    assert {item.speaker for item in found.training} == {"ada"}
    batch = SmallValle.examples(found.training, 4, np.random.default_rng(0))
    assert all(example.codes.shape[0] == small_lm.CODEBOOKS for example in batch)


def test_digits_are_symbols_and_other_words_bytes() -> None:
    assert small_lm.symbols("Seven, 3") == [BYTES + 7, BYTES + 3]
    assert small_lm.spelled(small_lm.symbols("one 23")) == "one two three"
    assert small_lm.symbols("hi") == [3 + byte for byte in b"hi "]


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.card.name)
def test_random_weights_answer_every_task(system: Any) -> None:
    model = system.load(LoadOptions(random_seed=0))
    clip = Clip(0.1 * np.random.RandomState(0).standard_normal((1, 9_000)).astype(np.float32), small.SAMPLE_RATE)
    for task in system.card.tasks:
        asked = Request(task, text="one two", audio=clip, transcript="three")
        (answer,) = model.generate([asked], Sampling(max_seconds=0.3))
        assert (answer.text if task == "asr" else answer.audio) is not None
    assert model.loglikelihood([clip])[0].nats < 0


@given(st.lists(st.integers(8, 40), min_size=1, max_size=6), st.integers(0, 1 << 30))
def test_speech_at_another_tempo_has_its_words_where_they_begin(lengths: list[int], seed: int) -> None:
    word = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    starts = tuple(int((word < n).sum()) for n in range(len(lengths)))
    text = " ".join(WORDS[n] for n in range(len(lengths)))
    example = small_lm.Example(word[None, :0], text, word[None], starts)
    found = viola_small.hastened(example, torch.Generator().manual_seed(seed))
    slowest, fastest = viola_small.TEMPO
    assert len(word) / fastest - 1 <= found.codes.shape[1] <= len(word) / slowest + 1
    assert [int((found.codes[0] < n).sum()) for n in range(len(lengths))] == list(found.starts)
    assert set(found.codes[0].tolist()) == set(range(len(lengths)))
    assert (found.text, found.voice) == (example.text, example.voice)


def test_marks_stand_before_their_words() -> None:
    codes = torch.arange(8).repeat(2, 1)
    assert word_marks.insert(codes, (0, 5), (90, 91)).tolist() == [[90, 0, 1, 2, 3, 4, 91, 5, 6, 7]] * 2
    assert word_marks.insert(codes, (), ()).equal(codes)
    assert word_marks.digits("three, hello 4") == [3, 4]


def test_the_end_of_a_word_is_the_mark_of_the_next_and_never_early() -> None:
    end, marks = 5, [11, 12]
    wishes_to_end = torch.tensor([1.0, 0, 0, 0, 0, 9])
    choose = word_marks.drawer(lambda _, logits, __: int(logits.argmax()), [marks], end)
    found: list[int] = []
    while not found or found[-1] != end:
        found.append(choose(0, wishes_to_end, found))
    word = [0] * small_lm.SHORTEST
    assert found == [*word, 12, *word, end]


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.card.name)
def test_marks_are_not_heard(system: Any) -> None:
    """An untrained model says all its words, of as many frames as it likes, and nothing but codes is decoded."""
    model = system.load(LoadOptions(random_seed=3))
    (answer,) = model.generate([Request("tts", text="nine nine eight")], Sampling(max_seconds=1))
    assert answer.audio is not None
    assert answer.audio.duration <= 1
    assert answer.tokens % small_lm.CODEBOOKS == 0


CARRIED = [system for system in SYSTEMS if system.card.package_weights]


@pytest.mark.parametrize("system", CARRIED, ids=lambda system: system.card.name)
def test_shipped_weights_are_small_and_say_what_they_are(system: Any) -> None:
    path = small.FOLDER / f"{system.card.name}.safetensors"
    facts = small.metadata(path)
    assert path.stat().st_size < 8e6
    assert facts["model"] == system.card.name
    assert system.card.label.startswith(f"small, trained here, {facts['steps']} steps on ")
    assert path.with_suffix(".md").is_file()
    model = system.load(LoadOptions())
    (answer,) = model.generate([Request("tts", text="four two")], Sampling(**dict(system.card.sampling), max_seconds=4))
    assert answer.ended
    assert answer.audio is not None
    assert 0.4 < answer.audio.duration < 3


def test_examples_are_of_one_speaker_and_alike_in_length() -> None:
    items = [string(*range(1 + n % 6), speaker="ab"[n % 2]) for n in range(40)]
    batch = small_lm.examples(items, 8, np.random.default_rng(1))
    lengths = [example.voice.shape[1] + example.codes.shape[1] for example in batch]
    assert lengths == sorted(lengths)
    assert max(lengths) - min(lengths) <= 12
    assert cast("int", batch[0].codes.max()) < small.CODEBOOK_SIZE
