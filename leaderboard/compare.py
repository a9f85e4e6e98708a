"""Two systems, or the same systems in two runs, item by item: what changed, by how much, and whether it is certain.

The second is seen from the first: differences are second minus first, and *worse* means that the second is worse. A
difference is certain if its p-value is below 5 % after Holm's adjustment over all differences of the report. An item
that the first has a value for and the second has not is lost, which is a loss whatever the other items say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from codecbench.errors import UsageError, did_you_mean
from codecbench.leaderboard import pairs
from codecbench.leaderboard.aggregate import aggregate
from codecbench.leaderboard.bd_matrix import ladders
from codecbench.leaderboard.bd_rate import BD, MIN_POINTS, compare_ladders
from codecbench.leaderboard.board import Board, Metric
from codecbench.leaderboard.effect import Effect, Side, judge, measure, side_of
from codecbench.leaderboard.paired import Unit
from codecbench.leaderboard.scores import Entry


@dataclass(frozen=True)
class Report:
    """All effects, the BD-rates of two systems by dataset, and what could not be compared, in sentences."""

    first: str
    second: str
    effects: tuple[Effect, ...]
    deltas: tuple[tuple[str, BD], ...] = ()
    notices: tuple[str, ...] = ()

    @property
    def worse(self) -> bool:
        """Something is certainly worse, or lost."""
        return any(effect.verdict == "worse" or effect.lost for effect in self.effects)


@dataclass(frozen=True)
class Choice:
    """What to compare: metrics, datasets and points by name (all if empty), and by what unit."""

    metrics: Sequence[str] = ()
    datasets: Sequence[str] = ()
    points: Sequence[str] = ()
    by: Unit = "speaker"


def compare_systems(board: Board, first: str, second: str, choice: Choice | None = None) -> Report:
    """Two systems of a board, each ``name`` or ``name@point``.

    Without points, those of equal name are compared, or the only ones; and the systems as a whole by their BD-rates.

    Raises:
        UsageError: No such system, point, metric or dataset, or no points to compare.
    """
    choice = choice or Choice()
    matched = _matched(_entries(board, first, choice), _entries(board, second, choice))
    sides = [(side_of(board, a), side_of(board, b)) for a, b in matched]
    whole = not choice.points and "@" not in first + second
    deltas = _deltas(board, matched[0][0][0], matched[0][1][0], choice) if whole else ()
    return replace(_report(first, second, sides, choice), deltas=tuple(deltas))


def compare_runs(before: Board, after: Board, names: tuple[str, str], choice: Choice | None = None) -> Report:
    """The entries that two boards share, before and after; `names` are what the boards are called.

    Raises:
        UsageError: They share none, or there is no such metric or dataset.
    """
    choice = choice or Choice()
    shared = sorted(set(before.entries) & set(after.entries))
    shared = [entry for entry in shared if not choice.points or entry[1] in choice.points]
    if not shared:
        raise UsageError(f"{names[0]} and {names[1]} have no system at a common operating point")
    return _report(*names, [(side_of(before, entry), side_of(after, entry)) for entry in shared], choice)


def _entries(board: Board, name: str, choice: Choice) -> list[Entry]:
    """The entries that ``name`` or ``name@point`` means."""
    system, _, point = name.partition("@")
    found = [entry for entry in board.entries if entry[0] == system]
    if not found:
        raise did_you_mean(system, sorted({entry[0] for entry in board.entries}), "model")
    wanted = [point] if point else choice.points
    if chosen := [entry for entry in found if not wanted or entry[1] in wanted]:
        return chosen
    raise UsageError(f"{system} has no point {' or '.join(wanted)}: it has {', '.join(entry[1] for entry in found)}")


def _matched(first: Sequence[Entry], second: Sequence[Entry]) -> list[tuple[Entry, Entry]]:
    if len(first) == len(second) == 1:
        return [(first[0], second[0])]
    if found := [(a, b) for a in first for b in second if a[1] == b[1]]:
        return found
    a, b = (f"{entries[0][0]} ({', '.join(entry[1] for entry in entries)})" for entries in (first, second))
    raise UsageError(f"{a} and {b} have no point of the same name: say which two, as {first[0][0]}@{first[0][1]}")


def _report(first: str, second: str, sides: Sequence[tuple[Side, Side]], choice: Choice) -> Report:
    boards = sides[0][0].board, sides[0][1].board
    _check("metric", choice.metrics, boards)
    _check("dataset", choice.datasets, boards)
    effects: list[Effect] = []
    notices = dict.fromkeys(notice for board in boards for notice in board.notices)
    for dataset in [name for name in boards[0].datasets if name in (choice.datasets or boards[0].datasets)]:
        if problem := _different_data(dataset, boards):
            notices[problem] = None
            continue
        for metric in [m for m in boards[0].metrics.values() if m.name in (choice.metrics or boards[0].metrics)]:
            if problem := _different_metric(metric, boards):
                notices[problem] = None
                continue
            effects += [e for pair in sides if (e := measure(*pair, dataset, metric, choice.by)) is not None]
    adjusted = pairs.holm(np.array([np.nan if e.p is None else e.p for e in effects]))
    return Report(
        first, second, tuple(judge(e, float(p)) for e, p in zip(effects, adjusted, strict=True)), (), tuple(notices)
    )


def _check(what: Literal["metric", "dataset"], names: Sequence[str], boards: tuple[Board, Board]) -> None:
    known = [set(board.metrics if what == "metric" else board.datasets) for board in boards]
    for name in names:
        if name not in known[0] & known[1]:
            raise did_you_mean(name, sorted(known[0] & known[1]), what)


def _different_data(dataset: str, boards: tuple[Board, Board]) -> str:
    first, second = (board.datasets.get(dataset) for board in boards)
    if first is None or second is None:
        return f"{dataset} is in one of the runs only"
    return "" if first.fingerprint == second.fingerprint else f"{dataset} is not the same data in both runs"


def _different_metric(metric: Metric, boards: tuple[Board, Board]) -> str:
    other = boards[1].metrics.get(metric.name)
    if other is None:
        return f"{metric.name} is in one of the runs only"
    if other.signature == metric.signature:
        return ""
    return f"{metric.name} was measured in two ways and is not compared: {metric.signature} and {other.signature}"


def _deltas(board: Board, first: str, second: str, choice: Choice) -> Iterator[tuple[str, BD]]:
    """The BD-rates of the second system against the first, where both have points enough for any."""
    counts = [sum(entry[0] == name for entry in board.entries) for name in (first, second)]
    if min(counts) < MIN_POINTS or first == second:
        return
    summary = aggregate(board)
    for section in summary.sections:
        if section.dataset not in (choice.datasets or board.datasets):
            continue
        for metric in summary.metrics.values():
            if metric.name in (choice.metrics or summary.metrics) and metric.direction != "none":
                found = ladders(board, summary, section, metric)
                if first in found and second in found:
                    yield section.dataset, compare_ladders(found[first], found[second], metric)
