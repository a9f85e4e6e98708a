"""One clip through one system: resample, encode, pack, count, unpack, decode, check.

Only packed bytes pass from the encoder to the decoder. Whatever the system does wrong becomes a `SystemFailure`
with a reason; nothing is padded, cut or repaired.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from codecbench.audio import Audio, Clip, resample
from codecbench.benchmark.resources import PeakMemory
from codecbench.models.base import Card, Codec, Codes, OperatingPoint
from codecbench.models.bitstream import pack, unpack

OUT_OF_MEMORY = "oom"
"""The reason of an item for which the GPU's memory did not suffice, alone in its batch."""


class SystemFailure(Exception):
    """The system's fault; `str` is the reason, such as ``length(expected 16000, got 15680)``."""


@dataclass(frozen=True, eq=False)
class Coded:
    """What came back for one clip at one point.

    Attributes:
        codes: As unpacked from the bytes.
        bits: Of the payload.
        header_bits: Of the header.
        output: Mono samples ``[T]`` at `sample_rate`, as long as the codec's input.
        sample_rate: The codec's rate in Hz.
        encode_seconds: Wall time of the encoder; for nested points, of the one encoding that serves them all.
        decode_seconds: Wall time of the decoder.
        memory_mb: By how much the process grew while coding, at its peak.
    """

    codes: Codes
    bits: int
    header_bits: int
    output: Audio
    sample_rate: int
    encode_seconds: float
    decode_seconds: float
    memory_mb: float | None


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
    codec: Codec, card: Card, clip: Clip, points: Sequence[OperatingPoint]
) -> Iterator[tuple[OperatingPoint, Coded | SystemFailure]]:
    """Code `clip`, at the codec's rate and channels, at every point of `points`.

    A nested codec encodes once, at the richest of `points`, and each point is a prefix of those codes.
    """
    richest = max(points, key=lambda point: point.streams or 0)
    shared: tuple[Codes, float] | None = None
    for point in points:
        with PeakMemory() as memory:
            try:
                if shared is None or not card.nested:
                    shared = _encode(codec, card, clip, richest if card.nested else point)
                codes = shared[0].prefix(point.streams) if card.nested and point.streams else shared[0]
                outcome: Coded | SystemFailure = _through_bytes(codec, clip, codes, shared[1], memory)
            except SystemFailure as failure:
                outcome = failure
        yield point, outcome


def _encode(codec: Codec, card: Card, clip: Clip, point: OperatingPoint) -> tuple[Codes, float]:
    started = time.perf_counter()
    items = _call(codec.encode, [clip], point)
    seconds = time.perf_counter() - started
    if not isinstance(items, list) or len(items) != 1 or not isinstance(items[0], Codes):
        raise SystemFailure("contract(encode must return a list of one Codes a clip)")
    codes = items[0]
    if (codes.length, codes.sample_rate, codes.channels) != (clip.length, clip.sample_rate, clip.channels):
        raise SystemFailure("contract(codes state another length, rate or channels than the clip's)")
    check_codes(card, point, codes)
    return codes, seconds


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


def _through_bytes(codec: Codec, clip: Clip, codes: Codes, encode_seconds: float, memory: PeakMemory) -> Coded:
    packed = pack(codes)
    received = unpack(packed.to_bytes())
    started = time.perf_counter()
    outputs = _call(codec.decode, [received])
    decode_seconds = time.perf_counter() - started
    if not isinstance(outputs, list) or len(outputs) != 1:
        raise SystemFailure("contract(decode must return a list of one array an item)")
    output = _check_output(outputs[0], clip)
    return Coded(
        received, packed.bits, packed.header_bits, output, clip.sample_rate,
        encode_seconds, decode_seconds, memory.growth_mb(),
    )  # fmt: skip


def _check_output(output: Any, clip: Clip) -> Audio:
    if hasattr(output, "detach"):
        output = output.detach().cpu().numpy()
    if not isinstance(output, np.ndarray) or output.dtype.kind != "f" or output.ndim != 2:
        raise SystemFailure(f"contract(decode returned {_describe(output)}, not float samples [C, T])")
    if output.shape != clip.samples.shape:
        raise SystemFailure(f"length(expected {list(clip.samples.shape)}, got {list(output.shape)})")
    bad = int(output.size - np.isfinite(output).sum())
    if bad:
        raise SystemFailure(f"nonfinite({bad} of {output.size} samples)")
    return np.ascontiguousarray(output.astype(np.float32).mean(axis=0, dtype=np.float32))


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    return type(value).__name__


def _call(function: Any, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except MemoryError as error:
        raise SystemFailure("memory") from error
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's, known by its name so that torch need not be here
            raise SystemFailure(OUT_OF_MEMORY) from error
        raise SystemFailure(f"exception({type(error).__name__}: {one_line(error)})") from error


def one_line(error: BaseException, limit: int = 300) -> str:
    """The message of `error` on one line of at most `limit` printable characters."""
    text = "".join(c if c.isprintable() else " " for c in " ".join(str(error).split()))
    return text if len(text) <= limit else text[: limit - 1] + "…"
