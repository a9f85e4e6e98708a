"""The Transformer of language models: causal, prefix-causal or bidirectional, with a cache of keys and values.

Every language model here is a configuration of it, but for EnCodec's: `transformer.StreamingTransformer` sees a limited
past, and must repeat the release's sums to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbench.models.blocks.attention import Attention, KeyValueCache, Memory
from codecbench.models.blocks.positions import PERIOD, Positions, buckets, rotate, rotation, waves


@dataclass(frozen=True)
class BackboneShape:
    """The shape of a `Backbone`.

    Attributes:
        dimension: Channels of a step.
        layers: Number of layers.
        heads: Heads of each attention.
        hidden: Channels inside a layer's feed-forward part.
        key_heads: Heads of the keys and values; None for as many as `heads`.
        norm: ``layer`` or ``rms`` normalisation, or ``adaptive``: `AdaptiveNorm`.
        norm_first: Normalise what goes into each part, else what comes out of it with its input added.
        final_norm: Normalise the output.
        norm_bias: Layer normalisation adds a bias.
        parallel: Attention and the feed-forward part hear one normalised input, and both are added to it at once.
        epsilon: Of the normalisations.
        activation: ``gelu``, ``relu``, ``swiglu`` (a gated SiLU) or ``geglu`` (a gated GELU, approximated by a tanh).
        attention_bias, hidden_bias: The linear layers of attention and of the feed-forward part add a bias.
        unbiased: Those of ``query``, ``key``, ``value`` and ``output`` that add none even so.
        cross: Every layer has cross-attention to a memory.
        memory: Channels of the memory; None for `dimension`.
        positions: How steps know where they are.
        first_place: The number of the first step, for positions that are added.
        longest: Steps that learned positions are for.
        period: Of rotary positions, as `positions.PERIOD`.
        buckets, furthest: Of relative positions, as of `positions.buckets`.
        causal: No step sees a later one, unless both are in the prefix; else all see all.
    """

    dimension: int
    layers: int
    heads: int
    hidden: int
    key_heads: int | None = None
    norm: Literal["layer", "rms", "adaptive"] = "layer"
    norm_first: bool = True
    final_norm: bool = True
    norm_bias: bool = True
    parallel: bool = False
    epsilon: float = 1e-5
    activation: Literal["gelu", "relu", "swiglu", "geglu"] = "gelu"
    attention_bias: bool = True
    hidden_bias: bool = True
    unbiased: tuple[str, ...] = ()
    cross: bool = False
    memory: int | None = None
    positions: Positions = "none"
    first_place: int = 0
    longest: int = 0
    period: float = PERIOD
    buckets: int = 32
    furthest: int = 128
    causal: bool = True


class AdaptiveNorm(nn.Module):
    """Layer normalisation, scaled and shifted as a vector says (arXiv:2301.02111, section 4.2.2)."""

    def __init__(self, dimension: int, epsilon: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dimension, eps=epsilon)
        self.project = nn.Linear(dimension, 2 * dimension)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """``[B, F, C]`` in and out; `condition` is ``[B or 1, 1, C]``."""
        scale, shift = self.project(condition).chunk(2, dim=-1)
        return cast("Tensor", scale * self.norm(x) + shift)


def _norm(shape: BackboneShape) -> nn.Module:
    if shape.norm == "adaptive":
        return AdaptiveNorm(shape.dimension, shape.epsilon)
    if shape.norm == "rms":
        return nn.RMSNorm(shape.dimension, eps=shape.epsilon)
    return nn.LayerNorm(shape.dimension, eps=shape.epsilon, bias=shape.norm_bias)


class FeedForward(nn.Module):
    """Two linear layers with an activation between, which a third may gate."""

    def __init__(self, shape: BackboneShape) -> None:
        super().__init__()
        self.activation = shape.activation
        self.inner = nn.Linear(shape.dimension, shape.hidden, bias=shape.hidden_bias)
        self.outer = nn.Linear(shape.hidden, shape.dimension, bias=shape.hidden_bias)
        if shape.activation in ("swiglu", "geglu"):
            self.gate = nn.Linear(shape.dimension, shape.hidden, bias=shape.hidden_bias)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, F, C]`` in and out."""
        hidden = self.inner(x)
        if self.activation == "swiglu":
            hidden = functional.silu(self.gate(x)) * hidden
        elif self.activation == "geglu":
            hidden = functional.gelu(self.gate(x), approximate="tanh") * hidden
        else:
            hidden = functional.gelu(hidden) if self.activation == "gelu" else functional.relu(hidden)
        return cast("Tensor", self.outer(hidden))


@dataclass(frozen=True)
class Arrangement:
    """Where steps stand that do not simply follow each other, as those of `patterns.stack` do not.

    Attributes:
        places: The number of each step ``[B, F]``, for its position.
        visible: Booleans ``[B, F, M]``: which of the cache's rows a step sees; without a cache, which of the steps.
        rows: Where the cache keeps each ``[B, F]``; no two of a request are equal.
    """

    places: Tensor
    visible: Tensor
    rows: Tensor


