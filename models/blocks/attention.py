"""Attention over steps, with a cache of keys and values, and over a memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbench.models import cache_use
from codecbench.models.blocks.positions import rotate


class KeyValueCache:
    """The keys and values of the steps so far, of every layer and request, in memory that is taken once.

    Requests of a batch may have different numbers of steps: `lengths` ``[B]``. What lies beyond a request's length is
    padding, which no step attends to and the next steps overwrite.
    """

    def __init__(
        self, batch: int, capacity: int, *, layers: int, heads: int, size: int,
        device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, static: bool = False,
    ) -> None:  # fmt: skip
        self.static = static
        """All of it is looked at in every step, through a mask, so that no shape changes: for CUDA graphs."""
        self.keys = torch.zeros(layers, batch, heads, capacity, size, device=device, dtype=dtype)
        self.values = torch.zeros_like(self.keys)
        self._step = 2 * self.keys.nbytes // capacity if capacity else 0
        self.lengths = torch.zeros(batch, dtype=torch.long, device=device)
        self.longest = 0
        """The longest of `lengths`."""
        self.level = True
        """All requests have as many."""

    def reach(self, steps: int) -> int:
        """Steps of the longest request once `steps` more have come; ValueError if there is no room for them."""
        capacity = self.keys.shape[3]
        if self.longest + steps > capacity:
            raise ValueError(f"the cache holds {capacity} steps, too few for {steps} more after {self.longest}")
        return self.longest + steps

    def append(
        self, layer: int, keys: Tensor, values: Tensor, rows: Tensor | None, filled: int | None = None
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Write `keys` and `values` ``[B, H, F, D]`` of `layer` at `rows` ``[B, F]``; the first `filled` rows.

        None for `rows` is after all that there are, of a cache that is `level`; None for `filled` is all that there now
        are, if the new ones follow those before.
        """
        filled = self.reach(keys.shape[2]) if filled is None else filled
        if rows is None:
            self.keys[layer, :, :, filled - keys.shape[2] : filled] = keys
            self.values[layer, :, :, filled - keys.shape[2] : filled] = values
        else:
            index = rows[:, None, :, None].expand_as(keys)
            self.keys[layer].scatter_(2, index, keys)
            self.values[layer].scatter_(2, index, values)
        return self.keys[layer, :, :, :filled], self.values[layer, :, :, :filled]

    def advance(self, counts: Tensor | None, steps: int) -> None:
        """`steps` came in every layer, of which `counts` ``[B]`` are each request's own; None for all."""
        self.lengths += steps if counts is None else counts
        if counts is None:
            self.longest = self.reach(steps)
        else:
            least, self.longest = (int(end) for end in self.lengths.aminmax())
            self.level = least == self.longest
        cache_use.note(self, self.longest * self._step)

    def repeat(self, cache: KeyValueCache, rows: Tensor) -> KeyValueCache:
        """Begin with what `cache` holds, where each request here is the one there whose number `rows` ``[B]`` says."""
        self.keys[:, :, :, : cache.longest] = cache.keys[:, rows, :, : cache.longest]
        self.values[:, :, :, : cache.longest] = cache.values[:, rows, :, : cache.longest]
        self.lengths, self.longest = cache.lengths[rows], cache.longest
        self.level = cache.level
        return self


@dataclass(frozen=True)
class Memory:
    """What cross-attention looks at: every layer's keys and values ``[B, H, M, D]``, and which are not padding."""

    layers: Sequence[tuple[Tensor, Tensor]]
    visible: Tensor | None
    """``[B, 1, 1, M]``; at least one of every request. None: all are."""

    def repeat(self, rows: Tensor) -> Memory:
        """That of requests each of which is the one here whose number `rows` ``[B]`` says."""
        layers = [(keys[rows], values[rows]) for keys, values in self.layers]
        return Memory(layers, None if self.visible is None else self.visible[rows])


class Attention(nn.Module):
    """Attention of queries ``[B, F, C]`` to keys of their own or of a memory; several heads may share a key.

    Args:
        dimension: Channels of the queries and the output.
        heads: Heads of the queries.
        key_heads: Heads of the keys and values, a divisor of `heads`.
        memory: Channels of what the keys and values are made of.
        bias: All four projections add one.
        unbiased: But for these of ``query``, ``key``, ``value`` and ``output``.
    """

    def __init__(
        self, dimension: int, heads: int, key_heads: int, memory: int, *, bias: bool, unbiased: Sequence[str] = ()
    ) -> None:  # fmt: skip
        super().__init__()
        if dimension % heads or heads % key_heads:
            raise ValueError(f"{dimension} channels, {heads} heads and {key_heads} heads of keys do not divide")
        self.size = dimension // heads
        self.query = nn.Linear(dimension, dimension, bias=bias and "query" not in unbiased)
        self.key = nn.Linear(memory, key_heads * self.size, bias=bias and "key" not in unbiased)
        self.value = nn.Linear(memory, key_heads * self.size, bias=bias and "value" not in unbiased)
        self.output = nn.Linear(dimension, dimension, bias=bias and "output" not in unbiased)

    def project(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values ``[B, H, M, D]`` of `memory` ``[B, M, C]``."""
        return self._split(self.key(memory)), self._split(self.value(memory))

    def forward(
        self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, turn: Tensor | None = None
    ) -> Tensor:
        """Attend.

        Args:
            x: What asks ``[B, F, C]``.
            keys: ``[B, H, M, D]``.
            values: As the keys.
            mask: ``[B or 1, 1 or H, F or 1, M]``: what is visible (boolean), or is added to the logits; None: all is.
            turn: The rotation of the queries, as of `positions.rotation`.

        Returns:
            ``[B, F, C]``.
        """
        query = self._split(self.query(x))
        if turn is not None:
            query = rotate(query, turn)
        shared = keys.shape[1] != query.shape[1]
        out = functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask, enable_gqa=shared)
        return cast("Tensor", self.output(out.transpose(1, 2).flatten(2)))

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], -1, self.size).transpose(1, 2)
