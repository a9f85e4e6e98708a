"""The files of the released EnCodec (``.ecdc``), read and written without a network.

A file is a header in JSON (model, length, number of codebooks, with or without a language model) and, for each segment
of the clip, its scale where the model has one, then its tokens, filled up to a whole byte. Without a language model a
token takes 10 bits; with one (`codecbench.models.encodec_lm`) what the arithmetic coder gives it.

The release computes the number of a segment's frames in floating point, which at a few lengths (6720 samples, 13440
and 16320 at 24 kHz) says one more than there are: it cannot read its own files of these. Here the number is exact.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codecbench.errors import UsageError
from codecbench.models import encodec
from codecbench.models.base import Codes
from codecbench.models.encodec import CODEBOOK_SIZE, Encodec

HEADER = struct.Struct(">4sBI")
"""Magic, version, and the size of the JSON that follows."""
MAGIC, VERSION = b"ECDC", 0
SCALE = struct.Struct(">f")
BITS = CODEBOOK_SIZE.bit_length() - 1

Tokens = NDArray[np.integer[Any]]
"""Tokens ``[K, F]`` of one segment."""


def write_ecdc(path: Path, codes: Codes) -> None:
    """Write the `codes` of an EnCodec system, with a language model or without, as a file that the release reads.

    Raises:
        ValueError: They are of another system.
    """
    names = [name for name, base in _bases().items() if base.card.sample_rate == codes.sample_rate]
    if not names or not (codes.packets or codes.streams):
        raise ValueError(f"codes at {codes.sample_rate} Hz are none of {', '.join(_bases())}")
    if codes.packets:
        codebooks, body = codes.packets[0][0], codes.packets[0][1:]
    else:
        codebooks, body = len(codes.streams), write_segments(_bases()[names[0]], codes, _pack)
    facts = {"m": names[0], "al": codes.length, "nc": codebooks, "lm": bool(codes.packets)}
    about = json.dumps(facts).encode()
    path.write_bytes(HEADER.pack(MAGIC, VERSION, len(about)) + about + body)


def read_ecdc(path: Path) -> tuple[str, Codes]:
    """Read a file that the release, or `write_ecdc`, wrote.

    Returns:
        The name of the system that decodes it, and its codes.

    Raises:
        UsageError: It is no such file, or a damaged one.
    """
    data = path.read_bytes()
    try:
        return _read(data)
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise UsageError(f"{path} cannot be read as a file of EnCodec: {error}") from error


def _read(data: bytes) -> tuple[str, Codes]:
    magic, version, size = HEADER.unpack_from(data)
    if (magic, version) != (MAGIC, VERSION):
        raise ValueError(f"it starts with {magic!r} and version {version}, not {MAGIC!r} and {VERSION}")
    facts, body = json.loads(data[HEADER.size : HEADER.size + size]), data[HEADER.size + size :]
    name, length, codebooks = facts["m"], int(facts["al"]), int(facts["nc"])
    if name not in _bases() or length < 1:
        raise ValueError(f"it holds {length} samples of the model '{name}'")
    base = _bases()[name]
    check_codebooks(base, codebooks)
    if facts["lm"]:
        packets = (bytes([codebooks]) + body,)
        return f"{name}_lm", Codes(length, base.card.sample_rate or 0, base.card.channels or 1, packets=packets)
    return name, read_segments(base, length, body, lambda rest, frames: _unpack(rest, codebooks, frames))


def _bases() -> dict[str, type[Encodec]]:
    return {base.card.name: base for base in encodec.SYSTEMS}


def check_codebooks(base: type[Encodec], codebooks: int) -> None:
    """Raise ValueError unless `base` has that many codebooks."""
    if not 1 <= codebooks <= len(base.card.streams):
        raise ValueError(f"{codebooks} codebooks, where {base.card.name} has 1 to {len(base.card.streams)}")


def write_segments(base: type[Encodec], codes: Codes, write: Callable[[Tokens], bytes]) -> bytes:
    """The segments of `codes`, each its scale, if it has one, and what `write` makes of its tokens."""
    ends = np.cumsum(base.frames(codes.length))
    parts = np.split(np.stack(codes.streams), ends[:-1], axis=1)
    scales = [SCALE.pack(scale) for scale in codes.side["scale"]] if base.segment else [b""]
    return b"".join(scale + write(part) for scale, part in zip(scales, parts, strict=True))


def read_segments(
    base: type[Encodec], length: int, data: bytes, read: Callable[[bytes, int], tuple[Tokens, int]]
) -> Codes:
    """What `write_segments` wrote; `read` takes bytes and a number of frames, and returns tokens and bytes used.

    Raises:
        ValueError: There are too few bytes, or too many.
    """
    at = 0
    parts: list[Tokens] = []
    scales: list[float] = []
    for frames in base.frames(length):
        if base.segment:
            if len(data) < at + SCALE.size:
                raise ValueError(f"truncated: no scale at byte {at}")
            scales.append(*SCALE.unpack_from(data, at))
            at += SCALE.size
        tokens, used = read(data[at:], frames)
        parts.append(tokens)
        at += used
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes follow the last token")
    streams = tuple(np.concatenate(parts, axis=1).astype(np.int32))
    side = {"scale": np.array(scales, np.float32)} if base.segment else {}
    card = base.card
    return Codes(length, card.sample_rate or 0, card.channels or 1, streams, (CODEBOOK_SIZE,) * len(streams), side)


def _pack(tokens: Tokens) -> bytes:
    """`BITS` bits a token, least significant first, frame by frame."""
    bits = tokens.T[..., None] >> np.arange(BITS) & 1
    return np.packbits(bits.astype(np.uint8), bitorder="little").tobytes()


def _unpack(data: bytes, codebooks: int, frames: int) -> tuple[Tokens, int]:
    count = frames * codebooks * BITS
    used = -(-count // 8)
    if len(data) < used:
        raise ValueError(f"truncated: {used} bytes of tokens expected, {len(data)} found")
    bits = np.unpackbits(np.frombuffer(data, np.uint8, used), count=count, bitorder="little").astype(np.int32)
    return (bits.reshape(frames, codebooks, BITS) << np.arange(BITS)).sum(axis=-1).T, used
