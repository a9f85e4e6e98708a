from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from codecbench.leaderboard.aggregate import aggregate
from codecbench.leaderboard.agreement import agreement, outliers
from codecbench.leaderboard.board import Metric
from codecbench.leaderboard.load import read_runs
from codecbench.leaderboard.scores import Counts
from codecbench.leaderboard.stats import Estimate
from codecbench.leaderboard.summary import Cell, Row, Section

METRICS = {
    name: Metric(name, name, direction="lower" if name == "error" else "higher") for name in ("a", "b", "c", "error")
}


def section(columns: dict[str, list[float]], unranked: dict[int, str] | None = None) -> Section:
    rows = []
    for k in range(len(next(iter(columns.values())))):
        why = (unranked or {}).get(k, "")
        cells = {
            name: Cell(Counts(ok=9), Estimate(values[k]), None, None, 0, why)
            for name, values in columns.items()
            if not np.isnan(values[k])
        }
        rows.append(Row(f"s{k}", "p", "official", Estimate(1.0), why, cells, {}))
    return Section("demo", "Demo", 9, {}, tuple(rows))


def test_correlation_is_spearmans_and_knows_directions() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=12).tolist()
    b = (np.array(a) + rng.normal(size=12)).tolist()
    found = agreement(section({"a": a, "b": b, "error": [-np.exp(x) for x in a]}), METRICS)
    assert found.metrics == ("a", "b", "c", "error")
    assert found.correlation[0, 1] == pytest.approx(scipy.stats.spearmanr(a, b).statistic)
    assert found.correlation[0, 3] == pytest.approx(1.0)
    assert found.entries[0].tolist() == [12, 12, 0, 12]
    assert np.isnan(found.correlation[0, 2])


def test_only_entries_that_both_rank_count() -> None:
    values = [float(k) for k in range(8)]
    gap = [*values[:-1], np.nan]
    found = agreement(section({"a": values, "b": gap}, {0: "control", 1: "2 failed"}), METRICS)
    assert found.entries[:2, :2].tolist() == [[6, 5], [5, 5]]
    few = agreement(section({"a": values[:4], "b": values[:4]}), METRICS)
    assert np.isnan(few.correlation[0, 1])


def test_who_is_best_by_one_metric_and_poor_by_the_rest_is_flagged() -> None:
    order = [float(k) for k in range(20)]
    tuned = [100.0, *order[1:]]  # the worst of twenty, and the best by this metric
    found = outliers(section({"a": order, "b": order, "error": [-x for x in order], "c": tuned}), METRICS)
    assert [(o.system, o.metric) for o in found] == [("s0", "c")]
    assert found[0].z == pytest.approx(scipy.stats.norm.ppf(1 - 0.5 / 20))
    assert found[0].median == pytest.approx(scipy.stats.norm.ppf(0.5 / 20))


def test_two_metrics_cannot_say_which_is_odd() -> None:
    order = [float(k) for k in range(20)]
    assert outliers(section({"a": order, "b": [100.0, *order[1:]]}), METRICS) == ()


def test_a_board(full_run: Path) -> None:
    summary = aggregate(read_runs([full_run]))
    found = agreement(summary.sections[0], summary.metrics)
    assert np.diag(found.correlation) == pytest.approx(np.ones(len(found.metrics)))
    assert found.correlation.min() > 0.5  # all follow one synthetic quality
    assert outliers(summary.sections[0], summary.metrics) == ()
