from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codecbench.leaderboard.aggregate import aggregate
from codecbench.leaderboard.board import Metric
from codecbench.leaderboard.load import read_runs
from codecbench.leaderboard.scores import saturated
from codecbench.leaderboard.stats import Drawn
from codecbench.leaderboard.summary import MEANS, Row, Section, Summary, band
from codecbench.leaderboard.text import interval_note

MakeRun = Callable[..., Path]


def codec(rates: list[float], track: str = "official", skill: float = 0.0) -> dict[str, Any]:
    return {"family": "X", "track": track, "rates": rates, "skill": skill}


def summarise(make_run: MakeRun, **options: Any) -> Summary:
    return aggregate(read_runs([make_run("run", **{"items": 12, "trouble": False, "metrics": ["pesq_wb"], **options})]))


def find(section: Section, system: str, point: str | None = None) -> Row:
    (row,) = (row for row in section.rows if row.system == system and point in (None, row.point))
    return row


@pytest.fixture(scope="session")
def full(full_run: Path) -> Summary:
    return aggregate(read_runs([full_run]))


def test_counts_of_every_status(full: Summary) -> None:
    (demo,) = full.sections
    broken = find(demo, "codec2", "0.7kbps").cells["pesq_wb"]
    assert (broken.counts.expected, broken.counts.ok, broken.counts.failed) == (40, 38, 2)
    assert broken.counts.coverage == 0.95
    assert (broken.rank, broken.unranked) == (None, "2 failed")
    partial = find(demo, "mimi", "2.2kbps").cells["mel"]
    assert (partial.counts.missing, partial.unranked) == (1, "1 missing")
    ours = find(demo, "opus", "8kbps")
    assert (ours.cells["wer"].counts.error, ours.cells["wer"].unranked) == (1, "1 error")
    assert ours.cells["pesq_wb"].rank == (1, 1)
    pitch = ours.cells["f0_rmse"].counts
    assert (pitch.undefined, pitch.expected, pitch.coverage) == (4, 36, 1.0)


def test_means_are_those_of_the_rows(full: Summary, full_run: Path) -> None:
    rows = read_runs([full_run]).results
    for row in full.sections[0].rows:
        of_row = rows[(rows["system"] == row.system) & (rows["point"] == row.point) & (rows["status"] == "ok")]
        for name, cell in row.cells.items():
            mine = of_row[of_row["metric"] == name]
            assert cell.estimate
            expected = np.average(mine["value"], weights=mine["weight"])
            assert cell.estimate.value == pytest.approx(expected, rel=1e-12)
            assert cell.estimate.low is not None
            assert cell.estimate.high is not None
            assert cell.estimate.low <= cell.estimate.value <= cell.estimate.high
            assert cell.micro == pytest.approx(expected, rel=1e-12)


def test_bitrate_is_bits_over_seconds(full: Summary, full_run: Path) -> None:
    rows = read_runs([full_run]).results
    mine = rows[(rows["system"] == "mimi") & (rows["point"] == "1.1kbps") & (rows["metric"] == "mel")]
    kbps = find(full.sections[0], "mimi", "1.1kbps").kbps
    assert kbps
    assert kbps.value == pytest.approx(mine["bits"].sum() / mine["duration"].sum() / 1000, rel=1e-12)
    assert kbps.low is not None
    assert kbps.high is not None
    assert kbps.low < kbps.value < kbps.high


