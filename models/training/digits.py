"""Spoken digits to train small language models on: strings of digits of one speaker, put together from recordings.

The recordings are those of the Free Spoken Digit Dataset (Jackson et al., CC BY-SA 4.0): 3,000 digits of six speakers
at 8 kHz. Of each speaker and digit, the takes 0 to 4 are for tests and the others for training, as its authors say; of
these, the last five are held out here, for whoever has to choose between trainings.

A string is digits, each brought to one level, with pauses between them and around them. A pause is not zeros: it is
noise as loud as the quietest part of the recordings, so that neither a codec nor a model can tell where one was cut.
The recordings end at 4 kHz. A little noise over all frequencies lies under a string, or a codec would learn above all
how to be silent there.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from codecbench.audio import Audio, Clip, resample
from codecbench.errors import UsageError
from codecbench.recording import read

if TYPE_CHECKING:
    from codecbench.models.base import Codec

Split = Literal["train", "test", "held-out"]

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
"""The digits as they are written in transcripts."""
RATE = 16_000
"""Of the strings, in Hz."""
RECORDED_RATE = 8_000
TEST_TAKES, TRAINING_TAKES = 5, 45
"""Takes below the first number are for tests, those below the second for training."""
LEVEL = 10 ** (-24 / 20)
"""Root mean square of a digit, unless its peak would pass `PEAK`."""
PEAK = 0.9
GROUND = 10 ** (-65 / 20)
"""Root mean square of the noise under a string."""
PAUSES = (0.05, 0.25)
"""Shortest and longest pause in seconds."""
FADE, FRAME = 40, 160
"""Samples at `RECORDED_RATE`: of the fades at a digit's edges, and of the frames whose quietest is like a pause."""
LENGTHS = (3, 6)
"""Fewest and most digits in a string."""
VERSION = 2
"""Of the strings: raised when the same numbers give other samples."""


@dataclass(frozen=True, order=True)
class Take:
    """A recording of one digit."""

    speaker: str
    digit: int
    take: int
    path: Path

    @property
    def split(self) -> Split:
        """What the recording is for."""
        return "test" if self.take < TEST_TAKES else "train" if self.take < TRAINING_TAKES else "held-out"


@dataclass(frozen=True, eq=False)
class Spoken:
    """A string: samples ``[T]`` float32 at `RATE`, the words in them, and who speaks.

    `takes` are the recordings that it is made of, `starts` the seconds at which they begin.
    """

    samples: Audio
    words: tuple[str, ...]
    speaker: str
    takes: tuple[Take, ...]
    starts: tuple[float, ...]

    @property
    def text(self) -> str:
        """The transcript."""
        return " ".join(self.words)

    @property
    def clip(self) -> Clip:
        """The recording ``[1, T]``."""
        return Clip(self.samples[None], RATE)


@dataclass(frozen=True, eq=False)
class Coded:
    """A string in a codec's codes ``[K, F]`` int16."""

    codes: NDArray[np.int16]
    words: tuple[str, ...]
    speaker: str

    @property
    def text(self) -> str:
        """The transcript."""
        return " ".join(self.words)


def takes(folder: Path) -> list[Take]:
    """The recordings in `folder`, in an order that does not depend on how their files are called.

    Files are called ``DIGIT_SPEAKER_TAKE.wav``, as they are published, in `folder` or in ``recordings`` below it; or a
    ``manifest.csv`` with the columns ``path``, ``speaker`` and ``digit`` lists them, each named ``..._TAKE``.

    Raises:
        UsageError: It holds no such recordings.
    """
    found = sorted(_listed(folder) if (folder / "manifest.csv").is_file() else _named(folder))
    if not found:
        raise UsageError(f"no recordings of the Free Spoken Digit Dataset in {folder}: they are named 7_jackson_32.wav")
    return found


def _named(folder: Path) -> Iterator[Take]:
    within = folder / "recordings" if (folder / "recordings").is_dir() else folder
    for path in within.glob("*.wav"):
        if match := re.fullmatch(r"([0-9])_([a-z]+)_([0-9]+)", path.stem):
            digit, speaker, take = match.groups()
            yield Take(speaker, int(digit), int(take), path)


