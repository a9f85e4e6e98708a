"""A small encoder of text that learns together with the model that listens to it, where others have T5."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from codecbench.models.blocks.backbone import Backbone, BackboneShape


class LearntText(nn.Module):
    """An embedding, and a Transformer in which all symbols see each other.

    Args:
        size: How many ids there are.
        dimension, layers, heads: Of the Transformer.
    """

    def __init__(self, size: int, dimension: int, layers: int, heads: int) -> None:
        super().__init__()
        self.symbols = nn.Embedding(size, dimension)
        shape = BackboneShape(dimension, layers, heads, 4 * dimension, positions="cos_sin", causal=False)
        self.backbone = Backbone(shape)

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors ``[M, C]`` of `ids` ``[M]``."""
        return cast("Tensor", self.backbone(self.symbols(ids)[None])[0])
