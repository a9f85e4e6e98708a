"""Submissions: made by one command, believed by another, and every way to cheat found."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from codecbench.benchmark import submit as submitting
from codecbench.benchmark.cli import app
from codecbench.benchmark.datasets import registry
from codecbench.benchmark.evidence import Evidence
from codecbench.benchmark.rescore import Rescore
from codecbench.benchmark.results import EVIDENCE_COLUMNS, RESULT_COLUMNS
from codecbench.benchmark.submission import MANIFEST, read_submission, seal, sha256
from codecbench.benchmark.submission_checks import STATIC
from codecbench.benchmark.submit import Options, submit
from codecbench.benchmark.tables import write_table
from codecbench.benchmark.verify import Check, Finding, verify
from codecbench.errors import InvalidSystem, UsageError

ADAPTER = '''
import numpy as np
from codecbench import Card, Codec, Codes, OperatingPoint, Stream

class Mine(Codec):
    """Four-bit PCM at 8 kHz."""

    card = Card(
        name="mine", kind="codec", family="PCM", track="classical", sample_rate=8000, channels=1, causal=True,
        streams=(Stream(16, 8000),), points=(OperatingPoint("32kbps", 32.0),), paper="ITU-T G.711",
        contamination="nothing is trained",
    )

    def encode(self, clips, point):
        levels = [np.clip(np.floor(clip.samples[0] * 8 + 8), 0, 15).astype(int) for clip in clips]
        return [Codes(clip.length, 8000, 1, (level,), (16,)) for clip, level in zip(clips, levels)]

    def decode(self, codes):
        return [((item.streams[0] + 0.5) / 8 - 1).astype(np.float32)[None] for item in codes]
'''
STANDARD = "models: []\ndatasets: [demo]\nmetrics: [si_sdr, stoi]\nkeep_codes: true\nkeep_audio: 1\naudit: true\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, recordings: Path) -> Iterator[Path]:
    """A submission on the shared recordings, measured by two cheap metrics."""
    folder = tmp_path_factory.mktemp("submission")
    (folder / "standard.yaml").write_text(STANDARD)
    (folder / "mycodec.py").write_text(ADAPTER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(submitting, "STANDARD", folder / "standard.yaml")
        patch.setenv("CODECBENCH_CACHE", str(folder / "cache"))
        options = Options(folder / "all", (str(recordings),), isolation="process", quiet=True)
        submission, code = submit(f"{folder / 'mycodec.py'}:Mine", options, print)
        assert code == 0
        yield submission.folder


@pytest.fixture
def copy(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the submission, to be tampered with."""
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(made, tmp_path / "mine"))


def findings(folder: Path, again: float = 0.0, **facts: Any) -> dict[str, Finding]:
    checks: tuple[Check, ...] = (*STATIC, Rescore(again, 0, "process")) if again else STATIC
    return {f.check: f for f in verify(folder, against=facts.get("against"), paths=facts.get("paths"), checks=checks)}


def failed(folder: Path, **facts: Any) -> set[str]:
    return {name for name, finding in findings(folder, **facts).items() if finding.problems}


def reseal(folder: Path, **facts: Any) -> None:
    """What a cheat does last: every digest fits again."""
    run = json.loads((folder / "run/run.json").read_text())
    run["results"] = {name: sha256(folder / "run" / name) for name in ("results.parquet", "evidence.parquet")}
    (folder / "run/run.json").write_text(json.dumps(run))
    before = read_submission(folder)
    stated = {"name": before.name, "target": before.target, "label": before.label, "previous": before.previous}
    seal(folder, **{**stated, **facts})


def edit_rows(folder: Path, change: Callable[[pd.DataFrame], Any]) -> None:
    path = folder / "run/results.parquet"
    rows = pq.read_table(path).to_pylist()
    frame = pd.DataFrame(rows).astype(object)
    result = change(frame)
    frame = frame if result is None else result
    clean = [{key: None if pd.isna(value) else value for key, value in row.items()} for row in frame.to_dict("records")]
    write_table(path, [{str(key): value for key, value in row.items()} for row in clean], RESULT_COLUMNS)
    reseal(folder)


def edit_json(folder: Path, name: str, change: Callable[[Any], Any]) -> None:
    content = json.loads((folder / name).read_text())
    change(content)
    (folder / name).write_text(json.dumps(content))
    reseal(folder)


def ok(frame: pd.DataFrame, metric: str = "si_sdr") -> Any:
    return (frame["metric"] == metric) & (frame["status"] == "ok") & (frame["utterance"] != "*")


# --- made and believed ----------------------------------------------------------------------------------------------


def test_an_honest_submission_is_believed(made: Path) -> None:
    found = findings(made, again=1.0)
    assert {name: f.problems for name, f in found.items() if f.problems} == {}
    assert {name for name, f in found.items() if f.status == "skipped"} == {"dataset", "paths"}
    assert found["rescore"].status == "passed"


