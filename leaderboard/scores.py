"""One metric on one part of a dataset, as arrays ``[R, N]``: R entries (a system at an operating point) by N items."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from codecbench.leaderboard import stats
from codecbench.leaderboard.board import STATUSES, Dataset, Metric, Utterance, codes_of
from codecbench.leaderboard.stats import Array, Drawn, Estimate

if TYPE_CHECKING:
    import pandas as pd

Entry: TypeAlias = tuple[str, str]
Mask: TypeAlias = NDArray[np.bool_]
SATURATED = 0.01
"""Of the metric's range: nearer than this to its perfect value, a mean is saturated."""

Split: TypeAlias = Literal["language", "domain", "speaker"]


@dataclass(frozen=True)
class Counts:
    """How many items of a metric an entry has in each status."""

    ok: int = 0
    undefined: int = 0
    failed: int = 0
    error: int = 0
    missing: int = 0

    @property
    def expected(self) -> int:
        """Items on which the metric is defined: all but the undefined ones."""
        return self.ok + self.failed + self.error + self.missing

    @property
    def coverage(self) -> float | None:
        """Share of the expected items that have a value; None if none is expected."""
        return self.ok / self.expected if self.expected else None

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name) + getattr(other, name) for name in STATUSES))


@dataclass(frozen=True, eq=False)
class Part:
    """Items that are averaged together: a dataset, or what it holds of one language, domain or speaker."""

    dataset: str
    title: str
    utterances: tuple[str, ...]
    speakers: tuple[str, ...]
    seconds: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class Items:
    """One metric on a part, item by item, ``[R, N]``: R `entries` by the N utterances of `part`.

    `ran` ``[R]`` is who has any row, `status` an index of `STATUSES` (an item that is undefined for one entry is so for
    all); `values` and `weights` are NaN where there is no row.
    """

    part: Part
    entries: tuple[Entry, ...]
    ran: Mask
    status: NDArray[np.intp]
    values: Array
    weights: Array

    @property
    def ok(self) -> Mask:
        """Items with a value."""
        return np.asarray(self.status == STATUSES.index("ok"))

    @property
    def failed(self) -> Mask:
        """Items that the system failed on."""
        return np.asarray(self.status == STATUSES.index("failed"))

    @property
    def defined(self) -> Mask:
        """Utterances on which the metric is defined, ``[N]``."""
        return np.asarray((self.status != STATUSES.index("undefined")).any(axis=0))

    def means(self) -> Means:
        """Means over the items with a value."""
        return _means(self.part, self.values, np.where(self.ok, self.weights, 0.0), self.defined)


@dataclass(frozen=True, eq=False)
class Means:
    """Mean of each entry: `values` ``[R]`` (NaN without items), `draws` ``[RESAMPLES, R]``.

    `clusters` ``[R]`` is how many clusters have an item, `sums` ``[2, R]`` the sums whose ratio the mean is, `drawn`
    what the resamples draw.
    """

    values: Array
    draws: Array
    clusters: NDArray[np.intp]
    sums: Array
    drawn: Drawn

    def estimate(self, entry: int) -> Estimate | None:
        """The mean of one entry with its interval."""
        if np.isnan(self.values[entry]):
            return None
        bounds = stats.interval(self.draws[:, entry], int(self.clusters[entry]))
        return Estimate(float(self.values[entry]), *bounds)

    def pooled(self, entry: int) -> float | None:
        """The mean over all items of all parts together, each part weighing by its items (micro)."""
        top, bottom = self.sums[:, entry]
        return float(top / bottom) if bottom > 0 else None


@dataclass(frozen=True, eq=False)
class Scores:
    """A metric's outcome, an element an entry.

    `ran` is who has any row; `worst` the mean with failed items at the worst value, NaN where there is none;
    `beyond` how many values lie outside of the metric's range from floor to perfect; `timed` ``[2, R]`` the sums whose
    ratio is the mean with each item weighing its seconds.
    """

    ran: Mask
    counts: tuple[Counts, ...]
    means: Means
    worst: Array
    beyond: NDArray[np.intp]
    timed: Array

    def by_duration(self, entry: int) -> float | None:
        """The mean over all items of all parts together, each weighing its seconds; None where none is known."""
        top, bottom = self.timed[:, entry]
        return float(top / bottom) if bottom > 0 else None


