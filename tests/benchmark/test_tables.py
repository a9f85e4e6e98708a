"""Tables written batch by batch: whole or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from codecbench.benchmark.tables import write_table, writing

COLUMNS = {"name": "string", "value": "float64", "count": "int64"}


def test_what_is_added_by_rows_and_by_columns_is_read_back(tmp_path: Path) -> None:
    with writing(tmp_path / "table.parquet", COLUMNS) as table:
        table.add_rows([{"name": "a", "value": 1.5, "count": None}])
        table.add({"name": ["b", None], "value": [None, 2.0], "count": [3, 4]})
        table.add_rows([])
    assert pq.read_table(tmp_path / "table.parquet").to_pylist() == [
        {"name": "a", "value": 1.5, "count": None},
        {"name": "b", "value": None, "count": 3},
        {"name": None, "value": 2.0, "count": 4},
    ]


def test_a_table_without_rows_has_its_columns(tmp_path: Path) -> None:
    write_table(tmp_path / "table.parquet", [], COLUMNS)
    assert pq.read_table(tmp_path / "table.parquet").column_names == list(COLUMNS)


def test_an_error_leaves_the_old_table(tmp_path: Path) -> None:
    write_table(tmp_path / "table.parquet", [{"name": "a", "value": 1.5, "count": 1}], COLUMNS)
    before = (tmp_path / "table.parquet").read_bytes()
    with pytest.raises(ZeroDivisionError), writing(tmp_path / "table.parquet", COLUMNS) as table:
        table.add_rows([{"name": "b", "value": 1.0, "count": 1 // 0}])
    assert [path.name for path in tmp_path.iterdir()] == ["table.parquet"]
    assert (tmp_path / "table.parquet").read_bytes() == before


FULL_DISK = """
import os, resource, signal, sys
from pathlib import Path
from codecbench.benchmark.tables import write_table
from codecbench.errors import InfrastructureError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    rows = [{"name": os.urandom(50).hex()} for _ in range(10_000)]
    write_table(Path(sys.argv[1]) / "table.parquet", rows, {"name": "string"})
except InfrastructureError as error:
    print(error)
"""


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith(f"disk full at {tmp_path / 'table.parquet'}")
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []
