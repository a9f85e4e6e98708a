"""What a dataset is: utterances with their facts, one policy for channels, and a check before anything is scored."""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from codecbench.audio import Clip
from codecbench.benchmark.datasets.decoders import Decoders
from codecbench.errors import InfrastructureError, UsageError
from codecbench.metrics.base import SILENCE_PEAK
from codecbench.paths import sha256_of
from codecbench.recording import MAX_DURATION, DataError, printable, read

if TYPE_CHECKING:
    from codecbench.audio import Audio
    from codecbench.download import Progress
    from codecbench.models.base import Task
    from codecbench.recording import Recording

Channels = Literal["downmix", "reject"]
PAIRS: Literal["pairs"] = "pairs"
"""In place of a task: nothing is generated, a language model says which recording of a pair is likelier."""
DOMAINS = ("speech", "music", "sound")

FULL_SCALE = 32767 / 32768
MOST_DECODERS = 8
CLIPPED_RUN = 3
"""So many samples in a row at full scale count as clipping."""

DC_LEVEL = 0.01
LOW_LEVEL = 10 ** (-60 / 20)


@dataclass(frozen=True)
class Asked:
    """What language models are asked about an utterance, of which they do not hear the recording: it is the truth.

    Attributes:
        task: What to do; `PAIRS` for a pair, of which the utterance is the better recording.
        text: What to say, translate or depict; empty where the task takes none.
        prompt: The recording to work on, to go on from, or whose voice to take; None for none.
        prompt_transcript: What is said in it.
        prompt_seconds: How much of `prompt` is heard, 0 for all of it; without a `prompt`, how much of the beginning of
            the utterance itself.
        prompt_start: Where what is heard of `prompt` begins, in seconds.
        reference: A second recording, as in `codecbench.models.base.Request`.
        source_language: Of the prompt or the text, where it is another than the utterance's.
        max_seconds: Longest answer; 0 for what follows from the truth (see `codecbench.benchmark.asking`).
        contrast: The worse recording of a pair; of another list, a recording of another speaker, for metrics alone.
    """

    task: Task | Literal["pairs"]
    text: str = ""
    prompt: Path | None = None
    prompt_transcript: str = ""
    prompt_seconds: float = 0.0
    reference: Path | None = None
    source_language: str = ""
    max_seconds: float = 0.0
    prompt_start: float = 0.0
    contrast: Path | None = None


@dataclass(frozen=True)
class Utterance:
    """One recording of a dataset.

    Attributes:
        id: Unique in its dataset, also after Unicode normalisation and case folding; never used as a path.
        path: The audio file.
        speaker: Who speaks; resampling for intervals is done over speakers. Empty if unknown.
        language: ISO 639-1 code, or empty.
        domain: One of `DOMAINS`.
        transcript: What is said, or empty.
        sha256: Digest of the file in hex where the source states one, else empty.
        asked: The request whose best answer it is; None in a dataset that holds no requests.
    """

    id: str
    path: Path
    speaker: str = ""
    language: str = ""
    domain: str = "speech"
    transcript: str = ""
    sha256: str = ""
    asked: Asked | None = None