def parts_of(dataset: Dataset, by: Split | None = None) -> list[Part]:
    """The dataset as one part, or one part a value of the attribute `by`."""
    groups: dict[str, list[Utterance]] = {}
    for item in dataset.utterances:
        groups.setdefault(getattr(item, by) if by else "", []).append(item)
    return [
        Part(
            dataset=dataset.name,
            title=f"{dataset.title}: {by} {name or 'not given'}" if by else dataset.title,
            utterances=tuple(item.id for item in items),
            speakers=tuple(item.speaker for item in items),
            seconds=tuple(item.duration for item in items),
        )
        for name, items in sorted(groups.items())
    ]


def score(metric: Metric, part: Part, entries: Sequence[Entry], frame: pd.DataFrame) -> Scores:
    """All entries under `metric`, from its rows. An item that is undefined for one entry is so for all."""
    items = items_of(part, entries, frame)
    return Scores(
        ran=items.ran,
        counts=tuple(Counts(*(int((row == k).sum()) for k in range(len(STATUSES)))) for row in items.status),
        means=items.means(),
        worst=worst_means(metric, items.values, items.weights, items.ok, items.failed),
        beyond=_beyond(metric, items.values, items.ok),
        timed=_timed(part, items),
    )


def items_of(part: Part, entries: Sequence[Entry], frame: pd.DataFrame) -> Items:
    """The items of a part under one metric, from its rows; an item without a row is missing."""
    codes = places_of(STATUSES, frame["status"])
    ran, (status, values, weights) = _grids(part, entries, frame.assign(status=codes), ["status", "value", "weight"])
    status = np.where(np.isnan(status), STATUSES.index("missing"), status)
    status[:, (status == STATUSES.index("undefined")).any(axis=0)] = STATUSES.index("undefined")
    return Items(part, tuple(entries), ran, status.astype(np.intp), values, weights)


def bitrate(part: Part, entries: Sequence[Entry], frames: Iterable[pd.DataFrame], defined: Mask | None = None) -> Means:
    """Measured bitrates in kbps: bits over seconds, each summed over the items that were encoded.

    `frames` are rows of a metric each; of an item that several have, the first counts. `defined` ``[N]`` are the
    utterances to look at: those of a metric, to have draws that pair with the metric's.
    """
    bits, seconds = np.full((2, len(entries), len(part.utterances)), np.nan)
    for frame in frames:
        coded = frame[frame["bits"].notna() & (frame["duration"] > 0)]
        _, (new, of) = _grids(part, entries, coded, ["bits", "duration"])
        first = np.isnan(bits)
        bits[first], seconds[first] = new[first], of[first]
    defined = np.full(len(part.utterances), fill_value=True) if defined is None else defined
    return _means(part, bits / seconds / 1000, np.nan_to_num(seconds), defined)


def average(scores: Sequence[Scores]) -> Scores:
    """The mean over datasets, each weighing the same (macro); without a value where an entry lacks a dataset."""
    defined = [s for s in scores if any(count.expected for count in s.counts)] or list(scores)
    return Scores(
        ran=np.all([s.ran for s in defined], axis=0),
        counts=tuple(sum(counts, Counts()) for counts in zip(*(s.counts for s in defined), strict=True)),
        means=average_means([s.means for s in defined]),
        worst=np.mean([s.worst for s in defined], axis=0),
        beyond=np.sum([s.beyond for s in defined], axis=0),
        timed=np.sum([s.timed for s in defined], axis=0),
    )


def average_means(means: Sequence[Means]) -> Means:
    """The mean of means, resample by resample; the fewest clusters of any decide how wide its interval is."""
    return Means(
        values=np.mean([m.values for m in means], axis=0),
        draws=np.mean([m.draws for m in means], axis=0),
        clusters=np.min([m.clusters for m in means], axis=0),
        sums=np.sum([m.sums for m in means], axis=0),
        drawn=min((m.drawn for m in means), key=lambda drawn: drawn.count),
    )


def _grids(
    part: Part, entries: Sequence[Entry], frame: pd.DataFrame, columns: Sequence[str]
) -> tuple[Mask, list[Array]]:
    """Who has any row in the part, and each column of `frame` as ``[R, N]``, NaN where there is no row."""
    n = places_of(part.utterances, frame["utterance"])
    r = entry_places(entries, frame)
    inside = (n >= 0) & (r >= 0)
    grids = []
    for name in columns:
        grid = np.full((len(entries), len(part.utterances)), np.nan)
        grid[r[inside], n[inside]] = frame[name].to_numpy(dtype=np.float64, na_value=np.nan)[inside]
        grids.append(grid)
    return np.isin(np.arange(len(entries)), r[inside]), grids


