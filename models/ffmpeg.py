"""The classical codecs that PyAV's FFmpeg can encode: Opus, MP3, AAC, AMR-NB, G.722 and G.726.

All are run on one channel, at constant bitrate where the codec has one, in a new encoder and a new decoder a clip.
Their delay is removed: it was measured by cross-correlation, and `tests/models/test_ffmpeg.py` measures it again. That
takes as much look-ahead. None streams here: what is sent for a clip is one packet for most, without what would separate
its frames, and PyAV gives no access to an encoder's state.
What was decided, and why, is in ``docs/decisions/0003-classical-codecs.md``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, ClassVar

import numpy as np

from codecbench.audio import Audio, Clip, fit_length, resample
from codecbench.models import av_codec, frame_bits
from codecbench.models.base import Card, Codec, Codes, LoadOptions, OperatingPoint, System


def _points(*kbps: float) -> tuple[OperatingPoint, ...]:
    return tuple(OperatingPoint(f"{k:g}kbps", float(k)) for k in kbps)


def _card(name: str, family: str, sample_rate: int, points: tuple[OperatingPoint, ...], **facts: Any) -> Card:
    return Card(name, "codec", family, "classical", sample_rate, channels=1, points=points, **facts)


class FFmpegCodec(Codec):
    """A codec of FFmpeg that sends the encoder's packets as they are.

    A point's `setting` is the rate in Hz at which the codec is run, where it is not the card's sample rate.
    """

    encoder: ClassVar[str]
    decoder: ClassVar[str]
    sample_format: ClassVar[av_codec.SampleFormat] = "s16"
    options: ClassVar[Mapping[str, str]] = {}
    lag: ClassVar[int] = 0
    """Samples by which the decoder's output is late, at the rate at which the codec is run."""
    gain: ClassVar[float] = 1.0
    """Applied before the encoder, and undone after the decoder."""

    @classmethod
    def load(cls, options: LoadOptions) -> Codec:  # noqa: ARG003
        """Return the codec.

        Raises:
            InvalidSystem: PyAV's FFmpeg was built without the encoder or the decoder.
        """
        av_codec.require(cls.card.name, cls.encoder, cls.decoder)
        return cls()

    def encode(self, clips: Sequence[Clip], point: OperatingPoint) -> list[Codes]:
        """Encode each clip ``[1, T]`` at `point`; samples beyond full scale saturate in codecs of 16-bit input."""
        return [self._encode(clip, point) for clip in clips]

    def decode(self, codes: Sequence[Codes]) -> list[Audio]:
        """Decode each item; the output is in time with the clip that went in, and as long."""
        return [self._decode(item) for item in codes]

    def join(self, packets: list[bytes], extradata: bytes, point: OperatingPoint, length: int) -> tuple[bytes, ...]:  # noqa: ARG002
        """What is sent for a clip of `length` samples of which the encoder made `packets`."""
        return tuple(packets)

    def split(self, item: Codes) -> tuple[Sequence[bytes], dict[str, str], bytes]:
        """The decoder's packets, options and extradata, from what was sent."""
        return item.packets, {}, b""

    def _encode(self, clip: Clip, point: OperatingPoint) -> Codes:
        rate = int(point.setting or clip.sample_rate)
        ratio = clip.sample_rate // rate
        padded = fit_length(clip.samples[0] * np.float32(self.gain), ceil(clip.length / ratio) * ratio)
        packets, extradata = av_codec.encode(
            self.encoder,
            resample(padded, clip.sample_rate, rate),
            rate,
            bit_rate=round(1000 * (point.kbps or 0)),
            sample_format=self.sample_format,
            options=self.options,
            delay=self.lag,
        )
        sent = self.join(packets, extradata, point, clip.length)
        return Codes(clip.length, clip.sample_rate, packets=sent)

    def _decode(self, item: Codes) -> Audio:
        packets, options, extradata = self.split(item)
        samples, rate = av_codec.decode(self.decoder, packets, item.sample_rate, options, extradata)
        low = ceil(item.length * rate / item.sample_rate)
        samples = samples[self.lag : self.lag + low] / np.float32(self.gain)
        return resample(samples, rate, item.sample_rate)[None, : item.length]


