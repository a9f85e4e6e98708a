"""The table of scores as plain rows for a template, and what other pages share with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from codecbench.leaderboard.board import Metric, System
from codecbench.leaderboard.pages.base import Site, system_path
from codecbench.leaderboard.scores import Entry
from codecbench.leaderboard.stats import Estimate
from codecbench.leaderboard.summary import Cell, Row, Section, Summary
from codecbench.leaderboard.text import (
    ARROWS,
    PROPERTIES,
    clean,
    group_title,
    half_width,
    interval_note,
    number,
    places,
    short_signature,
)  # fmt: skip

MINUS = str.maketrans("-", "−")
WEIGHTS_KINDS = {"official": "published", "packaged": "published", "random": "random", "none": "none needed"}


def shown_metrics(section: Section, summary: Summary) -> list[Metric]:
    """The metrics that any row of the section has."""
    return [m for m in summary.metrics.values() if any(m.name in row.cells for row in section.rows)]


def digits_of(section: Section, metrics: Iterable[Metric]) -> dict[str, int]:
    """Decimals of each metric's column."""
    return {metric.name: places(row.cells.get(metric.name) for row in section.rows) for metric in metrics}


CODEC_FACTS = [{"key": "kbps", "title": "kbps", "detail": "measured · band", "left": False}]
MODEL_FACTS = [
    {"key": "parameters", "title": "Parameters", "detail": "M", "left": False},
    {"key": "tasks", "title": "Tasks", "detail": "of the model", "left": True},
    {"key": "codec", "title": "Codec", "detail": "or token streams", "left": True},
]
"""The columns between an entry's name and its coverage."""


def sentence(note: str) -> str:
    """`note` with a capital."""
    return note[:1].upper() + note[1:]


def metric_view(metric: Metric) -> dict[str, Any]:
    """A metric's facts as text."""
    better = {"higher": "higher is better", "lower": "lower is better", "none": "a description"}[metric.direction]
    return {
        "name": clean(metric.name), "title": clean(metric.title), "unit": clean(metric.unit),
        "direction": metric.direction, "arrow": ARROWS[metric.direction], "better": better,
        "first": "descending" if metric.direction == "higher" else "ascending",
        "floor": "unbounded" if metric.floor is None else f"{metric.floor:g}".translate(MINUS),
        "perfect": "–" if metric.perfect is None else f"{metric.perfect:g}".translate(MINUS),
        "signature": clean(metric.signature) or "unsigned", "short": short_signature(metric),
    }  # fmt: skip


def table(site: Site, section: Section) -> dict[str, Any]:
    """A section's scores as rows of text, grouped by track: of codecs after bitrates, of models after their facts."""
    metrics = shown_metrics(section, site.summary)
    digits = digits_of(section, metrics)
    return {
        "title": section.title,
        "utterances": section.utterances,
        "note": sentence(interval_note(section)),
        "within": "track" if section.task else "track and bitrate band",
        "facts": MODEL_FACTS if section.task else CODEC_FACTS,
        "columns": [{**metric_view(m), "expected": most_expected(section, m)} for m in metrics],
        "groups": [
            {"title": title, "ranked": not rows[0].unranked,
             "rows": _rows(site, rows, metrics, digits, _model_facts if section.task else _codec_facts)}
            for title, rows in ((title, list(rows)) for title, rows in groupby(section.rows, key=group_title))
        ],
    }  # fmt: skip


def _codec_facts(_: Site, row: Row) -> list[dict[str, str]]:
    rate = rate_view(row.kbps)
    return [{"value": rate["value"], "sort": rate["sort"], "small": rate["interval"] or row.band or "–"}]


def _model_facts(site: Site, row: Row) -> list[dict[str, str]]:
    system = site.board.systems[row.system]
    count = parameters(site, row.system, row.point)
    codec, tasks = codec_of(system), ", ".join(system.tasks)
    return [
        {"value": "–" if count is None else number(count / 1e6, 1), "sort": "" if count is None else repr(count),
         "small": ""},
        {"value": tasks or "–", "sort": tasks, "small": ""},
        {"value": codec or "–", "sort": codec, "small": ""},
    ]  # fmt: skip


def parameters(site: Site, system: str, point: str) -> float | None:
    """How many parameters an entry has, as measured on any dataset; None where nothing says so."""
    rows = (row for section in site.summary.sections for row in section.rows)
    return next((row.properties["parameters"] for row in rows
                 if (row.system, row.point) == (system, point) and "parameters" in row.properties), None)  # fmt: skip


def codec_of(system: System) -> str:
    """The codec that a language model speaks: its name where the run recorded one, else its token streams."""
    return str(system.facts.get("codec") or "") or token_streams(system.facts.get("streams") or ())


def token_streams(streams: Sequence[Any]) -> str:
    """Such as ``8 of 1024 entries at 75 Hz``, equal streams together; empty without any."""
    counts: dict[tuple[Any, Any], int] = {}
    for stream in streams:
        if isinstance(stream, Mapping):
            kind = (stream.get("codebook_size"), stream.get("frame_rate"))
            counts[kind] = counts.get(kind, 0) + 1
    return ", ".join(
        f"{n} of {size} entries at {rate:g} Hz" if isinstance(rate, int | float) else f"{n} of {size} entries a sample"
        for (size, rate), n in counts.items()
    )


