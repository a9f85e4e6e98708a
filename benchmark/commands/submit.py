"""``codecbench submit`` and ``codecbench verify``: numbers that others can believe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from codecbench.errors import UsageError

if TYPE_CHECKING:
    from codecbench.benchmark.isolation.levels import Level


def submit(
    target: Annotated[str, typer.Argument(help="FILE.py:CLASS, or a registered name.")],
    out: Annotated[Path, typer.Option(help="The folder of all submissions.")] = Path("results/submissions"),
    datasets: Annotated[str | None, typer.Option(help="In place of the standard ones, by commas.")] = None,
    weights: Annotated[Path | None, typer.Option(help="A local weights file or folder.")] = None,
    isolation: Annotated[str, typer.Option(help="bwrap or process; the best that works here by default.")] = "",
    jobs: Annotated[int | None, typer.Option(help="Processes; by default one a core.", min=1)] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Check a model, run the standard sweep in audit mode, and bundle all for the leaderboard.

    Exit codes: 0 done, 1 wrong usage, 2 done but some items failed, 3 the model fails the checks, 4 the machine failed,
    130 interrupted (the same command resumes).
    """
    from codecbench.benchmark.submit import Options
    from codecbench.benchmark.submit import submit as make

    options = Options(out, _split(datasets), weights, _level(isolation), jobs, quiet)
    made, code = make(target, options, typer.echo)
    typer.echo(f"{made.folder}: {len(made.files)} files; look at it with: codecbench verify {made.folder}")
    raise typer.Exit(code)


def verify(
    folder: Annotated[Path, typer.Argument(help="A submission.")],
    against: Annotated[Path | None, typer.Option(help="The version that it replaces.")] = None,
    paths: Annotated[Path | None, typer.Option(help="A file of changed paths, relative to all submissions.")] = None,
    share: Annotated[float, typer.Option(help="Share of the items to score again; 0 for none.", min=0, max=1)] = 0.05,
    seed: Annotated[int, typer.Option(help="Which items: draw it after the submission.")] = 0,
    isolation: Annotated[str, typer.Option(help="bwrap or process; the best that works here by default.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Examine a submission: files, card, completeness, bits, and a share of its values computed again.

    Exit codes: 0 nothing wrong, 1 wrong usage, 3 something is.
    """
    from codecbench.benchmark import verify as checks
    from codecbench.benchmark.rescore import Rescore
    from codecbench.benchmark.submission_checks import STATIC

    changed = paths.read_text("utf-8").splitlines() if paths else None
    again = (Rescore(share, seed, _level(isolation)),) if share else ()
    findings = checks.verify(folder, against=against, paths=changed, checks=(*STATIC, *again))
    typer.echo(checks.to_json(findings) if as_json else checks.report(findings))
    raise typer.Exit(3 if any(finding.problems for finding in findings) else 0)


def _level(isolation: str) -> Level:
    """The level that was asked for, or the best that works here but `none`."""
    from codecbench.benchmark.isolation.levels import require

    for level in (isolation,) if isolation else ("bwrap", "process"):
        try:
            require(level)
        except UsageError:
            if isolation:
                raise
        else:
            return cast("Level", level)
    raise AssertionError("processes are always there")


def _split(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())
