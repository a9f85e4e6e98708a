"""The command line. Commands of one subject of their own stand in `codecbench.benchmark.commands`."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from codecbench.benchmark.commands import COMMANDS
from codecbench.errors import CodecbenchError, UsageError

app = typer.Typer(
    name="codecbench",
    help="A benchmark for neural audio codecs and codec language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Datasets: list, get (download and prepare), path.", no_args_is_help=True)
weights_app = typer.Typer(help="Official model files: list, get (download and verify), path.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(weights_app, name="weights")
for command in COMMANDS:
    app.command()(command)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """A benchmark for neural audio codecs and codec language models."""
    if debug:
        os.environ["CODECBENCH_DEBUG"] = "1"


@app.command()
def run(
    sweep: Annotated[Path | None, typer.Argument(help="A sweep file (YAML); the options below override it.")] = None,
    models: Annotated[str | None, typer.Option(help="Names or FILE.py:CLASS, separated by commas.")] = None,
    points: Annotated[str | None, typer.Option(help="Operating points, by commas; those a model has are run.")] = None,
    datasets: Annotated[str | None, typer.Option(help="Names, NAME:PATH, folders or manifests, by commas.")] = None,
    metrics: Annotated[
        str | None, typer.Option(help="Names, NAME:VARIANT, NAME@codec, by commas; else those that datasets name.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first N utterances of each dataset.")] = None,
    random_weights: Annotated[int | None, typer.Option(help="Seed: run models on random weights, unranked.")] = None,
    weights: Annotated[Path | None, typer.Option(help="A local weights file or folder, for one model.")] = None,
    engine: Annotated[str, typer.Option(help="What runs the work: local, or ray (docs/clusters.md).")] = "local",
    address: Annotated[str | None, typer.Option(help="HOST:PORT of a Ray cluster; else one of this machine.")] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Processes; by default one a core, or all of a cluster.", min=1)
    ] = None,
    device: Annotated[str | None, typer.Option(help="Torch device.")] = None,
    compile_: Annotated[bool | None, typer.Option("--compile", help="Compile networks: see docs/speed.md.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds an item may take.")] = None,
    batch: Annotated[int | None, typer.Option(help="Recordings or requests that a model is given at once.")] = None,
    keep_codes: Annotated[bool | None, typer.Option("--keep-codes", help="Keep the packed codes with the run.")] = None,
    keep_audio: Annotated[int | None, typer.Option(help="Keep outputs of N utterances a dataset, to listen.")] = None,
    isolation: Annotated[str | None, typer.Option(help="Where adapters run: none, process or bwrap.")] = None,
    audit: Annotated[
        bool | None, typer.Option("--audit", help="Encode and decode in processes that share nothing but the bytes.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The run folder; a run that was interrupted there is resumed.")] = Path(
        "run"
    ),
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Code, measure and hear everything anew: see docs/sweeps.md.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Run a sweep: every model at every point on every dataset, measured by every metric.

    Exit codes: 0 done, 1 wrong usage, 2 some items failed, 3 a system is invalid, 4 the machine failed,
    130 interrupted (run again to resume).
    """
    from codecbench.benchmark.run import run_sweep
    from codecbench.benchmark.sweep import read_sweep

    if sweep is None and datasets is None:
        datasets = "demo"
    chosen: list[Any] | None = _split(models)
    if weights:
        if not chosen or len(chosen) != 1:
            raise UsageError("--weights goes with one model in --models; a sweep file can give each its own")
        chosen = [{"name": chosen[0], "weights": weights}]
    overrides: dict[str, Any] = {
        "models": chosen, "points": _split(points), "datasets": _split(datasets), "metrics": _split(metrics),
        "limit": limit, "random_weights": random_weights, "device": device, "timeout": timeout, "batch": batch,
        "keep_codes": keep_codes, "keep_audio": keep_audio, "isolation": isolation, "audit": audit,
        "compile": compile_,
    }  # fmt: skip
    command = shlex.join(["codecbench", *sys.argv[1:]])
    outcome = run_sweep(
        read_sweep(sweep, overrides), out, engine=engine, address=address, jobs=jobs, command=command, quiet=quiet,
        cache=not no_cache,
    )  # fmt: skip
    raise typer.Exit(outcome.exit_code)


@app.command("list")
def list_(what: Annotated[str, typer.Argument(help="models, metrics or datasets")], as_json: Json = False) -> None:
    """List what there is: models, metrics or datasets."""
    from codecbench.benchmark import listing

    listing.show(listing.rows(what), as_json)


@app.command()
def show(name: Annotated[str, typer.Argument(help="A model, metric or dataset.")], as_json: Json = False) -> None:
    """Show everything known of one model, metric or dataset."""
    from codecbench.benchmark import listing

    listing.show_one(listing.describe(name), as_json)


