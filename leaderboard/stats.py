"""Statistics of the leaderboard: means, paired bootstrap intervals clustered by speaker, and rank intervals.

Arrays are ``[R, N]``: R entries (a system at an operating point) by N utterances in a fixed order. An item that
an entry lacks has weight 0. Everything here is deterministic: the resamples of a dataset follow from its
utterances alone, so all entries and metrics are compared on the same ones.

Source of the interval: T. Hesterberg, "What Teachers Should Know about the Bootstrap" (2015), the expanded
percentile interval. Why these choices: ``docs/decisions/0008-statistics.md``.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Unit: TypeAlias = Literal["speaker", "speaker or clip", "utterance"]

RESAMPLES = 2000
CONFIDENCE = 0.95
MIN_CLUSTERS = 5
"""Below this many speakers, utterances are resampled; below this many clusters there is no interval."""
FEW_CLUSTERS = 20
"""Below this many clusters a warning goes with the intervals."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval; `low` and `high` are None where there are too few clusters for one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Drawn:
    """What is drawn with replacement: how many clusters, and what they are."""

    count: int
    unit: Unit


@dataclass(frozen=True, eq=False)
class Clusters:
    """The clusters of items: ``labels[n]`` in ``[0, drawn.count)`` is the cluster of item ``n``."""

    labels: NDArray[np.intp]
    drawn: Drawn
    seed: int

    @cached_property
    def counts(self) -> Array:
        """How often each resample draws each cluster, ``[RESAMPLES, G]``."""
        count = self.drawn.count
        generator = np.random.Generator(np.random.PCG64(self.seed))
        return generator.multinomial(count, np.full(count, 1 / count), size=RESAMPLES).astype(np.float64)

    def sums(self, items: Array) -> Array:
        """Sum ``[N]`` items over each cluster: ``[G]``."""
        return np.bincount(self.labels, items, minlength=self.drawn.count).astype(np.float64)


@lru_cache(maxsize=8)
def cluster(utterances: tuple[str, ...], speakers: tuple[str, ...]) -> Clusters:
    """Clusters of some items: their speakers, or the items themselves if fewer than `MIN_CLUSTERS` speakers are known.

    Among speakers, an utterance without one (an empty name) is a cluster of its own.
    """
    known = set(speakers) - {""}
    by_speaker = len(known) >= MIN_CLUSTERS
    pairs = zip(utterances, speakers, strict=True)
    names = [("speaker", s) if s and by_speaker else ("utterance", u) for u, s in pairs]
    places = {name: k for k, name in enumerate(sorted(set(names)))}
    digest = hashlib.sha256(json.dumps([utterances, speakers]).encode()).digest()
    unit: Unit = "utterance" if not by_speaker else "speaker" if len(places) == len(known) else "speaker or clip"
    return Clusters(
        labels=np.array([places[name] for name in names], dtype=np.intp),
        drawn=Drawn(len(places), unit),
        seed=int.from_bytes(digest[:8], "big"),
    )


def weighted_sums(values: Array, weights: Array) -> tuple[float, float]:
    """``sum(w v)`` and ``sum(w)`` of ``[N]`` items, correctly rounded, so the order of items is no matter.

    Items of weight 0 may be NaN.
    """
    kept = weights > 0
    return math.fsum((weights[kept] * values[kept]).tolist()), math.fsum(weights[kept].tolist())


def weighted_mean(values: Array, weights: Array) -> float | None:
    """``sum(w v) / sum(w)`` of ``[N]`` items; None if no item has weight."""
    top, bottom = weighted_sums(values, weights)
    return top / bottom if bottom > 0 else None


