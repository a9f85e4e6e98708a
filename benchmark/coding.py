"""Clips through a system, one or several at once: resample, encode, pack, count, unpack, decode, check.

Only packed bytes pass from the encoder to the decoder. Whatever the system does wrong becomes a `SystemFailure`
with a reason; nothing is padded, cut or repaired.
"""

from __future__ import annotations

import hashlib
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from codecbench.audio import Audio, Clip, resample
from codecbench.benchmark.resources import PeakMemory
from codecbench.models.base import Card, Codec, Codes, OperatingPoint
from codecbench.models.bitstream import Packed, pack, unpack

OUT_OF_MEMORY = "oom"
"""The reason of an item for which the GPU's memory did not suffice, alone in its batch."""
DEVICE = "device("
"""How the reason of an item begins on which the GPU failed, after which its process is good for nothing."""

REASON_CHARACTERS, TRACE_CHARACTERS = 500, 2048


class SystemFailure(Exception):
    """The system's fault; `str` is the reason, such as ``length(expected 16000, got 15680)``.

    Attributes:
        trace: The end of the traceback, where the system raised.
    """

    def __init__(self, reason: str, trace: str = "") -> None:
        super().__init__(reason[:REASON_CHARACTERS])
        self.trace = trace


class ItemLost(SystemFailure):
    """The process that had the item in hand is gone: all its points fail, and none is tried again."""


@runtime_checkable
class Hosted(Protocol):
    """A codec whose work is done in processes of its own."""

    def begin_item(self, items: int = 1) -> None:
        """The time limit of so many items begins."""

    def process(self, verb: Literal["encode", "decode"]) -> int | None:
        """The process that does `verb`; None while there is none."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """What an encoder returned for one clip at one point, packed; with its wall time, and by how much it grew.

    Where several clips were encoded at once, each has its share of the time, by its length, and all of the growth.
    """

    packed: Packed
    seconds: float
    memory_mb: float | None


@dataclass(frozen=True, eq=False)
class Coded:
    """What came back for one clip at one point.

    Attributes:
        codes: As unpacked from the bytes.
        bits: Of the payload.
        header_bits: Of the header.
        output: Mono samples ``[T]`` at `sample_rate`, as long as the codec's input.
        sample_rate: The codec's rate in Hz.
        encode_seconds: Wall time of the encoder; for nested points, of the one encoding that serves them all. None if
            an earlier run coded it.
        decode_seconds: Wall time of the decoder; None likewise.
        memory_mb: By how much the process grew while coding, at its peak.
    """

    codes: Codes
    bits: int
    header_bits: int
    output: Audio
    sample_rate: int
    encode_seconds: float | None
    decode_seconds: float | None
    memory_mb: float | None

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the output and its rate: all of the item that a metric sees."""
        return hashlib.sha256(b"%d " % self.sample_rate + np.ascontiguousarray(self.output, "<f4").data).hexdigest()


def codec_input(clip: Clip, card: Card) -> Clip:
    """`clip`, mono, at the codec's rate and channels; read-only, so that no adapter can change it for the next."""
    rate = card.sample_rate or clip.sample_rate
    samples = resample(clip.samples, clip.sample_rate, rate)
    if card.channels and card.channels > 1:
        samples = np.repeat(samples, card.channels, axis=0)
    samples = np.ascontiguousarray(samples)
    if samples is clip.samples or samples.base is not None:
        samples = samples.copy()
    samples.setflags(write=False)
    return Clip(samples, rate)


def code_clip(
    codec: Codec, card: Card, clip: Clip, points: Sequence[OperatingPoint], richest: OperatingPoint | None = None
) -> Iterator[tuple[OperatingPoint, Coded | SystemFailure]]:
    """Code `clip`, at the codec's rate and channels, at every point of `points`.

    A nested codec encodes once, at `richest` (of `points`, if not given), and each point is a prefix of those codes, or
    fails as that encoding did.
    """
    for point, outcome in code_clips(codec, card, [clip], points, richest):
        yield point, outcome if isinstance(outcome, SystemFailure) else outcome[0]


