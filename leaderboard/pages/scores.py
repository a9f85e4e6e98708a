"""The table of scores: as plain rows for a template, and as packed columns for the table that sorts and filters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from codecbench.leaderboard.board import Metric, System
from codecbench.leaderboard.pages.base import Site, entry_key, key, rows_path, system_path
from codecbench.leaderboard.pages.encode import pack, shorten
from codecbench.leaderboard.scores import Entry
from codecbench.leaderboard.stats import Estimate
from codecbench.leaderboard.summary import ALL, Cell, Row, Section, Summary
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
TOKEN_RATES = (25.0, 50.0, 100.0, 200.0, 400.0)
"""Edges of the token rates that are filtered by, in tokens a second."""


def shown_metrics(section: Section, summary: Summary) -> list[Metric]:
    """The metrics that any row of the section has."""
    return [m for m in summary.metrics.values() if any(m.name in row.cells for row in section.rows)]


def digits_of(section: Section, metrics: Iterable[Metric]) -> dict[str, int]:
    """Decimals of each metric's column."""
    return {metric.name: places(row.cells.get(metric.name) for row in section.rows) for metric in metrics}


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


def table(section: Section, summary: Summary) -> dict[str, Any]:
    """A section's scores as rows of text, grouped by track."""
    metrics = shown_metrics(section, summary)
    digits = digits_of(section, metrics)
    return {
        "title": section.title,
        "utterances": section.utterances,
        "note": sentence(interval_note(section)),
        "columns": [{**metric_view(m), "expected": _most_expected(section, m)} for m in metrics],
        "groups": [
            {"title": title, "ranked": not rows[0].unranked, "rows": _rows(rows, metrics, digits)}
            for title, rows in ((title, list(rows)) for title, rows in groupby(section.rows, key=group_title))
        ],
    }


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


def weights_kind(system: System) -> str:
    """Whether the weights that ran can be had: ``published``, ``random``, ``own`` or ``none needed``."""
    text = str(system.facts.get("weights") or "none")
    first = text.replace(",", " ").split(maxsplit=1)[0]
    return {"official": "published", "random": "random", "none": "none needed"}.get(first, "own")


def explorer(site: Site) -> dict[str, Any]:
    """The scores of every section as packed columns, with what can be filtered by; entries are in `Site.entries`."""
    sections = [(s, "", site.summary) for s in site.summary.sections]
    sections += [(s, by, summary) for by, summary in site.splits.items() for s in summary.sections if s.rows]
    metrics = {name: k for k, name in enumerate(site.summary.metrics)}
    why: dict[str, int] = {"": 0}
    columns: dict[str, Any] = {}
    listed = []
    bands = sorted({row.band for s, _, _ in sections for row in s.rows if row.band}, key=_start)
    for k, (section, by, summary) in enumerate(sections):
        own = shown_metrics(section, summary)
        digits = digits_of(section, own)
        listed.append({
            "id": _section_id(section, by), "title": clean(section.title), "note": sentence(interval_note(section)),
            "utterances": section.utterances, "metrics": [metrics[m.name] for m in own],
            "digits": [digits[m.name] for m in own], "expected": [_most_expected(section, m) for m in own],
            "rows": rows_path(section.dataset) if section.dataset in site.board.datasets else "",
        })  # fmt: skip
        columns |= {f"{k}.{n}": c for n, c in _columns(section, own, digits, site.entries, bands, why).items()}
    facets, codes = _facets(site)
    meta = {
        "sections": listed, "metrics": [metric_view(m) for m in site.summary.metrics.values()], "bands": bands,
        "entries": [
            {"key": entry_key(*entry), "system": clean(entry[0]), "point": clean(entry[1]),
             "href": system_path(entry[0]), "notes": clean("; ".join(site.board.systems[entry[0]].notes))[:300]}
            for entry in site.entries
        ],
        "facets": facets, "why": [clean(reason) for reason in why],
        "properties": [{"name": p.name, "title": p.title, "unit": p.unit} for p in PROPERTIES],
    }  # fmt: skip
    return pack({"meta": meta, **{f"facet.{name}": column for name, column in codes.items()}, **columns})


def groups_of(site: Site, entries: Sequence[Entry]) -> tuple[list[str], np.ndarray]:
    """The titles of the groups that entries are listed in, never mixed, and the group of each entry."""
    titles = {(row.system, row.point): group_title(row) for s in site.summary.sections for row in s.rows}
    order = list(dict.fromkeys(titles[entry] for entry in entries))
    return order, np.array([order.index(titles[entry]) for entry in entries], dtype=np.uint8)


def _section_id(section: Section, by: str) -> str:
    if not by:
        return ALL if section.dataset == ALL else key(section.dataset)
    return f"{key(section.dataset)}~{by}~{key(section.title.rpartition(f': {by} ')[2])}"