def test_failed_items_count_at_the_floor(make_run: MakeRun) -> None:
    def edit(run: Any) -> None:
        for row in run.rows:
            if row["utterance"] in ("utt000", "utt001") and row["system"] == "bad":
                row |= {"status": "failed", "reason": "output_silent", "value": None, "weight": 1.0}

    systems = {"bad": codec([6]), "good": codec([6], skill=0.4)}
    board = read_runs(
        [make_run(systems=systems, metrics=["pesq_wb", "mel", "wer"], items=12, trouble=False, edit=edit)]
    )
    (section,) = aggregate(board).sections
    bad = find(section, "bad").cells
    assert bad["pesq_wb"].estimate
    assert bad["pesq_wb"].worst == pytest.approx((10 * bad["pesq_wb"].estimate.value + 2 * 1.0) / 12)
    good = find(section, "good").cells
    assert good["pesq_wb"].worst == pytest.approx(good["pesq_wb"].estimate.value if good["pesq_wb"].estimate else 0)
    # Mel distance has no floor: the worst value that any entry got. Word errors weigh as the other system's do.
    mel, wer = (board.results[board.results["metric"] == name] for name in ("mel", "wer"))
    sound = mel[(mel["system"] == "bad") & (mel["status"] == "ok")]["value"]
    assert bad["mel"].worst == pytest.approx((sound.sum() + 2 * mel["value"].max()) / 12)
    words = wer[wer["system"] == "good"].set_index("utterance")["weight"]
    mine = wer[(wer["system"] == "bad") & (wer["status"] == "ok")]
    errors = (mine["value"] * mine["weight"]).sum() + words[["utt000", "utt001"]].sum()
    assert bad["wer"].worst == pytest.approx(errors / words.sum())


def test_an_item_undefined_for_one_is_so_for_all(make_run: MakeRun) -> None:
    def edit(run: Any) -> None:
        for row in run.rows:
            if row["utterance"] == "utt003" and row["system"] == "a":
                row |= {"status": "undefined", "reason": "ref_silent", "value": None}

    (section,) = summarise(make_run, systems={"a": codec([6]), "b": codec([6])}, edit=edit).sections
    counts = {(cell.counts.expected, cell.counts.undefined) for row in section.rows for cell in row.cells.values()}
    assert counts == {(11, 1)}
    assert all(row.cells["pesq_wb"].rank for row in section.rows)


def test_what_is_missing_from_one_run_is_missing(make_run: MakeRun) -> None:
    one = make_run("one", systems={"a": codec([6])}, items=8, trouble=False, metrics=["mel"])
    two = make_run("two", systems={"b": codec([6])}, items=12, trouble=False, metrics=["mel", "estoi"])
    (section,) = aggregate(read_runs([one, two])).sections
    assert find(section, "a").cells["mel"].unranked == "4 missing"
    assert "estoi" not in find(section, "a").cells
    assert find(section, "b").cells["mel"].rank == (1, 1)


def test_ranks_stay_within_track_and_band(make_run: MakeRun) -> None:
    systems = {
        "a": codec([3, 6], skill=0), "b": codec([6.2], skill=3.0), "c": codec([6], "small", 9.0),
        "r[random:1]": codec([6], skill=9.0), "k": codec([6], "control", 9.0),
    }  # fmt: skip
    (section,) = summarise(make_run, systems=systems).sections
    ranks = {(row.system, row.point): (row.cells["pesq_wb"].rank, row.cells["pesq_wb"].rivals) for row in section.rows}
    assert ranks == {
        ("a", "3kbps"): ((1, 1), 1), ("a", "6kbps"): ((2, 2), 2), ("b", "6.2kbps"): ((1, 1), 2),
        ("c", "6kbps"): ((1, 1), 1), ("r[random:1]", "6kbps"): (None, 0), ("k", "6kbps"): (None, 0),
    }  # fmt: skip
    unranked = {row.system: row.unranked for row in section.rows}
    assert unranked == {"a": "", "b": "", "c": "", "r[random:1]": "random weights", "k": "control"}
    assert [row.system for row in section.rows] == ["a", "a", "b", "r[random:1]", "c", "k"]


def test_the_same_output_twice_is_a_tie(make_run: MakeRun) -> None:
    def edit(run: Any) -> None:
        values = {
            row["utterance"]: row["value"] for row in run.rows if row["system"] == "a" and row["metric"] == "pesq_wb"
        }
        for row in run.rows:
            if row["system"] == "b" and row["metric"] == "pesq_wb":
                row["value"] = values[row["utterance"]]

    systems = {"a": codec([6]), "b": codec([6]), "c": codec([6], skill=-3)}
    (section,) = summarise(make_run, systems=systems, edit=edit).sections
    assert {row.system: row.cells["pesq_wb"].rank for row in section.rows} == {"a": (1, 2), "b": (1, 2), "c": (3, 3)}
    assert {row.system for row in section.rows if row.cells["pesq_wb"].leads} == {"a", "b"}


