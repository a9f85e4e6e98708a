"""Control systems: signals with known faults. If they do not come out in the expected order, a metric is broken.

They run at the clip's own rate, on any number of channels. What they send is their result, packed like any codec's
codes; their bitrate follows the clip's rate, so none is declared. They do not stream, for no stream is told that rate.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cache
from hashlib import blake2b
from math import sqrt
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from codecbench.audio import Audio, Clip, fit_length, resample
from codecbench.models.base import Card, Codec, Codes, OperatingPoint, Stream, System

TRANSITION_HZ = 500
STOPBAND_DB = 62


def _card(name: str, points: tuple[OperatingPoint, ...], **facts: Any) -> Card:
    return Card(name, "control", "Control", "control", sample_rate=None, channels=None, points=points, **facts)


def _number(point: OperatingPoint) -> int:
    return cast("int", point.setting)


def _to_bytes(samples: Audio) -> bytes:
    return samples.astype("<f4").tobytes()


def _from_bytes(packet: bytes, channels: int) -> Audio:
    return np.frombuffer(packet, "<f4").astype(np.float32).reshape(channels, -1)


class FloatControl(Codec):
    """A control whose encoder alters the samples and sends them as float32."""

    @abstractmethod
    def alter(self, clip: Clip, point: OperatingPoint) -> Audio:
        """The altered samples ``[C, T]`` float32 of `clip`."""

    def encode(self, clips: Sequence[Clip], point: OperatingPoint) -> list[Codes]:
        """Alter each clip; one packet of float32 samples, little-endian, channel after channel."""
        return [
            Codes(clip.length, clip.sample_rate, clip.channels, packets=(_to_bytes(self.alter(clip, point)),))
            for clip in clips
        ]

    def decode(self, codes: Sequence[Codes]) -> list[Audio]:
        """Read the samples back, bit by bit."""
        return [_from_bytes(item.packets[0], item.channels) for item in codes]


class Identity(FloatControl):
    """The clip itself, bit by bit. Every metric must give it the best value that it can give."""

    card: ClassVar[Card] = _card("identity", (OperatingPoint("float32"),), causal=True, lookahead=0)

    def alter(self, clip: Clip, point: OperatingPoint) -> Audio:  # noqa: ARG002
        """The samples unchanged."""
        return clip.samples


class LowPass(FloatControl):
    """The low-pass anchors of a listening test (ITU-R BS.1534-3): 3.5 kHz and 7 kHz.

    A linear-phase FIR filter (Kaiser window) whose delay is removed. The passband ends at the point's frequency with a
    ripple below 0.02 dB; the stopband begins 500 Hz above it, at 60 dB. BS.1534-3 asks for 0.1 dB, and for 25 dB and
    50 dB at 500 Hz and 1 kHz above the edge. A clip whose Nyquist frequency is below that stopband has
    nothing to remove and passes unchanged.
    """

    card: ClassVar[Card] = _card(
        "lowpass",
        (OperatingPoint("3.5k", setting=3500), OperatingPoint("7k", setting=7000)),
        causal=False,
        paper="ITU-R BS.1534-3",
    )

    def alter(self, clip: Clip, point: OperatingPoint) -> Audio:
        """The samples without what lies above the point's frequency."""
        edge = _number(point)
        if not clip.length or clip.sample_rate < 2 * (edge + TRANSITION_HZ):
            return clip.samples
        from scipy.signal import fftconvolve

        filtered = fftconvolve(clip.samples.astype(np.float64), _lowpass(edge, clip.sample_rate)[None], "full", axes=1)
        delay = (filtered.shape[1] - clip.length) // 2
        return np.asarray(filtered[:, delay : delay + clip.length], np.float32)


@cache
def _lowpass(edge: int, sample_rate: int) -> NDArray[np.float64]:
    """An odd number of filter taps ``[N]``, symmetric."""
    from scipy.signal import firwin, kaiserord

    taps, beta = kaiserord(STOPBAND_DB, TRANSITION_HZ / (sample_rate / 2))
    cutoff = edge + TRANSITION_HZ / 2
    return np.asarray(firwin(taps | 1, cutoff, window=("kaiser", beta), fs=sample_rate), np.float64)


class Noise(FloatControl):
    """White Gaussian noise at an exact signal-to-noise ratio over the clip.

    The noise is seeded by the samples: the same clip gets the same noise in every run and order, and at
    every point. A silent clip stays silent, for no noise has a finite ratio to it.
    """

    card: ClassVar[Card] = _card(
        "noise", tuple(OperatingPoint(f"{snr}dB", setting=snr) for snr in (10, 20, 30)), causal=False
    )

    def alter(self, clip: Clip, point: OperatingPoint) -> Audio:
        """The samples with noise at the point's ratio in dB."""
        signal = clip.samples.astype(np.float64)
        seed = int.from_bytes(blake2b(_to_bytes(clip.samples), digest_size=4).digest(), "little")
        # NumPy promises RandomState's numbers for good; a Generator's may change with a release.
        noise = np.random.RandomState(seed).standard_normal(signal.shape)
        scale = sqrt(float(np.sum(signal**2)) / max(float(np.sum(noise**2)), 1e-300) / 10 ** (_number(point) / 10))
        return np.asarray(signal + scale * noise, np.float32)


