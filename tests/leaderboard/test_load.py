from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from codecbench.errors import InfrastructureError, UsageError
from codecbench.leaderboard.load import KEY, read_runs

MakeRun = Callable[..., Path]
SMALL = {"opus": {"family": "Opus", "track": "classical", "rates": [6, 12], "skill": 0.0}}
OTHER = {"mimi": {"family": "Mimi", "track": "official", "rates": [1.1], "skill": 0.5}}


def small(make_run: MakeRun, name: str, **options: Any) -> Path:
    return make_run(name, **{"systems": SMALL, "items": 6, "metrics": ["pesq_wb"], "trouble": False, **options})


def with_manifest(folder: Path, **changes: Any) -> Path:
    path = folder / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def test_a_full_run(full_run: Path) -> None:
    board = read_runs([full_run])
    assert len(board.systems) == 10
    assert list(board.metrics) == ["pesq_wb", "estoi", "mel", "si_sdr", "wer", "f0_rmse"]
    assert [item.id for item in board.datasets["demo"].utterances] == [f"utt{k:03d}" for k in range(40)]
    assert board.results[KEY].equals(board.results[KEY].sort_values(KEY, ignore_index=True))
    assert len(board.timings) == 25 * 40
    assert board.notices == ()


def test_an_identical_run_changes_nothing(make_run: MakeRun) -> None:
    one, two = small(make_run, "one"), small(make_run, "two")
    assert read_runs([one, two]).results.equals(read_runs([one]).results)
    assert read_runs([one, one]).results.equals(read_runs([one]).results)


def test_runs_of_different_systems_merge(make_run: MakeRun) -> None:
    board = read_runs([small(make_run, "one"), small(make_run, "two", systems=OTHER)])
    assert sorted(board.systems) == ["mimi", "opus"]
    assert set(board.results["system"]) == {"mimi", "opus"}
    assert [run.name for run in board.runs] == ["one", "two"]


def test_the_union_of_utterances_is_expected(make_run: MakeRun) -> None:
    board = read_runs([small(make_run, "one"), small(make_run, "two", systems=OTHER, items=9)])
    assert len(board.datasets["demo"].utterances) == 9


def test_contradicting_runs_are_named(make_run: MakeRun) -> None:
    one, two = small(make_run, "one"), small(make_run, "two", seed=5)
    with pytest.raises(UsageError, match=r"one and .*two disagree on opus / 12kbps / demo / utt000 / pesq_wb"):
        read_runs([one, two])


def test_different_datasets_of_one_name_are_refused(make_run: MakeRun) -> None:
    def edit(run: Any) -> None:
        run.facts["datasets"]["demo"]["fingerprint"] = "other"

    one, two = small(make_run, "one"), small(make_run, "two", edit=edit)
    with pytest.raises(UsageError, match=r"one and .*two have different datasets called 'demo'"):
        read_runs([one, two])


def test_different_weights_of_one_system_are_refused(make_run: MakeRun) -> None:
    def edit(run: Any) -> None:
        run.facts["systems"]["opus"]["weights"] = "official 0000"

    with pytest.raises(UsageError, match="different systems called 'opus'"):
        read_runs([small(make_run, "one"), small(make_run, "two", edit=edit)])


def test_a_valid_run_of_a_system_replaces_an_invalid_one(make_run: MakeRun) -> None:
    def edit(run: Any) -> None:
        run.facts["systems"]["opus"] |= {"status": "invalid:load(no library)", "weights": "?"}
        run.rows.clear()

    broken, sound = small(make_run, "one", edit=edit), small(make_run, "two")
    for order in ([broken, sound], [sound, broken]):
        assert read_runs(order).systems["opus"].unranked == ""
    assert read_runs([broken]).systems["opus"].unranked == "invalid:load(no library)"


