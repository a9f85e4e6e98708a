"""From rows to a `Summary`: for each entry and dataset the means, intervals, coverage, bitrates and ranks.

An entry is a system at an operating point. A failed item never leaves the denominator: coverage says how many
expected items have a value, the worst-case score counts each failed item at the metric's floor, and only an entry
with full coverage is ranked. Ranks compare entries of one track, one bitrate band and one dataset; language models,
which have a dataset of requests a task and no bitrate, are compared within their track.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import fsum, inf, isnan
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple, cast

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
from codecbench.leaderboard.stats import Drawn
from codecbench.leaderboard.summary import ALL, TRACKS, Cell, Row, Section, Summary, band

if TYPE_CHECKING:
    import pandas as pd


class _Column(NamedTuple):
    """One metric in one section: a cell an entry, None for one that it was not run on."""

    cells: list[Cell | None]
    drawn: Drawn


def aggregate(board: Board, by: Split | None = None) -> Summary:
    """Summarise a board: a section a dataset, then one over all, of a kind, if there are several.

    Args:
        board: The results.
        by: Make a section of each language, domain or speaker of a dataset, in place of the whole.
    """
    entries = board.entries
    parts = [part for dataset in board.datasets.values() for part in parts_of(dataset, by)]
    tasks = [board.datasets[part.dataset].task for part in parts]
    wholes = [] if by else _wholes(tasks)
    rates = [bitrate(part, entries, _coded(board, part)) for part in parts]
    rates += [average_means([rates[k] for k in own]) for own in wholes]
    tasks += [tasks[own[0]] for own in wholes]
    tables: list[dict[str, _Column]] = [{} for _ in rates]
    for metric in board.metrics.values():
        found = [score(metric, part, entries, board.items(part.dataset, metric.name)) for part in parts]
        found += [average([found[k] for k in own]) for own in wholes]
        for table, scores, rate, task in zip(tables, found, rates, tasks, strict=True):
            table[metric.name] = _Column(_cells(board, metric, entries, scores, rate, task), scores.means.drawn)
    properties = _properties(board)
    parts += [_whole([parts[k] for k in own], tasks[own[0]]) for own in wholes]
    sections = [_section(board, *facts, entries, properties) for facts in zip(parts, tasks, rates, tables, strict=True)]
    used = {name for section in sections for row in section.rows for name in row.cells}
    present = {system for system, _ in entries}
    return Summary(
        sections=tuple(sections),
        metrics={name: metric for name, metric in board.metrics.items() if name in used},
        absent={s.name: s.invalid or "no results" for s in board.systems.values() if s.name not in present},
    )


def _coded(board: Board, part: Part) -> Iterator[pd.DataFrame]:
    """The rows that tell bits, metric by metric; requests to language models have none."""
    if not board.datasets[part.dataset].task:
        yield from (board.items(part.dataset, metric) for metric in sorted(board.metrics))


def _wholes(tasks: Sequence[str]) -> list[list[int]]:
    """Which parts are averaged together: those of recordings, and those of each task, where there are several."""
    same = {task: [k for k, other in enumerate(tasks) if other == task] for task in tasks}
    return [own for own in same.values() if len(own) > 1]


def _cells(
    board: Board, metric: Metric, entries: Sequence[Entry], scores: Scores, rates: Means, task: str
) -> list[Cell | None]:
    cells: list[Cell | None] = []
    groups: dict[tuple[str, str], list[int]] = {}
    for k, (name, _) in enumerate(entries):
        if not scores.ran[k]:
            cells.append(None)
            continue
        system, rate = board.systems[name], rates.estimate(k)
        unranked = system.unranked or _incomplete(metric, scores.counts[k], rated=bool(rate or task))
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
        if not unranked:
            groups.setdefault((system.track, band(rate.value) if rate else ""), []).append(k)
    for group in groups.values():
        _rank(cells, group, metric, scores.means)
    return cells


def _incomplete(metric: Metric, counts: Counts, *, rated: bool) -> str:
    if metric.direction == "none":
        return "no direction"
    if not counts.expected:
        return "undefined on every item"
    lacking = [f"{n} {what}" for what in ("failed", "error", "missing") if (n := getattr(counts, what))]
    return ", ".join(lacking) or ("" if rated else "no measured bitrate")


def _rank(cells: list[Cell | None], group: Sequence[int], metric: Metric, means: Means) -> None:
    """Fill in the rank intervals of the ranked entries of one track and band."""
    ranks = stats.rank_intervals(
        means.draws[:, group], int(means.clusters[group[0]]), higher_is_better=metric.direction == "higher"
    )
    for k, rank in zip(group, ranks, strict=True):
        if (cell := cells[k]) is not None:
            cells[k] = replace(cell, rank=rank, rivals=len(group))


def _section(
    board: Board, part: Part, task: str, rates: Means, table: Mapping[str, _Column], entries: Sequence[Entry],
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
        task=task,
    )


def _order(row: Row) -> tuple[object, ...]:
    track = TRACKS.index(row.track) if row.track in TRACKS else len(TRACKS)
    kbps = row.kbps.value if row.kbps else inf
    return track, row.track, bool(row.unranked), kbps, row.system, row.point


def _whole(parts: Sequence[Part], task: str) -> Part:
    """All datasets of recordings together, or all of a task."""
    return Part(
        dataset=ALL + task,
        title=f"{task}: mean over {len(parts)} lists of requests" if task else f"Mean over {len(parts)} datasets",
        utterances=tuple(name for part in parts for name in part.utterances),
        speakers=tuple(name for part in parts for name in part.speakers),
    )


def _of_answers(timings: pd.DataFrame) -> dict[str, float]:
    """How fast a language model answered: seconds for each second of the truth, steps a second, first audio in ms.

    And what it kept of the past, in kB for each second of audio that it heard or made.
    """
    known = timings[timings["generate_seconds"].notna()]
    if not (seconds := fsum(known["generate_seconds"])):
        return {}
    facts = {"steps_per_second": fsum(known["tokens"]) / seconds}
    if (truth := fsum(known["duration"])) > 0:
        facts["generate_rtf"] = seconds / truth
    if known["first_audio_seconds"].notna().any():
        facts["first_audio_ms"] = 1000 * float(known["first_audio_seconds"].mean())
    if known["cache_bytes_per_second"].notna().any():
        facts["cache_kb_per_second"] = float(known["cache_bytes_per_second"].mean()) / 1000
    return facts


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
        facts |= _of_answers(group)
        if group["peak_memory_mb"].notna().any():
            facts["peak_memory_mb"] = float(group["peak_memory_mb"].max())
    return found