def code_clips(
    codec: Codec, card: Card, clips: Sequence[Clip], points: Sequence[OperatingPoint],
    richest: OperatingPoint | None = None,
) -> Iterator[tuple[OperatingPoint, list[Coded] | SystemFailure]]:  # fmt: skip
    """`code_clip` of several clips in one call of the adapter: all of them come back, or none does."""
    left = list(points)
    for point, encoded in encode_clips(codec, card, clips, points, richest):
        outcome = decode_clips(codec, clips, encoded)
        yield point, outcome
        left.remove(point)
        if isinstance(outcome, ItemLost):
            yield from ((other, outcome) for other in left)
            return


def encode_clips(
    codec: Codec, card: Card, clips: Sequence[Clip], points: Sequence[OperatingPoint],
    richest: OperatingPoint | None = None,
) -> Iterator[tuple[OperatingPoint, list[Encoded] | SystemFailure]]:  # fmt: skip
    """The first half of `code_clips`: to bytes."""
    if isinstance(codec, Hosted):
        codec.begin_item(len(clips))
    richest = richest or max(points, key=lambda point: point.streams or 0)
    shared: tuple[list[Codes], float, float | None] | None = None
    lost: SystemFailure | None = None
    for point in points:
        try:
            if lost:
                raise lost
            if shared is None or not card.nested:
                shared = _encode(codec, card, clips, richest if card.nested else point)
            yield point, _packed(shared, point.streams if card.nested else None)
        except SystemFailure as failure:
            lost = failure if card.nested or isinstance(failure, ItemLost) else None
            yield point, failure


def _encode(
    codec: Codec, card: Card, clips: Sequence[Clip], point: OperatingPoint
) -> tuple[list[Codes], float, float | None]:
    with PeakMemory(_process(codec, "encode")) as memory:
        started = time.perf_counter()
        found = all_codes(call(codec.encode, list(clips), point), len(clips))
        seconds = time.perf_counter() - started
    for codes, clip in zip(found, clips, strict=True):
        if (codes.length, codes.sample_rate, codes.channels) != (clip.length, clip.sample_rate, clip.channels):
            raise SystemFailure("contract(codes state another length, rate or channels than the clip's)")
        check_codes(card, point, codes)
    return found, seconds, memory.growth_mb()


def _packed(encoded: tuple[list[Codes], float, float | None], streams: int | None) -> list[Encoded]:
    found, seconds, grown = encoded
    shares = _shares(seconds, [codes.length for codes in found])
    return [
        Encoded(pack(codes.prefix(streams) if streams else codes), share, grown)
        for codes, share in zip(found, shares, strict=True)
    ]


def _shares(seconds: float, lengths: Sequence[int]) -> list[float]:
    """Each clip's part of the time that all of them took."""
    return [seconds * length / max(1, sum(lengths)) for length in lengths] if len(lengths) > 1 else [seconds]


def all_codes(items: Any, count: int) -> list[Codes]:
    """The codes of `count` clips, of all that an encoder may return: checked anew, and nothing beside them."""
    if not isinstance(items, list) or len(items) != count or not all(isinstance(item, Codes) for item in items):
        raise SystemFailure("contract(encode must return a list of one Codes a clip)")
    try:
        return [Codes(**{field.name: getattr(item, field.name) for field in fields(Codes)}) for item in items]
    except ValueError as error:
        raise SystemFailure(f"codes({one_line(error)})") from error


def check_codes(card: Card, point: OperatingPoint, codes: Codes) -> None:
    """Raise `SystemFailure` if `codes` hold anything that the card does not declare.

    Frame counts may exceed the declared frame rate by 5 % and a second's frames, at least 8: padding, overlap of
    segments, and a last segment that is whole.
    """
    expected = card.streams_at(point)
    if codes.streams or (expected and not codes.packets):
        if codes.codebook_sizes != tuple(stream.codebook_size for stream in expected):
            raise SystemFailure(f"codes(codebook sizes {codes.codebook_sizes} are not the card's)")
        seconds = codes.length / codes.sample_rate
        for k, (tokens, declared) in enumerate(zip(codes.streams, expected, strict=True)):
            rate = declared.frame_rate or codes.sample_rate
            if len(tokens) > 1.05 * rate * seconds + max(8, rate):
                raise SystemFailure(f"codes(stream {k} has {len(tokens)} frames in {seconds:.2f} s at {rate:g} Hz)")
    declared_side = {side.name: side.dtype for side in card.side}
    for name, array in codes.side.items():
        if declared_side.get(name) != array.dtype.name:
            raise SystemFailure(f"codes(side information '{name}' of {array.dtype} is not on the card)")


