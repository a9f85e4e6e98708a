"""A run's own cost grows with its work and no faster, and what is in memory does not grow with its rows."""

from __future__ import annotations

import importlib.util
import random
import time
import tracemalloc
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecbench.benchmark import tables
from codecbench.benchmark.plan import Unit
from codecbench.benchmark.results import RESULT_COLUMNS, write_results
from codecbench.benchmark.store import RunStore
from codecbench.benchmark.unit_queue import UnitQueue


@pytest.fixture(scope="session")
def scale() -> Any:
    """The script that measures all this at any size."""
    path = Path(__file__).parents[2] / "benchmarks" / "scale.py"
    spec = importlib.util.spec_from_file_location("scale", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def filled(scale: Any, folder: Path, systems: int, utterances: int) -> tuple[Any, RunStore]:
    """A plan, and a store that has all its rows."""
    plan = scale.fake_plan(folder, systems, utterances)
    store = RunStore(folder, plan.identity())
    with patch("os.fsync"):
        for unit in plan.units(store.done()):
            for row in scale.fake_rows(plan, unit):
                store.append(row)
    return plan, store


def peak(work: Any) -> int:
    """The most bytes that Python and numpy hold at once in `work` beyond what they held before."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@given(st.data())
def test_a_queue_a_system_chooses_as_sorting_them_all_would(data: st.DataObject) -> None:
    names = st.sampled_from("abcd")
    waiting = [Unit(name, f"set {k}", ()) for k, name in enumerate(data.draw(st.lists(names, max_size=12)))]
    queue = UnitQueue(waiting)
    back = 3
    while waiting:
        loaded, others = data.draw(names | st.just("")), data.draw(st.sets(names))
        ranked = sorted(waiting, key=lambda unit: (unit.system != loaded, unit.system in others))
        unit = queue.take(loaded, others)
        assert unit is ranked[0]
        waiting.remove(unit)
        if back and data.draw(st.booleans()):
            back -= 1
            queue.put_back(unit)
            waiting.insert(0, unit)
        assert len(queue) == len(waiting)
    with pytest.raises(IndexError, match="no unit is left"):
        queue.take()


def test_scheduling_takes_less_than_a_millisecond_a_unit(scale: Any, tmp_path: Path) -> None:
    plan = scale.units_plan(tmp_path, 20_000)
    start = time.process_time()
    units = plan.units(frozenset())
    planned = time.process_time()
    engine = scale.FakeEngine(plan, 8)
    list(engine.run(units))
    assert len(units) == 20_000
    assert (planned - start) / 20_000 < 1e-3
    assert (time.process_time() - planned) / 20_000 < 1e-3  # some 20 µs are usual


def test_units_of_a_system_that_cannot_load_are_as_small_as_others(scale: Any, tmp_path: Path) -> None:
    plan = scale.fake_plan(tmp_path, 1, 2_000)
    engine = scale.FakeEngine(plan, 1)
    engine._condemn("codec_000", "load(no library)")
    (first, *_), probed = plan.units(frozenset()), plan.datasets["set_0"].dataset.utterances[:8]
    found = engine._verdicts_on(first)
    assert {name for name, _ in first.items} <= found.keys() >= {utterance.id for utterance in probed}
    assert len(found) <= len(first.items) + 8


def test_a_resumed_store_holds_places_and_no_rows(scale: Any, tmp_path: Path) -> None:
    plan, store = filled(scale, tmp_path, systems=2, utterances=150)
    store.close()
    found: list[RunStore] = []
    tracemalloc.start()
    found.append(RunStore(tmp_path, plan.identity()))
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(found[0].done()) == len(store.done()) == plan.item_count() == 3000
    assert plan.units(found[0].done()) == []
    assert held / 3000 < 60  # a row is some 500 bytes on disk, and 3,000 as a dictionary


def test_the_newest_row_of_an_item_counts(scale: Any, tmp_path: Path) -> None:
    plan, store = filled(scale, tmp_path, systems=1, utterances=3)
    store.close()
    cell = next(iter(plan.cells()))
    row = next(store.rows(cell))
    key = (*cell, row["utterance"])
    for status in ("error", "ok"):
        store = RunStore(tmp_path, plan.identity())
        store.append({**row, "values": {metric: [status, "again", 7.0, 1.0] for metric in plan.metrics}})
        assert (key in store.done()) is (status == "ok")
        store.close()
        assert (key in RunStore(tmp_path, plan.identity()).done()) is (status == "ok")
    (newest,) = (r for r in RunStore(tmp_path, plan.identity()).rows(cell) if r["utterance"] == row["utterance"])
    assert {value[1] for value in newest["values"].values()} == {"again"}
    assert (*cell[:2], "no set", "x") not in store.done()


def test_the_order_of_rows_on_disk_is_no_matter_to_the_tables(scale: Any, tmp_path: Path) -> None:
    plan, store = filled(scale, tmp_path / "one", systems=2, utterances=20)
    first = write_results(plan, store)
    rows = [row for cell in plan.cells() for row in store.rows(cell)]
    random.Random(0).shuffle(rows)  # noqa: S311 - an order, no secret
    for start in range(0, len(rows), 150):  # each start of a run makes a segment
        again = RunStore(tmp_path / "two", plan.identity())
        for row in rows[start : start + 150]:
            again.append(row)
        again.close()
    second = write_results(plan, RunStore(tmp_path / "two", plan.identity()))
    assert first == second
    assert first.counts.total() == 2 * 2 * 5 * 20 * 10
    assert sum(first.reasons.values()) == first.counts["failed"] > 0


def test_a_table_written_in_batches_has_the_bytes_of_one_written_at_once(
    scale: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "ROW_GROUP", 700)
    plan, store = filled(scale, tmp_path, systems=1, utterances=30)
    write_results(plan, store)
    for name in ("results", "timings", "evidence"):
        written = tmp_path / f"{name}.parquet"
        table = pq.read_table(written).combine_chunks()
        pq.write_table(table, tmp_path / "once.parquet", compression="zstd", row_group_size=700)
        assert written.read_bytes() == (tmp_path / "once.parquet").read_bytes()
    table = pq.read_table(tmp_path / "results.parquet")
    assert table.column_names == list(RESULT_COLUMNS)
    keys = list(zip(*(table.column(name).to_pylist() for name in table.column_names[:5]), strict=True))
    assert keys == sorted(set(keys))
    assert len(keys) > 4 * 700


def test_writing_the_tables_needs_the_memory_of_a_cell(
    scale: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "ROW_GROUP", 1000)
    one, many = (filled(scale, tmp_path / f"{k}", systems=k, utterances=20) for k in (1, 3))
    write_results(*one)  # modules are imported
    assert peak(lambda: write_results(*many)) < 1.3 * peak(lambda: write_results(*one))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_half_a_million_values(scale: Any, tmp_path: Path) -> None:
    found = {stage: scale.measure(stage, tmp_path, 500_000) for stage in ("rows", "resume", "results", "table", "site")}
    per_value = {stage: 1e6 * facts["seconds"] / 500_000 for stage, facts in found.items()}
    assert found["resume"]["bytes"] / 500_000 < 40
    assert found["results"]["bytes"] < 700e6
    assert found["table"]["bytes"] / 500_000 < 500
    assert found["site"]["bytes"] / 500_000 < 1500
    assert all(spent < 200 for spent in per_value.values()), per_value
