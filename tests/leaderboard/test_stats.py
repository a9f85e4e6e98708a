from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from codecbench.leaderboard import stats
from codecbench.leaderboard.stats import Array, Clusters, Drawn, Estimate


def named(count: int, prefix: str = "u") -> tuple[str, ...]:
    return tuple(f"{prefix}{k:04d}" for k in range(count))


def speakers(count: int, each: int, prefix: str = "u") -> Clusters:
    return stats.cluster(named(count * each, prefix), tuple(f"s{k // each}" for k in range(count * each)))


def singles(count: int) -> Clusters:
    return stats.cluster(named(count), ("",) * count)


def estimate(values: Array, weights: Array, clusters: Clusters) -> Estimate:
    """The difference from an entry that is 0 everywhere."""
    found, _ = stats.difference((values, weights), (np.zeros_like(values), weights), clusters)
    assert found
    return found


def test_weighted_mean_is_a_ratio_of_sums() -> None:
    # Three clips with 1, 0 and 3 wrong words of 2, 4 and 10: 4 / 16, not the mean of the rates.
    assert stats.weighted_mean(np.array([0.5, 0.0, 0.3]), np.array([2.0, 4.0, 10.0])) == 0.25
    assert stats.weighted_mean(np.array([np.nan]), np.array([0.0])) is None


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_the_order_of_items_is_no_matter(values: list[float], random: object) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    ones = np.ones(len(values))
    assert stats.weighted_mean(np.array(values), ones) == stats.weighted_mean(np.array(shuffled), ones)


def test_speakers_are_clusters() -> None:
    found = stats.cluster(named(6), ("a", "a", "b", "c", "d", "e"))
    assert found.drawn == Drawn(5, "speaker")
    assert found.labels.tolist() == [0, 0, 1, 2, 3, 4]


def test_among_speakers_nameless_utterances_are_clusters_of_their_own() -> None:
    found = stats.cluster(named(8), ("a", "a", "b", "c", "d", "e", "", ""))
    assert found.drawn == Drawn(7, "speaker or clip")
    assert len(set(found.labels.tolist())) == 7


@pytest.mark.parametrize("names", [("a", "b", "c", "d"), ("a", "b", "c", ""), ("", "", "", "")])
def test_fewer_than_five_speakers_leave_utterances(names: tuple[str, ...]) -> None:
    assert stats.cluster(named(12), names * 3).drawn == Drawn(12, "utterance")


def test_resamples_follow_from_the_utterances_alone() -> None:
    one, other = speakers(6, 3), speakers(6, 3, "v")
    stats.cluster.cache_clear()
    assert (one.counts == speakers(6, 3).counts).all()
    assert (one.counts.sum(axis=1) == 6).all()
    assert (one.counts != other.counts).any()


@pytest.mark.parametrize("size", [30, 100])
def test_interval_agrees_with_scipy(size: int) -> None:
    values = np.random.default_rng(3).gamma(2.0, size=size)
    found = estimate(values, np.ones(size), singles(size))
    level = 1 - 2 * stats.tail(size)
    wide = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, confidence_level=level, method="percentile", rng=1
    ).confidence_interval
    assert found.value == pytest.approx(values.mean(), abs=1e-12)
    # The Monte Carlo error of a 2.5 % quantile from 2000 draws is about 0.06 standard errors; allow four of them.
    allowed = 0.25 * values.std() / size**0.5
    assert found.low == pytest.approx(wide.low, abs=allowed)
    assert found.high == pytest.approx(wide.high, abs=allowed)


def test_tail_is_hesterbergs() -> None:
    # The values that "What Teachers Should Know about the Bootstrap" gives for n = 5, 10 and 20.
    assert [round(stats.tail(n), 4) for n in (5, 10, 20)] == [0.001, 0.0086, 0.0159]
    assert stats.tail(100_000) == pytest.approx(0.025, abs=1e-4)


def test_a_cluster_bootstrap_is_wider_where_speakers_differ() -> None:
    rng = np.random.default_rng(1)
    values = np.repeat(rng.normal(size=20), 10) + rng.normal(0, 0.1, 200)
    by_speaker = estimate(values, np.ones(200), speakers(20, 10))
    by_utterance = estimate(values, np.ones(200), singles(200))
    assert by_speaker.high is not None
    assert by_utterance.high is not None
    assert by_speaker.high - by_speaker.value > 2 * (by_utterance.high - by_utterance.value)


def test_below_five_clusters_there_is_no_interval() -> None:
    found = estimate(np.arange(4.0), np.ones(4), singles(4))
    assert found == Estimate(1.5, None, None)


