"""Token patterns: in which step of a language model each code of several codebooks is generated.

A pattern maps the layout ``[K, F]`` of K codebooks over F frames to a sequence of S steps. Step 0 holds no code: it is
the start. The names are those of MusicGen (arXiv:2306.05284, section 2.1) and Stack-and-Delay (arXiv:2309.08804).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import cos, floor, pi
from typing import Literal

import torch
from torch import Tensor

Past = Literal["none", "coarser", "own", "all"]
Rows = Literal["step", "frame", "none"]
Within = Literal["flat", "parallel", "delay", "level"]


@dataclass(frozen=True)
class Context:
    """What is generated, for certain, before a code of codebook ``k`` and frame ``f``.

    Attributes:
        coarser: The codebooks before ``k`` in frame ``f``.
        past: Of frames before ``f``: ``none``, the codebooks ``coarser`` than ``k``, these and its ``own``, or ``all``.
        future: The codebooks before ``k`` in frames after ``f``.
    """

    coarser: bool
    past: Past
    future: bool = False


@dataclass(frozen=True)
class Cache:
    """What a cache of keys and values keeps.

    Attributes:
        rows: A row each ``step``; or each ``frame``, its first codebook's, once the frame is complete; or ``none``: a
            step changes what earlier ones see, and all is computed anew.
    """

    rows: Rows


@dataclass(frozen=True, eq=False)
class Pattern:
    """The steps of a layout.

    Attributes:
        name: Of the pattern.
        at: ``[K, F]``, the step of each code, from 1.
        steps: ``S``, with the start.
        context: What a code may be predicted from, at least; in all it is every code of a step before its own.
        cache: What stays of the steps before.
    """

    name: str
    at: Tensor
    steps: int
    context: Context
    cache: Cache = Cache("step")

    @property
    def order(self) -> Tensor:
        """``[K·F, 2]``: codebook and frame of each code in the order of generation, codebooks first within a step."""
        codebooks, frames = self.at.shape
        places = torch.cartesian_prod(torch.arange(codebooks), torch.arange(frames)).reshape(-1, 2)
        return places[torch.argsort(self.at.flatten(), stable=True)]

    @property
    def columns(self) -> bool:
        """No step has two frames of a codebook, so that the steps fit ``[K, S]``."""
        return all(row.unique().numel() == row.numel() for row in self.at)

    def valid(self) -> Tensor:
        """Where a step has a code: booleans ``[K, S]``."""
        mask = torch.zeros(len(self.at), self.steps, dtype=torch.bool)
        return mask.scatter(1, self.at, value=True)

    def visible(self, codebook: int, frame: int) -> Tensor:
        """Booleans ``[K, F]``: the codes that are there before that of `codebook` in `frame`."""
        return self.at < self.at[codebook, frame]

    def cached(self) -> Tensor:
        """Booleans ``[S]``: the steps, of those with a code, whose row the cache keeps to the end."""
        mask = torch.zeros(self.steps, dtype=torch.bool)
        if self.cache.rows == "step":
            mask[self.at.flatten()] = True
        elif self.cache.rows == "frame":
            mask[self.at[0]] = True
        return mask

    def pack(self, codes: Tensor, nothing: int) -> Tensor:
        """Steps ``[..., K, S]`` of `codes` ``[..., K, F]``, with `nothing` where there is no code.

        Raises:
            ValueError: The shape is another, or a step has more than one frame of a codebook; see `flatten`.
        """
        self._check(codes.shape[-2:], self.at.shape)
        if not self.columns:
            raise ValueError(f"'{self.name}' has steps with several frames of a codebook: it has no columns")
        steps = codes.new_full((*codes.shape[:-1], self.steps), nothing)
        return steps.scatter(-1, self.at.to(codes.device).expand(codes.shape), codes)

    def unpack(self, steps: Tensor) -> Tensor:
        """Codes ``[..., K, F]`` of `steps` ``[..., K, S]``: the inverse of `pack`."""
        self._check(steps.shape[-2:], (len(self.at), self.steps))
        return steps.gather(-1, self.at.to(steps.device).expand(*steps.shape[:-1], -1))

    def flatten(self, codes: Tensor) -> Tensor:
        """The `codes` ``[..., K, F]`` one after another ``[..., K·F]``, in `order`."""
        self._check(codes.shape[-2:], self.at.shape)
        codebook, frame = self.order.unbind(1)
        return codes[..., codebook, frame]

    def unflatten(self, sequence: Tensor) -> Tensor:
        """Codes ``[..., K, F]`` of a `sequence` ``[..., K·F]``: the inverse of `flatten`."""
        self._check(sequence.shape[-1:], (self.at.numel(),))
        codes = sequence.new_empty(*sequence.shape[:-1], *self.at.shape)
        codebook, frame = self.order.unbind(1)
        codes[..., codebook, frame] = sequence
        return codes

    def _check(self, shape: Sequence[int], wanted: Sequence[int]) -> None:
        if tuple(shape) != tuple(wanted):
            raise ValueError(f"'{self.name}' takes {list(wanted)} here, not {list(shape)}")


def _grid(codebooks: int, frames: int) -> tuple[Tensor, Tensor]:
    """Number of the codebook ``[K, 1]`` and of the frame ``[1, F]``."""
    if codebooks < 1 or frames < 0:
        raise ValueError(f"{codebooks} codebooks and {frames} frames: a layout has at least 1 and 0")
    return torch.arange(codebooks)[:, None], torch.arange(frames)[None]


def flat(codebooks: int, frames: int) -> Pattern:
    """One code a step, frame by frame: K·F steps."""
    k, f = _grid(codebooks, frames)
    return Pattern("flat", 1 + f * codebooks + k, 1 + codebooks * frames, Context(coarser=True, past="all"))


def parallel(codebooks: int, frames: int) -> Pattern:
    """One frame a step: F steps."""
    k, f = _grid(codebooks, frames)
    return Pattern("parallel", 1 + f + 0 * k, 1 + frames, Context(coarser=codebooks == 1, past="all"))


def delay(codebooks: int, frames: int, delays: Sequence[int] | None = None) -> Pattern:
    """A frame a step, codebook ``k`` of it `delays[k]` steps later (default ``k``): F + max(delays) steps.

    Delays never fall from a codebook to the next. Codebooks of the same delay, such as the two channels of MusicGen's
    stereo, do not see each other within a frame.
    """
    k, f = _grid(codebooks, frames)
    late = list(range(codebooks)) if delays is None else list(delays)
    if len(late) != codebooks or sorted(late) != late or late[0] < 0:
        raise ValueError(f"delays {late} of {codebooks} codebooks: one each, from 0, none below the one before")
    past: Past = "all" if late[0] == late[-1] else "own"
    context = Context(coarser=len(set(late)) == codebooks, past=past)
    return Pattern("delay", 1 + f + torch.tensor(late)[:, None] + 0 * k, 1 + frames + late[-1], context)


def stack(codebooks: int, frames: int) -> Pattern:
    """The steps of `flat`, but each complete frame leaves a single row in the cache."""
    whole = flat(codebooks, frames)
    return Pattern("stack", whole.at, whole.steps, whole.context, Cache("frame"))


def stack_delay(codebooks: int, frames: int, order: Sequence[int] | None = None) -> Pattern:
    """K frames at once, each at another of its codebooks: F + K - 1 steps, the frames in an `order` of one's own.

    The paper interleaves frames so that none starts while its neighbour is incomplete; its very permutation is not
    known here. The default is `interleaved`. A frame that is visited ahead of earlier ones does not see these.
    """
    k, _ = _grid(codebooks, frames)
    visits = interleaved(codebooks, frames) if order is None else list(order)
    if sorted(visits) != list(range(frames)):
        raise ValueError(f"the order has {len(visits)} entries, and is not each of {frames} frames once")
    place = torch.empty(frames, dtype=torch.long)
    place[torch.tensor(visits, dtype=torch.long)] = torch.arange(frames)
    context = Context(coarser=True, past="none")
    return Pattern("stack-delay", 1 + place + k, frames + codebooks, context, Cache("frame"))


def interleaved(codebooks: int, frames: int) -> list[int]:
    """Frames in blocks of K·K, in each block every K-th one, from its first, second, ... frame on.

    In a whole block, the frames before and after one are at least K - 1 places away from it.
    """
    block = codebooks * codebooks
    return [
        frame
        for first in range(0, frames, block)
        for start in range(first, first + codebooks)
        for frame in range(start, min(first + block, frames), codebooks)
    ]


def coarse_to_fine(codebooks: int, frames: int, groups: Sequence[int], within: Sequence[Within]) -> Pattern:
    """Groups of codebooks one after another, each over all frames.

    Args:
        codebooks: K, the sum of `groups`.
        frames: F.
        groups: Codebooks of each group: ``(4, 8)`` in AudioLM, ``(1, 7)`` in VALL-E.
        within: How the codes of each group follow: ``flat``, ``parallel``, ``delay``, or ``level`` for all frames of a
            codebook in one step, as VALL-E's second model does.
    """
    _grid(codebooks, frames)
    if not groups or min(groups) < 1 or sum(groups) != codebooks or len(groups) != len(within):
        raise ValueError(f"groups {list(groups)}, each with one of {list(within)}, do not make {codebooks} codebooks")
    rows, done = [], 0
    for size, kind in zip(groups, within, strict=True):
        group = _WITHIN[kind](size, frames)
        rows.append(group.at + done)
        done += group.steps - 1
    coarser = all(size == 1 or kind != "parallel" for size, kind in zip(groups, within, strict=True))
    past: Past = "coarser" if "level" in within else "own"
    if past == "coarser" and not coarser:
        past = "none"
    context = Context(coarser=coarser, past=past, future=set(groups) == {1} or set(within) == {"level"})
    return Pattern("coarse-to-fine", torch.cat(rows), 1 + done, context, Cache("none" if "level" in within else "step"))


def _levels(codebooks: int, frames: int) -> Pattern:
    return masked_parallel(codebooks, frames, [1] * codebooks)


_WITHIN = {"flat": flat, "parallel": parallel, "delay": delay, "level": _levels}


def masked_parallel(
    codebooks: int, frames: int, iterations: Sequence[int], order: Tensor | None = None
) -> Pattern:  # fmt: skip
    """Codebook by codebook, each in its number of `iterations`, in which frames are unmasked as in `cosine_counts`.

    SoundStorm (arXiv:2305.09636, section 3.3) takes 16 iterations for the first codebook and 1 for the others.

    Args:
        codebooks: K.
        frames: F.
        iterations: Of each codebook, at least 1. All count as steps, also those that have nothing left to unmask.
        order: ``[K, F]``, the frames of each codebook, first unmasked first; the sampler decides while it runs. None
            for the order of time.
    """
    _grid(codebooks, frames)
    if len(iterations) != codebooks or min(iterations) < 1:
        raise ValueError(f"iterations {list(iterations)} of {codebooks} codebooks: one each, at least 1")
    rows, done = [], 0
    for count in iterations:
        sizes = torch.tensor(cosine_counts(frames, count))
        rows.append(torch.repeat_interleave(torch.arange(1, count + 1) + done, sizes))
        done += count
    at = torch.stack(rows)
    if order is not None:
        if not torch.equal(order.sort(dim=1).values, torch.arange(frames).expand(codebooks, -1)):
            raise ValueError("the order is not each frame once for each codebook")
        at = torch.empty_like(at).scatter(1, order, at)
    return Pattern("masked-parallel", at, 1 + done, Context(coarser=True, past="coarser", future=True), Cache("none"))


def cosine_counts(frames: int, iterations: int) -> list[int]:
    """How many of `frames` each of the `iterations` unmasks: after part r of them, cos(πr/2) of the frames are masked.

    MaskGIT (arXiv:2202.04200, section 3.3), whose count of masked frames is rounded down.
    """
    masked = [floor(frames * cos(pi / 2 * i / iterations) + 1e-9) for i in range(iterations)] + [0]
    return [before - after for before, after in pairwise(masked)]
