"""What a piece of work changes in its process, writes, connects to, prints and leaves running.

Seen are Python's own doings (by its audit events) and the state of the process. What compiled code opens by itself is
seen only if it lands in the working or home folder; a wall against it is what isolation is for.
"""

from __future__ import annotations

import builtins
import hashlib
import locale
import os
import random
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

CHANGES_FILES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate"}
NETWORK = {"socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"}


@dataclass(eq=False)
class Observation:
    """What was seen.

    Attributes:
        changed: By kind of state, what differs afterwards.
        wrote: Paths that were opened for writing, made, moved or removed, outside the temporary folder.
        connected: Addresses that were asked for.
        printed: Bytes on standard output.
        left: Threads and child processes still there.
        opened: File descriptors still open.
        allowed: Beginnings of paths that may be written to.
    """

    changed: dict[str, list[str]] = field(default_factory=dict)
    wrote: list[str] = field(default_factory=list)
    connected: list[str] = field(default_factory=list)
    printed: bytes = b""
    left: list[str] = field(default_factory=list)
    opened: int = 0
    allowed: tuple[str, ...] = ()


_watching: list[Observation] = []
_hooked = False


@contextmanager
def observe() -> Iterator[Observation]:
    """Watch what the body does. An address is refused, so nothing reaches the network meanwhile."""
    _hook()
    seen = Observation(allowed=("/dev/null", "/dev/tty", str(Path(tempfile.gettempdir()).resolve()) + os.sep))
    folders = [Path.cwd(), Path.home()]
    before, files, running, descriptors = state(), _listing(folders), _running(), _descriptors()
    _watching.append(seen)
    try:
        with _captured_output(seen):
            yield seen
    finally:
        _watching.remove(seen)
        seen.changed = changes(before, state())
        seen.wrote += sorted(str(path) for path in _listing(folders) - files if str(path) not in seen.wrote)
        seen.left = sorted(_running() - running)
        seen.opened = _descriptors() - descriptors


def _hook() -> None:
    global _hooked  # an audit hook cannot be taken back
    if not _hooked:
        sys.addaudithook(_audit)
        _hooked = True


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    if event == "open":
        path, _, flags = arguments
        if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            _record_write(path)
    elif event in CHANGES_FILES:
        _record_write(arguments[0])
    elif event in NETWORK:
        address = arguments[1] if event in {"socket.connect", "socket.bind", "socket.sendto"} else arguments[0]
        if not isinstance(address, str | bytes) or "." in str(address) or event.startswith("socket.get"):
            _watching[-1].connected.append(str(address))
            raise PermissionError(f"a system may not reach the network ({event} {address})")


def _record_write(path: object) -> None:
    if not isinstance(path, str | bytes | os.PathLike):
        return
    name = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - pathlib's own calls would be audited again
    if not (name + os.sep).startswith(_watching[-1].allowed):
        _watching[-1].wrote.append(name)


@contextmanager
def _captured_output(seen: Observation) -> Iterator[None]:
    """Standard output of Python and of compiled code goes to a file meanwhile."""
    sys.stdout.flush()
    with tempfile.TemporaryFile() as file:
        kept = os.dup(1)
        os.dup2(file.fileno(), 1)
        try:
            yield
        finally:
            sys.stdout.flush()
            os.dup2(kept, 1)
            os.close(kept)
            file.seek(0)
            seen.printed = file.read(10_000)


State = dict[str, dict[str, object]]
"""What a system could change for others in its process: by kind, a value by name."""


def changes(before: State, after: State) -> dict[str, list[str]]:
    """By kind, the names whose values differ; of environment variables also those that came or went."""
    differing = {}
    for kind, values in before.items():
        shared = values.keys() & after[kind].keys()
        differing[kind] = sorted(name for name in shared if after[kind][name] != values[name])
        if kind == "environment":
            differing[kind] += sorted(after[kind].keys() ^ values.keys())
    return differing


