"""Run the checks of a system in a process of its own, and make the report.

A check that hangs or ends its process is a failed check, and the others go on in a new process.
"""

from __future__ import annotations

import json
import os
import select
import signal
import site
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from codecbench.errors import UsageError
from codecbench.models.base import Card
from codecbench.models.checks.base import Check, Result, all_checks, judge
from codecbench.models.checks.elsewhere import absolute, plain
from codecbench.models.checks.report import Report
from codecbench.models.checks.subject import Options, Subject
from codecbench.models.registry import find

MOST_DEATHS = 4
"""Processes that may be lost before the remaining checks are given up."""

StartChild = Callable[[list[str], Path, int], subprocess.Popen[bytes]]
"""Starts a command in a scratch folder, with a file descriptor that it keeps; see `start_child`."""


def start_child(command: list[str], folder: Path, answers: int) -> subprocess.Popen[bytes]:
    """Start `command` as a process group of its own that lives in `folder`; it keeps the descriptor `answers`.

    The one place where a child is started. Its working, home and temporary folders are in `folder`, and its output goes
    to ``folder/log``. What it caches and the user's packages stay where they are.
    """
    home = Path.home()
    kept = {
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(home / ".cache")),
        "PYTHONUSERBASE": site.getuserbase(),
    }
    own = {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), "PYTHONDONTWRITEBYTECODE": "1"}
    for part in ("home", "tmp", "work"):
        (folder / part).mkdir(exist_ok=True)
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - our own module
            command, cwd=folder / "work", env={**os.environ, **kept, **own}, stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, pass_fds=[answers], start_new_session=True,
        )  # fmt: skip


def check(
    target: str,
    options: Options | None = None,
    *,
    only: Sequence[str] = (),
    card: Card | None = None,
    start: StartChild | None = start_child,
    tell: Callable[[Result], None] | None = None,
) -> Report:
    """Check the system that `target` names.

    Args:
        target: A registered name, or ``path/to/file.py:Class``.
        options: How to load it, and what to check.
        only: Names of checks; all that apply by default.
        card: The system's card, if it is known already; else the system's module is imported here for it.
        start: What starts the child that runs the checks, such as in a sandbox; None runs them in this process,
            without limits.
        tell: Called with each result as it comes.

    Raises:
        UsageError: Nothing of that name, no such point, or no such check.
        InvalidSystem: The file of the target cannot be imported.
    """
    options = options or Options()
    card = card or find(target).card
    names = [one.name for one in _chosen(card, options, only)]
    expected = dict(card.expected_failures)
    started = time.monotonic()
    results = []
    answers = _in_child(target, names, options, start) if start else _here(target, names, options)
    for answer in answers:
        result = judge(answer, expected, strict=options.random_seed is None)
        results.append(result)
        if tell:
            tell(result)
    return Report(target, card.name, _label(card, options), tuple(results), round(time.monotonic() - started, 1))


def _label(card: Card, options: Options) -> str:
    if not (card.weights or card.unpublished):
        return "no weights"
    if options.random_seed is not None:
        return f"random weights, seed {options.random_seed}"
    if options.weights:
        return f"weights {options.weights}"
    return "this package's weights" if card.package_weights else "official weights"


def _chosen(card: Card, options: Options, only: Sequence[str]) -> list[Check]:
    known = all_checks()
    if unknown := [name for name in only if name not in known]:
        raise UsageError(f"no check is called '{unknown[0]}': docs/checks.md lists them")
    names = [point.name for point in card.points]
    if wrong := [name for name in options.points if name not in names]:
        raise UsageError(f"{card.name} has no point '{wrong[0]}'; it has {', '.join(names)}")
    return [one for one in known.values() if card.kind in one.kinds and (not only or one.name in only)]


def _here(target: str, names: list[str], options: Options) -> Iterator[Result]:
    from codecbench.models.checks.child import run_all

    results: list[Result] = []

    def keep(message: dict[str, Any]) -> None:
        if "end" in message:
            results.append(Result(**message["end"]))

    run_all(names, Subject(target, options), keep)
    yield from results


def _in_child(target: str, names: list[str], options: Options, start: StartChild) -> Iterator[Result]:
    """Run the checks in children, a new one after each that is lost."""
    request = {"target": absolute(target), "options": plain(options), "loadable": True}
    deaths = 0
    while names and deaths < MOST_DEATHS:
        for result, died in _one_child({**request, "checks": names}, options.time_limit, start):
            names = [name for name in names if name != result.check]
            if died:
                deaths += 1
                request["loadable"] = request["loadable"] and result.check != "loads"
            yield result
    yield from (Result(name, "failed", f"not run: {deaths} processes were lost before it") for name in names)


def _one_child(request: dict[str, Any], time_limit: float, start: StartChild) -> Iterator[tuple[Result, bool]]:
    """The results of one child; if it is lost, last the result of the check that lost it, and True."""
    reading, writing = os.pipe()
    waiting = list(request["checks"])
    command = [sys.executable, "-m", "codecbench.models.checks.child", json.dumps({**request, "answers": writing})]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, os.fdopen(reading, "rb") as answers:
        try:
            process = start(command, Path(folder), writing)
        finally:
            os.close(writing)
        started, reason = time.monotonic(), ""
        with _killed_at_last(process):
            for line in _lines(answers, time_limit):
                if line is None:
                    reason = f"no result within {time_limit:g} s"
                    break
                message = json.loads(line)
                if "end" in message:
                    waiting.remove(message["end"]["check"])
                    yield Result(**message["end"]), False
                started = time.monotonic()
            if waiting:
                reason = reason or _how(process, Path(folder))
                yield Result(waiting[0], "failed", reason, round(time.monotonic() - started, 3)), True


def _lines(answers: IO[bytes], time_limit: float) -> Iterator[bytes | None]:
    """Lines until the other end closes; None where `time_limit` passes without one."""
    buffer = b""
    while True:
        ready, _, _ = select.select([answers], [], [], time_limit)
        if not ready:
            yield None
            return
        piece = os.read(answers.fileno(), 65536)
        if not piece:
            return
        *lines, buffer = (buffer + piece).split(b"\n")
        yield from lines


@contextmanager
def _killed_at_last(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """However the body ends, the process and its group are gone afterwards."""
    try:
        yield
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _how(process: subprocess.Popen[bytes], folder: Path) -> str:
    """How the process ended, with the last line that it printed."""
    try:
        code = process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        return "it closed the descriptor of the answers"
    ended = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    with (folder / "log").open("rb") as log:
        log.seek(0, os.SEEK_END)
        log.seek(max(0, log.tell() - 2000))
        last = log.read().decode(errors="replace").strip().splitlines()[-1:] or [""]
    return f"the process ended with {ended}" + (f": {last[0][:200]}" if last[0] else "")
