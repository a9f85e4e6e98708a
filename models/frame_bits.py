"""Frames that are no whole number of bytes, put together so that they cost their true number of bits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def join(mode: int, frames: Sequence[bytes], bits: int) -> bytes:
    """One byte for `mode`, then the first `bits` bits of every frame without gaps, zeros to the last byte's end.

    At least 8 bits a frame, so that their number follows from the number of bytes.
    """
    table = np.frombuffer(b"".join(frames), np.uint8).reshape(len(frames), -1)
    return bytes([mode]) + np.packbits(np.unpackbits(table, axis=1)[:, :bits]).tobytes()


def split(packet: bytes, bits: Sequence[int]) -> tuple[int, list[bytes]]:
    """The mode and the frames, each filled with zeros to whole bytes; mode ``m`` has frames of ``bits[m]`` bits."""
    mode, width = packet[0], bits[packet[0]]
    flat = np.unpackbits(np.frombuffer(packet, np.uint8, offset=1))
    frames = flat[: len(flat) // width * width].reshape(-1, width)
    return mode, [frame.tobytes() for frame in np.packbits(frames, axis=1)]
