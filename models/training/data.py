"""Training data: random pieces of the recordings in a folder, the same for the same seed and step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from codecbench.audio import Audio, fit_length, resample
from codecbench.errors import UsageError
from codecbench.recording import SUFFIXES, read

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """What happens to a piece on its way into a batch; the target is changed with it.

    Attributes:
        rms: Of every piece, before its gain; 0 leaves pieces as loud as they are. For a codec that cannot know.
        gain: Lowest and highest gain in dB. A peak beyond full scale is brought back to it.
        speed: Lowest and highest speed; pitch goes with it.
        mixing: Probability that another piece is added.
        level: Lowest and highest level of that piece below the first, in dB.
    """

    rms: float = 0.0
    gain: tuple[float, float] = (-12.0, 6.0)
    speed: tuple[float, float] = (0.9, 1.1)
    mixing: float = 0.2
    level: tuple[float, float] = (0.0, 20.0)


class Corpus:
    """The recordings below a folder, one in `held_out` of them kept from training.

    Recordings are mixed to one channel and resampled. A piece is as likely to come from a recording as that is long.

    Args:
        folder: Searched to the bottom; what is no audio file is ignored.
        rate: Of the pieces, in Hz.
        length: Of the pieces, in samples.
        augmentation: Of the pieces.
        seed: What pieces depend on, besides the step.
        held_out: See above; a folder with fewer recordings holds out none.

    Raises:
        UsageError: There is no folder or no audio in it, or none that is longer than a piece.
    """

    def __init__(
        self, folder: Path, rate: int, length: int, augmentation: Augmentation, seed: int = 0, held_out: int = 20
    ) -> None:
        if not folder.is_dir():
            raise UsageError(f"no such folder of training data: {folder}")
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        if not files:
            raise UsageError(f"no audio files in {folder}; training takes {', '.join(sorted(SUFFIXES))}")
        seconds = np.array([_seconds(path) for path in files])
        # A piece that is sped up takes more, but never more than two samples beyond.
        needed = ceil(length * max(augmentation.speed[1], 1.0) + 2) / rate
        if not (seconds >= needed).any():
            raise UsageError(
                f"the longest of {len(files)} recordings in {folder} has {seconds.max():.2f} s, and training needs "
                f"{needed:.2f} s: add longer ones, or set `seconds` lower in the configuration"
            )
        kept = np.arange(1, len(files) + 1) % held_out == 0
        self.held_out: Sequence[Path] = [path for path, out in zip(files, kept, strict=True) if out]
        usable = ~kept & (seconds >= needed)
        self.files: Sequence[Path] = [path for path, use in zip(files, usable, strict=True) if use]
        if not self.files:
            raise UsageError(f"all recordings in {folder} that are long enough are held out: add more")
        self.seconds = float(seconds[usable].sum())
        self._chances = seconds[usable] / self.seconds
        self._rate, self._length, self._augmentation, self._seed = rate, length, augmentation, seed

    def batch(self, step: int, size: int) -> tuple[Tensor, list[Path]]:
        """The pieces ``[size, 1, T]`` of `step`, and the files that they are from."""
        import torch

        rng = np.random.default_rng([self._seed, step])
        pieces, paths = [], []
        for _ in range(size):
            piece, path = self._piece(rng)
            pieces.append(self._mixed(piece, rng))
            paths.append(path)
        return torch.from_numpy(np.stack(pieces))[:, None], paths

    def _piece(self, rng: np.random.Generator) -> tuple[Audio, Path]:
        path = self.files[rng.choice(len(self.files), p=self._chances)]
        samples = load(path, self._rate)
        speed_rate = round(self._rate * rng.uniform(*self._augmentation.speed))
        taken = min(ceil(self._length * speed_rate / self._rate), len(samples))
        start = rng.integers(len(samples) - taken + 1)
        return fit_length(resample(samples[start : start + taken], speed_rate, self._rate), self._length), path

    def _mixed(self, piece: Audio, rng: np.random.Generator) -> Audio:
        if rng.random() < self._augmentation.mixing:
            other, _ = self._piece(rng)
            level = _rms(piece) / max(_rms(other), 1e-6) * 10 ** (-rng.uniform(*self._augmentation.level) / 20)
            piece = piece + level * other
        if self._augmentation.rms:
            piece = piece * (self._augmentation.rms / max(_rms(piece), 1e-4))
        piece = piece * 10 ** (rng.uniform(*self._augmentation.gain) / 20)
        return np.asarray(piece / max(1.0, np.abs(piece).max()), np.float32)


@lru_cache(maxsize=512)
def load(path: Path, rate: int) -> Audio:
    """The recording at `path`, ``[T]``: mixed to one channel, resampled to `rate` Hz."""
    clip = read(path).clip
    return resample(clip.samples.mean(axis=0), clip.sample_rate, rate)


def _seconds(path: Path) -> float:
    import soundfile

    try:
        return float(soundfile.info(str(path)).duration)
    except soundfile.SoundFileError:
        return read(path).clip.duration  # another decoder may know it; if not, this says what is wrong


def _rms(samples: Audio) -> float:
    return float(np.sqrt(np.mean(samples**2)))
