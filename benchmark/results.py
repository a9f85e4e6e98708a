"""From the rows of a finished run to its tables.

``results.parquet`` has one row a (system, point, dataset, utterance, metric), sorted, and depends on nothing but the
work: the same work gives the same bytes. Utterance ``*`` marks a value of the whole corpus. What differs from run to
run (seconds, memory) stands apart in ``timings.parquet``. ``evidence.parquet`` names the codes and outputs that were
kept of an item, and holds the texts that were heard; it depends on nothing but the work, too.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from codecbench.benchmark.evidence import evidence_rows
from codecbench.benchmark.plan import Plan
from codecbench.benchmark.segments import write_atomically
from codecbench.benchmark.store import RunStore
from codecbench.metrics import registry as metrics
from codecbench.metrics import tokens

RESULT_COLUMNS = {
    "system": "string", "point": "string", "dataset": "string", "utterance": "string", "metric": "string",
    "value": "float64", "weight": "float64", "status": "string", "reason": "string",
    "bits": "int64", "header_bits": "int64", "duration": "float64", "signature": "string",
}  # fmt: skip
TIMING_COLUMNS = {
    "system": "string", "point": "string", "dataset": "string", "utterance": "string",
    "encode_seconds": "float64", "decode_seconds": "float64", "peak_memory_mb": "float64", "duration": "float64",
    "generate_seconds": "float64", "first_audio_seconds": "float64", "tokens": "int64",
}  # fmt: skip
EVIDENCE_COLUMNS = {
    "system": "string", "point": "string", "dataset": "string", "utterance": "string",
    "codes": "string", "output": "string", "reference": "string", "texts": "string",
}  # fmt: skip
CORPUS = "*"


def write_results(plan: Plan, store: RunStore) -> tuple[dict[str, str], dict[str, int]]:
    """Write both tables; returns their digests by file name, and the number of item values of each status."""
    rows = sorted(
        [*_item_rows(plan, store), *_corpus_rows(plan, store)],
        key=lambda row: tuple(row[name] for name in ("system", "point", "dataset", "utterance", "metric")),
    )
    counts = Counter(row["status"] for row in rows if row["utterance"] != CORPUS)
    digest = _write_table(store.folder / "results.parquet", rows, RESULT_COLUMNS)
    _write_table(store.folder / "timings.parquet", sorted(_timing_rows(store), key=_key), TIMING_COLUMNS)
    evidence = _write_table(store.folder / "evidence.parquet", evidence_rows(store.items), EVIDENCE_COLUMNS)
    order = ("ok", "undefined", "failed", "error", "missing")
    return {"results.parquet": digest, "evidence.parquet": evidence}, {status: counts[status] for status in order}


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["system"], row["point"], row["dataset"], row["utterance"]


def _item_rows(plan: Plan, store: RunStore) -> Iterator[dict[str, Any]]:
    signatures = {name: metrics.find(name).signature() for name in plan.metrics}
    for key in plan.item_keys():
        item = store.items.get(key, {})
        for metric in plan.metrics:
            status, reason, value, weight = item.get("values", {}).get(metric, ("missing", "", None, 1.0))
            yield {
                **dict(zip(("system", "point", "dataset", "utterance"), key, strict=True)),
                "metric": metric, "value": value, "weight": weight, "status": status, "reason": reason,
                "bits": item.get("bits"), "header_bits": item.get("header_bits"), "duration": item.get("duration"),
                "signature": signatures[metric],
            }  # fmt: skip


def _corpus_rows(plan: Plan, store: RunStore) -> Iterator[dict[str, Any]]:
    cells: defaultdict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for key in plan.item_keys():
        if key in store.items:
            cells[key[:3]].append(store.items[key])
    for cell, items in cells.items():
        values: dict[str, float | str] = dict(store.corpus.get(cell, {}).get("corpus", {}))
        values |= _rates(plan, cell, items) | _token_statistics(plan, store, cell, items)
        for metric, value in values.items():
            ok = not isinstance(value, str)
            yield {
                **dict(zip(("system", "point", "dataset"), cell, strict=True)), "utterance": CORPUS, "metric": metric,
                "value": value if ok else None, "weight": 1.0, "status": "ok" if ok else "undefined",
                "reason": "" if ok else value, "bits": None, "header_bits": None,
                "duration": sum(item["duration"] for item in items), "signature": f"{metric}|v:1",
            }  # fmt: skip


def _rates(plan: Plan, cell: tuple[str, str, str], items: list[dict[str, Any]]) -> dict[str, float | str]:
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


def _token_statistics(
    plan: Plan, store: RunStore, cell: tuple[str, str, str], items: list[dict[str, Any]]
) -> dict[str, float | str]:
    """Entropy, perplexity and utilisation of each stream, over the whole corpus.

    The histograms of a nested codec are kept with its richest point, of whose streams a poorer point has the first.
    """
    system = plan.systems[cell[0]]
    if system.card.nested:
        items = [store.items.get((cell[0], system.richest.name, cell[2], item["utterance"]), {}) for item in items]
    coded = [item for item in items if item.get("tokens")]
    if not coded:
        return {}
    sizes = [stream.codebook_size for stream in system.card.streams_at(system.card.point(cell[1]))]
    streams = tokens.describe(
        tokens.merge(item["tokens"] for item in coded)[: len(sizes)],
        sizes,
        sum(item["duration"] for item in coded),
    )
    values: dict[str, float | str] = {"entropy_kbps": sum(s.entropy_kbps or 0.0 for s in streams)}
    for k, stream in enumerate(streams):
        few = f"too_few_tokens({stream.tokens})"
        values[f"entropy_bits/{k}"] = few if stream.entropy is None else stream.entropy
        values[f"perplexity/{k}"] = few if stream.perplexity is None else stream.perplexity
        values[f"utilisation/{k}"] = few if stream.utilisation is None else stream.utilisation
    return values


def _timing_rows(store: RunStore) -> Iterator[dict[str, Any]]:
    for (system, point, dataset, utterance), item in store.items.items():
        if "timing" in item:
            seconds, decode, peak, *of_answer = item["timing"]
            first_audio, count = of_answer or (None, None)
            yield {
                "system": system, "point": point, "dataset": dataset, "utterance": utterance,
                "encode_seconds": None if of_answer else seconds, "decode_seconds": decode, "peak_memory_mb": peak,
                "duration": item["duration"], "generate_seconds": seconds if of_answer else None,
                "first_audio_seconds": first_audio, "tokens": count,
            }  # fmt: skip


def _write_table(path: Path, rows: list[dict[str, Any]], columns: dict[str, str]) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, getattr(pa, kind)()) for name, kind in columns.items()])
    table = pa.table({name: [row[name] for row in rows] for name in columns}, schema=schema)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    data = buffer.getvalue()
    write_atomically(path, data)
    return hashlib.sha256(data).hexdigest()
