from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from codecbench.errors import UsageError
from codecbench.leaderboard.aggregate import aggregate
from codecbench.leaderboard.board import Board
from codecbench.leaderboard.load import read_runs
from codecbench.leaderboard.table import WIDTH, render
from codecbench.leaderboard.text import clean, number

MakeRun = Callable[..., Path]
ONE = {"opus": {"family": "Opus", "track": "classical", "rates": [6, 8], "skill": 0.0}}


@pytest.fixture(scope="session")
def board(full_run: Path) -> Board:
    return read_runs([full_run])


@pytest.fixture(scope="session")
def terminal(board: Board) -> list[str]:
    return render(board).splitlines()


def line_of(lines: list[str], *words: str) -> str:
    return next(line for line in lines if line.split()[: len(words)] == list(words))


def test_the_table_fits_the_terminal(terminal: list[str]) -> None:
    notes = next(k for k, line in enumerate(terminal) if line.startswith("kbps is measured"))
    assert max(cell_len(line) for line in terminal[:notes]) <= WIDTH
    assert "f0_rmse" not in "\n".join(terminal[:notes])
    assert any(line.startswith("Left out for width: ") and "f0_rmse" in line for line in terminal)


def test_scores_have_intervals_stars_and_coverage(terminal: list[str]) -> None:
    leader = line_of(terminal, "opus", "8kbps", "└")
    assert leader.count("*") == 4
    assert "±" in leader
    assert line_of(terminal, "codec2", "0.7kbps", "0.70").count("(95%)") == 5
    assert "*" not in line_of(terminal, "mimi", "0.55kbps", "0.55")


def test_tracks_and_reasons_are_titles(terminal: list[str]) -> None:
    for title in ("official", "official, not ranked: random weights", "small", "classical", "control, not ranked"):
        assert title in terminal


def test_trained_here_is_said_of_whose_numbers_show(terminal: list[str]) -> None:
    assert "tiny_codec: small, trained here, 9 steps on 1 min of tones" in "\n".join(terminal)


def test_failures_signatures_and_clusters_are_noted(terminal: list[str]) -> None:
    text = "\n".join(terminal)
    assert "codec2 0.7kbps on demo: 2 failed: decode(ValueError: frame 12 has 55 bits, expected 56)" in text
    assert "pesq_wb: impl:synthetic-1|rs:soxr-1.0-VHQ|v:1" in text
    assert "paired bootstrap over 6 speakers; from fewer than 20, read with care" in text


def test_chosen_columns_are_all_shown(board: Board) -> None:
    lines = render(board, metrics=["wer", "f0_rmse"]).splitlines()
    assert lines[3].split() == ["system", "point", "kbps", "wer", "↓", "f0_rmse", "↓"]
    everything = render(board, metrics=list(board.metrics)).splitlines()
    assert "Left out" not in "\n".join(everything)


def test_unknown_names_are_explained(board: Board) -> None:
    with pytest.raises(UsageError, match="unknown metric 'pesq': did you mean pesq_wb"):
        render(board, metrics=["pesq"])
    with pytest.raises(UsageError, match="unknown format 'xml': the formats are terminal, md, csv, json"):
        render(board, format="xml")


def test_markdown_is_a_table_a_section(board: Board) -> None:
    lines = render(board, "md", ["pesq_wb"]).splitlines()
    tables = [line for line in lines if line.startswith("|")]
    assert tables[:2] == ["| system | point | kbps | pesq_wb ↑<br>MOS |", "| --- | --- | --: | --: |"]
    assert len({line.replace("\\|", "").count("|") for line in tables[:28]}) == 1
    assert any(r"encodec_24khz\[random:1\]" in line for line in tables)


def test_json_holds_what_the_table_shows(board: Board) -> None:
    found = json.loads(render(board, "json"), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    (demo,) = found["sections"]
    assert demo["drawn"]["pesq_wb"] == {"count": 6, "unit": "speaker"}
    assert len(demo["rows"]) == 25
    row = next(row for row in demo["rows"] if row["system"] == "opus" and row["point"] == "8kbps")
    cell = aggregate(board).sections[0].rows[[r["point"] for r in demo["rows"]].index("8kbps")].cells["pesq_wb"]
    assert cell.estimate
    assert row["metrics"]["pesq_wb"]["value"] == cell.estimate.value
    assert (row["metrics"]["pesq_wb"]["rank_low"], row["metrics"]["wer"]["rank_low"]) == (1, None)


def test_csv_has_a_row_an_entry_and_quantity(board: Board) -> None:
    rows = list(csv.DictReader(io.StringIO(render(board, "csv"), newline="")))
    scores = [row for row in rows if row["quantity"] in board.metrics]
    assert len(scores) == 25 * 6
    kbps = [row for row in rows if row["quantity"] == "kbps"]
    assert len(kbps) == 25
    summary = aggregate(board).sections[0]
    assert {float(row["value"]) for row in kbps} == {row.kbps.value for row in summary.rows if row.kbps}


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_csv_text_never_starts_a_formula(make_run: MakeRun, start: str) -> None:
    name = f'{start}HYPERLINK("http://x";"a,b")\n'

    def edit(run: Any) -> None:
        run.facts["systems"] = {name: run.facts["systems"]["opus"]}
        for row in run.rows:
            row |= {"system": name} | ({"value": -1.5} if row["metric"] == "si_sdr" else {})

    board = read_runs([make_run(systems=ONE, items=6, metrics=["si_sdr"], edit=edit)])
    rows = list(csv.DictReader(io.StringIO(render(board, "csv"), newline="")))
    assert {row["system"] for row in rows} == {f"'{name}"}
    assert {row["value"] for row in rows if row["quantity"] == "si_sdr"} == {"-1.5"}


def test_a_terminal_is_not_steered(make_run: MakeRun) -> None:
    def edit(run: Any) -> None:
        run.facts["datasets"]["demo"]["title"] = "\x1b[2Jdemo[bold]\u202e"
        run.rows[0] |= {"status": "failed", "value": None, "reason": "line\none\x1b]0;title\x07"}

    text = render(read_runs([make_run(systems=ONE, items=6, edit=edit)]))
    assert "\x1b" not in text
    assert "�[2Jdemo[bold]�: 6 utterances" in text
    assert "line one�]0;title�" in text


def test_empty_and_single(make_run: MakeRun) -> None:
    empty = read_runs([make_run("empty", systems=ONE, items=6, edit=lambda run: run.rows.clear())])
    for form in ("terminal", "md"):
        assert "No results yet." in render(empty, form)
        assert "opus has no row: no results" in render(empty, form)
    assert json.loads(render(empty, "json"))["sections"][0]["rows"] == []
    assert len(render(empty, "csv").splitlines()) == 1
    single = read_runs([make_run("single", systems={"opus": {**ONE["opus"], "rates": [6]}}, items=3, speakers=1)])
    lines = render(single).splitlines()
    assert "paired bootstrap over 3 utterances" in lines[1]
    assert lines[1].endswith("none from fewer than 5")
    assert "*" not in line_of(lines, "opus", "6kbps", "6.00")


def test_numbers_have_no_negative_zero() -> None:
    assert (number(-0.001, 2), number(-0.006, 2), number(-0.0, 0)) == ("0.00", "-0.01", "0")


def test_clean_keeps_letters_of_every_script() -> None:
    assert clean("é Ω 中 ع \u200c क्ष") == "é Ω 中 ع \u200c क्ष"
    assert clean("a\tb\r\nc\x00\u2028\ud800") == "a b c���"
