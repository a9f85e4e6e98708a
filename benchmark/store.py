"""A run folder: what has been computed, and what a resumed run may build on.

``run.json`` states what the run is; ``rows/*.jsonl`` hold what is known so far; ``results.parquet`` and
``timings.parquet`` are written once everything is. ``run.json`` is written last and names the digest of the results,
so a reader never meets a file that is absent or half there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from codecbench.benchmark.plan import ItemKey
from codecbench.benchmark.segments import SegmentWriter, read_segments, write_atomically
from codecbench.errors import InfrastructureError, UsageError

SCHEMA = 1
MANIFEST = "run.json"
RETRIED = ("load(", "weights(")
"""Reasons of a system that could not be loaded: what it lacked may have come since."""


class RunStore:
    """The rows of one run, read at the start and appended to.

    Attributes:
        items: The newest row of every item.
        corpus: The first corpus-level row of every (system, point, dataset).
        invalid: Why systems broke a rule, by label.
        notes: What readers of a system's results should know, by label.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.folder = folder
        self.items: dict[ItemKey, dict[str, Any]] = {}
        self.corpus: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.invalid: dict[str, str] = {}
        self.notes: dict[str, set[str]] = {}
        self._writer: SegmentWriter | None = None
        self.manifest = read_manifest(folder) or {}
        if self.manifest:
            _refuse_another(folder, self.manifest.get("identity", {}), identity)
        for row in read_segments(folder / "rows"):
            self._take(row)

    def done(self) -> set[ItemKey]:
        """The items that need no more work: all but those that ended in an error of ours, or never began.

        A system that could not be loaded gets another chance: its weights may have come since.
        """
        return {key for key, row in self.items.items() if not any(map(_to_be_repeated, row["values"].values()))}

    def append(self, row: dict[str, Any]) -> None:
        """Add a row and put it on disk with its group.

        Raises:
            InfrastructureError: The disk is full or fails.
        """
        if self._writer is None:
            self._writer = SegmentWriter(self.folder / "rows")
        if self._take(row):
            self._writer.append(row)

    def close(self) -> None:
        """Put everything on disk."""
        if self._writer:
            self._writer.close()

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Replace ``run.json``."""
        self.manifest = manifest
        text = json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False)
        # In a locale that is not UTF-8, a command line is escaped bytes: here they are text again.
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        write_atomically(self.folder / MANIFEST, text.encode() + b"\n")

    def _take(self, row: dict[str, Any]) -> bool:
        if "about" in row:
            if invalid := row["about"].get("invalid"):
                self.invalid.setdefault(row["system"], invalid)
            if note := row["about"].get("note"):
                self.notes.setdefault(row["system"], set()).add(note)
            return True
        cell = (row["system"], row["point"], row["dataset"])
        if "corpus" in row:
            return self.corpus.setdefault(cell, row) is row
        self.items[(*cell, row["utterance"])] = row
        return True


def _to_be_repeated(value: list[Any]) -> bool:
    return value[0] == "error" or (value[0] == "failed" and str(value[1]).startswith(RETRIED))


def about_system(label: str, **facts: str) -> dict[str, Any]:
    """A row about a system as a whole: why it is ``invalid``, or a ``note``."""
    return {"system": label, "point": "*", "dataset": "*", "utterance": "*", "about": facts}


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The ``run.json`` of `folder`, or None if it has none.

    Raises:
        UsageError: It was written by a newer version.
        InfrastructureError: It is damaged.
    """
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InfrastructureError(
            f"{path} is damaged ({error}); restore it, or start anew with another --out"
        ) from error
    if manifest.get("schema", 0) > SCHEMA:
        raise UsageError(f"{path} has schema {manifest['schema']}, newer than {SCHEMA}: update codecbench")
    return manifest


def _refuse_another(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    for part in sorted(before.keys() | now.keys()):
        old, new = before.get(part, {}), now.get(part, {})
        for name in sorted(old.keys() | new.keys()):
            if old.get(name) != new.get(name):
                was, is_now = _difference(old.get(name), new.get(name))
                raise UsageError(
                    f"{folder} holds another run: {part} '{name}' was {was}, now {is_now}; "
                    "repeat the old command to resume, or choose another --out"
                )


def _difference(old: Any, new: Any) -> tuple[str, str]:
    """The two in brief; of two mappings, only the facts that differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
        old, new = ({key: value.get(key) for key in keys} for value in (old, new))
    return _brief(old), _brief(new)


def _brief(value: Any) -> str:
    text = "absent" if value is None else json.dumps(value, sort_keys=True).strip('"')
    return text if len(text) <= 120 else text[:117] + "..."