def _listed(folder: Path) -> Iterator[Take]:
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            try:
                take = int(Path(row["path"]).stem.rpartition("_")[2])
                yield Take(row["speaker"], int(row["digit"]), take, folder / row["path"])
            except (KeyError, TypeError, ValueError) as error:
                raise UsageError(f"{folder / 'manifest.csv'}: a row that names no take of a digit: {row}") from error


class DigitStrings:
    """Strings of digits, the same for the same split, seed and number.

    Args:
        folder: See `takes`.
        split: Which takes are used.
        seed: Of all that is random.
        lengths: Fewest and most digits in a string.
        pauses: Shortest and longest pause in seconds.
        numbers: Of the split's takes, only those that have one of these numbers.
        speed: Lowest and highest speed of a string; pitch goes with it.

    Raises:
        UsageError: The folder holds no such recordings, or none of the split.
    """

    def __init__(
        self, folder: Path, split: Split, seed: int = 0, lengths: tuple[int, int] = LENGTHS,
        pauses: tuple[float, float] = PAUSES, numbers: Container[int] | None = None,
        speed: tuple[float, float] = (1, 1),
    ) -> None:  # fmt: skip
        self.split, self.seed, self.lengths, self.pauses, self.speed = split, seed, lengths, pauses, speed
        own = (take for take in takes(folder) if take.split == split)
        self.takes = [take for take in own if numbers is None or take.take in numbers]
        if not self.takes:
            raise UsageError(f"no takes of the {split} split in {folder}")
        self.speakers = sorted({take.speaker for take in self.takes})
        self._choices: dict[tuple[str, int], list[Take]] = {}
        for take in self.takes:
            self._choices.setdefault((take.speaker, take.digit), []).append(take)

    def draw(self, number: int, speaker: str = "", digits: Sequence[int] = ()) -> Spoken:
        """String `number`: of `speaker` and of `digits`, or of whom and which the dice say."""
        rng = np.random.default_rng([self.seed, get_args(Split).index(self.split), number])
        who = speaker or self.speakers[rng.integers(len(self.speakers))]
        said = [int(d) for d in digits] or rng.integers(10, size=rng.integers(*self.lengths, endpoint=True)).tolist()
        used = []
        for digit in said:
            choices = self._choices.get((who, digit), [])
            if not choices:
                raise UsageError(f"there is no recording of {WORDS[digit]} by {who} in the {self.split} split")
            used.append(choices[rng.integers(len(choices))])
        return spoken(used, rng, self.pauses, self.speed)


def spoken(
    used: Sequence[Take], rng: np.random.Generator, pauses: tuple[float, float] = PAUSES,
    speed: tuple[float, float] = (1, 1),
) -> Spoken:  # fmt: skip
    """The string of the takes `used`, all of one speaker, with `pauses` and a `speed` within bounds, by `rng`."""
    slowest, fastest = speed  # of a fixed one no die is cast, so that strings without speeds stay what they were
    rate = round(RECORDED_RATE * (rng.uniform(slowest, fastest) if slowest < fastest else slowest))
    digits = [resample(_levelled(take.path), rate, RECORDED_RATE) for take in used]
    quiet = min(_quietest(digit) for digit in digits)
    parts = [_pause(quiet, rng, pauses)]
    starts = []
    for digit in digits:
        starts.append(sum(map(len, parts)) / RECORDED_RATE)
        parts += [_faded(digit), _pause(quiet, rng, pauses)]
    samples = resample(np.concatenate(parts), RECORDED_RATE, RATE)
    samples = samples + GROUND * rng.standard_normal(len(samples)).astype(np.float32)
    return Spoken(samples, tuple(WORDS[take.digit] for take in used), used[0].speaker, tuple(used), tuple(starts))


