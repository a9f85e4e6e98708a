from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from codecbench.leaderboard import pairs, stats
from codecbench.leaderboard.aggregate import aggregate
from codecbench.leaderboard.board import STATUSES, Metric
from codecbench.leaderboard.export import to_json
from codecbench.leaderboard.load import read_runs
from codecbench.leaderboard.pairs import Pairs, compare_bands, compare_entries, holm, pairwise
from codecbench.leaderboard.scores import Items, Part
from codecbench.leaderboard.stats import Array

HIGHER = Metric("m", "Metric", direction="higher", floor=0.0)
LOWER = replace(HIGHER, direction="lower", floor=1.0)


def sample(values: Array, weights: Array | None = None, each: int = 1, ok: Any = True, name: str = "u") -> Items:
    """Items of entries ``e0``, ``e1``, … with `each` items a speaker; those that are not `ok` failed."""
    count, size = values.shape
    part = Part(
        dataset="demo",
        title="Demo",
        utterances=tuple(f"{name}{n:05d}" for n in range(size)),
        speakers=tuple(f"{name}{n // each:05d}" for n in range(size)),
    )
    status = np.where(np.broadcast_to(ok, values.shape), STATUSES.index("ok"), STATUSES.index("failed"))
    return Items(
        part=part,
        entries=tuple((f"e{k}", "p") for k in range(count)),
        ran=np.ones(count, dtype=np.bool_),
        status=status.astype(np.intp),
        values=values,
        weights=np.ones(values.shape) if weights is None else weights,
    )


def noise(count: int, size: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(count, size))


def test_an_entry_against_itself() -> None:
    values = noise(1, 60)
    found = pairwise(HIGHER, [sample(np.vstack([values, values, values + 1]))])
    for pair in (found.pair(("e0", "p"), ("e0", "p")), found.pair(("e0", "p"), ("e1", "p"))):
        assert pair.difference == stats.Estimate(0.0, 0.0, 0.0)
        assert (pair.p, pair.wins, pair.better) == (1.0, 0.5, "")
    assert found.pair(("e0", "p"), ("e1", "p")).adjusted == 1.0
    ranks = stats.rank_intervals(
        stats.draw_means(np.vstack([values] * 3), np.ones((3, 60)), stats.cluster(("u",) * 60, ("",) * 60)),
        60,
        higher_is_better=True,
    )
    assert ranks == [(1, 3)] * 3


def test_what_one_sees_is_the_other_seen_from_behind() -> None:
    found = pairwise(HIGHER, [sample(noise(5, 40), ok=noise(5, 40, 1) > -1.5)])
    assert np.array_equal(found.difference, -found.difference.T)
    assert np.array_equal(found.low, -found.high.T)
    assert np.array_equal(found.p, found.p.T)
    assert found.wins + found.wins.T == pytest.approx(np.ones((5, 5)))


@pytest.mark.parametrize("metric", [HIGHER, LOWER])
def test_better_follows_the_direction(metric: Metric) -> None:
    values = noise(1, 50)
    pair = pairwise(metric, [sample(np.vstack([values, values + 0.5 + 0.1 * noise(1, 50, 1)]))]).pair(
        ("e1", "p"), ("e0", "p")
    )
    up = metric.direction == "higher"
    assert pair.difference is not None
    assert pair.difference.value > 0
    assert pair.wins == (1.0 if up else 0.0)
    assert pair.better == ("first" if up else "second")
    assert pair.p == pytest.approx(1 / 10_001)


def test_a_metric_without_a_better_end_has_differences_but_nobody_is_better() -> None:
    values = np.vstack([np.zeros(30), np.ones(30)])
    pair = pairwise(replace(HIGHER, direction="none"), [sample(values)]).pair(("e1", "p"), ("e0", "p"))
    assert pair.difference == stats.Estimate(1.0, 1.0, 1.0)
    assert (pair.better, pair.wins, pair.worst) == ("", None, None)


# What differs between entries: items, weights


def test_only_common_items_count() -> None:
    values = np.array([[1.0] * 10 + [99.0] * 2, [0.0] * 12])
    ok = np.array([[True] * 12, [True] * 10 + [False] * 2])
    pair = pairwise(HIGHER, [sample(values, ok=ok)]).pair(("e0", "p"), ("e1", "p"))
    assert pair.difference == stats.Estimate(1.0, 1.0, 1.0)
    assert (pair.items, pair.clusters, pair.lacking) == (10, 10, (0, 2))
    assert pair.worst == pytest.approx((10 + 2 * 99) / 12)
    assert pair.better == "first"


