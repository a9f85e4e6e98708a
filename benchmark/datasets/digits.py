"""Spoken digits: three lists of requests to small language models, put together from recordings that nobody trained on.

==========================  ===========================================================================================
``digits-tts``              say a string of three to six digits in the voice of a prompt, which says another one
``digits-asr``              write down the digits that are heard
``digits-continuation``     go on from the first three of six digits
==========================  ===========================================================================================

The recordings are the test takes of the Free Spoken Digit Dataset (`codecbench.models.training.digits` says how they
become strings): six speakers, five takes a digit. They are fetched when a list is first used; a copy of yours will do:
``digits-tts:FOLDER``, or ``$CODECBENCH_FSDD`` for all three.

Beside the prompt of its speaker, every request of `digits-tts` and `digits-continuation` has a string of another
speaker, the contrast, which no system hears: a voice that an answer must resemble less than its prompt.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from codecbench.benchmark.datasets.base import DatasetCard, Source, Utterance
from codecbench.benchmark.datasets.manifest import read_manifest
from codecbench.benchmark.datasets.staging import prepare, unpack
from codecbench.errors import InfrastructureError
from codecbench.paths import cache_dir

if TYPE_CHECKING:
    from codecbench.download import Progress
    from codecbench.models.training.digits import DigitStrings, Spoken

URL = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz"
FSDD = "CODECBENCH_FSDD"
TAKES = 3000
REQUESTS = 30
SEED = 2026
VERSION = "1"
"""Of the lists: raised when their requests change."""
STAMP = "version"
BREATH = 0.03
"""A prompt of digits ends so many seconds before the next one begins."""

Row = dict[str, str]
Save = Callable[["Spoken", str], str]
"""Writes a string under a name; returns the file's."""


def _tts(strings: DigitStrings, number: int, save: Save) -> Row:
    speaker = _speaker(strings, number)
    truth = strings.draw(number, speaker)
    prompt = _without(strings, truth, number, speaker)
    other = strings.draw(2 * REQUESTS + number, _speaker(strings, number + 1))
    return {
        "path": save(truth, "truth"), "speaker": speaker, "transcript": truth.text, "text": truth.text,
        "prompt": save(prompt, "prompt"), "prompt_transcript": prompt.text, "contrast": save(other, "contrast"),
    }  # fmt: skip


def _asr(strings: DigitStrings, number: int, save: Save) -> Row:
    heard = strings.draw(3 * REQUESTS + number, _speaker(strings, number))
    return {"path": save(heard, "heard"), "speaker": heard.speaker, "transcript": heard.text}


def _continuation(strings: DigitStrings, number: int, save: Save) -> Row:
    rng = np.random.default_rng([SEED, number])
    speaker = _speaker(strings, number)
    truth = strings.draw(4 * REQUESTS + number, speaker, rng.integers(10, size=6).tolist())
    other = strings.draw(5 * REQUESTS + number, _speaker(strings, number + 1))
    # What follows is the model's own choice, so there is no transcript that it could be held to.
    return {
        "path": save(truth, "truth"), "speaker": speaker, "prompt_seconds": f"{truth.starts[3] - BREATH:.2f}",
        "contrast": save(other, "contrast"), "x_said": truth.text,
    }  # fmt: skip


def _speaker(strings: DigitStrings, number: int) -> str:
    return strings.speakers[number % len(strings.speakers)]


def _without(strings: DigitStrings, truth: Spoken, number: int, speaker: str) -> Spoken:
    """A string of `speaker` that shares no recording with `truth`, and is long enough to tell a voice from."""
    for attempt in range(1000):
        found = strings.draw((6 + attempt) * REQUESTS + number, speaker)
        if not set(found.takes) & set(truth.takes) and len(found.words) >= 4:
            return found
    raise AssertionError("a thousand strings share recordings with the truth")


LISTS = {"tts": _tts, "asr": _asr, "continuation": _continuation}