@dataclass(frozen=True)
class _Call:
    """What all layers share in one call."""

    rows: Tensor | None
    """Where the cache keeps each step ``[B, F]``; None: after those before, in all requests alike."""
    filled: int
    """Rows of the cache that are looked at."""
    mask: Tensor | None
    turn: Tensor | None
    cache: KeyValueCache | None
    memory: Memory | None
    condition: Tensor | None

    def norm(self, norm: nn.Module, x: Tensor) -> Tensor:
        """`x` normalised, as the condition says if there is one."""
        return cast("Tensor", norm(x) if self.condition is None else norm(x, self.condition))


class BackboneLayer(nn.Module):
    """Self-attention, cross-attention to a memory if there is one, and feed-forward; each is added to its input."""

    def __init__(self, shape: BackboneShape) -> None:
        super().__init__()
        self.norm_first, self.parallel = shape.norm_first, shape.parallel
        size, heads = shape.dimension, shape.heads
        bias, unbiased = shape.attention_bias, shape.unbiased
        self.attention = Attention(size, heads, shape.key_heads or heads, size, bias=bias, unbiased=unbiased)
        self.attention_norm = _norm(shape)
        if shape.cross:
            self.cross = Attention(size, heads, heads, shape.memory or size, bias=shape.attention_bias)
            self.cross_norm = _norm(shape)
        self.feed = FeedForward(shape)
        if not shape.parallel:
            self.feed_norm = _norm(shape)

    def forward(self, x: Tensor, index: int, call: _Call) -> Tensor:
        """Run over `x` ``[B, F, C]`` as the layer number `index`."""
        normed = call.norm(self.attention_norm, x) if self.norm_first else x
        keys, values = self.attention.project(normed)
        if call.turn is not None:
            keys = rotate(keys, call.turn)
        if call.cache is not None:
            keys, values = call.cache.append(index, keys, values, call.rows, call.filled)
        if self.parallel:
            return cast("Tensor", x + self.attention(normed, keys, values, call.mask, call.turn) + self.feed(normed))
        x = x + self.attention(normed, keys, values, call.mask, call.turn)
        x = x if self.norm_first else call.norm(self.attention_norm, x)
        if call.memory is not None:
            normed = call.norm(self.cross_norm, x) if self.norm_first else x
            x = x + self.cross(normed, *call.memory.layers[index], call.memory.visible)
            x = x if self.norm_first else call.norm(self.cross_norm, x)
        if self.norm_first:
            return cast("Tensor", x + self.feed(call.norm(self.feed_norm, x)))
        return call.norm(self.feed_norm, x + self.feed(x))


