"""A small language model in training: everything that a step changes, and the step.

As in `trainer`, all that is random in a step depends on the seed and on the number of the step.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from codecbench.errors import CodecbenchError, UsageError
from codecbench.models import small
from codecbench.models.training.learning import Averages, Learner, course, seeded
from codecbench.models.training.student import LMRecipe, Pool, Student

HELD_OUT_SEED = 1 << 32
"""Of the examples that are held out: the same at every step, and none of the training's."""


class LMTrainer:
    """A language model in training.

    Args:
        student: Its system.
        recipe: What to do.
        pool: What to do it on.
        device: Where.
        seed: Of the random weights, and of every random choice.
    """

    def __init__(self, student: type[Student], recipe: LMRecipe, pool: Pool, device: torch.device, seed: int) -> None:
        self.student, self.recipe, self.pool, self.device, self.seed = student, recipe, pool, device, seed
        self.name, self.step = student.card.name, 0
        network, self._made = student.network(seed), 0
        if recipe.start:
            self._made = begin(network, self.name, Path(recipe.start))
        self.network = network.to(device)
        self.averages = Averages(self.network, recipe.averaging)
        self.learner = Learner(
            list(self.network.parameters()), recipe.learning_rate, recipe.betas, recipe.clip, recipe.weight_decay
        )
        self._half = recipe.precision == "bfloat16" or (recipe.precision == "auto" and device.type == "cuda")

    def advance(self) -> dict[str, float]:
        """Make a step; return its losses and the gradient's norm.

        Raises:
            CodecbenchError: One of them is no number. The parameters are as before the step.
        """
        step, recipe = self.step, self.recipe
        examples = self.student.examples(self.pool.training, recipe.batch, np.random.default_rng([self.seed, step]))
        self.network.train()
        with seeded(self.seed, step) as random:
            found = self._loss(examples, random)
            values = {name: float(loss.detach()) for name, loss in found.items()}
            if all(map(math.isfinite, values.values())):
                torch.stack(list(found.values())).sum().backward()  # type: ignore[no-untyped-call]
                values["gradient"] = self.learner.step(course(step, recipe.steps, recipe.warm_up))
        if bad := [name for name, value in values.items() if not math.isfinite(value)]:
            raise CodecbenchError(f"{' and '.join(bad)} became no number at step {step}: set `learning_rate` lower")
        self.averages.follow(step)
        self.step += 1
        return values

    @torch.no_grad()
    def examine(self, out: Path) -> dict[str, float]:  # noqa: ARG002 - there is nothing to see
        """The losses of what is held out, of the averaged parameters."""
        rng = np.random.default_rng(HELD_OUT_SEED)
        examples = self.student.examples(self.pool.held_out, self.recipe.held_out, rng)
        with self.averages.applied(), seeded(HELD_OUT_SEED, 0) as random:
            found = self._loss(examples, random)
        return {f"held-out {name}": float(loss) for name, loss in found.items()}

    def _loss(self, examples: Sequence[Any], random: torch.Generator) -> dict[str, Tensor]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._half):
            return self.student.loss(self.network, examples, random)

    def trained(self) -> nn.Module:
        """A network with the averaged parameters."""
        network = self.student.network(0)
        network.load_state_dict(self.network.state_dict())
        self.averages.put(network)
        return network

    def facts(self) -> dict[str, str]:
        """What a card says of the model and its data; its steps are also those that were made before the start."""
        return {
            "model": self.name, **self.pool.facts, "data_seconds": f"{self.pool.seconds:.1f}",
            "recordings": str(self.pool.recordings), "steps": str(self._made + self.step),
        }  # fmt: skip

    def identity(self) -> dict[str, Any]:
        """What makes two trainings the same one."""
        pool = self.pool
        return {
            "model": self.name, "recipe": json.loads(json.dumps(self.recipe.to_json())), "seed": self.seed,
            "data": f"{len(pool.training)} items of {pool.recordings} recordings, {pool.seconds:.2f} s",
            "facts": dict(pool.facts),
        }  # fmt: skip

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on from here."""
        return {
            "step": self.step, "network": self.network.state_dict(), "learner": self.learner.optimiser.state_dict(),
            "averages": self.averages.values,
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        self.learner.optimiser.load_state_dict(state["learner"])
        self.averages.restore(state["averages"])


def begin(network: nn.Module, name: str, path: Path) -> int:
    """Put the weights at `path` into `network` of the system `name`; return the steps that they were trained for.

    Raises:
        UsageError: There is no such file.
        InvalidSystem: It holds another system's weights.
    """
    if not path.is_file():
        raise UsageError(f"start: no such file of weights: {path}")
    small.read(network, name, path)
    return int(small.metadata(path).get("steps", 0))
