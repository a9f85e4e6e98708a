"""The published protocols of zero-shot speech synthesis and of continuation, as lists of requests.

Each reads what was published (a list, or a corpus and a rule) and asks what the protocol asks. They differ in prompts,
lists and normalisers, so numbers of two of them never compare. An answer that is missing is a failure in all of them;
the scripts that came with Seed-TTS-eval leave it out.

``librispeech-valle``   VALL-E (arXiv 2301.02111): LibriSpeech test-clean, 4 to 10 s; the prompt is 3 s from another
                        utterance of the speaker, both drawn with a fixed seed; three draws, which all count
``librispeech-valle2``  VALL-E 2 (arXiv 2406.05370): the same utterances in order, each prompted by the one before it of
                        its speaker, the first by the last, whole
``librispeech-pc``      F5-TTS (arXiv 2410.06885): ``librispeech_pc_test_clean_cross_sentence.lst``, which lies in the
                        corpus's folder
``seed-tts-eval``       Seed-TTS-eval (arXiv 2406.02430): ``meta.lst`` of ``en`` or ``zh``, ``prompt-wavs``, ``wavs``
``librispeech-gslm``    GSLM (arXiv 2102.01192): the 1000 shortest utterances of test-clean from 6 s on, to go on from
                        after 3 s

Each is named with its folder: ``librispeech-valle2:/data/LibriSpeech/test-clean``, ``seed-tts-eval:/data/seedtts/en``.

A model that needs the words of the prompt has them in VALL-E's protocol only where LibriSpeech's alignments
(``SPEAKER-CHAPTER.alignment.txt``, zenodo.org/records/2619474) lie beside the recordings: a crop has other words than
its utterance.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from codecbench.benchmark.datasets.base import Asked, DatasetCard, Source, Utterance, several
from codecbench.benchmark.datasets.corpora import read_librispeech
from codecbench.benchmark.datasets.manifest import text_of
from codecbench.recording import DataError, printable

SHORTEST, LONGEST = 4.0, 10.0
CROP = 3.0
DRAWS = 3
PC_LIST = "librispeech_pc_test_clean_cross_sentence.lst"
GSLM_SHORTEST, GSLM_COUNT = 6.0, 1000


@dataclass(frozen=True)
class _Timed:
    utterance: Utterance
    seconds: float


def read_valle(folder: Path) -> Iterator[Utterance]:
    """VALL-E's requests: `DRAWS` a recording, named ``ID#1`` and on; a speaker with one recording is left out."""
    of_speaker = _by_speaker(folder)
    words = {name: found for path in folder.rglob("*.alignment.txt") for name, found in _aligned(path).items()}
    for items in of_speaker.values():
        for item in items:
            others = [other for other in items if other != item]
            for draw in range(1, DRAWS + 1 if others else 1):
                rng = random.Random(f"VALL-E {item.utterance.id} {draw}")  # noqa: S311 - a draw, no secret
                other = rng.choice(others)
                start = round(rng.uniform(0, max(0.0, other.seconds - CROP)), 3)
                said = " ".join(w for w, a, b in words.get(other.utterance.id, ()) if a >= start and b <= start + CROP)
                asked = Asked("tts", item.utterance.transcript, other.utterance.path, said, CROP, prompt_start=start)
                yield replace(item.utterance, id=f"{item.utterance.id}#{draw}", asked=asked)


def read_valle2(folder: Path) -> Iterator[Utterance]:
    """VALL-E 2's requests; a speaker with one recording is left out."""
    for items in _by_speaker(folder).values():
        for item, before in zip(items, [*items[-1:], *items[:-1]], strict=True):
            if item != before:
                prompt = before.utterance
                asked = Asked("tts", item.utterance.transcript, prompt.path, prompt.transcript)
                yield replace(item.utterance, asked=asked)


def read_gslm(folder: Path) -> Iterator[Utterance]:
    """GSLM's requests, the shortest first."""
    items = sorted(_timed(folder), key=lambda item: (item.seconds, item.utterance.id))
    for item in [item for item in items if item.seconds >= GSLM_SHORTEST][:GSLM_COUNT]:
        yield replace(item.utterance, asked=Asked("continuation", prompt_seconds=CROP))


def read_pc(folder: Path) -> Iterator[Utterance]:
    """The requests of F5-TTS's list: prompt, its seconds and words, target, its seconds and words, by tabulators.

    Raises:
        DataError: The list is missing or wrong, or names recordings that are missing.
    """
    lists = sorted(folder.rglob(PC_LIST))
    if not lists:
        raise DataError(f"{printable(str(folder))}: no {PC_LIST}; it is among the files of F5-TTS, in data/")
    recordings = {path.stem: path for path in folder.rglob("*.flac")}
    found, gone = [], []
    for number, line in _lines(lists[0]):
        cells = line.split("\t")
        if len(cells) != 6:
            raise DataError(f"{printable(str(lists[0]))}: line {number}: {len(cells)} values, not 6")
        prompt, _, words, target, _, said = cells
        gone += [name for name in (prompt, target) if name not in recordings]
        found.append((prompt, words.strip(), target, said.strip()))
    _all_there(gone)
    for prompt, words, target, said in found:
        asked = Asked("tts", said, recordings[prompt], words)
        yield Utterance(target, recordings[target], target.split("-")[0], "en", transcript=said, asked=asked)