def test_a_resample_without_items_is_left_out() -> None:
    weights = np.array([1.0] * 5 + [0.0] * 15)
    found = estimate(np.where(weights > 0, 2.0, np.nan), weights, singles(20))
    assert found == Estimate(2.0, 2.0, 2.0)


def test_a_system_does_not_differ_from_itself() -> None:
    values, weights = np.random.default_rng(0).normal(size=40), np.full(40, 3.0)
    found, common = stats.difference((values, weights), (values.copy(), weights.copy()), singles(40))
    assert (found, common) == (Estimate(0.0, 0.0, 0.0), 40)


def test_a_difference_is_made_of_common_items() -> None:
    ones = np.ones(10)
    weights = np.array([1.0] * 8 + [0.0] * 2)
    values = np.where(weights > 0, np.arange(10) + 1.0, np.nan)
    found, common = stats.difference((values, weights), (np.arange(10.0), ones), singles(10))
    assert found
    assert (found.value, found.low, found.high, common) == pytest.approx((1.0, 1.0, 1.0, 8), abs=1e-12)


def test_without_common_items_there_is_no_difference() -> None:
    first, second = np.eye(2)
    assert stats.difference((first, first), (second, second), singles(2)) == (None, 0)


def draws(*means: float, spread: float = 1e-3) -> Array:
    noise = np.random.default_rng(5).normal(0, spread, (stats.RESAMPLES, len(means)))
    return np.asarray(means) + noise


def test_ranks_of_clearly_different_entries_are_points() -> None:
    assert stats.rank_intervals(draws(1, 3, 2), 30, higher_is_better=True) == [(3, 3), (1, 1), (2, 2)]
    assert stats.rank_intervals(draws(1, 3, 2), 30, higher_is_better=False) == [(1, 1), (3, 3), (2, 2)]


def test_equal_entries_share_all_their_ranks() -> None:
    one = draws(1, 1, 1, spread=0)
    assert stats.rank_intervals(one, 30, higher_is_better=True) == [(1, 3)] * 3
    best = np.column_stack([one[:, 0] + 1, one])
    assert stats.rank_intervals(best, 30, higher_is_better=True) == [(1, 1), (2, 4), (2, 4), (2, 4)]


def test_rounding_separates_nothing() -> None:
    one = draws(1, spread=0.1)
    assert stats.rank_intervals(np.column_stack([one, one + 1e-12]), 30, higher_is_better=True) == [(1, 2), (1, 2)]


def test_with_too_few_clusters_all_share_all_ranks() -> None:
    assert stats.rank_intervals(draws(1, 2), 4, higher_is_better=True) == [(1, 2), (1, 2)]
    assert stats.rank_intervals(np.full((stats.RESAMPLES, 2), np.nan), 9, higher_is_better=True) == [(1, 2)] * 2


@settings(max_examples=30)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=8))
def test_rank_intervals_hold_the_order_of_separable_means(levels: list[int]) -> None:
    found = stats.rank_intervals(draws(*map(float, levels), spread=0), 30, higher_is_better=True)
    for level, (low, high) in zip(levels, found, strict=True):
        assert low == 1 + sum(other > level for other in levels)
        assert high == sum(other >= level for other in levels)


@pytest.mark.parametrize("count", [50, 200])
def test_two_equal_systems_are_separated_in_five_per_cent_of_cases(count: int) -> None:
    rng, clusters, ones = np.random.default_rng(11), singles(count), np.ones((2, count))
    tries, separated = 1500, 0
    for _ in range(tries):
        hardness = rng.normal(0, 2, count)
        values = hardness + rng.gamma(4.0, 0.3, (2, count))
        means = stats.draw_means(values, ones, clusters)
        separated += stats.rank_intervals(means, count, higher_is_better=True) != [(1, 2), (1, 2)]
    assert 0.035 <= separated / tries <= 0.065


@pytest.mark.parametrize(("count", "each", "low"), [(6, 7, 0.90), (50, 1, 0.93), (60, 4, 0.93)])
def test_intervals_cover_the_truth(count: int, each: int, low: float) -> None:
    rng, clusters, ones = np.random.default_rng(2), speakers(count, each), np.ones((1, count * each))
    tries, covered = 1500, 0
    for _ in range(tries):
        values = np.repeat(rng.normal(size=count), each) * 0.5 + rng.gamma(4.0, 0.5, count * each) - 2
        bounds = stats.interval(stats.draw_means(values[None], ones, clusters)[:, 0], count)
        assert bounds[0] is not None
        covered += bounds[0] <= 0 <= bounds[1]
    assert low <= covered / tries <= 0.97
