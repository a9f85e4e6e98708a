"""A comparison as text, Markdown or JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby
from typing import Any

from codecbench.errors import UsageError
from codecbench.leaderboard.bd_rate import Delta
from codecbench.leaderboard.compare import Report
from codecbench.leaderboard.effect import Change, Effect
from codecbench.leaderboard.stats import Estimate
from codecbench.leaderboard.table import Grid, lines, pipes
from codecbench.leaderboard.text import ARROWS, clean, half_width, number

SCHEMA = 1
MOST_LISTED = 6
"""Effects whose items are listed in text; JSON has all."""
ORDER = ("worse", "better", "differs", "no certain difference", "identical", "no common item")


def render(report: Report, form: str = "text", items: int = 3) -> str:
    """The report as ``text``, ``md`` or ``json``.

    Args:
        report: What was compared.
        form: How to write it.
        items: How many items of an effect to list, the most changed first; JSON has all.

    Raises:
        UsageError: Another format.
    """
    if form == "json":
        return json.dumps(_document(report), indent=2, allow_nan=False)
    if form not in ("text", "md"):
        raise UsageError(f"unknown format '{form}': the formats are text, md, json")
    grids = [_effects(report), *([_deltas(report)] if report.deltas else [])]
    notes = list(_notes(report, items))
    if form == "text":
        body = [line.rstrip() for grid in grids for line, _ in lines(grid)]
        return "\n".join([_title(report), *body, *notes])
    tables = [line for grid in grids for line in (*pipes(grid), "")]
    return "\n".join([f"### {_title(report)}", "", *tables, *(f"- {note.strip()}" for note in notes)])


def _title(report: Report) -> str:
    return f"{clean(report.second)} against {clean(report.first)}"


def _effects(report: Report) -> Grid:
    rows: list[tuple[str, ...]] = []
    for entries, group in groupby(sorted(report.effects, key=lambda e: (e.first, e.second)), key=_entries):
        rows.append((entries,))
        rows += [_effect(effect) for effect in group]
    heads = ("metric", "dataset", "first", "second", "difference", "95 % interval", "p", "p (Holm)", "wins", "items",
             "verdict")  # fmt: skip
    return Grid(heads, tuple(rows))


def _entries(effect: Effect) -> str:
    names = [clean(f"{system} {point}") for system, point in (effect.second, effect.first)]
    return names[0] if names[0] == names[1] else f"{names[0]} against {names[1]}"


def _effect(effect: Effect) -> tuple[str, ...]:
    digits = _digits(effect.difference)
    first, second = ("–" if mean is None else number(mean, digits) for mean in effect.means)
    return (
        f"{clean(effect.metric.name)} {ARROWS[effect.metric.direction]}".rstrip(), clean(effect.dataset), first, second,
        *_estimate(effect.difference, digits), _p(effect.p), _p(effect.adjusted),
        "–" if effect.wins is None else f"{100 * effect.wins:.0f} %", str(effect.items), effect.verdict,
    )  # fmt: skip


def _estimate(estimate: Estimate | None, digits: int, unit: str = "") -> tuple[str, str]:
    if estimate is None:
        return "–", "–"
    value = _signed(estimate.value, digits) + unit
    if estimate.low is None or estimate.high is None:
        return value, "–"
    return value, f"[{_signed(estimate.low, digits)}, {_signed(estimate.high, digits)}]{unit}"


def _signed(value: float, digits: int) -> str:
    text = number(value, digits)
    return text if text.startswith("-") or float(text) == 0 else f"+{text}"


def _digits(estimate: Estimate | None) -> int:
    """Decimals of a value whose interval's half-width then shows two digits."""
    size = (half_width(estimate) or abs(estimate.value)) if estimate else 0.0
    return min(max(1 - math.floor(math.log10(size)), 0), 5) if size > 0 else 3


def _p(p: float | None) -> str:
    return "–" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def _deltas(report: Report) -> Grid:
    rows = []
    for dataset, bd in report.deltas:
        cells = [cell for delta, unit in ((bd.rate, " %"), (bd.quality, "")) for cell in _delta(delta, unit)]
        rows.append((clean(bd.metric), clean(dataset), *cells))
    heads = ("metric", "dataset", "BD-rate", "95 % interval", "overlap", "BD-metric", "95 % interval", "overlap")
    return Grid(heads, tuple(rows))


def _delta(delta: Delta, unit: str) -> tuple[str, str, str]:
    overlap = "–" if delta.overlap is None else f"{100 * delta.overlap:.0f} %"
    if delta.value is None:
        return f"n/a: {clean(delta.reason)}", "–", overlap
    return (*_estimate(delta.value, _digits(delta.value), unit), overlap)


def _notes(report: Report, items: int) -> Iterator[str]:
    yield from (clean(notice) for notice in report.notices)
    if not report.effects:
        yield "Nothing to compare."
        return
    family = sum(effect.p is not None for effect in report.effects)
    yield "Difference: second minus first, over the items that both have a value for."
    yield f"A verdict is about the second, by p (Holm): below 0.05 after adjustment for all {family} here."
    yield from dict.fromkeys(f"{clean(e.dataset)}: {e.warning}." for e in report.effects if e.warning)
    yield from dict.fromkeys(f"{clean(bd.test)} against {clean(bd.anchor)}, {clean(bd.metric)}: {clean(delta.note)}."
                             for _, bd in report.deltas for delta in (bd.rate, bd.quality)
                             if delta.value and delta.note)  # fmt: skip
    for what in ("lost", "gained"):
        for effect in report.effects:
            if found := getattr(effect, what):
                only = "first" if what == "lost" else "second"
                yield f"{_name(effect)}: {len(found)} items {what} (only the {only} has a value):"
                yield from (f"  {clean(c.utterance)}: {clean(c.reason)}" for c in found[:items])
    changed = sorted((e for e in report.effects if e.changes), key=lambda e: ORDER.index(e.verdict))
    for effect in changed[:MOST_LISTED] if items else ():
        yield f"{_name(effect)}: {len(effect.changes)} of {effect.items} items changed, most:"
        yield from (f"  {clean(c.utterance)}: {_values(c, effect)}" for c in effect.changes[:items])
    if len(changed) > MOST_LISTED:
        yield f"Items of {len(changed) - MOST_LISTED} more differences: choose with --metric, or --format json."


def _name(effect: Effect) -> str:
    return f"{clean(effect.metric.name)}, {clean(effect.dataset)}, {_entries(effect)}"


def _values(change: Change, effect: Effect) -> str:
    digits = _digits(effect.difference)
    first, second = (number(value or 0.0, digits) for value in (change.first, change.second))
    return f"{first} to {second} ({_signed(change.size, digits)})"


def _document(report: Report) -> dict[str, Any]:
    return {
        "schema": SCHEMA, "first": report.first, "second": report.second, "worse": report.worse,
        "notices": list(report.notices),
        "effects": [
            {**asdict(effect), "changes": [asdict(c) | {"change": c.size} for c in effect.changes]}
            for effect in report.effects
        ],
        "bd": [{"dataset": dataset, **asdict(bd)} for dataset, bd in report.deltas],
    }  # fmt: skip
