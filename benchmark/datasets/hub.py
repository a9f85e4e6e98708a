"""Datasets of the Hugging Face hub: ``hf:owner/name:config:split``, such as ``hf:openslr/librispeech_asr:clean:test``.

Needs ``pip install 'codecbench[hub]'``. The files are stored as they are on the hub, undecoded, with a manifest.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codecbench.benchmark.datasets.base import DatasetCard, Source
from codecbench.benchmark.datasets.manifest import read_folder
from codecbench.errors import InfrastructureError, UsageError
from codecbench.paths import cache_dir
from codecbench.recording import SUFFIXES, DataError

if TYPE_CHECKING:
    from codecbench.download import Progress

FACTS = {
    "transcript": ("transcript", "transcription", "text", "sentence", "normalized_text", "text_normalized"),
    "speaker": ("speaker_id", "speaker", "client_id"),
    "language": ("language", "locale", "lang"),
}
"""Columns that hold a fact, the first that a dataset has."""


def source(spec: str) -> Source:
    """The source of the hub dataset `spec`."""
    name, config, split = _parts(spec)
    card = DatasetCard(spec, f"{name}, {split} split of {config}", url=f"https://huggingface.co/datasets/{name}")

    def fill(folder: Path, _: str, progress: Progress | None) -> None:
        _fill(spec, folder, progress)

    return Source(card, read_folder, fill)


def folder(spec: str) -> Path:
    """Where `spec` lies in the cache."""
    name, config, split = _parts(spec)
    return cache_dir("datasets", "hub", name.replace("/", "--"), config, split)


def _parts(spec: str) -> tuple[str, str, str]:
    parts = spec.removeprefix("hf:").split(":")
    if len(parts) != 3 or not all(parts) or any(p.startswith(".") for p in parts) or "/" in parts[1] + parts[2]:
        raise UsageError(f"'{spec}' is no hub dataset: write hf:owner/name:config:split")
    return parts[0], parts[1], parts[2]


def _fill(spec: str, folder: Path, progress: Progress | None) -> None:
    rows, total, audio = _load(spec)
    done = 0
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", *FACTS])
        for number, row in enumerate(rows):
            name = f"{number:06d}{_suffix(row[audio])}"
            (folder / name).write_bytes(_content(row[audio], spec, number))
            columns = [next((c for c in choice if c in row), "") for choice in FACTS.values()]
            writer.writerow([name, *("" if row.get(c) is None else str(row[c]) for c in columns)])
            done = number + 1
            if progress:
                progress(done, total)
    if not done:
        raise DataError(f"'{spec}' has no rows")


def _load(spec: str) -> tuple[Iterator[Mapping[str, Any]], int, str]:
    """The rows of `spec` with undecoded audio, their number, and the name of the audio column."""
    try:
        import datasets
    except ImportError as error:
        raise UsageError("hub datasets need the package datasets: pip install 'codecbench[hub]'") from error
    name, config, split = _parts(spec)
    try:
        table = datasets.load_dataset(name, config, split=split)
    except (OSError, ValueError) as error:
        raise InfrastructureError(f"cannot get '{spec}' from the hub: {str(error).partition(chr(10))[0]}") from error
    columns = [c for c, feature in table.features.items() if isinstance(feature, datasets.Audio)]
    if len(columns) != 1:
        raise DataError(f"'{spec}' has {len(columns)} audio columns, not one: {', '.join(table.features)}")
    return iter(table.cast_column(columns[0], datasets.Audio(decode=False))), len(table), columns[0]


def _suffix(audio: Mapping[str, Any]) -> str:
    suffix = Path(audio["path"] or "").suffix.lower()
    return suffix if suffix in SUFFIXES else ".wav"


def _content(audio: Mapping[str, Any], spec: str, number: int) -> bytes:
    if audio["bytes"] is not None:
        return bytes(audio["bytes"])
    if audio["path"]:
        return Path(audio["path"]).read_bytes()
    raise DataError(f"row {number} of '{spec}' has no audio")
