"""Factorised vector quantisation: the nearest direction in a space of few dimensions (arXiv:2110.04627), in a cascade.

The quantiser of DAC (arXiv:2306.06546, section 3.2) and of codecs derived from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from codecbench.models.blocks.learning import (
    KMEANS,
    Quantised,
    all_used,
    distance,
    first_largest,
    kmeans,
    straight_through,
)
from codecbench.models.blocks.quantise import search, searched

OFFSET = 8.0
"""Of the frames' spread along the axis on which they vary most."""
FAINT = 0.01
"""How much of the frames the offset's dimension hears."""


class FactorisedVQ(nn.Module):
    """Quantises frames of `dimension` values by a codebook of `size` entries of `code_dimension` values."""

    def __init__(self, size: int, dimension: int, code_dimension: int) -> None:
        super().__init__()
        self.in_proj = weight_norm(nn.Conv1d(dimension, code_dimension, 1))
        self.out_proj = weight_norm(nn.Conv1d(code_dimension, dimension, 1))
        self.codebook = nn.Embedding(size, code_dimension)

    def scores(self, z: Tensor) -> Tensor:
        """Negative squared distances ``[N, size]`` between the directions of `z` ``[N, D]`` and those of the entries.

        In the order of operations of the released DAC: another one rounds differently, and flips codes near a tie.
        """
        z, entries = functional.normalize(z), functional.normalize(self.codebook.weight)
        return -(z.pow(2).sum(1, keepdim=True) - 2 * z @ entries.t() + entries.pow(2).sum(1, keepdim=True).t())

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Codes ``[B, F]`` of `x` ``[B, D, F]``, and the frames ``[B, D, F]`` that they stand for, but for rounding."""
        z = self.in_proj(x)
        codes = first_largest(self.scores(z.transpose(1, 2).flatten(0, 1))).view(len(z), -1)
        # The gradients of training need this sum. It rounds, and the later codebooks see what it leaves of `x`.
        return codes, self.out_proj(z + (self._entries(codes) - z))

    def entries(self) -> Tensor:
        """The frames ``[size, D]`` that the codes stand for."""
        return self.decode(torch.arange(self.codebook.num_embeddings, device=self.codebook.weight.device)[None])[0].t()

    def decode(self, codes: Tensor) -> Tensor:
        """Frames ``[B, D, F]`` of `codes` ``[B, F]``."""
        return cast("Tensor", self.out_proj(self._entries(codes)))

    def forward(
        self, x: Tensor, used: Tensor, codes: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        """Quantise `x` ``[B, D, F]`` in training, by `codes` ``[B, F]`` (None: by the nearest).

        Returns:
            Codes ``[B, F]``; the frames ``[B, D, F]`` that they stand for; and how far, in the codebook's space, `x` is
            from its entries (commitment) and they from it (codebook), where only examples of `used` ``[B]`` count.
        """
        z = self.in_proj(x)
        if codes is None:
            codes = self.scores(z.transpose(1, 2).flatten(0, 1)).max(1).indices.view(len(z), -1)
        entries = self._entries(codes)
        quantised = self.out_proj(straight_through(z, entries))
        return codes, quantised, distance(z, entries, used), distance(entries, z, used)

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """Begin training from frames `x` ``[B, D, F]``: project on where they vary most, with k-means for entries.

        Entries are told apart by direction alone. So the last dimension has an offset that is long beside the frames:
        seen from so far, directions differ as points do, and the nearest direction is the nearest point of the others.
        It hears next to nothing of the frames, which would bring all points nearer or farther.
        """
        vectors = x.transpose(1, 2).flatten(0, 1)
        mean = vectors.mean(0)
        _, spread, axes = torch.linalg.svd(vectors - mean, full_matrices=False)
        axes = axes[: self.codebook.embedding_dim]
        offset = OFFSET * spread[0] / len(vectors) ** 0.5
        self.in_proj.weight, self.out_proj.weight = axes[..., None], axes.t()[..., None].contiguous()
        cast("Any", self.in_proj.parametrizations).weight.original0[-1] *= FAINT
        cast("Tensor", self.in_proj.bias).copy_(-axes @ mean)[-1] = offset
        cast("Tensor", self.out_proj.bias).copy_(mean - offset * axes[-1])
        z = self.in_proj(x).transpose(1, 2).flatten(0, 1)
        points = kmeans(z[:, :-1], self.codebook.num_embeddings, KMEANS)[0]
        self.codebook.weight.copy_(functional.pad(points, (0, 1), value=float(offset)))

    def _entries(self, codes: Tensor) -> Tensor:
        """Entries ``[B, code_dimension, F]`` of `codes` ``[B, F]``, at their own lengths."""
        return cast("Tensor", self.codebook(codes)).transpose(1, 2)


class ResidualFactorisedVQ(nn.Module):
    """Factorised codebooks in cascade: each quantises what those before it left over; `paths` as in `ResidualVQ`."""

    paths: int = 1

    def __init__(self, codebooks: int, size: int, dimension: int, code_dimension: int) -> None:
        super().__init__()
        layers = nn.ModuleList(FactorisedVQ(size, dimension, code_dimension) for _ in range(codebooks))
        self.layers = cast("Sequence[FactorisedVQ]", layers)

    def start(self, x: Tensor) -> None:
        """Begin training from frames `x` ``[B, D, F]``, each codebook from what those before it leave of them."""
        for layer in self.layers:
            layer.start(x)
            x = x - layer.encode(x)[1]

    def encode(self, x: Tensor, codebooks: int | None = None) -> Tensor:
        """Codes ``[B, K, F]`` of `x` ``[B, D, F]`` from the first `codebooks` (None: all)."""
        if self.paths > 1:
            return search([layer.entries() for layer in self.layers], x.transpose(1, 2), self.paths)[:, :codebooks]
        found = []
        for layer in self.layers[:codebooks]:
            codes, quantised = layer.encode(x)
            found.append(codes)
            x = x - quantised
        return torch.stack(found, dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """Frames ``[B, D, F]`` of `codes` ``[B, K, F]``; ``K`` may be any prefix of the codebooks."""
        layers = self.layers[: codes.shape[1]]
        total = torch.zeros((), device=codes.device)
        for layer, code in zip(layers, codes.unbind(1), strict=True):
            total = total + layer.decode(code)
        return total

    def forward(self, x: Tensor, codebooks: Tensor | None = None) -> Quantised:
        """Quantise `x` ``[B, D, F]`` in training, each example by the first of `codebooks` ``[B]`` (None: by all).

        The codebooks learn by gradient. All of them see every example, as in the released DAC; those that an example
        does not use add nothing to its frames and losses.
        """
        left = all_used(x, len(self.layers)) if codebooks is None else codebooks
        residual, total, commitment, codebook = x, torch.zeros_like(x), x.new_zeros(()), x.new_zeros(())
        codes, first = [], x
        pairs = zip(self.layers, searched(self, x), strict=True)
        for k, (layer, given) in enumerate(islice(pairs, int(left.max()))):
            found, quantised, committed, learnt = layer(residual, left > k, None if given is None else given[:, 0])
            total = total + quantised * (left > k)[:, None, None]
            first = quantised if k == 0 else first
            residual = residual - quantised
            commitment, codebook = commitment + committed, codebook + learnt
            codes.append(found)
        return Quantised(total, first, torch.stack(codes, dim=1), commitment, codebook)
