from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from codecbench.audio import Audio, Clip
from codecbench.models.base import Codec, Codes, LoadOptions, OperatingPoint, System
from codecbench.models.bitstream import pack, unpack
from codecbench.models.controls import SYSTEMS

BY_NAME = {system.card.name: system for system in SYSTEMS}
POINTS = [(system, point) for system in SYSTEMS for point in system.card.points]
LENGTHS = (0, 1, 2, 159, 160, 161, 1000)


def test_every_control_is_listed() -> None:
    assert list(BY_NAME) == ["identity", "resample", "lowpass", "pcm", "mulaw", "noise"]
    for system in SYSTEMS:
        assert (system.card.kind, system.card.track) == ("control", "control")
        assert system.card.points


def through(system: System, point: OperatingPoint, clip: Clip) -> Audio:
    """`clip` through the codec and our bitstream."""
    codec = system.load(LoadOptions())
    assert isinstance(codec, Codec)
    (codes,) = codec.encode([clip], point)
    (decoded,) = codec.decode([unpack(pack(codes).to_bytes())])
    return decoded


def run(name: str, point: str, clip: Clip) -> Audio:
    return through(BY_NAME[name], BY_NAME[name].card.point(point), clip)


def noise(channels: int, length: int, sample_rate: int = 48000, seed: int = 0) -> Clip:
    rng = np.random.RandomState(seed)
    return Clip(np.asarray(0.1 * rng.randn(channels, length), np.float32), sample_rate)


def snr(reference: Audio, output: Audio) -> float:
    error = output.astype(np.float64) - reference
    return float(10 * np.log10(np.sum(reference.astype(np.float64) ** 2) / np.sum(error**2)))


@pytest.mark.parametrize(("system", "point"), POINTS, ids=lambda value: getattr(value, "name", None))
def test_shape_input_and_repetition(system: System, point: OperatingPoint) -> None:
    for sample_rate in (8000, 22050, 48000):
        for length in LENGTHS:
            clip = noise(2, length, sample_rate)
            before = clip.samples.copy()
            out = through(system, point, clip)
            assert out.shape == (2, length)
            assert out.dtype == np.float32
            assert np.array_equal(clip.samples, before)
            through(system, point, noise(1, 777, sample_rate, seed=1))
            assert np.array_equal(through(system, point, clip), out)


@given(arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(0, 50)), elements=st.floats(width=32)))
@settings(max_examples=50)
def test_identity_is_exact_for_any_float(samples: Audio) -> None:
    out = run("identity", "float32", Clip(samples, 44100))
    assert out.tobytes() == samples.tobytes()


@pytest.mark.parametrize("khz", [8, 16, 24])
def test_resample_keeps_what_is_below_and_removes_what_is_above(khz: int) -> None:
    seconds = np.arange(48000) / 48000
    inside, outside = (np.sin(2 * np.pi * f * seconds) for f in (400 * khz, 600 * khz))
    inner = slice(2000, -2000)
    for tone, gain in ((inside, 1.0), (outside, 0.0)):
        clip = Clip(np.asarray(0.5 * tone[None], np.float32), 48000)
        out = run("resample", f"{khz}k", clip)
        assert np.abs(out - gain * clip.samples)[:, inner].max() < 1e-4


def test_resample_sends_the_samples_at_the_lower_rate_and_passes_a_lower_clip() -> None:
    system = BY_NAME["resample"]
    codec = system.load(LoadOptions())
    assert isinstance(codec, Codec)
    (codes,) = codec.encode([noise(1, 48000)], system.card.point("8k"))
    assert len(codes.packets[1]) == 4 * 8000
    low = noise(1, 1000, 16000)
    assert np.array_equal(run("resample", "16k", low), low.samples)
    assert np.array_equal(run("resample", "24k", low), low.samples)


@pytest.mark.parametrize(("point", "edge"), [("3.5k", 3500), ("7k", 7000)])
@pytest.mark.parametrize("sample_rate", [16000, 44100, 48000])
def test_lowpass_meets_the_recommendation(point: str, edge: int, sample_rate: int) -> None:
    impulse = np.zeros((1, 4801), np.float32)
    impulse[0, 2400] = 1
    out = run("lowpass", point, Clip(impulse, sample_rate))[0].astype(np.float64)
    assert np.allclose(out, out[::-1], atol=1e-9), "the filter's delay is removed: its response is symmetric"
    gain = 20 * np.log10(np.abs(np.fft.rfft(out)) + 1e-12)
    frequency = np.fft.rfftfreq(4801, 1 / sample_rate)
    assert np.abs(gain[frequency <= edge]).max() < 0.02
    assert gain[frequency >= edge + 500].max() < -60


