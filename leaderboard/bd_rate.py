"""Bjøntegaard deltas: how much bitrate one system saves against another at equal quality, or gains at equal bitrate.

Both are the mean distance of two curves over the range that they share, by Akima interpolation over the logarithm of
the rate. A number is given only where it means something; everywhere else stands the reason why there is none. The
interval comes from computing it anew in each resample, the same clips for both curves and all their points.

Sources: G. Bjøntegaard, VCEG-M33 (2001); C. Herglotz et al., "Beyond Bjøntegaard" (ICIP 2022) for Akima, and "The
Bjøntegaard Bible" (2023) for the relative curve difference. The value is that of the package `bjontegaard`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from codecbench.leaderboard import akima, stats
from codecbench.leaderboard.akima import Splines
from codecbench.leaderboard.board import Metric
from codecbench.leaderboard.stats import Array, Estimate

MIN_POINTS = 3
FEW_POINTS = 4
"""Below this many points of either curve there is a note."""
MIN_OVERLAP = 0.5
"""Share of the range of both curves together that both have to cover."""
LARGEST = 1000.0
"""In per cent: beyond it a rate says only that the curves are far apart."""
TOLERANCE = 0.5
"""A fall of quality with rising rate is noise up to this share of the half-width of its paired interval."""
LOST_DRAWS = 0.05
"""With more than this share of the resamples without a delta there is no interval."""
METHOD = "akima"

RateAxis: TypeAlias = Literal["kbps", "token_rate"]


@dataclass(frozen=True)
class Delta:
    """The mean distance of two curves, or why there is none.

    Attributes:
        value: The delta with its interval, test against anchor; None where `reason` says why.
        reason: Why there is no value; empty if there is one.
        overlap: Share of the range of both curves together that both cover; None if it was not looked at.
        range: From where to where the distance is averaged: quality in the metric's unit for a rate, the rate for a
            quality. None without overlap.
        points: Points of the anchor and of the test that the curves go through.
        note: What to know of the value, such as points that were left out; may be empty.
    """

    value: Estimate | None
    reason: str = ""
    overlap: float | None = None
    range: tuple[float, float] | None = None
    points: tuple[int, int] = (0, 0)
    note: str = ""


@dataclass(frozen=True)
class BD:
    """Two systems under one metric, over an axis.

    `rate` is in per cent of the anchor's rate at equal quality (-50: half), `quality` in the metric's unit at equal
    rate (test minus anchor). Both are by Akima interpolation (`method`).
    """

    anchor: str
    test: str
    metric: str
    axis: RateAxis
    rate: Delta
    quality: Delta
    method: str = METHOD


@dataclass(frozen=True, eq=False)
class Curve:
    """A curve through points `x` (rising strictly) and `y`, ``[P]``, and in each resample one of `splines`.

    A resample's goes through as many points as `counts` ``[RESAMPLES]`` says; with fewer than `MIN_POINTS` it is none.
    """

    x: Array
    y: Array
    splines: Splines
    counts: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Ladder:
    """The points of one system by rising rate, ``[P]``, and in each resample ``[RESAMPLES, P]``.

    `quality` is the metric, negated if lower is better. `clusters` is how many are resampled; `left_out` what was not
    taken into the curve, in words.
    """

    system: str
    rate: Array
    quality: Array
    rates: Array
    qualities: Array
    clusters: int
    left_out: str = ""

    @cached_property
    def by_quality(self) -> Curve:
        """The logarithm of the rate over quality."""
        return _curve(self.quality, np.log10(self.rate), self.qualities, np.log10(self.rates))

    @cached_property
    def by_rate(self) -> Curve:
        """Quality over the logarithm of the rate."""
        return _curve(np.log10(self.rate), self.quality, np.log10(self.rates), self.qualities)

    @cached_property
    def fault(self) -> str:
        """Why there is no curve through these points at all; empty if there is."""
        if (count := len(self.rate)) < MIN_POINTS:
            left_out = f", {self.left_out} left out" if self.left_out else ""
            return f"{self.system} has {count} of {MIN_POINTS} points{left_out}"
        return f"{self.system} has two points of one rate" if (np.diff(self.rate) <= 0).any() else ""

    @cached_property
    def disorder(self) -> str:
        """Why there is no curve over quality; empty if quality rises with rate, or falls by no more than noise."""
        for k in range(1, len(self.quality)):
            for j in np.flatnonzero(self.quality[:k] > self.quality[k]):
                low, high = stats.interval(self.qualities[:, j] - self.qualities[:, k], self.clusters)
                fall = self.quality[j] - self.quality[k]
                if low is None or high is None or fall > TOLERANCE * (high - low) / 2:
                    return f"{self.system} is non-monotone: worse at {self.rate[k]:.4g} than at {self.rate[j]:.4g}"
        return "" if len(self.by_quality.x) >= MIN_POINTS else f"{self.system} has equal quality at several rates"


def compare_ladders(anchor: Ladder, test: Ladder, metric: Metric, axis: RateAxis = "kbps") -> BD:
    """Both deltas of two systems, each a number or the reason why there is none."""
    fault = "the metric has no better end" if metric.direction == "none" else anchor.fault or test.fault
    disorder = fault or anchor.disorder or test.disorder
    sign = -1.0 if metric.direction == "lower" else 1.0
    clusters = min(anchor.clusters, test.clusters)
    note = _joined(*_notes(anchor), *_notes(test))
    rate, quality = Delta(None, disorder), Delta(None, fault)
    if not disorder:
        rate = _delta(anchor.by_quality, test.by_quality, clusters, _percent, lambda x: sign * x)
        merged = [_merged(side) for side in (anchor, test) if len(side.by_quality.x) < len(side.rate)]
        rate = _bounded(replace(rate, note=_joined(note, *merged, rate.note)))
    if not fault:
        quality = _delta(anchor.by_rate, test.by_rate, clusters, lambda d: sign * d, lambda log: 10**log)
        quality = replace(quality, note=_joined(note, quality.note))
    return BD(anchor.system, test.system, metric.name, axis, rate, quality)


def relative_curve_difference(
    anchor: Ladder, test: Ladder, metric: Metric, samples: int = 64
) -> list[tuple[float, float]]:
    """The test's rate against the anchor's at each quality that both reach: ``(quality, per cent)``.

    From the worst quality to the best; its mean is close to the BD-rate. Empty where there is no BD-rate of the two.
    """
    return curve_difference(anchor, test, metric, samples) if compare_ladders(anchor, test, metric).rate.value else []


def curve_difference(anchor: Ladder, test: Ladder, metric: Metric, samples: int) -> list[tuple[float, float]]:
    """`relative_curve_difference` of two curves that are known to have a BD-rate."""
    from scipy.interpolate import Akima1DInterpolator

    sides = anchor.by_quality, test.by_quality
    x = np.linspace(max(side.x[0] for side in sides), min(side.x[-1] for side in sides), samples)
    first, second = (Akima1DInterpolator(side.x, side.y)(x) for side in sides)
    sign = -1.0 if metric.direction == "lower" else 1.0
    percent = 100 * (10 ** (second - first) - 1)
    return [(float(sign * quality), float(value)) for quality, value in zip(x, percent, strict=True)]


def _notes(side: Ladder) -> Iterator[str]:
    if len(side.rate) < FEW_POINTS:
        yield f"{side.system} has {len(side.rate)} points"
    if side.left_out:
        yield f"{side.system}: {side.left_out} left out"


def _merged(side: Ladder) -> str:
    return f"{side.system}: {len(side.rate)} points merged to {len(side.by_quality.x)}, to rise"


def _joined(*notes: str) -> str:
    return "; ".join(dict.fromkeys(note for note in notes if note))


def _bounded(rate: Delta) -> Delta:
    """A rate without what lies beyond `LARGEST`: the value, or its interval."""
    if rate.value and rate.value.value > LARGEST:
        return replace(rate, value=None, reason=f"beyond {LARGEST:.0f} %")
    if rate.value and rate.value.high is not None and rate.value.high > LARGEST:
        note = _joined(rate.note, f"no interval: it reaches beyond {LARGEST:.0f} %")
        return replace(rate, value=Estimate(rate.value.value), note=note)
    return rate


def _percent(distance: Array) -> Array:
    """Per cent from a distance of logarithms; what lies further than is given stays just beyond it."""
    return np.asarray(100 * (10.0 ** np.minimum(distance, 2.0) - 1))


def _delta(
    anchor: Curve, test: Curve, clusters: int, scale: Callable[[Array], Array], unit: Callable[[float], float]
) -> Delta:
    """The mean distance of two curves as `scale` shows it; `unit` turns an x back into what is on its axis."""
    from bjontegaard import bd_linear

    points = len(anchor.x), len(test.x)
    low, high = max(anchor.x[0], test.x[0]), min(anchor.x[-1], test.x[-1])
    overlap = float(max(high - low, 0) / (max(anchor.x[-1], test.x[-1]) - min(anchor.x[0], test.x[0])))
    if overlap < MIN_OVERLAP:
        return Delta(None, f"overlap {100 * overlap:.0f} %", overlap, None, points)
    value = bd_linear(anchor.x, anchor.y, test.x, test.y, METHOD, require_matching_points=False, min_overlap=0)
    draws = scale(_distances(anchor, test))
    lost = float(np.isnan(draws).mean())
    note = f"no interval: {100 * lost:.0f} % of the resamples have no curve" if lost > LOST_DRAWS else ""
    bounds = (None, None) if note else stats.interval(draws, clusters)
    found = [None if x is None else float(x) + 0.0 for x in (scale(np.asarray(value)), *bounds)]  # never -0.0
    first, last = sorted((unit(float(low)), unit(float(high))))
    return Delta(Estimate(found[0] or 0.0, *found[1:]), "", overlap, (first, last), points, note)


def _distances(anchor: Curve, test: Curve) -> Array:
    """Mean distance of two curves in each resample ``[RESAMPLES]``; NaN where they do not overlap or are none."""
    ends = [(side.splines.knots[:, 0], side.splines.knots[:, -1]) for side in (anchor, test)]
    low, high = np.maximum(ends[0][0], ends[1][0]), np.minimum(ends[0][1], ends[1][1])
    known = (high > low) & (anchor.counts >= MIN_POINTS) & (test.counts >= MIN_POINTS)
    low, high = np.where(known, low, np.nan), np.where(known, high, np.nan)
    return np.asarray((test.splines.integral(low, high) - anchor.splines.integral(low, high)) / (high - low))


def _curve(x: Array, y: Array, xs: Array, ys: Array) -> Curve:
    """The curve through ``[P]`` points, and through those of each resample ``[RESAMPLES, P]``."""
    merged_x, merged_y, counts = _rising(x[None], y[None])
    drawn_x, drawn_y, drawn_counts = _rising(xs, ys)
    knots, pieces = np.repeat(drawn_x[:, -1:], drawn_x.shape[1], axis=1), np.zeros((*drawn_x[:, 1:].shape, 4))
    for count in range(MIN_POINTS, drawn_x.shape[1] + 1):
        rows = np.flatnonzero(drawn_counts == count)
        if len(rows):
            found = akima.fit(drawn_x[rows, :count], drawn_y[rows, :count])
            knots[rows, :count], pieces[rows, : count - 1] = found.knots, found.pieces
    return Curve(merged_x[0, : counts[0]], merged_y[0, : counts[0]], Splines(knots, pieces), drawn_counts)


def _rising(x: Array, y: Array) -> tuple[Array, Array, NDArray[np.intp]]:
    """Points ``[B, P]`` with neighbours merged into their mean until `x` rises strictly, and how many are left ``[B]``.

    The last one left stands in every place behind it.
    """
    x, y, counts = x.copy(), y.copy(), np.full(len(x), x.shape[1], dtype=np.intp)
    for b in np.flatnonzero((np.diff(x) <= 0).any(axis=1)):
        groups: list[tuple[float, float, int]] = []
        for group in zip(x[b].tolist(), y[b].tolist(), [1] * x.shape[1], strict=True):
            while groups and groups[-1][0] >= group[0]:
                group = _mean(groups.pop(), group)
            groups.append(group)
        counts[b] = len(groups)
        groups += [groups[-1]] * (x.shape[1] - len(groups))
        x[b], y[b] = ([group[k] for group in groups] for k in (0, 1))
    return x, y, counts


def _mean(a: tuple[float, float, int], b: tuple[float, float, int]) -> tuple[float, float, int]:
    size = a[2] + b[2]
    return (a[0] * a[2] + b[0] * b[2]) / size, (a[1] * a[2] + b[1] * b[2]) / size, size
