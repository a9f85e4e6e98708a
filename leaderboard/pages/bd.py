"""BD-rates: how much bitrate, or how many tokens, each system needs against an anchor for the same score.

The page loads one metric on one dataset at a time, ``bd/<dataset>-<n>.js``: for each axis the matrix of all systems
that have a curve, and of each pair the relative curve difference. Systems without a curve are listed with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codecbench.leaderboard.bd_matrix import ladders
from codecbench.leaderboard.bd_rate import METHOD, Delta, Ladder, RateAxis, compare_ladders, curve_difference
from codecbench.leaderboard.board import Metric
from codecbench.leaderboard.pages.base import Page, PageType, Site, key, slug, system_path
from codecbench.leaderboard.pages.curves import first_section, places_of, section_id, section_view, triple, write_shard
from codecbench.leaderboard.pages.scores import digits_of, metric_view, shown_metrics
from codecbench.leaderboard.rate_distortion import AXES
from codecbench.leaderboard.summary import Section
from codecbench.leaderboard.text import clean

OVER: tuple[RateAxis, ...] = ("kbps", "token_rate")
MOST_SYSTEMS = 16
"""In one matrix; of more, those whose curves have the most points."""
SAMPLES = 32
"""Of a relative curve difference."""


def _pages(site: Site) -> Iterator[Page]:
    sections = [
        {**section_view(section, ""), "metrics": metrics}
        for section in site.codecs.sections
        if (metrics := [{**metric_view(m), "file": _path(section, k)} for k, m in enumerate(_metrics(site, section))])
    ]
    first = first_section(site)
    axes = [{"name": name, "title": AXES[name].title, "unit": AXES[name].unit} for name in OVER]
    meta = {"sections": sections, "first": section_id(first) if first else "", "axes": axes, "method": METHOD,
            "most": MOST_SYSTEMS, "systems": [key(name) for name in sorted(site.board.systems)]}  # fmt: skip
    scripts = ("assets/plot.js",) if sections else ()
    yield Page("bd.html", "bd.html", "BD-rate", {"meta": meta}, scripts)


def _metrics(site: Site, section: Section) -> list[Metric]:
    return [m for m in shown_metrics(section, site.codecs) if m.direction != "none"]


def _path(section: Section, metric: int) -> str:
    return f"bd/{slug(section.dataset)}-{metric}.js"


def _write(site: Site, out: Path) -> Iterator[str]:
    for section in site.codecs.sections:
        for k, metric in enumerate(_metrics(site, section)):
            yield write_shard(out, _path(section, k), _columns(site, section, metric))


def _columns(site: Site, section: Section, metric: Metric) -> dict[str, Any]:
    words: dict[str, int] = {"": 0}
    columns: dict[str, Any] = {}
    axes = {}
    for axis in OVER:
        found = ladders(site.board, site.codecs, section, metric, axis)
        whole = sorted((x for x in found.values() if not x.fault), key=lambda x: (-len(x.rate), x.system))
        kept = sorted(whole[:MOST_SYSTEMS], key=lambda x: x.system)
        axes[axis] = {
            "systems": [clean(x.system) for x in kept], "left": len(whole) - len(kept),
            "faults": [{"system": clean(x.system), "reason": clean(x.fault)} for x in found.values() if x.fault],
        }  # fmt: skip
        columns |= {f"{axis}.{name}": column for name, column in matrix_columns(kept, metric, axis, words).items()}
    names = sorted({row.system for row in section.rows})
    places = places_of(site)
    meta = {
        "axes": axes, "words": [clean(text)[:300] for text in words], "samples": SAMPLES,
        "digits": digits_of(section, [metric])[metric.name],
        "systems": {clean(n): {"key": key(n), "href": system_path(n), "place": places.get(n, -1),
                               "track": clean(site.board.systems[n].track)} for n in names},
    }  # fmt: skip
    return {"meta": meta, **columns}


def matrix_columns(
    sides: Sequence[Ladder], metric: Metric, axis: RateAxis, words: dict[str, int]
) -> Mapping[str, np.ndarray]:
    """All pairs (anchor, test) of curves, anchor by anchor; texts are numbered in `words`, which grows."""
    found = [compare_ladders(anchor, test, metric, axis) for anchor in sides for test in sides]
    places = [(a, t) for a in range(len(sides)) for t in range(len(sides))]
    differences = np.full((len(found), SAMPLES), np.nan, dtype=np.float32)
    ends = np.full((len(found), 2), np.nan, dtype=np.float32)
    for k, ((a, t), bd) in enumerate(zip(places, found, strict=True)):
        if a != t and bd.rate.value:
            samples = curve_difference(sides[a], sides[t], metric, SAMPLES)
            differences[k] = [percent for _, percent in samples]
            ends[k] = samples[0][0], samples[-1][0]
    return {
        **{f"rate.{n}": c for n, c in _delta_columns([bd.rate for bd in found], words).items()},
        **{f"quality.{n}": c for n, c in _delta_columns([bd.quality for bd in found], words).items()},
        "difference": differences, "ends": ends,
    }  # fmt: skip


def _delta_columns(deltas: Sequence[Delta], words: dict[str, int]) -> dict[str, np.ndarray]:
    def codes(texts: Iterator[str]) -> np.ndarray:
        return np.array([words.setdefault(text, len(words)) for text in texts], dtype=np.uint16)

    return {
        "value": triple([delta.value for delta in deltas]),
        "overlap": np.array([delta.overlap for delta in deltas], dtype=np.float32),
        "range": np.array([delta.range or (None, None) for delta in deltas], dtype=np.float32),
        "points": np.array([delta.points for delta in deltas], dtype=np.uint8),
        "reason": codes(delta.reason for delta in deltas), "note": codes(delta.note for delta in deltas),
    }  # fmt: skip


PAGE = PageType("bd", "BD-rate", _pages, _write)
