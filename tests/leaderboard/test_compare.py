from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from codecbench.benchmark.cli import app
from codecbench.errors import UsageError
from codecbench.leaderboard.compare import Choice, Report, compare_runs, compare_systems
from codecbench.leaderboard.compare_text import render
from codecbench.leaderboard.load import read_runs

OPUS = ("opus", "12kbps")
FEW: dict[str, Any] = {
    "items": 28, "speakers": 28, "trouble": False, "metrics": ("estoi", "mel", "wer"),
    "systems": {
        "opus": {"family": "Opus", "track": "classical", "rates": [6, 12], "skill": -0.7},
        "mimi": {"family": "Mimi", "track": "official", "rates": [1.1], "skill": 0.5},
    },
}  # fmt: skip
MakeRun = Callable[..., Path]


def edited(change: Callable[[dict[str, Any]], None], entry: tuple[str, str] = OPUS) -> Callable[[Any], None]:
    """What edits the rows of one entry before a run is written."""

    def edit(draft: Any) -> None:
        for row in draft.rows:
            if (row["system"], row["point"]) == entry and row["utterance"] != "*":
                change(row)

    return edit


def spoil(row: dict[str, Any]) -> None:
    """Worse by ESTOI, on some items more than on others."""
    if row["metric"] == "estoi":
        row["value"] -= 0.01 + 0.002 * (int(row["utterance"][-3:]) % 7)


def fail_one(row: dict[str, Any]) -> None:
    if row["utterance"] == "utt007":
        row |= {"value": None, "status": "failed", "reason": "decode(ValueError)"}


def before_and_after(make_run: MakeRun, change: Callable[[dict[str, Any]], None], **choice: Any) -> Report:
    names = make_run("before", **FEW), make_run("after", **FEW, edit=edited(change))
    return compare_runs(read_runs(names[:1]), read_runs(names[1:]), ("before", "after"), Choice(**choice))


