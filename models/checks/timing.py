"""Checks of time: delay, causality and streaming, as the card declares them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from codecbench.audio import Audio, Clip
from codecbench.models.base import Codes
from codecbench.models.checks.base import Failed, Skipped, check
from codecbench.models.checks.probes import frozen, lag
from codecbench.models.checks.subject import Subject, difference, disagreement

LIKE = 0.5
"""Correlation with the input from which an output's delay can be told."""
LATE_SECONDS = 0.001
PACKET_SECONDS = 0.06
"""The longest frame of a codec whose card names no frame rate."""


@check()
def in_time(subject: Subject) -> None:
    """The output is in time with the input within a millisecond: the declared delay has been removed, and no other."""
    subject.needs_true_weights()
    late, likeness = lag(subject.probe.samples, subject.output, furthest=subject.rate // 10)
    if likeness < LIKE:
        raise Skipped(f"the output is no waveform match (correlation {likeness:.2f}), so its delay cannot be told")
    if abs(late) > LATE_SECONDS * subject.rate:
        raise Failed(f"the output is {late} samples late ({1000 * late / subject.rate:.1f} ms)")


def _changed_probe(subject: Subject) -> tuple[Clip, int]:
    """The probe with other samples from some place on, and that place."""
    samples = subject.probe.samples.copy()
    start = int(0.6 * samples.shape[1])
    samples[:, start:] = 0.3 * np.random.default_rng(6).standard_normal(samples[:, start:].shape)
    return frozen(samples, subject.rate), start


def _certain(subject: Subject, samples: int) -> int:
    """Samples at the start that `samples` of input settle, by the card: whole frames, less the look-ahead."""
    card = subject.card
    if not card.causal and card.lookahead is None:
        raise Skipped("it is not declared causal, and declares no look-ahead")
    framed = any(stream.frame_rate for stream in card.streams_at(subject.richest))
    hop = subject.hop if framed else round(PACKET_SECONDS * subject.rate) if not card.streams else 1
    ahead = card.lookahead if card.lookahead is not None else card.delay
    certain = (samples - max(ahead, 0)) // hop * hop
    if certain <= 0 or samples <= card.warm_up:
        raise Skipped("its frames or its warm-up are longer than the probe")
    return certain


@check()
def encoder_causality(subject: Subject) -> None:
    """Samples that come later change no token of a frame that is complete, as the card declares its look-ahead."""
    clip, start = _changed_probe(subject)
    certain = _certain(subject, start)
    if not subject.coded.streams:
        raise Skipped("it sends packets: `output_causality` covers it")
    other = subject.encode([clip])[0]
    for k, (a, b) in enumerate(zip(subject.coded.streams, other.streams, strict=True)):
        stream = subject.card.streams_at(subject.richest)[k]
        frames = subject.frames_until(certain, stream.frame_rate)
        changed = np.flatnonzero(a[:frames] != b[:frames])
        if len(changed) > 0.02 * frames:
            raise Failed(f"samples from {start} on change frame {changed[0]} of stream {k}, which was complete before")


@check()
def output_causality(subject: Subject) -> None:
    """Samples that come later change no sample of the output that the card's look-ahead makes certain before."""
    clip, start = _changed_probe(subject)
    certain = _certain(subject, start)
    output = subject.round_trip([clip])[0]
    change = difference(subject.output[:, :certain], output[:, :certain])
    if change > 1e-3:
        apart = np.abs(subject.output[:, :certain] - output[:, :certain]).max(axis=0) > 1e-4
        raise Failed(f"input from sample {start} on changes the output before {certain}, at {int(apart.argmax())}")


@check()
def latency(subject: Subject) -> None:
    """A change of the input reaches back no further than a frame and the look-ahead that the card declares."""
    from codecbench.models.latency import measure_latency

    card = subject.card
    framed = any(stream.frame_rate for stream in card.streams_at(subject.richest))
    if card.lookahead is None or not framed:
        raise Skipped("it declares no look-ahead" if framed else "it declares no frames")
    seconds = 0.4 + 2.5 * (subject.hop + card.lookahead + card.warm_up) / subject.rate
    found = measure_latency(subject.codec, subject.richest, seconds=seconds, probes=1)
    if found.wait > subject.hop + card.lookahead:
        raise Failed(f"a change reaches back {found.wait - subject.hop:g} samples beyond a frame; "
                     f"the declared look-ahead is {card.lookahead}")  # fmt: skip


def _streams(subject: Subject) -> None:
    if not subject.card.streaming:
        raise Skipped("it is not declared to stream")


def _pieces(length: int, hop: int) -> list[int]:
    """Where to cut: pieces of no sample, one, less than a frame, a frame, more, and all the rest."""
    cuts = np.cumsum([0, 1, max(hop - 2, 0), hop, hop + 7, 3 * hop])
    return [0, *(int(cut) for cut in cuts if cut < length), length]


def _encode_in_pieces(subject: Subject, clip: Clip) -> Codes:
    from codecbench.models.streaming import join_codes

    stream = subject.codec.encode_stream(subject.richest)
    cuts = _pieces(clip.length, subject.hop)
    parts: list[Codes] = []
    for start, end in pairwise(cuts):
        parts.append(stream.push(clip.samples[:, start:end]))
        _is_prompt(subject, end, sum(len(part.streams[0]) for part in parts if part.streams))
    return join_codes([*parts, stream.finish()])


def _is_prompt(subject: Subject, samples: int, frames: int) -> None:
    """The frames that have come out of so many samples are as many as the card's look-ahead promises."""
    ahead = subject.card.lookahead
    if ahead is None or samples < subject.card.warm_up or not subject.coded.streams:
        return
    promised = min((samples - ahead) // subject.hop, len(subject.coded.streams[0]) - 1)
    if frames < promised:
        raise Failed(f"after {samples} samples it returned {frames} frames; its look-ahead promises {promised}")


@check()
def stream_encode(subject: Subject) -> None:
    """A clip encoded in pieces has the codes that it has whole, and no later than the card's look-ahead promises."""
    _streams(subject)
    codes = _encode_in_pieces(subject, subject.probe)
    if codes.length != subject.probe.length:
        raise Failed(f"the pieces' lengths add up to {codes.length}, the clip has {subject.probe.length}")
    share = disagreement(codes, subject.coded)
    if share > 0.02:
        raise Failed(f"in pieces, {share:.1%} of the codes differ from those of the whole clip")


@check()
def stream_decode(subject: Subject) -> None:
    """Codes decoded in pieces give the samples that they give whole."""
    _streams(subject)
    _like_whole(subject, _decode_in_pieces(subject))


def _decode_in_pieces(subject: Subject) -> Audio:
    coded = subject.coded
    stream = subject.codec.decode_stream(subject.richest)
    frames = len(coded.streams[0]) if coded.streams else len(coded.packets)
    pieces = []
    for start, end in ((0, 0), (0, 1), (1, 3), (3, frames)):
        pieces.append(stream.push(_part(coded, slice(start, min(end, frames)))))
    pieces.append(stream.finish(coded.length))
    return np.concatenate(pieces, axis=1)[:, : coded.length]


def _part(codes: Codes, frames: slice) -> Codes:
    """Some frames of `codes`."""
    streams = tuple(stream[frames] for stream in codes.streams)
    return replace(codes, streams=streams, packets=codes.packets[frames])


def _like_whole(subject: Subject, audio: Audio) -> None:
    if audio.shape != subject.output.shape:
        raise Failed(f"the pieces make {list(audio.shape)} samples, the whole {list(subject.output.shape)}")
    change = difference(subject.output, audio)
    if change > 1e-3:
        raise Failed(f"in pieces, the samples differ from those of the whole by {change:.2g} of their level")


@check()
def streams_apart(subject: Subject) -> None:
    """Two streams at once do not disturb each other, nor the codec's whole-clip coding."""
    _streams(subject)
    half = subject.probe.length // 2
    other = subject.clip_of(subject.probe.length, seed=30)
    one, two = (subject.codec.encode_stream(subject.richest) for _ in range(2))
    from codecbench.models.streaming import join_codes

    parts = []
    for piece in (slice(0, half), slice(half, None)):
        parts.append(one.push(subject.probe.samples[:, piece]))
        two.push(other.samples[:, piece])
    share = disagreement(join_codes([*parts, one.finish()]), subject.coded)
    if share > 0.02:
        raise Failed(f"with a second stream beside it, {share:.1%} of a stream's codes differ")
