"""Append-only segments of checksummed rows: what survives ``kill -9``.

A segment is a file of lines ``{"v":1,"crc":"xxxxxxxx","row":{...}}``, the CRC-32 taken over the bytes of the row.
Rows are appended whole and synced in groups, so a crash can only tear the end of the last segment: those bytes are
set aside in ``NAME.torn`` and the row is computed again. Damage anywhere else is not a crash, and stops everything.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

from codecbench.errors import InfrastructureError

GROUP_ROWS = 100
GROUP_SECONDS = 1.0
OFFSET_BITS = 40
BUFFER = 1 << 18
_START, _MIDDLE = b'{"v":1,"crc":"', b'","row":'
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
log = logging.getLogger(__name__)


def encode_line(row: dict[str, Any]) -> bytes:
    """The line that holds `row`. ValueError for NaN or infinity, which are no JSON."""
    body = json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)
    payload = body.encode("utf-8", "surrogatepass")
    return _START + b"%08x" % zlib.crc32(payload) + _MIDDLE + payload + b"}\n"


def decode_line(line: bytes) -> dict[str, Any]:
    """The row of a line, or ValueError if a single bit of it differs from what was written."""
    at = len(_START) + 8
    payload = line[at + len(_MIDDLE) : -2]
    if line[: len(_START)] != _START or line[at : at + len(_MIDDLE)] != _MIDDLE or line[-2:] != b"}\n":
        raise ValueError("not a row")
    if line[len(_START) : at] != b"%08x" % zlib.crc32(payload):
        raise ValueError("the checksum differs")
    return dict(json.loads(payload.decode("utf-8", "surrogatepass")))


def read_segments(folder: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """All rows of all segments of `folder`, oldest first, each with its place (see `read_places`).

    Raises:
        InfrastructureError: A row in the middle of a segment is damaged.
    """
    for path in sorted(folder.glob("*.jsonl")):
        yield from _read_segment(path)


def read_places(folder: Path, places: Iterable[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows at `places`, in the order of the disk.

    A place is the number of a segment, then the offset in it, of `OFFSET_BITS` bits: a row in eight bytes of memory.

    Raises:
        InfrastructureError: A segment was damaged since its rows were read or written.
    """
    for number, own in groupby(sorted(places), lambda place: place >> OFFSET_BITS):
        path = folder / f"{number:06d}.jsonl"
        with path.open("rb", BUFFER) as file:
            for place in own:
                file.seek(place & ((1 << OFFSET_BITS) - 1))
                try:
                    yield place, decode_line(file.readline())
                except ValueError as error:
                    raise InfrastructureError(f"{path}, offset {file.tell()}: damaged row ({error})") from None


def _read_segment(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    first, offset = int(path.stem) << OFFSET_BITS, 0
    with path.open("rb", BUFFER) as file:
        for number, line in enumerate(file, 1):
            try:
                row = decode_line(line)
            except ValueError as error:
                if line.endswith(b"\n"):
                    raise InfrastructureError(
                        f"{path}, line {number}, offset {offset}: damaged row ({error}); nothing was changed. "
                        f"Restore the file, or delete that line to compute its item again"
                    ) from None
                _set_torn_end_aside(path, offset, line)
                return
            yield first + offset, row
            offset += len(line)


def _set_torn_end_aside(path: Path, offset: int, torn: bytes) -> None:
    with path.with_suffix(".torn").open("ab") as aside:
        aside.write(torn + b"\n")
        os.fsync(aside.fileno())
    with path.open("r+b") as segment:
        segment.truncate(offset)
        os.fsync(segment.fileno())
    log.warning("%s: dropped a torn last row of %d bytes (kept in %s.torn)", path, len(torn), path.stem)


class SegmentWriter:
    """Appends rows to a new segment of `folder`; `acknowledged` rows are on disk for good."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        last = max((int(path.stem) for path in folder.glob("*.jsonl")), default=0)
        self.path = folder / f"{last + 1:06d}.jsonl"
        self.acknowledged = 0
        self._place = (last + 1) << OFFSET_BITS
        self._pending = 0
        self._synced_at = time.monotonic()
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL, 0o644)

    def append(self, row: dict[str, Any]) -> int:
        """Append `row`, synced with its group (100 rows or 1 second); returns its place (see `read_places`).

        Raises:
            InfrastructureError: The disk is full or fails. What was acknowledged stays readable.
        """
        line = encode_line(row)
        try:
            written = os.write(self._fd, line)
            while written < len(line):  # a short write precedes the error that explains it
                written += os.write(self._fd, line[written:])
            self._pending += 1
            if self._pending >= GROUP_ROWS or time.monotonic() - self._synced_at > GROUP_SECONDS:
                self.sync()
        except OSError as error:
            raise disk_error(error, self.path, len(line)) from error
        place, self._place = self._place, self._place + len(line)
        return place

    def sync(self) -> None:
        """Put everything appended so far on disk."""
        os.fsync(self._fd)
        self.acknowledged += self._pending
        self._pending = 0
        self._synced_at = time.monotonic()

    def close(self) -> None:
        """Sync and close; an empty segment is removed."""
        if self._fd < 0:
            return
        try:
            self.sync()
        finally:
            os.close(self._fd)
            self._fd = -1
        if not self.path.stat().st_size:
            self.path.unlink()


def disk_error(error: OSError, path: Path, size: int) -> InfrastructureError:
    """The one line for a write of `size` bytes to `path` that failed."""
    if error.errno in _FULL:
        need = max(1, round(size / 1e6))
        return InfrastructureError(
            f"disk full at {path}, need about {need} MB: free some space and run the same command again"
        )
    return InfrastructureError(f"cannot write {path}: {error.strerror}; run the same command again to resume")


def write_atomically(path: Path, data: bytes) -> None:
    """Put `data` at `path` so that a crash leaves either the old file or the new one, whole and on disk."""
    with replacing(path) as file:
        file.write(data)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which is put at `path`, whole and on disk, at the end of the block if that does not raise.

    Raises:
        InfrastructureError: The disk is full or fails; the old file stays.
    """
    failpoint(f"before-{path.name}")
    temporary = path.with_name(f".{path.name}.tmp")
    size = 0
    try:
        with temporary.open("wb") as file:
            yield file
            size = file.tell()
            failpoint(f"written-{path.name}")
            file.flush()
            os.fsync(file.fileno())
        failpoint(f"synced-{path.name}")
        temporary.replace(path)
        failpoint(f"replaced-{path.name}")
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise disk_error(error, path, size) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def failpoint(name: str) -> None:
    """Kill the process here if ``CODECBENCH_FAILPOINT`` names this point: how the tests prove crash safety."""
    if os.environ.get("CODECBENCH_FAILPOINT") == name:
        os.kill(os.getpid(), 9)
