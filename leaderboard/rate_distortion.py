"""Rate–distortion curves: a metric over what it costs (bitrate, token rate, latency, …), and who is on the front.

The front takes the intervals into account. An entry is *off* it if another that costs no more is certainly better (the
95 % interval of their paired difference leaves out 0). It is *tied* if none is, but another that costs no more has at
least as good a mean: it may be on the front or not. It is *on* it if no other that costs no more has as good a mean.
Only entries that are ranked count: a control, random weights or an entry with failed items takes nobody off the front.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from codecbench.errors import did_you_mean
from codecbench.leaderboard import stats
from codecbench.leaderboard.board import Board, Metric
from codecbench.leaderboard.scores import Entry, Mask, Means, Part, average_means, bitrate, items_of, parts_of
from codecbench.leaderboard.stats import Estimate
from codecbench.leaderboard.summary import ALL, Row, Section, Summary

if TYPE_CHECKING:
    import pandas as pd

Front: TypeAlias = Literal["on", "tied", "off", ""]
Reader: TypeAlias = Callable[[Row, Mapping[str, float]], Estimate | None]


@dataclass(frozen=True)
class Axis:
    """What quality is shown over; `log` is its usual scale. There is a front only if `lower_is_better`."""

    name: str
    title: str
    unit: str
    log: bool
    lower_is_better: bool
    read: Reader


@dataclass(frozen=True)
class Point:
    """One entry: what it costs, how good it is, why it is not ranked (empty if it is), and where the front is."""

    system: str
    point: str
    x: Estimate
    y: Estimate
    unranked: str
    front: Front


@dataclass(frozen=True)
class Curve:
    """One system: its points by rising cost."""

    system: str
    family: str
    track: str
    points: tuple[Point, ...]


def _property(*names: str) -> Reader:
    """The sum of properties; None unless all are known."""
    return lambda _, facts: Estimate(sum(facts[n] for n in names)) if set(names) <= set(facts) else None


def _bits_per_token(row: Row, facts: Mapping[str, float]) -> Estimate | None:
    rate = facts.get("token_rate", 0.0)
    return Estimate(1000 * row.kbps.value / rate) if row.kbps and rate > 0 else None


AXES = {
    axis.name: axis
    for axis in (
        Axis("kbps", "measured bitrate", "kbps", True, True, lambda row, _: row.kbps),
        Axis("token_rate", "token rate", "tokens/s", True, True, _property("token_rate")),
        Axis("bits_per_token", "bits per token", "bit", False, False, _bits_per_token),
        Axis("latency_ms", "algorithmic latency", "ms", False, True, _property("latency_ms")),
        Axis("rtf", "encoding and decoding time", "RTF", True, True, _property("encode_rtf", "decode_rtf")),
        Axis("parameters", "parameters", "", True, True, _property("parameters")),
    )
}
"""The axes by name. Only the bitrate differs from clip to clip, and so has an interval."""


def find_axis(name: str) -> Axis:
    """An axis by name; UsageError if there is none."""
    if name not in AXES:
        raise did_you_mean(name, list(AXES), "axis")
    return AXES[name]


def costs(summary: Summary, section: Section, axis: Axis) -> dict[Entry, Estimate]:
    """What each entry of a section costs on an axis; one that has no such number, or 0 on a log axis, is left out.

    A property on the section over all datasets is the mean of those of the datasets.
    """
    found = {}
    for row in section.rows:
        cost = axis.read(row, properties(summary, section, row))
        if cost and (cost.value > 0 or not axis.log):
            found[row.system, row.point] = cost
    return found


def properties(summary: Summary, section: Section, row: Row) -> Mapping[str, float]:
    """The properties of a row; over all datasets, the mean of those that every dataset's row has."""
    if section.dataset != ALL:
        return row.properties
    same = [
        other.properties
        for s in summary.sections
        for other in s.rows
        if s.dataset != ALL and (other.system, other.point) == (row.system, row.point)
    ]
    names = set.intersection(*(set(facts) for facts in same)) if same else set()
    return {name: fmean(facts[name] for facts in same) for name in sorted(names)}


