"""Generating with a `CodebookLM` whose cache keeps one row a frame: Stack-and-Delay (arXiv:2309.08804).

A frame has one step a codebook. The first of them is told the codes of the last frame that was complete before; each
later one, the codes of its own frame so far. All see the first steps of frames; a later step also sees those of its own
frame before it, and nobody else does. So only the first steps stay, a row a frame, and a cache is K times as small as
in the flat pattern. All steps of a frame have its number as position. In `stack` the last complete frame is the one
before; in `stack_delay`, where K frames are generated at once, the one K visits before.

The paper says that the cache keeps the top-level stream alone, and leaves the rest to a figure; this is our reading.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from codecbench.models.blocks.attention import Memory
from codecbench.models.blocks.backbone import Arrangement
from codecbench.models.blocks.codebook_lm import CodebookLM
from codecbench.models.blocks.patterns import Pattern
from codecbench.models.blocks.sampling import guide


@dataclass(frozen=True, eq=False)
class Steps:
    """The steps of a pattern, first to last, ``n`` in all: one for each code.

    Attributes:
        at: When each is run ``[n]``; several are at once.
        codebook: Which it predicts ``[n]``.
        frame: Of which frame ``[n]``.
        visit: Which frame of the order that is ``[n]``.
        told: The frame whose codes it is told ``[n]``: another's for a first step, -1 for none.
    """

    at: Tensor
    codebook: Tensor
    frame: Tensor
    visit: Tensor
    told: Tensor

    def where(self, chosen: Tensor) -> Steps:
        """Those that are `chosen`: booleans ``[n]``."""
        return Steps(*(part[chosen] for part in vars(self).values()))

    def visible(self) -> Tensor:
        """Booleans ``[n, n]``: which of the steps (columns) each of them (rows) sees."""
        first = (self.codebook == 0) & (self.at <= self.at[:, None])
        own = (self.visit == self.visit[:, None]) & (self.codebook <= self.codebook[:, None])
        return first | own


def steps_of(pattern: Pattern) -> Steps:
    """The steps of `pattern`."""
    codebook, frame = pattern.order.unbind(1)
    at = pattern.at[codebook, frame]
    order = pattern.at[0].argsort()
    visit = torch.empty_like(order).scatter(0, order, torch.arange(len(order)))
    ends, starts = pattern.at[-1, order], pattern.at[0, order]
    complete = torch.searchsorted(ends, starts)  # visits that ended before each starts
    before = torch.where(complete > 0, order[(complete - 1).clamp(min=0)], -1)
    told = torch.where(codebook == 0, before[visit[frame]], frame)
    return Steps(at, codebook, frame, visit[frame], told)


def inputs(codes: Tensor, steps: Steps, nothing: int) -> Tensor:
    """What each of `steps` is told, of `codes` ``[K, F]``: ``[K, n]``, with `nothing` where there is no code."""
    columns = codes[:, steps.told.clamp(min=0)]
    level = torch.arange(len(codes), device=codes.device)[:, None]
    heard = torch.where(steps.codebook == 0, len(codes), steps.codebook) > level
    return columns.masked_fill(~heard | (steps.told < 0), nothing)


def logits(network: CodebookLM, codes: Tensor, pattern: Pattern, memory: Memory | None) -> Tensor:
    """Logits ``[K, F, N]`` of each of `codes` ``[K, F]``, given what comes before it."""
    steps = _on(steps_of(pattern), codes)
    found = _run(network, codes, steps, memory, 1)[0]
    out = found.new_empty(*codes.shape, found.shape[-1])
    out[steps.codebook, steps.frame] = found
    return out


@torch.inference_mode()
def fill(
    network: CodebookLM, codes: Tensor, pattern: Pattern, memory: Memory | None, draw: Callable[[Tensor], Tensor],
    guidance: float = 1.0, *, use_cache: bool = True,
) -> Tensor:  # fmt: skip
    """`codes` ``[K, F]`` with all that are -1 generated.

    Args:
        network: The language model.
        codes: What is known.
        pattern: Of as many frames.
        memory: What `CodebookLM.listen` returned for the request, and then for none if there is guidance.
        draw: Takes logits ``[K, N]``, and returns codes ``[K]``.
        guidance: As of `codebook_generation.generate`.
        use_cache: Keep keys and values, a row a frame; else compute all steps anew each time, which gives the same.
    """
    codes = codes.clone()
    for _ in grow(network, codes, pattern, memory, draw, guidance, use_cache=use_cache):
        pass
    return codes


def grow(
    network: CodebookLM, codes: Tensor, pattern: Pattern, memory: Memory | None, draw: Callable[[Tensor], Tensor],
    guidance: float = 1.0, *, use_cache: bool = True,
) -> Iterator[None]:  # fmt: skip
    """As of `fill`, but in place, another step of the pattern at a time."""
    copies = 1 if guidance == 1 else 2
    steps = _on(steps_of(pattern), codes)
    unknown = codes[steps.codebook, steps.frame] < 0
    start = int(steps.at[unknown].min()) if bool(unknown.any()) else pattern.steps
    cache = _Rows(network, codes, copies) if use_cache else None
    if cache is not None:
        cache.catch_up(network, codes, steps, memory, start)
    for step in range(start, pattern.steps):
        now = steps.where(steps.at == step)
        if cache is None:
            past = steps.where(steps.at <= step)
            found = _run(network, codes, past, memory, copies)[:, past.at == step]
        else:
            found = cache.run(network, codes, now, memory)
        if copies == 2:
            found = guide(found[:1], found[1:], guidance)
        rows = found.new_zeros(len(codes), found.shape[-1])
        rows[now.codebook] = found[0]
        drawn, before = draw(rows)[now.codebook], codes[now.codebook, now.frame]
        codes[now.codebook, now.frame] = torch.where(before < 0, drawn, before)
        yield


class _Rows:
    """A cache of one row a frame, and of the later steps of the K frames that are not complete."""

    def __init__(self, network: CodebookLM, codes: Tensor, copies: int) -> None:
        self.codebooks, self.frames = codes.shape
        self.copies = copies
        capacity = self.frames + self.codebooks * (self.codebooks - 1)
        self.cache = network.backbone.cache(copies, capacity)
        self.starts = torch.full((self.frames,), -1, device=codes.device)
        """When the first step of each visit was run."""

    def run(self, network: CodebookLM, codes: Tensor, steps: Steps, memory: Memory | None) -> Tensor:
        """Logits ``[B, n, N]`` of `steps`, which are of different rows."""
        first = steps.codebook == 0
        self.starts[steps.visit[first]] = steps.at[first]
        slot = self.frames + steps.visit % self.codebooks * (self.codebooks - 1)
        rows = torch.where(first, steps.visit, slot + steps.codebook - 1)
        seen = (self.starts >= 0) & (self.starts <= steps.at[:, None])
        places = torch.arange(self.frames, self.cache.keys.shape[3], device=codes.device)
        own = (places >= slot[:, None]) & (places < (slot + steps.codebook)[:, None])
        return _run(network, codes, steps, memory, self.copies, torch.cat([seen, own], dim=1), rows, self)

    def catch_up(self, network: CodebookLM, codes: Tensor, steps: Steps, memory: Memory | None, start: int) -> None:
        """Run what was before the step `start`, all of whose codes are known, but for what is needed no more."""
        past = steps.where(steps.at < start)
        if not len(past.at):
            return
        self.run(network, codes, past.where(past.codebook == 0), memory)
        last = steps.at[(steps.codebook == self.codebooks - 1).nonzero()[:, 0]]
        ends = torch.empty_like(last).scatter(0, steps.visit[steps.codebook == self.codebooks - 1], last)
        late = past.where((past.codebook > 0) & (ends[past.visit] >= start))
        if len(late.at):
            self.run(network, codes, late, memory)


def _run(
    network: CodebookLM, codes: Tensor, steps: Steps, memory: Memory | None, copies: int,
    visible: Tensor | None = None, rows: Tensor | None = None, cache: _Rows | None = None,
) -> Tensor:  # fmt: skip
    """Logits ``[B, n, N]`` of `steps`, each of its own codebook."""
    seen = steps.visible() if visible is None else visible
    kept = torch.arange(len(steps.at), device=codes.device) if rows is None else rows
    where = Arrangement(*(part[None].expand(copies, *part.shape) for part in (steps.frame, seen, kept)))
    told = inputs(codes, steps, network.shape.codebook_size)[None].expand(copies, -1, -1)
    found: Tensor = network(told, cache=cache.cache if cache else None, memory=memory, arrangement=where)
    return found[:, steps.codebook, torch.arange(len(steps.at), device=codes.device)]


def _on(steps: Steps, codes: Tensor) -> Steps:
    return Steps(*(part.to(codes.device) for part in vars(steps).values()))
