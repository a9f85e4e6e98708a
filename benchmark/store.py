"""A run folder: what has been computed, and what a resumed run may build on.

``run.json`` states what the run is; ``rows/*.jsonl`` hold what is known so far; ``results.parquet`` and
``timings.parquet`` are written once everything is. ``run.json`` is written last and names the digest of the results,
so a reader never meets a file that is absent or half there.

Rows stay on disk: in memory an item is the place of its newest row, eight bytes.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from codecbench.benchmark.plan import Cell, ItemKey
from codecbench.benchmark.segments import SegmentWriter, read_places, read_segments, write_atomically
from codecbench.errors import InfrastructureError, UsageError

SCHEMA = 1
MANIFEST = "run.json"
RETRIED = ("load(", "weights(")
"""Reasons of a system that could not be loaded: what it lacked may have come since."""


class RunStore:
    """The rows of one run, read at the start and appended to.

    Attributes:
        corpus: The first corpus-level row of every cell.
        invalid: Why systems broke a rule, by label.
        notes: What readers of a system's results should know, by label.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.folder = folder
        self.corpus: dict[Cell, dict[str, Any]] = {}
        self.invalid: dict[str, str] = {}
        self.notes: dict[str, set[str]] = {}
        self._places: dict[Cell, array[int]] = {}
        self._numbers: dict[str, dict[str, int]] = {}
        self._writer: SegmentWriter | None = None
        self.manifest = read_manifest(folder) or {}
        if self.manifest:
            _refuse_another(folder, self.manifest.get("identity", {}), identity)
        for place, row in read_segments(folder / "rows"):
            self._take(row, place)

    def done(self) -> Done:
        """The items that need no more work: all but those that ended in an error of ours, or never began.

        A system that could not be loaded gets another chance: its weights may have come since.
        """
        return Done(self)

    def rows(self, cell: Cell) -> Iterator[dict[str, Any]]:
        """The newest row of each item of `cell`, read from disk, in the order of the disk.

        Raises:
            InfrastructureError: A segment was damaged in the meantime.
        """
        places = (place >> 1 for place in self._places.get(cell, ()) if place >= 0)
        yield from (row for _, row in read_places(self.folder / "rows", places))

    def append(self, row: dict[str, Any]) -> None:
        """Add a row and put it on disk with its group.

        Raises:
            InfrastructureError: The disk is full or fails.
        """
        if "corpus" in row and _cell(row) in self.corpus:
            return
        if self._writer is None:
            self._writer = SegmentWriter(self.folder / "rows")
        self._take(row, self._writer.append(row))

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

    def _take(self, row: dict[str, Any], place: int) -> None:
        if "about" in row:
            if invalid := row["about"].get("invalid"):
                self.invalid.setdefault(row["system"], invalid)
            if note := row["about"].get("note"):
                self.notes.setdefault(row["system"], set()).add(note)
        elif "corpus" in row:
            self.corpus.setdefault(_cell(row), row)
        else:
            self._point(row, place)

    def _point(self, row: dict[str, Any], place: int) -> None:
        """Note where the newest row of an item is, and in the lowest bit whether the item is to be repeated."""
        numbers = self._numbers.setdefault(row["dataset"], {})
        number = numbers.setdefault(row["utterance"], len(numbers))
        places = self._places.setdefault(_cell(row), array("q"))
        places.extend([-1] * (number + 1 - len(places)))
        places[number] = place << 1 | any(map(_to_be_repeated, row["values"].values()))

    def _is_done(self, key: ItemKey) -> bool:
        places = self._places.get(key[:3], ())
        number = self._numbers.get(key[2], {}).get(key[3], len(places))
        return number < len(places) and places[number] >= 0 and not places[number] & 1

    def _count_done(self) -> int:
        return sum(place >= 0 and not place & 1 for places in self._places.values() for place in places)


class Done:
    """The items of a store that need no more work; it follows the store, and holds nothing itself."""

    def __init__(self, store: RunStore) -> None:
        self._store = store

    def __contains__(self, key: object) -> bool:
        return self._store._is_done(cast("ItemKey", key))

    def __len__(self) -> int:
        return self._store._count_done()


def _cell(row: dict[str, Any]) -> Cell:
    return row["system"], row["point"], row["dataset"]


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
