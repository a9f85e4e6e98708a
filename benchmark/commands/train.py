"""``codecbench train``: train a small codec or language model."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from codecbench.models.training.loop import Progress


def train(
    name: Annotated[str, typer.Argument(help="A small codec or language model, such as soundstream-small.")],
    data: Annotated[Path, typer.Option(help="Folder of recordings; for a language model, of spoken digits.")],
    out: Annotated[Path, typer.Option(help="Folder of the training; one that was interrupted there goes on.")],
    config: Annotated[
        Path | None, typer.Option(help="YAML file with settings that differ from the system's own.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Number of batches.", min=1)] = None,
    device: Annotated[str, typer.Option(help="Torch device.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Of everything that is random.", min=0)] = 0,
    no_discriminator: Annotated[
        bool, typer.Option("--no-discriminator", help="A codec without adversarial losses: faster, less sharp.")
    ] = False,
) -> None:
    """Train a small codec on a folder of recordings, or a small language model on spoken digits.

    Exit codes: 0 done, 1 wrong usage or a loss that became no number, 4 the machine failed, 130 interrupted (run again
    to go on from the last checkpoint).
    """
    from codecbench.models.training.loop import recipe_of
    from codecbench.models.training.loop import train as run
    from codecbench.models.training.recipe import adapted

    without: dict[str, Any] = {"discriminators": {}} if no_discriminator else {}
    recipe = adapted(recipe_of(name), config, name, steps=steps, **without)
    weights = run(name, data, out, recipe, device=device, seed=seed, tell=_Teller())
    typer.echo(str(weights))


class _Teller:
    """Says where a training is: on a terminal all the time, elsewhere a line a minute."""

    def __init__(self) -> None:
        self._told = 0.0
        self._live = sys.stderr.isatty()

    def __call__(self, progress: Progress) -> None:
        now, last = time.monotonic(), progress.step == progress.steps
        if not last and now - self._told < (1 if self._live else 60):
            return
        self._told = now
        minutes, seconds = divmod(round(progress.seconds_left), 60)
        values = "  ".join(f"{name} {value:.4g}" for name, value in progress.losses.items())
        left = f"{minutes // 60}:{minutes % 60:02}:{seconds:02} left"
        line = f"step {progress.step} of {progress.steps}  {left}  {values}"
        print(f"\r\033[K{line[:150]}" if self._live else line, end="\n" if last or not self._live else "",
              file=sys.stderr, flush=True)  # fmt: skip
