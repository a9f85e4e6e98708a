"""Vector quantisation by nearest neighbour, and its residual cascade."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import log
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbench.models.blocks.learning import Averages, MovingAverage, Quantised, cascade, first_largest

SEARCHED_AT_ONCE = 16_384
"""Beginnings of frames: a bound on memory."""


class EuclideanCodebook(nn.Module):
    """`size` vectors of `dimension` values; a vector's code is the index of its nearest neighbour."""

    embed: Tensor
    averages: Averages | None
    norms: Tensor | None

    def __init__(self, size: int, dimension: int) -> None:
        super().__init__()
        self.register_buffer("embed", torch.zeros(size, dimension))
        self.register_buffer("norms", None, persistent=False)
        self.averages = None

    def remember_norms(self) -> None:
        """Compute once what searches need of the entries, which no longer change."""
        self.norms = self.squared_norms()

    def squared_norms(self) -> Tensor:
        """Of the entries, ``[1, size]``, in the released order of operations."""
        return self.embed.t().pow(2).sum(0, keepdim=True)

    def learn(self, rule: MovingAverage | None) -> None:
        """Let training change the entries: by moving averages, or by gradient if `rule` is None."""
        if rule is not None:
            self.averages = Averages(self.embed, rule)
            return
        entries = self.embed
        del self.embed
        self.embed = nn.Parameter(entries)

    def forward(self, x: Tensor, used: Tensor, codes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Codes ``[B, F]`` of `x` ``[B, F, D]`` (None: the nearest), and their entries ``[B, F, D]``.

        In training mode, the examples of `used` ``[B]`` then move the entries that learn by moving averages.
        """
        heard = x.detach()
        learns = self.averages is not None and self.training
        if self.averages is not None and learns:
            self.averages.start(self.embed, heard[used].flatten(0, 1))
        codes = self.encode(heard) if codes is None else codes
        entries = self.decode(codes)
        if self.averages is not None and learns:
            self.averages.update(self.embed, heard[used].flatten(0, 1), codes[used].flatten())
        return codes, entries

    def scores(self, x: Tensor) -> Tensor:
        """Negative squared distances ``[N, size]`` of `x` ``[N, D]`` to every entry.

        The order of the operations is that of the released EnCodec: another one rounds differently, and flips
        codes whose two best entries lie equally far away.
        """
        norms = self.squared_norms() if self.norms is None else self.norms
        return (x.pow(2).sum(1, keepdim=True) - 2 * x @ self.embed.t()).add_(norms).neg_()

    def encode(self, x: Tensor) -> Tensor:
        """Codes ``[...]`` of `x` ``[..., D]``."""
        return first_largest(self.scores(x.reshape(-1, x.shape[-1]))).view(x.shape[:-1])

    def decode(self, codes: Tensor) -> Tensor:
        """Vectors ``[..., D]`` of `codes` ``[...]``."""
        return functional.embedding(codes, self.embed)


class ResidualVQ(nn.Module):
    """Codebooks in cascade: each quantises what those before it left over (SoundStream, arXiv:2107.03312, alg. 1).

    With `straight_through` an entry is subtracted as ``x + (entry - x)``, as in codecs whose released encoder keeps
    the form of its training: it rounds differently, and so flips codes whose two best entries lie equally far away.

    Attributes:
        paths: More than 1 have `encode` search for better codes than the greedy ones of the releases; see `search`.
    """

    paths: int = 1

    def __init__(self, codebooks: int, size: int, dimension: int, *, straight_through: bool = False) -> None:
        super().__init__()
        self.straight_through = straight_through
        layers = nn.ModuleList(EuclideanCodebook(size, dimension) for _ in range(codebooks))
        self.layers = cast("Sequence[EuclideanCodebook]", layers)

    def encode(self, x: Tensor, codebooks: int | None = None) -> Tensor:
        """Codes ``[B, K, F]`` of `x` ``[B, D, F]`` from the first `codebooks` (None: all)."""
        residual = x.transpose(1, 2)
        if self.paths > 1:
            return search([layer.embed for layer in self.layers], residual, self.paths)[:, :codebooks]
        codes = []
        for layer in self.layers[:codebooks]:
            codes.append(layer.encode(residual))
            entry = layer.decode(codes[-1])
            residual = residual - (residual + (entry - residual) if self.straight_through else entry)
        return torch.stack(codes, dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """Sum of the entries ``[B, D, F]`` for `codes` ``[B, K, F]``; ``K`` may be any prefix of the codebooks."""
        layers = self.layers[: codes.shape[1]]
        total = torch.zeros((), device=codes.device)
        for layer, code in zip(layers, codes.unbind(1), strict=True):
            total = total + layer.decode(code)
        return total.transpose(1, 2)

    def learn(self, rule: MovingAverage | None) -> None:
        """Let training change the codebooks; see `EuclideanCodebook.learn`."""
        for layer in self.layers:
            layer.learn(rule)

    def forward(self, x: Tensor, codebooks: Tensor | None = None) -> Quantised:
        """Quantise `x` ``[B, D, F]`` in training, each example by the first of `codebooks` ``[B]`` (None: by all)."""
        codes = searched(self, x)
        return cascade([partial(_quantise, *pair) for pair in zip(self.layers, codes, strict=True)], x, codebooks)


def _quantise(
    layer: EuclideanCodebook, given: Tensor | None, x: Tensor, used: Tensor
) -> tuple[list[Tensor], Tensor]:  # fmt: skip
    codes, entries = layer(x, used, None if given is None else given[:, 0])
    return [codes], entries


class Searching(Protocol):
    """A quantiser with a number of `paths`."""

    paths: int
    layers: Sequence[Any]

    def encode(self, x: Tensor) -> Tensor:
        """Codes ``[B, K, F]`` of `x` ``[B, D, F]``."""


def searched(quantiser: Searching, x: Tensor) -> Sequence[Tensor | None]:
    """In training, the codes ``[B, groups, F]`` that every layer of `quantiser` is to take for `x` ``[B, D, F]``.

    None is for the nearest. So decoder and codebooks learn from what the codec's own encoder will choose.
    """
    if quantiser.paths == 1:
        return [None] * len(quantiser.layers)
    with torch.no_grad():
        codes = quantiser.encode(x.detach())
    return codes.chunk(len(quantiser.layers), dim=1)


def search(entries: Sequence[Tensor], x: Tensor, paths: int) -> Tensor:
    """Codes ``[B, K, F]`` of frames `x` ``[B, F, D]`` that leave less of them over than greedy ones.

    The entry that is nearest now is not always the one with which the next codebooks come nearest. So the `paths` best
    beginnings are kept from one codebook to the next (LeBlanc et al., IEEE Trans. Speech and Audio Processing 1(4),
    1993). All codebooks have a say: the codes of fewer are the first of those of all.

    Args:
        entries: Of each codebook, ``[size, D]``.
        x: The frames.
        paths: At least 1.
    """
    parts = [_search(entries, part, paths) for part in torch.split(x.flatten(0, 1), max(1, SEARCHED_AT_ONCE // paths))]
    return torch.cat(parts).view(*x.shape[:2], len(entries)).transpose(1, 2)


def _search(books: Sequence[Tensor], x: Tensor, paths: int) -> Tensor:
    codes, left = x.new_zeros(len(x), 1, 0, dtype=torch.long), x[:, None]
    for entries in books:
        # Squared distances of every beginning to every entry, from which all that come next are told.
        errors = (left.pow(2).sum(-1, keepdim=True) - 2 * left @ entries.t() + entries.pow(2).sum(1)).flatten(1)
        best = errors.topk(min(paths, errors.shape[1]), largest=False).indices
        beginning, code = best[..., None] // len(entries), best % len(entries)
        codes = torch.cat([codes.take_along_dim(beginning, 1), code[..., None]], dim=-1)
        left = left.take_along_dim(beginning, 1) - entries[code]
    return codes[:, 0]


def fill_codebooks(quantiser: ResidualVQ, x: Tensor, generator: torch.Generator) -> None:
    """Give untrained codebooks entries on which `x` ``[B, D, F]`` takes many different codes; see `fill_codebook`."""
    residual = x.transpose(1, 2).flatten(0, 1)
    for layer in quantiser.layers:
        residual = fill_codebook(layer, residual, generator)


def fill_codebook(codebook: EuclideanCodebook, x: Tensor, generator: torch.Generator) -> Tensor:
    """Give an untrained codebook entries on which `x` ``[N, D]`` takes many different codes; return what they leave.

    The entries are normal vectors with the mean of `x`, and a fraction of its deviation, in every dimension. Entries
    of another mean would all but one lie too far off to be chosen. The best of ``n`` random directions correlates
    with a vector of ``D`` dimensions by about ``sqrt(2 ln n / D)``: an entry longer than that fraction of the vector
    would add more to the residual than it takes away.
    """
    size, dimension = codebook.embed.shape
    spread = min(0.3, (2 * log(size) / dimension) ** 0.5)
    deviation, mean = torch.std_mean(x, dim=0)
    noise = torch.randn(size, dimension, generator=generator, dtype=x.dtype)
    codebook.embed.copy_(mean + spread * deviation * noise)
    return x - codebook.decode(codebook.encode(x))