def draw_means(values: Array, weights: Array, clusters: Clusters) -> Array:
    """Weighted mean of each entry in each resample: ``[R, N]`` to ``[RESAMPLES, R]``.

    NaN where a resample holds none of an entry's items. One entry at a time: equal entries get equal draws to
    the last bit, whatever stands beside them.
    """
    means = np.empty((RESAMPLES, len(values)))
    for r, (value, weight) in enumerate(zip(values, weights, strict=True)):
        top = clusters.sums(np.where(weight > 0, weight * value, 0.0))
        sums = clusters.counts @ np.stack([top, clusters.sums(weight)], axis=1)
        with np.errstate(invalid="ignore"):
            means[:, r] = sums[:, 0] / sums[:, 1]
    return means


def effective_clusters(weights: Array, clusters: Clusters) -> int:
    """Number of clusters with an item of positive weight, for ``[N]`` weights."""
    return len(set(clusters.labels[weights > 0].tolist()))


@lru_cache(maxsize=4096)
def tail(count: int) -> float:
    """The share of resamples cut off at either end of a 95 % interval from `count` clusters.

    A plain percentile interval takes 2.5 %, and is too narrow by ``sqrt((n - 1) / n)`` and by the normal
    quantile in place of Student's. The expanded interval cuts ``Phi(sqrt(n / (n - 1)) t_{0.025, n - 1})``.
    """
    from scipy.special import ndtr, stdtrit

    quantile = float(stdtrit(count - 1, (1 - CONFIDENCE) / 2))
    return float(ndtr(math.sqrt(count / (count - 1)) * quantile))


def interval(draws: Array, count: int) -> tuple[float, float] | tuple[None, None]:
    """The 95 % interval from ``[RESAMPLES]`` draws over `count` clusters; ``(None, None)`` if those are too few."""
    known = draws[~np.isnan(draws)]
    if count < MIN_CLUSTERS or not len(known):
        return None, None
    low, high = np.quantile(known, [tail(count), 1 - tail(count)])
    return float(low), float(high)


def difference(
    first: tuple[Array, Array], second: tuple[Array, Array], clusters: Clusters
) -> tuple[Estimate | None, int]:
    """Paired difference of two entries, each ``(values [N], weights [N])``, and the number of common items.

    Only items that both have count; an estimate is never made from unpaired items.
    """
    common = (first[1] > 0) & (second[1] > 0)
    values = np.stack([first[0], second[0]])
    weights = np.stack([first[1], second[1]]) * common
    means = [weighted_mean(v, w) for v, w in zip(values, weights, strict=True)]
    if means[0] is None or means[1] is None:
        return None, 0
    draws = draw_means(values, weights, clusters)
    bounds = interval(draws[:, 0] - draws[:, 1], effective_clusters(weights[0], clusters))
    return Estimate(means[0] - means[1], *bounds), int(common.sum())


def certainly_better(draws: Array, count: int, *, higher_is_better: bool) -> NDArray[np.bool_]:
    """Which of K entries is certainly better than which, ``[K, K]``, from paired draws ``[RESAMPLES, K]``.

    An entry (row) is certainly better than another (column) if the 95 % interval of their paired difference, over
    `count` clusters, leaves out 0 on the better side; with too few clusters none is.
    """
    entries = draws.shape[1]
    known = draws[~np.isnan(draws).any(axis=1)]
    if count < MIN_CLUSTERS or not len(known):
        return np.zeros((entries, entries), dtype=np.bool_)
    signed = known if higher_is_better else -known
    rounding = 1e-9 * float(np.abs(signed).max())
    not_better = np.stack([(signed[:, [k]] <= signed + rounding).mean(axis=0) for k in range(entries)])
    return np.asarray(not_better < tail(count))


def rank_intervals(draws: Array, count: int, *, higher_is_better: bool) -> list[tuple[int, int]]:
    """Ranks that each of K entries may hold, from paired draws ``[RESAMPLES, K]`` over `count` clusters.

    These are ``[1 + certainly better ones, K - certainly worse ones]``: entries that cannot be told apart share
    ranks, and with too few clusters all share all ranks.
    """
    beats, entries = certainly_better(draws, count, higher_is_better=higher_is_better), draws.shape[1]
    return [(1 + int(beats[:, k].sum()), entries - int(beats[k].sum())) for k in range(entries)]
