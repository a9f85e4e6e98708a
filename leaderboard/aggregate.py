"""From rows to a `Summary`: for each entry and dataset the means, intervals, coverage, bitrates and ranks.

An entry is a system at an operating point. A failed item never leaves the denominator: coverage says how many
expected items have a value, the worst-case score counts each failed item at the metric's floor, and only an entry
with full coverage is ranked. Ranks compare entries of one track, one bitrate band and one dataset.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import floor, fsum, inf, isnan, log2
from statistics import fmean
from typing import Literal, NamedTuple, TypeAlias, cast

from codecbench.leaderboard import stats
from codecbench.leaderboard.board import CORPUS, Board, Metric
from codecbench.leaderboard.scores import (
    Counts,
    Entry,
    Means,
    Part,
    Scores,
    Split,
    average,
    average_means,
    bitrate,
    parts_of,
    score,
)  # fmt: skip
from codecbench.leaderboard.stats import Drawn, Estimate

BAND_START = 0.625
"""Bitrate bands are octaves from here, in kbps (all below is one): edges lie between usual operating points."""
Mean: TypeAlias = Literal["macro", "micro", "duration"]
MEANS: dict[Mean, str] = {
    "macro": "every dataset weighs the same, and in it every item (of error rates, every word)",
    "micro": "every item weighs the same (of error rates, every word), whichever dataset it is from",
    "duration": "every second weighs the same, whichever dataset it is from",
}
"""The three means of an entry, and what weighs the same in them. Ranks and intervals are of the first."""
ALL = "*"
"""The dataset of the section that averages over all datasets."""
TRACKS = ("official", "small", "classical", "control")


@dataclass(frozen=True)
class Cell:
    """One entry under one metric.

    Attributes:
        counts: Items by status.
        estimate: Mean over the items that are ok; over datasets, the mean of their means (macro).
        worst: The mean with failed items at the metric's floor (or, without one, at the worst value that any
            entry got on the dataset); None for a metric without a direction.
        micro: The mean over all items together; differs from the estimate only over several datasets.
        by_duration: The mean over all items together, each weighing its seconds; None where durations are unknown.
        beyond: Values worse than the metric's floor or better than its perfect value; none is clipped.
        unranked: Why it is not ranked; empty if it is.
        rank: Lowest and highest rank it may hold among its `rivals`; None if it is not ranked.
        rivals: Ranked entries of the same track and band, itself included.
    """

    counts: Counts
    estimate: Estimate | None
    worst: float | None
    micro: float | None
    beyond: int
    unranked: str
    rank: tuple[int, int] | None = None
    rivals: int = 0
    by_duration: float | None = None

    def mean(self, of: Mean) -> float | None:
        """One of the means that `MEANS` describes."""
        if of == "macro":
            return self.estimate.value if self.estimate else None
        return self.micro if of == "micro" else self.by_duration

    @property
    def leads(self) -> bool:
        """It may be the best of at least two rivals."""
        return self.rank is not None and self.rank[0] == 1 and self.rivals > 1


@dataclass(frozen=True)
class Row:
    """One entry in one section; `kbps` is measured, `properties` are facts about the corpus such as delay."""

    system: str
    point: str
    track: str
    kbps: Estimate | None
    unranked: str
    cells: Mapping[str, Cell]
    properties: Mapping[str, float]

    @property
    def band(self) -> str:
        """The bitrate band that it is ranked in, in kbps, such as ``5–10``; empty without a bitrate."""
        return band(self.kbps.value) if self.kbps else ""


@dataclass(frozen=True)
class Section:
    """The rows of one dataset or a part of it, or the mean over all datasets (`dataset` is ``*``).

    Rows are sorted by track, then bitrate. `drawn` is what the resamples of each metric draw.
    """

    dataset: str
    title: str
    utterances: int
    drawn: Mapping[str, Drawn]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Summary:
    """All sections, the metrics that have an item somewhere, and why systems without any row have none."""

    sections: tuple[Section, ...]
    metrics: Mapping[str, Metric]
    absent: Mapping[str, str]


class _Column(NamedTuple):
    """One metric in one section: a cell an entry, None for one that it was not run on."""

    cells: list[Cell | None]
    drawn: Drawn


def band(kbps: float) -> str:
    """The band of bitrates that `kbps` lies in, such as ``5–10``."""
    if kbps < BAND_START:
        return f"0–{BAND_START:g}"
    low = BAND_START * 2 ** floor(log2(kbps / BAND_START))
    return f"{low:g}–{2 * low:g}"


def aggregate(board: Board, by: Split | None = None) -> Summary:
    """Summarise a board: a section a dataset, then one over all if there are several.

    Args:
        board: The results.
        by: Make a section of each language, domain or speaker of a dataset, in place of the whole.
    """
    items = board.results[board.results["utterance"] != CORPUS]
    pairs = items[["system", "point"]].drop_duplicates()
    entries: list[Entry] = sorted(zip(pairs["system"], pairs["point"], strict=True))
    groups = dict(tuple(items.groupby(["metric", "dataset"], sort=False)))
    none = items.iloc[:0]
    parts = [part for dataset in board.datasets.values() for part in parts_of(dataset, by)]
    several = by is None and len(parts) > 1
    coded = dict(tuple(items.groupby("dataset", sort=False)))
    rates = [bitrate(part, entries, coded.get(part.dataset, none)) for part in parts]
    rates += [average_means(rates)] if several else []
    tables: list[dict[str, _Column]] = [{} for _ in rates]
    for metric in board.metrics.values():
        found = [score(metric, part, entries, groups.get((metric.name, part.dataset), none)) for part in parts]
        found += [average(found)] if several else []
        for table, scores, rate in zip(tables, found, rates, strict=True):
            table[metric.name] = _Column(_cells(board, metric, entries, scores, rate), scores.means.drawn)
    properties = _properties(board)
    sections = [_section(board, *facts, entries, properties) for facts in zip(parts, rates, tables, strict=False)]
    if several:
        sections.append(_section(board, _whole(parts), rates[-1], tables[-1], entries, properties))
    used = {name for section in sections for row in section.rows for name in row.cells}
    present = {system for system, _ in entries}
    return Summary(
        sections=tuple(sections),
        metrics={name: metric for name, metric in board.metrics.items() if name in used},
        absent={s.name: s.invalid or "no results" for s in board.systems.values() if s.name not in present},
    )


def _cells(board: Board, metric: Metric, entries: Sequence[Entry], scores: Scores, rates: Means) -> list[Cell | None]:
    cells: list[Cell | None] = []
    groups: dict[tuple[str, str], list[int]] = {}
    for k, (name, _) in enumerate(entries):
        if not scores.ran[k]:
            cells.append(None)
            continue
        system, rate = board.systems[name], rates.estimate(k)
        unranked = system.unranked or _incomplete(metric, scores.counts[k], rate)
        cells.append(
            Cell(
                counts=scores.counts[k],
                estimate=scores.means.estimate(k),
                worst=None if isnan(scores.worst[k]) else float(scores.worst[k]),
                micro=scores.means.pooled(k),
                beyond=int(scores.beyond[k]),
                unranked=unranked,
                by_duration=scores.by_duration(k),
            )
        )
        if not unranked and rate:
            groups.setdefault((system.track, band(rate.value)), []).append(k)
    for group in groups.values():
        _rank(cells, group, metric, scores.means)
    return cells


def _incomplete(metric: Metric, counts: Counts, rate: Estimate | None) -> str:
    if metric.direction == "none":
        return "no direction"
    if not counts.expected:
        return "undefined on every item"
    lacking = [f"{n} {what}" for what in ("failed", "error", "missing") if (n := getattr(counts, what))]
    return ", ".join(lacking) or ("" if rate else "no measured bitrate")


def _rank(cells: list[Cell | None], group: Sequence[int], metric: Metric, means: Means) -> None:
    """Fill in the rank intervals of the ranked entries of one track and band."""
    ranks = stats.rank_intervals(
        means.draws[:, group], int(means.clusters[group[0]]), higher_is_better=metric.direction == "higher"
    )
    for k, rank in zip(group, ranks, strict=True):
        if (cell := cells[k]) is not None:
            cells[k] = replace(cell, rank=rank, rivals=len(group))


def _section(
    board: Board, part: Part, rates: Means, table: Mapping[str, _Column], entries: Sequence[Entry],
    properties: Mapping[tuple[str, str, str], Mapping[str, float]],
) -> Section:  # fmt: skip
    rows = []
    for k, (name, point) in enumerate(entries):
        cells = {metric: cell for metric, column in table.items() if (cell := column.cells[k]) is not None}
        if cells:
            system = board.systems[name]
            facts = properties.get((name, point, part.dataset), {})
            rows.append(Row(name, point, system.track, rates.estimate(k), system.unranked, cells, facts))
    return Section(
        dataset=part.dataset,
        title=part.title,
        utterances=len(part.utterances),
        drawn={name: column.drawn for name, column in table.items() if any(column.cells)},
        rows=tuple(sorted(rows, key=_order)),
    )


def _order(row: Row) -> tuple[object, ...]:
    track = TRACKS.index(row.track) if row.track in TRACKS else len(TRACKS)
    kbps = row.kbps.value if row.kbps else inf
    return track, row.track, bool(row.unranked), kbps, row.system, row.point


def _whole(parts: Sequence[Part]) -> Part:
    """All datasets together."""
    return Part(
        dataset=ALL,
        title=f"Mean over {len(parts)} datasets",
        utterances=tuple(name for part in parts for name in part.utterances),
        speakers=tuple(name for part in parts for name in part.speakers),
    )


def _properties(board: Board) -> dict[tuple[str, str, str], dict[str, float]]:
    """Facts of each (system, point, dataset): rows about the whole corpus, speed and memory.

    A fact of each stream, such as ``utilisation/0``, is there stream by stream and as their mean.
    """
    found: defaultdict[tuple[str, str, str], dict[str, float]] = defaultdict(dict)
    corpus = board.results[(board.results["utterance"] == CORPUS) & (board.results["status"] == "ok")]
    corpus = corpus[corpus["metric"] != "kbps"]  # measured anew from the items, with an interval
    for system, point, dataset, name, value in corpus[["system", "point", "dataset", "metric", "value"]].to_numpy():
        found[system, point, dataset][name] = float(value)
    for facts in found.values():
        for base in {name.partition("/")[0] for name in facts if "/" in name} - set(facts):
            facts[base] = fmean(value for name, value in facts.items() if name.startswith(f"{base}/"))
    entries = board.timings.groupby(["system", "point", "dataset"])
    for key, group in entries:
        facts = found[cast("tuple[str, str, str]", key)]
        for verb in ("encode", "decode"):
            known = group[group[f"{verb}_seconds"].notna()]
            if (seconds := fsum(known["duration"])) > 0:
                facts[f"{verb}_rtf"] = fsum(known[f"{verb}_seconds"]) / seconds
        if group["peak_memory_mb"].notna().any():
            facts["peak_memory_mb"] = float(group["peak_memory_mb"].max())
    return found
