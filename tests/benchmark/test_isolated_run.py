"""Runs whose adapters are in processes of their own: the same results, and what is told of each system."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Rows = Callable[..., list[dict[str, Any]]]
Manifest = Callable[..., dict[str, Any]]

ROGUES = Path(__file__).parents[1] / "rogues/processes.py"
needs_bwrap = pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap is not installed")


@pytest.mark.parametrize(
    "options", [("process",), pytest.param(("bwrap", "--audit"), marks=[needs_bwrap, pytest.mark.slow])]
)
def test_isolation_changes_no_result(run: Run, manifest: Manifest, tmp_path: Path, options: tuple[str, ...]) -> None:
    run("Steps", "Late", out="none", options=("--isolation", "none"))
    run("Steps", "Late", out="other", options=("--isolation", *options))
    assert (tmp_path / "none/results.parquet").read_bytes() == (tmp_path / "other/results.parquet").read_bytes()
    system = manifest("other")["systems"]["steps"]
    assert (system["isolation"], system["audit"]) == (options[0], len(options) == 2)


def test_memory_of_a_host_is_measured(run: Run, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    run("Steps", options=("--limit", "3"))
    grown = pq.read_table(tmp_path / "run/timings.parquet").column("peak_memory_mb").to_pylist()
    assert len(grown) == 9
    assert all(mb is not None and 0 <= mb < 200 for mb in grown)


def test_another_level_is_another_run(run: Run) -> None:
    run("identity", options=("--limit", "1"))
    done = run("identity", options=("--limit", "1", "--isolation", "none"), check=1)
    assert "systems 'identity' was" in done.stderr


def test_the_traceback_of_each_reason_is_kept(run: Run, manifest: Manifest) -> None:
    run("Raises", check=2)
    (fault,) = manifest()["faults"]
    assert fault["reason"] == "exception(RuntimeError: cannot decode this clip)"
    assert "in decode_one" in fault["trace"]
    assert len(fault["trace"]) <= 2048


def test_writing_where_it_must_not_makes_a_system_invalid(
    run: Run, rows: Rows, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    target = ("--models", f"{ROGUES}:WritesElsewhere,identity")
    done = run("identity", options=target, check=3)
    status = manifest()["systems"]["rogue"]["status"]
    assert status == f"invalid:wrote_outside({tmp_path / 'written-by-rogue'})"
    assert f"invalid  rogue: {status.removeprefix('invalid:')}" in done.stderr
    assert manifest()["systems"]["identity"]["status"] == "valid"
    assert {row["status"] for row in rows(system="identity")} == {"ok"}
    run("identity", options=target, check=3)  # resumed, it still is
    assert manifest()["systems"]["rogue"]["status"] == status


def test_using_the_network_is_noted(run: Run, manifest: Manifest) -> None:
    run("identity", options=("--models", f"{ROGUES}:UsesTheNetwork"), check=None)
    assert manifest()["systems"]["rogue"]["notes"] == ["used the network: ('192.0.2.1', 9)"]


def test_what_a_system_printed_is_kept(run: Run, tmp_path: Path) -> None:
    run("identity", options=("--models", f"{ROGUES}:PrintsControls"))
    (log,) = (tmp_path / "run/logs").glob("*.log")
    assert "visible" in log.read_text()
    assert "\x1b" not in log.read_text()


@pytest.mark.slow
def test_a_system_that_always_hangs_is_given_up(run: Run, rows: Rows, manifest: Manifest, tmp_path: Path) -> None:
    adapter = tmp_path / "stuck.py"
    adapter.write_text(
        ROGUES.read_text() + "\n\nclass Stuck(Sleeps):\n    def decode(self, codes):\n        self.deed()\n"
    )
    options = ("--models", f"{adapter}:Stuck,identity", "--timeout", "2", "--jobs", "1")
    run("identity", options=options, check=3)
    reasons = {row["reason"] for row in rows(system="rogue") if row["utterance"] != "*"}
    assert reasons <= {"timeout(2 s)", "timeout(3 items in a row)"}
    assert {row["status"] for row in rows(system="rogue") if row["utterance"] != "*"} == {"failed"}
    assert manifest()["systems"]["rogue"]["status"] == "invalid:timeout(3 items in a row)"
    assert {row["status"] for row in rows(system="identity")} == {"ok"}


def test_planning_imports_no_adapter(tmp_path: Path) -> None:
    adapter = tmp_path / "telling.py"
    adapter.write_text(
        "import os\nfrom pathlib import Path\n"
        f"Path({str(tmp_path)!r}, f'pid-{{os.getpid()}}').touch()\n"
        + ROGUES.read_text().replace('name="rogue"', 'name="telling"')
    )
    code = (
        "import os, sys\nfrom codecbench.benchmark.isolation.describe import describe\n"
        f"found = describe('{adapter}:Sound', 'process')\n"
        "print(os.getpid(), found.card.name, found.source, any('telling' in str(m) for m in sys.modules.values()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    pid, name, source, imported = done.stdout.split()
    assert (name, source, imported) == ("telling", str(adapter), "False")
    (imported_by,) = tmp_path.glob("pid-*")
    assert imported_by.name != f"pid-{pid}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--isolation", "chroot"), "'isolation': Input should be 'none', 'process' or 'bwrap'"),
        (("--isolation", "none", "--audit"), "an audit needs encoder and decoder in processes of their own"),
    ],
)
def test_a_level_that_there_is_not_is_wrong_usage(run: Run, options: tuple[str, ...], message: str) -> None:
    assert message in run("identity", options=options, check=1).stderr


def test_without_bubblewrap_it_says_what_to_do(command: Callable[..., list[str]], tmp_path: Path) -> None:
    arguments = command("identity", options=("--isolation", "bwrap"))
    done = subprocess.run(
        arguments, capture_output=True, text=True, check=False, env={**os.environ, "PATH": str(tmp_path)}
    )
    assert done.returncode == 1
    assert "needs bubblewrap: apt install bubblewrap, or choose --isolation process" in done.stderr


@pytest.mark.slow  # seven workers, one after the other
def test_a_worker_that_dies_is_not_the_systems_fault(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A metric that ends its process, put where the worker finds it before its own.
    site = tmp_path / "site"
    site.mkdir()
    code = "import os\n\nBufferTooShortError = NoUtterancesError = OSError\n\n\ndef pesq(*_, **__):\n    os.abort()\n"
    (site / "pesq.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(site))
    done = run("Steps", metrics="pesq_wb", options=("--limit", "2", "--jobs", "1"), check=4)
    assert "a metric ended its process (SIGABRT) on recordings0/u01, whatever the system" in done.stderr
    assert b'"failed"' not in b"".join(path.read_bytes() for path in (tmp_path / "run/rows").glob("*.jsonl"))


def test_the_manifest_is_json_with_facts_of_isolation(run: Run, tmp_path: Path) -> None:
    run("identity", options=("--limit", "1"))
    facts = json.loads((tmp_path / "run/run.json").read_text())["systems"]["identity"]
    assert facts["isolation"] == "process"
    assert facts["audit"] is False
    assert facts["notes"] == []


@pytest.mark.slow
def test_an_audit_finds_audio_that_was_kept(run: Run, rows: Rows) -> None:
    options = ("--models", f"{ROGUES}:Remembers", "--limit", "3", "--jobs", "1")
    run("identity", out="plain", options=options)
    assert {row["status"] for row in rows("plain", metric="lsd")} == {"ok"}
    run("identity", out="audit", options=(*options, "--audit"), check=2)
    found = {(row["status"], row["reason"]) for row in rows("audit", metric="lsd")}
    assert found == {("failed", "exception(IndexError: list index out of range)")}
