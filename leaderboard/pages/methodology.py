"""How the numbers come about: what is measured, how failures are counted, how to read ranks, and how to cite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from codecbench.leaderboard.pages.base import Page, PageType, Site, dataset_path, system_path
from codecbench.leaderboard.pages.scores import metric_view
from codecbench.leaderboard.stats import CONFIDENCE, FEW_CLUSTERS, MIN_CLUSTERS, RESAMPLES
from codecbench.leaderboard.text import failures


def _pages(site: Site) -> Iterator[Page]:
    yield Page(
        "methodology.html",
        "methodology.html",
        "Methodology",
        {
            "metrics": [metric_view(metric) for metric in site.summary.metrics.values()],
            "failures": [
                {"failure": f, "system": system_path(f.system), "dataset": dataset_path(f.dataset)}
                for f in failures(site.board)
            ],
            "runs": [
                {"name": r.name, "created": r.created, "finished": r.finished, "command": r.command,
                 "environment": _environment(r.environment)}
                for r in site.board.runs
            ],
            "resamples": RESAMPLES, "confidence": f"{100 * CONFIDENCE:g}", "fewest": MIN_CLUSTERS, "few": FEW_CLUSTERS,
            "year": max((r.created[:4] for r in site.board.runs), default=""),
        },
    )  # fmt: skip


def _environment(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The environment as pairs; a nested table becomes one line."""
    return [
        (str(name), ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, Mapping) else str(value))
        for name, value in facts.items()
        if value not in ("", None)
    ]


PAGE = PageType("methodology", "Methodology", _pages)
