from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codecbench.errors import UsageError
from codecbench.leaderboard.aggregate import aggregate
from codecbench.leaderboard.board import Board
from codecbench.leaderboard.load import read_runs
from codecbench.leaderboard.rate_distortion import AXES, Curve, curves, find_axis, front
from codecbench.leaderboard.summary import Section, Summary

NOBODY = np.zeros((3, 3), dtype=np.bool_)


@pytest.fixture(scope="module")
def shown(full_run: Path) -> tuple[Board, Summary, Section]:
    board = read_runs([full_run])
    summary = aggregate(board)
    return board, summary, summary.sections[0]


def beats(*pairs: tuple[int, int]) -> Any:
    found = NOBODY.copy()
    for winner, loser in pairs:
        found[winner, loser] = True
    return found


@pytest.mark.parametrize(
    ("costs", "means", "better", "expected"),
    [
        ([1, 2, 3], [1, 2, 3], NOBODY, ["on", "on", "on"]),
        ([1, 2, 3], [1, 3, 2], NOBODY, ["on", "on", "tied"]),
        ([1, 2, 3], [1, 3, 2], beats((1, 2)), ["on", "on", "off"]),
        ([1, 2, 3], [3, 2, 1], beats((0, 1), (0, 2)), ["on", "off", "off"]),
        # Certainly better, but dearer: this takes nobody off.
        ([1, 2, 3], [1, 2, 3], beats((2, 0), (2, 1), (1, 0)), ["on", "on", "on"]),
        ([2, 2, 2], [1, 2, 2], beats((1, 0)), ["off", "tied", "tied"]),
    ],
)
def test_the_front_knows_intervals(costs: list[float], means: list[float], better: Any, expected: list[str]) -> None:
    assert front(costs, means, better, higher_is_better=True) == expected
    assert front(costs, [-mean for mean in means], better, higher_is_better=False) == expected


def by_name(shown: tuple[Board, Summary, Section], metric: str, axis: str = "kbps") -> dict[str, Curve]:
    board, summary, section = shown
    return {curve.system: curve for curve in curves(board, summary, section, summary.metrics[metric], axis)}


def test_curves_rise_in_bitrate_and_carry_intervals(shown: tuple[Board, Summary, Section]) -> None:
    found = by_name(shown, "pesq_wb")
    opus = found["opus"]
    assert (opus.family, opus.track, len(opus.points)) == ("Opus", "classical", 5)
    rates = [point.x.value for point in opus.points]
    assert rates == sorted(rates)
    assert all(point.y.low is not None and point.x.low is not None for point in opus.points)


def test_controls_and_incomplete_entries_are_shown_and_on_no_front(shown: tuple[Board, Summary, Section]) -> None:
    found = by_name(shown, "pesq_wb")
    for name in ("identity", "encodec_24khz[random:1]"):
        assert {(point.front, bool(point.unranked)) for point in found[name].points} == {("", True)}
    failed = found["codec2"].points[0]
    assert (failed.point, failed.front, failed.unranked) == ("0.7kbps", "", "2 failed")
    # The control is better and the incomplete entry cheaper than these; neither takes them off.
    assert found["codec2"].points[1].front in ("on", "tied", "off")
    assert found["dac_16khz"].points[-1].front == "on"
    assert {point.front for point in found["opus"].points[:1]} == {"off"}


@pytest.mark.parametrize("axis", sorted(AXES))
def test_every_axis(shown: tuple[Board, Summary, Section], axis: str) -> None:
    found = by_name(shown, "estoi", axis)
    if axis == "latency_ms":
        assert not found  # nobody measured it
        return
    points = [point for curve in found.values() for point in curve.points]
    expected = {"token_rate": 150.0, "bits_per_token": 10.0, "rtf": 0.18, "parameters": 14_851_810.0, "kbps": 1.5}
    assert found["encodec_24khz"].points[0].x.value == pytest.approx(expected[axis], rel=0.02)
    assert any(point.front for point in points) == AXES[axis].lower_is_better


def test_a_metric_without_a_better_end_has_curves_and_no_front(make_run: Callable[..., Path]) -> None:
    def describe(draft: Any) -> None:
        draft.facts["metrics"]["estoi"]["direction"] = "none"

    board = read_runs([make_run(edit=describe, trouble=False, items=8)])
    summary = aggregate(board)
    found = curves(board, summary, summary.sections[0], summary.metrics["estoi"])
    assert found
    assert {point.front for curve in found for point in curve.points} == {""}


def test_over_datasets_a_property_is_the_mean(make_run: Callable[..., Path]) -> None:
    def faster(draft: Any) -> None:
        for row in draft.rows:
            if row["metric"] == "token_rate" and row["dataset"] == "other":
                row["value"] *= 3

    board = read_runs([make_run(datasets=("demo", "other"), edit=faster, trouble=False, items=8)])
    summary = aggregate(board)
    section = summary.sections[-1]
    assert section.dataset == "*"
    found = {c.system: c for c in curves(board, summary, section, summary.metrics["estoi"], "token_rate")}
    assert [point.x.value for point in found["opus"].points] == [1200, 1600, 2400, 3200, 4800]


def test_an_unknown_axis_names_those_near() -> None:
    with pytest.raises(UsageError, match="did you mean token_rate"):
        find_axis("tokenrate")


def test_a_part_of_a_dataset_has_no_front_of_the_whole(full_run: Path) -> None:
    board = read_runs([full_run])
    summary = aggregate(board, by="language")
    with pytest.raises(ValueError, match="no section of a whole dataset"):
        curves(board, summary, summary.sections[0], summary.metrics["estoi"])
