"""Checks of lengths, shapes and containers."""

from __future__ import annotations

import numpy as np

from codecbench.models.checks.base import Failed, Skipped, check
from codecbench.models.checks.probes import frozen, speechlike
from codecbench.models.checks.subject import Subject, check_audio


@check()
def round_trip(subject: Subject) -> None:
    """An ordinary clip comes back finite, as float32 samples of the shape that went in, after a way through bytes."""
    check_audio(subject.output, (subject.channels, subject.probe.length))


def _lengths(subject: Subject, *lengths: int) -> None:
    for length in dict.fromkeys(lengths):
        try:
            subject.round_trip([subject.clip_of(length)])
        except Exception as error:
            raise Failed(f"at {length} samples: {type(error).__name__ * (not isinstance(error, Failed))} {error}"
                         .replace(":  ", ": ")) from error  # fmt: skip


@check()
def one_sample(subject: Subject) -> None:
    """A clip of one sample comes back as one sample."""
    _lengths(subject, 1)


@check()
def two_samples(subject: Subject) -> None:
    """A clip of two samples comes back as two samples."""
    _lengths(subject, 2)


@check()
def around_a_frame(subject: Subject) -> None:
    """Clips of one sample less than a frame, a frame, and one more come back in their length."""
    _lengths(subject, max(1, subject.hop - 1), subject.hop, subject.hop + 1)


@check()
def prime_lengths(subject: Subject) -> None:
    """Clips whose lengths are primes, so multiples of no stride, come back in their length."""
    _lengths(subject, 101, 1009, 3001)


@check()
def long_clip(subject: Subject) -> None:
    """A clip of ten seconds comes back in its length."""
    subject.decode([subject.coded_long(subject.richest)])


@check()
def every_point(subject: Subject) -> None:
    """Every operating point codes a clip and brings it back in its length."""
    clip = subject.clip(0.1, seed=3)
    richest = subject.encode([clip])[0] if subject.card.nested else None
    for point in subject.points:
        codes = richest.prefix(point.streams) if richest and point.streams else subject.encode([clip], point)[0]
        try:
            subject.decode([codes])
        except Failed as failure:
            raise Failed(f"at {point.name}: {failure}") from failure


@check()
def several_channels(subject: Subject) -> None:
    """Channels that differ come back as so many channels; a system of any number takes one, two and three."""
    if subject.card.channels == 1:
        raise Skipped("it has one channel")
    for channels in [subject.card.channels] if subject.card.channels else [1, 2, 3]:
        rows = [speechlike(subject.rate // 10, subject.rate, seed) for seed in range(channels)]
        subject.round_trip([frozen(np.stack(rows), subject.rate)])


@check()
def empty_list(subject: Subject) -> None:
    """No clips give no codes, and no codes give no outputs."""
    if subject.codec.encode([], subject.richest) != [] or subject.codec.decode([]) != []:
        raise Failed("an empty list did not come back as an empty list")


@check()
def other_rates(subject: Subject) -> None:
    """A control that runs at the clip's rate runs at 8, 16, 44.1 and 48 kHz."""
    if subject.card.sample_rate is not None:
        raise Skipped("it has a sample rate of its own")
    for rate in (8_000, 16_000, 44_100, 48_000):
        subject.round_trip([frozen(speechlike(rate // 10 + 1, rate)[None], rate)])


@check()
def outputs_own_memory(subject: Subject) -> None:
    """Outputs own their memory: two outputs never share it, and writing to one changes nothing inside the system."""
    codes = [subject.brief]
    first, second = (subject.decode(codes)[0] for _ in range(2))
    if np.shares_memory(first, second):
        raise Failed("two outputs share memory")
    before = first.copy()
    for output in (first, second):
        if output.flags.writeable:
            output[:] = 0
    if not np.array_equal(subject.decode(codes)[0], before):
        raise Failed("after an output was written to, the same codes decode to something else")
