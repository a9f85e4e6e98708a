"""Nothing is last, everything is first: if the controls are out of order under a metric, the metric is broken."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codecbench.leaderboard.aggregate import aggregate
from codecbench.leaderboard.load import read_runs
from codecbench.leaderboard.summary import Cell
from codecbench.metrics import registry
from codecbench.metrics.conformance import signals

Run = Callable[..., Any]
ELSEWHERE = {
    "wer", "cer", "dwer", "dcer", "wer_original", "spk_sim", "spk_sim_ecapa",
    "dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl", "dnsmos_p808",
    "spk_sim_prompt", "spk_sim_contrast", "duration_ratio", "answer_wer", "answer_cer", "bits_per_second",
    "digit_error_rate", "answer_digit_error_rate", "pair_accuracy", "pair_ties", "auto_bleu", "self_bleu", "vert",
    "text_perplexity", "prompt_wer", "wer_seedtts", "asr_bleu", "answer_bleu", "fad", "kld", "clap",
}  # fmt: skip
"""Metrics that hear with a model, whose own tests give them what it understands; and those of answers."""


@pytest.fixture
def sentences(tmp_path: Path) -> Path:
    """Three speech-like recordings of as many speakers."""
    import soundfile

    lines = ["id,path,speaker,domain"]
    for seed in range(3):
        soundfile.write(tmp_path / f"{seed}.wav", signals.speech(seed=10 * seed), signals.RATE, "FLOAT")
        lines.append(f"{seed},{seed}.wav,s{seed},speech")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    return tmp_path / "manifest.csv"


@pytest.mark.slow
def test_the_controls_are_in_order_under_every_metric(run: Run, sentences: Path, tmp_path: Path) -> None:
    metrics = sorted(set(registry.all_metrics()) - ELSEWHERE)
    assert len(metrics) >= 13
    models = f"identity,lowpass,noise,{Path(__file__).with_name('adapters.py')}:Nothing"
    options = ("--models", models, "--datasets", str(sentences))
    run("identity", metrics=",".join(metrics), options=options, check=2)
    board = read_runs([tmp_path / "run"])
    assert np.isfinite(board.results.loc[board.results["status"] == "ok", "value"].astype(float)).all()
    (section,) = aggregate(board).sections
    for name in metrics:
        cells = {(row.system, row.point): row.cells[name] for row in section.rows}
        nothing = [cell for (system, _), cell in cells.items() if system == "nothing"]
        others = {key: cell for key, cell in cells.items() if key[0] != "nothing"}
        sign = -1 if board.metrics[name].direction == "lower" else 1
        assert len(nothing) == 1, name
        assert all(cell.counts.failed == 0 for cell in others.values()), name
        assert worst(nothing[0]) * sign <= min(worst(cell) * sign for cell in others.values()), name
        best = {key: mean(cell) * sign for key, cell in others.items()}
        assert best["identity", "float32"] == max(best.values()), name
        assert best["identity", "float32"] == pytest.approx(sign * (board.metrics[name].perfect or 0), abs=1e-6), name
        assert best["noise", "30dB"] >= best["noise", "20dB"] >= best["noise", "10dB"], name
        assert best["noise", "30dB"] > best["noise", "10dB"], name
        if not name.startswith(("pesq_nb", "f0_", "vuv_")):  # these hear nothing above 3.5 kHz
            assert best["lowpass", "7k"] > best["lowpass", "3.5k"], name


def worst(cell: Cell) -> float:
    assert cell.worst is not None
    assert not math.isnan(cell.worst)
    return cell.worst


def mean(cell: Cell) -> float:
    assert cell.estimate is not None
    return cell.estimate.value