def read_seed(folder: Path) -> Iterator[Utterance]:
    """The requests of Seed-TTS-eval's list: name, words of the prompt, prompt, text, and perhaps the truth.

    Without the fifth value the truth is ``wavs/NAME.wav``. Prompts tell speakers apart: of English, by the clip that
    the name begins with.

    Raises:
        DataError: The list is missing or wrong, or names recordings that are missing.
    """
    table = folder / "meta.lst"
    language = "zh" if folder.name == "zh" else "en"
    found, gone = [], []
    for number, line in _lines(table):
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) not in (4, 5):
            raise DataError(f"{printable(str(table))}: line {number}: {len(cells)} values, not 4 or 5")
        name, words, prompt, said = cells[:4]
        truth = folder / (cells[4] if len(cells) == 5 else f"wavs/{name}.wav")
        asked = Asked("tts", said, folder / prompt, words)
        gone += [printable(str(path)) for path in (truth, folder / prompt) if not path.is_file()]
        found.append(Utterance(printable(name), truth, printable(prompt), language, transcript=said, asked=asked))
    _all_there(gone)
    yield from found


def _by_speaker(folder: Path) -> dict[str, list[_Timed]]:
    """Recordings of 4 to 10 s, in the order of their names."""
    of_speaker: defaultdict[str, list[_Timed]] = defaultdict(list)
    for item in sorted(_timed(folder), key=lambda item: item.utterance.id):
        if SHORTEST <= item.seconds <= LONGEST:
            of_speaker[item.utterance.speaker].append(item)
    return of_speaker


def _timed(folder: Path) -> list[_Timed]:
    import soundfile

    found = list(read_librispeech(folder))
    _all_there([printable(str(u.path)) for u in found if not u.path.is_file()])
    return [_Timed(utterance, soundfile.info(utterance.path).duration) for utterance in found]


def _aligned(path: Path) -> dict[str, list[tuple[str, float, float]]]:
    """The words of each recording with beginning and end, from lines ``NAME "WORDS" "ENDS"``; silence is no word."""
    found = {}
    for number, line in _lines(path):
        try:
            name, words, ends = line.split(" ")
            times = [0.0, *map(float, ends.strip('"').split(","))]
            spans = list(zip(words.strip('"').split(","), times[:-1], times[1:], strict=True))
        except ValueError as error:
            raise DataError(f"{printable(str(path))}: line {number}: no alignment: {error}") from error
        found[name] = [span for span in spans if span[0]]
    return found


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a list that are not empty, numbered."""
    yield from ((number, line) for number, line in enumerate(text_of(path).splitlines(), 1) if line.strip())


def _all_there(missing: Sequence[str]) -> None:
    if missing:
        raise DataError(f"{len(missing)} recordings are missing: {several([printable(name) for name in missing])}")


_LIBRISPEECH = partial(DatasetCard, licence="CC-BY-4.0", url="https://www.openslr.org/12")

SOURCES = (
    Source(
        _LIBRISPEECH(
            "librispeech-valle", "Zero-shot TTS as for VALL-E",
            protocol="VALL-E: 3 s of another recording, three draws",
            note="Published numbers: WER by HuBERT-Large CTC without a language model, similarity by WavLM-TDNN to the"
            " codec-decoded prompt.",
        ),
        read_valle,
    ),
    Source(
        _LIBRISPEECH(
            "librispeech-valle2", "Zero-shot TTS as for VALL-E 2", protocol="VALL-E 2: the utterance before, whole",
            note="Published numbers: WER by a Conformer transducer (NeMo XL), similarity by WavLM-TDNN.",
        ),
        read_valle2,
    ),
    Source(
        _LIBRISPEECH(
            "librispeech-pc", "Zero-shot TTS as for F5-TTS", protocol="F5-TTS: LibriSpeech-PC, cross-sentence list",
            note="Published numbers: mean of the utterances' WER by faster-whisper large-v3, as wer_seedtts:large-v3.",
        ),
        read_pc,
    ),
    Source(
        DatasetCard(
            "seed-tts-eval", "Zero-shot TTS of Seed-TTS-eval", "CC0-1.0 (en)",
            "https://github.com/BytedanceSpeech/seed-tts-eval", subsets=("en", "zh"),
            protocol="Seed-TTS-eval: meta.lst",
            note="Published numbers: mean of the utterances' WER (zh: character by character), wer_seedtts here; by"
            " Whisper large-v3, for zh by Paraformer.",
        ),
        read_seed,
    ),
    Source(
        _LIBRISPEECH(
            "librispeech-gslm", "Continuation as for GSLM", protocol="GSLM: 3 s, the 1000 shortest from 6 s on",
            note="Published numbers: perplexity by fairseq's news model on transcripts of wav2vec 2.0 with 4-grams.",
        ),
        read_gslm,
    ),
)  # fmt: skip
