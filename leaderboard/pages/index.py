"""The first page: all scores of codecs, to be searched, filtered and compared, and tables of language models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from codecbench.leaderboard.pages.base import Page, PageType, Site, entries_of
from codecbench.leaderboard.pages.explorer import explorer
from codecbench.leaderboard.pages.models import task_tables
from codecbench.leaderboard.pages.scores import shown_metrics, table
from codecbench.leaderboard.summary import ALL, TRACKS, Section

TRACK_NOTES = {
    "official": "weights as their authors published them",
    "small": "small models that anyone can train here",
    "classical": "signal-processing codecs",
    "control": "known degradations, which keep the metrics honest",
}


def _pages(site: Site) -> Iterator[Page]:
    sections = [section for section in site.codecs.sections if section.rows]
    first = next((s for s in sections if s.dataset == ALL), sections[0] if sections else None)
    yield Page(
        "index.html",
        "index.html",
        "Leaderboard",
        {
            "tracks": list(_tracks(site)),
            "tasks": task_tables(site),
            "table": table(site, first) if first else None,
            "explorer": explorer(site) if first else None,
            "chart": _chart(site, first) if first else None,
        },
    )


def _tracks(site: Site) -> Iterator[dict[str, Any]]:
    """The tracks that have entries, in their order."""
    coded = entries_of(site.codecs)
    counts = Counter(site.board.systems[system].track for system in dict.fromkeys(s for s, _ in coded))
    entries = Counter(site.board.systems[system].track for system, _ in coded)
    for track in (*(t for t in TRACKS if t in counts), *sorted(set(counts) - set(TRACKS))):
        yield {"name": track, "systems": counts[track], "entries": entries[track], "note": TRACK_NOTES.get(track, "")}


def _chart(site: Site, section: Section) -> dict[str, Any] | None:
    """The first metric over bitrate, which prints and needs no script."""
    for metric in shown_metrics(section, site.summary):
        if metric.direction != "none" and (svg := site.chart(section, metric)):
            return {"name": metric.name, "title": metric.title, "svg": svg}
    return None


PAGE = PageType("index", "Leaderboard", _pages)
