"""The BD-rates of a board: the curve of each system of a section, and every system against every other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from codecbench.errors import UsageError
from codecbench.leaderboard import stats
from codecbench.leaderboard.bd_rate import BD, Ladder, RateAxis, compare_ladders
from codecbench.leaderboard.board import Board, Metric
from codecbench.leaderboard.rate_distortion import AXES, costs, drawn_means
from codecbench.leaderboard.scores import Entry, Means, saturated
from codecbench.leaderboard.stats import Estimate
from codecbench.leaderboard.summary import Row, Section, Summary


def bd_matrix(
    board: Board, summary: Summary, section: Section, metric: Metric, axis: RateAxis = "kbps"
) -> dict[tuple[str, str], BD]:
    """All pairs (anchor, test) of the systems of a section that are no control, each against itself included.

    Args:
        board: The results.
        summary: What `codecbench.leaderboard.aggregate.aggregate` made of them.
        section: A section of it, of a whole dataset or of all.
        metric: A metric of it.
        axis: ``kbps`` (measured) or ``token_rate``.

    Raises:
        UsageError: Another axis.
    """
    found = ladders(board, summary, section, metric, axis)
    return {(a, t): compare_ladders(found[a], found[t], metric, axis) for a in found for t in found}


def ladders(
    board: Board, summary: Summary, section: Section, metric: Metric, axis: RateAxis = "kbps"
) -> dict[str, Ladder]:
    """The curve of each system of a section that is no control, by name.

    A point that lacks an item, has no such rate or is saturated is left out.

    Raises:
        UsageError: An axis other than ``kbps`` and ``token_rate``.
    """
    if axis not in ("kbps", "token_rate"):
        raise UsageError(f"no BD-rate over '{axis}': the axes are kbps and token_rate")
    rows = [row for row in section.rows if row.track != "control" and metric.name in row.cells]
    cost = costs(summary, section, AXES[axis])
    entries = sorted((row.system, row.point) for row in rows if _whole(row, metric) and (row.system, row.point) in cost)
    means = drawn_means(board, section, metric, entries) if entries else None
    places = {entry: k for k, entry in enumerate(entries)}
    found = {}
    for name in sorted({row.system for row in rows}):
        mine = [row for row in rows if row.system == name]
        kept = [(row.system, row.point) for row in mine if not _left_out(row, metric, cost, axis)]
        reasons = [reason for row in mine if (reason := _left_out(row, metric, cost, axis))]
        left_out = ", ".join(f"{reasons.count(reason)} {reason}" for reason in dict.fromkeys(reasons))
        fixed = None if axis == "kbps" else [cost[entry].value for entry in kept]
        found[name] = _ladder(name, means, [places[entry] for entry in kept], metric, fixed, left_out)
    return found


def _whole(row: Row, metric: Metric) -> bool:
    counts = row.cells[metric.name].counts
    return counts.ok == counts.expected > 0


def _left_out(row: Row, metric: Metric, cost: Mapping[Entry, Estimate], axis: RateAxis) -> str:
    """Why a row is no point of a curve; empty if it is."""
    if not _whole(row, metric):
        return "with items that have no value"
    if (row.system, row.point) not in cost:
        return f"without a {AXES[axis].title}"
    estimate = row.cells[metric.name].estimate
    return "saturated" if estimate and saturated(metric, estimate.value) else ""


def _ladder(
    name: str,
    means: tuple[Means, Means] | None,
    places: Sequence[int],
    metric: Metric,
    fixed: Sequence[float] | None,
    left_out: str,
) -> Ladder:
    """The curve through the entries at `places` of `means`, over the measured bitrate or over `fixed` rates."""
    if means is None or not places:
        empty = np.zeros((stats.RESAMPLES, 0))
        return Ladder(name, empty[0], empty[0], empty, empty, 0, left_out)
    quality, bitrate = means
    sign = -1.0 if metric.direction == "lower" else 1.0
    rate = bitrate.values[places] if fixed is None else np.array(fixed)
    rates = bitrate.draws[:, places] if fixed is None else np.tile(rate, (stats.RESAMPLES, 1))
    order = np.argsort(rate, kind="stable")
    return Ladder(
        system=name,
        rate=rate[order],
        quality=sign * quality.values[places][order],
        rates=rates[:, order],
        qualities=sign * quality.draws[:, places][:, order],
        clusters=int(quality.clusters[places].min()),
        left_out=left_out,
    )
