"""The published protocols: what each asks of whom, and lists whose recordings are missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import soundfile

from codecbench.benchmark.asking import prompt_of, request_of
from codecbench.benchmark.datasets.base import Asked, Dataset, Utterance
from codecbench.benchmark.datasets.registry import open_dataset
from codecbench.benchmark.keys import Keys
from codecbench.benchmark.plan import Plan
from codecbench.metrics.base import Alignment
from codecbench.models.registry import find
from codecbench.recording import DataError

RATE = 16_000
SECONDS = {
    "61-70-0000": 5,
    "61-70-0001": 6,
    "61-70-0002": 3,
    "61-71-0000": 9,
    "84-1-0000": 7,
    "84-1-0001": 8,
    "9-1-0000": 5,
}


@pytest.fixture(scope="module")
def librispeech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ramps in place of speech, so that every sample tells its time, laid out as LibriSpeech."""
    folder = tmp_path_factory.mktemp("LibriSpeech") / "test-clean"
    for name, seconds in SECONDS.items():
        speaker, chapter, _ = name.split("-")
        where = folder / speaker / chapter
        where.mkdir(parents=True, exist_ok=True)
        soundfile.write(where / f"{name}.flac", np.linspace(0, seconds / 10, seconds * RATE, endpoint=False), RATE)
        with (where / f"{speaker}-{chapter}.trans.txt").open("a") as file:
            file.write(f"{name} WORDS OF {name.replace('-', ' ')}\n")
    return folder


def asked(dataset: Dataset) -> Iterator[tuple[Utterance, Asked]]:
    for utterance in dataset.utterances:
        assert utterance.asked
        yield utterance, utterance.asked


def test_valle_draws_three_crops_from_others_of_the_speaker(librispeech: Path) -> None:
    dataset = open_dataset(f"librispeech-valle:{librispeech}")
    assert [u.id for u in dataset.utterances[:3]] == ["61-70-0000#1", "61-70-0000#2", "61-70-0000#3"]
    assert len(dataset.utterances) == 3 * 5  # neither the short one, nor the speaker of one recording
    assert dataset.card.protocol.startswith("VALL-E:")
    again = open_dataset(f"librispeech-valle:{librispeech}")
    assert again.utterances == dataset.utterances
    assert len({(a.prompt, a.prompt_start) for _, a in asked(dataset)}) > 10
    for utterance, request in asked(dataset):
        assert request.prompt
        assert request.prompt.stem.split("-")[0] == utterance.speaker
        assert request.prompt.stem != utterance.id[:-2]
        assert (request.text, request.prompt_transcript) == (utterance.transcript, "")
        truth = dataset.load(utterance)
        prompt = prompt_of(dataset, utterance, truth)
        assert prompt
        assert prompt.length == 3 * RATE
        assert prompt.samples[0, 0] == pytest.approx(request.prompt_start / 10, abs=1e-4)
        assert request_of(dataset, utterance, truth, find("prompt_loop").card)[1] == 2 * truth.duration + 2


def test_a_crop_has_words_where_they_are_aligned(librispeech: Path) -> None:
    for name, seconds in SECONDS.items():
        speaker, chapter, _ = name.split("-")
        words, ends = ",".join(f"W{k}" for k in range(seconds)), ",".join(f"{k + 1}.0" for k in range(seconds))
        with (librispeech / speaker / chapter / f"{speaker}-{chapter}.alignment.txt").open("a") as file:
            file.write(f'{name} ",{words}" "0.0,{ends}"\n')
    try:
        dataset = open_dataset(f"librispeech-valle:{librispeech}")
        for _, request in asked(dataset):
            first = int(np.ceil(request.prompt_start))
            last = int(np.floor(request.prompt_start + 3))
            assert request.prompt_transcript == " ".join(f"W{k}" for k in range(first, last))
        next(librispeech.rglob("*.alignment.txt")).write_text('61-70-0000 "A,B" "0.5"\n')
        with pytest.raises(DataError, match="line 1: no alignment"):
            open_dataset(f"librispeech-valle:{librispeech}")
    finally:
        for path in librispeech.rglob("*.alignment.txt"):
            path.unlink()


