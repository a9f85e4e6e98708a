"""Codec 2 through pycodec2: the parametric speech codec of digital radio, 700 to 3200 bits a second at 8 kHz.

Its decoder draws the phases of unvoiced sounds from one generator a process, which nothing can seed: what a clip
sounds like would depend on what the process has decoded before. So every clip is decoded in a process of its own,
forked from a small helper that has decoded nothing (this module run as a script).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from math import ceil
from typing import ClassVar, NamedTuple, cast

import numpy as np

from codecbench.audio import Audio, Clip
from codecbench.errors import InvalidSystem
from codecbench.models import frame_bits
from codecbench.models.base import Card, Codec, Codes, LoadOptions, OperatingPoint, System


class Mode(NamedTuple):
    """A mode of Codec 2: bits and samples of a frame, and the delay of the output in samples at 8 kHz."""

    name: str
    bits: int
    samples: int
    delay: int

    @property
    def kbps(self) -> float:
        """Bitrate in kbps."""
        return 8 * self.bits / self.samples


MODES = (
    Mode("700C", 28, 320, 240),
    Mode("1200", 48, 320, 160),
    Mode("1300", 52, 320, 160),
    Mode("1400", 56, 320, 160),
    Mode("1600", 64, 320, 160),
    Mode("2400", 48, 160, 160),
    Mode("3200", 64, 160, 160),
)
"""Delays follow from the design and were confirmed by measurement: a frame's parameters describe the centre of a
window of 40 ms and are reached at the end of the synthesis step of 10 ms: 20 ms. 700C interpolates a step later."""


class Codec2(Codec):
    """Codec 2. One packet: a byte for the mode, then the bits of all frames without gaps.

    The library fills each frame to whole bytes, 14 % of the 700C mode. Samples beyond full scale saturate. Removing the
    delay takes as much look-ahead. It does not stream: frames do not end at whole bytes of the packet, and a decoder
    lives in a process of its own for a whole clip.
    """

    card: ClassVar[Card] = Card(
        name="codec2",
        kind="codec",
        family="Codec 2",
        track="classical",
        sample_rate=8000,
        channels=1,
        points=tuple(OperatingPoint(mode.name, mode.kbps, setting=i) for i, mode in enumerate(MODES)),
        causal=True,
        delay=160,
        lookahead=max(mode.delay for mode in MODES),
        licence="LGPL-2.1-only",
        paper="https://github.com/drowe67/codec2",
        requires="codec2",
    )

    @classmethod
    def load(cls, options: LoadOptions) -> Codec:  # noqa: ARG003
        """Return the codec.

        Raises:
            InvalidSystem: pycodec2 is not installed, or processes cannot be forked here.
        """
        if find_spec("pycodec2") is None:
            raise InvalidSystem("model 'codec2' needs pycodec2: pip install 'codecbench[codec2]'")
        if not hasattr(os, "fork"):
            raise InvalidSystem("model 'codec2' needs a system that can fork processes, such as Linux or macOS")
        return cls()

    def encode(self, clips: Sequence[Clip], point: OperatingPoint) -> list[Codes]:
        """Encode each clip ``[1, T]`` in the point's mode."""
        return [Codes(clip.length, clip.sample_rate, packets=(_encode(clip, point),)) for clip in clips]

    def decode(self, codes: Sequence[Codes]) -> list[Audio]:
        """Decode each item, in time with the clip that went in."""
        packets = [item.packets[0] for item in codes]
        run = subprocess.run(  # noqa: S603 - our own module
            [sys.executable, "-m", __name__], input="\n".join(map(bytes.hex, packets)).encode(), capture_output=True
        )
        if run.returncode:
            raise RuntimeError(f"the decoder of Codec 2 failed: {run.stderr.decode(errors='replace')[-500:]}")
        decoded = run.stdout.split()
        return [_in_time(bytes.fromhex(line.decode()), item) for line, item in zip(decoded, codes, strict=True)]


def _encode(clip: Clip, point: OperatingPoint) -> bytes:
    import pycodec2

    number = cast("int", point.setting)
    mode = MODES[number]
    frames = ceil((clip.length + mode.delay) / mode.samples)
    pcm = np.clip(np.rint(clip.samples[0] * 32768), -32768, 32767).astype(np.int16)
    padded = np.pad(pcm, (0, frames * mode.samples - clip.length)).reshape(frames, mode.samples)
    encoder = pycodec2.Codec2(_bits_per_second(mode))
    return frame_bits.join(number, [encoder.encode(frame) for frame in padded], mode.bits)


def _in_time(pcm: bytes, item: Codes) -> Audio:
    delay = MODES[item.packets[0][0]].delay
    samples = np.frombuffer(pcm, "<i2")[delay : delay + item.length]
    return np.asarray(samples / 32768, np.float32)[None]


def _bits_per_second(mode: Mode) -> int:
    return int(mode.name.rstrip("C"))


def _decode(packet: bytes) -> bytes:
    """All samples of a packet, 16-bit little-endian; the same for a packet only in a process that decoded nothing."""
    import pycodec2

    number, frames = frame_bits.split(packet, [mode.bits for mode in MODES])
    decoder = pycodec2.Codec2(_bits_per_second(MODES[number]))
    return b"".join(decoder.decode(frame).astype("<i2").tobytes() for frame in frames)


def _helper() -> None:
    """Decode the packets on standard input, one a line in hexadecimal, each in a fork; samples to standard output."""
    import pycodec2  # noqa: F401 - once, before the forks

    for line in sys.stdin.read().split():
        child = os.fork()
        if not child:
            print(_decode(bytes.fromhex(line)).hex(), flush=True)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            sys.exit(f"a process that decoded {len(line) // 2} bytes failed")


SYSTEMS: tuple[System, ...] = (Codec2,)

if __name__ == "__main__":
    _helper()
