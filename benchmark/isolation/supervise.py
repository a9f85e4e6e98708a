"""The parent of a host: starts it under limits, watches it, and leaves nothing of it behind.

A script of the standard library alone, run by path, so that it starts in 10 ms and no adapter's code is ever in it. It
becomes the reaper of everything below it (Linux), so a process that detaches from its parents is still found. It ends,
and with it all below it, when the host ends, when a limit is exceeded, or when the other end of its control socket
closes, as it does when the worker dies, however that happens. Its last word on that socket is one JSON object:
``{"code": the host's exit code or minus its signal, "killed": "" or the limit}``.
"""

# pathlib would triple the time that this script takes to start
# ruff: noqa: PTH102, PTH106, PTH116, PTH123, PTH208

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NoReturn

POLL_SECONDS = 0.1
KILL_SECONDS = 1.5
MAX_FILE_BYTES = 8 << 30
HELD = ("RssAnon:", "RssShmem:")
"""Memory that is not the pages of a file, as the kernel names it."""
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def main(settings: dict[str, Any]) -> None:
    """Run ``settings["command"]`` to its end."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    control = socket.socket(fileno=settings["control"])
    for fd in settings["kept"]:
        os.set_inheritable(fd, False)
    woken, wake = socket.socketpair()
    for end in (woken, wake):
        end.setblocking(False)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    group = make_group(settings["tasks"])
    host = os.fork()
    if not host:
        _become(settings, group)
    for fd in settings["passed"]:
        os.close(fd)
    code, killed = _watch(host, control, woken, settings)
    code = kill_all(host, code)
    with suppress(OSError):
        control.send(json.dumps({"code": code, "killed": killed}).encode())
    if group:
        with suppress(OSError):
            os.rmdir(group)
    import shutil  # not before the host has started, which waits for this script

    shutil.rmtree(settings["folder"], ignore_errors=True)


def _become(settings: dict[str, Any], group: str) -> NoReturn:
    try:
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        for number in (signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        if group:
            _write(f"{group}/cgroup.procs", "0")
        elif os.geteuid():
            _limit(resource.RLIMIT_NPROC, _tasks_of_user() + settings["tasks"])
        _limit(resource.RLIMIT_CORE, 0)
        _limit(resource.RLIMIT_FSIZE, MAX_FILE_BYTES)
        os.execv(settings["command"][0], settings["command"])  # noqa: S606 - the command is the worker's own
    finally:
        os._exit(127)


def _limit(what: int, value: int) -> None:
    hard = resource.getrlimit(what)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (value, value))


def _watch(host: int, control: socket.socket, woken: socket.socket, settings: dict[str, Any]) -> tuple[int | None, str]:
    """Wait for the end: the host's exit code if it ended by itself, and the limit that it exceeded."""
    while True:
        ready, _, _ = select.select([control, woken], [], [], POLL_SECONDS)
        if woken in ready:
            with suppress(BlockingIOError):
                woken.recv(4096)
        code = reap(host)
        if code is not None or control in ready:
            return code, ""
        below = list(descendants(os.getpid()))
        used = [_fields(f"/proc/{pid}/status", *HELD, "Threads:") for pid in below]
        if 1024 * sum(sum(found[:-1]) for found in used) > settings["memory"] < sum(map(own_memory_bytes, below)):
            return None, "memory"
        if sum(found[-1] for found in used) > settings["tasks"]:
            return None, "tasks"


def kill_all(host: int, code: int | None) -> int:
    """Kill everything below this process, and return the exit code of `host`."""
    deadline = time.monotonic() + KILL_SECONDS
    if code is None:
        _kill(-host, signal.SIGKILL)  # its process group: all that can be done where there is no /proc
    while time.monotonic() < deadline:
        ended = reap(host)
        code = ended if code is None else code
        below = list(descendants(os.getpid()))
        if not below:
            break
        for pid in below:  # stopped first, so that none has children while the others are killed
            _kill(pid, signal.SIGSTOP)
        for pid in descendants(os.getpid()):
            _kill(pid, signal.SIGKILL)
        time.sleep(0.002)
    return -signal.SIGKILL if code is None else code


def reap(host: int) -> int | None:
    """Collect every ended child; the exit code of `host` if it was among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if not pid:
            return found
        if pid == host:
            found = os.waitstatus_to_exitcode(status)


def descendants(pid: int) -> Iterator[int]:
    """Every process below `pid`, as far as the kernel tells (Linux)."""
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError):
                for child in map(int, _read(f"/proc/{pid}/task/{task}/children").split()):
                    yield child
                    yield from descendants(child)


def memory_bytes(pid: int) -> int:
    """What a process holds of memory that is not the pages of a file."""
    return 1024 * sum(_fields(f"/proc/{pid}/status", *HELD))


def own_memory_bytes(pid: int) -> int:
    """The same, where memory that several processes share is divided among them. Exact, and slow."""
    return 1024 * sum(_fields(f"/proc/{pid}/smaps_rollup", "Pss_Anon:", "Pss_Shmem:")) or memory_bytes(pid)


def threads(pid: int) -> int:
    """Number of its threads."""
    return sum(_fields(f"/proc/{pid}/status", "Threads:"))


def _fields(path: str, *names: str) -> list[int]:
    """The numbers behind `names` in a file of the kernel; 0 for those that it lacks."""
    try:
        lines = [line.split(maxsplit=2) for line in _read(path).splitlines()]
    except OSError:
        lines = []
    found = {line[0]: int(line[1]) for line in lines if line and line[0] in names}
    return [found.get(name, 0) for name in names]


def make_group(tasks: int) -> str:
    """A control group that holds at most `tasks` processes and threads; empty where this user may not make one."""
    for line in _read("/proc/self/cgroup").splitlines() if sys.platform == "linux" else ():
        _, controllers, path = line.split(":", 2)
        if controllers in ("pids", ""):
            group = f"/sys/fs/cgroup/{controllers}{path.rstrip('/')}/codecbench-{os.getpid()}"
            with suppress(OSError):
                os.mkdir(group)
                try:
                    _write(f"{group}/pids.max", str(tasks))
                except OSError:
                    os.rmdir(group)
                    raise
                return group
    return ""


def _tasks_of_user() -> int:
    count = 0
    for name in os.listdir("/proc"):
        with suppress(OSError):
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == os.getuid():
                count += threads(int(name))
    return count


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _kill(pid: int, number: int) -> None:
    with suppress(OSError):
        os.kill(pid, number)


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
