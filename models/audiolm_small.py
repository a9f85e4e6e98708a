"""AudioLM, small: spoken digits that go on, in three stages.

Semantic tokens without repetitions, then the first two codebooks of the codec, then the third. The semantic tokens are
those of `semantic_small`; the third stage works on chunks of 1 s. All else is as of `codecbench.models.audiolm`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from codecbench.models import semantic_small, small, small_lm
from codecbench.models.audiolm import Size
from codecbench.models.training.student import LMRecipe

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from codecbench.models.semantic_small import Item


class SmallAudioLM(semantic_small.Staged):
    """AudioLM with 1 M parameters a stage."""

    card = small_lm.card(
        "audiolm-small",
        "AudioLM",
        ("continuation",),
        "arXiv:2209.03143",
        expected_failures=semantic_small.NOISE_IS_LIKELY,
    )
    size = Size(dimension=128, layers=3, heads=4, units=semantic_small.UNITS, unit_hop=small.HOP, coarse=2, chunk=50)
    recipe = LMRecipe(steps=500, batch=8, learning_rate=2e-3, precision="bfloat16")

    @classmethod
    def acquainted(cls, network: Any) -> None:
        """As of `small_lm.Student`."""
        semantic_small.acquaint_stage(network.coarse, "coarse")
        semantic_small.acquaint_stage(network.fine, "coarse")
        semantic_small.acquaint_stage(network.fine, "fine", cls.size.coarse)

    @classmethod
    def loss(cls, network: Any, examples: Sequence[Item], random: torch.Generator) -> dict[str, Tensor]:  # noqa: ARG003
        """The loss of each stage."""
        found: dict[str, Tensor] = network.losses([own.units for own in examples], [own.codes for own in examples])
        return found


SYSTEMS = (SmallAudioLM,)
