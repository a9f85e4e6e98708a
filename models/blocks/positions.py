"""How a Transformer knows where a step is: waves that are added, learned vectors, rotations, and biases of distance."""

from __future__ import annotations

from math import log
from typing import Literal

import torch
from torch import Tensor

Positions = Literal["none", "cos_sin", "sin_cos", "learned", "rotary", "relative"]

PERIOD = 10_000.0
"""Of the slowest wave, in steps over 2π."""


def waves(places: Tensor, dimension: int, *, cosines_first: bool) -> Tensor:
    """Half cosines, half sines ``[..., D]`` of `places` ``[...]``, with periods from 2π to `PERIOD` times that.

    In single precision whatever the model's: the phases of far steps have no digits to spare.
    """
    half = dimension // 2
    rates = torch.exp(torch.arange(half, device=places.device).float() * (-log(PERIOD) / (half - 1)))
    phase = places[..., None].float() * rates
    parts = (phase.cos(), phase.sin()) if cosines_first else (phase.sin(), phase.cos())
    return torch.cat(parts, dim=-1)


def interleaved(places: Tensor, dimension: int) -> Tensor:
    """Sines and cosines in turn ``[..., D]`` of `places` ``[...]`` (arXiv:1706.03762, section 3.5); as `waves` else."""
    rates = torch.exp(torch.arange(0, dimension, 2, device=places.device).float() * (-log(PERIOD) / dimension))
    phase = places[..., None].float() * rates
    return torch.stack([phase.sin(), phase.cos()], dim=-1).flatten(-2)


def rotation(places: Tensor, size: int, period: float = PERIOD) -> Tensor:
    """Cosines and sines ``[2, B, 1, F, D / 2]`` by which heads turn at `places` ``[B, F]`` (arXiv:2104.09864)."""
    rates = 1.0 / period ** (torch.arange(0, size, 2, device=places.device).float() / size)
    phase = places[:, None, :, None].float() * rates
    return torch.stack([phase.cos(), phase.sin()])


def rotate(x: Tensor, turn: Tensor) -> Tensor:
    """Turn `x` ``[B, H, F, D]``: channel ``j`` of its first half with channel ``j`` of its second."""
    cos, sin = turn.to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def buckets(distance: Tensor, count: int, furthest: int, *, both_ways: bool) -> Tensor:
    """The bucket of each `distance` from a query to a key (arXiv:1910.10683, section 2.1).

    Half of the buckets are for one distance each, the others for logarithmically growing ranges up to `furthest`; all
    beyond share the last. With `both_ways`, keys after the query have buckets of their own, else they share bucket 0.
    """
    first = torch.zeros_like(distance)
    if both_ways:
        count //= 2
        first = torch.where(distance > 0, count, 0)
    past = distance.abs() if both_ways else (-distance).clamp(min=0)
    exact = count // 2
    log_steps = torch.log(past.float().clamp(min=1) / exact) / log(furthest / exact) * (count - exact)
    far = (exact + log_steps.long()).clamp(max=count - 1)
    return first + torch.where(past < exact, past, far)
