"""Datasets from files of the user: a manifest (CSV or JSON Lines), or a folder of recordings.

Columns of a manifest: ``path`` (required; relative to the manifest), ``id`` (by default the path without its
ending), ``speaker``, ``language``, ``domain`` (speech, music or sound), ``transcript``, ``sha256`` of the file, and
any ``x_...`` of your own. CSV has a header line; JSON Lines has one object a line, all values strings. UTF-8.

With a column ``task`` the manifest is a list of requests to language models (`codecbench.benchmark.datasets.requests`).
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from codecbench.benchmark.datasets import requests
from codecbench.benchmark.datasets.base import DOMAINS, Utterance, fold, several
from codecbench.errors import InfrastructureError
from codecbench.recording import SUFFIXES, DataError, printable

OF_RECORDINGS = ("path", "id", "speaker", "language", "domain", "transcript", "sha256")
COLUMNS = (*OF_RECORDINGS, *requests.COLUMNS)
MANIFESTS = ("manifest.csv", "manifest.jsonl")
MAX_LINE = 1 << 20

Row = tuple[int, dict[str, Any]]
"""Line number, and values by column."""


def read_manifest(path: Path, known_bad: Collection[str] = ()) -> tuple[Utterance, ...]:
    """The utterances of the manifest at `path`, but for the ids in `known_bad`, in its order.

    Raises:
        DataError: The manifest is wrong, or names a file that is missing; the message has the line numbers.
        InfrastructureError: The disk failed.
    """
    shown = printable(str(path))
    text = _text(path)
    rows = _csv_rows(text, shown) if path.suffix.lower() == ".csv" else _json_rows(text, shown)
    found: list[Utterance] = []
    lines: dict[str, int] = {}
    problems: list[str] = []
    for line, row in rows:
        try:
            utterance = _utterance(row, path.parent)
            first = lines.setdefault(fold(utterance.id), line)
            if first != line:
                raise DataError(f"the id '{utterance.id}' is that of line {first} (case and accents' encoding aside)")
            if utterance.id in known_bad:
                continue
            if not utterance.path.is_file():
                raise DataError(f"no such file: {printable(str(utterance.path))}")
            found.append(utterance)
        except DataError as error:
            problems.append(f"line {line}: {error}")
    if problems:
        raise DataError(f"{shown}: {several(problems)}")
    if not found:
        raise DataError(f"{shown}: no utterances")
    tasks = sorted({utterance.asked.task if utterance.asked else "none" for utterance in found})
    if len(tasks) > 1:
        raise DataError(f"{shown}: requests of two tasks, {' and '.join(tasks[:2])}: make a list of each")
    return tuple(found)


def read_folder(folder: Path, known_bad: Collection[str] = ()) -> tuple[Utterance, ...]:
    """The recordings in `folder` and below, sorted by path; or its manifest, if there is a ``manifest.csv`` in it.

    The text beside a recording (``a.txt`` or ``a.lab`` for ``a.wav``) is its transcript. The speaker is unknown: a
    folder's name is no evidence of one. All count as speech; a manifest says otherwise.

    Raises:
        DataError: No recordings, two with the same id, or a transcript that is not UTF-8.
    """
    for name in MANIFESTS:
        if (folder / name).is_file():
            return read_manifest(folder / name, known_bad)
    found: dict[str, Utterance] = {}
    for path in _recordings(folder):
        # As UTF-8, whatever the locale makes of names, so that ids are the same everywhere.
        name = os.fsencode(os.path.relpath(path, folder)).decode("utf-8", "surrogateescape")
        utterance = Utterance(_default_id(name), path, transcript=_sidecar(path))
        other = found.setdefault(fold(utterance.id), utterance)
        if other is not utterance:
            files = " and ".join(printable(str(p)) for p in (other.path, path))
            raise DataError(f"two recordings have the id '{utterance.id}': {files}; write a manifest with ids")
    if not found:
        raise DataError(f"no recordings in {printable(str(folder))}: looked for {' '.join(SUFFIXES)}")
    return tuple(u for u in found.values() if u.id not in known_bad)


def text_of(path: Path) -> str:
    """The text of a small UTF-8 file, without a byte order mark.

    Raises:
        DataError: It is missing, or not UTF-8.
        InfrastructureError: The disk failed.
    """
    text = _text(path)
    if _undecodable(text):
        raise DataError(f"{printable(str(path))}: not UTF-8")
    return text


def _recordings(folder: Path) -> list[Path]:
    """Audio files below `folder` by path, links followed, hidden ones left out; no order of the disk's shows."""
    found, seen = [], set()
    for root, folders, files in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(root)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(root, f) for f in files if not f.startswith(".") and f.lower().endswith(SUFFIXES)]
    return sorted(found, key=os.fsencode)