@dataclass(frozen=True)
class DatasetCard:
    """The facts about a dataset.

    Attributes:
        name: As it stands in results.
        title: One line for people.
        licence: SPDX identifiers, or words.
        url: Where it is described.
        channels: What becomes of recordings with several channels. ``downmix`` takes the mean of all channels, each
            with the same weight (a 5.1 recording's low-frequency channel too); ``reject`` refuses them.
        max_duration: Longest recording that is accepted, in seconds.
        subsets: Parts that can be had as ``NAME/SUBSET``; ``NAME`` alone is the first.
        note: What a reader of the numbers should know.
        protocol: Of a list of requests: the published protocol that it follows, such as ``VALL-E 2``.
        metrics: What a sweep measures that names no metrics.
    """

    name: str
    title: str = ""
    licence: str = ""
    url: str = ""
    channels: Channels = "downmix"
    max_duration: float = MAX_DURATION
    subsets: tuple[str, ...] = ()
    note: str = ""
    protocol: str = ""
    metrics: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The card as plain JSON values."""
        return {**asdict(self), "subsets": list(self.subsets), "metrics": list(self.metrics)}


@dataclass(frozen=True)
class Dataset:
    """A card and its utterances, in their order. Holds no audio, so it is cheap to send to another process."""

    card: DatasetCard
    utterances: tuple[Utterance, ...]

    @property
    def task(self) -> Task | Literal["pairs"] | None:
        """The task of its requests, which is one, or `PAIRS`; None if it holds none."""
        asked = self.utterances[0].asked if self.utterances else None
        return asked.task if asked else None

    def load(self, utterance: Utterance) -> Clip:
        """The recording as a mono clip ``[1, T]`` at its native rate, by the card's policy for channels.

        Raises:
            DataError: The file cannot be used; the message names it and the reason.
            InfrastructureError: The disk failed.
        """
        return self._mono(utterance, read(utterance.path, self.card.max_duration))

    def _mono(self, utterance: Utterance, recording: Recording) -> Clip:
        clip = recording.clip
        if clip.channels == 1:
            return clip
        if self.card.channels == "reject":
            raise DataError(
                f"{printable(str(utterance.path))}: {clip.channels} channels, and the dataset rejects all but mono; "
                "channels: downmix takes their mean"
            )
        return Clip(clip.samples.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32), clip.sample_rate)

    def limited(self, limit: int | None) -> Dataset:
        """The same dataset with its first `limit` utterances; all if None.

        Raises:
            UsageError: `limit` is less than 1.
        """
        if limit is not None and limit < 1:
            raise UsageError(f"a limit of {limit} utterances leaves nothing; give 1 or more")
        return replace(self, utterances=self.utterances[:limit])


@dataclass(frozen=True)
class Source:
    """A registered dataset: how its folder is read, and how it is made.

    Third parties register one through the entry point group ``codecbench.datasets``.

    Attributes:
        card: Its facts.
        read: The utterances of a folder.
        fill: Downloads and prepares a subset (empty if there is none) in an empty folder; None where the user must.
        complete: Whether a folder in the cache is this dataset, whole and current.
        automatic: It is small, and is prepared at first use without asking.
    """

    card: DatasetCard
    read: Callable[[Path], Iterable[Utterance]]
    fill: Callable[[Path, str, Progress | None], None] | None = None
    complete: Callable[[Path], bool] = Path.is_dir
    automatic: bool = False


@dataclass(frozen=True)
class Checked:
    """What `check` found about one recording.

    Attributes:
        id: The utterance's.
        sample_rate: In Hz, native.
        frames: Samples of the mono clip.
        duration: In seconds.
        digest: SHA-256 in hex of the sample rate and the mono float32 samples: what every system hears.
        subtype: Format and sample format of the file, such as ``FLAC PCM_16``.
        flags: Of ``ref_clipped`` (three or more samples in a row at full scale), ``ref_dc`` (mean beyond 0.01),
            ``ref_low_level`` (below -60 dBFS RMS), ``ref_silent`` (no sample reaches -80 dBFS). The recording is
            used all the same.
    """

    id: str
    sample_rate: int
    frames: int
    duration: float
    digest: str
    subtype: str
    flags: tuple[str, ...] = ()


def check(
    dataset: Dataset, progress: Callable[[int, int], None] | None = None, known: Mapping[str, Checked] | None = None
) -> list[Checked]:
    """Decode every recording once, in processes of their own, before any system hears one.

    Args:
        dataset: What to check.
        progress: Called with the recordings done and their number.
        known: What is known, by id, of recordings that are not to be decoded again.

    Raises:
        DataError: Recordings that cannot be used, all of them counted and the first few named.
        InfrastructureError: A file is not the one whose SHA-256 the dataset states, or the disk failed.
    """
    found, problems, known = [], [], known or {}
    total = len(dataset.utterances)
    with ThreadPoolExecutor(min(MOST_DECODERS, os.cpu_count() or 1, 1 + total // 8)) as pool:
        decoders = Decoders(_check, dataset)
        futures = [None if u.id in known else pool.submit(decoders.ask, u) for u in dataset.utterances]
        try:
            for done, future in enumerate(futures, 1):
                try:
                    found.append(future.result() if future else known[dataset.utterances[done - 1].id])
                except DataError as error:
                    problems.append(f"'{dataset.utterances[done - 1].id}': {error}")
                if progress:
                    progress(done, total)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            decoders.close()
    if problems:
        raise DataError(
            f"{len(problems)} of {total} recordings of '{dataset.card.name}' cannot be used: {several(problems)} "
            "(an id listed in known_bad is left out)"
        )
    return found


def _check(dataset: Dataset, utterance: Utterance) -> Checked:
    if utterance.sha256:
        _check_digest(utterance)
    recording = read(utterance.path, dataset.card.max_duration)
    clip = dataset._mono(utterance, recording)
    return Checked(
        utterance.id, clip.sample_rate, clip.length, clip.duration, digest_of(clip), recording.subtype,
        _flags(recording.clip.samples, clip.samples),
    )  # fmt: skip


def digest_of(clip: Clip) -> str:
    """SHA-256 in hex of the rate and the samples of a mono clip."""
    digest = hashlib.sha256(f"{clip.sample_rate} Hz float32 ".encode())
    digest.update(np.ascontiguousarray(clip.samples, "<f4").data)
    return digest.hexdigest()


def _check_digest(utterance: Utterance) -> None:
    shown = printable(str(utterance.path))
    try:
        digest = sha256_of(utterance.path)
    except FileNotFoundError as error:
        raise DataError(f"{shown}: no such file") from error
    except OSError as error:
        raise InfrastructureError(f"cannot read {shown}: {error.strerror}") from error
    if digest != utterance.sha256.lower():
        raise InfrastructureError(
            f"{shown} is not the file that the dataset names: its sha256 is {digest}, expected {utterance.sha256}; "
            "restore it, or correct the manifest"
        )


def _flags(channels: Audio, mono: Audio) -> tuple[str, ...]:
    """The flags of a recording ``[C, T]`` and its mono version ``[1, T]``."""
    wide = mono.astype(np.float64)
    tests = {
        "ref_clipped": _clipped(channels),
        "ref_dc": abs(wide.mean()) > DC_LEVEL,
        "ref_low_level": np.sqrt((wide**2).mean()) < LOW_LEVEL,
        "ref_silent": np.abs(mono).max() < SILENCE_PEAK,
    }
    return tuple(name for name, holds in tests.items() if holds)


def _clipped(channels: Audio) -> bool:
    full = np.abs(channels) >= FULL_SCALE
    length = full.shape[1] - CLIPPED_RUN + 1
    if length < 1 or not full.any():
        return False
    return bool(np.logical_and.reduce([full[:, i : i + length] for i in range(CLIPPED_RUN)]).any())


def fingerprint(dataset: Dataset, checked: Sequence[Checked]) -> str:
    """SHA-256 in hex over all that a score depends on: audio, ids, transcripts, speakers, languages, domains, policy.

    The order of the utterances and where the files lie do not matter.
    """
    rows = sorted(
        [u.id, c.digest, u.transcript, u.speaker, u.language, u.domain, *asked_of(u)]
        for u, c in zip(dataset.utterances, checked, strict=True)
    )
    return hashlib.sha256(json.dumps([dataset.card.channels, rows]).encode()).hexdigest()


def asked_of(utterance: Utterance) -> list[str]:
    """All that an answer depends on; nothing for an utterance that is no request."""
    asked = utterance.asked
    if asked is None:
        return []
    files = (asked.prompt, asked.reference, asked.contrast)
    facts = replace(asked, prompt=None, reference=None, contrast=None)
    return [repr(facts), *(sha256_of(path) if path else "" for path in files)]


def fold(name: str) -> str:
    """`name` as it is compared: two ids that differ only in case or Unicode normalisation are the same id."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def several(problems: Sequence[str], limit: int = 5) -> str:
    """The first few of `problems` in one line, and how many more there are."""
    rest = f"; and {len(problems) - limit} more" if len(problems) > limit else ""
    return "; ".join(problems[:limit]) + rest
