"""Checks of bitrates and operating points: what is measured on a long clip against what the card says."""

from __future__ import annotations

from codecbench.models.base import Codes
from codecbench.models.bitstream import pack
from codecbench.models.checks.base import Failed, Skipped, check
from codecbench.models.checks.subject import Subject, same_codes

TOLERANCE = 0.05
"""Relative difference between what is measured and what is declared: overlap of segments, and framing."""
EDGE = 0.25
"""Seconds of codes that a clip may cost besides: padding, and a last segment that is whole."""


@check()
def frame_rate(subject: Subject) -> None:
    """On a long clip every stream has as many tokens a second as the card says, within 5 % and its edges."""
    codes = subject.coded_long(subject.richest)
    if not codes.streams:
        raise Skipped("it has no streams")
    seconds = codes.length / codes.sample_rate
    for k, (tokens, stream) in enumerate(zip(codes.streams, subject.card.streams_at(subject.richest), strict=True)):
        rate = stream.frame_rate or codes.sample_rate * codes.channels
        least = (1 - TOLERANCE) * rate * seconds - 8
        most = (1 + TOLERANCE) * rate * seconds + max(8, EDGE * rate)
        if not least <= len(tokens) <= most:
            raise Failed(f"stream {k} has {len(tokens) / seconds:.2f} tokens a second, on the card {rate:g}")


@check()
def bitrate(subject: Subject) -> None:
    """At every point the measured bitrate of a long clip is the declared one, within 5 % and the clip's edges.

    Packets may take less: an entropy coder's gain depends on the clip.
    """
    told = [point for point in subject.points if point.kbps is not None]
    if not told:
        raise Skipped("no point declares a bitrate")
    for point in told:
        codes = subject.coded_long(point)
        measured, declared, seconds = _kbps(codes), point.kbps or 0.0, subject.long.duration
        least = 0.0 if codes.packets else (1 - TOLERANCE) * declared
        if not least <= measured <= (1 + TOLERANCE + EDGE / seconds) * declared + 0.1 / seconds:
            raise Failed(f"{point.name} declares {declared:g} kbps and takes {measured:.3g}")


def _kbps(codes: Codes) -> float:
    return pack(codes).bits * codes.sample_rate / codes.length / 1000


@check()
def points_rise(subject: Subject) -> None:
    """The measured bitrate rises from each point to the next: poorest first, and no two alike."""
    if len(subject.points) < 2:
        raise Skipped("one point is checked")
    if subject.card.kind == "control":
        raise Skipped("the points of a control differ in something else than bitrate")
    rates = [_kbps(subject.coded_long(point)) for point in subject.points]
    for poorer, richer, point in zip(rates, rates[1:], subject.points[1:], strict=False):
        if richer <= poorer:
            raise Failed(f"{point.name} takes {richer:.3g} kbps, the point before it {poorer:.3g}")


@check()
def points_nest(subject: Subject) -> None:
    """The codes at a poorer point of a nested codec are the first streams of the richest point's."""
    if not subject.card.nested:
        raise Skipped("its points are not declared nested")
    clip = subject.clip(0.1, seed=3)
    richest = subject.encode([clip])[0]
    for point in dict.fromkeys((subject.points[0], subject.points[len(subject.points) // 2])):
        alone = subject.encode([clip], point)[0]
        if not same_codes(alone, richest.prefix(point.streams or 0)):
            raise Failed(f"encoded at {point.name}, the codes are not the first streams of {subject.richest.name}")
