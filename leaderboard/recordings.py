"""What runs kept besides numbers: outputs to listen to, and the texts that a recogniser heard in them.

A run's ``evidence.parquet`` has one row an item that kept anything; its columns ``output`` and ``reference`` name FLAC
files in ``evidence/`` by the SHA-256 of their content.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codecbench.errors import InfrastructureError

COLUMNS = ["system", "point", "dataset", "utterance", "output", "reference", "texts"]


@dataclass(frozen=True)
class Kept:
    """What was kept of one item: the files of its output and reference, or None, and its texts.

    `texts` are ``said``, what was spoken, and, with ``:NAME`` for any recogniser but the first, ``output`` and
    ``original``, what it heard in the output and in the original.
    """

    system: str
    point: str
    dataset: str
    utterance: str
    output: Path | None = None
    reference: Path | None = None
    texts: Mapping[str, str] = field(default_factory=dict)


def read_kept(folders: Sequence[Path]) -> tuple[Kept, ...]:
    """What the runs in `folders` kept, sorted; of several runs of an item the first that kept audio counts.

    Raises:
        InfrastructureError: An ``evidence.parquet`` is damaged.
    """
    items: dict[tuple[str, str, str, str], Kept] = {}
    for folder in folders:
        for kept in _read(folder):
            place = (kept.dataset, kept.utterance, kept.system, kept.point)
            known = items.get(place)
            if known is None or (known.output is None and kept.output is not None):
                items[place] = kept
    return tuple(items[place] for place in sorted(items))


def _read(folder: Path) -> list[Kept]:
    import pandas as pd
    import pyarrow as pa

    path = folder / "evidence.parquet"
    if not path.exists():
        return []
    try:
        frame = pd.read_parquet(path)[COLUMNS].astype(object)
        return [
            _kept(folder / "evidence", dict(zip(COLUMNS, row, strict=True))) for row in frame.itertuples(index=False)
        ]
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise InfrastructureError(f"{path} is damaged: {error}") from None


def _kept(folder: Path, row: Mapping[str, Any]) -> Kept:
    texts = json.loads(row["texts"]) if isinstance(row["texts"], str) else {}
    return Kept(
        row["system"], row["point"], row["dataset"], row["utterance"],
        _file(folder, row["output"]), _file(folder, row["reference"]), {str(k): str(v) for k, v in texts.items()},
    )  # fmt: skip


def _file(folder: Path, name: object) -> Path | None:
    """The file called `name`; a name that is no name of a file in there, such as ``../x``, is an error."""
    if not isinstance(name, str):
        return None
    if not name.removesuffix(".flac").isalnum():
        raise ValueError(f"'{name}' names no recording")
    return folder / name[:2] / name


def content(path: Path) -> bytes:
    """The content of a file that is named by its hash.

    Raises:
        ValueError: It cannot be read, or is not what its name says; the message says which.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read: {error.strerror}") from None
    if hashlib.sha256(data).hexdigest() != path.stem:
        raise ValueError(f"{path.name} is damaged: its content has another hash than its name")
    return data