def test_who_lacks_an_item_is_never_better() -> None:
    ok = np.ones((2, 30), dtype=np.bool_)
    ok[0, 3] = False
    pair = pairwise(HIGHER, [sample(np.vstack([np.full(30, 5.0), np.ones(30)]), ok=ok)]).pair(("e0", "p"), ("e1", "p"))
    assert pair.difference is not None
    assert pair.difference.low == 4.0
    assert pair.better == ""


def test_without_a_common_item_there_is_no_comparison() -> None:
    ok = np.repeat([[True, False], [False, True]], 10, axis=1)
    pair = pairwise(HIGHER, [sample(noise(2, 20), ok=ok)]).pair(("e0", "p"), ("e1", "p"))
    assert (pair.difference, pair.p, pair.adjusted, pair.wins, pair.items) == (None, None, None, None, 0)


def test_a_metric_that_is_defined_on_no_item_compares_nothing() -> None:
    items = sample(noise(2, 12))
    undefined = replace(items, status=np.full((2, 12), STATUSES.index("undefined")), values=np.full((2, 12), np.nan))
    found = pairwise(HIGHER, [undefined])
    assert np.isnan(found.difference).all()
    assert (found.expected, found.items.max(), found.pair(("e0", "p"), ("e1", "p")).p) == (0, 0, None)


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.integers(1, 4), st.floats(0.05, 0.6))
def test_every_pair_is_what_the_two_alone_would_give(seed: int, each: int, lost: float) -> None:
    """Against `stats.difference`, for all patterns of missing items and unequal weights."""
    rng = np.random.default_rng(seed)
    values, weights = rng.normal(size=(4, 48)), rng.integers(1, 20, size=(4, 48)).astype(float)
    weights[1] = weights[0]
    ok = rng.random((4, 48)) > lost
    ok[1] = ok[0]
    items = sample(values, weights, each, ok)
    found = pairwise(HIGHER, [items])
    clusters = stats.cluster(items.part.utterances, items.part.speakers)
    kept = np.where(ok, weights, 0.0)
    if not ok.any(axis=0).all():
        return
    for a, b in itertools.product(range(4), repeat=2):
        expected, common = stats.difference((values[a], kept[a]), (values[b], kept[b]), clusters)
        pair = found.pair((f"e{a}", "p"), (f"e{b}", "p"))
        assert pair.items == common
        if expected is None:
            assert pair.difference is None
            continue
        assert pair.difference is not None
        assert pair.difference.value == pytest.approx(expected.value, abs=1e-9)
        assert pair.difference.low == (None if expected.low is None else pytest.approx(expected.low, abs=1e-9))
        assert pair.difference.high == (None if expected.high is None else pytest.approx(expected.high, abs=1e-9))