@lru_cache(maxsize=4096)
def _levelled(path: Path) -> Audio:
    clip = read(path).clip
    samples = resample(clip.samples.mean(axis=0), clip.sample_rate, RECORDED_RATE)
    samples = samples - samples.mean()
    gain = LEVEL / max(float(np.sqrt(np.mean(samples**2))), 1e-6)
    return np.asarray(samples * min(gain, PEAK / max(float(np.abs(samples).max()), 1e-6)), np.float32)


def _quietest(samples: Audio) -> float:
    """Root mean square of the quietest frame."""
    frames = samples[: max(1, len(samples) // FRAME) * FRAME]
    frames = frames.reshape(-1, FRAME) if len(frames) >= FRAME else frames[None]
    return float(np.sqrt((frames**2).mean(axis=1)).min())


def _pause(level: float, rng: np.random.Generator, pauses: tuple[float, float]) -> Audio:
    length = round(rng.uniform(*pauses) * RECORDED_RATE)
    return np.asarray(level * rng.standard_normal(length), np.float32)


def _faded(samples: Audio) -> Audio:
    edge = np.linspace(0, 1, min(FADE, len(samples) // 2), dtype=np.float32)
    weights = np.ones(len(samples), np.float32)
    weights[: len(edge)], weights[len(samples) - len(edge) :] = edge, edge[::-1]
    return samples * weights


def write(strings: DigitStrings, count: int, folder: Path) -> None:
    """Write the first `count` strings into `folder` as 16-bit WAV, for ``codecbench train``, with their manifest."""
    import soundfile

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("path", "speaker", "language", "transcript"))
        for number in range(count):
            string, name = strings.draw(number), f"{number:04}.wav"
            soundfile.write(folder / name, string.samples, RATE, "PCM_16")
            rows.writerow((name, string.speaker, "en", string.text))


def coded_pool(strings: DigitStrings, count: int, codec: Codec, path: Path) -> list[Coded]:
    """The first `count` strings in the codes of `codec` at its richest point, kept in the ``.npz`` file at `path`.

    A file of the same strings and codec is read, any other is made anew. `codec` has this package's weights.
    """
    asked = json.dumps(_pool_identity(strings, count, codec))
    if path.is_file():
        with np.load(path, allow_pickle=False) as kept:
            if str(kept["asked"]) == asked:
                return _unpacked(kept["codes"], kept["frames"], kept["words"], kept["speakers"])
    pool = [_coded(strings.draw(number), codec) for number in range(count)]
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npz")
    np.savez_compressed(
        part, asked=asked, codes=np.concatenate([item.codes for item in pool], axis=1),
        frames=np.array([item.codes.shape[1] for item in pool]), words=np.array([item.text for item in pool]),
        speakers=np.array([item.speaker for item in pool]),
    )  # fmt: skip
    part.replace(path)
    return pool


def _pool_identity(strings: DigitStrings, count: int, codec: Codec) -> dict[str, object]:
    from hashlib import sha256

    from codecbench.paths import sha256_of
    from codecbench.weights import packaged

    weights = codec.card.package_weights
    recordings = "\n".join(f"{take.speaker} {take.digit} {take.take}" for take in strings.takes)
    return {
        "version": VERSION, "split": strings.split, "seed": strings.seed, "lengths": strings.lengths,
        "pauses": strings.pauses, "speed": strings.speed, "count": count,
        "codec": codec.card.name, "weights": sha256_of(packaged(weights)) if weights else "",
        "recordings": sha256(recordings.encode()).hexdigest(),
    }  # fmt: skip


def _coded(string: Spoken, codec: Codec) -> Coded:
    (codes,) = codec.encode([string.clip], codec.card.points[-1])
    return Coded(np.stack(codes.streams).astype(np.int16), string.words, string.speaker)


def _unpacked(
    codes: NDArray[np.int16], frames: NDArray[np.int64], words: NDArray[np.str_], speakers: NDArray[np.str_]
) -> list[Coded]:
    pieces = np.split(codes, np.cumsum(frames)[:-1], axis=1)
    return [
        Coded(np.ascontiguousarray(piece), tuple(str(text).split()), str(speaker))
        for piece, text, speaker in zip(pieces, words, speakers, strict=True)
    ]