def _columns(
    section: Section,
    metrics: Sequence[Metric],
    digits: Mapping[str, int],
    entries: Sequence[Entry],
    bands: Sequence[str],
    why: dict[str, int],
) -> dict[str, Any]:
    """A section's numbers, a row an entry, NaN or 0 where there is none; by metric, then entry."""
    rows = {(row.system, row.point): row for row in section.rows}
    present = [rows.get(entry) for entry in entries]
    cells = [row.cells.get(m.name) if row else None for m in metrics for row in present]

    def estimates(found: Iterable[Estimate | None]) -> np.ndarray:
        triples = [(e.value, e.low, e.high) if e else (None, None, None) for e in found]
        return np.array(triples, dtype=np.float32).reshape(-1, 3).T

    def counts(get: Callable[[Cell], int]) -> np.ndarray:
        return np.array([get(cell) if cell else 0 for cell in cells], dtype=np.uint32)

    value, low, high = estimates(cell.estimate if cell else None for cell in cells)
    worst = [cell.worst if cell and cell.counts.failed else None for cell in cells]
    shown = np.repeat([digits[metric.name] for metric in metrics], len(entries)).astype(np.intp)
    return {
        "here": np.array([row is not None for row in present], dtype=np.uint8),
        "band": np.array([bands.index(row.band) + 1 if row and row.band else 0 for row in present], dtype=np.uint8),
        "kbps": estimates(row.kbps if row else None for row in present),
        "value": shorten(value, shown), "low": shorten(low, shown), "high": shorten(high, shown),
        "worst": shorten(np.array(worst, dtype=np.float32), shown),
        "ran": np.array([cell is not None for cell in cells], dtype=np.uint8),
        "ok": counts(lambda cell: cell.counts.ok), "expected": counts(lambda cell: cell.counts.expected),
        "beyond": counts(lambda cell: cell.beyond), "rivals": counts(lambda cell: cell.rivals),
        "first": counts(lambda cell: cell.rank[0] if cell.rank else 0),
        "last": counts(lambda cell: cell.rank[1] if cell.rank else 0),
        "why": counts(lambda cell: why.setdefault(cell.unranked, len(why))),
        "properties": np.array(
            [row.properties.get(p.name) if row else None for p in PROPERTIES for row in present], dtype=np.float32
        ),
    }  # fmt: skip


def _facets(site: Site) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """What entries can be filtered by, where they differ in it, and the value of each entry."""
    token_rates: dict[Entry, float] = {}
    for section in site.summary.sections:
        for row in section.rows:
            if "token_rate" in row.properties:
                token_rates.setdefault((row.system, row.point), row.properties["token_rate"])
    systems = [site.board.systems[name] for name, _ in site.entries]
    titles, groups = groups_of(site, site.entries)
    columns: dict[str, tuple[str, list[str]]] = {
        "track": ("Track", [s.track for s in systems]),
        "family": ("Family", [str(s.facts.get("family") or "–") for s in systems]),
        "causal": ("Causal", [yes_no(s.facts.get("causal")) for s in systems]),
        "streaming": ("Streaming", [yes_no(s.facts.get("streaming")) for s in systems]),
        "rate": ("Sample rate", [sample_rate(s) for s in systems]),
        "tokens": ("Token rate", [_token_band(token_rates.get(entry)) for entry in site.entries]),
        "weights": ("Weights", [weights_kind(s) for s in systems]),
        "licence": ("Licence", [str(s.facts.get("licence") or "not stated") for s in systems]),
        "terms": ("Weights’ licence", [str(s.facts.get("weights_licence") or "–") for s in systems]),
        "isolation": ("Isolation", [str(s.facts.get("isolation") or "not stated") for s in systems]),
        "ranking": ("Ranking", ["not ranked" if s.unranked else "ranked" for s in systems]),
    }
    facets, codes = [], {"group": groups}
    for name, (title, values) in columns.items():
        distinct = sorted(set(values), key=lambda text: (_start(text), text.casefold()))
        if len(distinct) > 1:
            places_of = {value: k for k, value in enumerate(distinct)}
            facets.append({"key": name, "title": title,
                           "values": [{"key": key(v), "title": clean(v)} for v in distinct]})  # fmt: skip
            codes[name] = np.array([places_of[value] for value in values], dtype=np.uint16)
    return [{"key": "group", "title": "", "values": [{"key": str(k), "title": t} for k, t in enumerate(titles)]},
            *facets], codes  # fmt: skip


def yes_no(fact: object) -> str:
    """A fact that may be unknown."""
    return "not stated" if fact is None else "yes" if fact else "no"


def sample_rate(system: System) -> str:
    """The system's own sample rate, as text."""
    rate = system.facts.get("sample_rate")
    return f"{rate / 1000:g} kHz" if isinstance(rate, int | float) else "any"


def _token_band(rate: float | None) -> str:
    if rate is None:
        return "no tokens"
    edges = [edge for edge in TOKEN_RATES if rate <= edge]
    low = max((edge for edge in TOKEN_RATES if edge < rate), default=0.0)
    return f"{low:g}–{edges[0]:g} a second" if edges else f"{TOKEN_RATES[-1]:g}+ a second"


def _start(text: str) -> float:
    """The number that `text` starts with, to sort by."""
    digits = text.replace("–", " ").replace("+", " ").split(maxsplit=1)[:1]
    try:
        return float(digits[0]) if digits else float("inf")
    except ValueError:
        return float("inf")


def _most_expected(section: Section, metric: Metric) -> int:
    return max((r.cells[metric.name].counts.expected for r in section.rows if metric.name in r.cells), default=0)


def _rows(rows: Iterable[Row], metrics: Sequence[Metric], digits: Mapping[str, int]) -> list[dict[str, Any]]:
    found, last = [], None
    for row in rows:
        found.append({
            **_names(row), "band": row.band, "starts": last not in (None, row.band),
            "kbps": rate_view(row.kbps), "coverage": coverage_view(row),
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
