"""What a board of many rows costs, and that a run in parts is the same board as a whole one."""

from __future__ import annotations

import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from codecbench.errors import InfrastructureError
from codecbench.leaderboard.aggregate import aggregate
from codecbench.leaderboard.board import CORPUS, Board, distinct
from codecbench.leaderboard.load import KEY, read_runs
from codecbench.leaderboard.pages.base import Site
from codecbench.leaderboard.pages.downloads import AT_ONCE, _write_rows
from codecbench.leaderboard.scores import entry_places, places_of


@pytest.fixture(scope="module")
def board(full_run: Path) -> Board:
    return read_runs([full_run])


def repeated(run: Path, out: Path, times: int) -> Path:
    """The same run with so many times its points."""
    shutil.copytree(run, out)
    frame = pd.read_parquet(run / "results.parquet")
    pd.concat([frame.assign(point=frame["point"] + f" {k}") for k in range(times)]).to_parquet(out / "results.parquet")
    return out


def test_a_row_in_memory_is_some_dozens_of_bytes(full_run: Path, tmp_path: Path) -> None:
    board = read_runs([repeated(full_run, tmp_path / "run", 10)])
    assert len(board.results) > 60_000
    assert board.results.memory_usage(deep=True).sum() / len(board.results) < 70


def test_the_rows_of_a_metric_are_had_without_copies_of_the_others(full_run: Path, tmp_path: Path) -> None:
    needed = []
    for times in (2, 10):
        board = read_runs([repeated(full_run, tmp_path / f"{times}", times)])
        board.items("demo", "mel")  # where all rows are is found once
        tracemalloc.start()
        for metric in board.metrics:
            board.items("demo", metric)
        needed.append(tracemalloc.get_traced_memory()[1] / len(board.results))
        tracemalloc.stop()
    assert max(needed) < 40


def test_rows_are_those_that_filters_find(board: Board) -> None:
    rows = board.results
    for metric in board.metrics:
        mine = (rows["metric"] == metric) & (rows["dataset"] == "demo") & (rows["utterance"] != CORPUS)
        assert mine.any()
        assert_frame_equal(board.items("demo", metric), rows[mine])
    assert len(board.items("demo", "no such metric")) == len(board.items("no such set", "mel")) == 0
    items = rows[rows["utterance"] != CORPUS]
    assert board.entries == sorted(set(zip(items["system"], items["point"], strict=True)))
    assert distinct(rows, "status", "metric") == sorted(set(zip(rows["status"], rows["metric"], strict=True)))


@pytest.mark.parametrize("dtype", ["str", "category"])
def test_places_are_found_in_names_of_any_kind(dtype: Any) -> None:
    column = pd.Series(["b", "a", "c", "b"], dtype="str").astype(dtype)
    assert places_of(["a", "b"], column).tolist() == [1, 0, -1, 1]
    assert places_of([], column).tolist() == [-1] * 4
    frame = pd.DataFrame({"system": column, "point": pd.Series(["p", "p", "p", "q"], dtype="str").astype(dtype)})
    assert entry_places([("b", "p"), ("a", "p"), ("b", "r")], frame).tolist() == [0, 1, -1, -1]


def test_a_run_in_overlapping_parts_of_shuffled_rows_is_the_same_board(full_run: Path, tmp_path: Path) -> None:
    whole = read_runs([full_run])
    frame = pd.read_parquet(full_run / "results.parquet").sample(frac=1, random_state=3)
    size = len(frame)
    parts = []
    for k, part in enumerate((slice(0, size // 2), slice(size // 3, size), slice(size // 4, size // 3))):
        shutil.copytree(full_run, tmp_path / f"{k}")
        frame.iloc[part].to_parquet(tmp_path / f"{k}" / "results.parquet")
        parts.append(tmp_path / f"{k}")
    board = read_runs(parts)
    assert_frame_equal(board.results, whole.results)
    assert board.results[KEY].equals(board.results[KEY].sort_values(KEY, ignore_index=True))
    assert aggregate(board) == aggregate(whole)


def test_a_row_without_a_name_is_damage(full_run: Path, tmp_path: Path) -> None:
    shutil.copytree(full_run, tmp_path / "run")
    frame = pd.read_parquet(full_run / "results.parquet")
    frame.loc[3, "metric"] = None
    frame.to_parquet(tmp_path / "run" / "results.parquet")
    with pytest.raises(InfrastructureError, match=r"results\.parquet is damaged: a row has no metric"):
        read_runs([tmp_path / "run"])


def test_rows_are_written_piece_by_piece(board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codecbench.leaderboard.pages.downloads.AT_ONCE", 1000)
    assert AT_ONCE > len(board.results) > 2000
    _write_rows(Site(board, aggregate(board)), tmp_path)
    table, sheet = pd.read_parquet(tmp_path / "rows.parquet"), pd.read_csv(tmp_path / "rows.csv.gz")
    expected = board.results.astype({name: "str" for name in board.results if board.results[name].dtype == "category"})
    assert_frame_equal(table, expected, check_dtype=False)
    assert sheet["value"].to_numpy() == pytest.approx(expected["value"].to_numpy(), nan_ok=True)
    assert sheet["utterance"].tolist() == expected["utterance"].tolist()
    assert np.array_equal(sheet["bits"].isna(), expected["bits"].isna())