class Opus(FFmpegCodec):
    """Opus: frames of 20 ms at constant bitrate, application "audio".

    CBR, for the sizes of VBR packets carry information that is charged; "audio", for "voip" filters its input. The
    pre-skip of 312 samples is removed. The speech layer (SILK) is up to 3 samples early or late of that, by its
    bandwidth: a fraction of a sample at its own rate.

    Up to 56 kbps the encoder codes speech in the speech or the hybrid mode, above it in the transform mode (CELT)
    alone. At 64 kbps that costs a fifth of a PESQ point against 48 kbps; 96 kbps is above both.
    """

    encoder = decoder = "libopus"
    sample_format = "flt"
    options: ClassVar[Mapping[str, str]] = {"vbr": "off", "application": "audio", "frame_duration": "20"}
    lag = 312
    card: ClassVar[Card] = _card(
        "opus",
        "Opus",
        48000,
        _points(6, 8, 12, 16, 24, 32, 48, 96),
        causal=True,
        delay=312,
        lookahead=312,
        licence="BSD-3-Clause",
        paper="RFC 6716",
    )


MUSIC_POINTS = tuple(
    OperatingPoint(f"{kbps}kbps", float(kbps), setting=rate)
    for rate, points in ((16000, (16, 24)), (24000, (32,)), (48000, (48, 64, 96, 128)))
    for kbps in points
)
"""Of MP3 and AAC, each with the rate in Hz at which they run: after LAME's table, of the rates that divide 48 kHz."""


class Mp3(FFmpegCodec):
    """MP3 by LAME at constant bitrate.

    48 kHz, so that all frames of a point are of one size; below 48 kbps the clip is encoded at 16 or 24 kHz, as LAME's
    own front end would. The delay is 1105 samples of the rate at which it runs: 576 of the encoder and 529 of the
    decoder.
    """

    encoder, decoder = "libmp3lame", "mp3float"
    sample_format = "fltp"
    lag = 1105
    card: ClassVar[Card] = _card(
        "mp3",
        "MP3",
        48000,
        MUSIC_POINTS,
        causal=False,
        delay=1105,
        licence="LGPL-2.0-or-later",
        paper="ISO/IEC 11172-3 and 13818-3",
    )


class Aac(FFmpegCodec):
    """AAC-LC by FFmpeg's own encoder, at 48 kHz or, below 48 kbps, at 16 or 24 kHz.

    One packet: the two bytes of the AudioSpecificConfig, then the raw data blocks end to end (they are
    self-delimiting, so their sizes need not be sent). The encoder has no constant bitrate: it keeps its
    average within some per cent of the point's.
    """

    encoder = decoder = "aac"
    sample_format = "fltp"
    lag = 1024
    card: ClassVar[Card] = _card(
        "aac",
        "AAC",
        48000,
        MUSIC_POINTS,
        causal=False,
        delay=1024,
        licence="LGPL-2.1-or-later",
        paper="ISO/IEC 14496-3",
    )

    def join(self, packets: list[bytes], extradata: bytes, point: OperatingPoint, length: int) -> tuple[bytes, ...]:  # noqa: ARG002
        """The configuration without FFmpeg's optional "no SBR" mark, and the raw data blocks."""
        return (extradata[:2] + b"".join(packets),)

    def split(self, item: Codes) -> tuple[Sequence[bytes], dict[str, str], bytes]:
        """The raw data blocks, and the configuration before them."""
        return (item.packets[0][2:],), {}, item.packets[0][:2]


