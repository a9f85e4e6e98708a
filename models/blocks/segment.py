"""Long recordings in short overlapping segments, each coded on its own, and their overlap-add."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def layout(length: int, size: int, stride: int) -> list[tuple[int, int]]:
    """Start and end of each segment of a clip of `length` samples.

    A segment begins at every multiple of `stride` below `length`; those that the clip's end cuts are shorter
    than `size` (the last one, and at times the one before it).
    """
    return [(start, min(start + size, length)) for start in range(0, length, stride)]


def overlap_add(segments: Sequence[Tensor], spans: Sequence[tuple[int, int]]) -> Tensor:
    """Cross-fade decoded `segments` ``[B, C, T_i]``, each at least as long as its span, into ``[B, C, T]``.

    Each is weighted by a triangle, and the sum divided by the sum of weights: where one segment stands alone it
    is unchanged, where two meet they fade linearly. As in the released EnCodec, the triangle is that of the first
    segment's decoded length. Samples that a decoder adds beyond a span's end are dropped before the sum.
    """
    first = segments[0]
    position = torch.linspace(0, 1, first.shape[-1] + 2, device=first.device, dtype=first.dtype)[1:-1]
    triangle = 0.5 - (position - 0.5).abs()
    total = first.new_zeros(*first.shape[:-1], spans[-1][1])
    weights = first.new_zeros(spans[-1][1])
    for segment, (start, end) in zip(segments, spans, strict=True):
        weight = triangle[: end - start]
        total[..., start:end] += weight * segment[..., : end - start]
        weights[start:end] += weight
    return total / weights
