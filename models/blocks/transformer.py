"""A Transformer that runs over time step by step, and sees a limited past."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

PERIOD = 10_000.0
"""Of the slowest cosine of the positions, in steps over 2π."""


class TransformerLayer(nn.Module):
    """Self-attention and two linear layers with a GELU between; each is added to its input, then normalised."""

    def __init__(self, dimension: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dimension, heads, batch_first=True)
        self.attention_norm = nn.LayerNorm(dimension)
        self.inner = nn.Linear(dimension, hidden)
        self.outer = nn.Linear(hidden, dimension)
        self.norm = nn.LayerNorm(dimension)

    def forward(self, x: Tensor, past: Tensor, context: int) -> Tensor:
        """Run over steps `x` ``[B, F, D]`` that follow `past` ``[B, P, D]``, each seeing `context` steps before it."""
        steps = torch.cat([past, x], dim=1)
        age = torch.arange(past.shape[1], steps.shape[1], device=x.device)[:, None] - torch.arange(
            steps.shape[1], device=x.device
        )
        hidden = (age < 0) | (age > context)
        x = self.attention_norm(x + self.attention(x, steps, steps, attn_mask=hidden, need_weights=False)[0])
        return cast("Tensor", self.norm(x + self.outer(functional.gelu(self.inner(x)))))


class StreamingTransformer(nn.Module):
    """`TransformerLayer` in a row, over normalised steps with their positions.

    What came before the first step is one step of zeros, which is attended to like any other. The state holds each
    layer's inputs, not their keys and values: the sums of the release are so repeated in their order, and
    probabilities are equal to the last bit.
    """

    def __init__(self, dimension: int, layers: int, heads: int, hidden: int, context: int) -> None:
        super().__init__()
        self.context = context
        self.norm = nn.LayerNorm(dimension)
        rows = nn.ModuleList(TransformerLayer(dimension, heads, hidden) for _ in range(layers))
        self.layers = cast("Sequence[TransformerLayer]", rows)

    def forward(self, x: Tensor, past: Sequence[Tensor] | None = None, first: int = 0) -> tuple[Tensor, list[Tensor]]:
        """Run over the steps `x` ``[B, F, D]``, of which the first is number `first` of the whole.

        Args:
            x: The steps.
            past: The state that the steps before returned; None for none.
            first: How many steps were before.

        Returns:
            The output ``[B, F, D]``, and the state that the next call takes.
        """
        zeros = torch.zeros_like(x[:, :1])
        x = self.norm(x) + positions(first, x.shape[1], x.shape[2]).to(x)
        state = []
        for k, layer in enumerate(self.layers):
            before = past[k] if past else zeros
            state.append(torch.cat([before, x], dim=1)[:, -self.context :])
            x = layer(x, before, self.context)
        return x, state


def positions(first: int, steps: int, dimension: int) -> Tensor:
    """Cosines, then sines ``[1, F, D]``, of the positions from `first`, with periods from 2π to `PERIOD` times that."""
    half = dimension // 2
    place = torch.arange(first, first + steps).view(1, -1, 1)
    phase = place / PERIOD ** (torch.arange(half).view(1, 1, -1) / (half - 1))
    return torch.cat([phase.cos(), phase.sin()], dim=-1)
