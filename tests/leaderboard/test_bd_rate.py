from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import bjontegaard
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import Akima1DInterpolator

from codecbench.errors import UsageError
from codecbench.leaderboard import akima, stats
from codecbench.leaderboard.aggregate import aggregate
from codecbench.leaderboard.bd_matrix import bd_matrix, ladders
from codecbench.leaderboard.bd_rate import Delta, Ladder, compare_ladders, relative_curve_difference
from codecbench.leaderboard.board import Metric
from codecbench.leaderboard.load import read_runs

PSNR = Metric("psnr", "PSNR", "dB", "higher")
# The example of the package's own documentation, by rising rate.
ANCHOR = ([1358.24, 2486.44, 4593.60, 9487.76], [34.851, 36.845, 38.615, 40.037])
TEST = ([1356.24, 2451.52, 4469.00, 9787.80], [34.987, 36.970, 38.651, 40.121])


def ladder(
    points: tuple[list[float], list[float]], name: str = "a", noise: float = 0.0, clusters: int = 50, seed: int = 0
) -> Ladder:
    """A curve whose quality is noisy in the resamples, each point by itself."""
    rate, quality = (np.array(values) for values in points)
    shape = (stats.RESAMPLES, len(rate))
    jitter = np.random.default_rng(seed).normal(0, noise, shape) if noise else np.zeros(shape)
    return Ladder(name, rate, quality, np.tile(rate, (len(jitter), 1)), quality + jitter, clusters)


def deltas(anchor: tuple[list[float], list[float]], test: tuple[list[float], list[float]]) -> tuple[Delta, Delta]:
    found = compare_ladders(ladder(anchor), ladder(test, "b"), PSNR)
    return found.rate, found.quality


def value(delta: Delta) -> float:
    assert delta.value is not None, delta.reason
    return delta.value.value


# The numbers


def test_the_known_answer() -> None:
    rate, quality = deltas(ANCHOR, TEST)
    assert value(rate) == pytest.approx(-4.425245156997493, abs=1e-12)
    assert value(quality) == pytest.approx(bjontegaard.bd_psnr(*ANCHOR, *TEST, method="akima"), abs=1e-12)
    assert rate.points == (4, 4)
    assert rate.overlap == pytest.approx((40.037 - 34.987) / (40.121 - 34.851))
    assert rate.range == pytest.approx((34.987, 40.037))


def test_identical_curves_are_at_zero() -> None:
    rate, quality = deltas(ANCHOR, ANCHOR)
    for delta in (rate, quality):
        assert delta.value == stats.Estimate(0.0, 0.0, 0.0)
        assert str(delta.value.value) == "0.0"
        assert delta.overlap == 1.0


def test_half_the_rate_is_minus_fifty() -> None:
    rate, _ = deltas(ANCHOR, ([r / 2 for r in ANCHOR[0]], ANCHOR[1]))
    assert value(rate) == pytest.approx(-50.0, abs=1e-12)


def test_lower_better_counts_the_other_way_round() -> None:
    errors = replace(PSNR, direction="lower")
    worse = ([*ANCHOR[0]], [-quality + 1 for quality in ANCHOR[1]])
    better = ([*ANCHOR[0]], [-quality for quality in ANCHOR[1]])
    sides = [ladder((rate, [-v for v in values]), name) for name, (rate, values) in (("a", worse), ("b", better))]
    found = compare_ladders(sides[0], sides[1], errors)
    assert value(found.quality) == pytest.approx(-1.0)  # the error is smaller by one
    assert value(found.rate) < 0  # and so is the rate
    assert found.rate.range == pytest.approx((-39.037, -34.851 + 0), abs=1.0)
    assert found.rate.range is not None
    assert found.rate.range[0] < found.rate.range[1]