def command(*arguments: object) -> tuple[int, str]:
    """Exit code and output of ``codecbench compare``."""
    done = CliRunner().invoke(app, ["compare", *map(str, arguments)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def test_two_equal_runs_are_identical(make_run: MakeRun) -> None:
    report = before_and_after(make_run, lambda _: None)
    assert len(report.effects) == 3 * 3
    assert {effect.verdict for effect in report.effects} == {"identical"}
    assert {(effect.p, effect.adjusted) for effect in report.effects} == {(1.0, 1.0)}
    assert not report.worse


def test_a_loss_is_found_and_its_items_are_named(make_run: MakeRun) -> None:
    report = before_and_after(make_run, spoil)
    worse = [effect for effect in report.effects if effect.verdict == "worse"]
    assert [(effect.second, effect.metric.name) for effect in worse] == [(OPUS, "estoi")]
    effect = worse[0]
    assert report.worse
    assert effect.difference is not None
    assert effect.difference.value == pytest.approx(-0.016, abs=1e-6)
    assert effect.difference.low is not None
    assert effect.difference.high is not None
    assert effect.difference.low < -0.016 < effect.difference.high < 0
    assert (effect.items, effect.clusters, effect.wins) == (28, 28, 0.0)
    sizes = [change.size for change in effect.changes]
    assert sizes == sorted(sizes)
    assert effect.changes[0].utterance == "utt006"
    assert effect.p == pytest.approx(1 / 10_001)
    assert effect.adjusted == pytest.approx(9 / 10_001)


def test_a_lower_error_is_better(make_run: MakeRun) -> None:
    def improve(row: dict[str, Any]) -> None:
        if row["metric"] == "mel":
            row["value"] *= 0.9

    found = {e.metric.name: e.verdict for e in before_and_after(make_run, improve).effects if e.second == OPUS}
    assert found == {"estoi": "identical", "mel": "better", "wer": "identical"}


def test_a_lost_item_is_a_loss_whatever_the_others_say(make_run: MakeRun) -> None:
    def better_but_fails(row: dict[str, Any]) -> None:
        if row["metric"] == "estoi":
            row["value"] += 0.01
        fail_one(row)

    report = before_and_after(make_run, better_but_fails, metrics=["estoi"])
    effect = next(effect for effect in report.effects if effect.second == OPUS)
    assert (effect.verdict, effect.items) == ("better", 27)
    assert [(c.utterance, c.second, c.reason) for c in effect.lost] == [("utt007", None, "failed: decode(ValueError)")]
    assert report.worse


def test_an_item_gained_is_no_loss(make_run: MakeRun) -> None:
    names = make_run("before", **FEW, edit=edited(fail_one)), make_run("after", **FEW)
    report = compare_runs(read_runs(names[:1]), read_runs(names[1:]), ("before", "after"))
    assert not report.worse
    assert {change.utterance for effect in report.effects for change in effect.gained} == {"utt007"}


def test_other_data_and_other_signatures_are_not_compared(make_run: MakeRun) -> None:
    def other(draft: Any) -> None:
        draft.facts["datasets"]["demo"]["fingerprint"] = "another"

    def resigned(draft: Any) -> None:
        for row in draft.rows:
            row["signature"] = row["signature"].replace("mel|impl:synthetic-1", "mel|impl:synthetic-2")

    first = read_runs([make_run("first", **FEW)])
    data = compare_runs(first, read_runs([make_run("data", **FEW, edit=other)]), ("a", "b"))
    assert (data.effects, data.notices) == ((), ("demo is not the same data in both runs",))
    assert "Nothing to compare" in render(data)
    signed = compare_runs(first, read_runs([make_run("signed", **FEW, edit=resigned)]), ("a", "b"))
    assert {effect.metric.name for effect in signed.effects} == {"estoi", "wer"}
    assert "mel was measured in two ways and is not compared" in signed.notices[0]


def test_two_systems_of_one_run(full_run: Path) -> None:
    report = compare_systems(read_runs([full_run]), "encodec_24khz", "dac_16khz", Choice(["estoi", "wer"]))
    assert [(e.second, e.metric.name) for e in report.effects if e.metric.name == "estoi"] == [
        (("dac_16khz", f"{rate}kbps"), "estoi") for rate in ("1.5", "3", "6")
    ]
    assert [(dataset, bd.metric) for dataset, bd in report.deltas] == [("demo", "estoi"), ("demo", "wer")]
    rate = report.deltas[0][1].rate.value
    assert rate
    assert rate.value < 0


def test_a_system_against_itself_is_identical(full_run: Path) -> None:
    report = compare_systems(read_runs([full_run]), "mimi", "mimi")
    assert {effect.verdict for effect in report.effects} == {"identical"}
    assert not report.deltas


def test_few_clusters_leave_nothing_certain_unless_clips_are_resampled(full_run: Path) -> None:
    board, names = read_runs([full_run]), ("mimi@0.55kbps", "mimi@1.1kbps")
    by_speaker, by_clip = (
        compare_systems(board, *names, Choice(["estoi"], by=by)).effects[0] for by in ("speaker", "utterance")
    )
    assert (by_speaker.p, by_speaker.clusters) == (2 / 64, 6)
    assert by_clip.p == pytest.approx(1 / 10_001)
    assert by_clip.clusters == 40


@pytest.mark.parametrize(
    ("first", "second", "choice", "message"),
    [
        ("opuss", "mimi", Choice(), "unknown model 'opuss': did you mean opus"),
        ("opus@7kbps", "mimi", Choice(), "opus has no point 7kbps: it has 12kbps, 16kbps"),
        ("opus", "mimi", Choice(), r"have no point of the same name: say which two, as opus@12kbps"),
        ("opus", "opus", Choice(metrics=["estio"]), "did you mean estoi"),
        ("opus", "opus", Choice(datasets=["dmo"]), "did you mean demo"),
    ],
)
def test_what_cannot_be_compared_says_so(full_run: Path, first: str, second: str, choice: Choice, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        compare_systems(read_runs([full_run]), first, second, choice)


# The command


def test_exit_codes(make_run: MakeRun) -> None:
    names = make_run("before", **FEW), make_run("after", **FEW, edit=edited(spoil))
    assert command(*names)[0] == 0
    assert command(*names, "--fail-on", "worse")[0] == 2
    assert command(*reversed(names), "--fail-on", "worse")[0] == 0
    assert command(*names, "--fail-on", "worse", "--metric", "mel,wer")[0] == 0
    assert command(*names, "--fail-on", "worse", "--point", "6kbps")[0] == 0


def test_text_and_markdown_name_what_changed(make_run: MakeRun) -> None:
    names = make_run("before", **FEW), make_run("after", **FEW, edit=edited(spoil))
    _, text = command(*names, "--metric", "estoi", "--items", 2)
    row = next(line for line in text.splitlines() if line.endswith("worse"))
    assert row.split()[:3] == ["estoi", "↑", "demo"]
    assert "-0.0160" in row
    assert "estoi, demo, opus 12kbps: 28 of 28 items changed, most:\n  utt006: " in text
    assert text.count("  utt") == 2
    _, markdown = command(*names, "--metric", "estoi", "--format", "md")
    assert "| worse |" in markdown
    assert markdown.startswith("### ")


def test_json_has_every_change_and_no_nan(make_run: MakeRun) -> None:
    names = make_run("before", **FEW), make_run("after", **FEW, edit=edited(spoil))
    found = json.loads(command(*names, "--format", "json")[1], parse_constant=pytest.fail)
    assert found["worse"] is True
    effect = next(effect for effect in found["effects"] if effect["verdict"] == "worse")
    assert len(effect["changes"]) == 28
    assert effect["changes"][0]["change"] == pytest.approx(-0.022)
    assert effect["metric"]["signature"].startswith("estoi|")


def test_systems_are_looked_up_in_run_or_results(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no run to look in"):
        command("opus", "opus")
    make_run("results/one", **FEW)
    assert command("opus@6kbps", "opus@12kbps")[0] == 0
    make_run("run", **{**FEW, "metrics": ("estoi",)})
    text = command("opus@6kbps", "opus@12kbps")[1]
    assert "estoi" in text
    assert "mel" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--fail-on", "better"), "it can fail on 'worse'"),
        (("--by", "language"), "speaker or utterance"),
        (("--format", "html"), "the formats are text, md, json"),
    ],
)
def test_wrong_usage(full_run: Path, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        command("opus", "opus", "--runs", full_run, *arguments)


def test_a_run_and_a_system_do_not_compare(full_run: Path) -> None:
    with pytest.raises(UsageError, match="give two of a kind"):
        command(full_run, "opus")
