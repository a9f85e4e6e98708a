"""The board as data: CSV with one row an entry and quantity, and JSON of everything that the tables show."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from codecbench.leaderboard.board import Board
from codecbench.leaderboard.stats import Estimate
from codecbench.leaderboard.summary import Cell, Row, Section, Summary

SCHEMA = 1
COLUMNS = (
    "dataset", "track", "system", "point", "band", "quantity", "unit", "direction", "value", "low", "high", "worst",
    "micro", "by_duration", "expected", "ok", "undefined", "failed", "error", "missing", "coverage", "rank_low",
    "rank_high", "rivals", "unranked", "signature",
)  # fmt: skip
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet take a text cell for a formula."""


def to_csv(board: Board, summary: Summary) -> str:  # noqa: ARG001 - all writers take both
    """One row an entry and quantity: measured bitrate, each metric, each property. RFC 4180.

    Text that a spreadsheet would run as a formula gets a leading apostrophe; numbers are left alone.
    """
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for record in records(summary):
        writer.writerow([_cell(record.get(column)) for column in COLUMNS])
    return out.getvalue()


def records(summary: Summary) -> Iterator[dict[str, str | float | None]]:
    """A record an entry and quantity, with those of `COLUMNS` that it has."""
    for section in summary.sections:
        for row in section.rows:
            for record in _records(summary, row):
                yield {"dataset": section.dataset, "track": row.track, "system": row.system, "point": row.point,
                       "band": row.band, **record}  # fmt: skip


def _cell(value: str | float | None) -> str | float | None:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _records(summary: Summary, row: Row) -> Iterator[dict[str, str | float | None]]:
    yield {"quantity": "kbps", "unit": "kbps", "direction": "none", **_bounds(row.kbps), "unranked": row.unranked}
    for name, metric in summary.metrics.items():
        if cell := row.cells.get(name):
            facts = {"quantity": name, "unit": metric.unit, "direction": metric.direction}
            yield {**facts, **_flat(cell), "signature": metric.signature}
    for name, value in sorted(row.properties.items()):
        yield {"quantity": name, "direction": "none", "value": value}


def _bounds(estimate: Estimate | None) -> dict[str, float | None]:
    return {"value": None, "low": None, "high": None} if estimate is None else asdict(estimate)


def _flat(cell: Cell) -> dict[str, str | float | None]:
    low, high = cell.rank or (None, None)
    return {
        **_bounds(cell.estimate), "worst": cell.worst, "micro": cell.micro, "by_duration": cell.by_duration,
        **asdict(cell.counts), "expected": cell.counts.expected, "coverage": cell.counts.coverage, "rank_low": low,
        "rank_high": high, "rivals": cell.rivals, "unranked": cell.unranked,
    }  # fmt: skip


def to_json(board: Board, summary: Summary) -> str:
    """Everything as one JSON object; absent values are null, never NaN."""
    found = {
        "schema": SCHEMA,
        "runs": [{"name": run.name, "created": run.created, "finished": run.finished} for run in board.runs],
        "notices": list(board.notices),
        "absent": dict(summary.absent),
        "metrics": {name: asdict(metric) for name, metric in summary.metrics.items()},
        "sections": [_section(section, summary) for section in summary.sections],
    }
    return json.dumps(found, indent=2, allow_nan=False)


def _section(section: Section, summary: Summary) -> dict[str, Any]:
    return {
        "dataset": section.dataset, "title": section.title, "task": section.task, "utterances": section.utterances,
        "drawn": {name: asdict(drawn) for name, drawn in section.drawn.items()},
        "rows": [_row(row, summary) for row in section.rows],
    }  # fmt: skip


def _row(row: Row, summary: Summary) -> dict[str, Any]:
    return {
        "system": row.system, "point": row.point, "track": row.track, "band": row.band, "kbps": _bounds(row.kbps),
        "unranked": row.unranked,
        "metrics": {name: _flat(row.cells[name]) for name in summary.metrics if name in row.cells},
        "properties": dict(sorted(row.properties.items())),
    }  # fmt: skip
