"""Speech corpora in the folder layout in which they are published.

``librispeech``  LibriSpeech/test-clean/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NNNN.flac, ``.trans.txt`` (openslr.org/12)
``libritts``     LibriTTS/test-clean/SPEAKER/CHAPTER/NAME.wav, NAME.normalized.txt (openslr.org/60)
``ljspeech``     LJSpeech-1.1/metadata.csv, wavs/ID.wav
``vctk``         wav48_silence_trimmed/SPEAKER/ID_mic1.flac, txt/SPEAKER/ID.txt (version 0.92)

A folder anywhere above the files will do, so one subset or several can be read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from codecbench.benchmark.datasets.base import DatasetCard, Source, Utterance
from codecbench.benchmark.datasets.manifest import text_of
from codecbench.benchmark.datasets.staging import unpack
from codecbench.recording import DataError, printable

if TYPE_CHECKING:
    from codecbench.download import Progress

LIBRISPEECH = {
    "test-clean": "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
    "test-other": "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
    "dev-clean": "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    "dev-other": "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
}
LIBRITTS = {
    "test-clean": "234ea5b25859102a87024a4b9b86641f5b5aaaf1197335c95090cde04fe9a4f5",
    "test-other": "33a5342094f3bba7ccc2e0500b9e72d558f72eb99328ac8debe1d9080402f10d",
    "dev-clean": "da0864e1bd26debed35da8a869dd5c04dfc27682921936de7cff9c8a254dbe1a",
    "dev-other": "d413eda26f3a152ac7c9cf3658ef85504dfb1b625296e5fa83727f5186cca79c",
}
LJSPEECH = {"": "be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5"}
"""SHA-256 of the published archives, by subset."""


def read_librispeech(folder: Path) -> Iterator[Utterance]:
    """The utterances of LibriSpeech, from the transcripts of its chapters."""
    for chapter in sorted(folder.rglob("*.trans.txt")):
        for line in _lines(chapter):
            name, _, words = line.partition(" ")
            yield Utterance(name, chapter.parent / f"{name}.flac", name.split("-")[0], "en", transcript=words.strip())


def read_libritts(folder: Path) -> Iterator[Utterance]:
    """The utterances of LibriTTS, with their normalised texts."""
    for path in sorted(folder.rglob("*.wav")):
        text = text_of(path.with_suffix(".normalized.txt")).strip()
        yield Utterance(path.stem, path, path.stem.split("_")[0], "en", transcript=text)


def read_ljspeech(folder: Path) -> Iterator[Utterance]:
    """The utterances of LJ Speech, one speaker, with their normalised texts (the last of three fields)."""
    for table in sorted(folder.rglob("metadata.csv")):
        for line in _lines(table):
            name, *texts = line.split("|")
            if not texts:
                raise DataError(f"{printable(str(table))}: a line without a text: '{printable(line)}'")
            yield Utterance(name, table.parent / "wavs" / f"{name}.wav", "LJ", "en", transcript=texts[-1].strip())


def read_vctk(folder: Path) -> Iterator[Utterance]:
    """The utterances of VCTK, first microphone. One speaker (p315) has no texts."""
    for path in sorted(folder.rglob("wav48_silence_trimmed/*/*_mic1.flac")):
        name, speaker = path.stem.removesuffix("_mic1"), path.parent.name
        text = path.parents[2] / "txt" / speaker / f"{name}.txt"
        yield Utterance(name, path, speaker, "en", transcript=text_of(text).strip() if text.is_file() else "")


def _lines(path: Path) -> list[str]:
    return [line for line in text_of(path).split("\n") if line.strip()]


def _fill(url: str, hashes: dict[str, str], folder: Path, subset: str, progress: Progress | None) -> None:
    """Download the archive of `subset`, check it, and unpack it in `folder`."""
    from codecbench.download import fetch
    from codecbench.paths import sha256_of

    address = url.format(subset)
    # Beside the folder, which is emptied when a download is taken up again.
    archive = folder.parent / f".{address.rpartition('/')[2]}"
    if not archive.exists() or sha256_of(archive) != hashes[subset]:
        fetch(address, archive, hashes[subset], progress)
    unpack(archive, folder)
    archive.unlink()


SOURCES = (
    Source(
        DatasetCard(
            "librispeech", "LibriSpeech: read English, 16 kHz", "CC-BY-4.0", "https://www.openslr.org/12",
            subsets=tuple(LIBRISPEECH), note="Read from audiobooks by many speakers; transcripts in capitals.",
        ),
        read_librispeech,
        lambda *args: _fill("https://www.openslr.org/resources/12/{}.tar.gz", LIBRISPEECH, *args),
    ),
    Source(
        DatasetCard(
            "libritts", "LibriTTS: read English, 24 kHz", "CC-BY-4.0", "https://www.openslr.org/60",
            subsets=tuple(LIBRITTS), note="The readers of LibriSpeech, with punctuation and capitals.",
        ),
        read_libritts,
        lambda *args: _fill("https://www.openslr.org/resources/60/{}.tar.gz", LIBRITTS, *args),
    ),
    Source(
        DatasetCard(
            "ljspeech", "LJ Speech: one English reader, 22.05 kHz", "public domain",
            "https://keithito.com/LJ-Speech-Dataset", note="One speaker: intervals clustered by speaker do not exist.",
        ),
        read_ljspeech,
        lambda *args: _fill("https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2", LJSPEECH, *args),
    ),
    Source(
        DatasetCard(
            "vctk", "VCTK 0.92: 110 English speakers, 48 kHz", "CC-BY-4.0", "https://doi.org/10.7488/ds/2645",
            note="Read newspaper sentences, first microphone.",
        ),
        read_vctk,
    ),
)  # fmt: skip
