"""Everything as files: the scores as CSV, JSON and Parquet, and every row that they were made from."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from codecbench.leaderboard.export import COLUMNS, FORMULA, records, to_csv, to_json
from codecbench.leaderboard.pages.base import Page, PageType, Site

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

AT_ONCE = 1 << 18
"""Rows written at once."""
FILES = (
    ("scores.csv", "Every score: one row an entry, dataset and quantity, with interval, counts, rank and signature."),
    ("scores.json", "The same as one JSON object; a later site can be compared with it."),
    ("scores.parquet", "The same as Parquet."),
    ("rows.parquet", "Every row that the scores are made from: system, point, dataset, utterance, metric."),
    ("rows.csv.gz", "The same rows as compressed CSV."),
)


def _pages(site: Site) -> Iterator[Page]:
    yield Page(
        "downloads.html",
        "downloads.html",
        "Downloads",
        {"files": FILES, "rows": len(site.board.results), "runs": site.board.runs},
    )


def _write(site: Site, out: Path) -> Iterator[str]:
    from pandas import DataFrame

    folder = out / "downloads"
    folder.mkdir(exist_ok=True)
    (folder / "scores.csv").write_text(to_csv(site.board, site.summary), encoding="utf-8", newline="")
    (folder / "scores.json").write_text(to_json(site.board, site.summary), encoding="utf-8", newline="\n")
    DataFrame(records(site.summary), columns=list(COLUMNS)).to_parquet(folder / "scores.parquet", index=False)
    _write_rows(site, folder)
    yield from (f"downloads/{name}" for name, _ in FILES)


def _write_rows(site: Site, folder: Path) -> None:
    """All rows as Parquet and CSV, `AT_ONCE` at a time."""
    import pyarrow.parquet as pq
    from pyarrow import csv

    first = _plain(site.board.results.iloc[:0])
    with (
        (folder / "rows.csv.gz").open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,
        csv.CSVWriter(packed, first.schema) as sheet,
        pq.ParquetWriter(folder / "rows.parquet", first.schema) as table,
    ):
        for start in range(0, len(site.board.results), AT_ONCE):
            rows = _plain(site.board.results.iloc[start : start + AT_ONCE])
            table.write_table(rows)
            sheet.write_table(_escaped(rows))


def _plain(rows: pd.DataFrame) -> pa.Table:
    """Rows as they are written: names as texts, bits as whole numbers."""
    import pyarrow as pa

    table = pa.Table.from_pandas(rows, preserve_index=False)
    kinds = {name: pa.float64() if str(rows[name].dtype) == "float64" else pa.string() for name in table.column_names}
    kinds |= {"bits": pa.int64(), "header_bits": pa.int64()}
    return table.cast(pa.schema(kinds.items()))


def _escaped(table: pa.Table) -> pa.Table:
    """Text that a spreadsheet would run as a formula gets a leading apostrophe."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for k, column in enumerate(table.columns):
        if pa.types.is_string(column.type):
            starts = pc.is_in(pc.utf8_slice_codeunits(column, 0, 1), pa.array(FORMULA, column.type))
            mark, nothing = pa.scalar("'", column.type), pa.scalar("", column.type)
            escaped = pc.if_else(starts, pc.binary_join_element_wise(mark, column, nothing), column)
            table = table.set_column(k, table.column_names[k], escaped)
    return table


PAGE = PageType("downloads", "Downloads", _pages, write=_write)
