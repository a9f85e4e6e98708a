"""Algorithmic latency, measured: how much of a clip must have come in before a sample of it can come out.

By causality probing, through a codec's public interface alone: change the input from some sample on, and look for the
first token, and the first output sample, that changes. It needs no trained weights. What it finds is a lower bound: a
dependence too weak to change a token is not seen, such as the far end of a convolution's window, or of the memory of an
LSTM that runs backwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil, inf, isinf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codecbench.audio import Audio, Clip
from codecbench.models.base import Codec, Codes, OperatingPoint

OWN_RATE = 16_000
"""In Hz, for a codec that runs at any rate."""
LEVEL = 0.1
"""RMS of the probe where it is loudest."""
RECOGNISED = 0.5
"""Correlation of output and input from which on the delay between them means something."""
FIRST = 0.1
"""A codec uses the whole clip if most changes in its second half show in so much of its beginning."""


@dataclass(frozen=True)
class Latency:
    """What was measured, in samples; infinite where the codec uses the whole clip.

    Attributes:
        sample_rate: In Hz.
        frame: The longest frame of the tokens; None for a codec that sends packets.
        encoder: Look-ahead of the tokens: samples after the end of their frame on which they depend. Negative where
            the rest of the frame itself is not needed, None for packets.
        decoder: Look-ahead of the samples: before the start of a frame, those that its tokens change; None for packets.
        wait: Samples from one that comes in until the first that depends on it has gone out, both counted: a frame and
            all look-ahead.
        delay: By which the output is late, or early if negative; None if the output does not resemble the input enough,
            as with random weights.
    """

    sample_rate: int
    frame: int | None
    encoder: float | None
    decoder: float | None
    wait: float
    delay: int | None

    @property
    def samples(self) -> float:
        """Algorithmic latency: what has to be waited for, and the delay."""
        return self.wait + (self.delay or 0)

    @property
    def milliseconds(self) -> float:
        """Algorithmic latency in ms."""
        return 1000 * self.samples / self.sample_rate

    def to_json(self) -> dict[str, Any]:
        """All values, with ``unbounded`` for infinity."""
        values = {**asdict(self), "samples": self.samples, "milliseconds": round(self.milliseconds, 3)}
        return {
            name: "unbounded" if isinstance(value, float) and isinf(value) else value for name, value in values.items()
        }


def measure_latency(codec: Codec, point: OperatingPoint, *, seconds: float = 2.0, probes: int = 12) -> Latency:
    """Measure `codec` at `point` on `seconds` of noise, which change in turn from `probes` positions on.

    The codec encodes ``probes + 1`` clips, and decodes half as many again. All random numbers are seeded.

    Raises:
        ValueError: No change changed the output, so there is nothing to measure.
    """
    rate, channels = codec.card.sample_rate or OWN_RATE, codec.card.channels or 1
    hops = [rate / (stream.frame_rate or rate) for stream in codec.card.streams_at(point)]
    frame = ceil(max(hops)) if hops else None
    length = round(seconds * rate)
    rng = np.random.default_rng(0)
    probe = _noise(length, rng)
    starts = _positions(length, frame, probes, rng)
    clips = [probe, *(_changed(probe, start, i, rng) for i, start in enumerate(starts))]
    codes = [_encode(codec, Clip(np.repeat(samples[None], channels, 0), rate), point) for samples in clips]
    outputs = [codec.decode([item])[0] for item in codes]
    wait = _reach(starts, [_first_change(outputs[0], other) for other in outputs[1:]], length)
    if wait is None:
        raise ValueError(f"{codec.card.name}: the output is the same whatever comes in, so it has no latency")
    encoder = decoder = None
    if codes[0].streams:
        encoder = _encoder(codes, starts, hops, length)
        frames = [round(ceil(start / max(hops)) * max(hops)) for start in starts[::3]]
        decoder = _decoder(codec, codes[0], outputs[0], frames, hops, rng)
    return Latency(rate, frame, encoder, decoder, wait + 1, _delay(probe, outputs[0].mean(axis=0)))


def _encode(codec: Codec, clip: Clip, point: OperatingPoint) -> Codes:
    if not codec.card.nested:
        return codec.encode([clip], point)[0]
    return codec.encode([clip], codec.card.points[-1])[0].prefix(point.streams or len(codec.card.streams))


def _noise(length: int, rng: np.random.Generator) -> Audio:
    """Noise ``[T]`` that falls towards high frequencies, as recordings do, and nearly fades out twelve times."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    samples = np.fft.irfft(spectrum / np.sqrt(1 + np.arange(len(spectrum)) / (0.02 * length)), length)
    envelope = 0.505 + 0.495 * np.cos(2 * np.pi * 12 * np.arange(length) / length)
    return np.asarray(LEVEL * envelope * samples / samples.std(), np.float32)


