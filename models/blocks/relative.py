"""Transformers and Conformers with the relative positions of Transformer-XL (arXiv:1901.02860, section 3.3), or waves.

The networks of LauraTTS are configurations of it, and so is LauraGPT's encoder of audio (arXiv:2310.04673).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbench.models.blocks.attention import KeyValueCache
from codecbench.models.blocks.positions import PERIOD

RELEASED_NAMES = (
    (r"^embed\.0\.", "into."),
    (r"^embed\.1\.", "into_norm."),
    (r"^encoders\.", "layers."),
    (r"^after_norm\.", "norm."),
    (r"\.self_attn\.linear_q\.", ".attention.query."),
    (r"\.self_attn\.linear_k\.", ".attention.key."),
    (r"\.self_attn\.linear_v\.", ".attention.value."),
    (r"\.self_attn\.linear_out\.", ".attention.output."),
    (r"\.self_attn\.linear_pos\.", ".attention.distance."),
    (r"\.self_attn\.pos_bias_u$", ".attention.content_bias"),
    (r"\.self_attn\.pos_bias_v$", ".attention.distance_bias"),
    (r"\.feed_forward\.w_1\.", ".feed.0."),
    (r"\.feed_forward\.w_2\.", ".feed.2."),
    (r"\.(norm1|norm_mha)\.", ".attention_norm."),
    (r"\.(norm2|norm_ff)\.", ".feed_norm."),
)
"""Rules from the parameter names of FunCodec's encoders to those here."""
EPSILON = 1e-12
"""Of all normalisations but the first."""


@dataclass(frozen=True)
class RelativeShape:
    """The shape of a `RelativeTransformer`.

    Attributes:
        channels: Of what goes in.
        dimension, layers, heads, hidden: Of the Transformer.
        activation: Of the feed-forward parts.
        rectified: What goes in passes a ReLU after its normalisation.
        causal: No step sees a later one, unless both are in the prefix; else all see all.
        relative: Attention depends on distances; else waves are added to what goes in.
        kernel: Of the convolution of a Conformer (arXiv:2005.08100), whose layers begin with half of a feed-forward
            part and end with the other half; 0 for a Transformer.
    """

    channels: int
    dimension: int
    layers: int
    heads: int
    hidden: int
    activation: Literal["relu", "silu"] = "silu"
    rectified: bool = False
    causal: bool = False
    relative: bool = True
    kernel: int = 0