def test_p_is_that_of_all_swaps_one_by_one() -> None:
    """Unequal weights and missing items, against swapping clusters literally."""
    rng = np.random.default_rng(5)
    values = rng.normal(size=(2, 16)) + np.array([[0.5], [0.0]])
    weights = rng.integers(1, 9, size=(2, 16)).astype(float)
    ok = rng.random((2, 16)) > 0.2
    common = np.flatnonzero(ok.all(axis=0))
    observed, hits = 0.0, 0
    for swap in itertools.product([False, True], repeat=8):
        order = [(1, 0) if swap[n // 2] else (0, 1) for n in common]
        means = [
            np.average([values[o[k], n] for o, n in zip(order, common, strict=True)],
                       weights=[weights[o[k], n] for o, n in zip(order, common, strict=True)])
            for k in (0, 1)
        ]  # fmt: skip
        if not any(swap):
            observed = abs(means[0] - means[1])
        hits += abs(means[0] - means[1]) >= observed - 1e-12
    found = pairwise(HIGHER, [sample(values, weights, 2, ok)])
    assert found.exact
    assert found.swaps == 256
    assert found.p[0, 1] == hits / 256


# Against other implementations


@pytest.mark.parametrize("size", [8, 11, 13])
def test_p_agrees_with_scipy_exactly_where_all_swaps_are_tried(size: int) -> None:
    values = noise(2, size, seed=size) + np.array([[0.6], [0.0]])
    expected = scipy.stats.permutation_test(
        tuple(values), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", n_resamples=2**size
    )
    assert pairwise(HIGHER, [sample(values)]).p[0, 1] == pytest.approx(expected.pvalue, abs=1e-12)


@pytest.mark.parametrize(("size", "shift"), [(30, 0.1), (60, 0.3), (200, 0.2)])
def test_p_agrees_with_scipy(size: int, shift: float) -> None:
    values = noise(2, size, seed=size) + np.array([[shift], [0.0]])
    expected = scipy.stats.permutation_test(
        tuple(values), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples",
        n_resamples=40_000, rng=1, vectorized=True, batch=2000,
    )  # fmt: skip
    assert pairwise(HIGHER, [sample(values)]).p[0, 1] == pytest.approx(expected.pvalue, abs=0.01)


class CorpusMean:
    """What sacreBLEU's test needs of a metric: sufficient statistics of each line, and a score from their sum."""

    def __init__(self, values: Array) -> None:
        self.values = values

    def _extract_corpus_statistics(self, hypotheses: list[str], _: object) -> Array:
        return np.array([[self.values[int(line)], 1.0] for line in hypotheses])

    def _aggregate_and_compute(self, statistics: Array) -> Any:
        top, bottom = np.sum(statistics, axis=0)
        return type("Score", (), {"score": top / bottom})


@pytest.mark.parametrize(("size", "shift"), [(40, 0.1), (80, 0.25), (150, 0.1)])
def test_p_agrees_with_sacrebleu(size: int, shift: float) -> None:
    from sacrebleu.significance import Result, _paired_ar_test

    values = noise(2, size, seed=size) + np.array([[shift], [0.0]])
    metric = CorpusMean(values[0])
    baseline = np.stack([values[1], np.ones(size)], axis=1)
    _, result = _paired_ar_test(
        {"m": (baseline, Result(values[1].mean()))}, "e0", [str(n) for n in range(size)], None, {"m": metric}, 10_000,
        seed=12345,
    )  # fmt: skip
    assert pairwise(HIGHER, [sample(values)]).p[0, 1] == pytest.approx(result["m"].p_value, abs=0.01)


def test_interval_agrees_with_scipy() -> None:
    values = noise(2, 80, seed=3)
    found = pairwise(HIGHER, [sample(values)])
    expected = scipy.stats.bootstrap(
        (values[0] - values[1],), np.mean, n_resamples=20_000, method="percentile", rng=1,
        confidence_level=1 - 2 * stats.tail(80),
    ).confidence_interval  # fmt: skip
    allowed = 0.25 * (values[0] - values[1]).std() / 80**0.5  # four Monte Carlo errors, as in test_stats
    assert found.low[0, 1] == pytest.approx(expected.low, abs=allowed)
    assert found.high[0, 1] == pytest.approx(expected.high, abs=allowed)


def test_holm_is_that_of_a_worked_example() -> None:
    # Holm (1979): the smallest of four times 4, the next times 3 and so on, never falling and never above 1.
    assert holm(np.array([0.01, 0.04, np.nan, 0.03, 0.005])).tolist() == pytest.approx(
        [0.03, 0.06, np.nan, 0.06, 0.02], nan_ok=True
    )
    assert holm(np.array([0.6, 0.7])).tolist() == [1.0, 1.0]
    assert holm(np.array([])).size == 0


# Clusters


def test_copies_of_a_speakers_clips_are_no_news() -> None:
    values = noise(2, 30, seed=2) + np.array([[0.3], [0.0]])
    one, three = (pairwise(HIGHER, [sample(np.repeat(values, each, axis=1), each=each)]) for each in (1, 3))
    assert three.difference == pytest.approx(one.difference)
    assert three.p[0, 1] == pytest.approx(one.p[0, 1], abs=0.01)
    copies = pairwise(HIGHER, [sample(np.repeat(values, 3, axis=1), each=3)], by="utterance")
    assert copies.high[0, 1] - copies.low[0, 1] < 0.7 * (three.high[0, 1] - three.low[0, 1])
    assert copies.p[0, 1] < three.p[0, 1]


@pytest.mark.parametrize(
    ("speakers", "expected"),
    [(4, "no interval from fewer than 5"), (5, "no p-value can be below 0.0625"), (19, "fewer than 20"), (20, "")],
)
def test_few_clusters_come_with_a_warning(speakers: int, expected: str) -> None:
    warning = pairwise(HIGHER, [sample(noise(2, speakers))]).warning
    assert expected in warning
    assert bool(warning) == bool(expected)


def test_over_datasets_it_is_the_mean_of_the_differences() -> None:
    first, second = noise(3, 40), noise(3, 25, seed=1) + 1
    ok = np.ones((3, 25), dtype=np.bool_)
    ok[2, :4] = False
    parts = [sample(first), sample(second, ok=ok, name="v")]
    both, one, two = pairwise(HIGHER, parts), pairwise(HIGHER, parts[:1]), pairwise(HIGHER, parts[1:])
    assert both.difference == pytest.approx((one.difference + two.difference) / 2)
    assert both.items.tolist() == (one.items + two.items).tolist()
    assert both.clusters[0, 2] == 21
    assert both.expected == 65
    assert both.lacking.tolist() == [0, 0, 4]


# On a board


@pytest.fixture(scope="module")
def matrix(full_run: Path) -> Pairs:
    board = read_runs([full_run])
    return compare_entries(board, board.metrics["pesq_wb"], "demo", [("dac_16khz", "6kbps"), ("mimi", "2.2kbps"),
                                                                     ("codec2", "0.7kbps")])  # fmt: skip


def test_a_board_says_who_lacks_what(matrix: Pairs) -> None:
    assert matrix.lacking.tolist() == [0, 1, 2]
    assert matrix.items.tolist() == [[40, 39, 38], [39, 39, 37], [38, 37, 38]]
    assert matrix.pair(("dac_16khz", "6kbps"), ("mimi", "2.2kbps")).better == "first"
    assert not matrix.better[1:].any()


def test_bands_hold_the_entries_that_are_ranked_together(full_run: Path) -> None:
    board = read_runs([full_run])
    summary = aggregate(board)
    found = compare_bands(board, summary.sections[0], summary.metrics["estoi"])
    names = {(row.system, row.point): row.band for row in summary.sections[0].rows}
    assert list(found) == sorted(found, key=lambda band: float(band.partition("–")[0]))
    assert ("encodec_24khz", "6kbps") in found["5–10"].entries
    for band, pairs_of_band in found.items():
        assert {names[entry] for entry in pairs_of_band.entries} == {band}
        assert len(pairs_of_band.entries) > 1


def test_the_order_of_rows_is_no_matter(make_run: Callable[..., Path]) -> None:
    def shuffle(draft: Any) -> None:
        np.random.default_rng(0).shuffle(draft.rows)

    options: dict[str, Any] = {"items": 12, "datasets": ("demo", "other")}
    boards = [read_runs([make_run("a/run", **options)]), read_runs([make_run("b/run", **options, edit=shuffle)])]
    shuffled = replace(boards[0], results=boards[0].results.sample(frac=1, random_state=1))
    boards.append(shuffled)
    assert len({to_json(board, aggregate(board)) for board in boards}) == 1
    entries = [("opus", "6kbps"), ("codec2", "0.7kbps"), ("dac_16khz", "6kbps")]
    first, *others = (compare_entries(board, board.metrics["wer"], "*", entries) for board in boards)
    for other in others:
        for name in ("difference", "low", "high", "p", "adjusted", "wins", "worst"):
            assert np.array_equal(getattr(first, name), getattr(other, name), equal_nan=True)


# Simulations


@pytest.mark.slow
@pytest.mark.parametrize(("speakers", "each"), [(50, 1), (60, 3)])
def test_equal_systems_are_told_apart_one_time_in_twenty(speakers: int, each: int) -> None:
    rng = np.random.default_rng(2)
    rejected = covered = 0
    for _ in range(2000):
        of_speaker = np.repeat(rng.normal(size=(2, speakers)), each, axis=1)
        found = pairwise(HIGHER, [sample(of_speaker + rng.gamma(2.0, size=(2, speakers * each)), each=each)])
        rejected += bool(found.p[0, 1] < pairs.ALPHA)
        covered += bool(found.low[0, 1] <= 0 <= found.high[0, 1])
    assert 0.035 <= rejected / 2000 <= 0.065
    assert 0.93 <= covered / 2000 <= 0.97


@pytest.mark.slow
def test_a_whole_board_takes_seconds() -> None:
    import time

    start = time.monotonic()
    found = pairwise(HIGHER, [sample(noise(240, 2620), each=66)])
    assert time.monotonic() - start < 60  # about five on one core
    assert found.p.shape == (240, 240)
