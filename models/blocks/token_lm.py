"""A language model over the frames of a residual quantiser: it predicts all codebooks of a frame at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from codecbench.models.blocks.transformer import StreamingTransformer

RELEASED_NAMES = (
    (r"^emb\.", "embeddings."),
    (r"^linears\.", "heads."),
    (r"^transformer\.norm_in\.", "transformer.norm."),
    (r"\.norm1\.", ".attention_norm."),
    (r"\.norm2\.", ".norm."),
    (r"\.self_attn\.", ".attention."),
    (r"\.linear1\.", ".inner."),
    (r"\.linear2\.", ".outer."),
)
"""Rules from the parameter names of the EnCodec release to those here."""


@dataclass(frozen=True)
class TokenLM:
    """The shape of a `TokenNetwork`; the default is that of EnCodec's.

    Attributes:
        codebooks: The most that it predicts; it also serves fewer.
        context: Frames of the past that a frame sees in each layer.
        codebook_size: Of every codebook.
        dimension, layers, heads, hidden: Of the Transformer.
    """

    codebooks: int
    context: int
    codebook_size: int = 1024
    dimension: int = 200
    layers: int = 5
    heads: int = 8
    hidden: int = 800


class TokenNetwork(nn.Module):
    """The sum of one embedding a codebook, a Transformer, and one linear layer a codebook."""

    def __init__(self, net: TokenLM) -> None:
        super().__init__()
        self.transformer = StreamingTransformer(net.dimension, net.layers, net.heads, net.hidden, net.context)
        embeddings = (nn.Embedding(net.codebook_size + 1, net.dimension) for _ in range(net.codebooks))
        self.embeddings = nn.ModuleList(embeddings)
        self.heads = nn.ModuleList(nn.Linear(net.dimension, net.codebook_size) for _ in range(net.codebooks))

    def forward(
        self, inputs: Tensor, past: Sequence[Tensor] | None = None, first: int = 0
    ) -> tuple[Tensor, list[Tensor]]:
        """Probabilities of the frames that follow `inputs`.

        Args:
            inputs: ``[B, K, F]``, the codes of each frame plus 1; 0 stands for what is before the first.
            past: The state that the frames before returned; None for none.
            first: How many frames were before.

        Returns:
            Probabilities ``[B, N, K, F]`` over codebooks of ``N`` entries, and the state that the next call takes.
        """
        codebooks = inputs.shape[1]
        embedded = [embed(codes) for embed, codes in zip(self.embeddings[:codebooks], inputs.unbind(1), strict=True)]
        x, state = self.transformer(cast("Tensor", sum(embedded)), past, first)
        logits = torch.stack([head(x) for head in self.heads[:codebooks]], dim=1)
        return torch.softmax(logits.permute(0, 3, 1, 2), dim=1), state


def build(net: TokenLM, seed: int = 0) -> TokenNetwork:
    """A model with random weights that depend on `seed` alone; torch's own random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return TokenNetwork(net)
