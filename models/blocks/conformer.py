"""The Conformer (arXiv:2005.08100) as in open implementations of SoundStorm: bidirectional, with rotary positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbench.models.blocks.positions import rotate, rotation


@dataclass(frozen=True)
class ConformerShape:
    """The shape of a `Conformer`.

    Attributes:
        dimension: Channels of a frame.
        layers: Number of layers.
        heads: Heads of each attention.
        head_size: Channels of each head.
        kernel: Frames that the convolution of a layer sees.
    """

    dimension: int
    layers: int
    heads: int
    head_size: int
    kernel: int


class SelfAttention(nn.Module):
    """Attention of every frame to every frame."""

    def __init__(self, shape: ConformerShape) -> None:
        super().__init__()
        self.size, inner = shape.head_size, shape.heads * shape.head_size
        self.query = nn.Linear(shape.dimension, inner, bias=False)
        self.key_value = nn.Linear(shape.dimension, 2 * inner, bias=False)
        self.output = nn.Linear(inner, shape.dimension)

    def forward(self, x: Tensor, turn: Tensor, visible: Tensor | None) -> Tensor:
        """``[B, F, C]`` in and out; see `Conformer.forward`."""
        parts = [self.query(x), *self.key_value(x).chunk(2, dim=-1)]
        query, key, value = (part.unflatten(-1, (-1, self.size)).transpose(1, 2) for part in parts)
        mask = None if visible is None else visible[:, None, None]
        found = functional.scaled_dot_product_attention(rotate(query, turn), rotate(key, turn), value, attn_mask=mask)
        return cast("Tensor", self.output(found.transpose(1, 2).flatten(2)))


class Convolution(nn.Module):
    """A gated linear layer, a convolution of each channel over frames, and a linear layer."""

    def __init__(self, shape: ConformerShape) -> None:
        super().__init__()
        inner, kernel = 2 * shape.dimension, shape.kernel
        self.around = kernel // 2, (kernel - 1) // 2
        self.gated = nn.Linear(shape.dimension, 2 * inner)
        self.depthwise = nn.Conv1d(inner, inner, kernel, groups=inner)
        self.gain = nn.Parameter(torch.ones(inner))
        self.output = nn.Linear(inner, shape.dimension)

    def forward(self, x: Tensor, visible: Tensor | None) -> Tensor:
        """``[B, F, C]`` in and out; see `Conformer.forward`."""
        x = functional.glu(self.gated(x), dim=-1)
        if visible is not None:
            x = x * visible[..., None]
        x = functional.silu(self.depthwise(functional.pad(x.mT, self.around)).mT)
        variance, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
        return cast("Tensor", self.output((x - mean) * variance.clamp(min=1e-6).rsqrt() * self.gain))


class ConformerLayer(nn.Module):
    """Half a feed-forward part, attention, convolution, and half a feed-forward part; each is added to its input."""

    def __init__(self, shape: ConformerShape) -> None:
        super().__init__()
        channels = shape.dimension
        self.first_norm, self.first = nn.LayerNorm(channels), _feed_forward(channels)
        self.attention_norm, self.attention = nn.LayerNorm(channels), SelfAttention(shape)
        self.convolution_norm, self.convolution = nn.LayerNorm(channels), Convolution(shape)
        self.last_norm, self.last = nn.LayerNorm(channels), _feed_forward(channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor, turn: Tensor, visible: Tensor | None) -> Tensor:
        """``[B, F, C]`` in and out; see `Conformer.forward`."""
        x = x + 0.5 * self.first(self.first_norm(x))
        x = x + self.attention(self.attention_norm(x), turn, visible)
        x = x + self.convolution(self.convolution_norm(x), visible)
        x = x + 0.5 * self.last(self.last_norm(x))
        return cast("Tensor", self.norm(x))


def _feed_forward(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels, 4 * channels), nn.SiLU(), nn.Linear(4 * channels, channels))


class Conformer(nn.Module):
    """`ConformerLayer` in a row."""

    def __init__(self, shape: ConformerShape) -> None:
        super().__init__()
        self.shape = shape
        self.layers = nn.ModuleList(ConformerLayer(shape) for _ in range(shape.layers))

    def forward(self, x: Tensor, visible: Tensor | None = None) -> Tensor:
        """Run over frames ``[B, F, C]``; `visible` ``[B, F]`` says which are no padding, None that none is."""
        turn = rotation(torch.arange(x.shape[1], device=x.device)[None], self.shape.head_size)
        for layer in self.layers:
            x = layer(x, turn, visible)
        return x
