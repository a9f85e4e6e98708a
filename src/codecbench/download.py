"""Downloads that end in the right file or in none: resumed, checked, and put in place in one step."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO, cast
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from codecbench.errors import InfrastructureError
from codecbench.paths import sha256_of

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are here, and those of the whole file (None if the server does not say)."""

TIMEOUT = 60.0
"""Seconds without a byte after which the connection is given up."""

CHUNK = 1 << 18


def fetch(url: str, target: Path, sha256: str = "", progress: Progress | None = None) -> str:
    """Download `url` to `target` and return the file's SHA-256 in hex.

    The bytes are gathered in ``TARGET.part`` and renamed when they are complete and have the right hash, so a file
    at `target` is always whole. A file that is there already is replaced.

    Args:
        url: ``http`` or ``https``.
        target: Its folder is created.
        sha256: Expected hex digest, or a prefix of it. Where it is known, an interrupted download is resumed;
            without it nothing could tell whether the file changed in between, so the download starts anew.
        progress: Called after every chunk.

    Raises:
        InfrastructureError: The download failed, was cut short, or is not the expected file.
    """
    if not url.startswith(("http://", "https://")):
        raise InfrastructureError(f"cannot download {url}: only http and https are supported")
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab") as file:
            _claim(file, part)
            _receive(url, file, resume=bool(sha256), progress=progress)
            os.fsync(file.fileno())
            digest = _check(url, part, sha256.lower())
            part.replace(target)
    except OSError as error:
        raise InfrastructureError(f"cannot write {target}: {error}") from error
    return digest


def _claim(file: BinaryIO, part: Path) -> None:
    """Make sure that no other process writes `part`, and that none has just renamed it to its target."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        claimed = part.exists() and os.path.samestat(part.stat(), os.fstat(file.fileno()))
    except BlockingIOError:
        claimed = False
    if not claimed:
        raise InfrastructureError(f"another process is downloading {part}; wait for it, then try again")


def _receive(url: str, file: BinaryIO, *, resume: bool, progress: Progress | None) -> None:
    """Append to `file` what it lacks, and flush it."""
    if not resume:
        file.truncate(0)
    have = os.fstat(file.fileno()).st_size
    response = _open(url, have)
    if response is None:
        return
    with response:
        if response.status != 206:
            file.truncate(0)
            have = 0
        total = None if response.length is None else have + response.length
        if total is None and not response.chunked and not resume:
            raise InfrastructureError(f"cannot download {url}: neither its size nor its sha256 is known")
        while chunk := _read(url, response):
            file.write(chunk)
            have += len(chunk)
            if progress:
                progress(have, total)
    file.flush()
    if total is not None and have < total:
        again = "; run the same command again to resume" if resume else ""
        raise InfrastructureError(f"the download of {url} was cut off at {have} of {total} bytes{again}")


@contextmanager
def _network(url: str) -> Iterator[None]:
    try:
        yield
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise InfrastructureError(f"cannot download {url}: {reason}") from error


def _open(url: str, have: int) -> HTTPResponse | None:
    """The response with the bytes from `have` on, or with all; None if the server has none beyond `have`."""
    headers = {"User-Agent": "codecbench", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with _network(url):
        try:
            return cast("HTTPResponse", urlopen(Request(url, headers=headers), timeout=TIMEOUT))  # noqa: S310 - checked
        except HTTPError as error:
            error.close()
            if error.code == 416 and have:
                return None
            raise InfrastructureError(f"cannot download {url}: HTTP {error.code} {error.reason}") from error


def _read(url: str, response: HTTPResponse) -> bytes:
    with _network(url):
        return response.read(CHUNK)


def _check(url: str, part: Path, expected: str) -> str:
    """The digest of `part`; removes it and raises if it is not the file that was asked for."""
    digest = sha256_of(part)
    if expected and digest.startswith(expected):
        return digest
    size = part.stat().st_size
    with part.open("rb") as file:
        disguise = _disguise(file.read(512))
    if not expected and not disguise:
        return digest
    part.unlink()
    wrong = f"{url} gave {disguise or 'another file'}: {size} bytes with sha256 {digest}"
    raise InfrastructureError(f"{wrong}, expected {expected}" if expected else wrong)


def _disguise(head: bytes) -> str:
    """What servers send in place of a file, told from its first bytes; empty if it is neither."""
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        return "a git-LFS pointer in place of the file"
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "an HTML page in place of the file (a login, a licence to accept, an error)"
    return ""
