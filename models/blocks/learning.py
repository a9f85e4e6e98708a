"""How codebooks learn: by moving averages of what takes their entries (EnCodec, arXiv:2210.13438, appendix A.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

AT_ONCE = 8192
"""Vectors whose distances to all centres k-means holds in memory together."""
KMEANS = 20
"""Iterations from which the codebooks of small codecs start."""


class Quantised(NamedTuple):
    """What a quantiser makes of frames ``[B, D, F]`` in training.

    Attributes:
        frames: Quantised frames ``[B, D, F]``; their gradient is passed on to what was quantised, unchanged.
        first: What the first codebook (or layer of groups) makes of them, with the same gradient.
        codes: ``[B, K, F]``, of as many codebooks as any example used.
        commitment: Mean squared distance of what is quantised to its entries, summed over codebooks; moves the encoder.
        codebook: The same distance for codebooks that learn by gradient, which it moves; 0 for others.
    """

    frames: Tensor
    first: Tensor
    codes: Tensor
    commitment: Tensor
    codebook: Tensor


def as_they_are(x: Tensor) -> Quantised:
    """What a quantiser that changes nothing makes of frames ``[B, D, F]``."""
    return Quantised(x, x, x.new_zeros(len(x), 0, x.shape[-1], dtype=torch.long), x.new_zeros(()), x.new_zeros(()))


@dataclass(frozen=True)
class MovingAverage:
    """The rule of codebooks that learn without a gradient.

    Attributes:
        decay: Of the averages, for each batch.
        kmeans: Iterations of k-means on what the codebook sees first, from which the entries start; with 0 they stay
            as they are.
        dead_below: An entry is replaced by a random vector of the batch once fewer vectors than this take it, in the
            moving average over batches; with 0 none is.
        epsilon: Added to every count when sums are divided by them.
    """

    decay: float = 0.99
    kmeans: int = 50
    dead_below: float = 2.0
    epsilon: float = 1e-5


class Averages(nn.Module):
    """The moving averages of one codebook: how many vectors a batch take each entry, and their sum."""

    counts: Tensor
    sums: Tensor
    started: Tensor

    def __init__(self, entries: Tensor, rule: MovingAverage) -> None:
        super().__init__()
        self.rule = rule
        self.register_buffer("counts", torch.ones(len(entries), device=entries.device))
        self.register_buffer("sums", entries.clone())
        self.register_buffer("started", torch.tensor(rule.kmeans == 0, device=entries.device))

    @torch.no_grad()
    def start(self, entries: Tensor, x: Tensor) -> None:
        """Set `entries` ``[size, D]`` in place from the first batch `x` ``[N, D]``; later calls do nothing."""
        if self.started:
            return
        means, counts = kmeans(x, len(entries), self.rule.kmeans)
        entries.copy_(means)
        self.counts.copy_(counts)
        self.sums.copy_(means * counts[:, None])
        self.started.fill_(True)

    @torch.no_grad()
    def divide(self, batches: float) -> None:
        """Take what has been counted for that of so many batches: only so does the average forget it at its pace."""
        self.counts /= batches
        self.sums /= batches

    @torch.no_grad()
    def update(self, entries: Tensor, x: Tensor, codes: Tensor) -> None:
        """Move `entries` ``[size, D]`` in place towards the vectors `x` ``[N, D]`` that took them by `codes` ``[N]``.

        A replaced entry starts with the count of an average one, so that it has time to be found. (In the released
        EnCodec, the average overwrites a replaced entry at once.)
        """
        rule, size = self.rule, len(entries)
        counts = torch.bincount(codes, minlength=size).to(x.dtype)
        self.counts.lerp_(counts, 1 - rule.decay)
        self.sums.lerp_(torch.zeros_like(entries).index_add_(0, codes, x), 1 - rule.decay)
        dead = (self.counts < rule.dead_below).nonzero()[:, 0]
        if len(dead):
            found = sample(x, size)[dead]
            count = max(rule.dead_below, len(x) / size)
            self.counts[dead], self.sums[dead] = count, count * found
        total = self.counts.sum()
        smoothed = (self.counts + rule.epsilon) / (total + size * rule.epsilon) * total
        entries.copy_(self.sums / smoothed[:, None])


def sample(x: Tensor, count: int) -> Tensor:
    """`count` random rows of `x` ``[N, D]``, all different if there are as many."""
    if len(x) >= count:
        return x[torch.randperm(len(x), device=x.device)[:count]]
    return x[torch.randint(0, len(x), (count,), device=x.device)]


@torch.no_grad()
def kmeans(x: Tensor, clusters: int, iterations: int) -> tuple[Tensor, Tensor]:
    """Centres ``[clusters, D]`` of the vectors `x` ``[N, D]``, and how many vectors each has.

    Lloyd's algorithm from random vectors; a centre that no vector is nearest to stays where it is.
    """
    means, counts = sample(x, clusters).clone(), x.new_zeros(clusters)
    for _ in range(iterations):
        norms = means.pow(2).sum(1)
        nearest = torch.cat([first_largest(2 * part @ means.t() - norms) for part in torch.split(x, AT_ONCE)])
        counts = torch.bincount(nearest, minlength=clusters).to(x.dtype)
        sums = torch.zeros_like(means).index_add_(0, nearest, x)
        means = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], means)
    return means, counts


def first_largest(scores: Tensor) -> Tensor:
    """The index ``[N]`` of the largest of each row of `scores` ``[N, size]``, the first if there are several."""
    if scores.is_cpu and scores.dtype == torch.float32:  # NumPy compares sixteen at a time; PyTorch does not
        return torch.from_numpy(scores.detach().numpy().argmax(1))
    return scores.max(dim=1).indices


def straight_through(x: Tensor, quantised: Tensor) -> Tensor:
    """The value of `quantised` with the gradient of `x`."""
    return x + (quantised - x).detach()


def distance(x: Tensor, target: Tensor, used: Tensor) -> Tensor:
    """Mean squared distance of `x` ``[B, …]`` to `target`, in which examples that are not `used` ``[B]`` count zero."""
    each = functional.mse_loss(x, target.detach(), reduction="none").flatten(1).mean(1)
    return (each * used).mean()


Layer = Callable[[Tensor, Tensor], tuple[Sequence[Tensor], Tensor]]
"""Codes, ``[B, F]`` of each group, and entries ``[B, F, D]`` of frames ``[B, F, D]``; `used` ``[B]`` says whose."""


def cascade(layers: Sequence[Layer], x: Tensor, codebooks: Tensor | None, groups: int = 1) -> Quantised:
    """Quantise `x` ``[B, D, F]`` in training, each example by the first of `codebooks` ``[B]`` (None: by all).

    What a codebook leaves over keeps the gradient of `x`, so the commitment of every codebook moves the encoder. In the
    released EnCodec only that of the first does.
    """
    left = all_used(x, groups * len(layers)) if codebooks is None else codebooks
    residual, parts, codes = x.transpose(1, 2), [], list[Tensor]()
    commitment, codebook = x.new_zeros(()), x.new_zeros(())
    for k, layer in enumerate(layers[: int(left.max()) // groups]):
        used = left > k * groups
        found, entries = layer(residual, used)
        commitment = commitment + distance(residual, entries, used)
        if entries.requires_grad:
            codebook = codebook + distance(entries, residual, used)
        codes += found
        parts.append(entries.detach() * used[:, None, None])
        residual = residual - entries.detach()
    frames, first = (straight_through(x, part.transpose(1, 2)) for part in (sum(parts[1:], parts[0]), parts[0]))
    return Quantised(frames, first, torch.stack(codes, dim=1), commitment, codebook)


def all_used(x: Tensor, codebooks: int) -> Tensor:
    """Numbers of codebooks ``[B]`` that leave out none."""
    return torch.full((len(x),), codebooks, device=x.device)
