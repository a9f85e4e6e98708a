"""The board as text: for a terminal, as Markdown, as CSV and as JSON."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from codecbench.errors import UsageError, did_you_mean
from codecbench.leaderboard.aggregate import aggregate
from codecbench.leaderboard.board import Board
from codecbench.leaderboard.claims import cautions
from codecbench.leaderboard.export import to_csv, to_json
from codecbench.leaderboard.summary import Cell, Row, Section, Summary
from codecbench.leaderboard.text import (
    ARROWS,
    PROPERTIES,
    Property,
    clean,
    failures,
    group_title,
    half_width,
    interval_note,
    number,
    places,
    short_signature,
)  # fmt: skip

WIDTH = 110
"""Columns to fill where no terminal says how many it has."""
LONGEST_NAME = 30
MOST_FAILURES = 8


@dataclass(frozen=True)
class Grid:
    """A table of text: heads of one or two lines, and rows; a row of one cell is the title of those below it."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def render(board: Board, format: str = "terminal", metrics: Sequence[str] | None = None) -> str:  # noqa: A002
    """The board as text.

    Args:
        board: What to show.
        format: ``terminal``, ``md``, ``csv`` or ``json``.
        metrics: Columns, by name; by default all, in a terminal as many as fit.

    Raises:
        UsageError: Unknown format or metric.
    """
    writers: dict[str, Callable[[Board, Summary], str]] = {
        "terminal": lambda board, summary: _terminal(board, summary, fit=metrics is None),
        "md": _markdown,
        "csv": to_csv,
        "json": to_json,
    }
    if format not in writers:
        raise UsageError(f"unknown format '{format}': the formats are {', '.join(writers)}")
    summary = aggregate(board)
    for name in metrics or ():
        if name not in summary.metrics:
            raise did_you_mean(name, list(summary.metrics), "metric")
    chosen = summary.metrics if metrics is None else {name: summary.metrics[name] for name in metrics}
    return writers[format](board, replace(summary, metrics=chosen))


def _terminal(board: Board, summary: Summary, *, fit: bool) -> str:
    from rich.console import Console

    file, colour = io.StringIO(), sys.stdout.isatty()
    console = Console(file=file, force_terminal=colour, width=None if colour else WIDTH, highlight=False, markup=False)
    left_out: dict[str, None] = {}
    for section in summary.sections:
        console.print(_heading(section), style="bold", soft_wrap=True)
        console.print(interval_note(section), style="dim", soft_wrap=True)
        for make in (_scores, _properties):
            grid = make(section, summary)
            if fit:
                grid, dropped = _fitting(grid, console.width)
                left_out |= dict.fromkeys(dropped)
            for line, style in lines(grid):
                console.print(line, style=style, soft_wrap=True)
    for note in _notes(board, summary, left_out):
        console.print(note, style="dim", soft_wrap=True)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def _fitting(grid: Grid, width: int) -> tuple[Grid, list[str]]:
    """As many columns as `width` holds (always one beyond the names), and the titles of those left out."""
    count = len(grid.heads)
    while count > 4 and sum(_widths(grid)[:count]) + 2 * (count - 1) > width:
        count -= 1
    rows = tuple(row[:count] for row in grid.rows)
    return Grid(grid.heads[:count], rows), [head.split()[0] for head in grid.heads[count:]]


def _widths(grid: Grid) -> list[int]:
    from rich.cells import cell_len

    rows = [grid.heads, *(row for row in grid.rows if len(row) > 1)]
    return [max(cell_len(part) for cell in column for part in cell.split("\n")) for column in zip(*rows, strict=True)]


def lines(grid: Grid) -> Iterator[tuple[str, str]]:
    """Lines of text, each with its style; names stand left, numbers right."""
    from rich.cells import cell_len

    def line(cells: Sequence[str]) -> str:
        pads = [" " * (width - cell_len(cell)) for cell, width in zip(cells, widths, strict=True)]
        return "  ".join(
            cell + pad if k < 2 else pad + cell for k, (cell, pad) in enumerate(zip(cells, pads, strict=True))
        )

    if len(grid.heads) <= 2:
        return
    widths = _widths(grid)
    names, units = zip(*(head.partition("\n")[::2] for head in grid.heads), strict=True)
    yield "", ""
    yield line(names), "bold"
    yield line(units), "dim"
    for row in grid.rows:
        yield (row[0], "bold") if len(row) == 1 else (line(row), "")
    yield "", ""


def _markdown(board: Board, summary: Summary) -> str:
    out = []
    for section in summary.sections:
        out += [f"### {_escape(_heading(section))}", "", f"{_escape(interval_note(section))}.", ""]
        for grid in (_scores(section, summary), _properties(section, summary)):
            out += [*pipes(grid), ""] if len(grid.heads) > 2 else []
    return "\n".join([*out, *(f"- {_escape(note)}" for note in _notes(board, summary, ()))])


def pipes(grid: Grid) -> Iterator[str]:
    """Lines of a Markdown table."""

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    yield line([_escape(head.strip()).replace("\n", "<br>") for head in grid.heads])
    yield line(["---" if k < 2 else "--:" for k in range(len(grid.heads))])
    for row in grid.rows:
        cells = [_escape(cell.strip()) for cell in row]
        yield line(cells if len(cells) > 1 else [f"**{cells[0]}**", *[""] * (len(grid.heads) - 1)])


