"""Reading run folders into a `Board`: one or several runs, checked and merged.

A run folder holds ``run.json`` (facts), ``results.parquet`` (one row a system, point, dataset, utterance and
metric) and perhaps ``timings.parquet`` and ``evidence.parquet``. Runs merge where they agree and are refused where
they do not: the same row with two values is an error that names both runs. Values of one metric with different
signatures never share a column.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from codecbench.errors import InfrastructureError, UsageError
from codecbench.leaderboard.board import CORPUS, STATUSES, Board, Dataset, Metric, Run, System, Utterance, distinct
from codecbench.leaderboard.recordings import read_kept

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
KEY = ["system", "point", "dataset", "utterance", "metric"]
OUTCOME = ["value", "weight", "status", "reason", "bits", "header_bits", "duration"]
TIMING = ["system", "point", "dataset", "utterance", "encode_seconds", "decode_seconds", "duration", "peak_memory_mb"]
OF_ANSWERS = ["generate_seconds", "first_audio_seconds", "tokens", "cache_bytes_per_second"]
"""Columns of timings that older runs lack."""
NAMES = {*KEY, "status", "reason", "signature"}
"""Columns of text that repeats."""
FACTS = ("schema", "name", "created", "finished", "systems", "datasets", "metrics")

T = TypeVar("T")


def read_runs(paths: Sequence[Path]) -> Board:
    """Read and merge run folders.

    Raises:
        UsageError: No such run, a newer schema, or runs that contradict each other.
        InfrastructureError: A file of a run is damaged.
    """
    if not paths:
        raise UsageError("no run folder given: name at least one folder that holds run.json")
    folders = list(dict.fromkeys(Path(path) for path in paths))
    facts = [_read_facts(folder) for folder in folders]
    results, sizes = _stack([_read_results(folder, run) for folder, run in zip(folders, facts, strict=True)])
    results, metrics, notices = _split_signatures(results, facts)
    systems = _merge(folders, facts, "systems", lambda name, raw: System(name, raw), _same_system)
    datasets = _merge(folders, facts, "datasets", _dataset, _same_dataset)
    unfinished = [f"Run {run['name']} is not finished: its rows are what there was." for run in facts
                  if not run["finished"]]  # fmt: skip
    return Board(
        results=_deduplicate(results, folders, sizes),
        timings=_stack([_read_timings(folder) for folder in folders])[0].drop_duplicates(ignore_index=True),
        systems=systems,
        datasets=datasets,
        metrics=metrics,
        runs=tuple(
            Run(r["name"], r["created"], r["finished"], str(r.get("command", "")), r.get("environment", {}))
            for r in facts
        ),
        notices=(*unfinished, *notices),
        kept=read_kept(folders),
    )


def _read_facts(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{folder} is no run folder: it has no run.json") from None
    except (OSError, ValueError) as error:
        raise InfrastructureError(f"{path} is damaged: {error}") from None
    facts: dict[str, Any] = found if isinstance(found, dict) else {}
    if facts.get("schema", 0) > SCHEMA:
        raise UsageError(
            f"{path} has schema {facts['schema']}, this version of codecbench reads up to {SCHEMA}: upgrade codecbench"
        )
    if lacking := [key for key in FACTS if key not in facts]:
        raise InfrastructureError(f"{path} is damaged: it lacks {', '.join(lacking)}")
    return facts


def _read_results(folder: Path, facts: Mapping[str, Any]) -> pd.DataFrame:
    path = folder / "results.parquet"
    if not path.exists():
        raise UsageError(f"{folder} has no results.parquet: the run wrote no results yet, run it again to resume")
    frame = _read_parquet(path, [*KEY, *OUTCOME, "signature"], optional=["transcript"])
    if problem := _contradiction(frame, facts):
        raise InfrastructureError(f"{path} is damaged: {problem}")
    return _declared(frame, {name: str(raw.get("signature") or "") for name, raw in facts["metrics"].items()})


def _declared(frame: pd.DataFrame, signatures: Mapping[str, str]) -> pd.DataFrame:
    """A row without a signature has the one that ``run.json`` declares for its metric."""
    absent = frame["signature"].isna() | (frame["signature"] == "")
    if absent.any():
        known = frame["metric"].astype(str).map(signatures).fillna("")
        frame["signature"] = frame["signature"].astype(str).mask(absent, known).astype("category")
    return frame


def _contradiction(frame: pd.DataFrame, facts: Mapping[str, Any]) -> str:
    """What in the rows contradicts itself or ``run.json``; empty if nothing does."""
    if lacking := [name for name in (*KEY, "status") if frame[name].isna().any()]:
        return f"a row has no {lacking[0]}"
    if strange := sorted(set(frame["status"].unique()) - set(STATUSES)):
        return f"unknown status '{strange[0]}'"
    if not np.isfinite(frame.loc[frame["status"] == "ok", "value"].astype(float)).all():
        return "a row is ok and has no finite value"
    if strange := sorted(set(frame["system"].unique()) - set(facts["systems"])):
        return f"run.json does not list system '{strange[0]}'"
    met: dict[str, set[str]] = {}
    for dataset, name in distinct(frame, "dataset", "utterance"):
        met.setdefault(dataset, set()).add(name)
    for dataset, names in met.items():
        known = {str(item["id"]) for item in facts["datasets"].get(dataset, {}).get("utterances", [])}
        if strange := sorted(names - known - {CORPUS}):
            return f"run.json does not list utterance '{strange[0]}' of dataset '{dataset}'"
    return ""


def _read_timings(folder: Path) -> pd.DataFrame:
    import pandas as pd

    path = folder / "timings.parquet"
    if path.exists():
        found = _read_parquet(path, TIMING, optional=OF_ANSWERS)
        return found.assign(**{name: np.nan for name in OF_ANSWERS if name not in found})
    columns = [*TIMING, *OF_ANSWERS]
    return pd.DataFrame({name: pd.Series(dtype="str" if name in NAMES else "float64") for name in columns})


def _read_parquet(path: Path, columns: list[str], optional: Sequence[str] = ()) -> pd.DataFrame:
    """Columns of a file; names as categories, of which each is in memory once, numbers as float64."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        there = pq.read_schema(path).names
        if lacking := [name for name in columns if name not in there]:
            raise InfrastructureError(f"{path} is damaged: it has no column {lacking[0]}")
        wanted = [*columns, *(name for name in optional if name in there)]
        names = [name for name in columns if name in NAMES]
        table = pq.read_table(path, columns=wanted, read_dictionary=names)
        for k, name in enumerate(wanted):
            kind = pa.string() if name == "transcript" else pa.float64()
            kind = pa.dictionary(pa.int32(), pa.string()) if name in names else kind
            table = table.set_column(k, name, table.column(name).cast(kind))
        frame: pd.DataFrame = table.to_pandas(ignore_metadata=True, split_blocks=True, self_destruct=True)
        return frame
    except (pa.ArrowException, OSError) as error:
        raise InfrastructureError(f"{path} is damaged: {error}") from None


