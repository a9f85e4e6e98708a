"""``codecbench check``: hold a system to the interface."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

if TYPE_CHECKING:
    import subprocess

    from codecbench.benchmark.isolation.describe import Described
    from codecbench.benchmark.isolation.levels import Level
    from codecbench.models.checks.base import Result
    from codecbench.models.checks.runner import StartChild
    from codecbench.models.checks.subject import Options


def check(
    target: Annotated[str, typer.Argument(help="A model's name, or FILE.py:CLASS.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    points: Annotated[str | None, typer.Option(help="Operating points, by commas; all by default.")] = None,
    only: Annotated[str | None, typer.Option(help="Names of checks, by commas; all by default.")] = None,
    random_weights: Annotated[int | None, typer.Option(help="Seed: check it on random weights.")] = None,
    weights: Annotated[Path | None, typer.Option(help="A local weights file or folder.")] = None,
    isolation: Annotated[str, typer.Option(help="none, process or bwrap.")] = "process",
    device: Annotated[str, typer.Option(help="Torch device.")] = "cpu",
    seconds: Annotated[float, typer.Option(help="Length of the longest clip.", min=1.0)] = 10.0,
    timeout: Annotated[float, typer.Option(help="Seconds a check may take.", min=1.0)] = 120.0,
) -> None:
    """Check that a model holds to the interface: some seventy named checks, in a process of their own.

    Exit codes: 0 all passed or failed as expected, 1 wrong usage, 3 a check failed.
    """
    from codecbench.benchmark.isolation import levels
    from codecbench.benchmark.isolation.describe import describe
    from codecbench.models.checks.report import Progress
    from codecbench.models.checks.runner import check as run_checks
    from codecbench.models.checks.subject import Options

    options = Options(tuple(_split(points)), weights, random_weights, device, seconds, timeout)
    progress, out = Progress(), sys.stderr if as_json else sys.stdout

    def tell(result: Result) -> None:
        for line in progress.lines(result):
            print(line, file=out, flush=True)

    levels.require(isolation)
    level = cast("levels.Level", isolation)
    system = describe(target, level)
    start = None if level == "none" else _starter(target, system, options, level)
    report = run_checks(target, options, only=_split(only), card=system.card, start=start, tell=tell)
    print(f"\n{report.summary()}", file=out)
    if as_json:
        print(json.dumps(report.to_json(), indent=1, ensure_ascii=False))
    raise typer.Exit(0 if report.ok else 3)


def _starter(target: str, system: Described, options: Options, level: Level) -> StartChild:
    """What starts the checks' process: with the system's interpreter, in a sandbox if `level` says so."""
    from codecbench.benchmark.isolation import levels
    from codecbench.models.checks.runner import start_child

    python = system.python or Path(sys.executable)
    sandbox: list[str] = []
    if level == "bwrap":
        readable = levels.files_of(target, system.card, options.load_options())
        *sandbox, end = levels.sandbox(python, readable)
        for variable, part in (("HOME", "home"), ("TMPDIR", "tmp"), ("PWD", "work")):
            sandbox += ["--dir", f"/tmp/{part}", "--setenv", variable, f"/tmp/{part}"]  # noqa: S108 - the sandbox's own
        sandbox += ["--chdir", "/tmp/work", end]  # noqa: S108

    def start(command: list[str], folder: Path, answers: int) -> subprocess.Popen[bytes]:
        return start_child([*sandbox, str(python), *command[1:]], folder, answers)

    return start


def _split(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]
