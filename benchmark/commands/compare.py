"""``codecbench compare``: two systems, or the same systems in two runs, item by item."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from codecbench.errors import UsageError


def compare(
    first: Annotated[str, typer.Argument(help="A system (NAME or NAME@POINT), or a run folder.")],
    second: Annotated[str, typer.Argument(help="The same, to be compared with the first.")],
    metric: Annotated[str | None, typer.Option(help="Metrics, by commas; all by default.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Datasets, by commas; all by default.")] = None,
    point: Annotated[str | None, typer.Option(help="Operating points, by commas; all by default.")] = None,
    runs: Annotated[
        list[Path] | None, typer.Option(help="Where the systems are looked up: run, or all of results.")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="text, md or json.")] = "text",
    items: Annotated[int, typer.Option(help="Changed items to list for a difference.", min=0)] = 3,
    by: Annotated[
        str, typer.Option(help="What is resampled: speaker, or utterance (these speakers only).")
    ] = "speaker",
    fail_on: Annotated[str | None, typer.Option(help="worse: exit code 2 if the second is.")] = None,
) -> None:
    """Compare two systems, or two runs of the same systems: what changed, by how much, and whether it is certain.

    Exit codes: 0 no significant loss, 1 wrong usage, 2 (with --fail-on worse) a significant loss or a lost item.
    """
    from codecbench.leaderboard.compare import Choice, compare_runs, compare_systems
    from codecbench.leaderboard.compare_text import render
    from codecbench.leaderboard.load import read_runs

    if by not in ("speaker", "utterance"):
        raise UsageError(f"--by {by}: speaker or utterance")
    if fail_on not in (None, "worse"):
        raise UsageError(f"--fail-on {fail_on}: it can fail on 'worse'")
    choice = Choice(_split(metric), _split(dataset), _split(point), "utterance" if by == "utterance" else "speaker")
    folders = [_is_run(name) for name in (first, second)]
    if all(folders):
        if runs:
            raise UsageError("--runs says where systems are looked up; two run folders are compared as they are")
        report = compare_runs(read_runs([Path(first)]), read_runs([Path(second)]), (first, second), choice)
    elif any(folders):
        raise UsageError(f"{first} and {second} are a run folder and a system: give two of a kind")
    else:
        report = compare_systems(read_runs(runs or _default_runs()), first, second, choice)
    typer.echo(render(report, form, items))
    raise typer.Exit(2 if fail_on and report.worse else 0)


def _is_run(name: str) -> bool:
    return (Path(name) / "run.json").is_file()


def _default_runs() -> list[Path]:
    if _is_run("run"):
        return [Path("run")]
    if found := sorted(path.parent for path in Path("results").glob("*/run.json")):
        return found
    raise UsageError("no run to look in: there is no run/run.json and no results/*/run.json; name one with --runs")


def _split(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]
