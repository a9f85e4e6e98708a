"""``codecbench check`` and ``codecbench new`` from the command line, as a user meets them."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from codecbench.benchmark import scaffold
from codecbench.errors import UsageError

ROGUES = Path(__file__).parents[1] / "rogues" / "codecs.py"


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "codecbench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, check=False)


@pytest.mark.parametrize(
    ("arguments", "target"),
    [(["mycodec"], "mycodec.py:MyCodec"), (["tiny_lm", "--kind", "lm", "--out", "x"], "x/tiny_lm.py:TinyLM")],
)
def test_new_model_passes_at_once(arguments: list[str], target: str, tmp_path: Path) -> None:
    made = run("new", *arguments, cwd=tmp_path)
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout.splitlines()[-1] == f"now: codecbench check {target}"
    checked = run("check", target, "--json", "--seconds", "2", cwd=tmp_path)
    report = json.loads(checked.stdout)
    assert [(one["check"], one["reason"]) for one in report["checks"] if one["outcome"] == "failed"] == []
    assert checked.returncode == 0
    assert report["counts"]["passed"] >= 40


def test_test_of_a_new_model_passes(tmp_path: Path) -> None:
    scaffold.create("first", "codec", tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_first.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("kind", ["codec", "lm"])
def test_there_are_at_most_forty_lines_to_fill_in(kind: str, tmp_path: Path) -> None:
    model, _ = scaffold.create("made", kind, tmp_path)
    text = model.read_text()
    assert 5 <= text.count("EDIT") <= 40
    assert max(map(len, text.splitlines())) <= 120
    (made,) = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
    own = [node for node in made.body if isinstance(node, ast.FunctionDef) and node.name.startswith("_")]
    assert sum((node.end_lineno or 0) - node.lineno for node in own) <= 40


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My-Codec", "'My-Codec' is no name"),
        ("2nd", "is no name"),
        ("class", "is no name"),
        ("opus", "exists already"),
        ("encodec", "exists already"),
        ("wave", "a module of Python's own"),
        ("../up", "is no name"),
    ],
)
def test_bad_name_is_one_line(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        scaffold.create(name, "codec", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text("mine")
    with pytest.raises(UsageError, match=r"test_mine\.py exists"):
        scaffold.create("mine", "codec", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["test_mine.py"]
    with pytest.raises(UsageError, match="cannot write to"):
        scaffold.create("mine", "codec", tmp_path / "test_mine.py")


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("mycodec", "codec", "MyCodec"), ("my_codec", "codec", "MyCodec"), ("codec", "codec", "Codec"),
        ("tiny_lm", "lm", "TinyLM"), ("mylm", "lm", "MyLM"), ("snac2", "codec", "Snac2"),
    ],
)  # fmt: skip
def test_class_name(name: str, kind: str, expected: str) -> None:
    assert scaffold.class_name(name, kind) == expected


def test_failing_check_gives_exit_code_3(tmp_path: Path) -> None:
    done = run("check", f"{ROGUES}:Short", "--only", "round_trip", cwd=tmp_path)
    assert done.returncode == 3
    assert "FAILED    round_trip" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("honest (no weights): 1 failed in ")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["mulawe"], 1, "unknown model 'mulawe': did you mean mulaw"),
        (["no-such.py:Codec"], 1, "no such file: no-such.py"),
        (["mulaw", "--isolation", "prison"], 1, "unknown isolation 'prison'"),
        (["mulaw", "--points", "7bit"], 1, "mulaw has no point '7bit'"),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], code: int, message: str, tmp_path: Path) -> None:
    done = run("check", *arguments, cwd=tmp_path)
    assert done.returncode == code
    assert done.stderr.startswith(f"codecbench: {message}")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap is not installed")
def test_checks_run_in_a_sandbox(tmp_path: Path) -> None:
    done = run("check", f"{ROGUES}:Honest", "--isolation", "bwrap", "--seconds", "1", cwd=tmp_path)
    if "cannot make a sandbox here" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap is not installed")
def test_system_is_never_imported_outside_its_sandbox(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "peeks.py").write_text(
        "from pathlib import Path\n"
        f"assert not Path({str(tmp_path / 'secret')!r}).exists(), 'not in a sandbox'\n"
        "from codecbench.models.controls import MuLaw\n\n\nclass Mine(MuLaw):\n    pass\n"
    )
    done = run("check", "peeks.py:Mine", "--isolation", "bwrap", "--only", "card_name,round_trip", cwd=tmp_path)
    if "cannot make a sandbox here" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    outside = run("check", "peeks.py:Mine", "--only", "card_name", cwd=tmp_path)
    assert outside.returncode == 3
    assert "not in a sandbox" in outside.stderr


def test_module_that_ends_its_process_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text("import os\nos._exit(0)\n")
    done = run("check", "ends.py:Codec", cwd=tmp_path)
    assert done.returncode == 3
    assert done.stderr.startswith("codecbench: ends.py:Codec cannot be imported")