def _escape(text: str) -> str:
    return re.sub(r"([\\`*\[\]<>|&])", r"\\\1", text)


def _heading(section: Section) -> str:
    return f"{clean(section.title)}: {section.utterances} {'requests' if section.task else 'utterances'}"


def _scores(section: Section, summary: Summary) -> Grid:
    """Entries under metrics; a bracket beside the bitrates joins entries that are ranked together."""
    metrics = [m for m in summary.metrics.values() if any(m.name in row.cells for row in section.rows)]
    digits = {metric.name: places(row.cells.get(metric.name) for row in section.rows) for metric in metrics}
    heads = [f"{clean(m.name)} {ARROWS[m.direction]}".rstrip() + f"\n{clean(m.unit)}" for m in metrics]
    rows: list[tuple[str, ...]] = []
    for title, group in groupby(section.rows, key=group_title):
        rows.append((title,))
        for _, band in groupby(group, key=lambda row: row.band):
            entries = list(band)
            for row, bracket in zip(entries, _brackets(entries), strict=True):
                rate = f"{bracket}{number(row.kbps.value, 2):>6}" if row.kbps else "–"
                scores = [_score(row.cells.get(m.name), digits[m.name]) for m in metrics]
                rows.append((*_names(row), *([] if section.task else [rate]), *scores))
    return Grid(("system", "point", *([] if section.task else ["kbps"]), *heads), tuple(rows))


def _brackets(entries: Sequence[Row]) -> list[str]:
    if len(entries) == 1 or entries[0].unranked:
        return [" "] * len(entries)
    return ["┌", *["│"] * (len(entries) - 2), "└"]


def _names(row: Row) -> tuple[str, str]:
    return _short(row.system), _short(row.point)


def _short(name: str) -> str:
    name = clean(name)
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _score(cell: Cell | None, digits: int) -> str:
    if cell is None or not cell.counts.expected:
        return "– "
    if cell.estimate is None:
        return f"0/{cell.counts.expected} "
    text = number(cell.estimate.value, digits)
    if cell.counts.ok < cell.counts.expected:
        return f"{text} ({100 * cell.counts.ok // cell.counts.expected}%)"
    if (half := half_width(cell.estimate)) is not None:
        text += f" ±{re.sub(r'^0[.]', '.', number(half, digits))}"
    return text + (" *"[cell.leads])


def _properties(section: Section, summary: Summary) -> Grid:  # noqa: ARG001 - as _scores
    """Entries under those properties that any of them has, in which they differ."""
    shown = {p: cells for p, cells in _written(section).items() if len(cells) == 1 or len(set(cells)) > 1}
    rows = [(*_names(row), *(cells[k] for cells in shown.values())) for k, row in enumerate(section.rows)]
    return Grid(("system", "point", *(f"{p.title}\n{p.unit}" for p in shown)), tuple(rows))


def _written(section: Section) -> dict[Property, list[str]]:
    """The properties that any entry has, and how each entry's is written."""
    return {
        p: [p.write(row.properties[p.name]) if p.name in row.properties else "–" for row in section.rows]
        for p in PROPERTIES
        if any(p.name in row.properties for row in section.rows)
    }


def _notes(board: Board, summary: Summary, left_out: Iterable[str]) -> Iterator[str]:
    """What a reader needs to know to read the tables."""
    yield from (clean(notice) for notice in board.notices)
    yield from (f"{clean(name)} has no row: {clean(reason)}" for name, reason in summary.absent.items())
    if not any(section.rows for section in summary.sections):
        yield "No results yet."
        return
    labelled: dict[str, list[str]] = {}
    for name in sorted({row.system for section in summary.sections for row in section.rows}):
        if label := board.systems[name].label:
            labelled.setdefault(label, []).append(name)
    yield from (clean(f"{', '.join(names)}: {label}") for label, names in labelled.items())
    yield "kbps is measured: payload bits over seconds. ± is the longer arm of the 95 % interval."
    yield (
        "* may be the best of its track and bitrate band (a bracket joins those ranked together): no entry of it"
        " is certainly better. Several stars are a tie; an entry alone in its band has none."
    )
    if names := ", ".join(left_out):
        yield f"Left out for width: {names}. Choose columns with --metrics; --format json has everything."
    for section in summary.sections:
        written = _written(section) if len(section.rows) > 1 else {}
        same = [f"{p.title} {cells[0]} {p.unit}".strip() for p, cells in written.items() if len(set(cells)) == 1]
        if same:
            yield f"The same for all entries of {clean(section.title)}: {', '.join(same)}."
        yield from map(clean, cautions(board, section))
    bad = failures(board)
    if bad:
        yield "(95%): only that share of the items has a value, so the score is not ranked:"
    for f in bad[:MOST_FAILURES]:
        yield clean(f"  {f.system} {f.point} on {f.dataset}: {f.items} {f.status}: {f.reason} (first {f.examples[0]})")
    if len(bad) > MOST_FAILURES:
        yield f"  and {len(bad) - MOST_FAILURES} more kinds of failure."
    for name, metric in summary.metrics.items():
        yield f"{clean(name)}: {short_signature(metric)}"
