"""What a board comes to: its sections, their rows, and a cell for each entry under each metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import floor, log2
from typing import Literal, TypeAlias

from codecbench.leaderboard.board import Metric
from codecbench.leaderboard.scores import Counts
from codecbench.leaderboard.stats import Drawn, Estimate

BAND_START = 0.625
"""Bitrate bands are octaves from here, in kbps (all below is one): edges lie between usual operating points."""
Mean: TypeAlias = Literal["macro", "micro", "duration"]
MEANS: dict[Mean, str] = {
    "macro": "every dataset weighs the same, and in it every item (of error rates, every word)",
    "micro": "every item weighs the same (of error rates, every word), whichever dataset it is from",
    "duration": "every second weighs the same, whichever dataset it is from",
}
"""The three means of an entry, and what weighs the same in them. Ranks and intervals are of the first."""
ALL = "*"
"""The dataset of the section that averages over all datasets."""
TRACKS = ("official", "small", "classical", "control")


@dataclass(frozen=True)
class Cell:
    """One entry under one metric.

    Attributes:
        counts: Items by status.
        estimate: Mean over the items that are ok; over datasets, the mean of their means (macro).
        worst: The mean with failed items at the metric's floor (or, without one, at the worst value that any
            entry got on the dataset); None for a metric without a direction.
        micro: The mean over all items together; differs from the estimate only over several datasets.
        by_duration: The mean over all items together, each weighing its seconds; None where durations are unknown.
        beyond: Values worse than the metric's floor or better than its perfect value; none is clipped.
        unranked: Why it is not ranked; empty if it is.
        rank: Lowest and highest rank it may hold among its `rivals`; None if it is not ranked.
        rivals: Ranked entries of the same track and band, itself included.
    """

    counts: Counts
    estimate: Estimate | None
    worst: float | None
    micro: float | None
    beyond: int
    unranked: str
    rank: tuple[int, int] | None = None
    rivals: int = 0
    by_duration: float | None = None

    def mean(self, of: Mean) -> float | None:
        """One of the means that `MEANS` describes."""
        if of == "macro":
            return self.estimate.value if self.estimate else None
        return self.micro if of == "micro" else self.by_duration

    @property
    def leads(self) -> bool:
        """It may be the best of at least two rivals."""
        return self.rank is not None and self.rank[0] == 1 and self.rivals > 1


@dataclass(frozen=True)
class Row:
    """One entry in one section; `kbps` is measured, `properties` are facts about the corpus such as delay."""

    system: str
    point: str
    track: str
    kbps: Estimate | None
    unranked: str
    cells: Mapping[str, Cell]
    properties: Mapping[str, float]

    @property
    def band(self) -> str:
        """The bitrate band that it is ranked in, in kbps, such as ``5–10``; empty without a bitrate."""
        return band(self.kbps.value) if self.kbps else ""


@dataclass(frozen=True)
class Section:
    """The rows of one dataset or a part of it, or the mean over all datasets of recordings (`dataset` is ``*``).

    Rows are sorted by track, then bitrate. `drawn` is what the resamples of each metric draw. `task` is what language
    models were asked to do, empty for recordings that are coded; the mean over all datasets of a task, if there are
    several, has the `dataset` ``*`` and the task's name.
    """

    dataset: str
    title: str
    utterances: int
    drawn: Mapping[str, Drawn]
    rows: tuple[Row, ...]
    task: str = ""


@dataclass(frozen=True)
class Summary:
    """All sections, the metrics that have an item somewhere, and why systems without any row have none."""

    sections: tuple[Section, ...]
    metrics: Mapping[str, Metric]
    absent: Mapping[str, str]


def band(kbps: float) -> str:
    """The band of bitrates that `kbps` lies in, such as ``5–10``."""
    if kbps < BAND_START:
        return f"0–{BAND_START:g}"
    low = BAND_START * 2 ** floor(log2(kbps / BAND_START))
    return f"{low:g}–{2 * low:g}"
