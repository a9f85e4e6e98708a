"""Parquet files that are written batch by batch: what is in memory is a row group, whatever the number of rows.

The file depends on its rows, not on the batches that they came in: row groups have a fixed size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from codecbench.benchmark.segments import disk_error, replacing

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP = 1 << 20
"""Rows of a group, pyarrow's own choice for a table that is written at once."""


class TableWriter:
    """Writes rows to an open file; see `writing`.

    Args:
        file: Where the file goes.
        path: What it is called in messages.
        columns: The type of each column by name, as pyarrow calls it.
    """

    def __init__(self, file: BinaryIO, path: Path, columns: Mapping[str, str]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.path = path
        self.schema = pa.schema([(name, getattr(pa, kind)()) for name, kind in columns.items()])
        self._file = file
        self._writer = pq.ParquetWriter(file, self.schema, compression="zstd")
        self._waiting: list[pa.Table] = []
        self._empty = True

    def add_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows, each of which has every column."""
        self.add({name: [row[name] for row in rows] for name in self.schema.names})

    def add(self, columns: Mapping[str, Any]) -> None:
        """Add rows by columns: lists, or arrays of their column's type, all of one length.

        Raises:
            InfrastructureError: The disk is full or fails.
        """
        import pyarrow as pa

        table = pa.table(dict(columns), schema=self.schema)
        for k, kind in enumerate(self.schema.types):
            if pa.types.is_string(kind):  # what waits is small, since names repeat
                table = table.set_column(k, self.schema.names[k], table.column(k).dictionary_encode())
        self._waiting.append(table)
        while sum(map(len, self._waiting)) >= ROW_GROUP:
            waiting = pa.concat_tables(self._waiting)
            self._waiting = [waiting.slice(ROW_GROUP)]
            self._write(waiting.slice(0, ROW_GROUP))

    def close(self) -> None:
        """Write what is left, and the end of the file."""
        import pyarrow as pa

        rest = pa.concat_tables(self._waiting) if self._waiting else self.schema.empty_table()
        if len(rest) or self._empty:
            self._write(rest)
        try:
            self._writer.close()
        except OSError as error:
            raise disk_error(error, self.path, self._file.tell()) from error

    def abandon(self) -> None:
        """Write nothing more, not even the end of the file."""
        self._writer.is_open = False

    def _write(self, group: pa.Table) -> None:
        """Write a row group as if it had come at once: pages end where chunks do."""
        import pyarrow as pa

        self._empty = False
        whole = [
            column.cast(kind).combine_chunks() for column, kind in zip(group.columns, self.schema.types, strict=True)
        ]
        try:
            self._writer.write_table(pa.table(whole, schema=self.schema), ROW_GROUP)
        except OSError as error:
            raise disk_error(error, self.path, group.nbytes) from error


@contextmanager
def writing(path: Path, columns: Mapping[str, str]) -> Iterator[TableWriter]:
    """A table to fill, which is put at `path`, whole and on disk, at the end of the block if that does not raise."""
    with replacing(path) as file:
        writer = TableWriter(file, path, columns)
        try:
            yield writer
            writer.close()
        except BaseException:
            writer.abandon()
            raise


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    """Write `rows`, each of which has every column, at once."""
    with writing(path, columns) as writer:
        writer.add_rows(rows)
