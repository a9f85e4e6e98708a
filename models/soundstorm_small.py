"""SoundStorm, small: spoken digits that go on, with all codes of a codebook in a few passes.

The semantic tokens are those of `semantic_small`, 50 a second with repetitions, one a frame of the codec. Half of the
strings that the first network learns from come with their text; in its short training it did not come to follow it, so
the model has no task with a text. All else is as of `codecbench.models.soundstorm`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from codecbench.models import semantic_small, small, small_lm
from codecbench.models.audiolm import Size
from codecbench.models.soundstorm import Conformer, SoundStorm
from codecbench.models.training.student import LMRecipe

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from codecbench.models.semantic_small import Item

JOINED = 0.3
"""Probability of a batch in which strings follow others, as in TTS they follow a prompt."""


class SmallSoundStorm(semantic_small.Staged, SoundStorm):
    """SoundStorm with 3 M parameters."""

    card = small_lm.card(
        "soundstorm-small",
        "SoundStorm",
        ("continuation",),
        "arXiv:2305.09636",
        expected_failures=semantic_small.NOISE_IS_LIKELY,
    )
    size = Size(
        dimension=128, layers=3, heads=4, units=semantic_small.UNITS, unit_hop=small.HOP,
        temperatures=(0.8, 0.8, 0.8), deduplicated=False,
    )  # fmt: skip
    conformer = Conformer(128, 4, 4, 32)
    recipe = LMRecipe(steps=600, batch=8, learning_rate=2e-3, precision="bfloat16")

    @classmethod
    def acquainted(cls, network: Any) -> None:
        """As of `small_lm.Student`."""
        semantic_small.acquaint_masked(network.acoustic)

    @classmethod
    def examples(cls, items: Sequence[Any], count: int, rng: np.random.Generator) -> list[Any]:
        """As of `semantic_small`; of one batch in three or so, another string of its speaker comes before each."""
        chosen = super().examples(items, count, rng)
        if rng.random() > JOINED:
            return chosen
        return [semantic_small.joined(semantic_small.voice(items, own, rng), own) for own in chosen]

    @classmethod
    def loss(cls, network: Any, examples: Sequence[Item], random: torch.Generator) -> dict[str, Tensor]:
        """The loss of each network. Of half of the examples, the first is not told the text."""
        import torch

        units, codes = [own.units for own in examples], [own.codes for own in examples]
        told = (torch.rand(len(examples), generator=random) < 0.5).tolist()
        texts = [_written(own.text if tell else "", own.units.device) for own, tell in zip(examples, told, strict=True)]
        found: dict[str, Tensor] = network.losses(units, codes, random, texts)
        return found


def _written(text: str, device: Any) -> dict[str, Tensor]:
    """`text`, its digits as words, as the first network reads it; nothing of none."""
    import torch

    written = small_lm.spelled(small_lm.symbols(text)).encode()
    return {"text": torch.tensor([list(written)], device=device)} if written else {}


SYSTEMS = (SmallSoundStorm,)