def test_it_holds_no_path_of_the_machine_that_made_it(made: Path) -> None:
    submission = read_submission(made)
    assert (submission.target, submission.label) == ("adapter.py:Mine", "mine")
    for name in ("run/run.json", "check.json", "card.json", MANIFEST):
        assert str(made.parent) not in (made / name).read_text(), name
    assert not (made / "run/rows").exists()
    assert not list(made.parent.glob(".*"))


def test_every_item_has_its_codes(made: Path) -> None:
    rows = pq.read_table(made / "run/evidence.parquet").to_pylist()
    assert len([row for row in rows if row["codes"]]) == 12


def test_the_commands_say_what_they_found(copy: Path) -> None:
    done = CliRunner().invoke(app, ["verify", str(copy), "--share", "0"])
    assert done.exit_code == 0, done.output
    (copy / "card.json").write_text("{}")
    done = CliRunner().invoke(app, ["verify", str(copy), "--share", "0", "--json"])
    assert done.exit_code == 3
    report = {finding["check"]: finding for finding in json.loads(done.stdout)}
    assert report["files"]["problems"] == ["card.json is not the file that was submitted: another SHA-256"]
    assert report["card"]["status"] == "failed"


# --- every way to cheat ---------------------------------------------------------------------------------------------


def test_files_that_are_changed_added_removed_or_links(copy: Path) -> None:
    (copy / "check.json").write_text("{}")
    (copy / "extra").write_text("")
    (copy / "card.json").unlink()
    (copy / "link").symlink_to("/etc/passwd")
    problems = findings(copy)["files"].problems
    assert len(problems) == 4
    for word in ("card.json is listed and absent", "extra is there", "link is there", "check.json is not the file"):
        assert any(word in problem for problem in problems)


def test_files_that_are_too_large(copy: Path) -> None:
    (copy / "data").write_bytes(bytes(10_100_000))
    reseal(copy)
    assert failed(copy) == {"files"}


