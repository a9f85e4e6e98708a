"""Small systems for the runner's tests, each a target ``adapters.py:Class``: some sound, some broken in one way.

What a broken one does depends on the clip alone, so that a resumed run meets the same faults: `is_marked` picks the
clips that begin with a full-scale sample.
"""

import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from codecbench.audio import Audio, Clip
from codecbench.models.base import Card, Codec, Codes, LoadOptions, OperatingPoint, Stream

POINTS = tuple(OperatingPoint(f"{streams}x4bit", streams=streams) for streams in (1, 2, 3))


def is_marked(codes: Codes) -> bool:
    """The clip began with a full-scale sample."""
    return bool(codes.streams[0][0] == 15)


class Steps(Codec):
    """A nested codec: each stream refines the last by 4 bits. Deterministic, stateless, exact in length."""

    card: ClassVar[Card] = Card(
        name="steps", kind="codec", family="Steps", track="classical", sample_rate=8000, channels=1, points=POINTS,
        streams=(Stream(16, 8000),) * 3, nested=True, causal=True,
    )  # fmt: skip

    def encode(self, clips: Sequence[Clip], point: OperatingPoint) -> list[Codes]:
        return [self._encode(clip, point) for clip in clips]

    def _encode(self, clip: Clip, point: OperatingPoint) -> Codes:
        rest = (np.clip(clip.samples[0].astype(np.float64), -1, 1) + 1) / 2
        streams = []
        for _ in range(point.streams or 3):
            step = np.minimum((rest * 16).astype(np.int64), 15)
            rest = rest * 16 - step
            streams.append(step)
        return Codes(clip.length, clip.sample_rate, 1, tuple(streams), (16,) * len(streams))

    def decode(self, codes: Sequence[Codes]) -> list[Audio]:
        return [self.decode_one(item) for item in codes]

    def decode_one(self, item: Codes) -> Audio:
        middle = 0.5 ** (4 * len(item.streams) + 1)
        value = sum((s / 16.0 ** (k + 1) for k, s in enumerate(item.streams)), np.zeros(item.length))
        return np.asarray(2 * (value + middle) - 1, np.float32)[None]


def steps_called(name: str) -> Card:
    """The card of `Steps` under another name."""
    return Card(**{**vars(Steps.card), "name": name})


class Slow(Steps):
    """As `Steps`, but takes 50 ms an item: time enough to be killed."""

    card = steps_called("slow")

    def decode_one(self, item: Codes) -> Audio:
        time.sleep(0.05)
        return super().decode_one(item)


class Raises(Steps):
    """Raises on marked clips."""

    card = steps_called("raises")

    def decode_one(self, item: Codes) -> Audio:
        if is_marked(item):
            raise RuntimeError("cannot decode\nthis clip")
        return super().decode_one(item)


class Aborts(Steps):
    """Ends its process by SIGABRT on marked clips."""

    card = steps_called("aborts")

    def decode_one(self, item: Codes) -> Audio:
        if is_marked(item):
            os.abort()
        return super().decode_one(item)


class ExitsQuietly(Steps):
    """Ends its process with exit code 0 on marked clips: without a result that is a crash too."""

    card = steps_called("exits")

    def decode_one(self, item: Codes) -> Audio:
        if is_marked(item):
            os._exit(0)
        return super().decode_one(item)


class Hangs(Steps):
    """Never returns on marked clips."""

    card = steps_called("hangs")

    def decode_one(self, item: Codes) -> Audio:
        while is_marked(item):
            time.sleep(1)
        return super().decode_one(item)


class OutOfMemoryError(RuntimeError):
    """Named as torch's, which the runner knows by its name."""


class NoMemory(Steps):
    """Runs out of GPU memory on marked clips."""

    card = steps_called("no-memory")

    def decode_one(self, item: Codes) -> Audio:
        if is_marked(item):
            raise OutOfMemoryError("CUDA out of memory")
        return super().decode_one(item)


class Short(Steps):
    """Returns one sample too few."""

    card = steps_called("short")

    def decode_one(self, item: Codes) -> Audio:
        return super().decode_one(item)[:, :-1]


class NotFinite(Steps):
    """Returns NaN in one sample."""

    card = steps_called("not-finite")

    def decode_one(self, item: Codes) -> Audio:
        out = super().decode_one(item)
        out[0, 7] = np.nan
        return out


class Integers(Steps):
    """Returns 16-bit integers."""

    card = steps_called("integers")

    def decode_one(self, item: Codes) -> Audio:
        return (super().decode_one(item) * 32767).astype(np.int16)


class Undeclared(Steps):
    """Sends streams of another codebook than its card's."""

    card = steps_called("undeclared")

    def encode(self, clips: Sequence[Clip], point: OperatingPoint) -> list[Codes]:
        coded = super().encode(clips, point)
        return [Codes(c.length, c.sample_rate, 1, c.streams, (4096,) * len(c.streams)) for c in coded]


class Mutates(Steps):
    """Writes into the clip that it was given."""

    card = steps_called("mutates")

    def encode(self, clips: Sequence[Clip], point: OperatingPoint) -> list[Codes]:
        for clip in clips:
            clip.samples[:] = 0
        return super().encode(clips, point)


class CannotLoad(Steps):
    """Raises when it is loaded."""

    card = steps_called("cannot-load")

    @classmethod
    def load(cls, options: LoadOptions) -> Codec:  # noqa: ARG003
        raise OSError("no such library")


class Late(Steps):
    """Delays by 20 ms, inverts, and halves the level: valid, and measured."""

    card = steps_called("late")

    def decode_one(self, item: Codes) -> Audio:
        out = super().decode_one(item)
        return np.pad(-0.5 * out, [(0, 0), (160, 0)])[:, : item.length].astype(np.float32)


class Forgetful(Steps):
    """Adds new noise at every call: not repeatable."""

    card = steps_called("forgetful")

    def decode_one(self, item: Codes) -> Audio:
        noise = np.random.default_rng().normal(0, 1e-3, item.length)
        return np.asarray(super().decode_one(item) + noise, np.float32)


class Loud(Steps):
    """As `Steps`, three times as loud: much of it beyond full scale."""

    card = steps_called("loud")

    def decode_one(self, item: Codes) -> Audio:
        return np.asarray(3 * super().decode_one(item), np.float32)


class Nothing(Steps):
    """Returns digital silence."""

    card = Card(**{**vars(steps_called("nothing")), "points": POINTS[:1]})

    def decode_one(self, item: Codes) -> Audio:
        return np.zeros((1, item.length), np.float32)


class Counted(Steps):
    """As `Steps`; every call leaves a line in the file ``calls`` beside the cache's folder."""

    card = steps_called("counted")

    def encode(self, clips: Sequence[Clip], point: OperatingPoint) -> list[Codes]:
        count("encode")
        return super().encode(clips, point)

    def decode(self, codes: Sequence[Codes]) -> list[Audio]:
        count("decode")
        return super().decode(codes)


class CountedNoise(Forgetful, Counted):
    """Both."""

    card = steps_called("counted-noise")


class CountedCaller(Counted):
    """As `Counted`, but asks the network for something."""

    card = steps_called("counted-caller")

    def decode_one(self, item: Codes) -> Audio:
        socket.getaddrinfo("127.0.0.1", 80)
        return super().decode_one(item)


def count(verb: str) -> None:
    """Leave a line for `verb`."""
    with (Path(os.environ["CODECBENCH_CACHE"]).parent / "calls").open("a") as file:
        file.write(f"{verb}\n")
