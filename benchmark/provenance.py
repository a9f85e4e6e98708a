"""What a piece of work depends on besides its input: source code, installed packages, the machine.

It goes into the keys of what is kept between runs (see `codecbench.benchmark.artefacts`). Where in doubt it names too
much: a key that changes without need costs a computation, one that stays the same without right costs a wrong number.
"""

from __future__ import annotations

import hashlib
import platform
import re
import sys
from functools import cache, partial
from pathlib import Path
from typing import Any

import codecbench
from codecbench.models.registry import file_of

_IMPORT = re.compile(r"from (codecbench[\w.]*) import ([^(\n]+|\([^)]*\))|\b(codecbench\.[\w.]+)")


@cache
def source_digest(*files: Path) -> str:
    """SHA-256 over `files` and all modules of this package that they name, directly or through others."""
    found: dict[str, str] = {}
    left = [file.resolve() for file in files]
    while left:
        file = left.pop()
        if str(file) not in found:
            text = file.read_bytes()
            found[str(file)] = hashlib.sha256(text).hexdigest()
            left += _named(text.decode("utf-8", "replace"))
    return hashlib.sha256("\n".join(sorted(found.values())).encode()).hexdigest()


def source_of(source: Path | None, target: str) -> str:
    """`source_digest` of the system `target`, defined in the file `source`: of its whole package, if that is another's.

    Empty where the source is not known.
    """
    if source is None or not source.is_file():
        return ""
    own = Path(codecbench.__file__).parent / "models"
    alone = file_of(target) or source.resolve().is_relative_to(own.resolve())
    return source_digest(*([source] if alone else sorted(source.parent.rglob("*.py"))))


def _named(text: str) -> set[Path]:
    """The files of this package's modules that `text` imports, or only mentions."""
    names: set[str] = set()
    for package, members, dotted in _IMPORT.findall(text):
        names.add(package or dotted.rstrip("."))
        names |= {f"{package}.{member}" for member in re.findall(r"\w+", members)}
    return {file for name in names if (file := _file_of(name))}


@cache
def _file_of(name: str) -> Path | None:
    """The file of the module `name`, or of the longest part of it that is one; a package's own file does no work."""
    parts = name.split(".")[1:]
    while parts:
        file = Path(codecbench.__file__).parent.joinpath(*parts).with_suffix(".py")
        if file.is_file():
            return file.resolve()
        parts.pop()
    return None


def function_digest(function: Any) -> str:
    """`source_digest` of the module that defines `function`, a function or a partial of one."""
    while isinstance(function, partial):
        function = function.func
    file = getattr(sys.modules.get(getattr(function, "__module__", "")), "__file__", None)
    return source_digest(Path(file)) if file else ""


@cache
def environment(python: Path | None = None) -> str:
    """Digest of all that is installed for the interpreter `python` (this one by default), and of the machine."""
    folders = [Path(folder) for folder in sys.path]
    if python:
        folders = [*python.parent.parent.glob("lib/python*/site-packages")]
    installed = {entry.name for folder in folders if folder.is_dir() for entry in folder.glob("*.dist-info")}
    facts = [platform.python_version(), platform.platform(), processor(), *_gpus(), *sorted(installed)]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


@cache
def processor() -> str:
    """The model of the CPU, whose instructions decide the last digits."""
    lines = _lines(Path("/proc/cpuinfo"))
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def _gpus() -> list[str]:
    files = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    return [line for file in files for line in _lines(file) if line.startswith("Model")]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
