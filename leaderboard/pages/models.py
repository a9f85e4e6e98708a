"""Language models: a table for each task, which codecs are in no row of."""

from __future__ import annotations

from typing import Any

from codecbench.leaderboard.board import Dataset
from codecbench.leaderboard.pages.base import Site, dataset_path, slug
from codecbench.leaderboard.pages.scores import table
from codecbench.leaderboard.summary import ALL, Section


def task_sections(site: Site) -> dict[str, Section]:
    """The section that speaks for each task: the mean over its lists of requests, or its only list."""
    found: dict[str, Section] = {}
    for section in site.summary.sections:
        if section.task and section.rows and (section.task not in found or section.dataset == ALL + section.task):
            found[section.task] = section
    return dict(sorted(found.items()))


def task_anchor(task: str) -> str:
    """Where a task's table stands on the first page."""
    return f"task-{slug(task)}"


def task_tables(site: Site) -> list[dict[str, Any]]:
    """What the first page shows of each task."""
    return [
        {"task": task, "id": task_anchor(task), "table": table(site, section), "lists": _lists(site, task),
         "models": len({row.system for row in section.rows if site.board.systems[row.system].is_model})}
        for task, section in task_sections(site).items()
    ]  # fmt: skip


def _lists(site: Site, task: str) -> list[dict[str, str]]:
    def view(dataset: Dataset) -> dict[str, str]:
        return {"title": dataset.title, "href": dataset_path(dataset.name), "protocol": dataset.protocol}

    return [view(dataset) for dataset in site.board.datasets.values() if dataset.task == task]