def test_valle2_prompts_each_by_the_one_before_it(librispeech: Path) -> None:
    dataset = open_dataset(f"librispeech-valle2:{librispeech}")
    pairs = {u.id: (a.prompt.stem, a.prompt_seconds) for u, a in asked(dataset) if a.prompt}
    assert pairs == {
        "61-70-0000": ("61-71-0000", 0.0), "61-70-0001": ("61-70-0000", 0.0), "61-71-0000": ("61-70-0001", 0.0),
        "84-1-0000": ("84-1-0001", 0.0), "84-1-0001": ("84-1-0000", 0.0),
    }  # fmt: skip
    assert {a.prompt_transcript for _, a in asked(dataset)} >= {"WORDS OF 61 71 0000"}


def test_gslm_goes_on_from_three_seconds_of_the_shortest(librispeech: Path) -> None:
    dataset = open_dataset(f"librispeech-gslm:{librispeech}")
    assert dataset.task == "continuation"
    assert [u.id for u in dataset.utterances] == ["61-70-0001", "84-1-0000", "84-1-0001", "61-71-0000"]
    assert {a.prompt_seconds for _, a in asked(dataset)} == {3.0}


def test_the_list_of_f5(librispeech: Path) -> None:
    with pytest.raises(DataError, match="no librispeech_pc_test_clean"):
        open_dataset(f"librispeech-pc:{librispeech}")
    table = librispeech / "librispeech_pc_test_clean_cross_sentence.lst"
    try:
        table.write_text("61-70-0000\t5.0\tPrompt words.\t61-71-0000\t9.0\tSay this, please.\n")
        (utterance,) = open_dataset(f"librispeech-pc:{librispeech}").utterances
        assert (utterance.id, utterance.transcript, utterance.speaker) == ("61-71-0000", "Say this, please.", "61")
        assert utterance.asked
        assert (utterance.asked.text, utterance.asked.prompt_transcript) == ("Say this, please.", "Prompt words.")
        table.write_text("61-70-0000\t5.0\tPrompt.\t61-99-0000\t9.0\tGone.\n")
        with pytest.raises(DataError, match="1 recordings are missing: 61-99-0000"):
            open_dataset(f"librispeech-pc:{librispeech}")
        table.write_text("61-70-0000\t5.0\n")
        with pytest.raises(DataError, match="line 1: 2 values, not 6"):
            open_dataset(f"librispeech-pc:{librispeech}")
    finally:
        table.unlink()


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_list_of_seed_tts(tmp_path: Path, language: str) -> None:
    folder = tmp_path / language
    for name in ("prompt-wavs/p1.wav", "wavs/p1-u1.wav", "wavs/other.wav"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, np.zeros(RATE), RATE)
    (folder / "meta.lst").write_text(
        "p1-u1|words|prompt-wavs/p1.wav|say it\nu2|words|prompt-wavs/p1.wav|and|wavs/other.wav\n"
    )
    dataset = open_dataset(f"seed-tts-eval:{folder}")
    assert dataset.card.name == f"seed-tts-eval/{language}"
    assert [(u.id, u.path.name, u.language, u.transcript) for u in dataset.utterances] == [
        ("p1-u1", "p1-u1.wav", language, "say it"), ("u2", "other.wav", language, "and")
    ]  # fmt: skip
    (folder / "meta.lst").write_text("u3|words|prompt-wavs/p1.wav|say it\n")
    with pytest.raises(DataError, match=r"1 recordings are missing: .*u3.wav"):
        open_dataset(f"seed-tts-eval:{folder}")


def test_a_crop_beyond_its_recording_is_an_error(librispeech: Path) -> None:
    dataset = open_dataset(f"librispeech-valle:{librispeech}")
    utterance = dataset.utterances[0]
    assert utterance.asked
    late = replace(utterance, asked=replace(utterance.asked, prompt_start=99.0))
    with pytest.raises(DataError, match=r"begins at 99.0 s, after its recording's end"):
        prompt_of(dataset, late, dataset.load(late))


def test_what_an_output_is_worth_depends_on_the_prompt(librispeech: Path) -> None:
    """The ceiling is the truth, whatever was asked; its similarity to the prompt is not."""
    dataset = open_dataset(f"librispeech-valle:{librispeech}")
    planned = SimpleNamespace(
        name="list", dataset=dataset, checked=[SimpleNamespace(digest="the truth") for _ in dataset.utterances]
    )
    keys = Keys(cast("Plan", SimpleNamespace(datasets={"list": planned}, systems={})))
    first, second = dataset.utterances[:2]
    found = [keys.values("list", utterance.id, "an output", Alignment()) for utterance in (first, first, second)]
    assert found[0] == found[1] != found[2]