def _positions(length: int, frame: int | None, count: int, rng: np.random.Generator) -> list[int]:
    """Samples, from 40 to 95 % of the clip on, at which changes begin.

    Where frames are known, it is in turn their last sample, which without look-ahead has the furthest to go back,
    their first, and any.
    """
    anywhere = np.linspace(0.4 * length, 0.9 * length, count) + rng.uniform(0, 0.05 * length, count)
    starts = [int(start) for start in anywhere]
    if frame is not None:
        starts[0::3] = [start // frame * frame + frame - 1 for start in starts[0::3]]
        starts[1::3] = [start // frame * frame for start in starts[1::3]]
    return starts


def _changed(probe: Audio, start: int, which: int, rng: np.random.Generator) -> Audio:
    """`probe` with a click at `start`, and from there on its negative or, in turn, louder noise."""
    samples = probe.copy()
    later = samples[start:]
    later[:] = -later if which % 2 else np.clip(3 * LEVEL * rng.standard_normal(len(later)), -0.9, 0.9)
    later[:1] = 0.9 if samples[start - 1] < 0 else -0.9
    return samples


def _first_change(before: NDArray[Any], after: NDArray[Any]) -> int | None:
    """The first time step of ``[C, T]`` at which they differ by more than rounding; None if they do not."""
    size = min(before.shape[-1], after.shape[-1])
    before, after = before[..., :size].astype(np.float64), after[..., :size].astype(np.float64)
    tolerance = 1e-6 * max(np.abs(before).max(initial=0), np.abs(after).max(initial=0))
    different = np.flatnonzero((np.abs(before - after) > tolerance).any(axis=0))
    return int(different[0]) if different.size else None


def _reach(starts: Sequence[int], firsts: Sequence[int | None], length: int) -> float | None:
    """How far before its start a change is seen at most; infinite for the whole clip, None if none is seen."""
    seen = [(start, first) for start, first in zip(starts, firsts, strict=True) if first is not None]
    if not seen:
        return None
    from_late = [first for start, first in seen if start > length / 2]
    if np.median(from_late or length) < FIRST * length:
        return inf
    return max(start - first for start, first in seen)


def _encoder(codes: Sequence[Codes], starts: Sequence[int], hops: Sequence[float], length: int) -> float | None:
    """The furthest look-ahead of any stream."""
    found = []
    for k, hop in enumerate(hops):
        frames = [_first_change(codes[0].streams[k][None], item.streams[k][None]) for item in codes[1:]]
        ends = [None if frame is None else round((frame + 1) * hop) - 1 for frame in frames]
        found.append(_reach(starts, ends, length))
    return max((reach for reach in found if reach is not None), default=None)


def _decoder(
    codec: Codec, codes: Codes, output: Audio, starts: Sequence[int], hops: Sequence[float], rng: np.random.Generator
) -> float | None:
    """The furthest look-ahead: all tokens change from each start on, which is that of a frame."""
    firsts = []
    for start in starts:
        streams = list(_other_tokens(codes, start, hops, rng))
        firsts.append(_first_change(output, codec.decode([replace(codes, streams=tuple(streams))])[0]))
    return _reach(starts, firsts, codes.length)


def _other_tokens(
    codes: Codes, start: int, hops: Sequence[float], rng: np.random.Generator
) -> Iterator[NDArray[np.integer[Any]]]:
    for stream, size, hop in zip(codes.streams, codes.codebook_sizes, hops, strict=True):
        tokens = stream.copy()
        later = tokens[ceil(start / hop - 0.01) :]
        later[:] = (later + rng.integers(1, max(2, size), len(later))) % size
        yield tokens


def _delay(probe: Audio, output: Audio) -> int | None:
    """The lag at which `output` ``[T]`` resembles `probe` most, up to a quarter of the clip; None if nowhere enough."""
    size = 2 * len(probe)
    energy = np.sqrt(np.sum(probe**2, dtype=np.float64) * np.sum(output**2, dtype=np.float64))
    correlation = np.fft.irfft(np.fft.rfft(output, size) * np.conj(np.fft.rfft(probe, size)), size)
    lags = np.roll(correlation, len(probe))[len(probe) * 3 // 4 : len(probe) * 5 // 4]
    best = int(np.argmax(np.abs(lags)))
    recognised = energy > 0 and np.abs(lags[best]) >= RECOGNISED * energy
    return best - (len(probe) - len(probe) * 3 // 4) if recognised else None
