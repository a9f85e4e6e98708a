"""Paired comparisons as arrays: each of K entries against each other, on the items that both have.

The p-value is that of approximate randomisation: if two entries were alike, each cluster's outcomes could as well be
swapped between them. With few clusters all swaps are tried, with more 10 000 drawn ones (then counted with the outcome
itself among them). Sources: E. Noreen, "Computer-Intensive Methods for Testing Hypotheses" (1989); B. Phipson and
G. Smyth, "Permutation P-values Should Never Be Zero" (2010).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from codecbench.leaderboard import stats
from codecbench.leaderboard.board import Metric
from codecbench.leaderboard.scores import Items, Mask
from codecbench.leaderboard.stats import Array, Clusters, Drawn

SWAPS = 10_000
"""Swaps that are drawn where there are more than this many."""
BLOCK = 1000
"""Swaps that are worked on at a time, which bounds memory."""
ROUNDING = 1e-9
"""Differences below this share of the largest mean separate nothing."""

Unit: TypeAlias = Literal["speaker", "utterance"]
Counts: TypeAlias = NDArray[np.intp]
Signs: TypeAlias = NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Paired:
    """Every entry (row) against every other (column), ``[K, K]``; see `codecbench.leaderboard.pairs.Comparison`."""

    difference: Array
    low: Array
    high: Array
    p: Array
    wins: Array
    items: Counts
    clusters: Counts
    drawn: Drawn
    swaps: int
    exact: bool


def compare(metric: Metric, samples: Sequence[Items], by: Unit = "speaker") -> Paired:
    """All pairs of the entries of `samples`, one a dataset; over several, the mean of the differences on each."""
    clusters = [_clusters(sample, by) for sample in samples]
    signs, exact = _signs(clusters)
    blocks = [_block(*facts) for facts in zip(samples, clusters, signs, strict=True)]
    return Paired(
        **_mirrored([_row(metric, blocks, k, exact=exact) for k in range(len(samples[0].entries))]),
        drawn=min((c.drawn for c in clusters), key=lambda drawn: drawn.count),
        swaps=len(signs[0]),
        exact=exact,
    )


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
    """One entry against itself and those behind it, ``[k]`` each."""

    difference: Array
    low: Array
    high: Array
    p: Array
    wins: Array
    items: Counts
    clusters: Counts


class _Against(NamedTuple):
    """One entry against k others on one dataset: ``[k]``, in each resample ``[RESAMPLES, k]`` and swap ``[S, k]``."""

    difference: Array
    draws: Array
    swapped: Array


def _clusters(sample: Items, by: Unit) -> Clusters:
    kept = np.flatnonzero(_defined(sample))
    speakers = tuple(sample.part.speakers[n] if by == "speaker" else "" for n in kept)
    return stats.cluster(tuple(sample.part.utterances[n] for n in kept), speakers)


def _defined(sample: Items) -> Mask:
    """The utterances that count ``[N]``: those on which the metric is defined; all, if it is on none."""
    return sample.defined if sample.defined.any() else np.ones_like(sample.defined)


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
    kept = _defined(sample)
    ok = sample.ok[:, kept]
    values = np.where(ok, sample.values[:, kept], 0.0)
    weights = np.where(ok, sample.weights[:, kept], 0.0)
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
    """Entry `a` against itself and those behind it; over several datasets the mean, draw by draw."""
    paired = [_against(block, a) for block in blocks]
    common = [(block.weights[a:] > 0) & (block.weights[a] > 0) for block in blocks]
    clusters = np.min([(_sums(c, b.clusters) > 0).sum(axis=1) for b, c in zip(blocks, common, strict=True)], axis=0)
    difference, draws, swapped = (_average(grids) for grids in zip(*paired, strict=True))
    rounding = ROUNDING * max(float(np.nanmax(np.abs(block.means), initial=0.0)) for block in blocks)
    hits = (np.abs(swapped, out=swapped) >= np.abs(difference) - rounding).sum(axis=0)
    known = ~np.isnan(difference)
    low, high = _bounds(draws, np.where(known, clusters, 0))
    return _Row(
        difference=_rounded(difference, rounding),
        low=_rounded(low, rounding),
        high=_rounded(high, rounding),
        p=np.where(known, hits / len(swapped) if exact else (hits + 1) / (len(swapped) + 1), np.nan),
        wins=_average([_wins(metric, b, c, a) for b, c in zip(blocks, common, strict=True)]),
        items=np.sum([c.sum(axis=1) for c in common], axis=0),
        clusters=clusters,
    )


def _mirrored(rows: Sequence[_Row]) -> dict[str, Any]:
    """The matrices ``[K, K]`` of all rows: below the diagonal stands what the other entry of a pair sees."""
    size = len(rows)
    found: dict[str, Any] = {}
    for name in _Row._fields:
        found[name] = np.zeros((size, size), dtype=getattr(rows[0], name).dtype)
        for a, row in enumerate(rows):
            found[name][a, a:] = getattr(row, name)
    seen = found | {"difference": 0.0 - found["difference"], "wins": 1 - found["wins"]}
    seen |= {"low": 0.0 - found["high"], "high": 0.0 - found["low"]}
    below = np.tri(size, k=-1, dtype=np.bool_)
    return {name: np.where(below, seen[name].T, grid) for name, grid in found.items()}


def _average(grids: Sequence[Array]) -> Array:
    """The mean over datasets; the array itself if there is one."""
    return grids[0] if len(grids) == 1 else np.mean(grids, axis=0)


def _against(block: _Block, a: int) -> _Against:
    """Entry `a` against itself and those behind it, on one dataset."""
    difference = block.means[a] - block.means[a:]
    draws = block.draws[:, [a]] - block.draws[:, a:]
    swapped = block.swapped[:, [a]] - block.swapped[:, a:]
    odd = np.flatnonzero(block.pattern[a:] != block.pattern[a])
    if len(odd):
        difference[odd], draws[:, odd], swapped[:, odd] = _masked(block, a, a + odd)
    return _Against(difference, draws, swapped)


def _masked(block: _Block, a: int, other: Counts) -> _Against:
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
    return _Against(mine - others, drawn[0] - drawn[1], swapped)


def _wins(metric: Metric, block: _Block, common: Mask, a: int) -> Array:
    """Share of the common items ``[K, n]`` on which entry `a` is better than each other; a tie counts half."""
    if metric.direction == "none":
        return np.full(len(common), np.nan)
    ahead = np.sign(block.values[a] - block.values[a:]) * (1 if metric.direction == "higher" else -1)
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