def test_over_datasets_each_weighs_the_same(make_run: MakeRun) -> None:
    def edit(run: Any) -> None:
        run.facts["datasets"]["two"]["utterances"] = run.facts["datasets"]["two"]["utterances"][:6]
        run.rows[:] = [
            r for r in run.rows if r["dataset"] == "one" or r["utterance"] in ("*", *[f"utt00{k}" for k in range(6)])
        ]

    found = summarise(make_run, systems={"a": codec([6])}, datasets=("one", "two"), edit=edit)
    one, two, both = (find(section, "a").cells["pesq_wb"] for section in found.sections)
    assert one.estimate
    assert two.estimate
    assert both.estimate
    assert both.estimate.value == pytest.approx((one.estimate.value + two.estimate.value) / 2)
    assert both.micro == pytest.approx((12 * one.estimate.value + 6 * two.estimate.value) / 18)
    assert [both.mean(of) for of in MEANS] == [both.estimate.value, both.micro, both.by_duration]
    assert both.counts.expected == 18
    assert both.estimate.low is not None
    assert both.estimate.low < both.estimate.value


def test_every_second_may_weigh_the_same(make_run: MakeRun) -> None:
    def edit(run: Any) -> None:
        for k, item in enumerate(run.facts["datasets"]["demo"]["utterances"]):
            item["duration"] = 8.0 if k == 0 else 1.0
        for row in run.rows:
            if row["metric"] == "pesq_wb":
                row["value"] = 3.0 if row["utterance"] == "utt000" else 2.0

    (section,) = summarise(make_run, systems={"a": codec([6])}, edit=edit).sections
    cell = find(section, "a").cells["pesq_wb"]
    assert cell.by_duration == pytest.approx((8 * 3.0 + 11 * 2.0) / 19)
    assert cell.micro == pytest.approx((3.0 + 11 * 2.0) / 12)


def test_without_durations_there_is_no_mean_of_seconds(make_run: MakeRun) -> None:
    def edit(run: Any) -> None:
        for item in run.facts["datasets"]["demo"]["utterances"]:
            item["duration"] = 0.0

    (section,) = summarise(make_run, systems={"a": codec([6])}, edit=edit).sections
    assert find(section, "a").cells["pesq_wb"].by_duration is None


@pytest.mark.parametrize(("metric", "value", "count"), [("mel", -0.1, 1), ("wer", 1.4, 1), ("si_sdr", -90.0, 0)])
def test_a_range_may_have_one_end(make_run: MakeRun, metric: str, value: float, count: int) -> None:
    """An error below its perfect 0, a word error rate above 1, and a ratio without ends."""

    def edit(run: Any) -> None:
        next(r for r in run.rows if r["metric"] == metric)["value"] = value

    (section,) = summarise(make_run, systems={"a": codec([6])}, metrics=[metric], edit=edit).sections
    assert find(section, "a").cells[metric].beyond == count


@pytest.mark.parametrize(("value", "expected"), [(4.61, True), (4.60, False), (1.0, False)])
def test_near_its_perfect_value_a_mean_is_saturated(value: float, expected: bool) -> None:
    assert saturated(Metric("pesq_wb", "PESQ", direction="higher", floor=1.0, perfect=4.64), value) is expected
    assert not saturated(Metric("mel", "Mel distance", direction="lower", perfect=0.0), 0.0)


def test_an_entry_that_lacks_a_dataset_has_no_mean_over_datasets(make_run: MakeRun) -> None:
    def edit(run: Any) -> None:
        run.rows[:] = [row for row in run.rows if row["dataset"] == "one" or row["system"] == "a"]

    found = summarise(make_run, systems={"a": codec([6]), "b": codec([6])}, datasets=("one", "two"), edit=edit)
    assert [{row.system for row in section.rows} for section in found.sections] == [{"a", "b"}, {"a"}, {"a"}]


