"""Every entry against every other of its bitrate band, under one metric on one dataset: a matrix of differences.

Language models have no bitrate: all that were asked the same list of requests stand in one matrix.

The page loads one metric on one dataset at a time, ``pairs/<dataset>-<n>.js``. Matrices grow with the square of their
entries and are read by nobody when large: of more than `MOST_ENTRIES` in a band those with the best means are compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codecbench.leaderboard.board import Metric
from codecbench.leaderboard.pages.base import Page, PageType, Site, entry_key, rows_path, slug, system_path
from codecbench.leaderboard.pages.curves import first_section, section_id, section_view, write_shard
from codecbench.leaderboard.pages.scores import digits_of, metric_view, shown_metrics
from codecbench.leaderboard.pairs import Pairs, pairwise
from codecbench.leaderboard.scores import Entry, Items, items_of, parts_of
from codecbench.leaderboard.summary import Row, Section
from codecbench.leaderboard.text import UNITS, clean

MOST_ENTRIES = 24
"""In one matrix."""
ALL_ENTRIES = "all entries"
BETTER = ("", "first", "second")


def _pages(site: Site) -> Iterator[Page]:
    sections = [
        {**section_view(section, ""), "metrics": metrics}
        for section in sections_of(site)
        if (metrics := [{**metric_view(m), "file": _path(section, k)} for k, m in enumerate(compared(site, section))])
    ]
    first = section_id(codecs) if (codecs := first_section(site)) else sections[0]["id"] if sections else ""
    named = {band_of(section, row) for section in sections_of(site) for row in section.rows}
    meta = {"sections": sections, "first": first, "most": MOST_ENTRIES, "bands": sorted(named - {""})}
    yield Page("pairs.html", "pairs.html", "Pairs", {"meta": meta})


def sections_of(site: Site) -> list[Section]:
    """Those of codecs, and of each list of requests: the mean over several lists has no utterances to lead to."""
    return [s for s in site.summary.sections if not s.task or s.dataset in site.board.datasets]


def band_of(section: Section, row: Row) -> str:
    """What an entry is compared within; empty if it is not."""
    return ALL_ENTRIES if section.task else row.band if row.kbps else ""


def compared(site: Site, section: Section) -> list[Metric]:
    """The metrics of a section that have a better end, and two entries of one band to compare."""
    return [m for m in shown_metrics(section, site.summary) if m.direction != "none" and bands(section, m)]


def bands(section: Section, metric: Metric) -> dict[str, tuple[list[Row], int]]:
    """The rows of each bitrate band by bitrate, and how many are left out; a band of one row is not listed."""
    found: dict[str, list[Row]] = {}
    for row in section.rows:
        if (band := band_of(section, row)) and metric.name in row.cells:
            found.setdefault(band, []).append(row)
    order = sorted(found, key=lambda band: min(map(_by_bitrate, found[band])))
    kept = {band: sorted(_best(found[band], metric), key=_by_bitrate) for band in order if len(found[band]) > 1}
    return {band: (rows, len(found[band]) - len(rows)) for band, rows in kept.items()}


def _best(rows: Sequence[Row], metric: Metric) -> list[Row]:
    def worse(row: Row) -> tuple[bool, float]:
        cell = row.cells[metric.name]
        sign = 1 if metric.direction == "lower" else -1
        return bool(cell.unranked), sign * cell.estimate.value if cell.estimate else np.inf

    return sorted(rows, key=worse)[:MOST_ENTRIES]


def _by_bitrate(row: Row) -> tuple[float, str, str]:
    return row.kbps.value if row.kbps else 0.0, row.system, row.point


def _path(section: Section, metric: int) -> str:
    return f"pairs/{slug(section.dataset)}-{metric}.js"


def _write(site: Site, out: Path) -> Iterator[str]:
    for section in sections_of(site):
        for k, metric in enumerate(compared(site, section)):
            yield write_shard(out, _path(section, k), _columns(site, section, metric))


def _columns(site: Site, section: Section, metric: Metric) -> dict[str, Any]:
    """The matrices of all bands; of each pair once, row by row of the upper triangle."""
    found = bands(section, metric)
    rows = [row for own, _ in found.values() for row in own]
    entries: list[Entry] = [(row.system, row.point) for row in rows]
    parts = [part for dataset in site.board.datasets_of(section.dataset) for part in parts_of(dataset)]
    samples = [items_of(part, entries, site.board.items(part.dataset, metric.name)) for part in parts]
    columns: dict[str, Any] = {}
    listed, start = [], 0
    for k, (band, (own, left_out)) in enumerate(found.items()):
        chosen = slice(start, start + len(own))
        pairs = pairwise(metric, [_some(sample, chosen) for sample in samples], clean(section.title))
        columns |= {f"{k}.{name}": column for name, column in pair_columns(pairs).items()}
        title = band if section.task else f"{band} kbps"
        place = {"start": start, "size": len(own), "left": left_out}
        listed.append({"band": band, "title": title, **place, **_facts(pairs)})
        start += len(own)
    digits = digits_of(section, [metric])[metric.name]
    single = section.dataset in site.board.datasets
    meta = {
        "bands": listed, "digits": digits, "rows": rows_path(section.dataset) if single else "",
        "entries": [{"key": entry_key(*e), "system": clean(e[0]), "point": clean(e[1]), "href": system_path(e[0]),
                     "track": clean(row.track), "unranked": clean(row.cells[metric.name].unranked)[:200],
                     "kbps": round(row.kbps.value, 3) if row.kbps else None}
                    for e, row in zip(entries, rows, strict=True)],
    }  # fmt: skip
    return {"meta": meta, **columns}


def _some(items: Items, entries: slice) -> Items:
    return Items(items.part, items.entries[entries], items.ran[entries], items.status[entries], items.values[entries],
                 items.weights[entries])  # fmt: skip


def _facts(pairs: Pairs) -> dict[str, Any]:
    unit = UNITS[pairs.drawn.unit].removesuffix("s" if pairs.drawn.count == 1 else "")
    return {"warning": pairs.warning, "drawn": f"{pairs.drawn.count} {unit}", "expected": pairs.expected,
            "swaps": pairs.swaps, "exact": bool(pairs.exact)}  # fmt: skip


def pair_columns(pairs: Pairs) -> dict[str, np.ndarray]:
    """Columns of the pairs (i, j), i < j, in the order of ``numpy.triu_indices``: entry i minus entry j."""
    upper = np.triu_indices(len(pairs.entries), 1)
    better = np.where(pairs.better, 1, np.where(pairs.better.T, 2, 0))
    return {
        **{name: getattr(pairs, name)[upper].astype(np.float32)
           for name in ("difference", "low", "high", "p", "adjusted", "wins")},
        **{name: getattr(pairs, name)[upper].astype(np.uint32) for name in ("items", "clusters")},
        "better": better[upper].astype(np.uint8), "lacking": pairs.lacking.astype(np.uint32),
    }  # fmt: skip


PAGE = PageType("pairs", "Pairs", _pages, _write)
