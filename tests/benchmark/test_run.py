"""Runs from the command line, end to end: results, statuses, exit codes, resuming."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Rows = Callable[..., list[dict[str, Any]]]
Manifest = Callable[..., dict[str, Any]]
Command = Callable[..., list[str]]
Counter = Callable[[Path], int]
ToldOf = Callable[[Path], dict[int, str]]

COLUMNS = [
    "system", "point", "dataset", "utterance", "metric", "value", "weight", "status", "reason", "bits",
    "header_bits", "duration", "signature",
]  # fmt: skip


def test_a_run_has_the_documented_columns_and_every_row(run: Run, rows: Rows, manifest: Manifest) -> None:
    run("identity", "Steps")
    items = [row for row in rows() if row["utterance"] != "*"]
    assert list(items[0]) == COLUMNS
    assert len(items) == 12 * (1 + 3) * 2
    assert {row["status"] for row in items} == {"ok"}
    assert manifest()["finished"] is True
    assert manifest()["counts"]["ok"] == len(items)
    assert manifest()["systems"]["steps"]["status"] == "valid"


def test_the_identity_control_is_perfect(run: Run, rows: Rows) -> None:
    run("identity", metrics="mel,lsd,si_sdr")
    assert {row["value"] for row in rows(metric="mel")} == {0.0}
    assert {row["value"] for row in rows(metric="lsd")} == {0.0}
    assert all(row["bits"] == 32 * round(row["duration"] * 8000) for row in rows(metric="lsd"))


def test_bits_are_those_of_the_streams_each_point_sends(run: Run, rows: Rows) -> None:
    run("Steps")
    for streams in (1, 2, 3):
        for row in rows(point=f"{streams}x4bit", metric="lsd"):
            samples = round(row["duration"] * 8000)
            assert row["bits"] == -(-4 * streams * samples // 8) * 8
    rates = {row["point"]: row["value"] for row in rows(metric="kbps")}
    assert rates["3x4bit"] == pytest.approx(96, rel=1e-3)
    assert rows(metric="token_rate", point="2x4bit")[0]["value"] == pytest.approx(16000)


def test_quality_rises_with_the_rate(run: Run, rows: Rows) -> None:
    run("Steps")
    means = [sum(row["value"] for row in rows(point=f"{n}x4bit", metric="si_sdr")) / 12 for n in (1, 2, 3)]
    assert means[0] + 15 < means[1] < means[2] - 15


@pytest.mark.parametrize(
    ("system", "reason"),
    [
        ("Short", "length(expected [1, "),
        ("NotFinite", "nonfinite(1 of "),
        ("Integers", "contract(decode returned int16 [1, "),
        ("Undeclared", "codes(codebook sizes (4096,"),
        ("Mutates", "exception(ValueError: "),
    ],
)
def test_a_system_that_breaks_the_contract_fails_on_every_item(run: Run, rows: Rows, system: str, reason: str) -> None:
    done = run(system, check=2)
    items = [row for row in rows() if row["utterance"] != "*"]
    assert len(items) == 12 * 3 * 2
    assert {row["status"] for row in items} == {"failed"}
    assert all(row["reason"].startswith(reason) and row["value"] is None for row in items)
    assert f"failed:{reason}" in done.stderr


@pytest.mark.parametrize("level", ["none", "process"])
@pytest.mark.parametrize(
    ("system", "reason"),
    [
        ("Raises", "exception(RuntimeError: cannot decode this clip)"),
        ("Aborts", "crash(SIGABRT)"),
        ("ExitsQuietly", "crash(exit 0)"),
        ("NoMemory", "oom"),
    ],
)
def test_a_fault_on_one_item_costs_that_item_alone(run: Run, rows: Rows, system: str, reason: str, level: str) -> None:
    done = run(system, "identity", check=2, options=("--isolation", level))
    failed = [row for row in rows() if row["status"] == "failed"]
    assert {(row["utterance"], row["reason"]) for row in failed} == {("u03", reason)}
    assert len(failed) == 3 * 2
    assert sum(row["status"] == "ok" and row["utterance"] != "*" for row in rows()) == 2 * (11 * 3 + 12)
    assert len([line for line in done.stderr.splitlines() if "/u03: failed:" in line]) == 3
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("level", ["none", "process"])
def test_an_item_over_the_time_limit_is_killed(run: Run, rows: Rows, level: str) -> None:
    started = time.monotonic()
    run("Hangs", check=2, options=("--timeout", "6", "--isolation", level))
    assert time.monotonic() - started < 60
    assert {(r["utterance"], r["reason"]) for r in rows() if r["status"] == "failed"} == {("u03", "timeout(6 s)")}


def test_a_system_that_cannot_load_is_invalid_and_others_go_on(run: Run, rows: Rows, manifest: Manifest) -> None:
    done = run("CannotLoad", "identity", check=3)
    assert manifest()["systems"]["cannot-load"]["status"] == "invalid:load(OSError: no such library)"
    assert manifest()["systems"]["identity"]["status"] == "valid"
    assert {row["status"] for row in rows(system="cannot-load")} == {"failed"}
    assert {row["status"] for row in rows(system="identity")} == {"ok"}
    assert done.stderr.count("invalid  cannot-load: load(OSError: no such library)") == 1


def test_delay_polarity_and_gain_are_measured_and_removed_for_aligned_metrics(run: Run, rows: Rows) -> None:
    run("Late", metrics="si_sdr,si_sdr_aligned")
    corpus = {row["metric"]: row["value"] for row in rows(utterance="*", point="3x4bit")}
    assert corpus["delay_ms"] == pytest.approx(20, abs=0.05)
    assert corpus["polarity"] == -1
    assert corpus["gain_db"] == pytest.approx(-6.02, abs=0.3)
    for utterance in ("u01", "u06"):
        raw, aligned = (
            rows(point="3x4bit", utterance=utterance, metric=name)[0]["value"] for name in ("si_sdr", "si_sdr_aligned")
        )
        assert raw < 5 < 25 < aligned


def test_a_system_that_does_not_repeat_itself_is_flagged(run: Run, rows: Rows) -> None:
    run("Forgetful", "Steps")
    assert {row["value"] for row in rows(system="forgetful", metric="repeatable")} == {0.0}
    assert {row["value"] for row in rows(system="steps", metric="repeatable")} == {1.0}


def test_metrics_outside_their_domain_are_undefined_for_all_alike(run: Run, rows: Rows) -> None:
    run("identity", "Raises", metrics="stoi,lsd", check=2)
    undefined = {
        system: {
            (r["utterance"], r["reason"])
            for r in rows(system=system)
            if r["status"] == "undefined" and r["utterance"] != "*"
        }
        for system in ("identity", "raises")
    }
    assert undefined["identity"] == undefined["raises"]
    assert ("u00", "domain(music)") in undefined["identity"]


@pytest.mark.slow
def test_results_do_not_depend_on_jobs_or_order(run: Run, tmp_path: Path) -> None:
    run("Steps", "identity", out="a")
    run("identity", "Steps", out="b", options=("--jobs", "1"))
    assert (tmp_path / "a/results.parquet").read_bytes() == (tmp_path / "b/results.parquet").read_bytes()


def test_a_finished_run_computes_nothing_again(run: Run, tmp_path: Path) -> None:
    run("Steps")
    before = {
        path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file() and path.name != ".lock"
    }
    done = run("Steps")
    assert "resumed  36 of 36 items were done" in done.stderr
    after = {
        path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file() and path.name != ".lock"
    }
    assert before == after


def test_another_sweep_in_the_same_folder_is_refused(run: Run) -> None:
    run("Steps", options=("--limit", "2"))
    done = run("Steps", check=1)
    assert "holds another run: datasets 'recordings" in done.stderr
    done = run("Steps", check=1, options=("--limit", "2"), metrics="lsd")
    assert "holds another run: metrics 'si_sdr' was" in done.stderr
    assert len(done.stderr.strip().splitlines()[-1:]) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--models", "identiy"), "unknown model 'identiy': did you mean identity?"),
        (("--models", "identity", "--metrics", "pesq"), "unknown metric 'pesq': did you mean pesq"),
        (("--models", "identity", "--datasets", "dmeo"), "dmeo"),
        (("--models", "noise", "--points", "11dB"), "no model of this sweep has the point '11dB'"),
        (("--models", "identity", "--limit", "0"), "'limit': Input should be greater than or equal to 1"),
        (("--models", "identity", "--engine", "cloud"), "unknown engine 'cloud'"),
        (("--models", "identity", "--compile"), "no model of this sweep has a network to compile"),
        (("--models", ""), "'models': Tuple should have at least 1 item"),
        (("--nonsense",), "No such option: --nonsense"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_1(command: Command, options: tuple[str, ...], message: str) -> None:
    done = subprocess.run(command("identity", options=options), capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("checked ")]
    assert len(lines) == 1
    assert message in lines[0]


def results_of(folder: Path) -> bytes:
    return (folder / "results.parquet").read_bytes()


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "CODECBENCH_CACHE": str(tmp_path / "cache"), **more}


KILLS = int(os.environ.get("CODECBENCH_KILLS", "20"))


@pytest.mark.slow
@pytest.mark.timeout(60 + 15 * KILLS)
def test_killed_again_and_again_it_ends_in_the_same_bytes(
    command: Command, run: Run, tmp_path: Path, rows_on_disk: Counter
) -> None:
    run("Slow", "Raises", "identity", out="whole", check=2)
    arguments, folder = command("Slow", "Raises", "identity", out="torn"), tmp_path / "torn"
    chance = random.Random(0)  # noqa: S311 - moments to kill at, no secrets
    at_work = 0
    for k in range(KILLS):
        if k % 3 and (folder / "results.parquet").exists():
            ends_like_the_whole(folder, rows_on_disk(folder))
            shutil.rmtree(folder)
        before = rows_on_disk(folder)
        with subprocess.Popen(arguments, env=environment(tmp_path), stderr=subprocess.DEVNULL) as process:
            while k % 2 and rows_on_disk(folder) == before and process.poll() is None:
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 0.5 if k % 2 else 4))
            process.kill()
        at_work += process.returncode == -signal.SIGKILL and rows_on_disk(folder) > before
    assert at_work >= KILLS / 4
    done = run("Slow", "Raises", "identity", out="torn", check=2)
    ends_like_the_whole(folder, rows_on_disk(folder))
    assert "Traceback" not in done.stderr


def ends_like_the_whole(folder: Path, written: int) -> None:
    """What was killed has the bytes of what was not, and computed nothing twice but what a kill took."""
    assert results_of(folder) == results_of(folder.with_name("whole"))
    # Each kill may cost the rows since the last sync (at most 1 s of them) and the item in hand of two workers.
    assert written <= 12 * 7 + 5


@pytest.mark.slow
@pytest.mark.parametrize("point", ["written-results.parquet", "replaced-results.parquet", "synced-run.json"])
def test_killed_while_finishing_it_finishes_the_next_time(
    command: Command, run: Run, manifest: Manifest, tmp_path: Path, point: str
) -> None:
    arguments = command("Steps", options=("--limit", "3"))
    run("Steps", options=("--limit", "3"), out="whole")
    # run.json is also written at the start: let that one pass.
    subprocess.run(arguments, env=environment(tmp_path, CODECBENCH_FAILPOINT="written-results.parquet"), check=False)
    killed = subprocess.run(arguments, env=environment(tmp_path, CODECBENCH_FAILPOINT=point), check=False)
    assert killed.returncode == -signal.SIGKILL
    assert manifest()["finished"] is False
    assert manifest()["results"] == {}
    run("Steps", options=("--limit", "3"))
    assert results_of(tmp_path / "run") == results_of(tmp_path / "whole")
    assert manifest()["finished"] is True


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_stops_soon_leaves_no_process_and_resumes(
    command: Command, run: Run, tmp_path: Path, number: signal.Signals, rows_on_disk: Counter, processes_told_of: ToldOf
) -> None:
    run("Slow", out="whole")
    arguments, folder = command("Slow", out="run"), tmp_path / "run"
    with subprocess.Popen(
        arguments, env=environment(tmp_path), stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        deadline = time.monotonic() + 60
        while rows_on_disk(folder) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert any("supervise" in command for command in processes_told_of(tmp_path).values())
        started = time.monotonic()
        process.send_signal(number)
        _, stderr = process.communicate(timeout=30)
    assert time.monotonic() - started < 5
    assert process.returncode == 130
    assert "run the same command again to resume" in stderr
    assert not processes_told_of(tmp_path)
    done = run("Slow")
    assert "resumed" in done.stderr
    assert results_of(folder) == results_of(tmp_path / "whole")


@pytest.mark.slow
def test_a_worker_killed_from_outside_is_replaced(
    command: Command, run: Run, tmp_path: Path, rows_on_disk: Counter
) -> None:
    run("Slow", out="whole")
    folder = tmp_path / "run"
    with subprocess.Popen(command("Slow"), env=environment(tmp_path), stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while rows_on_disk(folder) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        workers = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(int(workers[0]), signal.SIGKILL)
        process.communicate(timeout=120)
    assert process.returncode == 0
    assert results_of(folder) == results_of(tmp_path / "whole")


def test_two_sweeps_do_not_share_a_folder(command: Command, tmp_path: Path) -> None:
    with subprocess.Popen(command("Slow"), env=environment(tmp_path), stderr=subprocess.DEVNULL) as first:
        deadline = time.monotonic() + 60
        while not (tmp_path / "run/.lock").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        second = subprocess.run(command("Slow"), env=environment(tmp_path), capture_output=True, text=True, check=False)
        assert second.returncode == 4
        assert f"is locked by pid {first.pid} host" in second.stderr
        first.kill()


@pytest.mark.slow
def test_a_full_disk_stops_with_its_name_and_resumes(command: Command, run: Run, tmp_path: Path) -> None:
    run("Steps", out="whole")
    limited = ["bash", "-c", 'trap "" XFSZ; ulimit -f 8; exec "$@"', "bash", *command("Steps")]
    done = subprocess.run(limited, env=environment(tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 4, done.stderr
    assert "disk full at" in done.stderr
    assert not (tmp_path / "run/results.parquet").exists()
    run("Steps")
    assert results_of(tmp_path / "run") == results_of(tmp_path / "whole")


def test_a_damaged_row_stops_with_exit_code_4_and_changes_nothing(run: Run, tmp_path: Path) -> None:
    run("Steps", options=("--limit", "2"))
    (segment,) = (tmp_path / "run/rows").glob("*.jsonl")
    damaged = bytearray(segment.read_bytes())
    damaged[60] ^= 4
    segment.write_bytes(damaged)
    done = run("Steps", options=("--limit", "2"), check=4)
    assert "000001.jsonl, line 1, offset 0: damaged row" in done.stderr
    assert segment.read_bytes() == bytes(damaged)


def test_debug_shows_the_traceback(command: Command) -> None:
    arguments = command("identiy")
    arguments.insert(3, "--debug")
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert "Traceback" in done.stderr
    assert "UsageError" in done.stderr


def test_list_models_is_one_json_array_with_the_facts(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "codecbench", "list", "models", "--json"],
        capture_output=True, text=True, check=True, env=environment(tmp_path),
    )  # fmt: skip
    models = {model["name"]: model for model in json.loads(done.stdout)}
    facts = {
        "name", "kind", "family", "track", "sample_rate", "channels", "streams", "points", "tasks", "licence",
    }  # fmt: skip
    assert all(facts <= model.keys() for model in models.values())
    assert {"identity", "opus", "encodec_24khz", "encodec_48khz"} <= models.keys()
    assert [point["kbps"] for point in models["encodec_24khz"]["points"]] == [1.5, 3, 6, 12, 24]
    assert models["encodec_24khz"]["streams"][0] == {"codebook_size": 1024, "frame_rate": 75}


def test_silent_short_and_noisy_references_are_undefined_for_every_system(run: Run, rows: Rows, tmp_path: Path) -> None:
    import numpy as np
    import soundfile

    folder = tmp_path / "odd"
    folder.mkdir()
    click = np.zeros(16000)
    click[8000] = 0.5
    for name, samples in {"silent": np.zeros(16000), "click": click, "one": np.full(1, 0.1)}.items():
        soundfile.write(folder / f"{name}.wav", samples, 16000)
    run("identity", "noise", metrics="pesq_wb,stoi,si_sdr", options=("--datasets", str(folder)), check=None)
    found = {
        system: {(r["utterance"], r["metric"], r["point"]): (r["status"], r["reason"]) for r in rows(system=system)}
        for system in ("identity", "noise")
    }
    for metric in ("pesq_wb", "stoi", "si_sdr"):
        assert found["identity"]["silent", metric, "float32"] == ("undefined", "ref_silent")
        assert found["noise"]["silent", metric, "10dB"] == ("undefined", "ref_silent")
    for metric in ("pesq_wb", "stoi"):
        for utterance in ("click", "one"):
            of_identity = found["identity"][utterance, metric, "float32"]
            assert of_identity[0] == "undefined"
            assert of_identity == found["noise"][utterance, metric, "10dB"]


def test_a_changed_adapter_is_another_run(run: Run, tmp_path: Path) -> None:
    adapter = tmp_path / "mine.py"
    source = (Path(__file__).parent / "adapters.py").read_text()
    adapter.write_text(source)
    options = ("--models", f"{adapter}:Steps", "--limit", "1")
    run("identity", options=options)
    run("identity", options=options)
    adapter.write_text(source + "\n# changed\n")
    done = run("identity", options=options, check=1)
    assert "holds another run: systems 'steps' was" in done.stderr


@pytest.mark.slow
def test_interrupted_twice_it_stops_at_once_and_stays_consistent(
    command: Command, run: Run, tmp_path: Path, rows_on_disk: Counter
) -> None:
    run("Slow", out="whole")
    with subprocess.Popen(command("Slow"), env=environment(tmp_path), stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while rows_on_disk(tmp_path / "run") < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=5)
    assert process.returncode == 130
    run("Slow")
    assert results_of(tmp_path / "run") == results_of(tmp_path / "whole")


def test_a_system_that_could_not_load_gets_another_chance(
    run: Run, rows: Rows, manifest: Manifest, tmp_path: Path
) -> None:
    weights = tmp_path / "weights.bin"
    adapter = tmp_path / "needy.py"
    source = (Path(__file__).parent / "adapters.py").read_text()
    needy = "    @classmethod\n    def load(cls, options):\n        open('{}').close()\n        return cls()\n"
    adapter.write_text(f"{source}\n\nclass Needy(Steps):\n    card = steps_called('needy')\n\n{needy.format(weights)}")
    options = ("--models", f"{adapter}:Needy", "--limit", "2")
    run("identity", options=options, check=3)
    assert {row["status"] for row in rows()} == {"failed"}
    assert manifest()["systems"]["needy"]["status"].startswith("invalid:load(FileNotFoundError")
    weights.touch()
    run("identity", options=options)
    assert "failed" not in {row["status"] for row in rows()}
    assert manifest()["systems"]["needy"]["status"] == "valid"
