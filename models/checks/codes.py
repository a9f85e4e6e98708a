"""Checks of the codes: they are what the card says, and all that the decoder has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np

from codecbench.audio import Audio
from codecbench.models.base import Codes, OperatingPoint
from codecbench.models.bitstream import pack, unpack
from codecbench.models.checks import elsewhere
from codecbench.models.checks.base import Failed, Skipped, check
from codecbench.models.checks.probes import mel_distance
from codecbench.models.checks.subject import Subject, difference, disagreement, same_codes

CHANGED = 0.01
"""Relative change of the output that other codes must make at least, whatever the weights."""
FARTHER_DB = 4.0
"""The mel distance to the clip must double when the codes are not the clip's, or grow by so much: a parametric codec
at 1 kbps is 9 dB from the clip with its own codes."""


@check()
def codes_match_card(subject: Subject) -> None:
    """At every point the codes are the declared streams of integers within their codebooks, and nothing else."""
    for point in subject.points:
        codes = subject.encode([subject.clip(0.1)], point)[0]
        extra = set(vars(codes)) - {f.name for f in fields(Codes)}
        if extra:
            raise Failed(f"at {point.name} the codes carry {', '.join(sorted(extra))} besides")
        if subject.card.nested and point.streams:
            codes = codes.prefix(point.streams)
        try:
            _hold_to_card(subject, codes, point)
        except (Failed, ValueError, AttributeError, TypeError) as error:
            raise Failed(f"at {point.name}: {error}") from error


def _hold_to_card(subject: Subject, codes: Codes, point: OperatingPoint) -> None:
    Codes(**{f.name: getattr(codes, f.name) for f in fields(Codes)})  # what a subclass may have left unchecked
    expected = tuple(stream.codebook_size for stream in subject.card.streams_at(point))
    if codes.codebook_sizes != expected and not (codes.packets and not codes.streams):
        raise Failed(f"the codebook sizes are {codes.codebook_sizes}, on the card {expected}")
    declared = {side.name: side.dtype for side in subject.card.side}
    found = {name: array.dtype.name for name, array in codes.side.items()}
    if found != declared:
        raise Failed(f"the side information is {found}, on the card {declared}")


@check()
def codes_pack(subject: Subject) -> None:
    """Codes come back from their bytes as they were, and equal codes make equal bytes."""
    data = pack(subject.coded).to_bytes()
    if pack(unpack(data)).to_bytes() != data or pack(subject.coded).to_bytes() != data:
        raise Failed("packing what was unpacked gives other bytes")
    back = unpack(data)
    for sent, received in zip(subject.coded.streams, back.streams, strict=True):
        if not np.array_equal(sent, received):
            raise Failed("a stream is another after a way through bytes")


@check()
def codes_follow_audio(subject: Subject) -> None:
    """Two clips that differ have codes that differ: the encoder listens."""
    other = subject.encode([subject.clip_of(subject.probe.length, seed=9)])[0]
    if same_codes(subject.coded, other):
        raise Failed("two different clips have the same codes")


@check()
def codes_suffice(subject: Subject) -> None:
    """The codes as encoded and the codes from bytes decode to the same: nothing hides beside the tokens."""
    direct = subject.codec.decode([subject.brief])[0]
    _expect_same(
        direct,
        subject.decode([subject.brief])[0],
        "the codes as encoded and those from bytes decode to different samples",
    )


@check()
def decodes_elsewhere(subject: Subject) -> None:
    """Another process, which never saw the audio, decodes the bytes to the same samples."""
    found = elsewhere.ask(subject)
    if found.decode_error:
        raise Failed(f"another process cannot decode the bytes: {found.decode_error}")
    _expect_same(found.output, subject.output, "another process decodes the bytes to different samples")


@check()
def encodes_elsewhere(subject: Subject) -> None:
    """Another process, freshly loaded and with another order of work, encodes the clip to the same codes."""
    found = elsewhere.ask(subject)
    if found.encode_error:
        raise Failed(f"another process cannot encode the clip: {found.encode_error}")
    if found.codes is None or not same_codes(found.codes, subject.coded):
        share = 1.0 if found.codes is None else disagreement(found.codes, subject.coded)
        raise Failed(f"another process encodes the clip to other codes: {share:.1%} differ")


def _expect_same(a: Audio | None, b: Audio, message: str) -> None:
    if a is None or a.shape != b.shape or difference(b, a) > 1e-4:
        raise Failed(message)


@check()
def decoder_keeps_codes(subject: Subject) -> None:
    """Decoding changes nothing in the codes that it is given."""
    codes = unpack(pack(subject.brief).to_bytes())
    before = pack(codes).to_bytes()
    subject.codec.decode([codes])
    if pack(codes).to_bytes() != before:
        raise Failed("the codes are others after decoding")


def _other_streams(subject: Subject, change: Callable[[np.ndarray[Any, Any], int], np.ndarray[Any, Any]]) -> Codes:
    if not subject.coded.streams:
        raise Skipped("it sends packets: `decoder_follows_codes` covers it")
    pairs = zip(subject.coded.streams, subject.coded.codebook_sizes, strict=True)
    return replace(subject.coded, streams=tuple(change(np.asarray(stream), size) for stream, size in pairs))


def _must_differ(subject: Subject, codes: Codes, what: str) -> None:
    """`codes` are not those of the probe: their output must be far from it."""
    if same_codes(codes, subject.coded):
        raise Skipped(f"{what} are the codes themselves")
    output = subject.decode([codes])[0]
    change = difference(subject.output, output)
    if change < CHANGED:
        raise Failed(f"{what} change the output by {change:.2%} only")
    if subject.random:
        return
    right = mel_distance(subject.probe.samples, subject.output, subject.rate)
    wrong = mel_distance(subject.probe.samples, output, subject.rate)
    if wrong < min(2 * right, right + FARTHER_DB):
        raise Failed(f"{what} give a mel distance of {wrong:.1f} dB to the clip, and its own codes {right:.1f} dB")


@check()
def decoder_follows_codes(subject: Subject) -> None:
    """The codes of another clip decode to something far from this one: the decoder knows no clip by heart."""
    noise = np.random.default_rng(4).standard_normal(subject.probe.length)
    swell = np.linspace(1, 0.01, subject.probe.length)
    codes = subject.encode([subject.spread(0.2 * noise * swell)])[0]
    _must_differ(subject, codes, "the codes of noise")


@check()
def random_codes(subject: Subject) -> None:
    """Random codes change the output strongly."""
    rng = np.random.default_rng(8)
    codes = _other_streams(subject, lambda stream, size: rng.integers(0, size, len(stream)))
    _must_differ(subject, codes, "random codes")


@check()
def permuted_codes(subject: Subject) -> None:
    """The clip's codes with their frames in another order change the output strongly."""
    rng = np.random.default_rng(8)
    codes = _other_streams(subject, lambda stream, _: stream[rng.permutation(len(stream))])
    _must_differ(subject, codes, "permuted codes")


@check()
def zeroed_codes(subject: Subject) -> None:
    """Codes that are all zero change the output strongly."""
    codes = _other_streams(subject, lambda stream, _: np.zeros_like(stream))
    _must_differ(subject, codes, "zeroed codes")
