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

from codecbench.errors import InfrastructureError, UsageError
from codecbench.leaderboard.board import CORPUS, STATUSES, Board, Dataset, Metric, Run, System, Utterance
from codecbench.leaderboard.recordings import read_kept

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
KEY = ["system", "point", "dataset", "utterance", "metric"]
OUTCOME = ["value", "weight", "status", "reason", "bits", "header_bits", "duration"]
TIMING = ["system", "point", "dataset", "utterance", "encode_seconds", "decode_seconds", "duration", "peak_memory_mb"]
FACTS = ("schema", "name", "created", "finished", "systems", "datasets", "metrics")

T = TypeVar("T")


def read_runs(paths: Sequence[Path]) -> Board:
    """Read and merge run folders.

    Raises:
        UsageError: No such run, a newer schema, or runs that contradict each other.
        InfrastructureError: A file of a run is damaged.
    """
    import pandas as pd

    if not paths:
        raise UsageError("no run folder given: name at least one folder that holds run.json")
    folders = list(dict.fromkeys(Path(path) for path in paths))
    facts = [_read_facts(folder) for folder in folders]
    frames = [_read_results(folder, run) for folder, run in zip(folders, facts, strict=True)]
    results = pd.concat([frame.assign(run=str(f)) for f, frame in zip(folders, frames, strict=True)])
    results, metrics, notices = _split_signatures(results, facts)
    systems = _merge(folders, facts, "systems", lambda name, raw: System(name, raw), _same_system)
    datasets = _merge(folders, facts, "datasets", _dataset, _same_dataset)
    unfinished = [f"Run {run['name']} is not finished: its rows are what there was." for run in facts
                  if not run["finished"]]  # fmt: skip
    return Board(
        results=_deduplicate(results),
        timings=pd.concat([_read_timings(folder) for folder in folders]).drop_duplicates(ignore_index=True),
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
    declared = frame["metric"].map({name: raw.get("signature", "") for name, raw in facts["metrics"].items()})
    frame["signature"] = frame["signature"].where(frame["signature"].fillna("") != "", declared).fillna("")
    return frame


def _contradiction(frame: pd.DataFrame, facts: Mapping[str, Any]) -> str:
    """What in the rows contradicts itself or ``run.json``; empty if nothing does."""
    import numpy as np

    if strange := sorted(set(frame["status"].unique()) - set(STATUSES)):
        return f"unknown status '{strange[0]}'"
    if not np.isfinite(frame.loc[frame["status"] == "ok", "value"].astype(float)).all():
        return "a row is ok and has no finite value"
    if strange := sorted(set(frame["system"].unique()) - set(facts["systems"])):
        return f"run.json does not list system '{strange[0]}'"
    items = frame[frame["utterance"] != CORPUS]
    for dataset, names in items.groupby("dataset")["utterance"].unique().items():
        known = {str(item["id"]) for item in facts["datasets"].get(dataset, {}).get("utterances", [])}
        if strange := sorted(set(names) - known):
            return f"run.json does not list utterance '{strange[0]}' of dataset '{dataset}'"
    return ""


def _read_timings(folder: Path) -> pd.DataFrame:
    import pandas as pd

    path = folder / "timings.parquet"
    return _read_parquet(path, TIMING) if path.exists() else pd.DataFrame(columns=TIMING)


def _read_parquet(path: Path, columns: list[str], optional: Sequence[str] = ()) -> pd.DataFrame:
    import pandas as pd
    import pyarrow as pa

    try:
        frame = pd.read_parquet(path)
        return frame[[*columns, *(name for name in optional if name in frame)]]
    except KeyError as error:
        raise InfrastructureError(f"{path} is damaged: {error.args[0]}") from None
    except (pa.ArrowException, OSError) as error:
        raise InfrastructureError(f"{path} is damaged: {error}") from None


def _split_signatures(
    results: pd.DataFrame, runs: Sequence[Mapping[str, Any]]
) -> tuple[pd.DataFrame, dict[str, Metric], list[str]]:
    """Give each signature of a metric a column of its own, and say so."""
    found: dict[str, list[str]] = {}
    pairs = results[["metric", "signature"]].drop_duplicates().sort_values(["metric", "signature"])
    for name, signature in zip(pairs["metric"], pairs["signature"], strict=True):
        found.setdefault(name, []).append(signature)
    declared = {name: raw for run in reversed(runs) for name, raw in run["metrics"].items()}
    order = [*dict.fromkeys(name for run in runs for name in run["metrics"]), *sorted(set(found) - set(declared))]
    per_item = set(results.loc[results["utterance"] != CORPUS, "metric"].unique()) | set(declared)
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
    for (name, signature), column in columns.items():
        if column != name:
            own = (results["metric"] == name) & (results["signature"] == signature)
            results.loc[own, "metric"] = column
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


def _deduplicate(results: pd.DataFrame) -> pd.DataFrame:
    """One row a key. Identical rows of several runs are one; different ones are an error."""
    rows = results.drop_duplicates([*KEY, *OUTCOME])
    clash = rows[rows.duplicated(KEY, keep=False)].sort_values(KEY)
    if len(clash):
        first = clash.iloc[0]
        runs = clash.loc[(clash[KEY] == first[KEY]).all(axis=1), "run"].tolist()
        item = " / ".join(first[KEY])
        raise UsageError(f"{' and '.join(dict.fromkeys(runs))} disagree on {item}: leave one of the runs out")
    return rows.drop(columns="run").sort_values(KEY, ignore_index=True)


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