AMR_BITS = (95, 103, 118, 134, 148, 159, 204, 244)
"""Speech bits of a frame of 20 ms in the modes 0 to 7 (3GPP TS 26.101)."""


class AmrNb(FFmpegCodec):
    """AMR narrowband by opencore-amr at 8 kHz, all eight modes, discontinuous transmission off.

    One packet: a byte for the mode, then the speech bits of all frames without gaps (as in the bandwidth-efficient
    format of RFC 4867), for the file format's header and padding would add up to 9.5 %. The delay is the
    encoder's look-ahead of 5 ms.
    """

    encoder = decoder = "libopencore_amrnb"
    options: ClassVar[Mapping[str, str]] = {"dtx": "0"}
    lag = 40
    card: ClassVar[Card] = _card(
        "amr_nb",
        "AMR-NB",
        8000,
        _points(*(bits / 20 for bits in AMR_BITS)),
        causal=True,
        delay=40,
        lookahead=40,
        licence="Apache-2.0",
        paper="3GPP TS 26.071",
    )

    def join(self, packets: list[bytes], extradata: bytes, point: OperatingPoint, length: int) -> tuple[bytes, ...]:  # noqa: ARG002
        """The mode and the speech bits; the header of each frame, which says the same every time, is left out."""
        mode = self.card.points.index(point)
        return (frame_bits.join(mode, [packet[1:] for packet in packets], AMR_BITS[mode]),)

    def split(self, item: Codes) -> tuple[Sequence[bytes], dict[str, str], bytes]:
        """Frames of the file format (RFC 4867, section 5.3): a header with the mode and a good quality mark."""
        mode, frames = frame_bits.split(item.packets[0], AMR_BITS)
        header = bytes([mode << 3 | 1 << 2])
        return [header + frame for frame in frames], {}, b""


class G722(FFmpegCodec):
    """G.722 at 64 kbps: sub-band ADPCM, one byte for two samples at 16 kHz. The filter bank delays by 22 samples."""

    encoder = decoder = "g722"
    lag = 22
    card: ClassVar[Card] = _card(
        "g722",
        "G.722",
        16000,
        _points(64),
        causal=True,
        delay=22,
        lookahead=22,
        licence="LGPL-2.1-or-later",
        paper="ITU-T G.722",
    )

    def join(self, packets: list[bytes], extradata: bytes, point: OperatingPoint, length: int) -> tuple[bytes, ...]:  # noqa: ARG002
        """One packet of the bytes up to the clip's end."""
        return (b"".join(packets)[: ceil((length + self.lag) / 2)],)


class G726(FFmpegCodec):
    """G.726 ADPCM at 8 kHz with 2 to 5 bits a sample, without delay.

    Run at half scale, and so with the 13 bits of A-law: where the standard's decoder saturates, FFmpeg's wraps round,
    and loud clips would click.
    """

    encoder = decoder = "g726"
    gain = 0.5
    card: ClassVar[Card] = _card(
        "g726",
        "G.726",
        8000,
        _points(16, 24, 32, 40),
        causal=True,
        lookahead=0,
        licence="LGPL-2.1-or-later",
        paper="ITU-T G.726",
    )

    def join(self, packets: list[bytes], extradata: bytes, point: OperatingPoint, length: int) -> tuple[bytes, ...]:  # noqa: ARG002
        """One packet of the bytes up to the clip's end: eight samples take a byte for each of their bits."""
        return (b"".join(packets)[: ceil(length / 8) * round((point.kbps or 0) / 8)],)

    def split(self, item: Codes) -> tuple[Sequence[bytes], dict[str, str], bytes]:
        """The packet, and the bits a sample, which follow from its size."""
        bits = len(item.packets[0]) // ceil(item.length / 8) if item.length else 2
        return item.packets, {"bits_per_coded_sample": str(bits)}, b""


SYSTEMS: tuple[System, ...] = (Opus, Mp3, Aac, AmrNb, G722, G726)
