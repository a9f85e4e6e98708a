from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import numpy as np
import pytest

from codecbench.audio import Audio, Clip
from codecbench.errors import InvalidSystem
from codecbench.models import av_codec
from codecbench.models.base import Codec, Codes, LoadOptions, OperatingPoint, System
from codecbench.models.bitstream import pack, unpack
from codecbench.models.ffmpeg import AMR_BITS, SYSTEMS

MakeSpeech = Callable[..., Audio]
LENGTHS = (0, 1, 2, 159, 160, 161, 1000, 16007)
POINTS = [(system, point) for system in SYSTEMS for point in system.card.points]
SYSTEM_IDS = [system.card.name for system in SYSTEMS]
POINT_IDS = [f"{system.card.name}-{point.name}" for system, point in POINTS]
ENDS = [(system, system.card.points[end]) for system in SYSTEMS for end in (0, -1)]


def load(system: System) -> Codec:
    codec = system.load(LoadOptions())
    assert isinstance(codec, Codec)
    return codec


def through(codec: Codec, point: OperatingPoint, samples: Audio) -> tuple[Audio, int]:
    """`samples` ``[T]`` through the codec and our bitstream: what comes out, and the bits of the payload."""
    clip = Clip(samples[None], codec.card.sample_rate or 0)
    packed = pack(codec.encode([clip], point)[0])
    return codec.decode([unpack(packed.to_bytes())])[0][0], packed.bits


