"""The system under check: loaded once, its probes made once, and what every check asks of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from codecbench.audio import Audio, Clip
from codecbench.models.base import Card, Codec, Codes, LoadOptions, OperatingPoint, SpeechLM, System
from codecbench.models.bitstream import pack, unpack
from codecbench.models.checks.base import Failed, Skipped
from codecbench.models.checks.observe import Observation, State, observe, state, stir
from codecbench.models.checks.probes import CONTROL_RATE, frozen, speechlike
from codecbench.models.registry import find


@dataclass(frozen=True)
class Options:
    """How a system is checked.

    Attributes:
        points: Names of the operating points to check; empty for all.
        weights: A local file or folder in place of the official ones.
        random_seed: Check the system on random weights from this seed; checks of how it sounds are skipped.
        device: A torch device string.
        long_seconds: Length of the longest clip.
        time_limit: Seconds that one check may take.
    """

    points: tuple[str, ...] = ()
    weights: Path | None = None
    random_seed: int | None = None
    device: str = "cpu"
    long_seconds: float = 10.0
    time_limit: float = 120.0

    def load_options(self) -> LoadOptions:
        """The options to load the system with."""
        return LoadOptions(self.device, self.weights, self.random_seed)


@dataclass(eq=False)
class Subject:
    """A system, as checks see it. What they share is made on first use and kept."""

    target: str
    options: Options
    _coded: dict[str, list[Codes]] = field(default_factory=dict)

    @cached_property
    def system(self) -> System:
        """What the target names."""
        return find(self.target)

    @property
    def card(self) -> Card:
        """Its declared facts."""
        return self.system.card

    @property
    def random(self) -> bool:
        """It runs on random weights: nothing can be said of how it sounds."""
        return self.options.random_seed is not None and bool(self.card.weights or self.card.unpublished)

    @cached_property
    def state_before(self) -> State:
        """The state of the process before the system was loaded."""
        return state()

    @cached_property
    def loaded(self) -> tuple[Any, Observation]:
        """The loaded system, and what loading it left behind."""
        _ = self.state_before
        with observe() as observation:
            model = self.system.load(self.options.load_options())
        return model, observation

    @property
    def codec(self) -> Codec:
        """The loaded codec."""
        model = self.loaded[0]
        if not isinstance(model, Codec):
            raise Failed(f"`load` returned a {type(model).__name__}, not a Codec")
        return model

    @property
    def lm(self) -> SpeechLM:
        """The loaded language model."""
        model = self.loaded[0]
        if not isinstance(model, SpeechLM):
            raise Failed(f"`load` returned a {type(model).__name__}, not a SpeechLM")
        return model

    @property
    def rate(self) -> int:
        """The sample rate of its clips in Hz."""
        return self.card.sample_rate or CONTROL_RATE

    @property
    def channels(self) -> int:
        """The channels of its clips."""
        return self.card.channels or 1

    @property
    def points(self) -> tuple[OperatingPoint, ...]:
        """The points under check, poorest first."""
        chosen = self.options.points
        return tuple(point for point in self.card.points if not chosen or point.name in chosen)

    @property
    def richest(self) -> OperatingPoint:
        """The last of the points under check."""
        return self.points[-1]

    @cached_property
    def hop(self) -> int:
        """Samples a frame of the slowest stream; 20 ms for a codec whose card names no frame rate."""
        rates = [s.frame_rate for s in self.card.streams_at(self.richest) if s.frame_rate]
        return round(self.rate / min(rates)) if rates else self.rate // 50

    def clip(self, seconds: float, seed: int = 0) -> Clip:
        """A speech-like clip at the system's rate; of more channels, each has its own level."""
        return self.clip_of(round(seconds * self.rate), seed)

    def clip_of(self, length: int, seed: int = 0) -> Clip:
        """A speech-like clip of `length` samples."""
        return self.spread(speechlike(length, self.rate, seed))

    def spread(self, samples: np.ndarray[Any, Any], channels: int | None = None) -> Clip:
        """A clip of `samples` ``[T]`` on all channels, each a little softer than the one before."""
        levels = 0.9 ** np.arange(channels or self.channels)
        return frozen(levels[:, None] * samples, self.rate)

    def encode(self, clips: Sequence[Clip], point: OperatingPoint | None = None) -> list[Codes]:
        """Encode `clips` at `point`, by default the richest, and hold the result to the interface."""
        found = self.codec.encode(list(clips), point or self.richest)
        if not isinstance(found, list) or not all(isinstance(item, Codes) for item in found):
            raise Failed(f"encode returned {describe(found)}, not a list of Codes")
        if len(found) != len(clips):
            raise Failed(f"encode returned {len(found)} items for {len(clips)} clips")
        for clip, item in zip(clips, found, strict=True):
            stated = (item.length, item.sample_rate, item.channels)
            if stated != (clip.length, clip.sample_rate, clip.channels):
                raise Failed(f"codes state (length, rate, channels) {stated}, not those of the clip "
                             f"{(clip.length, clip.sample_rate, clip.channels)}")  # fmt: skip
        return found

    def decode(self, codes: Sequence[Codes]) -> list[Audio]:
        """Decode what is left of `codes` after a way through bytes, and hold the result to the interface."""
        found = self.codec.decode([through_bytes(item) for item in codes])
        if not isinstance(found, list) or len(found) != len(codes):
            raise Failed(f"decode returned {describe(found)} for {len(codes)} items, not a list of as many arrays")
        for item, audio in zip(codes, found, strict=True):
            check_audio(audio, (item.channels, item.length))
        return found

    def round_trip(self, clips: Sequence[Clip], point: OperatingPoint | None = None) -> list[Audio]:
        """Encode and decode `clips`; the outputs are finite, and of the clips' shapes."""
        return self.decode(self.encode(clips, point))

    @cached_property
    def probe(self) -> Clip:
        """The clip that most checks share, 0.4 s and not a whole number of frames."""
        return self.clip_of(2 * self.rate // 5 + 3)

    @cached_property
    def coded(self) -> Codes:
        """The codes of `probe` at the richest point."""
        return self.encode([self.probe])[0]

    @cached_property
    def output(self) -> Audio:
        """What comes back for `probe`."""
        return self.decode([self.coded])[0]

    @cached_property
    def brief(self) -> Codes:
        """The codes of a tenth of a second, where the clip does not matter."""
        return self.encode([self.clip(0.1, seed=7)])[0]

    @cached_property
    def long(self) -> Clip:
        """The longest clip."""
        return self.clip(self.options.long_seconds)

    def coded_long(self, point: OperatingPoint) -> Codes:
        """The codes of `long` at `point`; a nested codec encodes it once."""
        last = self.richest if self.card.nested else point
        if last.name not in self._coded:
            self._coded[last.name] = self.encode([self.long], last)
        (codes,) = self._coded[last.name]
        return codes.prefix(point.streams) if self.card.nested and point.streams else codes

    def exercise(self) -> None:
        """Put the system to a short and ordinary use."""
        if self.card.kind == "lm":
            from codecbench.models.checks.requests import SHORT, request

            self.lm.generate([request(self)], SHORT)
            if self.card.likelihood:
                self.lm.loglikelihood([self.clip(0.2)])
        else:
            self.round_trip([self.clip(0.1, seed=5)])

    @cached_property
    def used(self) -> Observation:
        """What an ordinary use leaves behind."""
        self.exercise()
        stir()
        with observe() as observation:
            self.exercise()
        return observation

    def frames_until(self, sample: int, frame_rate: float | None) -> int:
        """How many frames end at or before `sample`."""
        return int(sample * (frame_rate or self.rate) / self.rate + 1e-9)

    def needs_true_weights(self) -> None:
        """Skip the check on random weights."""
        if self.random:
            raise Skipped("the weights are random: this needs trained ones")


def through_bytes(codes: Codes) -> Codes:
    """What a decoder gets of `codes`: unpacked from bytes, its arrays read-only."""
    received = unpack(pack(codes).to_bytes())
    for array in (*received.streams, *received.side.values()):
        array.setflags(write=False)
    return received


def check_audio(audio: Any, shape: tuple[int, int]) -> None:
    """Raise `Failed` unless `audio` is finite float32 samples of `shape`."""
    if not isinstance(audio, np.ndarray) or audio.dtype != np.float32 or audio.ndim != 2:
        raise Failed(f"the output is {describe(audio)}, not float32 samples [C, T]")
    if audio.shape != shape:
        raise Failed(f"the output has shape {list(audio.shape)}, the clip {list(shape)}")
    bad = int(audio.size - np.isfinite(audio).sum())
    if bad:
        raise Failed(f"{bad} of {audio.size} samples of the output are not finite")


def describe(value: Any) -> str:
    """`value` in words, for a reason."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {list(value.shape)}"
    if isinstance(value, list) and value:
        return f"a list of {type(value[0]).__name__}"
    return f"a {type(value).__name__}"


def same_codes(a: Codes, b: Codes) -> bool:
    """Both pack to the same bytes."""
    return pack(a).to_bytes() == pack(b).to_bytes()


def disagreement(a: Codes, b: Codes) -> float:
    """Share of tokens that differ, or of packets; 1 where their number does."""
    if [len(s) for s in a.streams] != [len(s) for s in b.streams] or len(a.packets) != len(b.packets):
        return 1.0
    if not a.streams:
        differing = sum(x != y for x, y in zip(a.packets, b.packets, strict=True))
        return differing / max(len(a.packets), 1)
    total = sum(len(stream) for stream in a.streams)
    return sum(int((x != y).sum()) for x, y in zip(a.streams, b.streams, strict=True)) / max(total, 1)


def difference(a: Audio, b: Audio) -> float:
    """Root mean square of the difference, relative to that of `a`."""
    level = float(np.sqrt(np.mean(np.square(a, dtype=np.float64))))
    return float(np.sqrt(np.mean(np.square(a - b, dtype=np.float64)))) / max(level, 1e-9)
