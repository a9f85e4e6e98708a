"""Residual quantisation in groups of channels (HiFi-Codec, arXiv:2305.02765)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from codecbench.models.blocks.learning import MovingAverage, Quantised, cascade
from codecbench.models.blocks.quantise import EuclideanCodebook, fill_codebook, search, searched


class _Codebook(EuclideanCodebook):
    def scores(self, x: Tensor) -> Tensor:
        """Negative squared distances ``[N, size]`` of `x` ``[N, D]``, rounded as the released HiFi-Codec does."""
        norms = self.squared_norms() if self.norms is None else self.norms
        return (x.pow(2).sum(1, keepdim=True) + norms).sub_(2 * (x @ self.embed.t())).neg_()

    def squared_norms(self) -> Tensor:
        """Of the entries, ``[size]``."""
        return self.embed.pow(2).sum(1)


class GroupedResidualVQ(nn.Module):
    """Layers in cascade, each with one codebook for every group of channels.

    The ``K = layers * groups`` streams of codes are those of the first layer's groups, then those of the second's.
    `paths` as in `ResidualVQ`.
    """

    paths: int = 1

    def __init__(self, layers: int, groups: int, size: int, dimension: int) -> None:
        super().__init__()
        if dimension % groups:
            raise ValueError(f"{dimension} channels cannot be split into {groups} equal groups")
        books = (nn.ModuleList(_Codebook(size, dimension // groups) for _ in range(groups)) for _ in range(layers))
        self.layers = cast("Sequence[Sequence[EuclideanCodebook]]", nn.ModuleList(books))

    def encode(self, x: Tensor) -> Tensor:
        """Codes ``[B, K, F]`` of `x` ``[B, D, F]``."""
        if self.paths > 1:
            parts = enumerate(x.transpose(1, 2).chunk(len(self.layers[0]), -1))
            each = [search([layer[group].embed for layer in self.layers], part, self.paths) for group, part in parts]
            return torch.stack(each, dim=2).flatten(1, 2)
        residual = x
        codes: list[Tensor] = []
        for layer in self.layers:
            frames = residual.transpose(1, 2)
            found = [book.encode(part) for book, part in zip(layer, frames.chunk(len(layer), -1), strict=True)]
            # The release subtracts the entry in the form of its training; the entry itself would round differently.
            entry = frames + (_entry(layer, found) - frames)
            residual = residual - entry.transpose(1, 2)
            codes += found
        return torch.stack(codes, dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """Sum of the layers' entries ``[B, D, F]`` for `codes` ``[B, K, F]`` of all codebooks."""
        total = torch.zeros((), device=codes.device)
        streams = codes.chunk(len(self.layers), dim=1)
        for layer, found in zip(self.layers, streams, strict=True):
            total = total + _entry(layer, found.unbind(1))
        return total.transpose(1, 2)

    def learn(self, rule: MovingAverage | None) -> None:
        """Let training change the codebooks; see `EuclideanCodebook.learn`."""
        for layer in self.layers:
            for book in layer:
                book.learn(rule)

    def forward(self, x: Tensor, codebooks: Tensor | None = None) -> Quantised:
        """Quantise `x` ``[B, D, F]`` in training, each example by the first of `codebooks` ``[B]`` (None: by all).

        A layer's groups are used together or not at all, so those numbers are multiples of the groups.
        """
        layers = [partial(_quantise, *pair) for pair in zip(self.layers, searched(self, x), strict=True)]
        return cascade(layers, x, codebooks, groups=len(self.layers[0]))

    def fill(self, x: Tensor, generator: torch.Generator) -> None:
        """Give untrained codebooks entries on which `x` ``[B, D, F]`` takes many different codes."""
        residual = x.transpose(1, 2).flatten(0, 1)
        for layer in self.layers:
            parts = zip(layer, residual.chunk(len(layer), -1), strict=True)
            residual = torch.cat([fill_codebook(book, part, generator) for book, part in parts], dim=-1)


def _entry(layer: Sequence[EuclideanCodebook], codes: Sequence[Tensor]) -> Tensor:
    """Vectors ``[B, F, D]`` of one layer for `codes`, ``[B, F]`` for each group."""
    return torch.cat([book.decode(code) for book, code in zip(layer, codes, strict=True)], dim=-1)


def _quantise(
    layer: Sequence[EuclideanCodebook], given: Tensor | None, x: Tensor, used: Tensor
) -> tuple[tuple[Tensor, ...], Tensor]:  # fmt: skip
    own = [None] * len(layer) if given is None else given.unbind(1)
    parts = zip(layer, x.chunk(len(layer), -1), own, strict=True)
    pairs = (book(part, used, codes) for book, part, codes in parts)
    codes, entries = zip(*pairs, strict=True)
    return codes, torch.cat(entries, dim=-1)