def entry_places(entries: Sequence[Entry], frame: pd.DataFrame) -> NDArray[np.intp]:
    """Which entry each row of `frame` belongs to; -1 for none of them. Rows are not looked at one by one."""
    names, points = (sorted({entry[k] for entry in entries}) for k in (0, 1))
    places = np.full((len(names) + 1, len(points) + 1), -1)  # a name that is not known has the index -1
    for k, (name, point) in enumerate(entries):
        places[bisect_left(names, name), bisect_left(points, point)] = k
    return np.asarray(places[places_of(names, frame["system"]), places_of(points, frame["point"])], dtype=np.intp)


def places_of(names: Sequence[str], column: pd.Series[str]) -> NDArray[np.intp]:
    """Where each value of `column` stands in `names`; -1 for nowhere."""
    import pandas as pd

    codes, known = codes_of(column)
    return np.append(pd.Index(names).get_indexer(pd.Index(known)), -1)[codes].astype(np.intp)


def _means(part: Part, values: Array, weights: Array, defined: Mask) -> Means:
    """Means over the items where `weights` is positive, resampled from the clusters of the `defined` ones."""
    kept = np.flatnonzero(defined) if defined.any() else np.arange(len(defined))
    values, weights = values[:, kept], weights[:, kept]
    clusters = stats.cluster(tuple(part.utterances[n] for n in kept), tuple(part.speakers[n] for n in kept))
    sums = [stats.weighted_sums(v, w) for v, w in zip(values, weights, strict=True)]
    top, bottom = np.array(sums).reshape(-1, 2).T
    with np.errstate(invalid="ignore"):
        means = top / bottom
    effective = np.array([stats.effective_clusters(row, clusters) for row in weights], dtype=np.intp)
    draws = stats.draw_means(values, weights, clusters)
    return Means(means, draws, effective, np.stack([top, bottom]), clusters.drawn)


def _timed(part: Part, items: Items) -> Array:
    """Sums of seconds times value, and of seconds, over the items with a value: ``[2, R]``."""
    seconds = np.array(part.seconds or (0.0,) * len(part.utterances))
    sums = [stats.weighted_sums(v, ok * seconds) for v, ok in zip(items.values, items.ok, strict=True)]
    return np.array(sums).reshape(-1, 2).T


def worst_means(metric: Metric, values: Array, weights: Array, ok: Mask, failed: Mask) -> Array:
    """Means with failed items at the worst value, weighing what the same item weighs for other entries.

    The worst value is the metric's floor; without one, the worst that any entry got on this part.
    """
    if metric.direction == "none" or not ok.any():
        return np.full(len(values), np.nan)
    extreme = values[ok].min() if metric.direction == "higher" else values[ok].max()
    floor = extreme if metric.floor is None else metric.floor
    shared = np.where(ok, weights, 0.0).max(axis=0)
    imputed = np.where(failed, np.where(shared > 0, shared, weights), np.where(ok, weights, 0.0))
    sums = [stats.weighted_sums(v, w) for v, w in zip(np.where(failed, floor, values), imputed, strict=True)]
    with np.errstate(invalid="ignore"):
        return np.array([np.divide(top, bottom) for top, bottom in sums])


def saturated(metric: Metric, value: float) -> bool:
    """A mean so near the metric's perfect value that it says nothing about what is better still."""
    if metric.perfect is None or metric.floor is None:
        return False
    return abs(metric.perfect - value) < SATURATED * abs(metric.perfect - metric.floor)


def _beyond(metric: Metric, values: Array, ok: Mask) -> NDArray[np.intp]:
    """How many values are worse than the floor or better than perfect; a bound that the metric lacks bounds nothing."""
    ends = (metric.floor, metric.perfect) if metric.direction == "higher" else (metric.perfect, metric.floor)
    low, high = -np.inf if ends[0] is None else ends[0], np.inf if ends[1] is None else ends[1]
    return np.asarray((ok & ((values < low) | (values > high))).sum(axis=1))
