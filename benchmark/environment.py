"""What a run ran on: versions, machine, commit. Kept in ``run.json``; nothing in the results depends on it."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import codecbench
from codecbench.benchmark.provenance import processor

PACKAGES = (
    "av", "ctranslate2", "faster-whisper", "jiwer", "numpy", "onnxruntime", "openai-whisper", "pesq",
    "pycodec2", "pyarrow", "scipy", "soundfile", "soxr", "speechbrain", "torch",
    "torchaudio",
)  # fmt: skip


def describe_environment() -> dict[str, Any]:
    """Versions of everything that numbers depend on, the machine, and the commit where there is one."""
    return {
        "codecbench": codecbench.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu": processor() or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "packages": _packages(),
    }


def versions() -> dict[str, str]:
    """The versions alone of what numbers depend on, this package's and Python's among them."""
    return {"codecbench": codecbench.__version__, "Python": platform.python_version(), **_packages()}


def _packages() -> dict[str, str]:
    return {name: found for name in PACKAGES if (found := package_version(name))}


def package_version(name: str) -> str:
    """The installed version of a distribution, or an empty string."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _commit() -> str:
    folder = Path(__file__).resolve().parent
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command
            ["git", "-C", str(folder), "rev-parse", "HEAD"],  # noqa: S607
            capture_output=True, text=True, timeout=5, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