def resigned(run: Any) -> None:
    run.facts["metrics"]["pesq_wb"]["signature"] = "pesq_wb|impl:synthetic-2|rs:soxr-1.0-VHQ|v:1"
    for row in run.rows:
        if row["metric"] == "pesq_wb":
            row["signature"] = run.facts["metrics"]["pesq_wb"]["signature"] if row["status"] == "ok" else ""


def test_signatures_never_share_a_column(make_run: MakeRun) -> None:
    board = read_runs([small(make_run, "one"), small(make_run, "two", systems=OTHER, edit=resigned, seed=3)])
    first, second = sorted(board.metrics)
    assert first.startswith("pesq_wb#")
    assert board.metrics[first].signature != board.metrics[second].signature
    assert board.metrics[first].title.startswith("PESQ wideband #")
    by_system = board.results[board.results["utterance"] != "*"].groupby("system")["metric"].unique()
    assert {tuple(names) for names in by_system} == {(first,), (second,)}
    (notice,) = board.notices
    assert "pesq_wb was measured in 2 ways" in notice
    assert "(impl:synthetic-1)" in notice
    assert "(impl:synthetic-2)" in notice


def test_one_signature_keeps_the_name(make_run: MakeRun) -> None:
    assert list(read_runs([small(make_run, "one")]).metrics) == ["pesq_wb"]


def test_a_newer_schema_is_refused(make_run: MakeRun) -> None:
    with pytest.raises(UsageError, match="has schema 2, this version of codecbench reads up to 1: upgrade"):
        read_runs([with_manifest(small(make_run, "one"), schema=2)])
    folder = small(make_run, "two")
    (folder / "run.json").write_text('{"schema": 2, "everything": "else"}')
    with pytest.raises(UsageError, match="has schema 2"):
        read_runs([folder])


def test_an_unfinished_run_is_said(make_run: MakeRun) -> None:
    board = read_runs([with_manifest(small(make_run, "one"), finished=False)])
    assert board.notices == ("Run one is not finished: its rows are what there was.",)


def test_no_folder_no_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run folder given"):
        read_runs([])
    with pytest.raises(UsageError, match=r"is no run folder: it has no run\.json"):
        read_runs([tmp_path])


def test_a_run_without_results(make_run: MakeRun) -> None:
    folder = small(make_run, "one")
    (folder / "results.parquet").unlink()
    with pytest.raises(UsageError, match="wrote no results yet"):
        read_runs([folder])


@pytest.mark.parametrize(
    ("text", "problem"), [("{", "Expecting"), ("[]", "lacks schema"), ('{"schema": 1}', "lacks name")]
)
def test_a_damaged_manifest(make_run: MakeRun, text: str, problem: str) -> None:
    folder = small(make_run, "one")
    (folder / "run.json").write_text(text)
    with pytest.raises(InfrastructureError, match=rf"run\.json is damaged: .*{problem}"):
        read_runs([folder])


def test_a_damaged_table(make_run: MakeRun) -> None:
    folder = small(make_run, "one")
    (folder / "results.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(InfrastructureError, match=r"results\.parquet is damaged"):
        read_runs([folder])
    pd.DataFrame({"system": ["opus"]}).to_parquet(folder / "results.parquet")
    with pytest.raises(InfrastructureError, match=r"results\.parquet is damaged: it has no column point"):
        read_runs([folder])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"status": "fine"}, "unknown status 'fine'"),
        ({"value": None}, "a row is ok and has no finite value"),
        ({"value": float("inf")}, "a row is ok and has no finite value"),
        ({"system": "stranger"}, "run.json does not list system 'stranger'"),
        ({"utterance": "utt999"}, "run.json does not list utterance 'utt999' of dataset 'demo'"),
    ],
)
def test_rows_that_contradict_themselves(make_run: MakeRun, change: dict[str, Any], problem: str) -> None:
    def edit(run: Any) -> None:
        run.rows[0] |= change

    with pytest.raises(InfrastructureError, match=problem):
        read_runs([small(make_run, "one", edit=edit)])
