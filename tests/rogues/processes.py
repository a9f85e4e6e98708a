"""Adapters that misuse their process: each sound but for one deed, done on clips that begin with a full-scale sample.

Each is a target ``processes.py:Class``. They are never imported by a test, only by a host. The file stands alone, for
in a sandbox a host sees nothing of its folder but it.
"""

import ctypes
import mmap
import os
import pickle
import re
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from codecbench.audio import Audio, Clip
from codecbench.models.base import Card, Codec, Codes, LoadOptions, OperatingPoint, Stream

SMUGGLED = Path("/dev/shm/codecbench-rogue.npy")  # noqa: S108
FORKS = 400
"""The fork bomb ends at so many, should nothing stop it."""


class Sound(Codec):
    """16-bit PCM. The others do `deed` when they decode a marked clip."""

    card: ClassVar[Card] = Card(
        name="rogue", kind="codec", family="Rogue", track="classical", sample_rate=8000, channels=1,
        points=(OperatingPoint("16bit"),), streams=(Stream(65536, None),),
    )  # fmt: skip

    def encode(self, clips: Sequence[Clip], point: OperatingPoint) -> list[Codes]:  # noqa: ARG002
        return [self.encode_one(clip) for clip in clips]

    def encode_one(self, clip: Clip) -> Codes:
        tokens = np.clip(np.round(clip.samples[0] * 32768) + 32768, 0, 65535).astype(np.int64)
        return Codes(clip.length, clip.sample_rate, 1, (tokens,), (65536,))

    def decode(self, codes: Sequence[Codes]) -> list[Audio]:
        for item in codes:
            if item.streams[0][0] > 65000:
                self.deed()
        return [self.decode_one(item) for item in codes]

    def decode_one(self, item: Codes) -> Audio:
        return np.asarray((item.streams[0] - 32768.0) / 32768.0, np.float32)[None]

    def deed(self) -> None:
        """Nothing, in a sound adapter."""


class Sleeps(Sound):
    def deed(self) -> None:
        time.sleep(1000)


class TakesItsTime(Sound):
    def deed(self) -> None:
        time.sleep(0.5)


class HoldsTheInterpreter(Sound):
    """In C code that lets no other thread of the process run."""

    def deed(self) -> None:
        re.match(r"(a+)+$", "a" * 60 + "b")


class Deadlocks(Sound):
    def deed(self) -> None:
        lock = threading.Lock()
        lock.acquire()
        thread = threading.Thread(target=lock.acquire)
        thread.start()
        thread.join()