def test_by_language(make_run: MakeRun) -> None:
    board = read_runs([make_run("run", systems={"a": codec([6])}, items=12, trouble=False, metrics=["mel"])])
    german, english = aggregate(board, by="language").sections
    assert (german.title, english.title) == ("Demo: language de", "Demo: language en")
    assert german.utterances + english.utterances == 12
    whole, parts = aggregate(board).sections[0].rows[0], (german.rows[0], english.rows[0])
    means = [row.cells["mel"].estimate.value for row in (whole, *parts) if row.cells["mel"].estimate]
    assert means[0] == pytest.approx((means[1] + means[2]) / 2)


def test_properties(full: Summary) -> None:
    facts = find(full.sections[0], "mimi", "1.1kbps").properties
    assert facts["encode_rtf"] == pytest.approx(0.11)
    assert facts["decode_rtf"] == pytest.approx(0.07)
    assert (facts["delay_ms"], facts["utilisation"], facts["peak_memory_mb"]) == (0.02, 0.93, 812.0)


def test_a_system_that_could_not_be_loaded(make_run: MakeRun) -> None:
    def edit(run: Any) -> None:
        run.facts["systems"]["b"] |= {"status": "invalid:load(no weights)", "reason": "run weights get b"}
        run.rows[:] = [row for row in run.rows if row["system"] == "a"]

    found = summarise(make_run, systems={"a": codec([6]), "b": codec([6])}, edit=edit)
    assert found.absent == {"b": "invalid:load(no weights): run weights get b"}


def test_values_out_of_range_are_kept_and_counted(make_run: MakeRun) -> None:
    def edit(run: Any) -> None:
        next(row for row in run.rows if row["metric"] == "wer")["value"] = 3.0

    (section,) = summarise(make_run, systems={"a": codec([6])}, metrics=["wer"], edit=edit).sections
    assert section.rows[0].cells["wer"].beyond == 1


def test_all_failed(make_run: MakeRun) -> None:
    def edit(run: Any) -> None:
        for row in run.rows:
            row |= {"status": "failed", "reason": "encode(crash)", "value": None, "bits": None}

    (section,) = summarise(make_run, systems={"a": codec([6])}, edit=edit).sections
    (row,) = section.rows
    assert (row.kbps, row.band) == (None, "")
    assert (row.cells["pesq_wb"].estimate, row.cells["pesq_wb"].worst) == (None, None)
    assert row.cells["pesq_wb"].unranked == "12 failed"


def test_no_rows_at_all(make_run: MakeRun) -> None:
    found = summarise(make_run, systems={"a": codec([6])}, edit=lambda run: run.rows.clear())
    assert [section.rows for section in found.sections] == [()]
    assert found.absent == {"a": "no results"}


@pytest.mark.parametrize(
    ("kbps", "name"),
    [(0.0, "0–0.625"), (0.55, "0–0.625"), (0.625, "0.625–1.25"), (1.5, "1.25–2.5"), (6.0, "5–10"), (256, "160–320")],
)
def test_bands(kbps: float, name: str) -> None:
    assert band(kbps) == name


def test_a_metric_of_few_speakers_draws_utterances(make_run: MakeRun) -> None:
    def edit(run: Any) -> None:
        items = run.facts["datasets"]["demo"]["utterances"]
        speech = {"*"} | {item["id"] for item in items if item["speaker"] in ("spk0", "spk1")}
        for row in run.rows:
            if row["metric"] == "wer" and row["utterance"] not in speech:
                row |= {"status": "undefined", "reason": "domain(music)", "value": None}

    found = summarise(make_run, systems={"a": codec([6])}, items=24, metrics=["mel", "wer"], edit=edit)
    assert found.sections[0].drawn == {"mel": Drawn(6, "speaker"), "wer": Drawn(8, "utterance")}
    note = interval_note(found.sections[0])
    assert "over 6 speakers (mel) and 8 utterances (wer); utterances where fewer than 5 speakers are known" in note