def state() -> State:
    """The state of this process."""
    return {
        "random numbers": _generators(),
        "environment": {**os.environ},
        "process": {
            "working folder": Path.cwd(), "locale": locale.setlocale(locale.LC_ALL), "umask": _umask(),
            "module path": tuple(sys.path), "recursion limit": sys.getrecursionlimit(),
            "sys.stdout": id(sys.stdout), "sys.stderr": id(sys.stderr), "sys.excepthook": id(sys.excepthook),
            "trace function": id(sys.gettrace()), "profile function": id(sys.getprofile()),
        },
        "signals": {s.name: signal.getsignal(s) for s in signal.valid_signals() if isinstance(s, signal.Signals)},
        "warnings": {"filters": tuple(map(str, warnings.filters)), "showwarning": id(warnings.showwarning)},
        "numerics": _numerics(),
        "functions": _functions(),
    }  # fmt: skip


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _generators() -> dict[str, object]:
    legacy = np.random.get_state(legacy=False)
    found: dict[str, object] = {"random": _digest(random.getstate()), "numpy.random": _digest(legacy)}
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch"] = _digest(torch.get_rng_state().numpy().tobytes())
    return found


def stir() -> None:
    """Draw a number from each global generator, so that seeding it again shows."""
    random.random()  # noqa: S311
    np.random.random()
    if "torch" in sys.modules:
        sys.modules["torch"].rand(1)


def _digest(value: object) -> str:
    with np.printoptions(threshold=sys.maxsize):
        return hashlib.sha256(repr(value).encode()).hexdigest()


def _numerics() -> dict[str, object]:
    found: dict[str, object] = {"numpy.geterr": np.geterr(), "numpy.printoptions": repr(np.get_printoptions())}
    torch = sys.modules.get("torch")
    if torch is not None:
        names = (
            "get_default_dtype", "get_num_threads", "get_num_interop_threads", "is_grad_enabled",
            "are_deterministic_algorithms_enabled", "get_float32_matmul_precision",
        )  # fmt: skip
        found |= {f"torch.{name}": getattr(torch, name)() for name in names}
        found["torch.backends.cudnn"] = (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic)
    return found


def _functions() -> dict[str, object]:
    """The identity of each function of the harness and of what it leans on."""
    names = ["builtins", "math", "time", "json", "zlib", "numpy", "numpy.fft"]
    names += ["codecbench.audio", "codecbench.models.base", "codecbench.models.bitstream"]
    found: dict[str, object] = {}
    for name in names:
        for attribute, value in vars(sys.modules.get(name, builtins)).items():
            if callable(value):
                found[f"{name}.{attribute}"] = id(value)
    return found


def _listing(folders: list[Path]) -> set[Path]:
    """What lies in `folders`, their folders' contents left out: a thing made there shows in its parent."""
    return {path for folder in folders if folder.is_dir() for path in folder.iterdir()}


def _running() -> set[str]:
    """Python threads and child processes, each with its number."""
    threads = {f"thread '{thread.name}' {thread.ident}" for thread in threading.enumerate()}
    return threads | {f"child process {pid}" for pid in _children()}


def _children() -> set[str]:
    found: set[str] = set()
    for task in Path("/proc/self/task").glob("*/children"):  # absent where the system has no such list
        try:
            found |= set(task.read_text().split())
        except OSError:
            continue
    return found


def _descriptors() -> int:
    folder = Path("/proc/self/fd")
    return sum(1 for _ in folder.iterdir()) if folder.is_dir() else 0


def resident_mb() -> float | None:
    """Memory of this process that is resident, in MB; None where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def growth_mb(work: Callable[[], None], repeats: int) -> float | None:
    """By how many MB the process has grown after `repeats` of `work`."""
    before = resident_mb()
    for _ in range(repeats):
        work()
    after = resident_mb()
    return None if before is None or after is None else after - before