class Backbone(nn.Module):
    """`BackboneLayer` in a row.

    A request's output does not depend on the others of its batch, nor on how its steps are split into calls with a
    cache, but for rounding.
    """

    def __init__(self, shape: BackboneShape) -> None:
        super().__init__()
        self.shape = shape
        self.layers = nn.ModuleList(BackboneLayer(shape) for _ in range(shape.layers))
        self.norm = _norm(shape) if shape.final_norm else nn.Identity()
        self.static = False
        """The caches are, as of `KeyValueCache`."""
        if shape.positions == "learned":
            self.places = nn.Embedding(shape.first_place + shape.longest, shape.dimension)
        if shape.positions == "relative":
            self.distances = nn.Embedding(shape.buckets, shape.heads)

    def cache(self, batch: int, capacity: int) -> KeyValueCache:
        """An empty cache for `batch` requests of up to `capacity` steps."""
        shape = self.shape
        like = next(self.parameters())
        return KeyValueCache(
            batch, capacity, layers=shape.layers, heads=shape.key_heads or shape.heads,
            size=shape.dimension // shape.heads, device=like.device, dtype=like.dtype, static=self.static,
        )  # fmt: skip

    def memory(self, memory: Tensor, counts: Tensor | None = None) -> Memory:
        """The keys and values of `memory` ``[B, M, C]``, once for all calls.

        Args:
            memory: What cross-attention looks at, padded at its end.
            counts: How many of a request's ``M`` are not padding ``[B]``, 1 at least; None for all.
        """
        layers = [cast("BackboneLayer", layer).cross.project(memory) for layer in self.layers]
        if counts is None or int(counts.min()) == memory.shape[1]:
            return Memory(layers, None)
        visible = torch.arange(memory.shape[1], device=memory.device) < counts[:, None]
        return Memory(layers, visible[:, None, None])

    def forward(
        self, x: Tensor, *, cache: KeyValueCache | None = None, counts: Tensor | None = None,
        prefix: Tensor | None = None, memory: Memory | None = None, condition: Tensor | None = None,
        arrangement: Arrangement | None = None,
    ) -> Tensor:  # fmt: skip
        """Run over the steps `x`.

        Args:
            x: Steps ``[B, F, C]`` that follow those in `cache`, padded at their end.
            cache: Takes these steps too. Of a model that is not causal, it holds whole sequences only.
            counts: How many of a request's ``F`` steps are not padding ``[B]``; None for all.
            prefix: How many of a request's steps ``[B]``, of all calls together, see each other whatever their order;
                the first call has them all.
            memory: What `memory` returned, if there is cross-attention; None leaves it out.
            condition: Vectors ``[B or 1, 1, C]`` for norms that are ``adaptive``.
            arrangement: Where the steps stand, in place of all that follows from their order, `counts` and `prefix`.
                The caller then keeps count of what the cache holds. Not with relative or learned positions.

        Returns:
            ``[B, F, C]``; that of padding means nothing.
        """
        if arrangement is not None:
            return self._arranged(x, arrangement, cache, memory, condition)
        batch, steps, _ = x.shape
        reached = steps if cache is None else cache.reach(steps)
        if self.shape.positions == "learned" and reached > self.shape.longest:
            raise ValueError(f"{reached} steps, where the model has positions for {self.shape.longest}")
        static = cache is not None and cache.static
        filled = cache.keys.shape[3] if cache is not None and static else reached
        level = counts is None and not static and (cache is None or cache.level)
        if level:
            places = torch.arange(reached - steps, reached, device=x.device)[None]
        else:
            start = torch.zeros(batch, dtype=torch.long, device=x.device) if cache is None else cache.lengths
            places = start[:, None] + torch.arange(steps, device=x.device)
        mask = None
        if not (level and steps == 1) or self.shape.positions == "relative":  # the latest of all sees all
            ends = places[:, 0] + (steps if counts is None else counts)
            mask = self._mask(places, ends, prefix, filled, x.dtype)
        rows = None if level else places
        x = self.run(x, places, _Call(rows, filled, mask, self._turn(places), cache, memory, condition))
        if cache is not None:
            cache.advance(counts, steps)
        return x

    def _arranged(
        self, x: Tensor, where: Arrangement, cache: KeyValueCache | None, memory: Memory | None,
        condition: Tensor | None,
    ) -> Tensor:  # fmt: skip
        if self.shape.positions in ("relative", "learned"):
            raise ValueError(f"steps cannot be arranged where positions are {self.shape.positions}")
        turn, mask = self._turn(where.places), where.visible[:, None]
        call = _Call(where.rows, where.visible.shape[-1], mask, turn, cache, memory, condition)
        return self.run(x, where.places, call)

    def run(self, x: Tensor, places: Tensor, call: _Call) -> Tensor:
        """All layers, on `x` ``[B, F, C]`` at `places` ``[B or 1, F]``."""
        x = self._placed(x, places)
        for index, layer in enumerate(self.layers):
            x = layer(x, index, call)
        return call.norm(self.norm, x) if self.shape.final_norm else x

    def _turn(self, places: Tensor) -> Tensor | None:
        shape = self.shape
        rotary = shape.positions == "rotary"
        return rotation(places, shape.dimension // shape.heads, shape.period) if rotary else None

    def _placed(self, x: Tensor, places: Tensor) -> Tensor:
        shape, places = self.shape, places + self.shape.first_place
        if shape.positions == "learned":
            return cast("Tensor", x + self.places(places))
        if shape.positions in ("cos_sin", "sin_cos"):
            added = waves(places, shape.dimension, cosines_first=shape.positions == "cos_sin")
            return x + added.to(x.dtype)
        return x

    def _mask(self, places: Tensor, ends: Tensor, prefix: Tensor | None, filled: int, dtype: torch.dtype) -> Tensor:
        """What steps at `places` see of the first `filled`: boolean ``[B, 1, F, M]``, or biases ``[B, H, F, M]``."""
        last = places if self.shape.causal else (ends - 1)[:, None].expand_as(places)
        if prefix is not None:
            last = torch.maximum(last, prefix[:, None] - 1)
        keys = torch.arange(filled, device=places.device)
        visible = (keys <= last[..., None])[:, None]
        if self.shape.positions != "relative":
            return visible
        distance = keys - places[..., None]
        found = buckets(distance, self.shape.buckets, self.shape.furthest, both_ways=not self.shape.causal)
        bias = self.distances(found).permute(0, 3, 1, 2).to(dtype)
        return cast("Tensor", bias.masked_fill(~visible, float("-inf")))


def split_packed(state: dict[str, Tensor], packed: str, names: Sequence[str]) -> dict[str, Tensor]:
    """`state` with every tensor whose name ends in `packed` split, along its first axis, into equal parts `names`."""
    found = {}
    for name, tensor in state.items():
        if name.endswith(packed):
            stem = name.removesuffix(packed)
            parts = tensor.chunk(len(names))
            found.update({stem + part: value for part, value in zip(names, parts, strict=True)})
        else:
            found[name] = tensor
    return found
