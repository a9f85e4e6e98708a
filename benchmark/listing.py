"""What ``codecbench list`` and ``show`` print: cards, metrics, datasets and model files, for people or as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

from codecbench.benchmark.datasets import registry as datasets
from codecbench.errors import CodecbenchError, UsageError, did_you_mean
from codecbench.metrics import registry as metrics
from codecbench.metrics.base import Metric
from codecbench.models import registry as models
from codecbench.models.base import Card
from codecbench.weights import WeightFile, local_path

IN_JSON_ONLY = ("url", "note", "max_duration", "sha256", "tasks", "weights_licence")
"""Facts too long for a list on a terminal; `show` and ``--json`` have them."""


def rows(what: str) -> list[dict[str, Any]]:
    """One mapping a model, metric, dataset or weights file, with the facts that a list shows.

    Raises:
        UsageError: `what` is none of them.
    """
    if what == "models":
        return [_model_row(system.card) for system in models.all_systems().values()]
    if what == "metrics":
        return [metric.facts() for metric in metrics.all_metrics().values()]
    if what == "datasets":
        return [{**datasets.describe(n).to_json(), "here": datasets.path(n) is not None} for n in datasets.names()]
    if what == "weights":
        return [_weights_row(name, file) for name, files in _weight_owners().items() for file in files]
    raise UsageError(f"cannot list '{what}': models, metrics or datasets")


def describe(name: str) -> dict[str, Any]:
    """Everything known of the model, metric or dataset called `name`."""
    if name in models.all_systems() or ".py:" in name:
        return models.find(name).card.to_json()
    if name in metrics.all_metrics():
        metric = metrics.find(name)
        return {**metric.facts(), "signature": _signature(metric), "about": _about(metric)}
    if name in datasets.names():
        return datasets.describe(name).to_json()
    known = [*models.all_systems(), *metrics.all_metrics(), *datasets.names()]
    raise did_you_mean(name, known, "model")


def weight_files(name: str) -> tuple[WeightFile, ...]:
    """The official files of the model or metric called `name`."""
    owners = _weight_owners()
    if name not in owners:
        raise UsageError(f"'{name}' has no official weights to get: `codecbench weights list` shows those that have")
    return owners[name]


def show(table: list[dict[str, Any]], as_json: bool) -> None:
    """Print rows as one JSON array, or as a table for people."""
    if as_json:
        print(json.dumps(table, indent=1, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = [name for name in (table[0] if table else {}) if name not in IN_JSON_ONLY]
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for name in columns:
        least = max(len(str(row[name])) for row in table) if name == columns[0] else None
        shown.add_column(name, no_wrap=True, overflow="ellipsis", min_width=least)
    for row in table:
        shown.add_row(*(Text(_cell(row[name])) for name in columns))
    Console(width=None if sys.stdout.isatty() else 200).print(shown)


def show_one(facts: dict[str, Any], as_json: bool) -> None:
    """Print the facts of one thing."""
    if as_json:
        print(json.dumps(facts, indent=1, ensure_ascii=False))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:{width}}  {_cell(value)}")


def _model_row(card: Card) -> dict[str, Any]:
    return {
        "name": card.name, "kind": card.kind, "family": card.family, "track": card.track,
        "sample_rate": card.sample_rate, "channels": card.channels,
        "streams": [{"codebook_size": s.codebook_size, "frame_rate": s.frame_rate} for s in card.streams],
        "points": [{"name": point.name, "kbps": point.kbps} for point in card.points],
        "tasks": list(card.tasks), "licence": card.licence, "weights_licence": card.weights_licence,
    }  # fmt: skip


def _weights_row(name: str, file: WeightFile) -> dict[str, Any]:
    return {
        "of": name, "file": file.name, "licence": file.licence, "sha256": file.sha256 or "unknown until first download",
        "here": local_path(file) is not None, "url": file.url,
    }  # fmt: skip


def _weight_owners() -> dict[str, tuple[WeightFile, ...]]:
    owners = {name: system.card.weights for name, system in models.all_systems().items()}
    owners |= {name: metric.weights for name, metric in metrics.all_metrics().items()}
    return {name: files for name, files in owners.items() if files}


def _signature(metric: Metric) -> str:
    """The signature, or why there is none yet: it names a model, and that has to be here."""
    try:
        return metric.signature()
    except CodecbenchError as error:
        return str(error)


def _about(metric: Metric) -> str:
    """The first paragraphs of the metric's module: what it measures and how to read it."""
    return sys.modules[getattr(metric.score, "func", metric.score).__module__].__doc__ or ""


def _cell(value: Any) -> str:
    """One cell of a list for people; of streams and operating points the first and last, and how many."""
    if isinstance(value, list | tuple) and value and isinstance(value[0], dict):
        ends = [str(item.get("name") or item.get("codebook_size") or item) for item in (value[0], value[-1])]
        return " … ".join(dict.fromkeys(ends)) + (f" ({len(value)})" if len(value) > 1 else "")
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "–" if value is None or value == "" else str(value)
