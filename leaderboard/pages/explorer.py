"""The table that sorts and filters: the scores of codecs as packed columns, with what can be filtered by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from codecbench.leaderboard.board import Metric
from codecbench.leaderboard.pages.base import Site, entries_of, entry_key, key, rows_path, system_path
from codecbench.leaderboard.pages.encode import pack, shorten
from codecbench.leaderboard.pages.scores import (
    digits_of,
    groups_of,
    label_of,
    metric_view,
    most_expected,
    sample_rate,
    sentence,
    shown_metrics,
    weights_kind,
    yes_no,
)  # fmt: skip
from codecbench.leaderboard.scores import Entry
from codecbench.leaderboard.stats import Estimate
from codecbench.leaderboard.summary import ALL, Cell, Section
from codecbench.leaderboard.text import PROPERTIES, clean, interval_note

TOKEN_RATES = (25.0, 50.0, 100.0, 200.0, 400.0)
"""Edges of the token rates that are filtered by, in tokens a second."""


def explorer(site: Site) -> dict[str, Any]:
    """The scores of every section of codecs as packed columns, with what can be filtered by."""
    entries = entries_of(site.codecs)
    sections = [(s, "", site.codecs) for s in site.codecs.sections]
    sections += [(s, by, found) for by, found in site.splits.items() for s in found.sections if s.rows and not s.task]
    metrics = {name: k for k, name in enumerate(site.codecs.metrics)}
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
            "digits": [digits[m.name] for m in own], "expected": [most_expected(section, m) for m in own],
            "rows": rows_path(section.dataset) if section.dataset in site.board.datasets else "",
        })  # fmt: skip
        columns |= {f"{k}.{n}": c for n, c in _columns(section, own, digits, entries, bands, why).items()}
    facets, codes = _facets(site, entries)
    meta = {
        "sections": listed, "metrics": [metric_view(m) for m in site.codecs.metrics.values()], "bands": bands,
        "entries": [
            {"key": entry_key(*entry), "system": clean(entry[0]), "point": clean(entry[1]),
             "href": system_path(entry[0]), "label": label_of(site, entry[0]),
             "notes": clean("; ".join(site.board.systems[entry[0]].notes))[:300],
             "claims": [[claim.badge, claim.text] for claim in site.claims.get(entry, ())]}
            for entry in entries
        ],
        "facets": facets, "why": [clean(reason) for reason in why],
        "properties": [{"name": p.name, "title": p.title, "unit": p.unit} for p in PROPERTIES],
    }  # fmt: skip
    return pack({"meta": meta, **{f"facet.{name}": column for name, column in codes.items()}, **columns})


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


def _facets(site: Site, entries: Sequence[Entry]) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """What entries can be filtered by, where they differ in it, and the value of each entry."""
    token_rates: dict[Entry, float] = {}
    for section in site.codecs.sections:
        for row in section.rows:
            if "token_rate" in row.properties:
                token_rates.setdefault((row.system, row.point), row.properties["token_rate"])
    systems = [site.board.systems[name] for name, _ in entries]
    titles, groups = groups_of(site, entries)
    columns: dict[str, tuple[str, list[str]]] = {
        "track": ("Track", [s.track for s in systems]),
        "family": ("Family", [str(s.facts.get("family") or "–") for s in systems]),
        "causal": ("Causal", [yes_no(s.facts.get("causal")) for s in systems]),
        "streaming": ("Streaming", [yes_no(s.facts.get("streaming")) for s in systems]),
        "rate": ("Sample rate", [sample_rate(s) for s in systems]),
        "tokens": ("Token rate", [_token_band(token_rates.get(entry)) for entry in entries]),
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