def assemble(task: str, recordings: Path, folder: Path) -> None:
    """Put the list of `task` together from `recordings`, in the empty `folder`."""
    import soundfile

    from codecbench.models.training.digits import RATE, DigitStrings

    strings = DigitStrings(recordings, "test", SEED)

    def save(number: int, string: Spoken, name: str) -> str:
        file = f"{number:02}-{name}.wav"
        soundfile.write(folder / file, string.samples, RATE, "PCM_16")
        return file

    rows: list[Row] = []
    for number in range(REQUESTS):
        row = LISTS[task](strings, number, partial(save, number))
        rows.append({"id": f"{number:02}", "task": task, "language": "en", **row})
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    (folder / STAMP).write_text(VERSION)


def _complete(folder: Path) -> bool:
    """Prepared, and by this version."""
    stamp = folder / STAMP
    return stamp.is_file() and stamp.read_text() == VERSION


def _read(task: str, folder: Path) -> Iterable[Utterance]:
    """The requests of a list that is prepared, or of one that is put together from recordings in `folder`."""
    if not _complete(folder):
        made = cache_dir("datasets", f"digits-{task}-{_digest(folder)}")
        prepare(made, lambda empty: assemble(task, folder, empty), _complete)
        folder = made
    return read_manifest(folder / "manifest.csv")


def _digest(recordings: Path) -> str:
    """Of the recordings that a list is made of."""
    from codecbench.models.training.digits import takes

    digest = hashlib.sha256(VERSION.encode())
    for take in takes(recordings):
        if take.split == "test":
            digest.update(f"{take.speaker} {take.digit} {take.take}".encode() + take.path.read_bytes())
    return digest.hexdigest()[:12]


def _fill(task: str, folder: Path, _: str, progress: Progress | None) -> None:
    assemble(task, recordings(progress), folder)


def recordings(progress: Progress | None = None) -> Path:
    """The folder of the Free Spoken Digit Dataset: ``$CODECBENCH_FSDD``, else the cache's, which is filled if need be.

    Raises:
        InfrastructureError: It cannot be fetched, or is not whole.
    """
    if own := os.environ.get(FSDD):
        return Path(own).expanduser()
    folder = cache_dir("datasets", "fsdd")
    prepare(folder, lambda empty: _fetch(empty, progress))
    return next(_within(folder))


def _fetch(folder: Path, progress: Progress | None) -> None:
    """Download the release, unpack it in the empty `folder`, and see that it is whole."""
    from codecbench.download import fetch
    from codecbench.models.training.digits import takes

    archive = folder / "archive.tar.gz"
    try:
        fetch(URL, archive, progress=progress)
    except InfrastructureError as error:
        raise InfrastructureError(f"{error}; if you have the recordings, name their folder in ${FSDD}") from error
    unpack(archive, folder)
    archive.unlink()
    found = [take for inner in _within(folder) for take in takes(inner)]
    if len(found) != TAKES:
        raise InfrastructureError(f"{URL} holds {len(found)} recordings of digits, and should hold {TAKES}")


def _within(folder: Path) -> Iterator[Path]:
    return folder.glob("*/recordings")


def _source(task: str, title: str, note: str, metrics: tuple[str, ...]) -> Source:
    card = DatasetCard(
        f"digits-{task}", title, "CC-BY-SA-4.0", "https://github.com/Jakobovski/free-spoken-digit-dataset",
        note=f"{REQUESTS} requests, six speakers who also are in the training recordings. {note}",
        metrics=metrics,
    )  # fmt: skip
    return Source(card, partial(_read, task), partial(_fill, task), _complete, automatic=True)


VOICE = ("spk_sim_prompt", "spk_sim_contrast")
"""Whether an answer has the voice of the prompt, rather than another."""
SOURCES = (
    _source(
        "tts", "Spoken digits: text to speech", "Digits in the voice of a prompt, which says others.",
        ("digit_error_rate", *VOICE),
    ),
    _source(
        "asr", "Spoken digits: speech recognition", "Read answer_digit_error_rate.", ("answer_digit_error_rate",),
    ),
    _source(
        "continuation", "Spoken digits: continuation", "Three digits are heard; what follows is free.", VOICE,
    ),
)  # fmt: skip
