"""The one training loop (docs/decisions/0012-training-loop.md): steps, checkpoints, what is held out, weights.

What learns is a `Training`: of a codec, `trainer.Trainer`; of a small language model, `lm.LMTrainer`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import nn

from codecbench.errors import InfrastructureError, UsageError
from codecbench.models import registry, small
from codecbench.models.training import pictures, state
from codecbench.models.training.data import Corpus
from codecbench.models.training.lm import LMTrainer
from codecbench.models.training.recipe import RECIPES, Recipe
from codecbench.models.training.student import LMRecipe, Student
from codecbench.models.training.trainer import Trainer, piece_length

SAVE_SECONDS = 300.0
"""A checkpoint is written after as many seconds, should `save_every` steps take longer."""


@dataclass(frozen=True)
class Progress:
    """A step is done, of so many; its losses, and the seconds that remain at the present speed."""

    step: int
    steps: int
    losses: Mapping[str, float]
    seconds_left: float


class Training(Protocol):
    """What the loop runs. A step is a function of the weights, the seed and the step's number."""

    name: str
    """Of the system that learns."""
    step: int
    """Steps that were made."""
    seed: int
    device: torch.device

    @property
    def recipe(self) -> Recipe | LMRecipe:
        """Steps, and how often to save and to examine."""

    def advance(self) -> dict[str, float]:
        """Make a step; return its losses. CodecbenchError if one became no number."""

    def examine(self, out: Path) -> dict[str, float]:
        """What data that are held out say now; what is to be seen or heard goes into `out`."""

    def trained(self) -> nn.Module:
        """A network as it is to be kept."""

    def facts(self) -> dict[str, str]:
        """What the card says of the system and its data."""

    def identity(self) -> dict[str, Any]:
        """What makes two trainings the same one."""

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on from here."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""


def trainable(name: str) -> type[small.Small]:
    """The codec that is called `name`; UsageError if none of that name can be trained."""
    codecs = {system.card.name: system for system in small.SYSTEMS}
    if name not in codecs:
        raise UsageError(f"cannot train '{name}': {', '.join([*codecs, *students()])} can be trained")
    return codecs[name]


def students() -> dict[str, type[Student]]:
    """The small language models by name."""
    return {name: cast("Any", system) for name, system in registry.own_systems().items() if isinstance(system, Student)}


def recipe_of(name: str) -> Recipe | LMRecipe:
    """How the system called `name` is trained; UsageError if none of that name can be."""
    found = students()
    return found[name].recipe if name in found else RECIPES[trainable(name).card.name]


def train(
    name: str, data: Path, out: Path, recipe: Recipe | LMRecipe, *, device: str = "cpu", seed: int = 0,
    tell: Callable[[Progress], None] = lambda _: None,
) -> Path:  # fmt: skip
    """Train the system called `name` on what is in the folder `data`, or go on with the training in `out`.

    Args:
        name: Of a small codec or a small language model.
        data: Recordings, see `Corpus`; for a language model, what its `Student.pool` reads.
        out: Receives ``checkpoint.pt``, ``losses.jsonl``, ``losses.png``, a codec's ``samples/``, and the weights with
            their card, ``NAME.safetensors`` and ``NAME.md``, which are those of the last checkpoint.
        recipe: What to do.
        device: A torch device.
        seed: Of everything that is random.
        tell: Is told of every step.

    Returns:
        Where the weights lie.

    Raises:
        UsageError: The system or the data cannot be used, or `out` holds another training.
        InfrastructureError: `out` cannot be written, or the device is not there.
        CodecbenchError: A loss became no number.
    """
    make = _lm_training if isinstance(recipe, LMRecipe) else _codec_training
    training = make(name, data, recipe, seed)
    try:
        made = training(torch.device(device))
        out.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0]
        raise InfrastructureError(f"cannot train on {device} into {out}: {reason}") from error
    return _Run(made, data, out).until_done(tell)


def _codec_training(name: str, data: Path, recipe: Any, seed: int) -> Callable[[torch.device], Training]:
    system = trainable(name)
    corpus = Corpus(data, small.SAMPLE_RATE, piece_length(recipe), recipe.augmentation, seed)
    return lambda device: Trainer(system, recipe, corpus, device, seed)


def _lm_training(name: str, data: Path, recipe: Any, seed: int) -> Callable[[torch.device], Training]:
    system = students()[name]
    pool = system.pool(data, recipe)
    return lambda device: LMTrainer(system, recipe, pool, device, seed)


class _Run:
    def __init__(self, training: Training, data: Path, out: Path) -> None:
        self.training, self.data, self.out = training, data, out
        self.history, self.seconds = list[dict[str, Any]](), 0.0
        found = state.load(out, training.identity())
        if found is not None:
            training.restore(found)
            self.seconds = found["seconds"]
            rows = map(json.loads, (out / "losses.jsonl").read_text("utf-8").splitlines())
            self.history = [row for row in rows if row["step"] <= training.step]

    @property
    def weights(self) -> Path:
        return self.out / f"{self.training.name}.safetensors"

    def until_done(self, tell: Callable[[Progress], None]) -> Path:
        training, recipe = self.training, self.training.recipe
        saved, pace, made = time.monotonic(), 0.0, 0
        while training.step < recipe.steps:
            started = time.monotonic()
            losses = training.advance()
            self.history.append({"step": training.step, **losses})
            spent = time.monotonic() - started
            self.seconds += spent
            made += 1
            pace += (spent - pace) / min(made, 50)
            tell(Progress(training.step, recipe.steps, losses, pace * (recipe.steps - training.step)))
            last = training.step == recipe.steps
            if last or (recipe.sample_every and training.step % recipe.sample_every == 0):
                self.history[-1] |= training.examine(self.out)
            if last or training.step % recipe.save_every == 0 or time.monotonic() - saved > SAVE_SECONDS:
                self._save()
                saved = time.monotonic()
        return self.weights

    def _save(self) -> None:
        training = self.training
        rows = "".join(json.dumps(row) + "\n" for row in self.history)
        (self.out / "losses.jsonl").write_text(rows, "utf-8")
        state.save(self.out, {**training.identity(), **training.state(), "seconds": self.seconds})
        pictures.curves(self.history, self.out / "losses.png")
        state.export(training.trained(), self.weights, self._facts())

    def _facts(self) -> dict[str, str]:
        from importlib.metadata import version

        training = self.training
        return {
            **training.facts(), "data": self.data.resolve().name,
            "seconds": f"{self.seconds:.1f}", "hardware": state.hardware(training.device), "seed": str(training.seed),
            "licence": training.recipe.licence, "torch": version("torch"),
            "recipe": json.dumps(training.identity()["recipe"]),
        }  # fmt: skip