def delay(reference: Audio, output: Audio) -> float:
    """Delay of `output` in samples, to 1/8: the peak of the cross-correlation."""
    upsampling, size = 8, 2 * len(reference)
    cross = np.fft.rfft(output, size) * np.conj(np.fft.rfft(reference, size))
    correlation = np.fft.irfft(cross, size * upsampling)
    peak = int(np.argmax(correlation))
    return (peak if peak < len(correlation) // 2 else peak - len(correlation)) / upsampling


def snr(reference: Audio, output: Audio) -> float:
    return float(10 * np.log10(np.sum(reference**2) / np.sum((reference - output) ** 2)))


def spectral_distance(reference: Audio, output: Audio) -> float:
    """Mean log-spectral distance in dB over frames of 1024 samples, above a floor of -60 dB."""

    def decibels(samples: Audio) -> Audio:
        frames = np.lib.stride_tricks.sliding_window_view(samples, 1024)[::512] * np.hanning(1024)
        return np.asarray(10 * np.log10(np.abs(np.fft.rfft(frames)) ** 2 + 1e-6))

    return float(np.sqrt(np.mean((decibels(reference) - decibels(output)) ** 2, axis=1)).mean())


def test_every_classical_codec_is_listed() -> None:
    assert SYSTEM_IDS == ["opus", "mp3", "aac", "amr_nb", "g722", "g726"]
    for system in SYSTEMS:
        rates = [point.kbps or 0 for point in system.card.points]
        assert rates == sorted(rates)
        assert rates[0] > 0


@pytest.mark.parametrize(("system", "point"), POINTS, ids=POINT_IDS)
def test_as_long_as_what_went_in(system: System, point: OperatingPoint, make_speech: MakeSpeech) -> None:
    codec = load(system)
    for length in LENGTHS:
        samples = make_speech(length, codec.card.sample_rate) if length else np.empty(0, np.float32)
        before = samples.copy()
        out, _ = through(codec, point, samples)
        assert out.shape == (length,)
        assert out.dtype == np.float32
        assert np.array_equal(samples, before)


@pytest.mark.parametrize(("system", "point"), POINTS, ids=POINT_IDS)
def test_in_time(system: System, point: OperatingPoint, make_speech: MakeSpeech) -> None:
    codec = load(system)
    rate = codec.card.sample_rate or 0
    white = np.asarray(0.1 * np.random.RandomState(0).randn(2 * rate), np.float32)
    coloured = np.convolve(white, np.hanning(rate // 2000), "same").astype(np.float32)  # below 2 kHz, where all code
    # The bandwidth of Opus' speech layer moves it by up to 3 samples of 48 kHz; see the class.
    tolerance = 3.5 if system.card.name == "opus" and (point.kbps or 0) < 64 else 0.3
    for samples in (make_speech(2 * rate, rate), coloured):
        out, _ = through(codec, point, samples)
        assert abs(delay(samples, out)) <= tolerance


@pytest.mark.parametrize("system", SYSTEMS, ids=SYSTEM_IDS)
def test_the_last_samples_are_coded_too(system: System, make_speech: MakeSpeech) -> None:
    codec = load(system)
    rate = codec.card.sample_rate or 0
    for length in (rate, rate + 1, rate + 333):
        samples = make_speech(length, rate)
        out, _ = through(codec, codec.card.points[-1], samples)
        assert snr(samples[-rate // 50 :], out[-rate // 50 :]) > 5
        tone = np.asarray(0.3 * np.sin(2 * np.pi * 440 * np.arange(length) / rate), np.float32)
        out, _ = through(codec, codec.card.points[-1], tone)
        assert np.corrcoef(tone[-rate // 100 :], out[-rate // 100 :])[0, 1] > 0.9


@pytest.mark.parametrize(("system", "point"), POINTS, ids=POINT_IDS)
def test_bitrate_is_the_nominal_one(system: System, point: OperatingPoint, make_speech: MakeSpeech) -> None:
    codec = load(system)
    rate = codec.card.sample_rate or 0
    _, bits = through(codec, point, make_speech(10 * rate, rate))
    nominal = 1000 * (point.kbps or 0)
    flush = 2 * 1024 / 16000 * nominal  # the delay, filled up to whole frames: of AAC at 16 kHz the longest
    tolerance = 0.05 if system.card.name == "aac" else 0.02  # AAC's bitrate is an average
    assert (1 - tolerance) * 10 * nominal <= bits <= (1 + tolerance) * 10 * nominal + flush


@pytest.mark.parametrize("system", SYSTEMS, ids=SYSTEM_IDS)
def test_quality_rises_with_bitrate(system: System, make_speech: MakeSpeech) -> None:
    codec = load(system)
    rate = codec.card.sample_rate or 0
    samples = make_speech(3 * rate, rate)
    distances = [spectral_distance(samples, through(codec, point, samples)[0]) for point in codec.card.points]
    assert all(poorer > richer - 0.2 for poorer, richer in pairwise(distances)), distances
    assert len(distances) == 1 or distances[-1] < 0.9 * distances[0]


@pytest.mark.parametrize(("system", "point"), ENDS, ids=lambda value: getattr(value, "name", None))
def test_clips_do_not_touch_each_other(system: System, point: OperatingPoint, make_speech: MakeSpeech) -> None:
    codec = load(system)
    rate = codec.card.sample_rate or 0
    clips = [Clip(make_speech(length, rate, seed)[None], rate) for seed, length in enumerate((rate, 777, rate // 2))]
    together = codec.encode(clips, point)
    apart = [load(system).encode([clip], point)[0] for clip in reversed(clips)][::-1]
    assert [codes.packets for codes in together] == [codes.packets for codes in apart]
    decoded = codec.decode(together)
    again = load(system).decode(apart[::-1])[::-1]
    assert all(np.array_equal(a, b) for a, b in zip(decoded, again, strict=True))


@pytest.mark.parametrize("system", SYSTEMS, ids=SYSTEM_IDS)
def test_samples_beyond_full_scale_do_not_wrap(system: System) -> None:
    codec = load(system)
    rate = codec.card.sample_rate or 0
    loud = np.asarray(1.5 * np.sin(2 * np.pi * 300 * np.arange(rate) / rate), np.float32)
    out, _ = through(codec, codec.card.points[-1], loud)
    assert np.corrcoef(loud, out)[0, 1] > 0.75  # 0.25 where it wraps; AMR's postfilter shifts phases


def test_amr_sends_the_speech_bits_and_the_mode_alone(make_speech: MakeSpeech) -> None:
    codec = load(SYSTEMS[SYSTEM_IDS.index("amr_nb")])
    clip = Clip(make_speech(8000 - 40, 8000)[None], 8000)
    assert len(codec.card.points) == len(AMR_BITS)
    for mode, (point, bits) in enumerate(zip(codec.card.points, AMR_BITS, strict=True)):
        (codes,) = codec.encode([clip], point)
        assert codes.packets[0][0] == mode
        assert len(codes.packets[0]) == 1 + -(-50 * bits // 8)


def test_amr_frames_survive_the_way_through_our_packet(make_speech: MakeSpeech) -> None:
    """The frames that the decoder gets are the encoder's own, header and padding included."""
    system = SYSTEMS[SYSTEM_IDS.index("amr_nb")]
    samples = make_speech(8000, 8000)
    codec = load(system)
    for point in system.card.points:
        packets, _ = av_codec.encode(
            "libopencore_amrnb",
            samples,
            8000,
            bit_rate=round(1000 * (point.kbps or 0)),
            sample_format="s16",
            options={},
            delay=40,
        )
        (codes,) = codec.encode([Clip(samples[None], 8000)], point)
        assert list(codec.split(codes)[0]) == packets  # type: ignore[attr-defined]


def test_aac_configuration_is_two_counted_bytes(make_speech: MakeSpeech) -> None:
    codec = load(SYSTEMS[SYSTEM_IDS.index("aac")])
    clip = Clip(make_speech(4800, 48000)[None], 48000)
    for point in codec.card.points:
        (codes,) = codec.encode([clip], point)
        bits = int.from_bytes(codes.packets[0][:2], "big")
        rates = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000)
        # ISO/IEC 14496-3, 1.6.2.1: object type 2 (AAC LC), sampling frequency index, channel configuration 1.
        assert (bits >> 11, rates[bits >> 7 & 15], bits >> 3 & 15) == (2, point.setting, 1)


def test_a_constant_bitrate_is_one_packet_size(make_speech: MakeSpeech) -> None:
    for name in ("opus", "mp3"):
        codec = load(SYSTEMS[SYSTEM_IDS.index(name)])
        clip = Clip(make_speech(48000, 48000)[None], 48000)
        for point in codec.card.points:
            (codes,) = codec.encode([clip], point)
            assert len({len(packet) for packet in codes.packets}) == 1


@pytest.mark.parametrize(("mode", "what"), [("w", "encoder"), ("r", "decoder")])
def test_a_missing_encoder_is_reported(mode: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import av

    known = av.codec.Codec

    def without_opus(name: str, asked: Literal["r", "w"]) -> object:
        return known("missing" if (name, asked) == ("libopus", mode) else name, asked)

    monkeypatch.setattr(av.codec, "Codec", without_opus)
    with pytest.raises(InvalidSystem, match=rf"^model 'opus': .* has no {what} 'libopus'; [^\n]*$"):
        SYSTEMS[0].load(LoadOptions())
    assert load(SYSTEMS[1]).card.name == "mp3"


def test_what_is_decoded_depends_on_the_packets_alone(make_speech: MakeSpeech) -> None:
    for system in SYSTEMS:
        codec = load(system)
        rate = codec.card.sample_rate or 0
        (codes,) = codec.encode([Clip(make_speech(3000, rate)[None], rate)], codec.card.points[-1])
        rebuilt = Codes(codes.length, codes.sample_rate, packets=tuple(bytes(bytearray(p)) for p in codes.packets))
        assert np.array_equal(load(system).decode([rebuilt])[0], codec.decode([codes])[0])
