"""Whether metrics agree: rank correlations, and entries that one metric places unlike all others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from codecbench.leaderboard.agreement import FAR, MIN_ENTRIES, MIN_METRICS, agreement, outliers
from codecbench.leaderboard.pages.base import Page, PageType, Site, dataset_path, system_path
from codecbench.leaderboard.pages.scores import MINUS, metric_view, shown_metrics
from codecbench.leaderboard.summary import Section
from codecbench.leaderboard.text import number


def _pages(site: Site) -> Iterator[Page]:
    sections = [_view(site, section) for section in site.codecs.sections if section.rows]
    facts = {"far": f"{FAR:g}", "fewest": MIN_ENTRIES, "metrics": MIN_METRICS}
    yield Page("agreement.html", "agreement.html", "Agreement of metrics", {"sections": sections, **facts})


def _view(site: Site, section: Section) -> dict[str, Any]:
    known = {m.name: m for m in shown_metrics(section, site.codecs)}
    found = agreement(section, known)
    single = section.dataset in site.board.datasets
    views = {name: metric_view(known[name]) for name in found.metrics}
    return {
        "title": section.title, "href": dataset_path(section.dataset) if single else "",
        "metrics": list(views.values()),
        "rows": [{"metric": views[name], "cells": [_cell(found.correlation[a, b], int(found.entries[a, b]), a == b)
                                                   for b in range(len(views))]}
                 for a, name in enumerate(found.metrics)],
        "outliers": [{"system": o.system, "point": o.point, "href": system_path(o.system), "metric": o.metric,
                      "z": _signed(o.z), "median": _signed(o.median)}
                     for o in outliers(section, known)],
    }  # fmt: skip


def _cell(rho: float, entries: int, itself: bool) -> dict[str, Any]:
    if np.isnan(rho):
        return {"text": "–", "n": entries, "level": "none"}
    strength = abs(rho)
    level = "itself" if itself else "high" if strength >= 0.9 else "some" if strength >= 0.6 else "low"
    return {"text": _signed(rho), "n": entries, "level": level}


def _signed(value: float) -> str:
    return number(value, 2).translate(MINUS)


PAGE = PageType("agreement", "Agreement", _pages)
