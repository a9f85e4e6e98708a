"""What a small language model says of its training: a recipe, what it learns from, and what it makes less."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np

from codecbench.models.base import Card

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class LMRecipe:
    """A training of a small language model.

    Attributes:
        steps: Number of batches.
        batch: Examples a batch.
        learning_rate: After `warm_up` steps of growth; it falls to a tenth along a cosine.
        betas, weight_decay: Of AdamW.
        clip: Largest norm of the gradient.
        averaging: Decay of the moving average of the parameters, which is what is kept in the end.
        precision: ``bfloat16`` where torch finds that it does no harm; ``auto`` on a GPU.
        strings: How many strings of digits the pool has.
        digits: Fewest and most digits in a string.
        speed: Lowest and highest speed of a string; pitch goes with it.
        start: The file of trained weights to go on from; empty for random ones.
        held_out: How many strings of held-out recordings there are beside; a batch of them is scored.
        licence: Of the weights that come out, for their card.
        save_every, sample_every: Steps between checkpoints, and between scores of what is held out (0: at the end).
    """

    steps: int = 2_000
    batch: int = 8
    learning_rate: float = 2e-3
    warm_up: int = 100
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    clip: float = 1.0
    averaging: float = 0.99
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    strings: int = 2_500
    digits: tuple[int, int] = (1, 6)
    speed: tuple[float, float] = (1.0, 1.0)
    start: str = ""
    held_out: int = 48
    licence: str = "CC-BY-SA-4.0"
    save_every: int = 250
    sample_every: int = 200

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain JSON values."""
        return asdict(self)

    def problems(self) -> dict[str, bool]:
        """What must hold of the values, and whether it does."""
        counts = (self.steps, self.batch, self.save_every, self.strings, self.held_out)
        return {
            "steps, batch, save_every, strings and held_out are at least 1": min(counts) >= 1,
            "digits are from 1 on, speed is above 0, and the first of each is not above the second": (
                1 <= self.digits[0] <= self.digits[1] and 0 < self.speed[0] <= self.speed[1]
            ),
            "averaging is from 0 to 1": 0 <= self.averaging <= 1,
        }


@dataclass(frozen=True)
class Pool:
    """What a language model learns from.

    Attributes:
        training: Items of any kind that its `Student` knows.
        held_out: Such items, made of other recordings.
        seconds: Of the recordings that the first are made of.
        recordings: How many they are.
        facts: For the card: the codec, for one.
    """

    training: Sequence[Any]
    held_out: Sequence[Any]
    seconds: float
    recordings: int
    facts: Mapping[str, str]


@runtime_checkable
class Student(Protocol):
    """A small language model as the loop sees it: its class."""

    card: ClassVar[Card]
    recipe: ClassVar[LMRecipe]

    @classmethod
    def pool(cls, data: Path, recipe: LMRecipe) -> Pool:
        """What is in the folder `data`, as items to learn from; UsageError if it cannot be used."""

    @classmethod
    def network(cls, seed: int) -> nn.Module:
        """All that learns, with random weights from `seed`; torch's own random state is left as it was."""

    @classmethod
    def examples(cls, items: Sequence[Any], count: int, rng: np.random.Generator) -> list[Any]:
        """A batch of `count` examples, drawn from the `items` of a pool with `rng`."""

    @classmethod
    def loss(cls, network: Any, examples: Sequence[Any], random: torch.Generator) -> dict[str, Tensor]:
        """What training makes less, their sum: cross-entropies in nats a token, by name, such as ``codebook 1``.

        Args:
            network: As of `network`.
            examples: As of `examples`.
            random: What is random in the loss, if anything; torch's own state is seeded as well.
        """
