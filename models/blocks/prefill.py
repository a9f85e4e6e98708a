"""Which requests of a batch begin alike, so that a network hears what they begin with once for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

Beginning = TypeVar("Beginning", bound=tuple[Tensor | None, ...])
"""All that a request gives a network before the first token is drawn."""


def alike(beginnings: Sequence[Beginning]) -> tuple[list[Beginning], list[int]]:
    """The different ones of `beginnings`, and for each of all which of these it is."""
    kinds: list[Beginning] = []
    rows = []
    for beginning in beginnings:
        row = next((row for row, kind in enumerate(kinds) if all(map(_same, kind, beginning))), len(kinds))
        kinds += [beginning] if row == len(kinds) else []
        rows.append(row)
    return kinds, rows


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    return a is b or (a is not None and b is not None and a.shape == b.shape and torch.equal(a, b))
