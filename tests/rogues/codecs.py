"""Broken and dishonest codecs, one fault each, which the conformance kit must catch; and the honest one they vary."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from codecbench.audio import Audio, Clip
from codecbench.models.base import Card, Codec, Codes, OperatingPoint, Stream

RATE = 8000
KEPT: list[Any] = []


class Honest(Codec):
    """4-bit PCM at 8 kHz, refined by 4 bits more at the richer point."""

    card: ClassVar[Card] = Card(
        name="honest", kind="codec", family="PCM", track="small", sample_rate=RATE, channels=1,
        points=(OperatingPoint("32kbps", 32, 1), OperatingPoint("64kbps", 64, 2)),
        streams=(Stream(16, RATE),) * 2, nested=True, causal=True, lookahead=0,
    )  # fmt: skip

    def encode(self, clips: Sequence[Clip], point: OperatingPoint) -> list[Codes]:
        return [self.encode_one(clip, point.streams or 2) for clip in clips]

    def encode_one(self, clip: Clip, streams: int) -> Codes:
        levels = np.clip(np.rint(128 * clip.samples[0].astype(np.float64) + 128), 0, 255).astype(np.int64)
        parts = (levels // 16, levels % 16)[:streams]
        return Codes(clip.length, RATE, 1, parts, (16,) * streams)

    def decode(self, codes: Sequence[Codes]) -> list[Audio]:
        return [self.decode_one(item) for item in codes]

    def decode_one(self, item: Codes) -> Audio:
        fine = item.streams[1] if len(item.streams) > 1 else 8
        return np.asarray((16 * item.streams[0] + fine) / 128 - 1, np.float32)[None]


class Short(Honest):
    """Loses a sample."""

    def decode_one(self, item: Codes) -> Audio:
        return super().decode_one(item)[:, :-1]


class Doubles(Honest):
    """Returns float64."""

    def decode_one(self, item: Codes) -> Audio:
        return super().decode_one(item).astype(np.float64)


class FailsOnOneSample(Honest):
    """Divides by the length less one."""

    def encode_one(self, clip: Clip, streams: int) -> Codes:
        _ = 1 // (clip.length - 1)
        return super().encode_one(clip, streams)


class NotFiniteOnSilence(Honest):
    """Normalises without a floor."""

    def decode_one(self, item: Codes) -> Audio:
        output = super().decode_one(item)
        with np.errstate(invalid="ignore"):
            return np.asarray(output / output.max() * output.max(), np.float32)


class KeepsAudio(Honest):
    """The encoder leaves the audio in a global; the decoder finds it there."""

    def encode_one(self, clip: Clip, streams: int) -> Codes:
        KEPT[:] = [clip.samples]
        return super().encode_one(clip, streams)

    def decode_one(self, item: Codes) -> Audio:
        audio: Audio = KEPT[0]
        return np.resize(audio, (1, item.length))


class IgnoresCodes(Honest):
    """Plays the same noise whatever it is sent."""

    def decode_one(self, item: Codes) -> Audio:
        return np.asarray(np.random.default_rng(0).uniform(-0.2, 0.2, (1, item.length)), np.float32)


class KnowsByHeart(Honest):
    """Knows the clip's length, and plays what it learnt of a clip of that length."""

    learnt: ClassVar[dict[int, Audio]] = {}

    def decode_one(self, item: Codes) -> Audio:
        return self.learnt.setdefault(item.length, super().decode_one(item)).copy()


@dataclass(frozen=True, eq=False)
class LooseCodes(Codes):
    """Codes that nobody checked."""

    def __post_init__(self) -> None:
        pass


class OutOfRange(Honest):
    """Sends codes above its codebook."""

    def encode_one(self, clip: Clip, streams: int) -> Codes:
        codes = super().encode_one(clip, streams)
        return LooseCodes(codes.length, RATE, 1, tuple(s + 3 for s in codes.streams), codes.codebook_sizes)


class FloatCodes(Honest):
    """Sends codes that are not integers."""

    def encode_one(self, clip: Clip, streams: int) -> Codes:
        codes = super().encode_one(clip, streams)
        floats: tuple[Any, ...] = tuple(s + 0.25 for s in codes.streams)
        return LooseCodes(codes.length, RATE, 1, floats, codes.codebook_sizes)


class Smuggles(Honest):
    """Hangs the audio on the codes."""

    def encode_one(self, clip: Clip, streams: int) -> Codes:
        codes = super().encode_one(clip, streams)
        object.__setattr__(codes, "audio", clip.samples)
        return codes


class SaysOneKbps(Honest):
    """Declares a bitrate that is not its own."""

    card = replace(Honest.card, points=(OperatingPoint("1kbps", 1, 1), OperatingPoint("2kbps", 2, 2)))


class RichestFirst(Honest):
    """Sends fewer bits at the point that is said to be richer."""

    card = replace(Honest.card, nested=False)

    def encode(self, clips: Sequence[Clip], point: OperatingPoint) -> list[Codes]:
        return [self.encode_one(clip, 3 - (point.streams or 2)) for clip in clips]


class NotNested(Honest):
    """Its poorer point is coded otherwise than the first stream of the richer."""

    def encode_one(self, clip: Clip, streams: int) -> Codes:
        codes = super().encode_one(clip, streams)
        return codes if streams == 2 else replace(codes, streams=(15 - codes.streams[0],))


class Adapts(Honest):
    """Carries a gain from clip to clip."""

    gain = 1.0

    def encode_one(self, clip: Clip, streams: int) -> Codes:
        self.gain *= 0.8
        return super().encode_one(Clip(clip.samples * np.float32(self.gain), RATE), streams)


