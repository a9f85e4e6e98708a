"""The conformance kit against codecs with one fault each: the check that must catch it does, and says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from codecbench.models.checks.base import CODECS, all_checks
from codecbench.models.checks.runner import check
from codecbench.models.checks.subject import Options

ROGUES = Path(__file__).parents[1] / "rogues" / "codecs.py"
QUICK = Options(long_seconds=1.0, time_limit=60.0)

CAUGHT = {
    "Short": ("round_trip", "shape"),
    "Doubles": ("round_trip", "float64"),
    "FailsOnOneSample": ("one_sample", "at 1 samples: ZeroDivisionError"),
    "NotFiniteOnSilence": ("silence", "not finite"),
    "KeepsAudio": ("decodes_elsewhere", "another process cannot decode the bytes: IndexError"),
    "IgnoresCodes": ("decoder_follows_codes", "change the output by 0.00% only"),
    "KnowsByHeart": ("decoder_follows_codes", "change the output by 0.00% only"),
    "OutOfRange": ("codes_match_card", "outside [0, 16)"),
    "FloatCodes": ("codes_match_card", "not integers"),
    "Smuggles": ("codes_match_card", "the codes carry audio besides"),
    "SaysOneKbps": ("bitrate", "1kbps declares 1 kbps and takes 32"),
    "RichestFirst": ("points_rise", "64kbps takes 32 kbps"),
    "NotNested": ("points_nest", "not the first streams"),
    "Adapts": ("encode_again", "other codes"),
    "LeaksInBatch": ("encode_batch", "differ from those it has alone"),
    "Caches": ("same_work_again", "a clip that was coded before takes"),
    "OrderOfHashes": ("encodes_elsewhere", "% differ"),
    "WritesToInput": ("input_unmodified", "others after encoding"),
    "OneBuffer": ("outputs_own_memory", "share memory"),
    "Late": ("in_time", "160 samples late (20.0 ms)"),
    "LooksAhead": ("encoder_causality", "of stream 0, which was complete before"),
    "SeedsNumpy": ("random_state", "numpy.random"),
    "SetsEnvironment": ("environment", "ROGUE_CALLS"),
    "PatchesNumpy": ("patched_functions", "numpy.average"),
    "Prints": ("prints_nothing", "'100%"),
    "WritesFile": ("writes_nothing", "work/note.txt"),
    "CallsHome": ("no_network", "192.0.2.1"),
    "LeavesThread": ("nothing_running", "thread"),
    "LeavesOpen": ("files_closed", "more files open"),
    "Leaks": ("memory_steady", "MB an item"),
    "ExitsQuietly": ("silence", "the process ended with exit code 0"),
}
"""By rogue: the check that catches it, and what its reason says."""


def test_every_rogue_is_looked_for() -> None:
    assert len(CAUGHT) >= 25


@pytest.mark.parametrize("rogue", CAUGHT)
def test_rogue_is_caught(rogue: str) -> None:
    name, reason = CAUGHT[rogue]
    report = check(f"{ROGUES}:{rogue}", QUICK, only=[name])
    assert report.result(name).outcome == "failed"
    assert reason in report.result(name).reason
    assert not report.ok


def test_honest_codec_passes_every_check_that_applies() -> None:
    report = check(f"{ROGUES}:Honest", QUICK)
    assert [result for result in report.results if not result.ok] == []
    assert {result.check for result in report.results} == {c.name for c in all_checks().values() if "codec" in c.kinds}
    assert sum(result.outcome == "passed" for result in report.results) >= 60
    assert CODECS


def test_check_that_hangs_is_ended_and_the_others_go_on() -> None:
    report = check(f"{ROGUES}:Hangs", Options(time_limit=2.0), only=["one_sample", "silence", "click"])
    assert [result.outcome for result in report.results] == ["passed", "failed", "passed"]
    assert report.result("silence").reason == "no result within 2 s"


def test_check_that_ends_its_process_fails_and_the_others_go_on() -> None:
    report = check(f"{ROGUES}:ExitsQuietly", QUICK, only=["one_sample", "silence", "click"])
    assert [result.outcome for result in report.results] == ["passed", "failed", "passed"]


def test_expected_failure_is_shown_with_its_reason_and_does_not_fail() -> None:
    report = check(f"{ROGUES}:ExpectsRightly", QUICK, only=["silence", "click"])
    result = report.result("silence")
    assert result.outcome == "expected failure"
    assert result.reason.startswith("it normalises without a floor (")
    assert report.ok


def test_expected_failure_that_passes_is_to_be_removed() -> None:
    report = check(f"{ROGUES}:ExpectsTooMuch", QUICK, only=["silence"])
    assert report.result("silence").outcome == "unexpected pass"
    assert "remove it" in report.result("silence").reason
    assert not report.ok
