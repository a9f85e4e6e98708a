"""Values of a whole list in a run: shares in the rows, their mean on the board, failures that count."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codecbench.benchmark import corpus
from codecbench.benchmark.cache import DiskCache
from codecbench.leaderboard.aggregate import aggregate
from codecbench.leaderboard.load import read_runs
from codecbench.metrics import registry
from codecbench.metrics.base import Failed
from codecbench.metrics.corpus import jackknife

SAID = ("level level level level one two", "level the level level level", "two level level level level level")
FLUENT = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1] / "rogues")!r})
from lms import Honest
from codecbench.models.base import Response

class Fluent(Honest):
    def respond(self, request, sampling):
        return Response(text="level " * 5 + "two", tokens=6)
"""


@pytest.fixture
def spoken(tmp_path: Path, recordings: Path) -> Path:
    folder = tmp_path / "asr"
    folder.mkdir()
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "task", "language", "transcript"])
        writer.writerows([recordings.parent / f"{k:02d}.wav", "asr", "en", said] for k, said in enumerate(SAID))
    return folder


def test_the_board_shows_the_value_of_the_list(
    sweep: Callable[..., Any], spoken: Path, rows: Any, tmp_path: Path
) -> None:
    from sacrebleu.metrics import BLEU

    (tmp_path / "fluent.py").write_text(FLUENT)
    sweep([f"{tmp_path}/fluent.py:Fluent"], [spoken], "answer_bleu,answer_wer")
    expected = BLEU().corpus_score(["level level level level level two"] * 3, [list(SAID)]).score
    assert expected > 1
    shares = [row["value"] for row in rows(metric="answer_bleu")]
    assert len(set(shares)) > 1
    assert np.mean(shares) == pytest.approx(expected, abs=1e-9)
    (section,) = aggregate(read_runs([tmp_path / "run"])).sections
    cell = section.rows[0].cells["answer_bleu"]
    assert cell.estimate
    assert cell.estimate.value == pytest.approx(expected, abs=1e-9)
    assert cell.beyond == 0


def test_a_broken_model_fails_at_it_too(sweep: Callable[..., Any], spoken: Path, rows: Any) -> None:
    sweep(["GivesNoText"], [spoken], "answer_bleu", check=2)
    assert {(row["status"], row["value"]) for row in rows(metric="answer_bleu")} == {("failed", None)}


@pytest.fixture
def product(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A metric called ``product``, the product of all items; the list counts how often it was computed."""
    calls: list[int] = []

    def shares(items: Sequence[float]) -> list[float]:
        calls.append(len(items))
        if len(items) < 2:
            raise Failed("too_few_items(1 of at least 2)")
        return jackknife(float(np.prod(items)), [np.prod(items) / item for item in items])

    metric = replace(registry.find("answer_bleu"), name="product", shares=shares)
    monkeypatch.setattr(registry, "all_metrics", lambda: {"product": metric})
    return calls


def items(*given: float | None) -> dict[str, dict[str, Any]]:
    """Rows of utterances ``u0``, … with an item's material, or failed."""
    return {
        f"u{k}": {"values": {"product": ["ok", "", None, 1.0] if item else ["failed", "length(no audio)", None, 1.0]},
                  **({"material": {"product": item}} if item else {})}
        for k, item in enumerate(given)
    }  # fmt: skip


def test_items_that_failed_have_no_share_and_what_was_computed_is_kept(product: list[int], tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    for _ in range(2):
        found = items(2.0, None, 5.0, 1.0)
        corpus.share_out(found, {"product": "product|v:1"}, cache)
        values = [row["values"]["product"] for row in found.values()]
        assert [value[0] for value in values] == ["ok", "failed", "ok", "ok"]
        assert np.mean([value[2] for value in values if value[2] is not None]) == pytest.approx(10.0)
        assert not any("material" in row for row in found.values())
    assert product == [3]


def test_one_item_has_no_value(product: list[int], tmp_path: Path) -> None:
    found = items(2.0, None)
    corpus.share_out(found, {"product": "product|v:1"}, DiskCache(tmp_path))
    assert found["u0"]["values"]["product"] == ["failed", "too_few_items(1 of at least 2)", None, 1.0]
    assert product == [1]
    corpus.share_out(nothing := items(None), {"product": "product|v:1"}, DiskCache(tmp_path))
    assert nothing["u0"]["values"]["product"][1] == "length(no audio)"
