"""The checks of language models, against a small honest one and others with one fault each."""

from __future__ import annotations

from pathlib import Path

import pytest

from codecbench.models.checks.base import all_checks
from codecbench.models.checks.runner import check
from codecbench.models.checks.subject import Options

LMS = Path(__file__).parents[1] / "rogues" / "lms.py"

CAUGHT = {
    "TakesAnyTask": ("refuses_other_tasks", "the task 'sound' is accepted"),
    "TakesAnySampling": ("refuses_odd_sampling", "'temperature': -1.0} is accepted"),
    "TakesEmptyText": ("refuses_empty_text", "the text '' is accepted"),
    "CutsText": ("refuses_long_text", "is accepted"),
    "PadsPrompt": ("refuses_short_prompt", "a prompt of one sample is accepted"),
    "TakesAnyRate": ("refuses_other_rate", "half the rate is accepted"),
    "TakesAnyLanguage": ("refuses_other_languages", "'xx-none' is accepted"),
    "IgnoresSeed": ("seed_matters", "four seeds give one response"),
    "DrawsAnew": ("seed_repeats", "another response"),
    "NeverGreedy": ("greedy_repeats", "two seeds give two responses"),
    "TalksTooLong": ("max_seconds", "0.500 s came where 0.2 s"),
    "OtherRate": ("every_task", "continuation: the audio is at 16000 Hz"),
    "WrongCache": ("cache_is_exact", "the cache changes the response"),
    "StreamsElse": ("stream_is_generate", "not what `generate` gives"),
    "HearsTheFuture": ("likelihood_adds_up", "half the clip has"),
    "Improper": ("likelihood_is_whole", "3.0 nats"),
    "CountsOtherSeconds": ("likelihood_is_whole", "1.0 s for a clip"),
    "LeaksInBatch": ("likelihood_repeats", "in a list"),
    "PrefersNoise": ("likelihood_prefers_own", "for noise"),
}
"""By broken model: the check that catches it, and what its reason says."""


@pytest.mark.parametrize("rogue", CAUGHT)
def test_broken_model_is_caught(rogue: str) -> None:
    name, reason = CAUGHT[rogue]
    report = check(f"{LMS}:{rogue}", Options(), only=[name])
    assert report.result(name).outcome == "failed"
    assert reason in report.result(name).reason


def test_honest_model_passes_every_check_that_applies() -> None:
    report = check(f"{LMS}:Honest", Options())
    assert [result for result in report.results if not result.ok] == []
    assert {result.check for result in report.results} == {c.name for c in all_checks().values() if "lm" in c.kinds}
    assert sum(result.outcome == "passed" for result in report.results) >= 45
