"""What a page type is made from: the site's content, and the pages and files that it adds."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from codecbench.leaderboard.aggregate import aggregate
from codecbench.leaderboard.board import Board, Metric
from codecbench.leaderboard.changelog import changes
from codecbench.leaderboard.charts import chart_svg
from codecbench.leaderboard.claims import Mismatch, mismatches
from codecbench.leaderboard.pages.audio import BUDGET, Audio, choose
from codecbench.leaderboard.scores import Entry, Split
from codecbench.leaderboard.summary import Section, Summary

PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}")
SPLITS: tuple[Split, ...] = ("language", "domain")


@dataclass(frozen=True, eq=False)
class Site:
    """What all pages share. `previous` holds earlier scores to compare with (see `changes`), or nothing."""

    board: Board
    summary: Summary
    previous: Sequence[Mapping[str, Any]] = ()
    audio_budget: float = BUDGET

    @cached_property
    def entries(self) -> list[Entry]:
        """Every system and point that has a row, in the order of the first section that lists it."""
        return entries_of(self.summary)

    @cached_property
    def codecs(self) -> Summary:
        """The sections of recordings that were coded, without those of language models' tasks."""
        sections = tuple(section for section in self.summary.sections if not section.task)
        used = {name for section in sections for row in section.rows for name in row.cells}
        metrics = {name: metric for name, metric in self.summary.metrics.items() if name in used}
        return replace(self.summary, sections=sections, metrics=metrics)

    @cached_property
    def claims(self) -> dict[Entry, list[Mismatch]]:
        """What each entry declares of itself and was measured to be otherwise, dataset by dataset."""
        found: dict[Entry, list[Mismatch]] = {}
        for section in self.summary.sections:
            for claim in mismatches(self.board, section):
                found.setdefault((claim.system, claim.point), []).append(claim)
        return found

    @cached_property
    def changes(self) -> list[dict[str, Any]]:
        """What happened to every score since the previous ones; nothing without these."""
        return changes(self.board, self.summary, self.previous) if self.previous else []

    @cached_property
    def audio(self) -> Audio:
        """The recordings that the site takes along."""
        return choose(self.board.kept, self.entries, self.audio_budget)

    @cached_property
    def _charts(self) -> dict[tuple[str, str], str | None]:
        return {}

    def chart(self, section: Section, metric: Metric) -> str | None:
        """The metric over bitrate as SVG, drawn once; None if there is nothing to draw."""
        drawn = (section.dataset, metric.name)
        if drawn not in self._charts:
            self._charts[drawn] = chart_svg(section, metric)
        return self._charts[drawn]

    @cached_property
    def splits(self) -> dict[Split, Summary]:
        """The scores by language and by domain, where a dataset has several of them."""
        return {
            by: aggregate(self.board, by)
            for by in SPLITS
            if any(len({getattr(u, by) for u in d.utterances}) > 1 for d in self.board.datasets.values())
        }


@dataclass(frozen=True)
class Page:
    """One page: its path in the site, its template and what fills it.

    `scripts` are paths in the site, run in this order before ``app.js``; `heading` is its title.
    """

    path: str
    template: str
    heading: str
    values: Mapping[str, Any] = field(default_factory=dict)
    scripts: tuple[str, ...] = ()


def _nothing(site: Site, out: Path) -> Iterable[str]:  # noqa: ARG001 - the interface of all writers
    return ()


@dataclass(frozen=True)
class PageType:
    """A kind of page.

    Attributes:
        name: Its name, and the ``data-page`` of its pages' body.
        nav: Its title in the navigation, which leads to its first page; empty for none.
        pages: Makes the pages.
        write: Writes files beside the pages into the site's folder and gives their paths there, or nothing.
        assets: Files of ``assets/`` that its pages need beyond ``app.js`` and ``style.css``.
    """

    name: str
    nav: str
    pages: Callable[[Site], Iterable[Page]]
    write: Callable[[Site, Path], Iterable[str]] = _nothing
    assets: tuple[str, ...] = ()


def entries_of(summary: Summary) -> list[Entry]:
    """Every system and point that has a row, in the order of the first section that lists it."""
    return list(dict.fromkeys((row.system, row.point) for section in summary.sections for row in section.rows))


def slug(name: str) -> str:
    """A file name for any text: readable where the text is, the same on every file system, and never shared."""
    readable = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:32].strip("-")
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{readable}-{digest}" if readable else digest


def key(name: str) -> str:
    """A name as the address of a view says it: itself if it is plain, else its slug."""
    return name if PLAIN.fullmatch(name) else slug(name)


def entry_key(system: str, point: str) -> str:
    """An entry as the address of a view says it."""
    return f"{key(system)}~{key(point)}"


def dataset_path(name: str) -> str:
    """The page of a dataset."""
    return f"dataset/{slug(name)}.html"


def system_path(name: str) -> str:
    """The page of a system."""
    return f"system/{slug(name)}.html"


def rows_path(dataset: str) -> str:
    """The page that lists every utterance of every entry on a dataset."""
    return f"rows/{slug(dataset)}.html"


def utterance_path(dataset: str) -> str:
    """The page that shows one utterance of a dataset, named in its address after ``#u=``."""
    return f"utterance/{slug(dataset)}.html"
