"""A persistent store of JSON values: transcripts, embeddings, scores of a model.

A value is kept under everything that determines it, never under a path or a time, so that it holds for every run.
The cache may be deleted at any moment, and its trouble never stops a run: what cannot be read is computed again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


class KeyedFiles:
    """Files in a folder, found by their keys, whole or not there; trouble with the disk is told once and stops nothing.

    Args:
        root: The folder; made when the first file is kept.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._warned = False

    def _write(self, path: Path, data: bytes) -> None:
        draft = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(data)
            draft.replace(path)
        except OSError as error:
            self._warn_once(error)
            try:
                draft.unlink(missing_ok=True)
            except OSError:
                log.debug("%s is left behind", draft)

    def _warn_once(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            log.warning("cache: %s cannot be used (%s); going on without it", self.root, error)


def set_aside(path: Path) -> None:
    """Rename a damaged file to ``*.bad``, with a warning."""
    bad = path.with_suffix(".bad")
    log.warning("cache: %s is corrupt; moved to %s and computed again", path, bad.name)
    try:
        path.replace(bad)
    except OSError:  # another process was faster, or the folder is read-only: writing will say so
        log.debug("cache: %s stays", path)


def canonical(value: Any) -> str:
    """A plain JSON value as the one text that it has as a key. ValueError for NaN or infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


class DiskCache(KeyedFiles):
    """`metrics.base.Cache` in a folder: one file a value, named by the SHA-256 of its key.

    Any number of processes may share the folder. A file appears whole or not at all, and carries a checksum; one
    that fails it is renamed to ``*.bad``, with a warning.
    """

    def get(self, key: Mapping[str, Any]) -> Any | None:
        """The value kept under `key`, or None."""
        name = canonical(key)
        path = self._path(name)
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn_once(error)
            return None
        try:
            blob = json.loads(text)
            if blob["key"] == json.loads(name) and blob["sha256"] == _checksum(name, canonical(blob["value"])):
                with suppress(OSError):
                    os.utime(path)  # where the folder has a limit, what is used last goes last
                return blob["value"]
        except (ValueError, KeyError, TypeError):
            pass
        set_aside(path)
        return None

    def put(self, key: Mapping[str, Any], value: Any) -> None:
        """Keep `value` under `key`; where the disk refuses, warn once and go on.

        Raises:
            ValueError: `value` would come back as something else: it is no plain, finite JSON value.
        """
        name, text = canonical(key), canonical(value)
        if json.loads(text) != value:
            raise ValueError(f"not a plain JSON value: {value!r:.80}")
        blob = f'{{"key":{name},"sha256":"{_checksum(name, text)}","value":{text}}}\n'
        self._write(self._path(name), blob.encode("ascii"))

    def _path(self, name: str) -> Path:
        digest = hashlib.sha256(name.encode()).hexdigest()
        return self.root / digest[:2] / f"{digest[2:]}.json"


def _checksum(name: str, text: str) -> str:
    return hashlib.sha256(f"{name}\n{text}".encode()).hexdigest()