class Resample(Codec):
    """Down to a lower rate and back with the benchmark's resampler: the ceiling of a system that runs at that rate.

    What it sends are the float32 samples at the lower rate, after that rate. A clip at or below the point's rate passes
    unchanged.
    """

    card: ClassVar[Card] = _card(
        "resample", tuple(OperatingPoint(f"{khz}k", setting=1000 * khz) for khz in (8, 16, 24)), causal=False
    )

    def encode(self, clips: Sequence[Clip], point: OperatingPoint) -> list[Codes]:
        """Resample each clip to the point's rate: a packet of that rate, and one of the samples."""
        return [self._encode(clip, _number(point)) for clip in clips]

    def _encode(self, clip: Clip, rate: int) -> Codes:
        rate = min(rate, clip.sample_rate)
        packets = (rate.to_bytes(4, "little"), _to_bytes(resample(clip.samples, clip.sample_rate, rate)))
        return Codes(clip.length, clip.sample_rate, clip.channels, packets=packets)

    def decode(self, codes: Sequence[Codes]) -> list[Audio]:
        """Resample each item back to its clip's rate."""
        return [self._decode(item) for item in codes]

    def _decode(self, item: Codes) -> Audio:
        samples = _from_bytes(item.packets[1], item.channels)
        rate = int.from_bytes(item.packets[0], "little")
        return fit_length(resample(samples, rate, item.sample_rate), item.length)


class Pcm(Codec):
    """Uniform PCM of ``n`` bits: round to steps of ``2 ** (1 - n)``, and saturate at full scale.

    One stream with a codebook of ``2 ** n``, its channels interleaved. Zero is a level (two's complement, as in a WAV
    file, shifted to start at 0), so silence stays silent.
    """

    card: ClassVar[Card] = _card(
        "pcm",
        tuple(
            OperatingPoint(f"{bits}bit", setting=bits, own_streams=(Stream(2**bits, None),))
            for bits in (4, 6, 8, 12, 16)
        ),
        streams=(Stream(2**16, None),),
        causal=True,
        lookahead=0,
    )

    def encode(self, clips: Sequence[Clip], point: OperatingPoint) -> list[Codes]:
        """Quantise each sample to the point's number of bits."""
        half = 2 ** (_number(point) - 1)
        return [
            _interleaved(np.clip(np.rint(clip.samples * half), -half, half - 1) + half, clip, 2 * half)
            for clip in clips
        ]

    def decode(self, codes: Sequence[Codes]) -> list[Audio]:
        """The level of each code."""
        return [np.asarray(_channels(item) / (item.codebook_sizes[0] / 2) - 1, np.float32) for item in codes]


class MuLaw(Codec):
    """µ-law PCM at 8 bits (ITU-T G.711): the octets that a telephone line carries, at the clip's own rate.

    The standard's segmented law with its decision values, not the logarithm that it approximates: it is what was
    deployed, and it is defined in integers. Full scale is the standard's 14-bit range.
    """

    card: ClassVar[Card] = _card(
        "mulaw",
        (OperatingPoint("8bit", streams=1),),
        streams=(Stream(256, None),),
        causal=True,
        lookahead=0,
        paper="ITU-T G.711",
    )

    def encode(self, clips: Sequence[Clip], point: OperatingPoint) -> list[Codes]:  # noqa: ARG002
        """The G.711 octet of each sample."""
        decisions, _ = _mulaw_tables()
        return [_interleaved(_mulaw_octets(clip.samples, decisions), clip, 256) for clip in clips]

    def decode(self, codes: Sequence[Codes]) -> list[Audio]:
        """The output level of each octet."""
        _, levels = _mulaw_tables()
        return [np.asarray(levels[_channels(item)], np.float32) for item in codes]


@cache
def _mulaw_tables() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Decision values ``[128]`` of the magnitude and levels ``[256]`` of the octets, full scale 1 (G.711 table 2)."""
    segment, step = np.divmod(np.arange(128), 16)
    decisions = np.maximum(((16 + step) << (segment + 1)) - 33, 0)
    magnitudes = ((2 * step + 33) << segment) - 33
    levels = np.concatenate([-magnitudes[::-1], magnitudes[::-1]])  # the octet holds the magnitude inverted
    return (decisions / 8192).astype(np.float32), (levels / 8192).astype(np.float32)


def _mulaw_octets(samples: Audio, decisions: NDArray[np.float32]) -> NDArray[np.int64]:
    magnitude = np.searchsorted(decisions, np.abs(samples), side="right") - 1
    return np.where(samples < 0, 127 - magnitude, 255 - magnitude)


def _interleaved(tokens: NDArray[Any], clip: Clip, codebook_size: int) -> Codes:
    """Codes of one stream from tokens ``[C, T]``."""
    stream = tokens.astype(np.int64).T.ravel()
    return Codes(clip.length, clip.sample_rate, clip.channels, streams=(stream,), codebook_sizes=(codebook_size,))


def _channels(item: Codes) -> NDArray[np.int64]:
    """Tokens ``[C, T]`` from codes of one stream."""
    return item.streams[0].astype(np.int64).reshape(item.length, item.channels).T


SYSTEMS: tuple[System, ...] = (Identity, Resample, LowPass, Pcm, MuLaw, Noise)
