"""A way to run the command line on a small dataset."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ADAPTERS = Path(__file__).parent / "adapters.py"
MODELS = Path(__file__).parents[1] / "rogues" / "lms.py"


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def command(tmp_path: Path, recordings: Path) -> Callable[..., list[str]]:
    """The command that runs systems of `adapters.py` on `recordings` into a folder of `tmp_path`.

    Without `recall`, a run computes all that its folder lacks: what is killed or fails in it really ran.
    """

    def build(
        *systems: str, out: str = "run", metrics: str = "si_sdr,lsd", options: tuple[str, ...] = (),
        recall: bool = False,
    ) -> list[str]:  # fmt: skip
        targets = ",".join(name if name.islower() else f"{ADAPTERS}:{name}" for name in systems)
        return [
            sys.executable, "-m", "codecbench", "run", "--models", targets, "--datasets", str(recordings),
            "--metrics", metrics, "--out", str(tmp_path / out), "--jobs", "2", *options,
            *([] if recall else ["--no-cache"]),
        ]  # fmt: skip

    return build


@pytest.fixture
def run(command: Callable[..., list[str]], tmp_path: Path) -> Run:
    """Run a sweep to its end; see `command`."""

    def go(*systems: str, check: int | None = 0, **facts: Any) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            command(*systems, **facts), capture_output=True, text=True, timeout=240, check=False,
            env={**os.environ, "CODECBENCH_CACHE": str(tmp_path / "cache")},
        )  # fmt: skip
        assert check is None or done.returncode == check, done.stderr
        return done

    return go


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of ``results.parquet``."""
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(folder / "results.parquet").to_pylist()
    return rows


@pytest.fixture
def rows(tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """The rows of a run of `tmp_path`, filtered by column."""

    def read(out: str = "run", **columns: str) -> list[dict[str, Any]]:
        every = read_rows(tmp_path / out)
        assert every
        return [row for row in every if all(row[name] == value for name, value in columns.items())]

    return read


@pytest.fixture
def rows_on_disk() -> Callable[[Path], int]:
    """``rows_on_disk(folder)``: how many rows a run in `folder` has written, of items, not of corpora."""

    def count(folder: Path) -> int:
        return sum(path.read_bytes().count(b'"utterance":"u') for path in (folder / "rows").glob("*.jsonl"))

    return count


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The ``run.json`` of a run of `tmp_path`."""

    def read(out: str = "run") -> dict[str, Any]:
        content: dict[str, Any] = json.loads((tmp_path / out / "run.json").read_text())
        return content

    return read


@pytest.fixture
def sweep(tmp_path: Path) -> Run:
    """``sweep(models, datasets, metrics)`` runs language models of `MODELS` and others, and wants its exit code."""

    def go(
        models: list[str], datasets: list[Path | str], metrics: str, *options: str, check: int = 0
    ) -> "subprocess.CompletedProcess[str]":
        targets = [f"{MODELS}:{name}" if name[0].isupper() else name for name in models]
        done = subprocess.run(
            [sys.executable, "-m", "codecbench", "run", "--models", ",".join(targets), "--metrics", metrics,
             "--datasets", ",".join(map(str, datasets)), "--out", str(tmp_path / "run"), "--jobs", "2", *options],
            capture_output=True, text=True, timeout=240, check=False,
            env={**os.environ, "CODECBENCH_CACHE": str(tmp_path / "cache")},
        )  # fmt: skip
        assert done.returncode == check, done.stderr
        return done

    return go
