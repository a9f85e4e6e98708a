"""Runs on a machine that is not kind: jumping clocks, other locales, few descriptors, odd names, sudden ends."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import codecbench.benchmark
import codecbench.metrics

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Rows = Callable[..., list[dict[str, Any]]]
Manifest = Callable[..., dict[str, Any]]
Command = Callable[..., list[str]]
QUICK = ("--limit", "3", "--isolation", "none")
TEN_YEARS = 10 * 365 * 24 * 3600


def results_of(folder: Path) -> bytes:
    return (folder / "results.parquet").read_bytes()


def go(arguments: list[str], tmp_path: Path, **more: str | None) -> subprocess.CompletedProcess[str]:
    """Run with variables of the environment set, or removed (None)."""
    environment = {**os.environ, "CODECBENCH_CACHE": str(tmp_path / "cache"), **more}
    kept = {name: value for name, value in environment.items() if value is not None}
    return subprocess.run(arguments, env=kept, capture_output=True, text=True, check=False, timeout=240)


@pytest.mark.parametrize("shift", [-TEN_YEARS, pytest.param(TEN_YEARS, marks=pytest.mark.slow)])
def test_times_of_files_and_records_mean_nothing(
    command: Command, run: Run, tmp_path: Path, manifest: Manifest, shift: float
) -> None:
    run("Steps", options=QUICK, out="whole", recall=True)
    killed = go(command("Steps", options=QUICK, recall=True), tmp_path, CODECBENCH_FAILPOINT="written-results.parquet")
    assert killed.returncode == -signal.SIGKILL
    created = {"created": f"{2026 + round(shift / TEN_YEARS) * 10}-01-01T00:00:00+00:00"}
    (tmp_path / "run/run.json").write_text(json.dumps({**manifest(), **created}))
    for path in [*(tmp_path / "run").rglob("*"), *(tmp_path / "cache").rglob("*")]:
        os.utime(path, (time.time() + shift, time.time() + shift))
    done = run("Steps", options=QUICK, recall=True)
    assert "resumed  9 of 9 items were done" in done.stderr
    assert results_of(tmp_path / "run") == results_of(tmp_path / "whole")


CLOCKS = {("time", "time"), ("time", "time_ns"), ("datetime", "now")}
TOLD = {
    "benchmark/lock.py", "benchmark/run.py", "benchmark/environment.py", "benchmark/submit.py",
    "benchmark/isolation/hosts.py", "benchmark/datasets/checked.py",
}  # fmt: skip
"""What states for the record when something happened; the time of a start, to compare those of files with; and whether
a file's times are those that were seen before, whichever is later."""


def test_the_clock_on_the_wall_decides_nothing() -> None:
    asked = set()
    root = Path(*codecbench.benchmark.__path__).resolve().parent
    for folder in (*codecbench.benchmark.__path__, *codecbench.metrics.__path__):
        for path in Path(folder).resolve().rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute) and (
                    node.attr in {"st_mtime", "getmtime", "utcnow", "today"}
                    or (isinstance(node.value, ast.Name) and (node.value.id, node.attr) in CLOCKS)
                ):
                    asked.add(path.relative_to(root).as_posix())
    assert "benchmark/run.py" in asked
    assert asked <= TOLD


