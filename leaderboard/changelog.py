"""What changed since earlier scores: each score that moved, came or went, and each that can no longer be compared."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from codecbench.errors import InfrastructureError, UsageError
from codecbench.leaderboard.aggregate import aggregate
from codecbench.leaderboard.board import Board
from codecbench.leaderboard.export import to_json
from codecbench.leaderboard.load import read_runs
from codecbench.leaderboard.summary import ALL, Summary
from codecbench.leaderboard.text import number

EXPORT = "downloads/scores.json"
SCORE = tuple[str, str, str, str]
"""Dataset, system, point and metric."""
ORDER = ("beyond its interval", "within its interval", "no interval", "other signature", "new", "gone")


def read_previous(path: Path) -> list[dict[str, Any]]:
    """Earlier scores to compare with, from a run folder, a site or its ``scores.json``.

    Raises:
        UsageError: There is none of these.
        InfrastructureError: The file is damaged.
    """
    if (path / "run.json").exists():
        board = read_runs([path])
        return [json.loads(to_json(board, aggregate(board)))]
    file = next((p for p in (path / EXPORT, path / "scores.json", path) if p.is_file()), None)
    if file is None:
        raise UsageError(f"{path} holds no earlier scores: name a run folder, a site or its {EXPORT}")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        _scores(found)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InfrastructureError(f"{file} is damaged: {error!r}") from None
    return [found]


def read_all(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The earlier scores of several places."""
    return [found for path in paths for found in read_previous(path)]


def _scores(found: Mapping[str, Any]) -> dict[SCORE, dict[str, Any]]:
    signatures = {name: metric["signature"] for name, metric in found["metrics"].items()}
    titles = {section["dataset"]: section["title"] for section in found["sections"]}
    return {
        (section["dataset"], row["system"], row["point"], name): {
            **cell, "signature": signatures[name], "title": titles[section["dataset"]],
        }
        for section in found["sections"]
        if not section["dataset"].startswith(ALL)
        for row in section["rows"]
        for name, cell in row["metrics"].items()
    }  # fmt: skip


def changes(board: Board, summary: Summary, previous: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every score of now and of `previous`, the most telling first, with what happened: `kind`, empty for nothing.

    Scores of several earlier places are those of the last that has them.
    """
    before = {score: cell for found in previous for score, cell in _scores(found).items()}
    return sorted(_changes(_scores(json.loads(to_json(board, summary))), before), key=_order)


def _changes(
    now: Mapping[SCORE, Mapping[str, Any]], before: Mapping[SCORE, Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    for score in dict.fromkeys((*now, *before)):
        old, new = before.get(score), now.get(score)
        dataset, system, point, metric = score
        places = _places(old, new)
        yield {
            "system": system, "point": point, "metric": metric, "kind": _kind(old, new),
            "dataset": (new or old or {}).get("title", dataset),
            "before": _text(old, places), "after": _text(new, places),
            "difference": "" if _value(old) is None or _value(new) is None
            else f"{_value(new) - _value(old):+.{places}f}".replace("-", "−"),  # type: ignore[operator]
        }  # fmt: skip


def _kind(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> str:
    """What happened to a score; empty if nothing did."""
    if old is None or new is None:
        return "new" if old is None else "gone"
    if old["signature"] != new["signature"]:
        return "other signature"
    if _value(old) == _value(new) and old["ok"] == new["ok"]:
        return ""
    if old["low"] is None or old["high"] is None or _value(new) is None:
        return "no interval"
    return "within its interval" if old["low"] <= new["value"] <= old["high"] else "beyond its interval"


def _value(score: Mapping[str, Any] | None) -> float | None:
    return None if score is None else score["value"]


def _text(score: Mapping[str, Any] | None, places: int) -> str:
    value = _value(score)
    return "–" if value is None else number(value, places).replace("-", "−")


def _places(*scores: Mapping[str, Any] | None) -> int:
    """Decimals that show four digits of the larger value, and two of the difference; six at most."""
    values = [v for score in scores if (v := _value(score)) is not None]
    largest, difference = max(map(abs, values), default=0.0), max(values, default=0.0) - min(values, default=0.0)
    return min(6, max(3 - _magnitude(largest), 1 - _magnitude(difference) if difference else 0, 0))


def _magnitude(value: float) -> int:
    return math.floor(math.log10(value)) if value > 0 else 0


def _order(row: Mapping[str, Any]) -> tuple[object, ...]:
    return (*ORDER, "").index(row["kind"]), row["dataset"], row["system"], row["point"], row["metric"]