@settings(max_examples=60)
@given(st.integers(0, 100_000), st.integers(3, 9))
def test_splines_integrate_as_scipys_do(seed: int, points: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = np.cumsum(rng.uniform(0.1, 1, (8, points)), axis=1), np.cumsum(rng.normal(size=(8, points)), axis=1)
    y[0], y[1, : points // 2 + 1] = np.arange(points), 0.0  # a straight line, and a flat start
    low, high = (x[:, 0] + share * (x[:, -1] - x[:, 0]) for share in sorted(rng.random(2)))
    found = akima.fit(x, y).integral(low, high)
    expected = [Akima1DInterpolator(*line).integrate(a, b) for *line, a, b in zip(x, y, low, high, strict=True)]
    assert found == pytest.approx(np.array(expected), abs=1e-9)


def test_every_resample_is_what_the_package_gives() -> None:
    """The interval is that of the package's own BD-rates over the resamples."""
    anchor, test = ladder(ANCHOR, noise=0.05, seed=1), ladder(TEST, "b", noise=0.05, seed=2)
    found = compare_ladders(anchor, test, PSNR).rate.value
    draws = np.array([
        bjontegaard.bd_rate(anchor.rate, a, test.rate, t, method="akima", min_overlap=0)
        for a, t in zip(anchor.qualities, test.qualities, strict=True)
    ])  # fmt: skip
    assert found is not None
    assert (found.low, found.high) == pytest.approx(stats.interval(draws, 50), abs=1e-9)
    assert found.low is not None
    assert found.low < found.value


def test_the_curve_difference_averages_to_the_delta() -> None:
    sides = ladder(ANCHOR), ladder(TEST, "b")
    found = relative_curve_difference(*sides, PSNR, samples=4001)
    assert found[0][0] == pytest.approx(34.987)
    assert found[-1][0] == pytest.approx(40.037)
    mean = np.log10(1 + np.array([percent for _, percent in found]) / 100).mean()
    assert 100 * (10**mean - 1) == pytest.approx(-4.425245, abs=1e-3)
    assert relative_curve_difference(sides[0], ladder(([1, 2], [3, 4]), "b"), PSNR) == []


# Where there is none


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        (([1e3, 2e3], [35.0, 37.0]), "b has 2 of 3 points"),
        (([1e3, 2e3, 2e3, 4e3], [35.0, 36.0, 37.0, 38.0]), "b has two points of one rate"),
        (([1e3, 2e3, 4e3, 8e3], [35.0, 37.0, 36.0, 38.0]), "b is non-monotone: worse at 4000 than at 2000"),
        (([1e3, 2e3, 4e3], [20.0, 21.0, 22.0]), "overlap 0 %"),
        (([1e3, 2e3, 4e3], [33.0, 34.0, 36.0]), "overlap 16 %"),
        (([1e5, 2e5, 4e5], [35.0, 37.0, 39.5]), "beyond 1000 %"),
    ],
)
def test_a_reason_stands_where_there_is_no_rate(points: tuple[list[float], list[float]], reason: str) -> None:
    rate, _ = deltas(ANCHOR, points)
    assert rate.value is None
    assert rate.reason == reason


def test_a_metric_without_a_better_end_has_no_delta() -> None:
    found = compare_ladders(ladder(ANCHOR), ladder(TEST, "b"), replace(PSNR, direction="none"))
    assert {found.rate.reason, found.quality.reason} == {"the metric has no better end"}


def test_quality_at_equal_rate_needs_no_rising_quality() -> None:
    rate, quality = deltas(ANCHOR, ([1400, 2500, 4600, 9000], [36.0, 38.0, 37.0, 39.0]))
    assert "non-monotone" in rate.reason
    assert quality.value is not None


@pytest.mark.parametrize(("fall", "fits"), [(0.02, True), (0.2, False)])
def test_a_fall_within_noise_is_merged(fall: float, fits: bool) -> None:
    """Noise of 0.05 a point: the paired interval of two points is about 0.14 either way, half of it 0.07."""
    points = ([1358.0, 2486.0, 4593.0, 9487.0], [34.8, 36.8, 36.8 - fall, 40.0])
    found = compare_ladders(ladder(ANCHOR, noise=0.05, seed=1), ladder(points, "b", noise=0.05, seed=2), PSNR).rate
    assert (found.value is not None) == fits
    if fits:
        assert found.points == (4, 3)
        assert "b: 4 points merged to 3, to rise" in found.note
    else:
        assert "non-monotone" in found.reason


def test_without_enough_clusters_a_delta_has_no_interval() -> None:
    found = compare_ladders(ladder(ANCHOR, clusters=4), ladder(TEST, "b", clusters=4), PSNR).rate
    assert found.value is not None
    assert (found.value.low, found.value.high) == (None, None)