class IgnoresSignals(Sound):
    def deed(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        time.sleep(1000)


class Segfaults(Sound):
    def deed(self) -> None:
        ctypes.string_at(0)


class Aborts(Sound):
    def deed(self) -> None:
        os.abort()


class OverflowsTheStack(Sound):
    def deed(self) -> None:
        nested: list[Any] = []
        for _ in range(1_000_000):
            nested = [nested]
        sys.setrecursionlimit(10_000_000)
        repr(nested)


class ExitsAtOnce(Sound):
    def deed(self) -> None:
        os._exit(0)


class ExitsPolitely(Sound):
    def deed(self) -> None:
        sys.exit(0)


class KillsItself(Sound):
    def deed(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class KillsItsParent(Sound):
    def deed(self) -> None:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(0.5)


class AllocatesAtOnce(Sound):
    def deed(self) -> None:
        np.ones(100_000_000_000 // 8)


class Leaks(Sound):
    def deed(self) -> None:
        kept = []
        while True:
            kept.append(np.ones(50_000_000 // 8))
            time.sleep(0.01)


class LosesTheDevice(Sound):
    """As after a fault on a GPU: from then on, nothing works in the process."""

    lost: ClassVar[bool] = False

    def deed(self) -> None:
        type(self).lost = True

    def decode_one(self, item: Codes) -> Audio:
        if self.lost:
            raise RuntimeError("CUDA error: device-side assert triggered")
        return super().decode_one(item)


class LosesTheDeviceOnce(LosesTheDevice):
    """But in another process all is well."""

    def deed(self) -> None:
        type(self).lost = not SMUGGLED.exists()
        SMUGGLED.touch()


class SendsLooseCodes(Sound):
    """Codes that nobody checked, and one of them is out of range."""

    def encode_one(self, clip: Clip) -> Codes:
        coded = super().encode_one(clip)
        if coded.streams[0][0] > 65000:
            coded.streams[0][0] = 1 << 40
        return coded


class ForksOn(Sound):
    def deed(self) -> None:
        for _ in range(FORKS):
            if not os.fork():
                time.sleep(60)
                os._exit(0)
        time.sleep(5)


class StartsThreads(Sound):
    def deed(self) -> None:
        for _ in range(1000):
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        time.sleep(5)


class Daemonises(Sound):
    """Leaves a process of another session behind, and goes on."""

    def deed(self) -> None:
        if not os.fork():
            os.setsid()
            if not os.fork():
                time.sleep(600)
            os._exit(0)


class PrintsMuch(Sound):
    def deed(self) -> None:
        for _ in range(64):
            os.write(1, b"x" * (1 << 20))  # without a line end


class PrintsVeryMuch(Sound):
    def deed(self) -> None:
        for _ in range(1024):
            os.write(2, b"y" * (1 << 20))


class PrintsControls(Sound):
    def deed(self) -> None:
        os.write(1, b"\x1b[2J\x1b]0;title\x07\r\x00\xff\xfe\x9b31m visible\n" + bytes(range(256)))


class ClosesItsOutput(Sound):
    def deed(self) -> None:
        os.close(1)
        os.close(2)


def frame(header: bytes, body: bytes = b"") -> bytes:
    return struct.pack("<4sIQ", b"CBH1", len(header), len(body)) + header + body


class PrintsAnAnswer(Sound):
    """What would be a good answer, on standard output."""

    def deed(self) -> None:
        os.write(1, frame(b'{"kind":"done","facts":{"id":4},"arrays":[]}'))
        os._exit(0)


def on_the_protocol(data: bytes) -> None:
    """Write to every socket of this process."""
    for fd in range(3, 100):
        try:
            socket.socket(fileno=os.dup(fd)).send(data)
        except OSError:
            continue


class SpeaksOutOfTurn(Sound):
    def deed(self) -> None:
        on_the_protocol(b"rubbish" * 10)


class AnswersAnotherRequest(Sound):
    def deed(self) -> None:
        on_the_protocol(frame(b'{"kind":"done","facts":{"id":1},"arrays":[]}'))


class AnnouncesTooMuch(Sound):
    """A body of 2^60 bytes."""

    def deed(self) -> None:
        on_the_protocol(struct.pack("<4sIQ", b"CBH1", 100, 1 << 60))


class NestsDeeply(Sound):
    def deed(self) -> None:
        on_the_protocol(frame(b"[" * 500_000))


class Canary:
    """Writes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch canary",)


class SendsAPickle(Sound):
    def deed(self) -> None:
        on_the_protocol(pickle.dumps(Canary()))


def foreign_folder() -> str:
    """The working folder of the benchmark: of the process two above this one."""
    parent = os.getppid()
    fields = Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()
    return os.readlink(f"/proc/{fields[1]}/cwd")  # noqa: PTH115


class WritesElsewhere(Sound):
    def deed(self) -> None:
        Path(foreign_folder(), "written-by-rogue").write_text("here")


class ChangesAFile(Sound):
    """And gives it its old time back."""

    def deed(self) -> None:
        path = Path(foreign_folder(), "results.csv")
        before = path.stat()
        path.write_text("1.0\n")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


class UsesTheNetwork(Sound):
    def deed(self) -> None:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(("192.0.2.1", 9))


class PatchesNumpy(Sound):
    def deed(self) -> None:
        np.mean = lambda *_, **__: 0.0  # type: ignore[assignment]


class TellsWhatItSees(Sound):
    """Its folder, its environment and its arguments, in the text of an exception."""

    def deed(self) -> None:
        raise RuntimeError(f"{os.listdir('.')} {sorted(os.environ)} {sys.argv[1:]}")  # noqa: PTH208


class RaisesOddly(Sound):
    """An exception whose text cannot be made, with a name that is no name."""

    def deed(self) -> None:
        def fail(self: object) -> str:  # noqa: ARG001
            return "\x1b[31m" + "long " * 100_000

        raise type("Odd\x1b[2J", (Exception,), {"__str__": fail})


class CannotBeLoaded(Sound):
    @classmethod
    def load(cls, options: LoadOptions) -> Codec:  # noqa: ARG003
        print("cannot find libcodec.so", file=sys.stderr)
        os.abort()


class CountsOddly(Sound):
    def parameters(self) -> int:
        return 10**1000


class NoCodec(Sound):
    @classmethod
    def load(cls, options: LoadOptions) -> Codec:  # noqa: ARG003
        return "a codec"  # type: ignore[return-value]


class Remembers(Sound):
    """Sends nothing: the decoder takes the clip from where the encoder put it."""

    kept: ClassVar[list[Audio]] = []

    def put(self, samples: Audio) -> None:
        self.kept[:] = [samples.copy()]

    def get(self) -> Audio:
        return self.kept[0]

    def encode_one(self, clip: Clip) -> Codes:
        self.put(clip.samples)
        return Codes(clip.length, clip.sample_rate, 1, (np.zeros(1, np.int64),), (65536,))

    def decode_one(self, item: Codes) -> Audio:  # noqa: ARG002
        return self.get()


class LeavesAFile(Remembers):
    def put(self, samples: Audio) -> None:
        np.save(SMUGGLED, samples)

    def get(self) -> Audio:
        return np.asarray(np.load(SMUGGLED), np.float32)


class SharesMemory(Remembers):
    NAME = "codecbench-rogue"

    def put(self, samples: Audio) -> None:
        memory = shared_memory.SharedMemory(self.NAME, create=True, size=8 + samples.nbytes)
        assert memory.buf is not None
        memory.buf[: 8 + samples.nbytes] = struct.pack("<q", samples.nbytes) + samples.tobytes()
        memory.close()

    def get(self) -> Audio:
        with open(f"/dev/shm/{self.NAME}", "rb") as file:  # noqa: PTH123, S108
            raw = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)[:]
        size = struct.unpack("<q", raw[:8])[0]
        return np.frombuffer(raw[8 : 8 + size], np.float32)[None].copy()