@app.command()
def table(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    form: Annotated[str, typer.Option("--format", help="terminal, md, csv or json.")] = "terminal",
    metrics: Annotated[str | None, typer.Option(help="Columns, by commas; as many as fit by default.")] = None,
) -> None:
    """Print the leaderboard of one or more runs."""
    from codecbench.leaderboard.load import read_runs
    from codecbench.leaderboard.table import render

    typer.echo(render(read_runs(runs), format=form, metrics=_split(metrics)))


@app.command()
def site(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the site.")],
    previous: Annotated[list[Path] | None, typer.Option(help="An earlier run or site to list changes against.")] = None,
    audio_budget: Annotated[float, typer.Option(help="Megabytes of recordings to take along; 0 for none.", min=0)] = 50,
    open_: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """Build the leaderboard as a static site that works offline, from a folder."""
    from codecbench.benchmark.site_stamp import SiteStamp

    stamp, page = SiteStamp(runs, out, audio_budget), out / "index.html"
    if previous or not stamp.holds():
        from codecbench.leaderboard.site import build

        page = build(runs, out, previous or (), audio_budget)
        if not previous:
            stamp.set()
    typer.echo(str(page))
    if open_:
        typer.launch(page.resolve().as_uri())


@data_app.command("list")
def data_list(as_json: Json = False) -> None:
    """List the datasets, and which are here."""
    from codecbench.benchmark import listing

    listing.show(listing.rows("datasets"), as_json)


@data_app.command("get")
def data_get(name: str) -> None:
    """Download and prepare a dataset; resumes, and verifies."""
    from codecbench.benchmark.datasets import registry

    typer.echo(str(registry.get(name, _show_progress(name))))


@data_app.command("path")
def data_path(name: str) -> None:
    """Print where a dataset lies."""
    from codecbench.benchmark.datasets import registry

    found = registry.path(name)
    if found is None:
        raise UsageError(f"the dataset '{name}' is not here: codecbench data get {name}")
    typer.echo(str(found))


@weights_app.command("list")
def weights_list(as_json: Json = False) -> None:
    """List the official files of every model, with source, licence and hash."""
    from codecbench.benchmark import listing

    listing.show(listing.rows("weights"), as_json)


@weights_app.command("get")
def weights_get(name: str) -> None:
    """Download and verify the official files of a model."""
    from codecbench import weights as files
    from codecbench.benchmark import listing

    for file in listing.weight_files(name):
        typer.echo(str(files.get(file, _show_progress(file.name))))


@weights_app.command("path")
def weights_path(name: str) -> None:
    """Print where the official files of a model lie."""
    from codecbench import weights as files
    from codecbench.benchmark import listing

    for file in listing.weight_files(name):
        found = files.local_path(file)
        if found is None:
            raise UsageError(f"{file.name} is not here: codecbench weights get {name}")
        typer.echo(str(found))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check this installation: versions, encoders, model files, data. Exit code 4 if something needed is missing."""
    from codecbench.benchmark import doctor as checks

    findings = checks.examine()
    typer.echo(json.dumps([vars(f) for f in findings], indent=1) if as_json else checks.report(findings))
    raise typer.Exit(4 if any(f.status == "missing" and f.needed for f in findings) else 0)


def _show_progress(name: str) -> Callable[[int, int | None], None] | None:
    """What shows bytes on a terminal; None elsewhere."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int | None) -> None:
        share = f" of {total / 1e6:.1f}" if total else ""
        print(f"\r{name}: {done / 1e6:.1f}{share} MB", end="\n" if done == total else "", file=sys.stderr, flush=True)

    return show


def _split(text: str | None) -> list[str] | None:
    return [part.strip() for part in text.split(",") if part.strip()] if text is not None else None


def main() -> NoReturn:
    """Run the command line; an expected error is one line on standard error and its exit code."""
    try:
        code = app(standalone_mode=False)
    except CodecbenchError as error:
        _fail(error, str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort) as error:
        _fail(error, "interrupted", 130)
    except Exception as error:  # noqa: BLE001 - the last resort: still one line, and a code
        _fail(error, *_explain(error))
    sys.exit(code or 0)


def _explain(error: Exception) -> tuple[str, int]:
    if hasattr(error, "format_message"):  # click's own: a wrong option or argument
        context = getattr(error, "ctx", None)
        where = f" (try '{context.command_path} --help')" if context else ""
        return error.format_message() + where, 1
    return f"{type(error).__name__}: {error} (a fault of codecbench: --debug shows where)", 4


def _fail(error: BaseException, message: str, code: int) -> NoReturn:
    if os.environ.get("CODECBENCH_DEBUG"):
        raise error
    print(f"codecbench: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
