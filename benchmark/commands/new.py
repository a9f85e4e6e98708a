"""``codecbench new``: a model to start from."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer


def new(
    name: Annotated[str, typer.Argument(help="Of the model and its file: lower-case letters, digits and _.")],
    kind: Annotated[str, typer.Option(help="codec or lm.")] = "codec",
    out: Annotated[Path, typer.Option(help="Folder of the files.")] = Path(),
) -> None:
    """Write a model that works, in one file with its test; its comments say what to fill in."""
    from codecbench.benchmark import scaffold

    model, test = scaffold.create(name, kind, out)
    target = f"{model}:{scaffold.class_name(name, kind)}"
    typer.echo(f"{model}\n{test}\nnow: codecbench check {shlex.quote(target)}")
