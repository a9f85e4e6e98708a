"""What systems made of recordings, kept between runs: packed codes and decoded audio, a file an item.

An artefact is kept under everything that determines it (see `codecbench.benchmark.keys`), never under a path or a
time, so that it holds for every run. The folder may be deleted at any moment, and its trouble never stops a run: what
cannot be read is coded again. Decoded audio is kept as it was, to the last bit: as 16-bit integers where those hold it
(of many classical decoders), else as 32-bit floats.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codecbench.audio import Audio
from codecbench.benchmark.cache import KeyedFiles, canonical, set_aside
from codecbench.benchmark.coding import Coded
from codecbench.errors import UsageError
from codecbench.models.bitstream import pack, unpack

LIMIT = "CODECBENCH_CACHE_GB"
DEFAULT_GB = 20.0
TRIMMED = 0.9
"""Share of the limit that is left when the least recently used files go."""
_FULL_SCALE = 32_768


@dataclass(frozen=True, eq=False)
class Kept:
    """An artefact, all but its audio, which is read when `coded` is called.

    Attributes:
        path: Its file.
        facts: What `codecbench.benchmark.scoring.facts_of` says of it.
        packed: Its codes, header and payload.
        digest: `Coded.digest` of the output.
        audio: Where in the file the audio begins, its type, and the SHA-256 of its bytes.
    """

    path: Path
    facts: Mapping[str, Any]
    packed: bytes
    digest: str
    audio: tuple[int, str, str]

    def coded(self) -> Coded | None:
        """The item, with no times: nobody has measured them in this run. None if its audio is damaged or gone."""
        start, kind, digest = self.audio
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                data = file.read()
        except OSError:
            return None
        if hashlib.sha256(data).hexdigest() != digest:
            set_aside(self.path)
            return None
        stored = np.frombuffer(data, kind)
        output = stored.astype(np.float32) / np.float32(_FULL_SCALE) if kind == "<i2" else stored
        codes = unpack(self.packed)
        bits, header_bits = self.facts["bits"], self.facts["header_bits"]
        return Coded(codes, bits, header_bits, output, codes.sample_rate, None, None, None)


class Artefacts(KeyedFiles):
    """The artefacts in a folder, which any number of processes may share.

    A file appears whole or not at all. Its first line is JSON with a checksum of its own, then come codes and audio,
    each with the checksum that the line states. What fails is renamed to ``*.bad``, with a warning.

    Args:
        root: The folder; made when the first artefact is kept. They lie in ``coded``; others may keep more beside it.
        limit: Bytes that the folder may hold, give or take a twentieth; the least recently used files go first.
    """

    def __init__(self, root: Path, limit: int | None = None) -> None:
        super().__init__(root)
        self._limit = size_limit() if limit is None else limit
        self._written = 0

    def look(self, key: Mapping[str, Any]) -> Kept | None:
        """What is kept under `key`, or None; it counts as used now."""
        name = canonical(key)
        path = self._path(name)
        try:
            with path.open("rb") as file:
                line = file.readline()
                head = json.loads(line)
                packed = file.read(head["packed"][0])
            if head["key"] == key and _sound(head) and _sha256(packed) == head["packed"][1]:
                with suppress(OSError):
                    os.utime(path)
                start = len(line) + len(packed)
                return Kept(path, head["facts"], packed, head["digest"], (start, *head["audio"]))
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn_once(error)
            return None
        except (ValueError, KeyError, TypeError, IndexError):
            pass
        set_aside(path)
        return None

    def put(self, key: Mapping[str, Any], coded: Coded, facts: Mapping[str, Any]) -> None:
        """Keep `coded` under `key`; where the disk refuses, warn once and go on."""
        kind, audio = _stored(coded.output)
        packed = pack(coded.codes).to_bytes()
        head = {
            "key": key, "facts": facts, "digest": coded.digest, "packed": [len(packed), _sha256(packed)],
            "audio": [kind, _sha256(audio)],
        }  # fmt: skip
        head["check"] = _sha256(canonical(head).encode())
        data = canonical(head).encode() + b"\n" + packed + audio
        self._write(self._path(canonical(key)), data)
        self._written += len(data)
        if self._written > self._limit // 20:
            self._written = 0
            self.trim()

    def trim(self) -> None:
        """Delete the least recently used files, once there is more than the limit."""
        files = []
        for folder, _, names in os.walk(self.root):
            for name in names:
                with suppress(OSError):
                    facts = Path(folder, name).stat()
                    files.append((facts.st_mtime_ns, facts.st_size, Path(folder, name)))
        total = sum(size for _, size, _ in files)
        if total <= self._limit:
            return
        for _, size, path in sorted(files):
            if total <= TRIMMED * self._limit:
                return
            with suppress(OSError):
                path.unlink(missing_ok=True)
                total -= size

    def _path(self, name: str) -> Path:
        digest = hashlib.sha256(name.encode()).hexdigest()
        return self.root / "coded" / digest[:2] / digest[2:]


def size_limit() -> int:
    """The limit in bytes, from ``$CODECBENCH_CACHE_GB``.

    Raises:
        UsageError: It is no number.
    """
    text = os.environ.get(LIMIT, str(DEFAULT_GB))
    try:
        return int(float(text) * 1e9)
    except ValueError:
        raise UsageError(f"${LIMIT} is '{text}': write a number of gigabytes") from None


def _stored(output: Audio) -> tuple[str, bytes]:
    """The type and the bytes that hold `output` exactly."""
    whole = np.clip(output * np.float32(_FULL_SCALE), -32_768, 32_767).astype("<i2")
    restored = whole.astype(np.float32) / np.float32(_FULL_SCALE)
    if restored.tobytes() == output.tobytes():  # bytes tell a negative zero from zero, and numbers do not
        return "<i2", whole.tobytes()
    return "<f4", output.astype("<f4", copy=False).tobytes()


def _sound(head: dict[str, Any]) -> bool:
    return bool(head.pop("check") == _sha256(canonical(head).encode()))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
