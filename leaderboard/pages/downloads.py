"""Everything as files: the scores as CSV, JSON and Parquet, and every row that they were made from."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

from codecbench.leaderboard.export import COLUMNS, FORMULA, records, to_csv, to_json
from codecbench.leaderboard.pages.base import Page, PageType, Site

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
    import pandas as pd

    folder = out / "downloads"
    folder.mkdir(exist_ok=True)
    (folder / "scores.csv").write_text(to_csv(site.board, site.summary), encoding="utf-8", newline="")
    (folder / "scores.json").write_text(to_json(site.board, site.summary), encoding="utf-8", newline="\n")
    pd.DataFrame(records(site.summary), columns=list(COLUMNS)).to_parquet(folder / "scores.parquet", index=False)
    site.board.results.to_parquet(folder / "rows.parquet", index=False)
    with (folder / "rows.csv.gz").open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
        _rows_csv(site, packed)
    yield from (f"downloads/{name}" for name, _ in FILES)


def _rows_csv(site: Site, out: gzip.GzipFile) -> None:
    """The rows as CSV; text that a spreadsheet would run as a formula gets a leading apostrophe."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv

    table = pa.Table.from_pandas(site.board.results, preserve_index=False)
    for k, column in enumerate(table.columns):
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            starts = pc.is_in(pc.utf8_slice_codeunits(column, 0, 1), pa.array(FORMULA, column.type))
            mark, nothing = pa.scalar("'", column.type), pa.scalar("", column.type)
            escaped = pc.if_else(starts, pc.binary_join_element_wise(mark, column, nothing), column)
            table = table.set_column(k, table.column_names[k], escaped)
    csv.write_csv(table, out)


PAGE = PageType("downloads", "Downloads", _pages, write=_write)