@pytest.mark.slow
def test_a_killed_coordinator_leaves_rows_and_no_process(
    command: Command,
    run: Run,
    tmp_path: Path,
    processes_told_of: Callable[[Path], dict[int, str]],
    rows_on_disk: Callable[[Path], int],
) -> None:
    run("Slow", out="whole")
    environment = {**os.environ, "CODECBENCH_CACHE": str(tmp_path / "cache")}
    with subprocess.Popen(command("Slow"), env=environment, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not rows_on_disk(tmp_path / "run") and time.monotonic() < deadline:
            time.sleep(0.05)
        assert processes_told_of(tmp_path)
        process.kill()
    deadline = time.monotonic() + 30
    while processes_told_of(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not processes_told_of(tmp_path)
    assert "resumed" in run("Slow").stderr
    assert results_of(tmp_path / "run") == results_of(tmp_path / "whole")


@pytest.mark.parametrize("files", [pytest.param(files, marks=pytest.mark.slow) for files in (12, 16, 24)] + [64])
def test_few_descriptors_are_a_fault_of_the_machine(command: Command, run: Run, tmp_path: Path, files: int) -> None:
    limited = ["bash", "-c", f'ulimit -n {files}; exec "$@"', "bash", *command("Steps", "identity", options=QUICK)]
    done = go(limited, tmp_path)
    assert done.returncode in (0, 4), done.stderr
    assert (done.returncode == 4) is not (tmp_path / "run/results.parquet").exists()
    if done.returncode:
        assert "Traceback" not in done.stderr
        assert "open files" in done.stderr
        run("Steps", "identity", options=QUICK)
    run("Steps", "identity", options=QUICK, out="whole")
    assert results_of(tmp_path / "run") == results_of(tmp_path / "whole")


PLACES: list[dict[str, str | None]] = [
    {"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8", "TZ": "Asia/Kathmandu"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TZ": "America/St_Johns"},
    {"LC_ALL": None, "LANG": None, "PYTHONUTF8": "0", "PYTHONHASHSEED": "1"},
]


@pytest.mark.slow
def test_results_are_the_same_everywhere(command: Command, tmp_path: Path) -> None:
    import soundfile

    folder = tmp_path / "İstanbul"
    folder.mkdir()
    for name in ("ı", "İ", "I"):
        soundfile.write(folder / f"{name}.wav", np.linspace(-0.5, 0.5, 4000), 8000)
    found = set()
    for k, place in enumerate(PLACES):
        options = ("--datasets", str(folder), *QUICK)
        done = go(command("identity", "Steps", out=f"run{k}", options=options), tmp_path, **place)
        assert done.returncode == 0, done.stderr
        told = json.loads((tmp_path / f"run{k}/run.json").read_text(encoding="utf-8"))
        found.add((results_of(tmp_path / f"run{k}"), json.dumps([told["identity"], told["datasets"]])))
    assert len(found) == 1


def test_nothing_is_loaded_for_a_folder_that_cannot_be_written(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = go(command("CannotLoad", out="file/run", options=("--datasets", "no such")), tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert f"cannot write to {tmp_path}/file/run: " in done.stderr


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("models: !!python/object/apply:os.system ['touch canary']", "could not determine a constructor"),
        ("models: &a [*a]\ndatasets: [demo]\nmetrics: [lsd]", "'models"),
        ("models: " + "[" * 5000, "is no YAML"),
        ("- identity", "a sweep is a mapping"),
        ("models: [identity]\ndatasets: [demo]\nmetric: [lsd]", "'metrics' is missing"),
    ],
)
def test_a_sweep_is_data(tmp_path: Path, sweep: str, message: str) -> None:
    from codecbench.benchmark.sweep import read_sweep
    from codecbench.errors import UsageError

    path = tmp_path / "sweep.yaml"
    path.write_text(sweep)
    with pytest.raises(UsageError, match=message) as caught:
        read_sweep(path, {})
    assert "\n" not in str(caught.value)
    assert not Path("canary").exists()


def test_what_is_odd_about_a_recording_is_told(run: Run, manifest: Manifest, tmp_path: Path) -> None:
    import soundfile

    tone = np.sin(np.arange(8000) / 5)
    folder = tmp_path / "odd"
    folder.mkdir()
    for name, samples in {"square": np.sign(tone), "offset": 0.1 * tone + 0.5, "quiet": 10**-4.5 * tone}.items():
        soundfile.write(folder / f"{name}.wav", samples, 8000, "FLOAT")
    run("identity", "Steps", options=("--datasets", str(folder), "--isolation", "none"), check=None)
    (dataset,) = manifest()["datasets"].values()
    flags = {item["id"]: item["flags"] for item in dataset["utterances"]}
    assert flags == {"square": ["ref_clipped"], "offset": ["ref_dc"], "quiet": ["ref_low_level", "ref_silent"]}


NAMES = [b"new\nline", b"tab\t", b"-rf", b"'\"; $(touch canary)", "\U0001f3b5".encode(), b"no utf-8 \xff", b"CON",
         "\u202egnp".encode(), b"x" * 200, b"<script>\"", b"a,b", b"=1+1"]  # fmt: skip


def test_names_of_recordings_go_nowhere_as_names(run: Run, rows: Rows, tmp_path: Path) -> None:
    import soundfile

    from codecbench.leaderboard.site import build

    folder = tmp_path / "names"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in NAMES:
        path = folder / os.fsdecode(name + b".wav")
        with path.open("wb") as file:
            soundfile.write(file, rng.uniform(-0.5, 0.5, 4000), 8000, format="WAV")
    options = ("--datasets", str(folder), "--isolation", "none", "--keep-codes", "--keep-audio", "99")
    run("identity", options=options)
    assert len({row["utterance"] for row in rows(metric="lsd")}) == len(NAMES)
    index = build([tmp_path / "run"], tmp_path / "site")
    written = [path for root in (tmp_path / "run", index.parent) for path in root.rglob("*")]
    assert len(written) > 3 * len(NAMES)
    assert all(path.name.isascii() and path.name.isprintable() and len(path.name) < 120 for path in written)
    assert not {c for path in written for c in path.name} & set("<>\"'$;,=() ")
    assert not list(tmp_path.rglob("canary"))
    assert not Path("canary").exists()


def test_samples_beyond_full_scale_are_scored_and_counted(run: Run, rows: Rows) -> None:
    run("Loud", "identity", options=QUICK)
    share = {(row["system"], row["point"]): row["value"] for row in rows(metric="clipped")}
    assert share["identity", "float32"] == 0
    assert 0.001 < share["loud", "3x4bit"] < 0.1
    assert all(row["status"] == "ok" for row in rows(system="loud", metric="si_sdr"))
