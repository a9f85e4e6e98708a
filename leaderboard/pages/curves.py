"""Any score over any cost as a curve a system, with intervals and the front of each track.

The page loads the numbers of one dataset at a time, ``curves/<dataset>.js``. Tracks are ranked apart, so each has a
front of its own. Without a script there is the first dataset's first chart.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from codecbench.leaderboard.board import Metric
from codecbench.leaderboard.charts import MOST_CURVES
from codecbench.leaderboard.pages.base import Page, PageType, Site, entry_key, key, rows_path, slug, system_path
from codecbench.leaderboard.pages.encode import shard
from codecbench.leaderboard.pages.scores import digits_of, metric_view, sentence, shown_metrics
from codecbench.leaderboard.rate_distortion import AXES, Axis, Front, costs, fronts
from codecbench.leaderboard.scores import Entry
from codecbench.leaderboard.stats import Estimate
from codecbench.leaderboard.summary import ALL, TRACKS, Section
from codecbench.leaderboard.text import ARROWS, clean, interval_note

CHARTS = ("plot.js", "plot.LICENCE.txt", "charts.css", "views.js", "charts.js", "curves.js", "matrices.js")
MOST_IN_FRONT = 400
"""Entries of a track that are compared each with each; a larger track has no front, and the page says so."""
FRONTS: tuple[Front, ...] = ("", "off", "tied", "on")
"""The codes of the columns ``front.<axis>.<metric>``."""


def _pages(site: Site) -> Iterator[Page]:
    sections = [section for section in site.codecs.sections if section.rows]
    first = first_section(site)
    systems = sorted({row.system for section in sections for row in section.rows}, key=lambda n: (n.casefold(), n))
    tracks = {site.board.systems[name].track for name in systems}
    meta = {
        "sections": [section_view(section, _path(section)) for section in sections],
        "first": section_id(first) if first else "",
        "axes": [{"key": axis.name, "title": f"{axis.title} ({axis.unit})" if axis.unit else axis.title}
                 for axis in AXES.values()],
        "metrics": [{"key": m.name, "title": f"{clean(m.title)[:100]} {ARROWS[m.direction]}".strip(),
                     "directed": m.direction != "none"} for m in site.codecs.metrics.values()],
        "systems": [{"key": key(name), "title": clean(name)[:100]} for name in systems],
        "tracks": [clean(t) for t in (*(t for t in TRACKS if t in tracks), *sorted(tracks - set(TRACKS)))],
        "most": MOST_CURVES,
    }  # fmt: skip
    static = _static(site, first) if first else None
    scripts = ("assets/plot.js",) if sections else ()
    yield Page("curves.html", "curves.html", "Curves", {"meta": meta, "static": static}, scripts)


def _write(site: Site, out: Path) -> Iterator[str]:
    for section in site.codecs.sections:
        if section.rows:
            yield write_shard(out, _path(section), _columns(site, section))


def _path(section: Section) -> str:
    return f"curves/{slug(section.dataset)}.js"


def first_section(site: Site) -> Section | None:
    """What is shown before anything is chosen: the mean over datasets, or the first dataset with a row."""
    sections = [section for section in site.codecs.sections if section.rows]
    return next((s for s in sections if s.dataset == ALL), sections[0] if sections else None)


def section_id(section: Section) -> str:
    """A section as the address of a view says it."""
    return ALL if section.dataset == ALL else key(section.dataset)


def section_view(section: Section, file: str) -> dict[str, Any]:
    """What a page says of a section before its numbers are loaded from `file`."""
    return {"id": section_id(section), "title": clean(section.title)[:200], "file": file}


def write_shard(out: Path, path: str, columns: dict[str, Any]) -> str:
    """Write columns as a script into the site, and give its path there."""
    (out / path).parent.mkdir(exist_ok=True)
    (out / path).write_text(shard(path, columns), encoding="utf-8", newline="\n")
    return path


def places_of(site: Site) -> dict[str, int]:
    """A number for each system that is no control, which gives it the same colour and symbol in all charts."""
    names = sorted(name for name, system in site.board.systems.items() if system.track != "control")
    return {name: k for k, name in enumerate(names)}


def triple(found: list[Estimate | None]) -> np.ndarray:
    """Values, lower and upper ends ``[3, N]``, NaN where there is none."""
    rows = [(e.value, e.low, e.high) if e else (None, None, None) for e in found]
    return np.array(rows, dtype=np.float32).reshape(-1, 3).T


def _static(site: Site, section: Section) -> dict[str, Any] | None:
    for metric in shown_metrics(section, site.codecs):
        if metric.direction != "none" and (svg := site.chart(section, metric)):
            return {"title": metric.title, "svg": svg, "section": section.title}
    return None


def _columns(site: Site, section: Section) -> dict[str, Any]:
    """One dataset: the costs and scores of each entry, and where the fronts are."""
    metrics = shown_metrics(section, site.codecs)
    digits = digits_of(section, metrics)
    cost = {axis.name: costs(site.codecs, section, axis) for axis in AXES.values()}
    axes = [axis for axis in AXES.values() if cost[axis.name]]
    entries: list[Entry] = [(row.system, row.point) for row in section.rows]
    systems = list(dict.fromkeys(row.system for row in section.rows))
    places, single = places_of(site), section.dataset in site.board.datasets
    why: dict[str, int] = {"": 0}
    columns: dict[str, Any] = {
        "system": np.array([systems.index(name) for name, _ in entries], dtype=np.uint16),
        **{f"x.{axis.name}": triple([cost[axis.name].get(entry) for entry in entries]) for axis in axes},
    }
    for metric in metrics:
        cells = [row.cells.get(metric.name) for row in section.rows]
        columns[f"y.{metric.name}"] = triple([cell.estimate if cell else None for cell in cells])
        columns[f"ok.{metric.name}"] = np.array([c.counts.ok if c else 0 for c in cells], dtype=np.uint32)
        columns[f"n.{metric.name}"] = np.array([c.counts.expected if c else 0 for c in cells], dtype=np.uint32)
        codes = [why.setdefault(c.unranked if c else "not run", len(why)) for c in cells]
        columns[f"why.{metric.name}"] = np.array(codes, dtype=np.uint16)
        columns |= _fronts(site, section, metric, {axis.name: cost[axis.name] for axis in axes if axis.lower_is_better})
    meta = {
        "note": sentence(interval_note(section)), "utterances": section.utterances,
        "rows": rows_path(section.dataset) if single else "",
        "entries": [{"key": entry_key(*entry), "point": clean(entry[1])} for entry in entries],
        "systems": [{"key": key(name), "name": clean(name), "track": clean(site.board.systems[name].track),
                     "family": clean(site.board.systems[name].facts.get("family", "")),
                     "href": system_path(name), "place": places.get(name, -1)} for name in systems],
        "axes": [_axis_view(axis) for axis in axes],
        "metrics": [{**metric_view(m), "digits": digits[m.name]} for m in metrics],
        "why": [clean(reason)[:300] for reason in why], "frontless": [
            clean(t) for t in _tracks(section) if sum(row.track == t for row in section.rows) > MOST_IN_FRONT],
    }  # fmt: skip
    return {"meta": meta, **columns}


def _axis_view(axis: Axis) -> dict[str, Any]:
    return {"name": axis.name, "title": axis.title, "unit": axis.unit, "log": axis.log, "lower": axis.lower_is_better}


def _tracks(section: Section) -> list[str]:
    return list(dict.fromkeys(row.track for row in section.rows))


def _fronts(
    site: Site, section: Section, metric: Metric, cost: dict[str, dict[Entry, Estimate]]
) -> dict[str, np.ndarray]:
    """The front over each axis, a code of `FRONTS` an entry; an entry is only compared with those of its track."""
    entries = [(row.system, row.point) for row in section.rows]
    own = {track: {(r.system, r.point) for r in section.rows if r.track == track} for track in _tracks(section)}
    tracks = [track for track in own if len(own[track]) <= MOST_IN_FRONT]
    wanted = [{e: x for e, x in cost[axis].items() if e in own[track]} for axis in cost for track in tracks]
    found = iter(fronts(site.board, section, metric, wanted))
    columns = {}
    for axis in cost:
        places = {entry: place for _ in tracks for entry, place in next(found).items()}
        codes = [FRONTS.index(places.get(entry, "")) for entry in entries]
        columns[f"front.{axis}.{metric.name}"] = np.array(codes, dtype=np.uint8)
    return columns


PAGE = PageType("curves", "Curves", _pages, _write, assets=CHARTS)
