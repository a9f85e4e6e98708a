"""The conformance report: golden values for every metric, and a deviation that cannot hide."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from typer.testing import CliRunner

from codecbench.benchmark.cli import app
from codecbench.errors import UsageError
from codecbench.metrics import registry
from codecbench.metrics.base import Failed, Metric
from codecbench.metrics.conformance.run import conform, golden, measure

NO_VALUES = {
    "spk_sim_ecapa": "nothing but its own package computes it, and its weights cannot be carried along",
    "spk_sim_prompt": "what spk_sim says of the prompt", "spk_sim_contrast": "what spk_sim says of another recording",
    "duration_ratio": "a quotient of two lengths",
    "answer_wer": "wer's edits, of a text", "answer_cer": "cer's edits, of a text",
    "bits_per_second": "a language model's own number in another unit",
    "digit_error_rate": "wer's edits, of what a network of its own hears",
    "answer_digit_error_rate": "wer's edits, of a text",
    "pair_accuracy": "a comparison of two numbers", "pair_ties": "a comparison of two numbers",
    "auto_bleu": "test_text_metrics has independent counts", "self_bleu": "of a corpus; likewise",
    "vert": "of a corpus; likewise", "text_perplexity": "of a corpus, and of a model that has to be named",
    "prompt_wer": "edits of texts, of a beginning", "wer_seedtts": "wer's edits, normalised otherwise",
    "asr_bleu": "of a corpus, and sacreBLEU's own", "answer_bleu": "of a corpus, and sacreBLEU's own",
    "fad": "of a corpus; test_sound has an independent distance", "kld": "of a model that has to be named",
    "clap": "of a model that has to be named",
}  # fmt: skip


def test_every_metric_has_golden_values_or_a_reason() -> None:
    assert {entry["metric"] for entry in golden()} | set(NO_VALUES) == set(registry.all_metrics())


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Leaves the registry with the metrics that it is called with."""

    def leave(*metrics: Metric) -> None:
        monkeypatch.setattr(registry, "all_metrics", lambda: {metric.name: metric for metric in metrics})

    return leave


def test_the_command_reports_every_metric(only: Any) -> None:
    only(*(registry.find(name) for name in ("stoi", "mcd", "cer")))
    done = CliRunner().invoke(app, ["conformance", "--json"])
    assert done.exit_code == 0
    report = json.loads(done.stdout)
    assert [(m["metric"], m["status"]) for m in report["metrics"]] == [("stoi", "ok"), ("mcd", "ok"), ("cer", "ok")]
    assert all(0 <= m["share"] <= 1 and m["values"] >= 4 and m["signature"] for m in report["metrics"])
    assert report["environment"]["packages"]["numpy"]


def test_a_deviating_metric_is_found_with_its_case(only: Any) -> None:
    si_sdr = registry.find("si_sdr")
    only(replace(si_sdr, score=lambda reference, output: si_sdr.score(reference, output) + 1e-3))  # type: ignore[operator]
    done = CliRunner().invoke(app, ["conformance"])
    assert done.exit_code == 4
    assert done.stdout.startswith("deviates   si_sdr")
    (finding,) = conform()
    assert finding.largest == pytest.approx(1e-3)
    assert finding.share == pytest.approx(1e3, rel=1e-3)


def test_a_status_in_place_of_a_value_is_a_deviation(only: Any) -> None:
    def fail(*signals: Any) -> float:
        raise Failed(f"nonsense({len(signals)})")

    only(replace(registry.find("stoi"), score=fail))
    (finding,) = conform()
    assert (finding.status, finding.largest) == ("deviates", None)
    assert "failed:nonsense(2) at identical, 16000 Hz" in finding.detail


def test_a_metric_that_cannot_run_is_skipped_not_passed(only: Any) -> None:
    def absent() -> None:
        raise UsageError("no model")

    only(replace(registry.find("stoi"), prepare=absent), replace(registry.find("mel"), name="new"))
    assert [(f.metric, f.status, f.values) for f in conform()] == [("stoi", "skipped", 0), ("new", "no values", 0)]


THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
MEASURE = """
import json
from codecbench.metrics import registry
from codecbench.metrics.conformance.run import golden, measure
entries = [e for e in golden() if e.get("rate") == 16000 and not registry.find(e["metric"]).prepare]
print(json.dumps([[e["metric"], e["case"], e["atol"], measure(registry.find(e["metric"]), e).value] for e in entries]))
"""


@pytest.mark.slow
def test_the_number_of_threads_does_not_matter() -> None:
    """A metric takes one pair at a time, so there is no batch to vary."""
    found = []
    for threads in ("1", "4"):
        environment = {**os.environ, **dict.fromkeys(THREADS, threads)}
        done = subprocess.run([sys.executable, "-c", MEASURE], env=environment, capture_output=True, check=True)
        found.append(json.loads(done.stdout))
    one, several = found
    assert len({metric for metric, *_ in one}) >= 13
    for (metric, case, atol, value), (*_, other) in zip(one, several, strict=True):
        assert other == pytest.approx(value, abs=1e-3 * atol), (metric, case)


def test_texts_are_heard_not_transcribed() -> None:
    entries = [entry for entry in golden() if "said" in entry]
    assert len(entries) >= 20
    assert {entry["metric"] for entry in entries} == {"wer", "cer", "dwer", "dcer", "wer_original"}
    for entry in entries:
        assert measure(registry.find(entry["metric"]), entry).value == pytest.approx(entry["value"], abs=1e-9)
