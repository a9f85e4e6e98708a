"""A small dataset of real files, and a way to run the command line."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ADAPTERS = Path(__file__).parent / "adapters.py"


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve clips of 0.5 to 1.1 s at 8 kHz by three speakers, as 16-bit WAV, with a manifest; clip 3 is marked."""
    import soundfile

    folder = tmp_path_factory.mktemp("recordings")
    lines = ["id,path,speaker,domain"]
    for number in range(12):
        rng = np.random.default_rng(number)
        time = np.arange(4000 + 400 * number) / 8000
        tone = sum(np.sin(2 * np.pi * f * time + rng.uniform(0, 6)) / 8 for f in rng.uniform(100, 3000, 4))
        samples = (tone + rng.normal(0, 0.01, len(time))) * (0.5 + 0.4 * np.sin(2 * np.pi * 3 * time))
        samples[0] = 0.99 if number == 3 else 0.0
        soundfile.write(folder / f"{number:02d}.wav", np.clip(samples, -0.99, 0.99), 8000)
        lines.append(f"u{number:02d},{number:02d}.wav,s{number % 3},{'speech' if number % 2 else 'music'}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "manifest.csv"


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def command(tmp_path: Path, recordings: Path) -> Callable[..., list[str]]:
    """The command that runs systems of `adapters.py` on `recordings` into a folder of `tmp_path`."""

    def build(*systems: str, out: str = "run", metrics: str = "si_sdr,lsd", options: tuple[str, ...] = ()) -> list[str]:
        targets = ",".join(name if name.islower() else f"{ADAPTERS}:{name}" for name in systems)
        return [
            sys.executable, "-m", "codecbench", "run", "--models", targets, "--datasets", str(recordings),
            "--metrics", metrics, "--out", str(tmp_path / out), "--jobs", "2", *options,
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
def manifest(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The ``run.json`` of a run of `tmp_path`."""

    def read(out: str = "run") -> dict[str, Any]:
        content: dict[str, Any] = json.loads((tmp_path / out / "run.json").read_text())
        return content

    return read
