"""The messages between a worker and the process that hosts an adapter.

A message is a frame of 16 bytes (mark, size of the header, size of the body; little-endian), a header in JSON, and a
body of raw little-endian arrays that the header describes. Nothing is ever unpickled. The receiver checks every size
before it allocates, and every field before it is used: whoever sent it may have meant harm.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codecbench.models.base import Codes

MARK = b"CBH1"
FRAME = struct.Struct("<4sIQ")
MAX_HEADER = 1 << 20
MAX_ARRAYS = 4096
_DTYPES = frozenset(
    f"{order}{kind}" for order, kinds in
    (("<", ("f2", "f4", "f8", "i2", "i4", "i8", "u2", "u4", "u8")), ("|", ("i1", "u1"))) for kind in kinds
)  # fmt: skip


class ProtocolError(ValueError):
    """The bytes are no message of this protocol, or too large; the text says which."""


@dataclass(frozen=True, eq=False)
class Message:
    """`kind` says what it is; `facts` are plain JSON values; `arrays` are numeric."""

    kind: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    arrays: tuple[NDArray[Any], ...] = ()

    def fact(self, name: str, kind: type) -> Any:
        """The fact `name`, which must be a `kind`.

        Raises:
            ProtocolError: It is absent or something else.
        """
        return typed(self.facts, name, kind)


def typed(facts: Mapping[str, Any], name: str, kind: type) -> Any:
    """``facts[name]``, which must be a `kind`; True is no int."""
    value = facts.get(name)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ProtocolError(f"'{name}' is no {kind.__name__}")
    return value


def to_bytes(message: Message) -> list[bytes | memoryview]:
    """The pieces of `message` in order. ProtocolError if it holds what no message may."""
    arrays = [_little_endian(array) for array in message.arrays]
    described = [[array.dtype.str, list(array.shape)] for array in arrays]
    header = json.dumps({"kind": message.kind, "facts": message.facts, "arrays": described}).encode()
    if len(header) > MAX_HEADER:
        raise ProtocolError(f"a header of {len(header)} bytes, over {MAX_HEADER}")
    body = sum(array.nbytes for array in arrays)
    frame = FRAME.pack(MARK, len(header), body)
    return [frame + header, *(array.reshape(-1).view(np.uint8).data for array in arrays if array.nbytes)]


def _little_endian(array: NDArray[Any]) -> NDArray[Any]:
    flat = np.ascontiguousarray(array).reshape(array.shape)
    flat = flat.astype(flat.dtype.newbyteorder("<"), copy=False)
    if flat.dtype.str not in _DTYPES:
        raise ProtocolError(f"an array of {array.dtype}")
    return flat


class Assembler:
    """Puts a message together from what arrives, never holding more than `cap` bytes of body."""

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self._buffer, self._filled = bytearray(FRAME.size), 0
        self._header: dict[str, Any] | None = None
        self._sizes: tuple[int, int] | None = None

    def room(self) -> memoryview:
        """Where the next bytes are to be put; never empty until the message is whole."""
        return memoryview(self._buffer)[self._filled :]

    def took(self, count: int) -> Message | None:
        """`count` bytes have been put into `room`; the message, once it is whole.

        Raises:
            ProtocolError: They are no message.
        """
        self._filled += count
        if self._filled < len(self._buffer):
            return None
        if self._sizes is None:
            self._sizes = self._check_frame()
            self._expect(self._sizes[0])
            return None
        if self._header is None:
            self._header = parse_header(bytes(self._buffer), self._sizes[1])
            if self._sizes[1]:
                self._expect(self._sizes[1])
                return None
            self._buffer = bytearray()
        arrays = tuple(_arrays(self._buffer, self._header["arrays"]))
        return Message(self._header["kind"], self._header["facts"], arrays)

    def _expect(self, size: int) -> None:
        self._buffer, self._filled = bytearray(size), 0

    def _check_frame(self) -> tuple[int, int]:
        mark, header, body = FRAME.unpack(self._buffer)
        if mark != MARK:
            raise ProtocolError("it does not begin with the mark of a message")
        if not 0 < header <= MAX_HEADER or body > self.cap:
            raise ProtocolError(f"a header of {header} and a body of {body} bytes, over {MAX_HEADER} and {self.cap}")
        return header, body


def parse_header(raw: bytes, body: int) -> dict[str, Any]:
    """The header of a message whose body has `body` bytes, every field checked."""
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("its header is no JSON") from error
    if not isinstance(header, dict) or header.keys() != {"kind", "facts", "arrays"}:
        raise ProtocolError("its header has other fields than a header's")
    if not isinstance(header["kind"], str) or not isinstance(header["facts"], dict):
        raise ProtocolError("its kind is no text, or its facts no mapping")
    described = header["arrays"]
    if not isinstance(described, list) or len(described) > MAX_ARRAYS:
        raise ProtocolError(f"its arrays are no list of at most {MAX_ARRAYS}")
    if sum(map(_array_bytes, described)) != body:
        raise ProtocolError("its arrays do not fill its body")
    return header


def _array_bytes(described: Any) -> int:
    try:
        dtype, shape = described
        sound = dtype in _DTYPES and len(shape) <= 8 and all(type(n) is int and 0 <= n < 1 << 40 for n in shape)
    except (TypeError, ValueError) as error:
        raise ProtocolError("an array's description is no pair of dtype and shape") from error
    if not sound:
        raise ProtocolError("an array has an impossible dtype or shape")
    return int(prod(shape)) * int(np.dtype(dtype).itemsize)


def _arrays(body: bytearray, described: list[Any]) -> Iterator[NDArray[Any]]:
    at = 0
    for dtype, shape in described:
        count = prod(shape)
        array = np.frombuffer(body, np.dtype(dtype), count, at) if count else np.empty(0, np.dtype(dtype))
        at += array.nbytes
        array = array.astype(array.dtype.newbyteorder("="), copy=False).reshape(shape)
        array.setflags(write=False)
        yield array


def codes_to_wire(codes: Codes) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    """`codes` as facts and arrays."""
    facts = {
        "length": int(codes.length), "sample_rate": int(codes.sample_rate), "channels": int(codes.channels),
        "codebook_sizes": [int(size) for size in codes.codebook_sizes], "side": [str(name) for name in codes.side],
        "packets": bool(codes.packets),
    }  # fmt: skip
    arrays = [*codes.streams, *codes.side.values()]
    if codes.packets:
        sizes = np.array([len(packet) for packet in codes.packets], np.int64)
        arrays += [sizes, np.frombuffer(b"".join(codes.packets), np.uint8)]
    return facts, arrays


def codes_from_wire(facts: Any, arrays: Iterator[NDArray[Any]]) -> Codes:
    """The codes of `facts`, which takes its share of `arrays`.

    Raises:
        ProtocolError: Fields are absent or of another type, or arrays are missing.
        ValueError: The codes contradict themselves; see `Codes`.
    """
    if not isinstance(facts, dict):
        raise ProtocolError("the facts of codes are no mapping")
    sizes, side = typed(facts, "codebook_sizes", list), typed(facts, "side", list)
    if not all(type(size) is int for size in sizes) or not all(isinstance(name, str) for name in side):
        raise ProtocolError("codebook sizes are no integers, or names no text")
    streams = tuple(_take(arrays) for _ in sizes)
    side_arrays = {name: _take(arrays) for name in side}
    packets = _packets(_take(arrays), _take(arrays)) if typed(facts, "packets", bool) else ()
    length, rate, channels = (typed(facts, name, int) for name in ("length", "sample_rate", "channels"))
    return Codes(length, rate, channels, streams, tuple(sizes), side_arrays, packets)


def _take(arrays: Iterator[NDArray[Any]]) -> NDArray[Any]:
    array = next(arrays, None)
    if array is None:
        raise ProtocolError("an array is missing")
    return array


def _packets(sizes: NDArray[Any], data: NDArray[Any]) -> tuple[bytes, ...]:
    sound = sizes.ndim == data.ndim == 1 and sizes.dtype == np.int64 and data.dtype == np.uint8
    if not sound or (sizes.size and int(sizes.min()) < 0) or sum(sizes.tolist()) != data.size:
        raise ProtocolError("the sizes of packets do not fit their bytes")
    raw, ends = data.tobytes(), np.cumsum(sizes).tolist()
    return tuple(raw[end - size : end] for size, end in zip(sizes.tolist(), ends, strict=True))


def send(connection: socket.socket, message: Message) -> None:
    """Send `message`, blocking."""
    for piece in to_bytes(message):
        connection.sendall(piece)


def receive(connection: socket.socket, cap: int) -> Message:
    """The next message, blocking. EOFError if the other side is gone."""
    assembler = Assembler(cap)
    while True:
        count = connection.recv_into(assembler.room())
        if not count:
            raise EOFError
        if message := assembler.took(count):
            return message


def wire_many(items: Sequence[Codes]) -> tuple[list[dict[str, Any]], tuple[NDArray[Any], ...]]:
    """Facts and arrays of several codes."""
    pairs = [codes_to_wire(item) for item in items]
    return [facts for facts, _ in pairs], tuple(array for _, arrays in pairs for array in arrays)


def unwire_many(facts: Any, arrays: Sequence[NDArray[Any]]) -> list[Codes]:
    """The codes of `facts`, which must use up `arrays`; see `codes_from_wire`."""
    if not isinstance(facts, list):
        raise ProtocolError("the codes are no list")
    left = iter(arrays)
    codes = [codes_from_wire(item, left) for item in facts]
    if next(left, None) is not None:
        raise ProtocolError("arrays are left over")
    return codes
