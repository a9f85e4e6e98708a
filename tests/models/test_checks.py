"""The conformance kit itself: its register, its report, its page, and what registered systems make of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codecbench.errors import CodecbenchError, UsageError
from codecbench.models.base import Card, LoadOptions, OperatingPoint, Stream
from codecbench.models.checks import card as card_checks
from codecbench.models.checks.base import SUBJECTS, Failed, Skipped, all_checks, check
from codecbench.models.checks.page import page
from codecbench.models.checks.probes import frozen, lag, mel_distance, speechlike
from codecbench.models.checks.report import Progress
from codecbench.models.checks.runner import check as run_checks
from codecbench.models.checks.subject import Options, Subject
from codecbench.models.registry import all_systems, find
from codecbench.weights import WeightFile, local_path

PAGE = Path(__file__).parents[2] / "docs" / "checks.md"
ROGUES = Path(__file__).parents[1] / "rogues" / "codecs.py"
SYSTEMS = list(all_systems())
QUICK = Options(random_seed=0, long_seconds=2.5)


def test_there_are_many_checks_each_with_one_sentence() -> None:
    checks = all_checks()
    assert len(checks) >= 80
    assert sum("codec" in one.kinds for one in checks.values()) >= 60
    assert {one.subject for one in checks.values()} == set(SUBJECTS)
    for one in checks.values():
        assert one.guards.endswith("."), one.name
        assert 20 < len(one.guards) < 160, one.name


def test_two_checks_cannot_have_one_name() -> None:
    def silence(subject: Subject) -> None:
        """Never run."""

    with pytest.raises(ValueError, match="two checks are called 'silence'"):
        check()(silence)


def test_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m codecbench.models.checks.page > docs/checks.md"


def test_report_as_json_and_as_lines() -> None:
    report = run_checks(f"{ROGUES}:NotFiniteOnSilence", QUICK, only=["card_name", "silence", "bitrate", "frame_rate"])
    found = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert (found["schema"], found["system"], found["weights"], found["ok"]) == (1, "honest", "no weights", False)
    assert found["counts"] == {"passed": 3, "failed": 1}
    assert [one["check"] for one in found["checks"]] == ["card_name", "silence", "frame_rate", "bitrate"]
    progress = Progress()
    lines = [line for result in report.results for line in progress.lines(result)]
    assert "  ok        card_name" in lines
    assert any(line.startswith("  FAILED    silence") and "not finite" in line for line in lines)
    assert "it guards: Digital silence" in " ".join(lines)
    assert report.summary().startswith("honest (no weights): 3 passed, 1 failed in ")


def test_progress_is_told_as_it_comes() -> None:
    told: list[str] = []
    run_checks("mulaw", QUICK, only=["card_name", "one_sample"], tell=lambda result: told.append(result.check))
    assert told == ["card_name", "one_sample"]


def test_without_a_process_of_its_own() -> None:
    report = run_checks("mulaw", QUICK, only=["round_trip", "prints_nothing"], start=None)
    assert [result.outcome for result in report.results] == ["passed", "passed"]


def test_system_that_does_not_load_fails_once() -> None:
    report = run_checks("encodec_24khz", Options(weights=Path("no-such-file.th")), only=["loads", "silence", "click"])
    assert [result.outcome for result in report.results] == ["failed", "skipped", "skipped"]
    assert "no-such-file.th" in report.results[0].reason
    assert report.results[1].reason == "it does not load"


@pytest.mark.parametrize(
    ("options", "only", "message"),
    [
        (Options(points=("9kbps",)), [], "mulaw has no point '9kbps'; it has 8bit"),
        (Options(), ["silnce"], "no check is called 'silnce'"),
    ],
)
def test_wrong_usage(options: Options, only: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run_checks("mulaw", options, only=only)


GOOD = Card(
    "good", "codec", "Test", "small", 16_000, 1, (OperatingPoint("1kbps", 1.0, 1), OperatingPoint("2kbps", 2.0, 2)),
    streams=(Stream(1024, 100),) * 2, nested=True,
)  # fmt: skip
BAD_CARDS: list[tuple[str, dict[str, Any], str]] = [
    ("card_name", {"name": "Bad Name"}, "'Bad Name'"),
    ("card_name", {"name": "../up"}, "other characters"),
    ("card_kind", {"kind": "control"}, "on track 'small'"),
    ("card_kind", {"tasks": ("tts",)}, "with the tasks"),
    ("card_kind", {"family": ""}, "family"),
    ("card_audio", {"sample_rate": None}, "no sample rate"),
    ("card_audio", {"sample_rate": 1}, "1 Hz"),
    ("card_audio", {"channels": 0}, "0 channels"),
    ("card_licence", {"licence": "free"}, "no SPDX"),
    ("card_licence", {"licence": "mit"}, "'MIT' by SPDX"),
    ("card_paper", {"track": "official"}, "no paper"),
    ("card_paper", {"paper": "a paper of ours"}, "is not like"),
    ("card_points", {"points": ()}, "at least one"),
    ("card_points", {"points": GOOD.points[::-1]}, "do not rise"),
    ("card_points", {"points": (OperatingPoint("a b"),)}, "characters"),
    ("card_points", {"points": GOOD.points[:1] * 2}, "a name of its own"),
    ("card_streams", {"streams": (Stream(1, 100),) * 2}, "fewer than two"),
    ("card_streams", {"streams": (Stream(1024, 100),)}, "of 1"),
    ("card_streams", {"points": (OperatingPoint("a", 1.0, 2), OperatingPoint("b", 2.0, 2))}, "more than the one"),
    ("card_bitrates", {"points": (OperatingPoint("a", 1.5, 1),)}, "come to 1"),
    ("card_timing", {"delay": 0.5}, "0.5"),
    ("card_timing", {"streaming": True}, "streaming True"),
    ("card_requirements", {"requirements": ("torch ==== 1",)}, "no requirement"),
    ("card_requirements", {"requires": "nothing"}, "no extra 'nothing'"),
    ("card_expected_failures", {"expected_failures": (("no_such", "for some reason"),)}, "no check of that name"),
    ("card_expected_failures", {"expected_failures": (("silence", ""),)}, "no reason"),
]


class _System:
    def __init__(self, card: Card) -> None:
        self.card = card


def _subject(**changes: Any) -> Subject:
    subject = Subject("none", Options())
    subject.__dict__["system"] = _System(replace(GOOD, **changes))
    return subject


@pytest.mark.parametrize(("name", "changes", "message"), BAD_CARDS)
def test_bad_card_is_refused(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Failed, match=message):
        all_checks()[name].run(_subject(**changes))


@pytest.mark.parametrize("name", sorted({name for name, _, _ in BAD_CARDS}))
def test_good_card_is_accepted(name: str) -> None:
    all_checks()[name].run(_subject())


def test_weights_need_a_licence_and_training_data() -> None:
    file = WeightFile("a.pt", "https://example.org/a.pt")
    with pytest.raises(Failed, match=r"no licence is stated for a\.pt"):
        card_checks.card_weights(_subject(weights=(file,)))
    with pytest.raises(Failed, match="no training data"):
        card_checks.card_training_data(_subject(weights=(file,)))
    with pytest.raises(Skipped):
        card_checks.card_training_data(_subject())


def test_mel_distance_of_a_clip_to_itself_is_zero_and_grows_with_noise() -> None:
    clip = np.asarray(speechlike(8000, 16_000)[None], np.float32)
    noise = np.random.default_rng(0).standard_normal(clip.shape)
    distances = [mel_distance(clip, np.asarray(clip + level * noise, np.float32), 16_000) for level in (0, 0.001, 0.1)]
    assert distances[0] == 0
    assert 0 < distances[1] < distances[2]


def test_mel_distance_of_a_level_is_that_level() -> None:
    clip = np.random.default_rng(0).standard_normal((1, 16_000)).astype(np.float32)
    assert mel_distance(clip, np.asarray(clip / 2, np.float32), 16_000) == pytest.approx(6.02, abs=0.05)


@pytest.mark.parametrize("late", [-37, 0, 5, 200])
def test_lag(late: int) -> None:
    clip = speechlike(4000, 16_000)[None].astype(np.float32)
    found, likeness = lag(clip, -0.5 * np.roll(clip, late, axis=1), 400)
    assert found == late
    assert likeness > 0.9


def test_probes_cannot_be_written_to() -> None:
    clip = frozen(np.zeros((1, 3)), 8000)
    with pytest.raises(ValueError, match="read-only"):
        clip.samples[0, 0] = 1


@pytest.mark.parametrize("name", ["mulaw", "opus", "noise"])
def test_system_passes(name: str) -> None:
    _passes(name)


# Language models of released sizes are 2 to 16 GB of random weights: their own tests check them in a tiny size.
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SYSTEMS if find(name).card.kind != "lm"])
def test_every_registered_system_passes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    _passes(name)


def _seed(name: str) -> int | None:
    """The seed of random weights for a system whose weights are not here."""
    card = find(name).card
    if card.unpublished:
        try:
            find(name).load(LoadOptions())
        except CodecbenchError as error:
            if card.track == "small":  # untrained, it is where training starts: next to deaf
                pytest.skip(str(error))
            return 0
    return None if all(local_path(file) for file in card.weights) else 0


def _passes(name: str) -> None:
    report = run_checks(name, replace(QUICK, random_seed=_seed(name)))
    loading = report.result("loads")
    if loading.outcome == "failed" and any(words in loading.reason for words in (" needs ", "weights get")):
        pytest.skip(loading.reason)  # an extra that is not installed, or weights that are not here and cannot be random
    assert [(result.check, result.reason) for result in report.results if not result.ok] == []
    assert sum(result.outcome == "passed" for result in report.results) >= 45


def test_there_are_systems() -> None:
    assert len(SYSTEMS) >= 40
