"""Codes to bytes and back: the only place where bits are counted.

A packed item has two parts. The *payload* holds everything that tells one clip from another: side information,
tokens and packets; its size is the item's bits. The *header* holds what a container or a call would agree on once
(sample rate, length, codebook sizes, frame counts, uniform packet size) and is reported apart.

Tokens of a stream with codebook size ``N`` are digits of base ``N``: `BLOCK` of them become one integer of the fewest
whole bits that holds ``N ** BLOCK`` values. For a power of two that is plain bit packing; for any other size it costs
less than ``1 / BLOCK`` bit a token above ``log2 N``, with no model and no state, where whole bits a token would cost
up to 1 bit too much. A range coder would gain nothing, for the tokens are taken as equally likely.

Packets of differing sizes carry information in their sizes, so each size is written to the payload (LEB128).
Packets of one size cost nothing beside their own bytes.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codecbench.models.base import SIDE_DTYPES, Codes

MAGIC = b"CB\x01"
BLOCK = 512
"""Tokens a big integer, for codebook sizes that are no power of two."""

Bits = NDArray[np.uint8]
"""Bits, one an element, most significant first."""


class BitstreamError(ValueError):
    """The bytes are not what `pack` wrote: truncated, corrupt or of another format."""


@dataclass(frozen=True)
class Packed:
    """A packed item: the `header`, accounted apart, and the `payload`, whose size is the bitrate."""

    header: bytes
    payload: bytes

    @property
    def bits(self) -> int:
        """Bits of the payload: what the bitrate is computed from."""
        return 8 * len(self.payload)

    @property
    def header_bits(self) -> int:
        """Bits of the header and checksum."""
        return 8 * len(self.header)

    def to_bytes(self) -> bytes:
        """Header and payload in one: all that a decoder gets."""
        return self.header + self.payload


def pack(codes: Codes) -> Packed:
    """Pack `codes`. The result is the same for equal codes, on every machine."""
    header, payload = bytearray(MAGIC), bytearray()
    header += _varints(codes.sample_rate, codes.channels, codes.length)
    header += _varints(len(codes.side))
    for name, array in sorted(codes.side.items()):
        raw = name.encode()
        header += _varints(len(raw)) + raw
        header += _varints(SIDE_DTYPES.index(array.dtype.name), array.ndim, *array.shape)
        payload += np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()
    sizes = {len(packet) for packet in codes.packets}
    header += _varints(len(codes.packets), sizes.pop() + 1 if len(sizes) == 1 else 0)
    if sizes:
        payload += _varints(*(len(packet) for packet in codes.packets))
    payload += b"".join(codes.packets)
    header += _varints(len(codes.streams))
    for stream, size in zip(codes.streams, codes.codebook_sizes, strict=True):
        header += _varints(size, len(stream))
    payload += _pack_streams(codes)
    header += _varints(len(payload))
    header += zlib.crc32(bytes(payload), zlib.crc32(bytes(header))).to_bytes(4, "big")
    return Packed(bytes(header), bytes(payload))


def unpack(data: bytes) -> Codes:
    """The codes that `pack` packed.

    Raises:
        BitstreamError: `data` is truncated, corrupt, or not a packed item; the message says which.
    """
    reader = _Reader(data)
    if reader.take(len(MAGIC), "the header") != MAGIC:
        raise BitstreamError("not a codecbench bitstream: it does not start with the expected mark")
    sample_rate, channels, length = reader.varint(), reader.varint(), reader.varint()
    side_facts = [_read_side_facts(reader) for _ in range(reader.varint())]
    n_packets, uniform = reader.varint(), reader.varint()
    stream_facts = [(reader.varint(), reader.varint()) for _ in range(reader.varint())]
    payload_size = reader.varint()
    header_end = reader.at
    checksum = int.from_bytes(reader.take(4, "the checksum"), "big")
    payload = reader.take(payload_size, "the payload")
    if reader.at != len(data):
        raise BitstreamError(f"{len(data) - reader.at} bytes follow the end of the payload")
    if zlib.crc32(payload, zlib.crc32(data[:header_end])) != checksum:
        raise BitstreamError("corrupt: the checksum differs")
    body = _Reader(payload)
    side = {name: _read_side(body, dtype, shape) for name, dtype, shape in side_facts}
    sizes = [uniform - 1] * n_packets if uniform else [body.varint() for _ in range(n_packets)]
    packets = tuple(body.take(size, "a packet") for size in sizes)
    streams = _unpack_streams(payload[body.at :], stream_facts)
    codebook_sizes = tuple(size for size, _ in stream_facts)
    return Codes(length, sample_rate, channels, streams, codebook_sizes, side, packets)


def _pack_streams(codes: Codes) -> bytes:
    bits = [_digits_to_bits(s, n) for s, n in zip(codes.streams, codes.codebook_sizes, strict=True)]
    return np.packbits(np.concatenate(bits)).tobytes() if bits else b""


def _unpack_streams(data: bytes, facts: list[tuple[int, int]]) -> tuple[NDArray[np.int64], ...]:
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8))
    streams, at = [], 0
    for size, frames in facts:
        width = stream_bits(size, frames)
        streams.append(_bits_to_digits(bits[at : at + width], size, frames))
        at += width
    return tuple(streams)


def stream_bits(codebook_size: int, frames: int) -> int:
    """Bits that `frames` tokens of a codebook of `codebook_size` take."""
    blocks, rest = divmod(frames, BLOCK)
    return blocks * _block_bits(codebook_size, BLOCK) + _block_bits(codebook_size, rest)


def _block_bits(codebook_size: int, tokens: int) -> int:
    return int((codebook_size**tokens - 1).bit_length())


def _digits_to_bits(digits: NDArray[Any], base: int) -> Bits:
    if base & (base - 1) == 0:
        shifts = np.arange(base.bit_length() - 2, -1, -1, dtype=np.uint64)
        return ((digits.astype(np.uint64)[:, None] >> shifts) & np.uint64(1)).astype(np.uint8).ravel()
    blocks = [digits[start : start + BLOCK].tolist() for start in range(0, len(digits), BLOCK)]
    return np.concatenate([np.empty(0, np.uint8), *(_integer_bits(block, base) for block in blocks)])


def _integer_bits(block: list[int], base: int) -> Bits:
    number = 0
    for digit in block:
        number = number * base + digit
    width = _block_bits(base, len(block))
    raw = number.to_bytes((width + 7) // 8, "big")
    return np.unpackbits(np.frombuffer(raw, dtype=np.uint8))[-width:] if width else np.empty(0, np.uint8)


def _bits_to_digits(bits: Bits, base: int, count: int) -> NDArray[np.int64]:
    if base & (base - 1) == 0:
        width = base.bit_length() - 1
        weights = (np.uint64(1) << np.arange(width - 1, -1, -1, dtype=np.uint64)).astype(np.int64)
        return np.asarray(bits.reshape(count, width).astype(np.int64) @ weights, dtype=np.int64)
    digits: list[int] = []
    for start in range(0, count, BLOCK):
        tokens = min(BLOCK, count - start)
        width = _block_bits(base, tokens)
        digits += _integer_digits(bits[:width], base, tokens)
        bits = bits[width:]
    return np.array(digits, dtype=np.int64)


def _integer_digits(bits: Bits, base: int, count: int) -> list[int]:
    number = int.from_bytes(np.packbits(bits).tobytes(), "big") >> (-len(bits) % 8)
    digits = []
    for _ in range(count):
        number, digit = divmod(number, base)
        digits.append(digit)
    return digits[::-1]


def _varints(*values: int) -> bytes:
    out = bytearray()
    for value in values:
        while value >= 0x80:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        out.append(value)
    return bytes(out)


class _Reader:
    """Reads on through bytes; every short read is a `BitstreamError`."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int, what: str) -> bytes:
        piece = self.data[self.at : self.at + size]
        if len(piece) != size:
            raise BitstreamError(f"truncated: {what} needs {size} bytes at byte {self.at}, got {len(piece)}")
        self.at += size
        return piece

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1, "a number")[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise BitstreamError(f"corrupt: the number before byte {self.at} is too long")


def _read_side_facts(reader: _Reader) -> tuple[str, np.dtype[Any], tuple[int, ...]]:
    name = reader.take(reader.varint(), "a name").decode(errors="replace")
    kind, ndim = reader.varint(), reader.varint()
    if kind >= len(SIDE_DTYPES) or ndim > 8:
        raise BitstreamError(f"corrupt: side information '{name}' has an impossible type")
    return name, np.dtype(SIDE_DTYPES[kind]).newbyteorder("<"), tuple(reader.varint() for _ in range(ndim))


def _read_side(body: _Reader, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    count = int(np.prod(shape, dtype=object)) if shape else 1
    raw = body.take(count * dtype.itemsize, "side information")
    return np.frombuffer(raw, dtype=dtype).astype(dtype.newbyteorder("=")).reshape(shape)