def decode_clips(
    codec: Codec, clips: Sequence[Clip], encoded: list[Encoded] | SystemFailure
) -> list[Coded] | SystemFailure:
    """The second half of `code_clips`: from bytes; `clips` tell the lengths that must come out, and no more."""
    if isinstance(encoded, SystemFailure):
        return encoded
    received = [unpack(item.packed.to_bytes()) for item in encoded]
    try:
        with PeakMemory(_process(codec, "decode")) as memory:
            started = time.perf_counter()
            outputs = all_outputs(call(codec.decode, received), len(clips))
            seconds = time.perf_counter() - started
        samples = [_check_output(output, clip) for output, clip in zip(outputs, clips, strict=True)]
    except SystemFailure as failure:
        return failure
    grown, shares = memory.growth_mb(), _shares(seconds, [clip.length for clip in clips])
    return [
        Coded(
            codes, item.packed.bits, item.packed.header_bits, heard, clip.sample_rate, item.seconds, share,
            max((mb for mb in (item.memory_mb, grown) if mb is not None), default=None),
        )
        for codes, item, heard, clip, share in zip(received, encoded, samples, clips, shares, strict=True)
    ]  # fmt: skip


def all_outputs(outputs: Any, count: int) -> list[NDArray[Any]]:
    """The float samples ``[C, T]`` of `count` clips, of all that a decoder may return; tensors will do."""
    if not isinstance(outputs, list) or len(outputs) != count:
        raise SystemFailure("contract(decode must return a list of one array an item)")
    return [_one_output(output) for output in outputs]


def _one_output(output: Any) -> NDArray[Any]:
    if hasattr(output, "detach"):
        output = output.detach().cpu().numpy()
    if not isinstance(output, np.ndarray) or output.dtype.kind != "f" or output.ndim != 2:
        raise SystemFailure(f"contract(decode returned {_describe(output)}, not float samples [C, T])")
    return output


def _check_output(output: NDArray[Any], clip: Clip) -> Audio:
    if output.shape != clip.samples.shape:
        raise SystemFailure(f"length(expected {list(clip.samples.shape)}, got {list(output.shape)})")
    bad = int(output.size - np.isfinite(output).sum())
    if bad:
        raise SystemFailure(f"nonfinite({bad} of {output.size} samples)")
    return np.ascontiguousarray(output.astype(np.float32).mean(axis=0, dtype=np.float32))


def _process(codec: Codec, verb: Literal["encode", "decode"]) -> int | None:
    return codec.process(verb) if isinstance(codec, Hosted) else None


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    return type(value).__name__


def call(function: Any, *arguments: Any) -> Any:
    """What `function` of a system returns; whatever it raises becomes a `SystemFailure`."""
    try:
        return function(*arguments)
    except SystemFailure:
        raise
    except MemoryError as error:
        raise SystemFailure("memory", last_trace(error)) from error
    except Exception as error:
        reason = f"exception({type(error).__name__}: {one_line(error)})"
        if type(error).__name__ == "OutOfMemoryError":  # torch's, known by its name so that torch need not be here
            reason = OUT_OF_MEMORY
        elif type(error).__name__ == "AcceleratorError" or "CUDA error" in str(error):
            reason = f"{DEVICE}{one_line(error)})"
        raise SystemFailure(reason, last_trace(error)) from error


def last_trace(error: BaseException) -> str:
    """The end of the traceback of `error`."""
    return "".join(traceback.format_exception(error))[-TRACE_CHARACTERS:]


def one_line(error: BaseException, limit: int = 300) -> str:
    """The message of `error` on one line of at most `limit` printable characters."""
    text = "".join(c if c.isprintable() else " " for c in " ".join(str(error).split()))
    return text if len(text) <= limit else text[: limit - 1] + "…"