def test_an_interval_from_half_of_the_resamples_is_none() -> None:
    """Three points of which two are hardly apart: merged in half of the resamples, two are left."""
    close = ([1358.0, 1400.0, 9487.0], [34.8, 34.9, 40.0])
    found = compare_ladders(ladder(ANCHOR), ladder(close, "b", noise=0.5), PSNR).rate
    assert found.value is not None
    assert found.value.low is None
    assert "resamples have no curve" in found.note


def test_an_interval_without_end_is_none() -> None:
    """Points hardly apart in quality and far apart in rate: in some resamples the curve shoots off."""
    steep = ([1358.0, 2486.0, 4593.0, 9487.0], [34.8, 36.8, 36.85, 40.0])
    found = compare_ladders(ladder(ANCHOR), ladder(steep, "b", noise=0.05), PSNR).rate
    assert found.value is not None
    assert found.value.high is None
    assert "no interval: it reaches beyond 1000 %" in found.note


# On a board


def test_the_matrix_of_a_board(full_run: Path) -> None:
    board = read_runs([full_run])
    summary = aggregate(board)
    metric = summary.metrics["estoi"]
    found = bd_matrix(board, summary, summary.sections[0], metric)
    names = sorted({anchor for anchor, _ in found})
    assert "identity" not in names
    assert len(found) == len(names) ** 2
    same = found["opus", "opus"].rate
    assert same.value == stats.Estimate(0.0, 0.0, 0.0)
    assert found["opus", "snac_24khz"].rate.reason == "snac_24khz has 1 of 3 points"
    assert found["opus", "codec2"].rate.points == (0, 0) or found["opus", "codec2"].rate.points[1] == 3
    saved = found["encodec_24khz", "dac_16khz"].rate
    assert saved.value is not None
    assert saved.value.high is not None
    assert saved.value.high < 0  # the synthetic DAC is better at every rate
    there, back = (found[pair].rate.value for pair in (("encodec_24khz", "dac_16khz"), ("dac_16khz", "encodec_24khz")))
    assert there
    assert back
    assert (1 + there.value / 100) * (1 + back.value / 100) == pytest.approx(1)


def test_points_with_failed_items_are_left_out(full_run: Path) -> None:
    board = read_runs([full_run])
    summary = aggregate(board)
    found = ladders(board, summary, summary.sections[0], summary.metrics["pesq_wb"])
    assert found["codec2"].rate == pytest.approx([1.3, 2.4, 3.2], rel=0.02)
    assert found["codec2"].left_out == "1 with items that have no value"
    assert found["mimi"].fault == "mimi has 2 of 3 points, 1 with items that have no value left out"


def test_saturated_points_are_left_out(make_run: Callable[..., Path]) -> None:
    def saturate(draft: Any) -> None:
        for row in draft.rows:
            if (row["system"], row["point"], row["metric"]) == ("opus", "24kbps", "pesq_wb"):
                row["value"] = 4.63

    board = read_runs([make_run(edit=saturate, trouble=False)])
    summary = aggregate(board)
    found = ladders(board, summary, summary.sections[0], summary.metrics["pesq_wb"])["opus"]
    assert (len(found.rate), found.left_out) == (4, "1 saturated")


def test_over_token_rate_the_rates_are_those_of_tokens(full_run: Path) -> None:
    board = read_runs([full_run])
    summary = aggregate(board)
    found = ladders(board, summary, summary.sections[0], summary.metrics["estoi"], "token_rate")
    assert found["opus"].rate.tolist() == [600, 800, 1200, 1600, 2400]
    with pytest.raises(UsageError, match="no BD-rate over 'latency_ms'"):
        ladders(board, summary, summary.sections[0], summary.metrics["estoi"], "latency_ms")  # type: ignore[arg-type]


def test_over_datasets_the_curves_are_of_means(make_run: Callable[..., Path]) -> None:
    board = read_runs([make_run(datasets=("demo", "other"), trouble=False, items=15)])
    summary = aggregate(board)
    sections = {section.dataset: section for section in summary.sections}
    metric = summary.metrics["estoi"]
    both, one, two = (ladders(board, summary, sections[name], metric)["opus"] for name in ("*", "demo", "other"))
    assert both.quality == pytest.approx((one.quality + two.quality) / 2)
    by_tokens = ladders(board, summary, sections["*"], metric, "token_rate")["opus"]
    assert by_tokens.rate.tolist() == [600, 800, 1200, 1600, 2400]
