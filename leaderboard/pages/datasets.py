"""The datasets: a list, and a page each with its card, scores, charts, properties and what failed on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from codecbench.leaderboard.board import Dataset
from codecbench.leaderboard.charts import MOST_CURVES
from codecbench.leaderboard.pages.base import (
    Page,
    PageType,
    Site,
    dataset_path,
    key,
    rows_path,
    system_path,
)
from codecbench.leaderboard.pages.models import task_anchor
from codecbench.leaderboard.pages.scores import properties, shown_metrics, table
from codecbench.leaderboard.summary import Section
from codecbench.leaderboard.text import failures, link, number

MOST_CHARTS = 6
"""Charts a dataset: of the first metrics that have a better end."""


def _pages(site: Site) -> Iterator[Page]:
    yield Page("datasets.html", "datasets.html", "Datasets", {"datasets": [_card(d) for d in _known(site)]})
    sections = {section.dataset: section for section in site.summary.sections}
    failed = failures(site.board)
    for dataset in _known(site):
        section = sections[dataset.name]
        found = [{"failure": f, "href": system_path(f.system)} for f in failed if f.dataset == dataset.name]
        yield Page(
            dataset_path(dataset.name),
            "dataset.html",
            dataset.title,
            {
                "dataset": _card(dataset),
                "table": table(site, section) if section.rows else None,
                "properties": properties(section.rows),
                "charts": _charts(site, section),
                "most_curves": MOST_CURVES,
                "failures": found,
            },
        )


def _known(site: Site) -> list[Dataset]:
    return list(site.board.datasets.values())


def _charts(site: Site, section: Section) -> list[dict[str, Any]]:
    if section.task:  # its entries have no bitrate
        return []
    directed = [m for m in shown_metrics(section, site.summary) if m.direction != "none"][:MOST_CHARTS]
    drawn = [(metric, site.chart(section, metric)) for metric in directed]
    return [{"name": metric.name, "title": metric.title, "svg": svg} for metric, svg in drawn if svg]


def _card(dataset: Dataset) -> dict[str, Any]:
    items = dataset.utterances
    return {
        "name": dataset.name, "title": dataset.title, "key": key(dataset.name), "licence": dataset.licence,
        "url": dataset.url, "link": link(dataset.url), "fingerprint": dataset.fingerprint, "note": dataset.note,
        "utterances": len(items), "hours": number(sum(u.duration for u in items) / 3600, 2),
        "minutes": number(sum(u.duration for u in items) / 60, 1) if any(u.duration for u in items) else "",
        "speakers": len({u.speaker for u in items} - {""}),
        "languages": _counted(u.language for u in items), "domains": _counted(u.domain for u in items),
        "href": dataset_path(dataset.name), "rows": rows_path(dataset.name), "task": dataset.task,
        "protocol": dataset.protocol, "anchor": task_anchor(dataset.task) if dataset.task else "",
    }  # fmt: skip


def _counted(values: Iterator[str] | Any) -> str:
    counts = Counter(value or "not given" for value in values)
    return ", ".join(f"{value} ({count})" for value, count in sorted(counts.items(), key=lambda kv: (-kv[1], kv[0])))


PAGE = PageType("datasets", "Datasets", _pages)
