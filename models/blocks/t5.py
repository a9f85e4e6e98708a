"""The text encoder T5 (arXiv:1910.10683), which language models of music and sound listen to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn

from codecbench import weights
from codecbench.models.blocks.backbone import Backbone, BackboneShape

_RULES = (
    (r"^shared\.", "embedding."),
    (r"^encoder\.", "backbone."),
    (r"^backbone\.final_layer_norm\.", "backbone.norm."),
    (r"^backbone\.block\.0\.layer\.0\.SelfAttention\.relative_attention_bias\.", "backbone.distances."),
    (r"^backbone\.block\.(\d+)\.", r"backbone.layers.\1."),
    (r"\.layer\.0\.layer_norm\.", ".attention_norm."),
    (r"\.layer\.1\.layer_norm\.", ".feed_norm."),
    (r"\.layer\.0\.SelfAttention\.q\.", ".attention.query."),
    (r"\.layer\.0\.SelfAttention\.k\.", ".attention.key."),
    (r"\.layer\.0\.SelfAttention\.v\.", ".attention.value."),
    (r"\.layer\.0\.SelfAttention\.o\.", ".attention.output."),
    (r"\.layer\.1\.DenseReluDense\.wi(_1)?\.", ".feed.inner."),
    (r"\.layer\.1\.DenseReluDense\.wi_0\.", ".feed.gate."),
    (r"\.layer\.1\.DenseReluDense\.wo\.", ".feed.outer."),
)

VOCABULARY = 32_128


def shape(dimension: int, layers: int, heads: int, hidden: int | None = None) -> BackboneShape:
    """An encoder of version 1.0, four times as wide inside; or, of `hidden` channels and gated, of version 1.1."""
    return BackboneShape(
        dimension, layers, heads, hidden or 4 * dimension, norm="rms", epsilon=1e-6,
        activation="geglu" if hidden else "relu", attention_bias=False, hidden_bias=False, positions="relative",
        causal=False,
    )  # fmt: skip


BASE = shape(768, 12, 12)
LARGE = shape(1024, 24, 16)


class T5Encoder(nn.Module):
    """An embedding and a bidirectional `Backbone`."""

    def __init__(self, net: BackboneShape, vocabulary: int = VOCABULARY) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, net.dimension)
        self.backbone = Backbone(net)

    def forward(self, tokens: Tensor) -> Tensor:
        """Vectors ``[B, M, C]`` of `tokens` ``[B, M]``, none of which is padding."""
        return cast("Tensor", self.backbone(self.embedding(tokens)))


def own_names(state: Mapping[str, Tensor], net: BackboneShape) -> dict[str, Tensor]:
    """`state` of ``transformers``, whole or of the encoder alone, as that of a `T5Encoder`.

    T5 does not divide products of queries and keys by the square root of their size; the queries are scaled to undo it.
    """
    found = weights.rename_keys(state, _RULES, drop=r"^(encoder\.embed_tokens|decoder|lm_head)\.")
    for name in found:
        if name.endswith(".query.weight"):
            found[name] = found[name] * (net.dimension // net.heads) ** 0.5
    return found