@pytest.mark.parametrize(
    ("change", "checks"),
    [
        (lambda rows: rows.loc[ok(rows), "value"].__iadd__(0) is None, set()),
        (lambda rows: rows.loc[ok(rows)].iloc[1:], {"complete"}),
        (lambda rows: pd.concat([rows, rows.iloc[:1]]), {"complete"}),
        (lambda rows: rows.__setitem__("status", "missing"), {"complete", "values"}),
        (lambda rows: rows.__setitem__("signature", [f"{s}x" if i else s for i, s in enumerate(rows["signature"])]),
         {"signatures"}),
        (lambda rows: rows.__setitem__("bits", [b if pd.isna(b) else int(b) // 2 for b in rows["bits"]]), {"bits"}),
    ],
    ids=["nothing", "fewer rows", "a row twice", "missing", "another signature", "half the bits"],
)  # fmt: skip
def test_tables_that_were_edited(copy: Path, change: Any, checks: set[str]) -> None:
    def edit(rows: pd.DataFrame) -> Any:
        result = change(rows)
        return result if isinstance(result, pd.DataFrame) else rows

    edit_rows(copy, edit)
    assert failed(copy) >= checks
    assert bool(failed(copy)) == bool(checks)


def test_a_better_value_does_not_come_out_of_the_codes(copy: Path) -> None:
    def better(rows: pd.DataFrame) -> None:
        rows.loc[rows.index[ok(rows)][5], "value"] += 0.5

    edit_rows(copy, better)
    assert failed(copy) == set()
    (problem,) = findings(copy, again=1.0)["rescore"].problems
    assert "its codes give" in problem


def test_other_codes_do_not_give_the_values(copy: Path) -> None:
    rows = pq.read_table(copy / "run/evidence.parquet").to_pylist()
    evidence = Evidence(copy / "run")
    codes = bytearray(evidence.get(rows[0]["codes"]))
    from codecbench.models.bitstream import pack, unpack

    other = unpack(bytes(codes))
    flipped = type(other)(other.length, other.sample_rate, 1, ((other.streams[0] + 5) % 16,), other.codebook_sizes)
    rows[0]["codes"] = evidence.put(pack(flipped).to_bytes(), "codes")
    write_table(copy / "run/evidence.parquet", rows, EVIDENCE_COLUMNS)
    reseal(copy)
    assert failed(copy) == set()
    assert "rescore" in failed(copy, again=1.0)


def test_a_bad_item_cannot_be_called_undefined(copy: Path) -> None:
    def hide(rows: pd.DataFrame) -> None:
        rows.loc[rows.index[ok(rows)][3], ["value", "status", "reason"]] = [None, "undefined", "ref_silent"]

    edit_rows(copy, hide)
    problems = findings(copy, again=0.01)["rescore"].problems
    assert any("is undefined (ref_silent), it says; here: defined" in problem for problem in problems)


def test_a_run_without_audit_or_with_other_systems(copy: Path) -> None:
    edit_json(copy, "run/run.json", lambda run: run["systems"]["mine"].update(isolation="none", audit=False))
    assert "run" in failed(copy)


def test_a_run_of_some_utterances(copy: Path) -> None:
    edit_json(copy, "run/run.json", lambda run: run["sweep"].update(limit=3))
    assert failed(copy) == {"run"}


@pytest.mark.parametrize("lacks", ["contamination", "licence"])
def test_a_card_that_does_not_say(copy: Path, lacks: str) -> None:
    edit_json(copy, "card.json", lambda card: card.update({lacks: ""}))
    assert any(lacks in problem for problem in findings(copy)["card"].problems)


def test_a_folder_of_another_name(copy: Path) -> None:
    copy.rename(copy.with_name("other"))
    assert failed(copy.with_name("other")) == {"card"}


def test_a_failed_check_that_is_shipped(copy: Path) -> None:
    edit_json(copy, "check.json", lambda report: report["checks"][0].update(outcome="failed", reason="x"))
    assert failed(copy) == {"conformance"}


def test_a_dataset_that_lost_its_hard_recordings(copy: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (name,) = json.loads((copy / "run/run.json").read_text())["datasets"]
    monkeypatch.setattr(registry, "names", lambda: [name])
    monkeypatch.setattr(registry, "path", lambda _: recordings)
    whole = registry.open_dataset(str(recordings))
    monkeypatch.setattr(registry, "open_dataset", lambda _: whole)
    assert findings(copy)["dataset"].status == "passed"
    edit_json(copy, "run/run.json", lambda run: run["datasets"][name]["utterances"].pop())
    assert {"dataset", "complete"} <= failed(copy)
    edit_json(copy, "run/run.json", lambda run: run["datasets"][name].update(fingerprint="0" * 64))
    assert any("fingerprint" in problem for problem in findings(copy)["dataset"].problems)


# --- versions -------------------------------------------------------------------------------------------------------


def test_a_new_version_names_the_old_one_and_keeps_its_scores(made: Path, copy: Path) -> None:
    assert failed(copy, against=made) == {"earlier_version"}
    reseal(copy, previous=sha256(made / MANIFEST))
    assert failed(copy, against=made) == set()
    assert findings(copy)["earlier_version"].status == "skipped"

    def worse(rows: pd.DataFrame) -> None:
        rows.loc[ok(rows), "value"] -= 0.01

    edit_rows(copy, worse)
    (problem,) = findings(copy, against=made)["earlier_version"].problems
    assert "si_sdr changed by -0.01" in problem


def test_a_new_version_cannot_drop_a_point(made: Path, copy: Path) -> None:
    reseal(copy, previous=sha256(made / MANIFEST))
    edit_rows(copy, lambda rows: rows[rows["metric"] != "stoi"])
    assert any("cells are gone" in problem for problem in findings(copy, against=made)["earlier_version"].problems)


def test_a_proposal_keeps_to_its_folder(made: Path) -> None:
    assert failed(made, paths=["mine/card.json", "mine/run/run.json"]) == set()
    assert failed(made, paths=["mine/card.json", "opus/card.json"]) == {"paths"}


# --- manifests that are not ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[]", "no manifest"),
        ("nonsense", "Expecting value"),
        ('{"schema": NaN}', "NaN is no number"),
        ('{"schema": 1, "schema": 1}', "a key stands twice"),
        (
            '{"schema": 1, "name": "mine", "target": "", "label": "", "previous": "", "files": {"../x": "0"}}',
            "needs the",
        ),
        ('{"schema": 1, "name": 3, "files": {}}', "needs the texts"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_a_manifest_that_is_none(tmp_path: Path, text: str, error: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(InvalidSystem, match=error):
        read_submission(tmp_path)


def test_a_newer_schema_and_no_submission_at_all(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`codecbench submit` makes one"):
        read_submission(tmp_path)
    (tmp_path / MANIFEST).write_text('{"schema": 99}')
    with pytest.raises(UsageError, match="update codecbench"):
        read_submission(tmp_path)


def test_tables_that_are_none(copy: Path) -> None:
    (copy / "run/results.parquet").write_bytes(b"PAR1 nonsense")
    reseal(copy)
    assert {"complete", "signatures", "values", "bits"} <= failed(copy)


def test_a_card_has_to_speak_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "mute.py").write_text(ADAPTER.replace('contamination="nothing is trained",', ""))
    with pytest.raises(UsageError, match="has to state contamination"):
        submit(f"{tmp_path / 'mute.py'}:Mine", Options(tmp_path, isolation="process"), print)


def test_a_system_that_fails_a_check_is_not_submitted(tmp_path: Path) -> None:
    short = ADAPTER.replace("astype(np.float32)[None]", "astype(np.float32)[None, 1:]")
    (tmp_path / "short.py").write_text(short)
    with pytest.raises(InvalidSystem, match="conformance checks fail"):
        submit(f"{tmp_path / 'short.py'}:Mine", Options(tmp_path, isolation="process"), print)
