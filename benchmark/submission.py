"""A submission: one folder with all that a reader needs to believe, and to check, the numbers of a system.

========================  ===========================================================================================
``submission.json``       what it is, the SHA-256 of every other file, and that of the submission it replaces
``card.json``             the system's declared facts: licence, training data, what is known of contamination
``adapter.py``            the adapter, where it is a file of its own
``check.json``            the report of the conformance checks
``run/``                  the run, in audit mode, with the packed codes of every item and what the adapter printed
========================  ===========================================================================================
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

from codecbench.benchmark.segments import write_atomically
from codecbench.errors import InvalidSystem, UsageError

SCHEMA = 1
MANIFEST = "submission.json"
MOST_BYTES = 10_000_000
"""A submission is reviewed and kept for ever, so its files together are at most this large."""


@dataclass(frozen=True)
class Submission:
    """A submission as its manifest states it.

    Attributes:
        folder: Where it lies.
        name: The system's name; also the folder's.
        target: What to load for it: ``adapter.py:Class``, relative to the folder, or a registered name.
        label: The system's label in the rows.
        previous: SHA-256 of the manifest of the submission that this one replaces; empty for the first.
        files: SHA-256 by path, relative to the folder.
    """

    folder: Path
    name: str
    target: str
    label: str
    previous: str
    files: Mapping[str, str]

    @property
    def loadable(self) -> str:
        """The target as the registry takes it."""
        path, colon, attribute = self.target.rpartition(":")
        return f"{self.folder / path}:{attribute}" if colon and path.endswith(".py") else self.target

    def json(self, path: str) -> Any:
        """The content of a JSON file of the submission.

        Raises:
            InvalidSystem: It is absent or no JSON.
        """
        return read_json(self.folder / path)


def seal(folder: Path, *, name: str, target: str, label: str, previous: str) -> Submission:
    """Write the manifest of a finished folder."""
    files = {path: sha256(folder / path) for path in contents(folder)}
    facts = {"schema": SCHEMA, "name": name, "target": target, "label": label, "previous": previous, "files": files}
    write_atomically(folder / MANIFEST, json.dumps(facts, indent=1, ensure_ascii=False).encode() + b"\n")
    return Submission(folder, name, target, label, previous, files)


def read_submission(folder: Path) -> Submission:
    """The submission in `folder`.

    Raises:
        UsageError: There is none, or it was made by a newer version.
        InvalidSystem: Its manifest is not what `seal` writes.
    """
    if folder.is_symlink():
        raise InvalidSystem(f"{folder} is a link, not a folder")
    if not (folder / MANIFEST).is_file():
        raise UsageError(f"{folder} is no submission: it has no {MANIFEST}; `codecbench submit` makes one")
    facts = read_json(folder / MANIFEST)
    if not isinstance(facts, dict) or not isinstance(facts.get("schema"), int):
        raise InvalidSystem(f"{folder / MANIFEST}: no manifest of a submission")
    if facts["schema"] > SCHEMA:
        raise UsageError(f"{folder / MANIFEST} has schema {facts['schema']}, newer than {SCHEMA}: update codecbench")
    texts, files = ("name", "target", "label", "previous"), facts.get("files")
    if not all(isinstance(facts.get(key), str) for key in texts) or not _names_files(files):
        raise InvalidSystem(f"{folder / MANIFEST}: needs the texts {', '.join(texts)} and a digest for each file")
    return Submission(folder, facts["name"], facts["target"], facts["label"], facts["previous"], files)


def _names_files(files: Any) -> TypeGuard[dict[str, str]]:
    return isinstance(files, dict) and all(
        isinstance(digest, str) and not PurePosixPath(path).is_absolute() and ".." not in PurePosixPath(path).parts
        for path, digest in files.items()
    )


def contents(folder: Path) -> list[str]:
    """The paths of all files of `folder` but the manifest, relative to it, sorted."""
    found = (
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()
    )
    return sorted(path for path in found if path != MANIFEST)


def sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """The content of a JSON file, in which no key stands twice and every number is finite.

    Raises:
        InvalidSystem: It is not that.
    """
    try:
        return json.loads(path.read_text("utf-8"), parse_constant=_refuse, object_pairs_hook=_once)
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidSystem(f"{path}: {error}") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found
