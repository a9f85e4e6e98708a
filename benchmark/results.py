"""From the rows of a finished run to its tables.

``results.parquet`` has one row a (system, point, dataset, utterance, metric), sorted, and depends on nothing but the
work: the same work gives the same bytes. Utterance ``*`` marks a value of the whole corpus. What differs from run to
run (seconds, memory) stands apart in ``timings.parquet``. ``evidence.parquet`` names the codes and outputs that were
kept of an item, and holds the texts that were heard; it depends on nothing but the work, too.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, TypeAlias

import numpy as np

from codecbench.benchmark.cache import DiskCache
from codecbench.benchmark.corpus import share_out
from codecbench.benchmark.evidence import evidence_rows
from codecbench.benchmark.plan import Cell, Plan
from codecbench.benchmark.store import RETRIED, RunStore
from codecbench.benchmark.tables import writing
from codecbench.metrics import registry as metrics
from codecbench.metrics import tokens
from codecbench.paths import sha256_of

RESULT_COLUMNS = {
    "system": "string", "point": "string", "dataset": "string", "utterance": "string", "metric": "string",
    "value": "float64", "weight": "float64", "status": "string", "reason": "string",
    "bits": "int64", "header_bits": "int64", "duration": "float64", "signature": "string",
}  # fmt: skip
TIMING_COLUMNS = {
    "system": "string", "point": "string", "dataset": "string", "utterance": "string",
    "encode_seconds": "float64", "decode_seconds": "float64", "peak_memory_mb": "float64", "duration": "float64",
    "generate_seconds": "float64", "first_audio_seconds": "float64", "tokens": "int64",
    "cache_bytes_per_second": "float64",
}  # fmt: skip
EVIDENCE_COLUMNS = {
    "system": "string", "point": "string", "dataset": "string", "utterance": "string",
    "codes": "string", "output": "string", "reference": "string", "texts": "string",
}  # fmt: skip
CORPUS = "*"
MISSING = ["missing", "", None, 1.0]
OF_ITEM = ("bits", "header_bits", "duration")

Row: TypeAlias = dict[str, Any]
Items: TypeAlias = dict[str, Row]
Merged: TypeAlias = tuple[tuple[tokens.Histogram, ...], dict[str, float]]
"""The histogram of each stream of a corpus, and the seconds of each utterance in it."""
Merge: TypeAlias = Callable[[Cell, frozenset[str]], Merged]


@dataclass
class Tally:
    """What a run came to.

    Attributes:
        digests: Those of the files that depend on nothing but the work, by name.
        counts: Values of items by status.
        reasons: Values of items by status and reason, of those that failed or are errors.
        unloadable: Why systems could not be loaded, by label.
        faults: Each reason for which a system raised, once, with the end of the traceback.
    """

    digests: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    unloadable: dict[str, str] = field(default_factory=dict)
    faults: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)


def write_results(plan: Plan, store: RunStore) -> Tally:
    """Write the tables, cell by cell: what is in memory is a cell's rows, without its histograms of tokens."""
    tally, folder = Tally(), store.folder
    signatures = {name: metrics.find(name).signature() for name in sorted(plan.metrics)}
    shares = DiskCache(plan.cache)
    # The points of a nested codec, which follow each other, share their histograms.
    merge = lru_cache(maxsize=len(plan.datasets))(partial(_merge, store))
    with (
        writing(folder / "evidence.parquet", EVIDENCE_COLUMNS) as evidence,
        writing(folder / "timings.parquet", TIMING_COLUMNS) as timings,
        writing(folder / "results.parquet", RESULT_COLUMNS) as results,
    ):
        for cell in sorted(plan.cells()):
            items = _read_cell(plan, store, cell)
            share_out(items, signatures, shares)
            names = sorted(utterance.id for utterance in plan.datasets[cell[2]].dataset.utterances)
            corpus = bisect_left(names, CORPUS)
            results.add(_item_columns(cell, names[:corpus], items, signatures, tally))
            results.add_rows(_corpus_rows(plan, store, cell, items, merge))
            results.add(_item_columns(cell, names[corpus:], items, signatures, tally))
            timings.add_rows([_timing(cell, name, items[name]) for name in names if "timing" in items.get(name, ())])
            evidence.add_rows(evidence_rows({(*cell, name): item for name, item in items.items()}))
    tally.digests = {name: sha256_of(folder / name) for name in ("results.parquet", "evidence.parquet")}
    return tally


def _read_cell(plan: Plan, store: RunStore, cell: Cell) -> Items:
    """The rows of a cell by utterance, in the order of the dataset, without their histograms of tokens."""
    found = {}
    for row in store.rows(cell):
        row.pop("tokens", None)
        found[row["utterance"]] = row
    return {u.id: found[u.id] for u in plan.datasets[cell[2]].dataset.utterances if u.id in found}


def _merge(store: RunStore, cell: Cell, utterances: frozenset[str]) -> Merged:
    """The tokens of a cell's `utterances`."""
    seconds = {}

    def texts() -> Iterator[str]:
        for row in store.rows(cell):
            if row["utterance"] in utterances and row.get("tokens"):
                seconds[row["utterance"]] = row["duration"]
                yield row["tokens"]

    return tokens.merge(texts()), seconds


