from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest

from codecbench.audio import Audio, Clip
from codecbench.errors import InvalidSystem
from codecbench.models.base import LoadOptions, OperatingPoint
from codecbench.models.bitstream import pack, unpack
from codecbench.models.codec2 import MODES, SYSTEMS, Codec2

MakeSpeech = Callable[..., Audio]
POINTS = Codec2.card.points
LENGTHS = (0, 1, 2, 159, 160, 161, 1000, 16007)
installed = pytest.mark.usefixtures("codec2")


@pytest.fixture(scope="module")
def codec2() -> None:
    pytest.importorskip("pycodec2")


def through(clips: list[Clip], point: OperatingPoint) -> list[Audio]:
    codec = Codec2.load(LoadOptions())
    return codec.decode([unpack(pack(codes).to_bytes()) for codes in codec.encode(clips, point)])


@installed
def test_modes_are_the_library_s() -> None:
    import pycodec2

    assert [mode.name for mode in MODES] == [point.name for point in POINTS]
    for mode in MODES:
        codec = pycodec2.Codec2(int(mode.name.rstrip("C")))
        assert (codec.bits_per_frame(), codec.samples_per_frame()) == (mode.bits, mode.samples)
        assert mode.kbps == float(mode.name.rstrip("C")) / 1000


@installed
@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
def test_as_long_as_what_went_in(point: OperatingPoint, make_speech: MakeSpeech) -> None:
    clips = [
        Clip(make_speech(length, 8000)[None] if length else np.empty((1, 0), np.float32), 8000) for length in LENGTHS
    ]
    before = [clip.samples.copy() for clip in clips]
    for clip, samples, out in zip(clips, before, through(clips, point), strict=True):
        assert out.shape == clip.samples.shape
        assert out.dtype == np.float32
        assert np.array_equal(clip.samples, samples)


@installed
@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
def test_bitrate_is_the_nominal_one_without_padding(point: OperatingPoint, make_speech: MakeSpeech) -> None:
    (codes,) = Codec2().encode([Clip(make_speech(80000, 8000)[None], 8000)], point)
    assert 10_000 * (point.kbps or 0) == pytest.approx(pack(codes).bits, rel=0.01)


@installed
@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
def test_in_time(point: OperatingPoint) -> None:
    """Bursts of a vowel come out where they went in: the codec keeps no waveform, so their centres are compared."""
    burst = np.hanning(800) * sum(np.cos(2 * np.pi * 150 * k * np.arange(800) / 8000 + k * k) for k in range(1, 20))
    centres = np.arange(4000, 76000, 3217)
    samples = np.zeros((1, 80000), np.float32)
    for centre in centres:
        samples[0, centre - 400 : centre + 400] = 0.3 * burst / np.abs(burst).max()
    (out,) = through([Clip(samples, 8000)], point)
    around = centres[:, None] + np.arange(-1500, 1500)

    def middle(signal: Audio) -> Audio:
        energy = signal[0, around].astype(np.float64) ** 2
        return np.asarray((energy * np.arange(-1500, 1500)).sum(1) / energy.sum(1))

    late = middle(out) - middle(samples)
    assert abs(late.mean()) < 16  # 2 ms; a frame is 20 or 40 ms


@installed
@pytest.mark.parametrize("point", [POINTS[0], POINTS[-1]], ids=lambda point: point.name)
def test_clips_do_not_touch_each_other(point: OperatingPoint, make_speech: MakeSpeech) -> None:
    """The library's generator of random phases outlives its decoders; two in one process do not agree."""
    clips = [Clip(make_speech(length, 8000, seed)[None], 8000) for seed, length in enumerate((8000, 777, 4000))]
    together = through(clips, point)
    apart = [through([clip], point)[0] for clip in reversed(clips)][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(together, apart, strict=True))
    assert all(out.any() for out in together)


@installed
def test_what_comes_out_resembles_what_went_in(make_speech: MakeSpeech) -> None:
    samples = make_speech(40000, 8000)

    def decibels(signal: Audio) -> Audio:
        frames = np.lib.stride_tricks.sliding_window_view(signal, 256)[::128] * np.hanning(256)
        return np.asarray(10 * np.log10(np.abs(np.fft.rfft(frames)) ** 2 + 1e-4))

    distances = []
    for point in POINTS:
        (out,) = through([Clip(samples[None], 8000)], point)
        distances.append(float(np.sqrt(np.mean((decibels(samples) - decibels(out[0])) ** 2, axis=1)).mean()))
    assert max(distances) == distances[0], distances
    assert min(distances) == distances[-1], distances
    half_a_syllable = np.roll(samples, 1290)
    unrelated = np.sqrt(np.mean((decibels(samples) - decibels(half_a_syllable)) ** 2, axis=1)).mean()
    assert max(distances) < 0.7 * unrelated


@installed
def test_a_packet_that_cannot_be_decoded_is_an_error() -> None:
    codec = Codec2()
    (codes,) = codec.encode([Clip(np.zeros((1, 100), np.float32), 8000)], POINTS[0])
    object.__setattr__(codes, "packets", (b"\xff" + codes.packets[0][1:],))
    with pytest.raises(RuntimeError, match="decoder of Codec 2 failed"):
        codec.decode([codes])


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(SYSTEMS) == [Codec2]
    assert Codec2.card.requires == "codec2"
    monkeypatch.setitem(sys.modules, "pycodec2", None)
    with pytest.raises(InvalidSystem, match=r"^model 'codec2' needs pycodec2: pip install 'codecbench\[codec2\]'$"):
        Codec2.load(LoadOptions())