def properties(rows: Sequence[Row]) -> dict[str, Any]:
    """Rows of a section with the facts about each entry that are no scores."""
    shown = [p for p in PROPERTIES if any(p.name in row.properties for row in rows)]
    return {
        "columns": shown,
        "rows": [{**_names(row), "cells": [_fact(row, p.name, p.write) for p in shown]} for row in rows],
    }


def cell_view(cell: Cell | None, digits: int) -> dict[str, Any] | None:
    """A score as text; None where the metric was not run."""
    if cell is None:
        return None
    counts, estimate = cell.counts, cell.estimate

    def text(value: float | None) -> str:
        return "" if value is None else number(value, digits).translate(MINUS)

    return {
        "value": text(estimate.value) if estimate else "–",
        "sort": repr(estimate.value) if estimate else "",
        "low": text(estimate.low) if estimate else "",
        "high": text(estimate.high) if estimate else "",
        "leads": cell.leads,
        "rank": _span(*cell.rank) if cell.rank and cell.rivals > 1 else "",
        "rivals": cell.rivals,
        "full": counts.expected > 0 and counts.ok == counts.expected,
        "coverage": f"{100 * counts.ok // counts.expected} %" if counts.expected else "–",
        "ok": counts.ok,
        "expected": counts.expected,
        "worst": text(cell.worst) if counts.failed else "",
        "micro": text(cell.micro),
        "beyond": cell.beyond,
        "unranked": clean(cell.unranked),
    }


def rate_view(kbps: Estimate | None) -> dict[str, str]:
    """A bitrate; with its interval if that is wider than one per cent either way."""
    if kbps is None:
        return {"value": "–", "sort": "", "interval": ""}
    half = half_width(kbps) or 0
    wide = f"±{number(half, 2)}" if half > kbps.value / 100 else ""
    return {"value": number(kbps.value, 2), "sort": repr(kbps.value), "interval": wide}


def coverage_view(row: Row) -> dict[str, str]:
    """Values over those expected, all metrics together; rounded down, so that only a whole is 100 %."""
    ok = sum(cell.counts.ok for cell in row.cells.values())
    expected = sum(cell.counts.expected for cell in row.cells.values())
    if not expected:
        return {"value": "–", "sort": "", "counts": ""}
    return {"value": f"{100 * ok // expected} %", "sort": repr(ok / expected), "counts": f"{ok} of {expected}"}


def label_of(site: Site, system: str) -> str:
    """What stands beside the name of `system`, such as how its weights were trained."""
    return clean(site.board.systems[system].label)[:100]


def weights_kind(system: System) -> str:
    """Whether the weights that ran can be had: ``published``, ``random``, ``own`` or ``none needed``."""
    text = str(system.facts.get("weights") or "none")
    return WEIGHTS_KINDS.get(text.replace(",", " ").split(maxsplit=1)[0], "own")


def groups_of(site: Site, entries: Sequence[Entry]) -> tuple[list[str], np.ndarray]:
    """The titles of the groups that entries are listed in, never mixed, and the group of each entry."""
    titles = {(row.system, row.point): group_title(row) for s in site.summary.sections for row in s.rows}
    order = list(dict.fromkeys(titles[entry] for entry in entries))
    return order, np.array([order.index(titles[entry]) for entry in entries], dtype=np.uint8)


def yes_no(fact: object) -> str:
    """A fact that may be unknown."""
    return "not stated" if fact is None else "yes" if fact else "no"


def sample_rate(system: System) -> str:
    """The system's own sample rate, as text."""
    rate = system.facts.get("sample_rate")
    return f"{rate / 1000:g} kHz" if isinstance(rate, int | float) else "any"


def most_expected(section: Section, metric: Metric) -> int:
    """The items of a metric's column: those expected of the entry with the most."""
    return max((r.cells[metric.name].counts.expected for r in section.rows if metric.name in r.cells), default=0)


def _rows(
    site: Site,
    rows: Iterable[Row],
    metrics: Sequence[Metric],
    digits: Mapping[str, int],
    facts: Callable[[Site, Row], list[dict[str, str]]],
) -> list[dict[str, Any]]:
    found, last = [], None
    for row in rows:
        found.append({
            **_names(row), "label": label_of(site, row.system),
            "starts": last not in (None, row.band), "facts": facts(site, row),
            "claims": site.claims.get((row.system, row.point), ()), "coverage": coverage_view(row),
            "cells": [cell_view(row.cells.get(m.name), digits[m.name]) for m in metrics],
        })  # fmt: skip
        last = row.band
    return found


def _names(row: Row) -> dict[str, str]:
    return {"system": row.system, "point": row.point, "href": system_path(row.system)}


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}–{high}"


def _fact(row: Row, name: str, write: Callable[[float], str]) -> dict[str, str]:
    value = row.properties.get(name)
    return {"text": "–", "sort": ""} if value is None else {"text": write(value).translate(MINUS), "sort": repr(value)}
