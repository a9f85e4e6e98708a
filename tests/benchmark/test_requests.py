"""Sweeps of language models over lists of requests: what is asked, what comes of it, and what is refused."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codecbench.benchmark.datasets.manifest import read_manifest
from codecbench.benchmark.datasets.requests import KEEPS_TIME, comparable
from codecbench.metrics.base import Metric, Output, Reference, evaluate, undefined_reason
from codecbench.metrics.registry import find
from codecbench.recording import DataError

MODELS = Path(__file__).parents[1] / "rogues" / "lms.py"
ADAPTERS = Path(__file__).with_name("adapters.py")
RATE = 8000
Rows = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def requests(tmp_path: Path, recordings: Path) -> Callable[..., Path]:
    """``requests(task, **columns)``: a list of three requests about the recordings."""

    def write(task: str, **columns: str) -> Path:
        folder = tmp_path / task
        folder.mkdir()
        names = [recordings.parent / f"{number:02d}.wav" for number in (0, 1, 2)]
        facts = {"task": task, "language": "en", "transcript": "level level level", **columns}
        with (folder / "manifest.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["path", *facts])
            writer.writeheader()
            writer.writerows({"path": str(name), **facts} for name in names)
        return folder

    return write


@pytest.mark.parametrize("isolation", ["process", "none"])
def test_a_model_answers_what_its_tasks_allow_and_codecs_give_the_ceiling(
    sweep: Any, requests: Any, rows: Rows, tmp_path: Path, isolation: str
) -> None:
    lists = [requests("continuation", prompt_seconds="0.2"), requests("asr"), requests("tts")]
    metrics = "duration_ratio,bits_per_second,answer_wer,lsd"
    sweep(["Honest", "identity", "prompt_loop"], lists, metrics, "--isolation", isolation, "--keep-audio", "1")
    cells = {(r["system"], r["dataset"], r["metric"]): r for r in rows()}
    assert {key[:2] for key in cells} == {
        ("honest-lm", "continuation"), ("honest-lm", "asr"), ("honest-lm", "tts"), ("identity", "continuation"),
        ("identity", "tts"), ("prompt_loop", "continuation"), ("prompt_loop", "tts"),
    }  # fmt: skip
    said = rows(system="honest-lm", metric="duration_ratio", dataset="continuation")
    assert len(said) == 3
    for row in said:  # the rest of the recording, in whole frames of 10 ms
        assert row["value"] * row["duration"] == pytest.approx(row["duration"] - 0.2, abs=0.01)
    assert {row["value"] for row in rows(system="identity", metric="duration_ratio")} == {1.0}
    answers = rows(system="honest-lm", dataset="asr", metric="answer_wer")
    assert [(row["value"], row["weight"]) for row in answers] == [(0.0, 3.0)] * 3
    assert {row["status"] for row in rows(metric="lsd")} == {"undefined"}
    likely = rows(system="honest-lm", dataset="tts", metric="bits_per_second")
    assert len(likely) == 3
    assert all(0 < row["value"] < 100 * 16 for row in likely)
    loop = rows(system="prompt_loop", dataset="tts", metric="bits_per_second")
    assert [row["value"] for row in loop] == pytest.approx([16 * 16_000] * 3)
    _check_tables(tmp_path / "run")


def _check_tables(run: Path) -> None:
    import pyarrow.parquet as pq

    timings = pq.read_table(run / "timings.parquet").to_pylist()
    said = [row for row in timings if row["system"] == "honest-lm"]
    assert len(said) == 9
    assert all(row["generate_seconds"] > 0 and row["tokens"] > 0 and row["encode_seconds"] is None for row in said)
    assert all(row["generate_seconds"] is None for row in timings if row["system"] == "identity")
    kept = pq.read_table(run / "evidence.parquet").to_pylist()
    heard = [row for row in kept if row["system"] == "honest-lm" and row["output"]]
    assert {row["dataset"] for row in heard} == {"continuation", "tts"}
    texts = [json.loads(row["texts"]) for row in kept if row["dataset"] == "asr"]
    assert texts == [{"answer": "level " * 3, "said": "level level level"}] * 3
    manifest = json.loads((run / "run.json").read_text())
    assert {name: facts["task"] for name, facts in manifest["datasets"].items()} == {
        "continuation": "continuation", "asr": "asr", "tts": "tts"
    }  # fmt: skip
    assert manifest["identity"]["sampling"]["temperature"] == 1.0


def test_a_run_resumes_to_the_same_bytes_and_other_sampling_is_another_run(
    sweep: Any, requests: Any, tmp_path: Path
) -> None:
    asked = requests("tts")
    sweep(["Honest"], [asked], "duration_ratio")
    before = (tmp_path / "run/results.parquet").read_bytes()
    rows_of = next((tmp_path / "run/rows").glob("*"))
    lines = rows_of.read_bytes().splitlines(keepends=True)
    rows_of.write_bytes(b"".join(lines[: len(lines) // 2]))
    manifest = json.loads((tmp_path / "run/run.json").read_text())
    (tmp_path / "run/run.json").write_text(json.dumps({**manifest, "finished": False, "results": {}}))
    sweep(["Honest"], [asked], "duration_ratio")
    assert (tmp_path / "run/results.parquet").read_bytes() == before
    (tmp_path / "hot.yaml").write_text("sampling: {temperature: 2}")
    done = subprocess.run(
        [sys.executable, "-m", "codecbench", "run", str(tmp_path / "hot.yaml"), "--models", f"{MODELS}:Honest",
         "--datasets", str(asked), "--metrics", "duration_ratio", "--out", str(tmp_path / "run")],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "sampling" in done.stderr


BROKEN = {
    "TalksTooLong": ("tts", "length("),
    "OtherRate": ("tts", "contract(the response has 1 x 16000 Hz"),
    "NeverEnds": ("tts", "length(no end within"),
    "SaysNothing": ("tts", "length(no audio)"),
    "GivesNoText": ("asr", "contract(the task gives a text"),
    "Improper": ("tts", "likelihood(3.0 nats"),
    "RefusesAll": ("tts", "exception(ValueError: not today"),
}


def test_to_go_on_until_the_limit_is_an_answer(sweep: Any, requests: Any, rows: Rows) -> None:
    sweep(["NeverEnds"], [requests("continuation", prompt_seconds="0.2")], "duration_ratio")
    assert {(row["status"], row["reason"]) for row in rows()} == {("ok", "")}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_model_fails_and_the_others_go_on(sweep: Any, requests: Any, rows: Rows, broken: str) -> None:
    task, reason = BROKEN[broken]
    metric = "bits_per_second" if broken == "Improper" else "duration_ratio" if task == "tts" else "answer_wer"
    sweep([broken, *(["identity"] if task == "tts" else [])], [requests(task)], metric, check=2)
    statuses = {row["system"]: (row["status"], row["reason"]) for row in rows()}
    status, said = statuses.pop("honest-lm")
    assert all(sound in (("ok", ""), ("undefined", "no_likelihood")) for sound in statuses.values())
    assert status == "failed"
    assert said.startswith(reason)


@pytest.mark.parametrize(
    ("models", "tasks", "options", "said"),
    [
        (["Honest"], [], (), "suits no dataset of this sweep: its tasks are continuation"),
        (["Honest"], ["music"], (), "the datasets are music (music)"),
        (["identity"], ["asr"], (), "a codec gives no text"),
        (["Honest"], ["tts"], ("--audit",), "an audit is of codecs"),
    ],
)
def test_what_nobody_can_answer_is_refused(
    sweep: Any,
    requests: Any,
    recordings: Path,
    models: list[str],
    tasks: list[str],
    options: tuple[str, ...],
    said: str,
) -> None:
    lists = [requests(task, text="rain") for task in tasks] or [recordings]
    assert said in sweep(models, lists, "duration_ratio", *options, check=1).stderr


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"task": "dance"}, "task 'dance'; it is one of continuation"),
        ({"task": "continuation"}, "the task 'continuation' needs 'prompt'"),
        ({"task": "continuation", "prompt": "gone.wav"}, "no such file"),
        ({"task": "continuation", "prompt_seconds": "many"}, "'prompt_seconds' is 'many', not a number of seconds"),
        ({"task": "conversion", "prompt": "00.wav"}, "the task 'conversion' needs 'reference'"),
        ({"task": "tts"}, "the task 'tts' needs 'text'"),
        ({"task": "asr"}, "the task 'asr' needs 'transcript'"),
        ({"task": "", "text": "hello"}, "'text' is of a request, and there is no 'task'"),
    ],
)
def test_a_faulty_list_says_where_and_what(
    tmp_path: Path, recordings: Path, columns: dict[str, str], said: str
) -> None:
    (tmp_path / "00.wav").write_bytes((recordings.parent / "00.wav").read_bytes())
    path = tmp_path / "list.csv"
    path.write_text(",".join(["path", *columns]) + "\n" + ",".join(["00.wav", *columns.values()]) + "\n")
    with pytest.raises(DataError, match="line 2") as caught:
        read_manifest(path)
    assert said in str(caught.value)


def test_a_list_of_two_tasks_is_refused(tmp_path: Path, recordings: Path) -> None:
    (tmp_path / "00.wav").write_bytes((recordings.parent / "00.wav").read_bytes())
    path = tmp_path / "list.csv"
    path.write_text("path,id,task,transcript\n00.wav,a,tts,one\n00.wav,b,asr,two\n")
    with pytest.raises(DataError, match="two tasks, asr and tts"):
        read_manifest(path)


@pytest.mark.parametrize(
    "name", ["spk_sim_prompt", "spk_sim_contrast", "duration_ratio", "answer_wer", "answer_cer", "bits_per_second"]
)
def test_what_is_undefined_depends_on_the_request_alone(name: str) -> None:
    metric: Metric = find(name)
    noise = np.random.default_rng(0).normal(0, 0.1, 2 * RATE).astype(np.float32)
    kind = frozenset({metric.compares})
    heard = Output(noise, RATE)
    asked = Reference(noise, RATE, transcript="one two", language="en", comparable=kind, prompt=heard, contrast=heard)
    assert undefined_reason(metric, asked) == ""
    assert undefined_reason(metric, Reference(noise, RATE, transcript="one", comparable=frozenset())).startswith(
        "not_comp"
    )


def test_what_can_be_compared() -> None:
    assert comparable(None) == {"samples", "sounds"}
    assert comparable("asr") == {"texts"}
    assert "samples" not in comparable("tts")
    assert all("samples" in comparable(task) for task in KEEPS_TIME)


def test_answers_are_texts_and_counted_by_words() -> None:
    asked = Reference(np.ones(RATE, np.float32), RATE, transcript="Oh, my darling!", language="en",
                      comparable=comparable("asr"))  # fmt: skip
    output = Output(np.zeros(0, np.float32), RATE, text="oh my dear aunt")
    value = evaluate(find("answer_wer"), asked, output)
    assert (value.status, value.weight) == ("ok", 3)
    assert value.value == pytest.approx(2 / 3)
    nothing = evaluate(find("answer_wer"), asked, Output(np.zeros(0, np.float32), RATE))
    assert (nothing.status, nothing.reason) == ("failed", "no_text")


def test_requests_in_batches_are_answered_as_alone(sweep: Any, recordings: Path, rows: Rows, tmp_path: Path) -> None:
    """Of twelve, eight are asked alone; the model refuses one of the other four, which costs the others nothing."""
    import pyarrow.parquet as pq

    folder = tmp_path / "tts"
    folder.mkdir()
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["path", "task", "transcript"])
        writer.writeheader()
        for number in range(12):
            words = "refuse this" if number == 10 else "level " * (number + 1)
            path = str(recordings.parent / f"{number:02d}.wav")
            writer.writerow({"path": path, "task": "tts", "transcript": words})
    sweep(["Together"], [folder], "duration_ratio,bits_per_second", "--batch", "4", check=2)
    found = rows(metric="duration_ratio")
    assert [row["reason"] for row in found if row["status"] == "failed"] == ["exception(ValueError: not this)"]
    limits = {row["utterance"]: (2 * row["duration"] + 2) / row["duration"] for row in found if row["status"] == "ok"}
    assert len(limits) == 11
    for row in (row for row in found if row["status"] == "ok"):
        assert row["value"] == pytest.approx(limits[row["utterance"]], abs=0.03)
    assert [row["status"] for row in rows(metric="bits_per_second")].count("ok") == 11
    timings = pq.read_table(tmp_path / "run/timings.parquet").to_pylist()
    assert sum(row["generate_seconds"] is None for row in timings) in (2, 3)  # a batch of two, or that and one more
    assert json.loads((tmp_path / "run/run.json").read_text())["identity"]["systems"]["together-lm"]["batch"] == 4