def _stack(frames: Sequence[pd.DataFrame]) -> tuple[pd.DataFrame, list[int]]:
    """Frames below each other, and how many rows each has; the categories of every column are sorted."""
    import pandas as pd
    from pandas.api.types import union_categoricals

    columns = dict.fromkeys(str(name) for frame in frames for name in frame)
    whole = {}
    for name in columns:
        parts = [frame.pop(name) if name in frame else pd.Series(None, frame.index, dtype="str") for frame in frames]
        if name in NAMES:
            whole[name] = pd.Series(union_categoricals([_names(part) for part in parts], sort_categories=True))
        else:
            whole[name] = parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)
    return pd.DataFrame(whole, copy=False), [len(frame) for frame in frames]


def _names(column: pd.Series[Any]) -> pd.Series[Any]:
    """A column as categories of one type, also where it is empty."""
    found = column.astype("category")
    return found.cat.set_categories(found.cat.categories.astype("str"))


def _split_signatures(
    results: pd.DataFrame, runs: Sequence[Mapping[str, Any]]
) -> tuple[pd.DataFrame, dict[str, Metric], list[str]]:
    """Give each signature of a metric a column of its own, and say so."""
    found: dict[str, list[str]] = {}
    for name, signature in distinct(results, "metric", "signature"):
        found.setdefault(name, []).append(signature)
    declared = {name: raw for run in reversed(runs) for name, raw in run["metrics"].items()}
    order = [*dict.fromkeys(name for run in runs for name in run["metrics"]), *sorted(set(found) - set(declared))]
    per_item = {name for name, of in distinct(results, "metric", "utterance") if of != CORPUS} | set(declared)
    metrics: dict[str, Metric] = {}
    columns: dict[tuple[str, str], str] = {}
    notices = []
    for name in order:
        signatures = found.get(name, [str(declared.get(name, {}).get("signature", ""))])
        for signature in signatures:
            column = name if len(signatures) == 1 else f"{name}#{hashlib.sha256(signature.encode()).hexdigest()[:4]}"
            columns[name, signature] = column
            if name in per_item:
                metrics[column] = _metric(column, declared.get(name, {}), signature)
        if len(signatures) > 1:
            notices.append(_signature_notice(name, {columns[name, s]: s for s in signatures}))
    renamed = {key: column for key, column in columns.items() if column != key[0]}
    if renamed:
        named = results["metric"].astype(str)
        for (name, signature), column in renamed.items():
            named = named.mask((results["metric"] == name) & (results["signature"] == signature), column)
        results["metric"] = named.astype("category")
    return results, metrics, notices


