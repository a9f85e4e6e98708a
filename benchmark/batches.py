"""Several recordings through a codec in one call, where the sweep asks for it: what keeps a GPU busy.

An adapter does what it can with a list, see `Codec`; the ones here put those of as many frames into one tensor. A value
of a batch differs from one alone by what rounding does to sums: at most 2 % of the tokens and 1e-3 of the output, which
``codecbench check`` holds every adapter to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from codecbench.audio import Clip
from codecbench.benchmark.coding import SystemFailure, code_clip, code_clips
from codecbench.benchmark.probe import Outcome
from codecbench.models.base import Card, Codec, OperatingPoint


def code_together(
    codec: Codec, card: Card, clips: Mapping[str, Clip], points: Sequence[OperatingPoint], richest: OperatingPoint
) -> dict[str, list[Outcome]]:
    """What becomes of each of `clips`, of one sample rate, at every point.

    A batch that fails, for want of memory or whatever else, is coded again in halves: in the end only those fail that
    fail alone, for their own reasons.
    """
    names = list(clips)
    if len(names) < 2:
        return {name: list(code_clip(codec, card, clips[name], points, richest)) for name in names}
    found: dict[str, list[Outcome]] = {name: [] for name in names}
    for point, outcome in code_clips(codec, card, list(clips.values()), points, richest):
        if isinstance(outcome, SystemFailure):
            middle = len(names) // 2
            halves = [{name: clips[name] for name in half} for half in (names[:middle], names[middle:])]
            return {n: own for half in halves for n, own in code_together(codec, card, half, points, richest).items()}
        for name, coded in zip(names, outcome, strict=True):
            found[name].append((point, coded))
    return found