def curves(board: Board, summary: Summary, section: Section, metric: Metric, axis: str = "kbps") -> tuple[Curve, ...]:
    """A metric over an axis, a curve a system, by name; entries without a value or a cost are left out.

    Raises:
        UsageError: No such axis.
    """
    chosen = find_axis(axis)
    cost = costs(summary, section, chosen)
    rows = {(row.system, row.point): row for row in section.rows}
    entries = [entry for entry in sorted(cost) if _estimate(rows[entry], metric) is not None]
    (places,) = fronts(board, section, metric, [{e: cost[e] for e in entries}]) if chosen.lower_is_better else [{}]
    found: dict[str, list[Point]] = {}
    for entry in entries:
        row, estimate = rows[entry], _estimate(rows[entry], metric)
        if estimate is not None:
            point = Point(*entry, cost[entry], estimate, row.cells[metric.name].unranked, places.get(entry, ""))
            found.setdefault(row.system, []).append(point)
    return tuple(
        Curve(name, str(board.systems[name].facts.get("family", "")), board.systems[name].track,
              tuple(sorted(points, key=lambda point: (point.x.value, point.point))))
        for name, points in found.items()
    )  # fmt: skip


def fronts(
    board: Board, section: Section, metric: Metric, costs: Sequence[Mapping[Entry, Estimate]]
) -> list[dict[Entry, Front]]:
    """For each of several costs, the front among its entries that are ranked under a metric."""
    cells = {(row.system, row.point): row.cells[metric.name] for row in section.rows if metric.name in row.cells}
    known = {entry for cost in costs for entry in cost}
    entries = [entry for entry, cell in cells.items() if entry in known and not cell.unranked]
    if not entries or metric.direction == "none":
        return [{} for _ in costs]
    higher = metric.direction == "higher"
    means, _ = drawn_means(board, section, metric, entries)
    better = stats.certainly_better(means.draws, int(means.clusters[0]), higher_is_better=higher)
    found: list[dict[Entry, Front]] = []
    for cost in costs:
        own = [k for k, entry in enumerate(entries) if entry in cost]
        prices, quality = [cost[entries[k]].value for k in own], means.values[own].tolist()
        places = front(prices, quality, better[np.ix_(own, own)], higher_is_better=higher)
        found.append(dict(zip([entries[k] for k in own], places, strict=True)))
    return found


def front(costs: Sequence[float], means: Sequence[float], better: Mask, *, higher_is_better: bool) -> list[Front]:
    """Where each of K entries is, from its cost, its mean, and who is certainly better than whom ``[K, K]``."""
    cost = np.asarray(costs)
    quality = np.asarray(means) * (1 if higher_is_better else -1)
    no_dearer = cost[:, None] <= cost[None, :]
    beaten = np.asarray((no_dearer & better).any(axis=0))
    same = np.eye(len(cost), dtype=np.bool_)
    matched = np.asarray((no_dearer & (quality[:, None] >= quality[None, :]) & ~same).any(axis=0))
    return ["off" if off else "tied" if tied else "on" for off, tied in zip(beaten, matched, strict=True)]


def drawn_means(board: Board, section: Section, metric: Metric, entries: Sequence[Entry]) -> tuple[Means, Means]:
    """Means of a metric and of the measured bitrate over the same clips, in the same resamples.

    An item counts where the metric is defined for all of `entries`; over all datasets these are means of means.

    Raises:
        ValueError: A section of a part of a dataset.
    """
    parts = [part for dataset in board.datasets_of(section.dataset) for part in parts_of(dataset)]
    if sum(len(part.utterances) for part in parts) != section.utterances:
        raise ValueError(f"'{section.title}' is no section of a whole dataset")
    both = [_both(part, entries, board.items(part.dataset, metric.name)) for part in parts]
    used = [pair for pair in both if pair is not None]
    quality, rate = zip(*used, strict=True)
    return average_means(quality), average_means(rate)


def _both(part: Part, entries: Sequence[Entry], rows: pd.DataFrame) -> tuple[Means, Means] | None:
    """Means and bitrates from a metric's rows on one dataset; None where the metric is not defined on any item."""
    items = items_of(part, entries, rows)
    return (items.means(), bitrate(part, entries, [rows], items.defined)) if items.defined.any() else None


def _estimate(row: Row, metric: Metric) -> Estimate | None:
    return row.cells[metric.name].estimate if metric.name in row.cells else None