def _item_columns(
    cell: Cell, names: Sequence[str], items: Items, signatures: Mapping[str, str], tally: Tally
) -> dict[str, Any]:
    """The rows of some utterances of a cell, by columns; what they come to is added to `tally`."""
    import pyarrow as pa

    rows = [items.get(name, {}) for name in names]
    values = [row["values"].get(name, MISSING) if row else MISSING for row in rows for name in signatures]
    status, reason, value, weight = zip(*values, strict=True) if values else ((),) * 4
    _count(cell, names, rows, values, tally)
    item, metric = np.repeat(np.arange(len(names)), len(signatures)), np.tile(np.arange(len(signatures)), len(names))
    each = {name: pa.array([row.get(name) for row in rows], getattr(pa, RESULT_COLUMNS[name])()) for name in OF_ITEM}
    return {
        **{name: pa.repeat(part, len(values)) for name, part in zip(("system", "point", "dataset"), cell, strict=True)},
        "utterance": pa.array(names, pa.string()).take(pa.array(item)),
        "metric": pa.array(signatures, pa.string()).take(pa.array(metric)),
        "value": list(value), "weight": list(weight), "status": list(status), "reason": list(reason),
        **{name: column.take(pa.array(item)) for name, column in each.items()},
        "signature": pa.array(signatures.values(), pa.string()).take(pa.array(metric)),
    }  # fmt: skip


def _count(cell: Cell, names: Sequence[str], rows: Sequence[Row], values: Sequence[list[Any]], tally: Tally) -> None:
    tally.counts.update(value[0] for value in values)
    for status, reason, *_ in values:
        if status in ("failed", "error"):
            tally.reasons[f"{status}:{reason}"] += 1
            if status == "failed" and reason.startswith(RETRIED):
                tally.unloadable.setdefault(cell[0], reason)
    for name, row in zip(names, rows, strict=True):
        if "trace" in row:
            why = next(reason for status, reason, *_ in row["values"].values() if status == "failed")
            facts = {"system": cell[0], "reason": why, "item": f"{cell[2]}/{name} {cell[1]}"}
            tally.faults.setdefault((cell[0], why), {**facts, "trace": row["trace"]})


def _corpus_rows(plan: Plan, store: RunStore, cell: Cell, items: Items, merge: Merge) -> list[dict[str, Any]]:
    if not items:
        return []
    values: dict[str, float | str] = dict(store.corpus.get(cell, {}).get("corpus", {}))
    values |= _rates(plan, cell, list(items.values())) | _token_statistics(plan, cell, items, merge)
    return [
        {
            **dict(zip(("system", "point", "dataset"), cell, strict=True)), "utterance": CORPUS, "metric": metric,
            "value": None if isinstance(value, str) else value, "weight": 1.0,
            "status": "undefined" if isinstance(value, str) else "ok",
            "reason": value if isinstance(value, str) else "", "bits": None, "header_bits": None,
            "duration": sum(item["duration"] for item in items.values()), "signature": f"{metric}|v:1",
        }
        for metric, value in sorted(values.items())
    ]  # fmt: skip


def _rates(plan: Plan, cell: Cell, items: list[Row]) -> dict[str, float | str]:
    coded = [item for item in items if "bits" in item]
    seconds = sum(item["duration"] for item in coded)
    nominal = plan.systems[cell[0]].card.point(cell[1]).kbps
    values: dict[str, float | str] = {} if nominal is None else {"nominal_kbps": nominal}
    if seconds:
        values["kbps"] = sum(item["bits"] for item in coded) / seconds / 1000
        values["header_kbps"] = sum(item["header_bits"] for item in coded) / seconds / 1000
    if seconds and all("clipped" in item for item in coded):  # rows of older runs lack it
        values["clipped"] = sum(item["clipped"] * item["duration"] for item in coded) / seconds
    if seconds and coded[0]["frames"]:
        values["frame_rate"] = sum(item["frames"][0] for item in coded) / seconds
        values["token_rate"] = sum(sum(item["frames"]) for item in coded) / seconds
    return values


def _token_statistics(plan: Plan, cell: Cell, items: Items, merge: Merge) -> dict[str, float | str]:
    """Entropy, perplexity and utilisation of each stream, over the whole corpus.

    The histograms of a nested codec are kept with its richest point, of whose streams a poorer point has the first.
    """
    system = plan.systems[cell[0]]
    sizes = [stream.codebook_size for stream in system.card.streams_at(system.card.point(cell[1]))]
    if not sizes:
        return {}
    point = system.richest.name if system.card.nested else cell[1]
    merged, of = merge((cell[0], point, cell[2]), frozenset(items))
    if not merged:
        return {}
    seconds = sum(of[name] for name in items if name in of)
    streams = tokens.describe(merged[: len(sizes)], sizes, seconds)
    values: dict[str, float | str] = {"entropy_kbps": sum(s.entropy_kbps or 0.0 for s in streams)}
    for k, stream in enumerate(streams):
        few = f"too_few_tokens({stream.tokens})"
        values[f"entropy_bits/{k}"] = few if stream.entropy is None else stream.entropy
        values[f"perplexity/{k}"] = few if stream.perplexity is None else stream.perplexity
        values[f"utilisation/{k}"] = few if stream.utilisation is None else stream.utilisation
    return values


def _timing(cell: Cell, utterance: str, item: Row) -> dict[str, Any]:
    seconds, decode, peak, *of_answer = item["timing"]
    first_audio, count, cache = of_answer or (None, None, None)
    return {
        **dict(zip(("system", "point", "dataset"), cell, strict=True)), "utterance": utterance,
        "encode_seconds": None if of_answer else seconds, "decode_seconds": decode, "peak_memory_mb": peak,
        "duration": item["duration"], "generate_seconds": seconds if of_answer else None,
        "first_audio_seconds": first_audio, "tokens": count, "cache_bytes_per_second": cache,
    }  # fmt: skip
