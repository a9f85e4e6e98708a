"""What is said of an entry that claims another bitrate than it takes, or does not repeat itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codecbench.leaderboard.aggregate import aggregate
from codecbench.leaderboard.claims import cautions, mismatches
from codecbench.leaderboard.load import read_runs
from codecbench.leaderboard.site import build
from codecbench.leaderboard.table import render

MakeRun = Callable[..., Path]
SYSTEMS = {
    "honest": {"family": "F", "track": "official", "rates": [6, 12], "skill": 0.0},
    "boastful": {"family": "F", "track": "official", "rates": [5.9], "skill": 0.0},
}


def claiming(**kbps: float) -> Callable[[Any], None]:
    """An edit that gives systems another nominal bitrate."""

    def edit(draft: Any) -> None:
        for row in draft.rows:
            if row["metric"] == "nominal_kbps" and row["system"] in kbps:
                row["value"] = kbps[row["system"]]

    return edit


@pytest.mark.parametrize(("claim", "noticed"), [(5.9, False), (5.94, False), (1.0, True), (5.6, True), (6.2, True)])
def test_a_claim_of_another_bitrate_is_noticed(make_run: MakeRun, claim: float, *, noticed: bool) -> None:
    board = read_runs([make_run(systems=SYSTEMS, metrics=["mel"], trouble=False, edit=claiming(boastful=claim))])
    (section,) = aggregate(board).sections
    found = mismatches(board, section)
    assert [(m.system, m.point, m.claimed) for m in found] == ([("boastful", "5.9kbps", claim)] if noticed else [])
    assert ("Bitrates that are not those claimed: boastful 5.9kbps" in render(board)) is noticed
    row = next(row for row in section.rows if row.system == "boastful")
    assert row.kbps is not None
    assert row.kbps.value == pytest.approx(5.9, rel=0.01)  # whatever it claims, it is ranked there
    assert all(m.measured == row.kbps.value for m in found)


def test_a_frame_a_recording_is_nobodys_fault(make_run: MakeRun) -> None:
    def slow(draft: Any) -> None:
        for row in draft.rows:
            if row["metric"] == "token_rate":
                row |= {"metric": "frame_rate", "value": 12.5}
            elif row["metric"] == "nominal_kbps":
                row["value"] /= 1.02

    board = read_runs([make_run(systems=SYSTEMS, metrics=["mel"], trouble=False, edit=slow)])
    assert mismatches(board, aggregate(board).sections[0]) == ()


def test_who_does_not_repeat_itself_is_named(make_run: MakeRun) -> None:
    def unsteady(draft: Any) -> None:
        known = [row for row in draft.rows if row["metric"] == "parameters"]
        draft.rows.extend({**row, "metric": "repeatable", "value": float(row["system"] == "honest")} for row in known)

    board = read_runs([make_run(systems=SYSTEMS, metrics=["mel"], trouble=False, edit=unsteady)])
    (told,) = cautions(board, aggregate(board).sections[0])
    assert told.startswith("Coding a recording again gives something else: boastful 5.9kbps. ")
    assert told in render(board)


def test_over_datasets_there_is_no_claim(make_run: MakeRun) -> None:
    run = make_run(systems=SYSTEMS, metrics=["mel"], trouble=False, datasets=("a", "b"), edit=claiming(boastful=1.0))
    board = read_runs([run])
    assert [len(mismatches(board, section)) for section in aggregate(board).sections] == [1, 1, 0]


def late(draft: Any) -> None:
    """One system declares 480 samples of delay and is 6 ms later still; the other is where it should be."""
    for name, card in draft.facts["systems"].items():
        card |= {"delay": 480 if name == "boastful" else 0, "sample_rate": 24_000}
    for row in draft.rows:
        if row["metric"] == "delay_ms":
            row["value"] = {"boastful": 6.0, "honest": -0.9}[row["system"]]


def test_a_delay_that_is_not_the_declared_one_is_noticed(make_run: MakeRun) -> None:
    board = read_runs([make_run(systems=SYSTEMS, metrics=["mel"], trouble=False, edit=late)])
    (section,) = aggregate(board).sections
    (found,) = mismatches(board, section)
    assert (found.system, found.what, found.claimed, found.measured) == ("boastful", "delay", 20.0, 26.0)
    assert found.badge == "declares 20 ms delay"
    assert found.text == "20 ms of delay declared, 26.00 measured on Demo"
    assert "Delays in ms that are not those declared: boastful (20 declared, 26.00 measured)" in render(board)


def test_a_control_may_delay_what_it_likes(make_run: MakeRun) -> None:
    controls = {name: facts | {"track": "control"} for name, facts in SYSTEMS.items()}
    board = read_runs([make_run(systems=controls, metrics=["mel"], trouble=False, edit=late)])
    assert mismatches(board, aggregate(board).sections[0]) == ()


def test_claims_are_badges_in_words(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(systems=SYSTEMS, metrics=["mel"], trouble=False, datasets=("a", "b"), edit=claiming(boastful=1.0))
    site = build([run], tmp_path / "site").parent
    index = (site / "index.html").read_text(encoding="utf-8")
    badges = re.findall(r'<small class="claim" title="([^"]*)">([^<]*)</small>', index)
    assert badges == [("1 kbps of bitrate declared, 5.90 measured on A; 1 kbps of bitrate declared, 5.90 measured on B",
                       "declares 1 kbps")]  # fmt: skip
    page = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", next((site / "system").glob("boastful-*")).read_text()))
    assert "2 claims differ from what was measured" in page
    assert "5.9kbps A bitrate 1.00 kbps 5.90 kbps" in page
    assert "claims differ" not in next((site / "system").glob("honest-*")).read_text()