class RelativeAttention(nn.Module):
    """Attention whose logits may also depend on the distance from the query to the key, and on what the query is."""

    def __init__(self, dimension: int, heads: int, *, relative: bool) -> None:
        super().__init__()
        self.heads, self.relative = heads, relative
        self.query, self.key, self.value, self.output = (nn.Linear(dimension, dimension) for _ in range(4))
        if not relative:
            return
        self.distance = nn.Linear(dimension, dimension, bias=False)
        self.content_bias = nn.Parameter(torch.empty(heads, dimension // heads))
        self.distance_bias = nn.Parameter(torch.empty(heads, dimension // heads))
        nn.init.xavier_uniform_(self.content_bias)
        nn.init.xavier_uniform_(self.distance_bias)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values ``[B, H, F, D]`` of `x` ``[B, F, C]``."""
        return self._split(self.key(x)), self._split(self.value(x))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, where: _Where) -> Tensor:
        """``[B, F, C]`` of queries `x` ``[B, F, C]``."""
        query, mask = self._split(self.query(x)), where.visible[:, None]
        if self.relative:
            mask = self._bias(query, where).masked_fill(~mask, float("-inf"))
            query = query + self.content_bias[:, None]
        out = functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
        return cast("Tensor", self.output(out.transpose(1, 2).flatten(2)))

    def _bias(self, query: Tensor, where: _Where) -> Tensor:
        """What distances add to the logits ``[B, H, F, M]``."""
        waves = self._split(self.distance(where.waves[None]))
        by_distance = (query + self.distance_bias[:, None]) @ waves.mT
        index = where.index[:, None].expand(-1, self.heads, -1, -1)
        return cast("Tensor", by_distance.gather(-1, index) * query.shape[-1] ** -0.5)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # type: ignore[no-untyped-call, no-any-return]


@dataclass(frozen=True)
class _Where:
    """What all layers share: who sees whom ``[B, F, M]``, and at which distance."""

    places: Tensor
    """Number of each step ``[B, F]``."""
    visible: Tensor
    waves: Tensor
    """Of every distance there is ``[R, C]``."""
    index: Tensor
    """Which distance is from each query to each key ``[B, F, M]``."""


class _Convolution(nn.Module):
    """The convolution of a Conformer: gated, along steps channel by channel, normalised by step."""

    def __init__(self, dimension: int, kernel: int) -> None:
        super().__init__()
        self.gated = nn.Linear(dimension, 2 * dimension)
        self.along = nn.Conv1d(dimension, dimension, kernel, padding=kernel // 2, groups=dimension)
        self.norm = nn.LayerNorm(dimension, eps=EPSILON)
        self.out = nn.Linear(dimension, dimension)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.glu(self.gated(x), dim=-1)
        x = functional.silu(self.norm(self.along(x.mT).mT))
        return cast("Tensor", self.out(x))


class _Layer(nn.Module):
    def __init__(self, shape: RelativeShape) -> None:
        super().__init__()
        size = shape.dimension
        self.weight = 0.5 if shape.kernel else 1.0
        self.attention = RelativeAttention(size, shape.heads, relative=shape.relative)
        self.attention_norm = nn.LayerNorm(size, eps=EPSILON)
        self.feed, self.feed_norm = _feed(shape), nn.LayerNorm(size, eps=EPSILON)
        if shape.kernel:
            self.first, self.first_norm = _feed(shape), nn.LayerNorm(size, eps=EPSILON)
            self.convolution = _Convolution(size, shape.kernel)
            self.convolution_norm = nn.LayerNorm(size, eps=EPSILON)
            self.last_norm = nn.LayerNorm(size, eps=EPSILON)
        self.conformer = bool(shape.kernel)

    def forward(self, x: Tensor, index: int, where: _Where, cache: KeyValueCache | None) -> Tensor:
        if self.conformer:
            x = x + self.weight * self.first(self.first_norm(x))
        normed = self.attention_norm(x)
        keys, values = self.attention.project(normed)
        if cache is not None:
            keys, values = cache.append(index, keys, values, where.places)
        x = x + self.attention(normed, keys, values, where)
        if self.conformer:
            x = x + self.convolution(self.convolution_norm(x))
        x = x + self.weight * self.feed(self.feed_norm(x))
        return cast("Tensor", self.last_norm(x)) if self.conformer else x


def _feed(shape: RelativeShape) -> nn.Sequential:
    activation = nn.SiLU() if shape.activation == "silu" else nn.ReLU()
    return nn.Sequential(nn.Linear(shape.dimension, shape.hidden), activation, nn.Linear(shape.hidden, shape.dimension))


class RelativeTransformer(nn.Module):
    """Vectors in, normalised vectors of the Transformer out."""

    def __init__(self, shape: RelativeShape) -> None:
        super().__init__()
        self.shape = shape
        self.into = nn.Linear(shape.channels, shape.dimension)
        self.into_norm = nn.LayerNorm(shape.dimension)
        self.layers = nn.ModuleList(_Layer(shape) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.dimension, eps=EPSILON)

    def cache(self, batch: int, capacity: int) -> KeyValueCache:
        """An empty cache for `batch` requests of up to `capacity` steps; not of a Conformer."""
        shape, like = self.shape, self.into.weight
        return KeyValueCache(
            batch, capacity, layers=shape.layers, heads=shape.heads, size=shape.dimension // shape.heads,
            device=like.device, dtype=like.dtype,
        )  # fmt: skip

    def forward(
        self, x: Tensor, *, counts: Tensor | None = None, prefix: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:  # fmt: skip
        """Run over the steps `x`.

        Args:
            x: Steps ``[B, F, C]`` that follow those in `cache`, padded at their end. A Conformer takes one request.
            counts: How many of a request's ``F`` steps are not padding ``[B]``; None for all.
            prefix: How many of a request's steps ``[B]``, of all calls together, see each other whatever their order;
                the first call has them all.
            cache: Takes these steps too.

        Returns:
            ``[B, F, dimension]``; that of padding means nothing.
        """
        where = self._where(x, counts, prefix, cache)
        x = self.into_norm(self.into(x))
        x = (x.relu() if self.shape.rectified else x) * self.shape.dimension**0.5
        if not self.shape.relative:
            x = x + interleaved_waves(where.places, self.shape.dimension).to(x.dtype)
        for index, layer in enumerate(self.layers):
            x = layer(x, index, where, cache)
        if cache is not None:
            cache.advance(counts, x.shape[1])
        return cast("Tensor", self.norm(x))

    def _where(self, x: Tensor, counts: Tensor | None, prefix: Tensor | None, cache: KeyValueCache | None) -> _Where:
        batch, steps, _ = x.shape
        start = torch.zeros(batch, dtype=torch.long, device=x.device) if cache is None else cache.lengths
        filled = steps if cache is None else cache.reach(steps)
        places = start[:, None] + torch.arange(steps, device=x.device)
        ends = start + (steps if counts is None else counts)
        last = places if self.shape.causal else (ends - 1)[:, None].expand_as(places)
        if prefix is not None:
            last = torch.maximum(last, prefix[:, None] - 1)
        keys = torch.arange(filled, device=x.device)
        distances = torch.arange(1 - filled, filled, device=x.device)
        index = (places[..., None] - keys + filled - 1).clamp(0, 2 * filled - 2)  # padding may be further away
        return _Where(
            places, keys <= last[..., None], interleaved_waves(distances, self.shape.dimension).to(x.dtype), index
        )


def interleaved_waves(places: Tensor, dimension: int) -> Tensor:
    """Sines and cosines ``[..., D]`` of `places`, in turn, with rates that fall to one over `PERIOD`."""
    rates = PERIOD ** (-torch.arange(0, dimension, 2, device=places.device).float() / dimension)
    phase = places[..., None].float() * rates
    return torch.stack([phase.sin(), phase.cos()], dim=-1).flatten(-2)
