"""Checks that the same work gives the same result: again, in another order, alone and among others."""

from __future__ import annotations

import time

import numpy as np

from codecbench.audio import Clip
from codecbench.models.base import Codes
from codecbench.models.checks.base import Failed, check
from codecbench.models.checks.probes import frozen, speechlike
from codecbench.models.checks.subject import Subject, difference, disagreement, same_codes

BATCH_CODES = 0.02
"""Share of tokens that may differ in a batch, where other sums are rounded otherwise."""
BATCH_AUDIO = 1e-3
"""Relative difference of the output that may come of a batch."""

WORK_SECONDS, WORK_TIMES, WORK_ROUNDS = 0.3, 3, 3
WORK_LEAST = 5e-3
"""Seconds below which the clock, not the work, is measured."""
WORK_SHARE = 0.5
"""Of a new clip's work: what varies on an honest codec is a tenth or two."""
LISTED = ((0.13, 1.0), (0.07, 0.1), (0.1, 0.5), (0.13, 0.3))
"""Seconds and levels of the clips of a list; two are as long, since those may go through a network together."""


def _listed(subject: Subject) -> list[Clip]:
    lengths = [(round(seconds * subject.rate), level) for seconds, level in LISTED]
    return [
        subject.spread(level * speechlike(length, subject.rate, seed=place))
        for place, (length, level) in enumerate(lengths)
    ]


@check()
def encode_again(subject: Subject) -> None:
    """The same clip has the same codes when it is encoded again, with another clip in between."""
    before = subject.brief
    subject.encode([subject.clip(0.07, seed=21)])
    again = subject.encode([subject.clip(0.1, seed=7)])[0]
    if not same_codes(before, again):
        raise Failed(f"encoded again, the clip has other codes: {disagreement(before, again):.1%} differ")


@check()
def decode_again(subject: Subject) -> None:
    """The same codes decode to the same samples again, with others in between."""
    before = subject.decode([subject.brief])[0]
    subject.decode(subject.encode([subject.clip(0.07, seed=21)]))
    change = difference(before, subject.decode([subject.brief])[0])
    if change > 1e-5:
        raise Failed(f"decoded again, the samples differ by {change:.2g} of their level")


@check()
def encode_order(subject: Subject) -> None:
    """A clip has the same codes first, last and in the middle of a list."""
    clips = _listed(subject)
    forwards, backwards = subject.encode(clips), subject.encode(clips[::-1])[::-1]
    for place, (a, b) in enumerate(zip(forwards, backwards, strict=True)):
        share = disagreement(a, b)
        if share > BATCH_CODES:
            raise Failed(f"in a list turned round, {share:.1%} of the codes of clip {place} differ")


@check()
def encode_batch(subject: Subject) -> None:
    """A clip has the same codes alone and in a list with clips of other lengths: padding does not leak."""
    clips = _listed(subject)
    for place, (clip, among) in enumerate(zip(clips, subject.encode(clips), strict=True)):
        share = disagreement(subject.encode([clip])[0], among)
        if share > BATCH_CODES:
            raise Failed(f"in a list, {share:.1%} of the codes of clip {place} differ from those it has alone")


@check()
def decode_batch(subject: Subject) -> None:
    """Codes decode to the same samples alone and in a list with others, in another order."""
    codes: list[Codes] = []
    for clip in _listed(subject):
        codes += subject.encode([clip])
    alone = [subject.decode([item])[0] for item in codes]
    for a, b in zip(alone[::-1], subject.decode(codes[::-1]), strict=True):
        if difference(a, b) > BATCH_AUDIO:
            raise Failed(f"in a list, the samples differ by {difference(a, b):.2g} of their level")


@check()
def same_clip_twice(subject: Subject) -> None:
    """One clip twice in a list has the same codes twice."""
    first, second = subject.encode([subject.clip(0.1, 12)] * 2)
    if disagreement(first, second) > BATCH_CODES:
        raise Failed("the two have different codes")


@check()
def same_work_again(subject: Subject) -> None:
    """A clip that was coded before takes as much work as a new one: nothing is kept from item to item to look fast."""
    clips = [subject.clip(WORK_SECONDS, seed=40 + k) for k in range(WORK_TIMES * WORK_ROUNDS + 1)]
    known = clips.pop()
    subject.round_trip([known])
    for start in range(0, len(clips), WORK_TIMES):  # once is chance
        pairs = [(_work(subject, clip), _work(subject, known)) for clip in clips[start : start + WORK_TIMES]]
        new, again = (min(seconds) for seconds in zip(*pairs, strict=True))
        if new < WORK_LEAST or again > WORK_SHARE * new:
            return
    raise Failed(f"a clip that was coded before takes {again:.2g} s of work, a new one {new:.2g} s")


def _work(subject: Subject, clip: Clip) -> float:
    """Seconds of processor time, which other work on the machine hardly changes."""
    started = time.process_time()
    subject.round_trip([clip])
    return time.process_time() - started


@check()
def input_unmodified(subject: Subject) -> None:
    """Encoding writes nothing into the clip, read-only or not."""
    own = subject.clip(0.1, seed=2).samples.copy()
    clip = frozen(own, subject.rate)
    writable = type(clip)(own, subject.rate)
    subject.encode([writable])
    if not np.array_equal(own, clip.samples):
        raise Failed("the samples of the clip are others after encoding")
