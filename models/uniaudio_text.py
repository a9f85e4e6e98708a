"""What UniAudio reads and sings: phones of a text, and the score of a song."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from codecbench.errors import InvalidSystem
from codecbench.models.uniaudio_files import one_file

if TYPE_CHECKING:
    from codecbench.audio import Clip

SUNG = (  # noqa: SIM905 - a list is three times as long
    "i e | <SEP> uo sh ai u ian x d an j ing iou uei a ang h en ao l ou eng q ong zh AP iang ei SP n # iao v m b ie in "
    "g z t ch uan f uang s van r k ve ia uen c er o p ua iong uai vn y ui w iu un io ueng"
).split()
"""The phones of songs, which are Mandarin, in the order of their ids."""
SILENT = SUNG.index("SP")
FRAMES_A_PHONE = 10
"""Of a song without a melody to follow."""


@dataclass(frozen=True)
class Phones:
    """From words to ids of phones, by the release's lexicon of English.

    Attributes:
        lexicon: Phones of each word in capitals.
        unknown: Phones of a word that is not in it.
        silence: Between sentences.
        table: The phones, in the order of their ids.
    """

    lexicon: Mapping[str, Sequence[str]]
    unknown: Sequence[str]
    silence: str
    table: Sequence[str]

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {phone: number for number, phone in enumerate(dict.fromkeys(self.table))}

    def read(self, text: str) -> list[int]:
        """Ids of the phones of `text`, the same one never twice in a row, as in training."""
        bare = re.sub(r'["\[\]?.]', "", text.replace("|", " ").replace("-", " ")).replace(",", " ,")
        phones = [self.silence]
        for word in bare.upper().split():
            phones += [self.silence] if word in (",", ":", ";", "!") else self.lexicon.get(word, self.unknown)
        found = [self._ids.get(phone, len(self._ids)) for phone in phones]
        return [number for before, number in zip([None, *found], found, strict=False) if number != before]


def read_phones(lexicon: Path, table: Path) -> Phones:
    """The phones of a release: its archive or folder of Kaldi's, and its table of phones.

    Raises:
        InvalidSystem: A file is missing or cannot be read.
    """
    try:
        silence, oov, words = (
            one_file(lexicon, name).read_text(encoding="utf-8")
            for name in ("optional_silence.txt", "oov.txt", "align_lexicon.txt")
        )
        names = [line.split()[0] for line in table.read_text(encoding="utf-8").splitlines() if line.strip()]
        entries = [line.split() for line in words.splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise InvalidSystem(f"{lexicon} or {table} cannot be read as a lexicon and its phones: {error}") from error
    known = {entry[0]: entry[2:] for entry in entries}
    return Phones(known, known.get(oov.split()[0], ()), silence.split()[0], names)


def sung(text: str) -> list[int]:
    """Ids of the phones of a song's `text`, in pinyin with spaces between phones or without.

    Of several readings the one with the longest phones first; what is no phone is left out.
    """
    names = sorted((name for name in SUNG if name.isalpha()), key=len, reverse=True)
    found = [SUNG.index(name) for name in re.findall("|".join(names), text)]
    return found or [SILENT]


def notes(clip: Clip, frames: int) -> list[int]:
    """The note of a melody in each of `frames` frames, as a number of MIDI; 0 where there is none.

    From the highest peak of the autocorrelation of 64 ms, between 65 and 1000 Hz.
    """
    rate, mono = clip.sample_rate, clip.samples.mean(axis=0)
    size, (shortest, longest) = rate * 64 // 1000, (rate // 1000, rate // 65)
    padded = np.pad(mono, (size // 2, size))
    found = []
    for frame in range(frames):
        start = frame * clip.length // max(frames, 1)
        window = padded[start : start + size]
        window = window - window.mean()
        spectrum = np.fft.rfft(window, 2 * size)
        echo = np.fft.irfft(np.abs(spectrum) ** 2)[: longest + 1]
        lag = shortest + int(echo[shortest:].argmax())
        voiced = echo[0] > 1e-6 * size and echo[lag] > 0.3 * echo[0]
        found.append(round(69 + 12 * np.log2(rate / lag / 440)) if voiced else 0)
    return found


def score(text: str, melody: Clip | None, frame_rate: float) -> tuple[list[int], list[int]]:
    """Phones and notes of a song, one of each a frame: the phones evenly over the `melody`, if there is one.

    The model was trained on scores, where each phone has a length of its own; none is known here.
    """
    phones = sung(text)
    frames = len(phones) * FRAMES_A_PHONE
    if melody is not None:
        frames = max(int(melody.duration * frame_rate), len(phones))
    spread = [phones[frame * len(phones) // frames] for frame in range(frames)]
    return spread, notes(melody, frames) if melody is not None else [0] * frames
