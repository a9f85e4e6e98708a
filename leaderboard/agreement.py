"""Whether metrics agree: rank correlations over entries, and entries that one metric sees unlike all others.

An entry far better under one metric than under the rest may have been tuned to it. That is a reason to listen, not a
verdict: metrics measure different things.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from codecbench.leaderboard.board import Metric
from codecbench.leaderboard.scores import Entry
from codecbench.leaderboard.stats import Array
from codecbench.leaderboard.summary import Section

MIN_ENTRIES = 5
"""Fewer entries than this have no rank correlation."""
MIN_METRICS = 3
"""With fewer metrics than this, nobody can say which of them is the odd one."""
FAR = 3.0
"""Standard deviations between an entry's place under one metric and its median place that are worth a flag."""


@dataclass(frozen=True, eq=False)
class Agreement:
    """Spearman's rank correlation of M metrics over the ranked entries of a section.

    `correlation` ``[M, M]`` is between -1 and 1, where 1 means that what is better by one is better by the other (lower
    values of an error are better), and NaN from fewer than `MIN_ENTRIES`; `entries` ``[M, M]`` is how many both have.
    """

    metrics: tuple[str, ...]
    correlation: Array
    entries: NDArray[np.intp]


@dataclass(frozen=True)
class Outlier:
    """An entry that one metric places unlike the others: `z` its place under it, `median` that under all its metrics.

    Places are ranks as normal scores: 0 is the middle of the field, 1.6 the best of ten, 2.6 the best of a hundred.
    """

    system: str
    point: str
    metric: str
    z: float
    median: float


def agreement(section: Section, metrics: Mapping[str, Metric]) -> Agreement:
    """How the metrics of a section that have a better end order its ranked entries."""
    from scipy.stats import spearmanr

    scores = _scores(section, metrics.values())
    names, size = tuple(scores), len(scores)
    correlation, entries = np.full((size, size), np.nan), np.zeros((size, size), dtype=np.intp)
    for a, b in [*combinations(range(size), 2), *((k, k) for k in range(size))]:
        first, second = scores[names[a]], scores[names[b]]
        common = sorted(set(first) & set(second))
        entries[a, b] = entries[b, a] = len(common)
        x, y = [first[entry] for entry in common], [second[entry] for entry in common]
        if len(common) >= MIN_ENTRIES and len(set(x)) > 1 and len(set(y)) > 1:
            correlation[a, b] = correlation[b, a] = float(spearmanr(x, y).statistic)
    return Agreement(names, correlation, entries)


def outliers(section: Section, metrics: Mapping[str, Metric]) -> tuple[Outlier, ...]:
    """Entries whose place under a metric is more than `FAR` from the median of their places, the furthest first.

    Of fewer than eight entries none can be that far off.
    """
    places = {name: _places(values) for name, values in _scores(section, metrics.values()).items()}
    found = []
    for entry in sorted({entry for values in places.values() for entry in values}):
        mine = {name: values[entry] for name, values in places.items() if entry in values}
        median = float(np.median(list(mine.values())))
        if len(mine) >= MIN_METRICS:
            found += [Outlier(*entry, name, z, median) for name, z in mine.items() if abs(z - median) > FAR]
    return tuple(sorted(found, key=lambda o: (-abs(o.z - o.median), o.system, o.point, o.metric)))


def _scores(section: Section, metrics: Iterable[Metric]) -> dict[str, dict[Entry, float]]:
    """The means of the ranked entries under each metric with a better end, negated where lower is better."""
    return {
        metric.name: {
            (row.system, row.point): -cell.estimate.value if metric.direction == "lower" else cell.estimate.value
            for row in section.rows
            if (cell := row.cells.get(metric.name)) and cell.estimate and not cell.unranked
        }
        for metric in metrics
        if metric.direction != "none"
    }


def _places(values: Mapping[Entry, float]) -> dict[Entry, float]:
    """Ranks as normal scores, the best highest, equal ones sharing the mean of their ranks."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    ranks = rankdata(list(values.values()))
    return dict(zip(values, ndtri((ranks - 0.5) / max(len(values), 1)).tolist(), strict=True))
