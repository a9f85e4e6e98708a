"""Pairs of recordings of which one is better: any folder of them, and four published ones in the layout they come in.

``pairs``           files in pairs, ``NAME_0`` the better and ``NAME_1`` the worse, in a folder and below
``storycloze``      Spoken StoryCloze: ``n_0.wav`` has the right ending, ``n_1.wav`` a wrong one (arXiv 2305.13009)
``salmon``          SALMon: PART/sample_n_0.wav, and sample_n_1.wav with the change (arXiv 2409.07437)
``swuggy``          ZeroSpeech 2021 (arXiv 2011.11588), lexical/dev/gold.csv, wav files beside it: words and non-words
``swuggy-invocab``  those of them whose word occurs in LibriSpeech: ``frequency`` is not 0
``sblimp``          ZeroSpeech 2021, syntactic/dev/gold.csv: grammatical and ungrammatical sentences

Each is named with its folder, ``salmon:/data/salmon/speaker_consistency``. A pair whose recording is missing is an
error before anything starts. Pairs of ZeroSpeech are spoken by several voices, which are items of one pair: the column
of speakers names the pair, so that intervals draw whole pairs.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from codecbench.benchmark.datasets.base import PAIRS, Asked, DatasetCard, Source, Utterance, several
from codecbench.benchmark.datasets.manifest import text_of
from codecbench.recording import SUFFIXES, DataError, printable

SALMON_PARTS = (
    "bg_alignment", "bg_all_consistency", "bg_domain_consistency", "gender_consistency", "rir_consistency",
    "sentiment_alignment", "sentiment_consistency", "speaker_consistency",
)  # fmt: skip

Row = dict[str, str]


def read_numbered(folder: Path, language: str = "") -> Iterator[Utterance]:
    """The pairs of files ``NAME_0`` and ``NAME_1`` in `folder` and below; a file of neither name is left alone.

    Raises:
        DataError: A file lacks its other half.
    """
    halves: dict[Path, dict[str, Path]] = {}
    for path in sorted(folder.rglob("*")):
        name, underline, number = path.stem.rpartition("_")
        if underline and number in ("0", "1") and path.suffix.lower() in SUFFIXES:
            halves.setdefault(path.with_name(name), {})[number] = path
    if alone := [next(iter(found.values())) for found in halves.values() if len(found) < 2]:
        raise DataError(f"without the other half of the pair: {several([printable(str(path)) for path in alone])}")
    for place, found in halves.items():
        yield _pair(place.relative_to(folder).as_posix(), found["0"], found["1"], language=language)


def read_zerospeech(folder: Path, keep: Callable[[Row], bool] = lambda _: True) -> Iterator[Utterance]:
    """The pairs of the ``gold.csv`` files in `folder` and below, by ``id`` and ``voice``, whose right half is kept.

    Raises:
        DataError: A pair is not one right and one wrong recording, or files are missing.
    """
    missing: list[str] = []
    for table in sorted(folder.rglob("gold.csv")):
        for (name, voice), (right, wrong) in sorted(_halves(table).items()):
            if keep(right):
                files = [table.parent / f"{row['filename'].removesuffix('.wav')}.wav" for row in (right, wrong)]
                missing += [printable(str(file)) for file in files if not file.is_file()]
                said = right.get("transcription") or right.get("word", "")
                yield _pair(f"{name}/{voice}", *files, language="en", pair=name, said=said)
    if missing:
        raise DataError(f"{len(missing)} recordings are missing: {several(missing)}")


def _halves(table: Path) -> dict[tuple[str, str], tuple[Row, Row]]:
    shown = printable(str(table))
    found: dict[tuple[str, str], dict[str, Row]] = {}
    reader = csv.DictReader(io.StringIO(text_of(table)))
    if lacking := {"id", "filename", "voice", "correct"} - set(reader.fieldnames or ()):
        raise DataError(f"{shown}: no column '{min(lacking)}'")
    for row in reader:
        halves = found.setdefault((row["id"], row["voice"]), {})
        if row["correct"] not in ("0", "1") or row["correct"] in halves:
            raise DataError(
                f"{shown}: line {reader.line_num}: 'correct' is '{printable(row['correct'])}', not the other half"
            )
        halves[row["correct"]] = row
    if alone := [" of voice ".join(key) for key, halves in found.items() if len(halves) < 2]:
        raise DataError(f"{shown}: without the other half of the pair: {several(alone)}")
    return {key: (halves["1"], halves["0"]) for key, halves in found.items()}


def _pair(name: str, better: Path, worse: Path, *, language: str, pair: str = "", said: str = "") -> Utterance:
    asked = Asked(PAIRS, contrast=worse)
    return Utterance(printable(name), better, pair, language, transcript=said, asked=asked)


def _card(name: str, title: str, url: str, licence: str = "not stated", **facts: tuple[str, ...] | str) -> DatasetCard:
    return DatasetCard(name, title, licence, url, protocol="minimal pairs, ties 0.5", **facts)  # type: ignore[arg-type]


_VOICES = "Each voice of a pair is an item; intervals draw pairs, which stand in the column of speakers."
_SLM21 = "https://zerospeech.com/tasks/task_4/benchmarks_datasets"

SOURCES = (
    Source(_card("pairs", "Pairs of recordings, NAME_0 better than NAME_1", "", "yours"), read_numbered),
    Source(
        _card("storycloze", "Spoken StoryCloze", "https://github.com/slp-rl/SpokenStoryCloze"),
        partial(read_numbered, language="en"),
    ),
    Source(
        _card("salmon", "SALMon: what models hear beside words", "https://github.com/slp-rl/salmon", "CC-BY-NC-4.0",
              subsets=SALMON_PARTS, note="Name the folder of one part; its parent mixes all eight."),
        partial(read_numbered, language="en"),
    ),
    Source(_card("swuggy", "sWUGGY: words and non-words", _SLM21, note=_VOICES), read_zerospeech),
    Source(
        _card("swuggy-invocab", "sWUGGY: words that LibriSpeech has, and non-words", _SLM21, note=_VOICES),
        partial(read_zerospeech, keep=lambda row: float(row.get("frequency") or 0) > 0),
    ),
    Source(_card("sblimp", "sBLIMP: grammatical and ungrammatical sentences", _SLM21, note=_VOICES), read_zerospeech),
)  # fmt: skip
