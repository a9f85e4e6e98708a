"""The levels of isolation, and the command that starts a host at each.

- ``none``: the adapter runs in the worker. For adapters that one trusts, and for debugging.
- ``process``: a process of its own, with limits, an environment without the user's variables and a fresh folder. It
  survives every honest bug; it does not hold an adapter that means harm.
- ``bwrap``: as ``process``, in a sandbox of bubblewrap: no network, nothing of the disk but Python, the operating
  system's libraries, the adapter's file and its weights, all read-only; no recordings, no results, no home.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Literal, get_args

from codecbench import weights
from codecbench.benchmark.resources import pin_threads
from codecbench.errors import UsageError
from codecbench.models import registry as models
from codecbench.models.base import Card, LoadOptions
from codecbench.paths import cache_dir

Level = Literal["none", "process", "bwrap"]
LEVELS: tuple[Level, ...] = get_args(Level)
MEMORY_SHARE = 0.5
TASKS = 512
INSIDE = "/adapter"
"""Home, working and temporary folder in the sandbox: fresh, empty, and no place of the machine's."""
LOAD_SECONDS = 120.0
_PASSED_ON = ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH")
_SYSTEM = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime")
_HIDDEN = ("codecbench.benchmark.datasets", "codecbench.leaderboard", "codecbench.metrics")


@dataclass(frozen=True)
class Limits:
    """What a host may use: seconds an item and to load, bytes of memory, and processes and threads."""

    item_seconds: float
    load_seconds: float
    memory: int
    tasks: int = TASKS


def limits_for(timeout: float) -> Limits:
    """The limits for a run whose items may take `timeout` seconds: half of the machine's memory a host."""
    memory = int(MEMORY_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return Limits(timeout, max(timeout, LOAD_SECONDS), memory)


def require(level: str) -> None:
    """Check that `level` exists and that this machine can do it.

    Raises:
        UsageError: It cannot; the message says what to do.
    """
    if level not in LEVELS:
        raise UsageError(f"unknown isolation '{level}': there are {', '.join(LEVELS)}")
    if level == "bwrap" and not shutil.which("bwrap"):
        raise UsageError("isolation 'bwrap' needs bubblewrap: apt install bubblewrap, or choose --isolation process")
    if level == "bwrap" and (reason := _sandbox_fault()):
        raise UsageError(f"bubblewrap cannot make a sandbox here ({reason}); choose --isolation process")


@cache
def _sandbox_fault() -> str:
    probe = ["bwrap", "--unshare-all", "--cap-drop", "ALL", "--ro-bind", "/", "/", "--proc", "/proc", "true"]
    done = subprocess.run(probe, capture_output=True, text=True, check=False)  # noqa: S603
    return " ".join(done.stderr.split()) if done.returncode else ""


def compiled_folder(target: str, options: LoadOptions) -> Path | None:
    """Where the compiled networks of `target` are kept from host to host; None if its hosts share none.

    Whoever finds code there runs it, and it would be a way from an audited encoder to its decoder. So it is for the
    systems of this package alone: an adapter from a file compiles in a folder that goes with its host.
    """
    return cache_dir("compiled").absolute() if options.compile and not models.file_of(target) else None


def environment(folder: str, compiled: Path | None = None) -> dict[str, str]:
    """All that a host sees of the environment, with `folder` as its home; see `compiled_folder`."""
    fixed = {
        "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": folder, "TMPDIR": folder,
        "PYTHONDONTWRITEBYTECODE": "1", "CODECBENCH_CACHE": str(cache_dir().absolute()),
        "TORCHINDUCTOR_CACHE_DIR": str(compiled or f"{folder}/compiled"), "TORCHINDUCTOR_COMPILE_THREADS": "1",
    }  # fmt: skip
    return pin_threads({**fixed, **{name: os.environ[name] for name in _PASSED_ON if name in os.environ}})


def host_command(
    level: Level, python: Path, fd: int, readable: Sequence[Path], compiled: Path | None = None
) -> list[str]:
    """The command that starts a host.

    Args:
        level: ``process`` or ``bwrap``.
        python: The interpreter.
        fd: The file descriptor of the protocol.
        readable: The files that the adapter needs besides Python: its own, and its weights.
        compiled: See `compiled_folder`.
    """
    command = [str(python), "-I", "-B", "-m", "codecbench.benchmark.isolation.host", str(fd)]
    return [*sandbox(python, readable, compiled), *command] if level == "bwrap" else command


def files_of(target: str, card: Card | None, options: LoadOptions) -> list[Path]:
    """The files that a system reads: the adapter's own, and its weights."""
    file_of_target = models.file_of(target)
    files = [file_of_target] if file_of_target else []
    if options.weights:
        files.append(options.weights)
    for file in card.weights if card else ():
        found = weights.cache_path(file)
        files += [found, found.with_name(f"{found.name}.lock.json")]
    return [file.absolute() for file in files if file.exists()]


def sandbox(python: Path, readable: Sequence[Path], compiled: Path | None = None) -> Iterator[str]:
    """The beginning, up to its ``--``, of a command that `python` runs in a sandbox.

    In it, it can read `readable`, and write to `compiled` alone, if that is given.
    """
    yield from (shutil.which("bwrap") or "bwrap", "--unshare-all", "--die-with-parent", "--new-session")
    yield from ("--cap-drop", "ALL", "--clearenv")
    for name, value in environment(INSIDE, compiled).items():
        yield from ("--setenv", name, value)
    yield from ("--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", INSIDE)  # noqa: S108
    for device in Path("/dev").glob("nvidia*"):
        yield from ("--dev-bind-try", str(device), str(device))
    bound = [Path(path) for path in _SYSTEM] + _interpreter(python) + _package_folders()
    for path in dict.fromkeys([*bound, *readable]):
        yield from ("--ro-bind-try", str(path), str(path))
    if compiled:
        yield from ("--bind", str(compiled), str(compiled))
    for module in _HIDDEN:
        for folder in import_module(module).__path__:
            yield from ("--tmpfs", str(Path(folder).resolve()))
    yield from ("--remount-ro", "/", "--chdir", INSIDE, "--")


def _interpreter(python: Path) -> list[Path]:
    """The folders that `python` runs from: its environment, and the installation below it."""
    prefixes = [python.parent.parent, python.resolve().parent.parent]
    if python == Path(sys.executable):
        prefixes += [Path(sys.prefix), Path(sys.base_prefix)]
    return [*prefixes, *(prefix.resolve() for prefix in prefixes)]


def _package_folders() -> list[Path]:
    """Where this package lies; in a checkout that is several folders, linked to each other."""
    names = ("codecbench", "codecbench.models", "codecbench.benchmark")
    return [Path(folder).resolve() for name in names for folder in import_module(name).__path__]