class LeaksInBatch(Honest):
    """Scales all clips of a list by their common peak."""

    def encode(self, clips: Sequence[Clip], point: OperatingPoint) -> list[Codes]:
        peak = np.float32(max((np.abs(clip.samples).max(initial=0) for clip in clips), default=0) + 1e-9)
        return super().encode([Clip(clip.samples / peak, RATE) for clip in clips], point)


class Caches(Honest):
    """Works hard, but for clips that it has seen."""

    def __init__(self) -> None:
        self.seen: dict[bytes, Codes] = {}

    def encode_one(self, clip: Clip, streams: int) -> Codes:
        key = clip.samples.tobytes() + bytes([streams])
        if key not in self.seen:
            sum(range(1_000_000))
            self.seen[key] = super().encode_one(clip, streams)
        return self.seen[key]


class OrderOfHashes(Honest):
    """Depends on the seed of Python's hashes; with one hash alone, one seed in sixteen would do no harm."""

    def encode_one(self, clip: Clip, streams: int) -> Codes:
        codes = super().encode_one(clip, streams)
        shifts = [np.array([hash(str(place)) % 16 for place in range(len(s))]) for s in codes.streams]
        return replace(codes, streams=tuple((s + own) % 16 for s, own in zip(codes.streams, shifts, strict=True)))


class WritesToInput(Honest):
    """Removes the mean in place, where it may."""

    def encode_one(self, clip: Clip, streams: int) -> Codes:
        if clip.samples.flags.writeable:
            clip.samples[:] -= clip.samples.mean() + np.float32(1e-3)
        return super().encode_one(clip, streams)


class OneBuffer(Honest):
    """Returns the same memory every time."""

    buffer: ClassVar[Audio] = np.zeros((1, 1 << 20), np.float32)

    def decode_one(self, item: Codes) -> Audio:
        self.buffer[:, : item.length] = super().decode_one(item)
        return self.buffer[:, : item.length]


class Late(Honest):
    """20 ms late, without saying so."""

    def decode_one(self, item: Codes) -> Audio:
        return np.pad(super().decode_one(item), [(0, 0), (160, 0)])[:, : item.length]


class LooksAhead(Honest):
    """Says it is causal, and scales by the level of the whole clip."""

    def encode_one(self, clip: Clip, streams: int) -> Codes:
        level = np.float32(np.sqrt(np.mean(clip.samples**2)) + 1e-6)
        return super().encode_one(Clip(clip.samples / (5 * level), RATE), streams)


class SeedsNumpy(Honest):
    """Seeds the global generator of NumPy."""

    def encode_one(self, clip: Clip, streams: int) -> Codes:
        np.random.seed(0)
        return super().encode_one(clip, streams)


class SetsEnvironment(Honest):
    """Counts its calls in an environment variable."""

    def encode_one(self, clip: Clip, streams: int) -> Codes:
        os.environ["ROGUE_CALLS"] = str(int(os.environ.get("ROGUE_CALLS", "0")) + 1)
        return super().encode_one(clip, streams)


class PatchesNumpy(Honest):
    """Replaces a function that metrics use."""

    calls = 0

    def encode_one(self, clip: Clip, streams: int) -> Codes:
        np.average = lambda *_, **__: 0.0  # type: ignore[assignment]
        return super().encode_one(clip, streams)


class Prints(Honest):
    """Tells of its progress on standard output, from compiled code's side."""

    def encode_one(self, clip: Clip, streams: int) -> Codes:
        os.write(1, b"100%\n")
        return super().encode_one(clip, streams)


class WritesFile(Honest):
    """Leaves a note in the working folder."""

    def encode_one(self, clip: Clip, streams: int) -> Codes:
        Path("note.txt").write_text(str(clip.length))
        return super().encode_one(clip, streams)


class CallsHome(Honest):
    """Tries to reach a server, and goes on if it cannot."""

    def encode_one(self, clip: Clip, streams: int) -> Codes:
        with suppress(OSError):
            socket.create_connection(("192.0.2.1", 80), timeout=0.1).close()
        return super().encode_one(clip, streams)


class LeavesThread(Honest):
    """Starts a thread a call, and leaves it."""

    def encode_one(self, clip: Clip, streams: int) -> Codes:
        threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
        return super().encode_one(clip, streams)


class LeavesOpen(Honest):
    """Opens a file a call, and leaves it."""

    def encode_one(self, clip: Clip, streams: int) -> Codes:
        KEPT.append(os.open(os.devnull, os.O_RDONLY))
        return super().encode_one(clip, streams)


class Leaks(Honest):
    """Keeps 4 MB a call."""

    def encode_one(self, clip: Clip, streams: int) -> Codes:
        KEPT.append(np.ones(1 << 19))
        return super().encode_one(clip, streams)


class ExitsQuietly(Honest):
    """Ends its process with exit code 0 on silence: without a result that is a crash."""

    def encode_one(self, clip: Clip, streams: int) -> Codes:
        if not clip.samples.any():
            os._exit(0)
        return super().encode_one(clip, streams)


class Hangs(Honest):
    """Never returns on silence."""

    def encode_one(self, clip: Clip, streams: int) -> Codes:
        while not clip.samples.any():
            time.sleep(0.1)
        return super().encode_one(clip, streams)


class ExpectsTooMuch(Honest):
    """Expects a failure that does not come."""

    card = replace(Honest.card, expected_failures=(("silence", "silence is not what it is for"),))


class ExpectsRightly(NotFiniteOnSilence):
    """Fails as its card says."""

    card = replace(Honest.card, expected_failures=(("silence", "it normalises without a floor"),))
