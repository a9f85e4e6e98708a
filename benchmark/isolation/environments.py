"""Environments of their own for adapters whose packages this one lacks, or has in another version.

An adapter's file says what it needs in a script block (PEP 723), ``dependencies`` and ``requires-python``; a registered
system says so on its card. The environment is made once, by ``uv``, and kept in the cache. It holds those packages,
numpy, and a link to this package: a host needs nothing else, so nothing of ours can conflict with them.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import codecbench
from codecbench.errors import InfrastructureError, UsageError
from codecbench.paths import cache_dir

_BLOCK = re.compile(r"(?m)^# /// script\s*$\n(?P<content>(?:^#(?: .*)?$\n)+?)^# ///\s*$")
INSTALL_SECONDS = 3600


def requirements_of(file: Path) -> tuple[str, ...]:
    """The ``dependencies`` of the script block of `file`; none if it has no block.

    Raises:
        UsageError: The block is no TOML, or its dependencies are no list of text.
    """
    found = _BLOCK.search(file.read_text(encoding="utf-8", errors="replace"))
    if not found:
        return ()
    content = "".join(line[2:] if line.startswith("# ") else line[1:] for line in found["content"].splitlines(True))
    try:
        needed = tomllib.loads(content).get("dependencies", [])
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{file}: its script block is no TOML: {error}") from error
    if not isinstance(needed, list) or not all(isinstance(item, str) for item in needed):
        raise UsageError(f"{file}: 'dependencies' of its script block is no list of requirements")
    return tuple(needed)


def python_for(requirements: Sequence[str]) -> Path | None:
    """The interpreter of an environment with `requirements`, which is made if it is not there; None for none.

    Raises:
        UsageError: ``uv`` is not installed, or a requirement cannot be met.
        InfrastructureError: The environment cannot be written.
    """
    if not requirements:
        return None
    wanted = sorted({*requirements, "numpy"})
    facts = [wanted, platform.python_version(), str(Path(codecbench.__file__).parent)]
    folder = cache_dir("environments", hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16])
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        _make(folder, wanted)
    return python


def _make(folder: Path, requirements: list[str]) -> None:
    uv = find_uv()
    if not uv:
        raise UsageError(
            f"a model needs an environment of its own ({', '.join(requirements)}), which uv makes, and uv is not "
            f"here: {sys.executable} -m pip install uv"
        )
    building = folder.with_name(f"{folder.name}.{os.getpid()}")
    try:
        _run([uv, "venv", "--quiet", "--python", sys.executable, "--relocatable", str(building)], requirements)
        install = [uv, "pip", "install", "--quiet", "--python", str(building / "bin/python"), "--", *requirements]
        _run(install, requirements)
        (packages,) = building.glob("lib/python*/site-packages")
        (packages / "codecbench").symlink_to(Path(codecbench.__file__).parent)
        (building / "ready").touch()
        if not (folder / "ready").exists():
            shutil.rmtree(folder, ignore_errors=True)
            building.rename(folder)
    except OSError as error:
        raise InfrastructureError(f"cannot make the environment {folder}: {error.strerror}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def find_uv() -> str:
    """The command ``uv``: that beside this interpreter, else that on the path; empty if there is none."""
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else shutil.which("uv") or ""


def _run(command: list[str], requirements: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"the packages {', '.join(requirements)} took over {INSTALL_SECONDS} s to install") from error
    if done.returncode:
        said = " ".join(done.stderr.split())
        raise UsageError(f"cannot install {', '.join(requirements)}: {said[-400:]}")
