"""The wheel is whole: it installs elsewhere and runs a sweep there, worker processes included."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]


@pytest.mark.slow
def test_a_wheel_runs_without_the_checkout(tmp_path: Path, recordings: Path) -> None:
    source = tmp_path / "source"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    names = [name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]
    for name in names:  # not the links: a ZIP of the repository has none either
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    build = [*PIP, "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(source)]
    subprocess.run(build, check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("codecbench-*.whl")
    subprocess.run([*PIP, "install", "--no-deps", "--target", str(tmp_path / "site"), str(wheel)], check=True)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "CODECBENCH_CACHE": str(tmp_path / "cache")}
    where = [sys.executable, "-P", "-c", "import codecbench.leaderboard as m; print(m.__file__)"]
    found = subprocess.run(where, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found.stdout.startswith(str(tmp_path / "site"))
    run = [
        sys.executable, "-P", "-m", "codecbench", "run", "--models", "identity", "--datasets", str(recordings),
        "--metrics", "si_sdr", "--limit", "2", "--out", str(tmp_path / "run"),
    ]  # fmt: skip
    subprocess.run(run, env=environment, cwd=tmp_path, check=True)
    site = [sys.executable, "-P", "-m", "codecbench", "site", str(tmp_path / "run"), "-o", str(tmp_path / "page")]
    subprocess.run(site, env=environment, cwd=tmp_path, check=True)
    assert (tmp_path / "page/index.html").stat().st_size > 10_000