def _sidecar(path: Path) -> str:
    return next((text_of(text).strip() for s in (".txt", ".lab") if (text := path.with_suffix(s)).is_file()), "")


def _default_id(path: str) -> str:
    return printable(str(Path(os.path.normpath(path)).with_suffix("")))


def _text(path: Path) -> str:
    """The text at `path`; bytes that are no UTF-8 become lone surrogates, as they do in paths."""
    try:
        return path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    except FileNotFoundError as error:
        raise DataError(f"{printable(str(path))}: no such file") from error
    except OSError as error:
        raise InfrastructureError(f"cannot read {printable(str(path))}: {error.strerror}") from error


def _undecodable(text: str) -> bool:
    return any("\ud800" <= c <= "\udfff" for c in text)


def _csv_rows(text: str, shown: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
        _check_columns(header, f"{shown}: line 1")
        start = reader.line_num + 1
        for values in reader:
            if values and len(values) != len(header):
                raise DataError(f"{shown}: line {start}: {len(values)} values for {len(header)} columns")
            if values:
                yield start, dict(zip(header, values, strict=True))
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{shown}: line {reader.line_num}: {error}") from error


def _json_rows(text: str, shown: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            if len(line) > MAX_LINE:
                raise ValueError(f"longer than {MAX_LINE} characters")
            row = json.loads(line, object_pairs_hook=_distinct, parse_constant=_refuse_constant)
            if not isinstance(row, dict):
                raise ValueError("not an object")
        except (ValueError, RecursionError) as error:
            raise DataError(f"{shown}: line {number}: {printable(str(error))}") from error
        _check_columns(list(row), f"{shown}: line {number}")
        yield number, row


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError("a key appears twice")
    return row


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _check_columns(names: list[str], where: str) -> None:
    if "path" not in names:
        raise DataError(f"{where}: no column 'path'; there are: {printable(', '.join(names)) or 'none'}")
    columns = COLUMNS if "task" in names else OF_RECORDINGS
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{where}: the column '{printable(name)}' appears twice")
        if name not in columns and not name.startswith("x_"):
            from difflib import get_close_matches

            near = ["transcript"] if name in ("text", "sentence") else get_close_matches(name, columns, 1, 0.6)
            hint = f"did you mean '{near[0]}'?" if near else f"a column of your own starts with x_, as in x_{name}"
            raise DataError(f"{where}: unknown column '{printable(name)}'; {printable(hint)}")


def _utterance(row: Mapping[str, Any], folder: Path) -> Utterance:
    """The utterance of one row; raises `DataError` without the line."""
    known: dict[str, Any] = {name: row[name] for name in COLUMNS if name in row}
    for name, value in known.items():
        if not isinstance(value, str):
            raise DataError(f"'{name}' is {json.dumps(value)}, not a string")
        if name != "path" and _undecodable(value):
            raise DataError(f"'{name}' is not UTF-8")
    path = known.pop("path")
    if Path(path).name in ("", "..") or re.search("[\ud800-\udbff\0]", path):
        raise DataError(f"'path' is '{printable(path)}', which names no file")
    facts = {name: value.strip() for name, value in known.items() if value.strip()}
    name = facts.pop("id", "") or _default_id(path)
    if printable(name) != name:
        raise DataError(f"the id '{printable(name)}' has characters that cannot be printed")
    if facts.get("domain", "speech") not in DOMAINS:
        raise DataError(f"domain '{printable(facts['domain'])}'; it is one of {', '.join(DOMAINS)}")
    if not re.fullmatch(r"(?:[0-9a-fA-F]{64})?", facts.get("sha256", "")):
        raise DataError("'sha256' is not 64 hexadecimal digits")
    asked = requests.read({column: facts.pop(column, "") for column in requests.COLUMNS}, facts, folder)
    return Utterance(name, folder / os.fsdecode(path.encode("utf-8", "surrogateescape")), asked=asked, **facts)