def test_lowpass_leaves_a_narrow_clip_alone() -> None:
    clip = noise(1, 500, 8000)
    assert np.array_equal(run("lowpass", "7k", clip), clip.samples)
    assert not np.array_equal(run("lowpass", "3.5k", clip), clip.samples)


def test_pcm_gains_six_decibels_a_bit() -> None:
    peak = 0.9  # 4 bits reach no further than 0.9375
    samples = np.random.RandomState(0).uniform(-peak, peak, (1, 50000)).astype(np.float32)
    clip = Clip(samples, 16000)
    for bits in (4, 6, 8, 12, 16):
        assert snr(samples, run("pcm", f"{bits}bit", clip)) == pytest.approx(20 * np.log10(peak * 2**bits), abs=0.2)


def test_pcm_codes_are_the_integers_of_a_wav_file() -> None:
    integers = np.array([[-32768, -1, 0, 1, 32767]])
    clip = Clip(np.asarray(integers / 32768, np.float32), 16000)
    system = BY_NAME["pcm"]
    codec = system.load(LoadOptions())
    assert isinstance(codec, Codec)
    (codes,) = codec.encode([clip], system.card.point("16bit"))
    assert (codes.streams[0] - 32768).tolist() == integers[0].tolist()
    assert np.array_equal(codec.decode([codes])[0], clip.samples)
    assert run("pcm", "4bit", Clip(np.array([[0, 2, -2]], np.float32), 16000)).tolist() == [[0, 0.875, -1]]


def test_pcm_and_mulaw_cost_their_bits_for_every_sample_of_every_channel() -> None:
    for name, point, bits in (("pcm", "12bit", 12), ("mulaw", "8bit", 8)):
        codec = BY_NAME[name].load(LoadOptions())
        assert isinstance(codec, Codec)
        (codes,) = codec.encode([noise(2, 1000)], BY_NAME[name].card.point(point))
        assert pack(codes).bits == 2 * 1000 * bits


MULAW = {8031: 0x80, 4191: 0x8F, 2079: 0x9F, 1023: 0xAF, 495: 0xBF, 231: 0xCF, 99: 0xDF, 33: 0xEF, 2: 0xFE, 0: 0xFF}
"""Output values and character signals of ITU-T G.711, table 2a, on the 14-bit scale."""


def test_mulaw_has_the_levels_and_decisions_of_the_standard() -> None:
    codec = BY_NAME["mulaw"].load(LoadOptions())
    assert isinstance(codec, Codec)
    point = BY_NAME["mulaw"].card.point("8bit")
    for level, octet in MULAW.items():
        for sign, bit in ((1, 0x80), (-1, 0)) if level else ((1, 0x80),):
            clip = Clip(np.array([[sign * level / 8192]], np.float32), 8000)
            (codes,) = codec.encode([clip], point)
            assert codes.streams[0].tolist() == [octet & 0x7F | bit]
            assert codec.decode([codes])[0].tolist() == [[sign * level / 8192]]
    # Each pair straddles a decision value: 1, 31, 95, 4063.
    around = np.array([[0.99, 1, 30.99, 31, 94.99, 95, 4062.9, 4063, 9000]]) / 8192
    (codes,) = codec.encode([Clip(around.astype(np.float32), 8000)], point)
    assert codes.streams[0].tolist() == [0xFF, 0xFE, 0xF0, 0xEF, 0xE0, 0xDF, 0x90, 0x8F, 0x80]


def test_mulaw_levels_are_those_of_ffmpeg() -> None:
    av = pytest.importorskip("av")
    context = av.CodecContext.create("pcm_mulaw", "r")
    context.sample_rate, context.layout = 8000, "mono"
    expected = context.decode(av.Packet(bytes(range(256))))[0].to_ndarray()[0] / 32768
    codec = BY_NAME["mulaw"].load(LoadOptions())
    assert isinstance(codec, Codec)
    codes = Codes(256, 8000, streams=(np.arange(256),), codebook_sizes=(256,))
    assert np.array_equal(codec.decode([codes])[0][0], expected)


@pytest.mark.parametrize("ratio", [10, 20, 30])
def test_noise_has_its_ratio_exactly(ratio: int) -> None:
    for seed in range(3):
        clip = noise(2, 5000, seed=seed)
        assert snr(clip.samples, run("noise", f"{ratio}dB", clip)) == pytest.approx(ratio, abs=1e-4)


def test_noise_is_the_clip_s_own_and_silence_stays_silent() -> None:
    first, second = noise(1, 1000, seed=0), noise(1, 1000, seed=1)
    added = [run("noise", "20dB", clip) - clip.samples for clip in (first, second)]
    assert abs(np.corrcoef(added[0][0], added[1][0])[0, 1]) < 0.15
    silent = Clip(np.zeros((1, 100), np.float32), 16000)
    assert not run("noise", "10dB", silent).any()
