"""One entry against another under one metric on one dataset, down to the items that changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np

from codecbench.leaderboard import pairs, stats
from codecbench.leaderboard.board import CORPUS, Board, Metric
from codecbench.leaderboard.paired import Unit
from codecbench.leaderboard.scores import Entry, Items, Mask, items_of, parts_of
from codecbench.leaderboard.stats import Estimate

if TYPE_CHECKING:
    import pandas as pd

Verdict: TypeAlias = Literal["worse", "better", "differs", "no certain difference", "identical", "no common item"]


@dataclass(frozen=True)
class Change:
    """One item: its values, None where there is none, and then why."""

    utterance: str
    first: float | None
    second: float | None
    reason: str = ""

    @property
    def size(self) -> float:
        """Second minus first; 0 where either has no value."""
        return 0.0 if self.first is None or self.second is None else self.second - self.first


@dataclass(frozen=True)
class Effect:
    """The second entry against the first, under one metric on one dataset.

    Attributes:
        first: The entry compared with.
        second: The entry looked at.
        dataset: The dataset's name.
        metric: The metric.
        means: Of the first and of the second, over the items that both have.
        difference: Second minus first, with its interval; None without a common item.
        p: By approximate randomisation, two-sided; None without a common item.
        adjusted: The same, by Holm's method over all effects of the report.
        wins: Share of the common items on which the second is better, a tie counting half.
        items: How many items both have.
        clusters: How many clusters these come from.
        verdict: What can be said.
        changes: Items whose value changed, the largest change first.
        lost: Items that only the first has a value for.
        gained: Items that only the second has a value for.
        warning: What to read with the numbers; may be empty.
    """

    first: Entry
    second: Entry
    dataset: str
    metric: Metric
    means: tuple[float | None, float | None]
    difference: Estimate | None
    p: float | None
    adjusted: float | None
    wins: float | None
    items: int
    clusters: int
    verdict: Verdict
    changes: tuple[Change, ...]
    lost: tuple[Change, ...]
    gained: tuple[Change, ...]
    warning: str


class Side(NamedTuple):
    """An entry of a board; `rows` are its items by dataset and metric, `none` is a frame without any."""

    board: Board
    entry: Entry
    rows: Mapping[tuple[str, str], pd.DataFrame]
    none: pd.DataFrame


def side_of(board: Board, entry: Entry) -> Side:
    """An entry with its rows."""
    rows = board.results
    mine = rows[(rows["system"] == entry[0]) & (rows["point"] == entry[1]) & (rows["utterance"] != CORPUS)]
    found = {(str(key[0]), str(key[1])): frame for key, frame in mine.groupby(["dataset", "metric"])}
    return Side(board, entry, found, mine.iloc[:0])


def measure(first: Side, second: Side, dataset: str, metric: Metric, by: Unit) -> Effect | None:
    """The second against the first, not yet judged; None where neither was run or the metric is defined on no item."""
    items, reasons = _items(first, second, dataset, metric)
    if not items.ran.any() or not items.defined.any():
        return None
    found = pairs.pairwise(metric, [items], by=by)
    result = found.pair(*reversed(found.entries))
    common = np.asarray(items.ok.all(axis=0))
    moved = np.flatnonzero(common & (items.values[0] != items.values[1]))
    changes = [_change(items, n) for n in moved.tolist()]
    lost, gained = (
        tuple(_change(items, n, reasons[1 - k]) for n in np.flatnonzero(items.ok[k] & ~common).tolist()) for k in (0, 1)
    )
    return Effect(
        first=first.entry,
        second=second.entry,
        dataset=dataset,
        metric=metric,
        means=(_mean(items, 0, common), _mean(items, 1, common)),
        difference=result.difference,
        p=result.p,
        adjusted=None,
        wins=result.wins,
        items=result.items,
        clusters=result.clusters,
        verdict="no common item",
        changes=tuple(sorted(changes, key=lambda change: (-abs(change.size), change.utterance))),
        lost=lost,
        gained=gained,
        warning=found.warning,
    )


def judge(effect: Effect, adjusted: float) -> Effect:
    """The effect with its verdict, by its adjusted p-value."""
    if effect.difference is None:
        return effect
    verdict: Verdict = "no certain difference" if effect.changes else "identical"
    if adjusted < pairs.ALPHA:
        higher = effect.difference.value > 0
        good = higher == (effect.metric.direction == "higher")
        verdict = "differs" if effect.metric.direction == "none" else "better" if good else "worse"
    return replace(effect, adjusted=adjusted, verdict=verdict)


def _items(first: Side, second: Side, dataset: str, metric: Metric) -> tuple[Items, list[dict[str, str]]]:
    """The utterances that both boards know, and for each entry why an item has no value."""
    import pandas as pd

    known = [{item.id for item in side.board.datasets[dataset].utterances} for side in (first, second)]
    whole = first.board.datasets[dataset]
    shared = replace(whole, utterances=tuple(item for item in whole.utterances if item.id in known[0] & known[1]))
    frames = [side.rows.get((dataset, metric.name), side.none) for side in (first, second)]
    bad = [frame[frame["status"] != "ok"] for frame in frames]
    reasons = [
        {u: f"{status}: {reason}" if reason else status
         for u, status, reason in zip(f["utterance"], f["status"], f["reason"], strict=True)}
        for f in bad
    ]  # fmt: skip
    named = pd.concat([frame.assign(system=label) for frame, label in zip(frames, ("first", "second"), strict=True)])
    entries = [("first", first.entry[1]), ("second", second.entry[1])]
    return items_of(parts_of(shared)[0], entries, named), reasons


def _change(items: Items, n: int, reasons: Mapping[str, str] | None = None) -> Change:
    first, second = (float(items.values[k, n]) if items.ok[k, n] else None for k in (0, 1))
    name = items.part.utterances[n]
    return Change(name, first, second, "" if reasons is None else reasons.get(name, "not run"))


def _mean(items: Items, entry: int, common: Mask) -> float | None:
    return stats.weighted_mean(items.values[entry], np.where(common, items.weights[entry], 0.0))
