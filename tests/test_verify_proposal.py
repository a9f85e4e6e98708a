"""The script that pull requests run: which submissions it verifies, with what, and what it answers."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "scripts" / "verify-proposal"
FAKE = '#!/bin/sh\necho "$@" >> "$CALLS"\ncase "$2" in *bad) exit 3;; esac\n'

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
    done = subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    for name in ("old", "other"):
        (folder / "results/submissions" / name).mkdir(parents=True)
        (folder / "results/submissions" / name / "submission.json").write_text("{}")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "base")
    return folder


def propose(base: Path, changed: dict[str, str | None]) -> tuple[int, list[str], str]:
    """Exit code of the script, the commands that it ran, and what it said."""
    proposal = base.with_name("proposal")
    shutil.copytree(base, proposal)
    for name, text in changed.items():
        path = proposal / name
        if text is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    git(proposal, "add", "-A")
    git(proposal, "commit", "-qm", "proposal")
    fake = base.with_name("codecbench")
    fake.write_text(FAKE)
    fake.chmod(0o755)
    calls = base.with_name("calls")
    done = subprocess.run(
        [SCRIPT, proposal, base, git(base, "rev-parse", "HEAD"), "7"], capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin", "CODECBENCH": str(fake), "CALLS": str(calls)},
    )  # fmt: skip
    return done.returncode, calls.read_text().splitlines() if calls.exists() else [], done.stdout


def test_a_new_submission_and_a_new_version(base: Path) -> None:
    code, calls, _ = propose(
        base,
        {"results/submissions/new/submission.json": "{}", "results/submissions/old/card.json": "{}", "README": "x"},
    )
    assert code == 0
    new, old = calls
    assert "submissions/new --paths" in new
    assert "--seed 7 --isolation bwrap" in new
    assert "--against" not in new
    assert old.endswith(f"--against {base}/results/submissions/old")


def test_one_bad_submission_is_enough(base: Path) -> None:
    code, calls, _ = propose(base, {f"results/submissions/{name}/submission.json": "{{}}" for name in ("bad", "good")})
    assert (code, len(calls)) == (3, 2)


def test_nothing_to_verify(base: Path) -> None:
    assert propose(base, {"README": "x"}) == (0, [], "no submission is changed\n")


def test_a_submission_cannot_be_removed(base: Path) -> None:
    code, calls, said = propose(base, {"results/submissions/other/submission.json": None})
    assert (code, calls) == (3, [])
    assert "not removed" in said


def test_the_workflow_uses_the_script_without_rights() -> None:
    import yaml

    flow = yaml.safe_load((ROOT / ".github/workflows/submission.yml").read_text())
    assert flow["permissions"] == {"contents": "read"}
    assert "pull_request_target" not in flow[True]
    checkouts = [step["with"] for step in flow["jobs"]["verify"]["steps"] if "checkout" in step.get("uses", "")]
    assert [one["persist-credentials"] for one in checkouts] == [False, False]
    assert "secrets." not in (ROOT / ".github/workflows/submission.yml").read_text()
    assert "base/scripts/verify-proposal proposal base" in flow["jobs"]["verify"]["steps"][-1]["run"]