def _signature_notice(name: str, signatures: Mapping[str, str]) -> str:
    shared = set.intersection(*(set(s.split("|")) for s in signatures.values()))
    own = {
        column: "|".join(part for part in signature.split("|") if part not in shared) or "no signature"
        for column, signature in signatures.items()
    }
    ways = ", ".join(f"{column} ({parts})" for column, parts in own.items())
    return f"{name} was measured in {len(own)} ways, which never share a column: {ways}."


def _metric(name: str, raw: Mapping[str, Any], signature: str) -> Metric:
    title = str(raw.get("title", "")) or name
    suffix = f" #{name.rpartition('#')[2]}" if "#" in name and title != name else ""
    return Metric(
        name, title + suffix, raw.get("unit", ""), raw.get("direction", "none"), raw.get("floor"), raw.get("perfect"),
        signature,
    )  # fmt: skip


def _deduplicate(results: pd.DataFrame, folders: Sequence[Path], sizes: Sequence[int]) -> pd.DataFrame:
    """One row a key, sorted. Identical rows of several runs are one; different ones are an error."""
    columns = [results[name].cat for name in KEY]
    key = np.zeros(len(results), dtype=np.int64)
    for column in columns:  # categories are sorted, so that numbers sort as names do
        key *= max(len(column.categories), 1)
        key += column.codes.to_numpy()
    if (key[1:] > key[:-1]).all():
        return results
    order = np.argsort(key, kind="stable")
    key = key[order]
    again = np.append([False], key[1:] == key[:-1])
    twins = np.flatnonzero(again | np.append(again[1:], [False]))
    rows = results.iloc[order[twins]].drop_duplicates([*KEY, *OUTCOME])
    clash = rows[rows.duplicated(KEY, keep=False)]
    if len(clash):
        first = clash.iloc[0][KEY]
        of = np.searchsorted(np.cumsum(sizes), clash.index[(clash[KEY] == first).all(axis=1)], side="right")
        runs = dict.fromkeys(str(folders[k]) for k in of)
        raise UsageError(f"{' and '.join(runs)} disagree on {' / '.join(first)}: leave one of the runs out")
    return results.take(order[~again]).reset_index(drop=True)


def _merge(
    folders: Sequence[Path],
    runs: Sequence[Mapping[str, Any]],
    what: Literal["systems", "datasets"],
    make: Callable[[str, Mapping[str, Any]], T],
    join: Callable[[T, T], T | None],
) -> dict[str, T]:
    """The systems or datasets of all runs by name; `join` returns None for two that must not share a name."""
    merged: dict[str, tuple[Path, T]] = {}
    for folder, run in zip(folders, runs, strict=True):
        for name, raw in run[what].items():
            new = make(name, raw)
            known_in, known = merged.get(name, (folder, new))
            joined = join(known, new)
            if joined is None:
                raise UsageError(f"{known_in} and {folder} have different {what} called '{name}':"
                                 " leave one of the runs out")  # fmt: skip
            merged[name] = (known_in, joined)
    return {name: item for name, (_, item) in sorted(merged.items())}


def _same_system(known: System, new: System) -> System | None:
    """A system that could not be loaded in one run gives way to the same system in another."""
    if known.invalid or new.invalid:
        return new if known.invalid else known
    return known if known.facts.get("weights") == new.facts.get("weights") else None


def _same_dataset(known: Dataset, new: Dataset) -> Dataset | None:
    if known.fingerprint != new.fingerprint:
        return None
    items = {item.id: item for item in (*known.utterances, *new.utterances)}
    return replace(known, utterances=tuple(items[name] for name in sorted(items)))


def _dataset(name: str, raw: Mapping[str, Any]) -> Dataset:
    items = [
        Utterance(
            str(item["id"]), str(item.get("speaker") or ""), str(item.get("language") or ""),
            str(item.get("domain") or ""), float(item.get("duration") or 0), str(item.get("transcript") or ""),
        )
        for item in raw.get("utterances", [])
    ]  # fmt: skip
    return Dataset(
        name=name,
        title=str(raw.get("title") or name),
        licence=str(raw.get("licence") or ""),
        url=str(raw.get("url") or ""),
        fingerprint=str(raw.get("fingerprint") or ""),
        utterances=tuple(sorted(items, key=lambda item: item.id)),
        note=str(raw.get("note") or ""),
        task=str(raw.get("task") or ""),
        protocol=str(raw.get("protocol") or ""),
    )
