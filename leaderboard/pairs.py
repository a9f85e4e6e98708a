"""Every entry against every other: paired differences, intervals, p-values and win rates of one metric.

Two entries are compared on the items that both have a value for, and on nothing else. What an entry lacks is counted
beside the difference, and an entry that lacks an item is never called better, whatever the others say.

The p-value is that of approximate randomisation: if the two entries were alike, each cluster's outcomes could as well
be swapped between them. With few clusters all swaps are tried, with more 10 000 drawn ones (then counted with the
outcome itself among them). Sources: E. Noreen, "Computer-Intensive Methods for Testing Hypotheses" (1989);
B. Phipson and G. Smyth (2010) for the count; S. Holm (1979) for the adjustment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from codecbench.leaderboard import stats
from codecbench.leaderboard.aggregate import ALL, Row, Section
from codecbench.leaderboard.board import CORPUS, Board, Metric
from codecbench.leaderboard.scores import Entry, Items, Mask, Part, items_of, parts_of, worst_means
from codecbench.leaderboard.stats import Array, Clusters, Drawn, Estimate

if TYPE_CHECKING:
    import pandas as pd

SWAPS = 10_000
"""Swaps that are drawn where there are more than this many."""
ALPHA = 1 - stats.CONFIDENCE
BLOCK = 1000
"""Swaps that are worked on at a time, which bounds memory."""
ROUNDING = 1e-9
"""Differences below this share of the largest mean separate nothing."""

Unit: TypeAlias = Literal["speaker", "utterance"]
Counts: TypeAlias = NDArray[np.intp]
Signs: TypeAlias = NDArray[np.int8]


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
        if 2.0 ** (1 - count) > ALPHA:
            return f"{count} clusters: no p-value can be below {2.0 ** (1 - count):.3g}"
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
    parts = [part for name, d in board.datasets.items() if dataset in (name, ALL) for part in parts_of(d)]
    title = f"Mean over {len(parts)} datasets" if dataset == ALL else parts[0].title
    rows = board.results[(board.results["metric"] == metric.name) & (board.results["utterance"] != CORPUS)]
    return pairwise(metric, [_items(part, entries, rows) for part in parts], title)


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
    all_clusters = [_clusters(sample, by) for sample in used]
    signs, exact = _signs(all_clusters)
    blocks = [_block(*facts) for facts in zip(used, all_clusters, signs, strict=True)]
    entries = used[0].entries
    rows = [_row(metric, blocks, k, exact=exact) for k in range(len(entries))]
    grids = {name: np.stack([getattr(row, name) for row in rows]) for name in _Row._fields}
    worst = np.mean([worst_means(metric, s.values, s.weights, s.ok, s.failed) for s in used], axis=0)
    return Pairs(
        metric=metric,
        title=title,
        entries=entries,
        adjusted=_adjusted(grids["p"]),
        worst=worst[:, None] - worst[None, :],
        lacking=np.sum([(~s.ok[:, s.defined]).sum(axis=1) for s in used], axis=0),
        expected=sum(int(s.defined.sum()) for s in used),
        drawn=min((c.drawn for c in all_clusters), key=lambda drawn: drawn.count),
        swaps=len(signs[0]),
        exact=exact,
        **grids,
    )


def holm(p: Array) -> Array:
    """P-values ``[M]`` adjusted for all being looked at (Holm 1979); NaN stays NaN and is not counted."""
    adjusted = np.full_like(p, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


class _Block(NamedTuple):
    """The defined items of one dataset: values and weights ``[K, n]``, both 0 where there is no value.

    Entries of equal `pattern` have equal weights. For these, `draws` ``[RESAMPLES, K]`` and `swapped` ``[S, K]`` are
    what the pairs' resampled and swapped means are differences of; `signs` ``[S, G]`` say who is swapped.
    """

    values: Array
    weights: Array
    clusters: Clusters
    pattern: Counts
    means: Array
    draws: Array
    signs: Signs
    swapped: Array


class _Row(NamedTuple):
    """One entry against all K, ``[K]`` each."""

    difference: Array
    low: Array
    high: Array
    p: Array
    wins: Array
    items: Counts
    clusters: Counts


class _Paired(NamedTuple):
    """One entry against some others on one dataset: means ``[k]``, resampled ``[RESAMPLES, k]``, swapped ``[S, k]``."""

    difference: Array
    draws: Array
    swapped: Array


def _items(part: Part, entries: Sequence[Entry], rows: pd.DataFrame) -> Items:
    import pandas as pd

    rows = rows[rows["dataset"] == part.dataset]
    keys = pd.MultiIndex.from_arrays([rows["system"], rows["point"]])
    return items_of(part, entries, rows[keys.isin(list(entries))])


def _clusters(sample: Items, by: Unit) -> Clusters:
    kept = np.flatnonzero(sample.defined)
    speakers = tuple(sample.part.speakers[n] if by == "speaker" else "" for n in kept)
    return stats.cluster(tuple(sample.part.utterances[n] for n in kept), speakers)


def _signs(blocks: Sequence[Clusters]) -> tuple[list[Signs], bool]:
    """For each dataset who is swapped in each of S swaps, -1 or 1 ``[S, G]``; and whether these are all there are."""
    counts = [clusters.drawn.count for clusters in blocks]
    exact = 2 ** sum(counts) <= SWAPS
    if exact:
        bits = np.arange(2 ** sum(counts))[:, None] >> np.arange(sum(counts)) & 1
    else:
        generator = np.random.Generator(np.random.PCG64([clusters.seed for clusters in blocks]))
        bits = generator.integers(0, 2, size=(SWAPS, sum(counts)), dtype=np.int8)
    return np.split((2 * bits - 1).astype(np.int8), np.cumsum(counts)[:-1], axis=1), exact


def _block(sample: Items, clusters: Clusters, signs: Signs) -> _Block:
    ok = sample.ok[:, sample.defined]
    values = np.where(ok, sample.values[:, sample.defined], 0.0)
    weights = np.where(ok, sample.weights[:, sample.defined], 0.0)
    top, bottom = _sums(weights * values, clusters), weights.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return _Block(
            values=values,
            weights=weights,
            clusters=clusters,
            pattern=np.unique(weights, axis=0, return_inverse=True)[1].reshape(-1),
            means=top.sum(axis=1) / bottom,
            draws=stats.draw_means(values, weights, clusters),
            signs=signs,
            swapped=_swap(signs, top) / bottom,
        )


def _sums(items: Array, clusters: Clusters) -> Array:
    """``[K, n]`` items summed over each cluster: ``[K, G]``."""
    order = np.argsort(clusters.labels, kind="stable")
    starts = np.searchsorted(clusters.labels[order], np.arange(clusters.drawn.count))
    return np.add.reduceat(items[:, order], starts, axis=1)


def _swap(signs: Signs, sums: Array) -> Array:
    """``signs @ sums.T``, ``[S, K]``, some swaps at a time, as signs are small only until they are multiplied."""
    return np.concatenate(
        [signs[start : start + BLOCK].astype(np.float64) @ sums.T for start in range(0, len(signs), BLOCK)]
    )


def _row(metric: Metric, blocks: Sequence[_Block], a: int, *, exact: bool) -> _Row:
    """Entry `a` against all, itself included; over several datasets the mean, draw by draw."""
    paired = [_paired(block, a) for block in blocks]
    common = [(block.weights > 0) & (block.weights[a] > 0) for block in blocks]
    clusters = np.min([(_sums(c, b.clusters) > 0).sum(axis=1) for b, c in zip(blocks, common, strict=True)], axis=0)
    difference = np.mean([found.difference for found in paired], axis=0)
    draws = np.mean([found.draws for found in paired], axis=0)
    swapped = np.abs(np.mean([found.swapped for found in paired], axis=0))
    rounding = ROUNDING * max(float(np.nanmax(np.abs(block.means), initial=0.0)) for block in blocks)
    hits = (swapped >= np.abs(difference) - rounding).sum(axis=0)
    known = ~np.isnan(difference)
    low, high = _bounds(draws, np.where(known, clusters, 0))
    return _Row(
        difference=_rounded(difference, rounding),
        low=_rounded(low, rounding),
        high=_rounded(high, rounding),
        p=np.where(known, hits / len(swapped) if exact else (hits + 1) / (len(swapped) + 1), np.nan),
        wins=np.mean([_wins(metric, b, c, a) for b, c in zip(blocks, common, strict=True)], axis=0),
        items=np.sum([c.sum(axis=1) for c in common], axis=0),
        clusters=clusters,
    )


def _paired(block: _Block, a: int) -> _Paired:
    """Entry `a` against all on one dataset."""
    difference = block.means[a] - block.means
    draws = block.draws[:, [a]] - block.draws
    swapped = block.swapped[:, [a]] - block.swapped
    other = np.flatnonzero(block.pattern != block.pattern[a])
    if len(other):
        difference[other], draws[:, other], swapped[:, other] = _masked(block, a, other)
    return _Paired(difference, draws, swapped)


def _masked(block: _Block, a: int, other: Counts) -> _Paired:
    """Entry `a` against those that have other items or weights: sums over the common items, pair by pair."""
    common = (block.weights[other] > 0) & (block.weights[a] > 0)
    weights = [block.weights[[a]] * common, block.weights[other] * common]
    values = [block.values[[a]], block.values[other]]
    tops = [_sums(w * v, block.clusters) for w, v in zip(weights, values, strict=True)]
    bottoms = [_sums(w, block.clusters) for w in weights]
    counts = block.clusters.counts
    with np.errstate(invalid="ignore"):
        mine, others = (top.sum(axis=1) / bottom.sum(axis=1) for top, bottom in zip(tops, bottoms, strict=True))
        drawn = [(counts @ top.T) / (counts @ bottom.T) for top, bottom in zip(tops, bottoms, strict=True)]
        # Swapped, a cluster's sums count for the other entry: half of the total, and half of the signed difference.
        top, bottom = ((sums[0] + sums[1]).sum(axis=1) for sums in (tops, bottoms))
        top_swap, bottom_swap = (_swap(block.signs, sums[0] - sums[1]) for sums in (tops, bottoms))
        swapped = (top + top_swap) / (bottom + bottom_swap) - (top - top_swap) / (bottom - bottom_swap)
    return _Paired(mine - others, drawn[0] - drawn[1], swapped)


def _wins(metric: Metric, block: _Block, common: Mask, a: int) -> Array:
    """Share of the common items ``[K, n]`` on which entry `a` is better than each other; a tie counts half."""
    if metric.direction == "none":
        return np.full(len(common), np.nan)
    ahead = np.sign(block.values[a] - block.values) * (1 if metric.direction == "higher" else -1)
    with np.errstate(invalid="ignore"):
        return np.asarray(((1 + ahead) / 2 * common).sum(axis=1) / common.sum(axis=1))


def _bounds(draws: Array, clusters: Counts) -> tuple[Array, Array]:
    """95 % intervals of ``[RESAMPLES, K]`` draws over as many `clusters` ``[K]``; NaN where these are too few."""
    low, high = np.full(draws.shape[1], np.nan), np.full(draws.shape[1], np.nan)
    for count in np.unique(clusters[clusters >= stats.MIN_CLUSTERS]):
        columns = np.flatnonzero(clusters == count)
        tail = stats.tail(int(count))
        with np.errstate(invalid="ignore"):
            low[columns], high[columns] = np.quantile(draws[:, columns], [tail, 1 - tail], axis=0)
        for k in columns[np.isnan(low[columns])]:  # some resamples hold none of the common items
            bounds = stats.interval(draws[:, k], int(count))
            low[k], high[k] = (np.nan if bound is None else bound for bound in bounds)
    return low, high


def _rounded(values: Array, rounding: float) -> Array:
    return np.where(np.abs(values) <= rounding, 0.0, values)


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
