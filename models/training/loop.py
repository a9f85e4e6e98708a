"""The one training loop of all codecs (docs/decisions/0012-training-loop.md): steps, checkpoints, samples, weights."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from codecbench.errors import InfrastructureError, UsageError
from codecbench.models.small import SAMPLE_RATE, SYSTEMS, Small
from codecbench.models.training import pictures, state
from codecbench.models.training.data import Corpus, load
from codecbench.models.training.objective import reconstruct
from codecbench.models.training.recipe import Recipe
from codecbench.models.training.trainer import Trainer, piece_length

HELD_OUT_CLIPS, HELD_OUT_SAMPLES = 4, 4 * SAMPLE_RATE
SAVE_SECONDS = 300.0
"""A checkpoint is written after as many seconds, should `save_every` steps take longer."""


@dataclass(frozen=True)
class Progress:
    """A step is done, of so many; its losses, and the seconds that remain at the present speed."""

    step: int
    steps: int
    losses: Mapping[str, float]
    seconds_left: float


def trainable(name: str) -> type[Small]:
    """The codec that is called `name`; UsageError if none of that name can be trained."""
    systems = {system.card.name: system for system in SYSTEMS}
    if name not in systems:
        raise UsageError(f"cannot train '{name}': {', '.join(systems)} can be trained")
    return systems[name]


def train(
    codec: str, data: Path, out: Path, recipe: Recipe, *, device: str = "cpu", seed: int = 0,
    tell: Callable[[Progress], None] = lambda _: None,
) -> Path:  # fmt: skip
    """Train `codec` on the recordings in the folder `data`, or go on with the training in `out`.

    Args:
        codec: A name of `codecbench.models.small`.
        data: See `Corpus`.
        out: Receives ``checkpoint.pt``, ``losses.jsonl``, ``losses.png``, ``samples/``, and the weights with their
            card, ``CODEC.safetensors`` and ``CODEC.md``, which are those of the last checkpoint.
        recipe: What to do.
        device: A torch device.
        seed: Of everything that is random.
        tell: Is told of every step.

    Returns:
        Where the weights lie.

    Raises:
        UsageError: The codec or the data cannot be used, or `out` holds another training.
        InfrastructureError: `out` cannot be written, or the device is not there.
        CodecbenchError: A loss became no number.
    """
    system = trainable(codec)
    corpus = Corpus(data, SAMPLE_RATE, piece_length(recipe), recipe.augmentation, seed)
    try:
        trainer = Trainer(system, recipe, corpus, torch.device(device), seed)
        out.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0]
        raise InfrastructureError(f"cannot train on {device} into {out}: {reason}") from error
    return _Run(trainer, data, out).until_done(tell)


class _Run:
    def __init__(self, trainer: Trainer, data: Path, out: Path) -> None:
        self.trainer, self.data, self.out = trainer, data, out
        self.history, self.seconds = list[dict[str, Any]](), 0.0
        found = state.load(out, trainer.identity())
        if found is not None:
            trainer.restore(found)
            self.seconds = found["seconds"]
            rows = map(json.loads, (out / "losses.jsonl").read_text("utf-8").splitlines())
            self.history = [row for row in rows if row["step"] <= trainer.step]

    @property
    def weights(self) -> Path:
        return self.out / f"{self.trainer.codec.card.name}.safetensors"

    def until_done(self, tell: Callable[[Progress], None]) -> Path:
        trainer, recipe = self.trainer, self.trainer.recipe
        saved, pace, made = time.monotonic(), 0.0, 0
        while trainer.step < recipe.steps:
            started = time.monotonic()
            losses = trainer.advance()
            self.history.append({"step": trainer.step, **losses})
            spent = time.monotonic() - started
            self.seconds += spent
            made += 1
            pace += (spent - pace) / min(made, 50)
            tell(Progress(trainer.step, recipe.steps, losses, pace * (recipe.steps - trainer.step)))
            last = trainer.step == recipe.steps
            if last or (recipe.sample_every and trainer.step % recipe.sample_every == 0):
                self._sample()
            if last or trainer.step % recipe.save_every == 0 or time.monotonic() - saved > SAVE_SECONDS:
                self._save()
                saved = time.monotonic()
        return self.weights

    @torch.no_grad()
    def _sample(self) -> None:
        """Hear what the codec makes of recordings that are held out, at its richest point."""
        trainer, pairs, distances = self.trainer, [], []
        with trainer.averaged():
            for path in self.trainer.corpus.held_out[:HELD_OUT_CLIPS]:
                samples = load(path, SAMPLE_RATE)[:HELD_OUT_SAMPLES]
                whole = torch.from_numpy(samples[: len(samples) // trainer.objective.hop * trainer.objective.hop])
                if not len(whole):
                    continue
                x = whole[None, None].to(trainer.device)
                output = reconstruct(trainer.network, x, None).output
                distances.append(float(trainer.objective.mel(output, x)))
                pairs.append((x[0, 0].cpu().numpy(), output[0, 0].cpu().numpy()))
        if pairs:
            self.history[-1]["held-out mel"] = sum(distances) / len(distances)
            pictures.samples(pairs, SAMPLE_RATE, self.out / "samples", trainer.step)

    def _save(self) -> None:
        trainer = self.trainer
        rows = "".join(json.dumps(row) + "\n" for row in self.history)
        (self.out / "losses.jsonl").write_text(rows, "utf-8")
        state.save(self.out, {**trainer.identity(), **trainer.state(), "seconds": self.seconds})
        pictures.curves(self.history, self.out / "losses.png")
        trained = {**trainer.network.state_dict(), **trainer.averages}
        state.export(trainer.codec.network(0), trained, self.weights, self._facts())

    def _facts(self) -> dict[str, str]:
        from importlib.metadata import version

        trainer = self.trainer
        return {
            "codec": trainer.codec.card.name, "steps": str(trainer.step), "data": self.data.resolve().name,
            "data_seconds": f"{trainer.corpus.seconds:.1f}", "recordings": str(len(trainer.corpus.files)),
            "seconds": f"{self.seconds:.1f}", "hardware": state.hardware(trainer.device), "seed": str(trainer.seed),
            "licence": trainer.recipe.licence, "torch": version("torch"),
            "recipe": json.dumps(trainer.identity()["recipe"]),
        }  # fmt: skip
