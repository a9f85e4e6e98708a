"""What the page shows, as plain values: the template holds no arithmetic, and the next page reuses this."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from codecbench.leaderboard.aggregate import Cell, Row, Section, Summary
from codecbench.leaderboard.board import Board, Metric, System
from codecbench.leaderboard.charts import MOST_CURVES, chart_svg
from codecbench.leaderboard.stats import Estimate
from codecbench.leaderboard.text import (
    ARROWS,
    PROPERTIES,
    failures,
    group_title,
    half_width,
    interval_note,
    number,
    places,
    short_signature,
)  # fmt: skip

MOST_CHARTS = 6
"""Charts a section: of the first metrics that have a better end."""
MINUS = str.maketrans("-", "−")


def page_view(board: Board, summary: Summary) -> dict[str, Any]:
    """The values of the single-page leaderboard."""
    return {
        "title": " + ".join(dict.fromkeys(run.name for run in board.runs)),
        "notices": board.notices,
        "absent": summary.absent,
        "sections": [_section(section, summary) for section in summary.sections if section.rows],
        "tracks": list(dict.fromkeys(row.track for section in summary.sections for row in section.rows)),
        "bands": sorted({row.band for s in summary.sections for row in s.rows if row.band}, key=_start),
        "most_curves": MOST_CURVES,
        "failures": failures(board),
        "metrics": [_metric(metric) for metric in summary.metrics.values()],
        "systems": [_system(system) for system in board.systems.values()],
        "datasets": [
            {"name": d.name, "title": d.title, "licence": d.licence, "link": link(d.url), "fingerprint": d.fingerprint,
             "utterances": len(d.utterances), "hours": number(sum(u.duration for u in d.utterances) / 3600, 2),
             "speakers": len({u.speaker for u in d.utterances} - {""})}
            for d in board.datasets.values()
        ],
        "runs": [
            {"name": r.name, "created": r.created, "finished": r.finished, "command": r.command,
             "environment": _environment(r.environment)}
            for r in board.runs
        ],
    }  # fmt: skip


def link(text: str) -> str:
    """The address that `text` is or names (an arXiv identifier, a DOI); empty for anything else."""
    if re.fullmatch(r"https?://[^\s\"'<>]+", text):
        return text
    if found := re.fullmatch(r"arxiv:\s*(\d{4}\.\d{4,5})(v\d+)?", text, re.IGNORECASE):
        return f"https://arxiv.org/abs/{found[1]}"
    if found := re.fullmatch(r"(?:doi:\s*)?(10\.\d{4,9}/[\w.()/:;-]+)", text, re.IGNORECASE):
        return f"https://doi.org/{found[1]}"
    return ""


def _start(band: str) -> float:
    return float(band.partition("–")[0])


def _section(section: Section, summary: Summary) -> dict[str, Any]:
    from markupsafe import Markup

    note = interval_note(section)
    metrics = [m for m in summary.metrics.values() if any(m.name in row.cells for row in section.rows)]
    digits = {metric.name: places(row.cells.get(metric.name) for row in section.rows) for metric in metrics}
    directed = [metric for metric in metrics if metric.direction != "none"]
    charts = [
        (metric.title, Markup(svg))  # noqa: S704 - our own drawing
        for metric in directed[:MOST_CHARTS]
        if (svg := chart_svg(section, metric))
    ]
    shown = [p for p in PROPERTIES if any(p.name in row.properties for row in section.rows)]
    return {
        "id": section.dataset,
        "title": section.title,
        "utterances": section.utterances,
        "note": note[0].upper() + note[1:],
        "columns": [
            {**_metric(metric), "expected": max(r.cells[metric.name].counts.expected for r in section.rows
                                                if metric.name in r.cells)}
            for metric in metrics
        ],
        "groups": [
            {"title": title, "track": rows[0].track, "ranked": not rows[0].unranked,
             "rows": _rows(rows, metrics, digits)}
            for title, rows in ((title, list(rows)) for title, rows in groupby(section.rows, key=group_title))
        ],
        "charts": charts,
        "left_out": len(directed) - MOST_CHARTS,
        "properties": shown,
        "facts": [
            {"system": row.system, "point": row.point, "track": row.track, "band": row.band, "starts": False,
             "cells": [_fact(row, p.name, p.write) for p in shown]}
            for row in section.rows
        ],
    }  # fmt: skip


def _rows(rows: Iterable[Row], metrics: Iterable[Metric], digits: Mapping[str, int]) -> list[dict[str, Any]]:
    found, band = [], None
    for row in rows:
        found.append({
            "system": row.system, "point": row.point, "band": row.band, "starts": band not in (None, row.band),
            "kbps": _rate(row.kbps), "coverage": _coverage(row),
            "cells": [_cell(row.cells.get(m.name), digits[m.name]) for m in metrics],
        })  # fmt: skip
        band = row.band
    return found


def _rate(kbps: Estimate | None) -> dict[str, str]:
    """The bitrate; with its interval if that is wider than one per cent either way."""
    if kbps is None:
        return {"value": "–", "sort": "", "interval": ""}
    half = half_width(kbps) or 0
    wide = f"±{number(half, 2)}" if half > kbps.value / 100 else ""
    return {"value": number(kbps.value, 2), "sort": repr(kbps.value), "interval": wide}


def _coverage(row: Row) -> dict[str, str]:
    """Values over those expected, all metrics together; rounded down, so that only a whole is 100 %."""
    ok = sum(cell.counts.ok for cell in row.cells.values())
    expected = sum(cell.counts.expected for cell in row.cells.values())
    if not expected:
        return {"value": "–", "sort": "", "counts": ""}
    return {"value": f"{100 * ok // expected} %", "sort": repr(ok / expected), "counts": f"{ok} of {expected}"}


def _cell(cell: Cell | None, digits: int) -> dict[str, Any] | None:
    if cell is None:
        return None
    counts, estimate = cell.counts, cell.estimate

    def text(value: float | None) -> str:
        return "" if value is None else number(value, digits).translate(MINUS)

    full = counts.expected > 0 and counts.ok == counts.expected
    return {
        "value": text(estimate.value) if estimate else "–",
        "sort": repr(estimate.value) if estimate else "",
        "low": text(estimate.low) if estimate else "",
        "high": text(estimate.high) if estimate else "",
        "leads": cell.leads,
        "rank": _span(*cell.rank) if cell.rank and cell.rivals > 1 else "",
        "rivals": cell.rivals,
        "full": full,
        "coverage": f"{100 * counts.ok // counts.expected} %" if counts.expected else "",
        "ok": counts.ok,
        "expected": counts.expected,
        "worst": text(cell.worst) if counts.failed else "",
        "beyond": cell.beyond,
        "unranked": cell.unranked,
    }


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}–{high}"


def _fact(row: Row, name: str, write: Any) -> dict[str, str]:
    value = row.properties.get(name)
    return {"text": "–", "sort": ""} if value is None else {"text": write(value).translate(MINUS), "sort": repr(value)}


def _metric(metric: Metric) -> dict[str, Any]:
    better = {"higher": "higher is better", "lower": "lower is better", "none": "a description"}[metric.direction]
    return {
        "name": metric.name, "title": metric.title, "unit": metric.unit, "arrow": ARROWS[metric.direction],
        "better": better, "first": "descending" if metric.direction == "higher" else "ascending",
        "floor": "unbounded" if metric.floor is None else f"{metric.floor:g}".translate(MINUS),
        "perfect": "–" if metric.perfect is None else f"{metric.perfect:g}".translate(MINUS),
        "signature": short_signature(metric),
    }  # fmt: skip


def _system(system: System) -> dict[str, Any]:
    facts = system.facts
    rate = facts.get("sample_rate")
    paper = str(facts.get("paper") or "")
    return {
        "name": system.name, "family": facts.get("family", ""), "track": system.track,
        "rate": f"{rate / 1000:g} kHz" if isinstance(rate, int | float) else "any",
        "causal": "–" if facts.get("causal") is None else "yes" if facts["causal"] else "no",
        "licence": facts.get("licence", ""), "weights": facts.get("weights", ""),
        "weights_licence": facts.get("weights_licence", ""),
        "training": ", ".join(map(str, facts.get("training_data") or ())),
        "paper": paper, "link": link(paper), "unranked": system.unranked,
    }  # fmt: skip


def _environment(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The environment as pairs; a nested table becomes one line."""
    return [
        (key, ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, Mapping) else str(value))
        for key, value in facts.items()
        if value not in ("", None)
    ]
