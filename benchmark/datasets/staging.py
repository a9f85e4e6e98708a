"""Folders in the cache that appear whole or not at all, and archives that unpack inside their folder or not at all."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from codecbench.benchmark.datasets.base import fold
from codecbench.errors import InfrastructureError
from codecbench.recording import DataError, printable

MAX_RATIO = 30
"""Audio hardly compresses: an archive that grows more than so many times is not one of recordings."""


def prepare(folder: Path, fill: Callable[[Path], None], complete: Callable[[Path], bool] = Path.is_dir) -> None:
    """Make `folder` with `fill`, unless it is complete already.

    `fill` gets an empty folder beside it, which is renamed when it is done. A process that is killed leaves nothing
    at `folder`; of two at the same time, the second waits and finds the work done.

    Raises:
        InfrastructureError: The disk failed. What `fill` raises is passed on.
    """
    import fcntl

    partial = folder.with_name(f".{folder.name}.partial")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_name(f".{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if complete(folder):
                return
            _remove(partial)
            partial.mkdir()
            try:
                fill(partial)
                _remove(folder)
                partial.rename(folder)
            finally:
                _remove(partial)
    except OSError as error:
        raise InfrastructureError(f"cannot prepare {printable(str(folder))}: {error}") from error


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def unpack(archive: Path, folder: Path) -> None:
    """Extract the tar file `archive` (plain, gzip, bzip2 or xz) into the empty `folder`.

    All members are looked at before the first is written: one that is no plain file or folder, lies outside, comes
    twice, or an archive that grows beyond reason, and nothing is.

    Raises:
        DataError: The archive is unsafe or damaged.
    """
    shown = printable(archive.name)
    try:
        with tarfile.open(archive) as tar:
            _check_members(tar, archive.stat().st_size, shown)
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, EOFError, ValueError, UnicodeError) as error:
        raise DataError(f"{shown}: damaged or unsafe archive: {printable(str(error))}") from error


def _check_members(tar: tarfile.TarFile, packed: int, shown: str) -> None:
    seen: set[str] = set()
    size = 0
    for member in tar:
        problem = _problem(member)
        if member.isreg():
            # Folders may be named again; a file that comes twice would replace the first.
            key = fold(str(PurePosixPath(member.name)))
            problem = problem or ("comes twice" if key in seen else "")
            seen.add(key)
            size += member.size
        if problem:
            raise DataError(f"{shown}: refused: its member '{printable(member.name)}' {problem}")
        if size > MAX_RATIO * packed + (1 << 20):
            raise DataError(f"{shown}: refused: it would unpack to more than {MAX_RATIO} times its size")


def _problem(member: tarfile.TarInfo) -> str:
    path = PurePosixPath(member.name)
    if not (member.isreg() or member.isdir()) or member.issparse():
        return "is no plain file or folder"
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or ":" in member.name:
        return "may lie outside"
    return ""
