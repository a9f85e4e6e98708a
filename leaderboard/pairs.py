"""Every entry against every other: paired differences, intervals, p-values and win rates of one metric.

Two entries are compared on the items that both have a value for, and on nothing else. What an entry lacks is counted
beside the difference, and an entry that lacks an item is never called better, whatever the others say.

P-values are those of `codecbench.leaderboard.paired`, adjusted for the number of pairs in the matrix by the method of
S. Holm, "A Simple Sequentially Rejective Multiple Test Procedure" (1979).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from codecbench.leaderboard import paired, stats
from codecbench.leaderboard.board import Board, Metric
from codecbench.leaderboard.paired import Counts, Unit
from codecbench.leaderboard.scores import Entry, Items, Mask, items_of, parts_of, worst_means
from codecbench.leaderboard.stats import Array, Drawn, Estimate
from codecbench.leaderboard.summary import ALL, Row, Section

ALPHA = 1 - stats.CONFIDENCE


@dataclass(frozen=True)
class Comparison:
    """One entry against another.

    Attributes:
        first: The entry from which is subtracted.
        second: The entry that is subtracted.
        difference: Mean of the first minus mean of the second over their common items, in the metric's unit; None
            without a common item (on every dataset, over several).
        p: Two-sided; None without a common item.
        adjusted: The same, by Holm's method over all pairs of the matrix.
        wins: Share of common items on which the first is better, a tie counting half; None without a better end.
        items: How many items both have.
        clusters: How many clusters these come from; over several datasets, the fewest of any.
        lacking: Defined items that the first and the second have no value for.
        worst: Difference of the worst-case scores (failed items at the metric's floor); None without a better end.
        better: Which is certainly better: the interval leaves out 0, and it has a value on every defined item.
    """

    first: Entry
    second: Entry
    difference: Estimate | None
    p: float | None
    adjusted: float | None
    wins: float | None
    items: int
    clusters: int
    lacking: tuple[int, int]
    worst: float | None
    better: Literal["first", "second", ""]


@dataclass(frozen=True, eq=False)
class Pairs:
    """All pairs of K entries under one metric, as arrays ``[K, K]``: row minus column, NaN where there is none.

    `lacking` ``[K]`` is how many of the `expected` items each entry has no value for. `drawn` is what is resampled and
    swapped; `swaps` how many swaps the p-values come from, all there are if `exact`. See `Comparison` for the rest.
    """

    metric: Metric
    title: str
    entries: tuple[Entry, ...]
    difference: Array
    low: Array
    high: Array
    p: Array
    adjusted: Array
    wins: Array
    worst: Array
    items: Counts
    clusters: Counts
    lacking: Counts
    expected: int
    drawn: Drawn
    swaps: int
    exact: bool

    @property
    def better(self) -> Mask:
        """``[K, K]``: the row's entry is certainly better than the column's."""
        if self.metric.direction == "none":
            return np.zeros_like(self.items, dtype=np.bool_)
        ahead = self.low > 0 if self.metric.direction == "higher" else self.high < 0
        return np.asarray(ahead & (self.lacking == 0)[:, None])

    @property
    def warning(self) -> str:
        """What to read with the numbers; empty if there is nothing."""
        count = self.drawn.count
        if count < stats.MIN_CLUSTERS:
            return f"no interval from fewer than {stats.MIN_CLUSTERS} clusters, there are {count}"
        if self.exact and 2 / self.swaps > ALPHA:
            return f"{count} clusters: no p-value can be below {2 / self.swaps:.3g}"
        return f"fewer than {stats.FEW_CLUSTERS} clusters: read with care" if count < stats.FEW_CLUSTERS else ""

    def pair(self, first: Entry, second: Entry) -> Comparison:
        """One entry against another; ValueError if either is not among the entries."""
        a, b = self.entries.index(first), self.entries.index(second)
        better = self.better
        none = np.isnan(self.difference[a, b])
        bounds = _known(self.low[a, b]), _known(self.high[a, b])
        return Comparison(
            first=first,
            second=second,
            difference=None if none else Estimate(float(self.difference[a, b]), *bounds),
            p=_known(self.p[a, b]),
            adjusted=_known(self.adjusted[a, b]),
            wins=_known(self.wins[a, b]),
            items=int(self.items[a, b]),
            clusters=int(self.clusters[a, b]),
            lacking=(int(self.lacking[a]), int(self.lacking[b])),
            worst=_known(self.worst[a, b]),
            better="first" if better[a, b] else "second" if better[b, a] else "",
        )


def compare_entries(board: Board, metric: Metric, dataset: str, entries: Sequence[Entry]) -> Pairs:
    """All pairs of `entries` on a dataset, or over all datasets (``*``): the mean of the differences on each."""
    parts = [part for found in board.datasets_of(dataset) for part in parts_of(found)]
    title = f"Mean over {len(parts)} datasets" if dataset == ALL else parts[0].title
    samples = [items_of(part, entries, board.items(part.dataset, metric.name)) for part in parts]
    return pairwise(metric, samples, title)


def compare_bands(board: Board, section: Section, metric: Metric) -> dict[str, Pairs]:
    """For each bitrate band of a section of whole datasets, in order: all pairs of the entries in it.

    Controls and other entries that are not ranked are compared as well; a band of one entry is left out.
    """
    bands: dict[str, list[Entry]] = {}
    for row in sorted((row for row in section.rows if row.kbps and metric.name in row.cells), key=_by_bitrate):
        bands.setdefault(row.band, []).append((row.system, row.point))
    return {
        band: compare_entries(board, metric, section.dataset, entries)
        for band, entries in bands.items()
        if len(entries) > 1
    }


def pairwise(metric: Metric, samples: Sequence[Items], title: str = "", by: Unit = "speaker") -> Pairs:
    """All pairs of the entries of `samples`, one sample a dataset; over several, the mean of the differences on each.

    Args:
        metric: Whose values these are.
        samples: The items, of the same entries in the same order.
        title: What the samples are called together.
        by: What is resampled and swapped: speakers (utterances where fewer than five are known), or utterances, so
            that intervals and p-values hold for these speakers only.
    """
    used = [sample for sample in samples if sample.defined.any()] or list(samples)
    found = paired.compare(metric, used, by)
    worst = np.mean([worst_means(metric, s.values, s.weights, s.ok, s.failed) for s in used], axis=0)
    return Pairs(
        metric=metric,
        title=title,
        entries=used[0].entries,
        adjusted=_adjusted(found.p),
        worst=worst[:, None] - worst[None, :],
        lacking=np.sum([(~s.ok[:, s.defined]).sum(axis=1) for s in used], axis=0),
        expected=sum(int(s.defined.sum()) for s in used),
        **vars(found),
    )


def holm(p: Array) -> Array:
    """P-values ``[M]`` adjusted for all being looked at (Holm 1979); NaN stays NaN and is not counted."""
    adjusted = np.full_like(p, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def _adjusted(p: Array) -> Array:
    """Holm over the pairs of a symmetric matrix, each counted once; an entry against itself is not tested."""
    upper = np.triu_indices(len(p), 1)
    adjusted = np.full_like(p, np.nan)
    adjusted[upper] = holm(p[upper])
    adjusted.T[upper] = adjusted[upper]
    return adjusted


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _by_bitrate(row: Row) -> float:
    return row.kbps.value if row.kbps else 0.0
