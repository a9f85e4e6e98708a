"""What the small language models of semantic tokens share: the units of spoken digits, and what is learnt from them.

The units (`blocks.digit_units`) are trained by ``python -m codecbench.models.training.digit_units``; their weights lie
in this package, ``small/digit-units.safetensors``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from codecbench.models import small, small_lm
from codecbench.models.audiolm import AudioLM
from codecbench.models.base import LoadOptions
from codecbench.models.training.student import LMRecipe, Pool

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from torch import Tensor

    from codecbench.models.blocks.digit_units import DigitUnits
    from codecbench.models.blocks.masked_lm import MaskedLM
    from codecbench.models.blocks.stage_lm import Stage
    from codecbench.models.training.digits import Coded

NAME, UNITS = "digit-units", 64
NOISE_IS_LIKELY = (
    (
        "likelihood_prefers_own",
        "noise is one unit over and over to a tokeniser of digits, and so likelier than any digit",
    ),
)
"""The expected failure of a check. What greedy models go on with is short and hardly a digit."""
SPREAD = 4
"""Batches from which one of nearly equal lengths is chosen."""


@dataclass(frozen=True, eq=False)
class Item:
    """A string of digits: its units ``[F]``, one a frame of its codes ``[K, F]``, its text and who speaks."""

    units: Tensor
    codes: Tensor
    text: str
    speaker: str


def voice(items: Sequence[Item], own: Item, rng: np.random.Generator) -> Item:
    """A random one of `items` by the speaker of `own`, which may be itself."""
    while True:
        found = items[int(rng.integers(len(items)))]
        if found.speaker == own.speaker:
            return found


def joined(first: Item, second: Item) -> Item:
    """One string after another."""
    import torch

    units = torch.cat([first.units, second.units])
    codes = torch.cat([first.codes, second.codes], dim=1)
    return Item(units, codes, f"{first.text} {second.text}", second.speaker)


def acquaint_stage(stage: Stage, kind: str, first: int = 0) -> None:
    """As of `small_lm.acquaint`, where the `kind` of tokens are the codec's, from its codebook `first` on."""
    part, start = stage.vocabulary.part(kind)
    for k in range(part.codebooks):
        rows = slice(start + k * part.size, start + (k + 1) * part.size)
        small_lm.acquaint(first + k, stage.embedding.weight[rows], stage.head.weight[rows])


def acquaint_masked(network: MaskedLM) -> None:
    """As of `small_lm.acquaint`, for all codebooks."""
    size = network.shape.codebook_size
    for k in range(network.shape.codebooks):
        start = k * (size + 1)
        small_lm.acquaint(k, network.codes.weight[start : start + size], network.weight[k].mT)


def tokeniser(options: LoadOptions) -> DigitUnits:
    """The units, with this package's weights or random ones.

    Raises:
        InvalidSystem: The weights are not there.
    """
    from codecbench.models.blocks import digit_units

    network = digit_units.build(digit_units.DigitUnitsShape(UNITS), options.random_seed or 0)
    if options.random_seed is None:
        small.read(network, NAME, small.FOLDER / f"{NAME}.safetensors")
    return network


class Student(small_lm.Student):
    """A small model of units: it learns from an `Item` at a time."""

    @classmethod
    def pool(cls, data: Path, recipe: LMRecipe) -> Pool:
        """As of `small_lm.Student.pool`, with units: of each string an `Item`."""
        import torch

        from codecbench.models.blocks.masked_lm import spread

        coded, units = super().pool(data, recipe), tokeniser(LoadOptions())
        made = []
        for strings, own in zip(small_lm.strings(data, recipe), (coded.training, coded.held_out), strict=True):
            with torch.inference_mode():
                heard = [units(torch.from_numpy(strings.draw(number).samples)) for number in range(len(own))]
            made.append([
                Item(spread(said, item.codes.shape[1]).clone(), _codes(item), item.text, item.speaker)
                for said, item in zip(heard, own, strict=True)
            ])  # fmt: skip
        return replace(coded, training=made[0], held_out=made[1], facts={**coded.facts, "units": NAME})

    @classmethod
    def examples(cls, items: Sequence[Any], count: int, rng: np.random.Generator) -> list[Any]:
        """`count` of `items`, of nearly equal lengths, so that little is padded."""
        drawn = sorted(
            (items[n] for n in rng.integers(len(items), size=count * SPREAD)), key=lambda own: len(own.units)
        )
        start = int(rng.integers(len(drawn) - count + 1))
        return drawn[start : start + count]


def _codes(item: Coded) -> Tensor:
    import torch

    return torch.from_numpy(item.codes[: small_lm.CODEBOOKS]).long()


class Staged(Student, AudioLM):
    """A small model of semantic and acoustic stages."""

    zero_padded = True

    @classmethod
    def load(cls, options: LoadOptions) -> Staged:
        """Load this package's weights, a file that ``codecbench train`` wrote, or random weights."""
        import torch

        given = replace(options, weights=None)
        parts = {"stages": cls.filled(options), "units": tokeniser(given), "codec": small_lm.CODEC.filled(given)}
        return cls(torch.nn.ModuleDict(parts), options.device)

    @classmethod
    def blank(cls, seed: int) -> Any:
        """All stages with random weights."""
        return cls.language(seed)

    @classmethod
    def reach(cls) -> int:
        """Samples of the shortest clip that has a semantic token."""
        return small.HOP
