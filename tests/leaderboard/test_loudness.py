"""Loudness against FFmpeg's ``ebur128`` and what the standard says of a sine."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from codecbench.leaderboard.loudness import _high_pass, _shelf, loudness

RATES = (8_000, 16_000, 24_000, 44_100, 48_000, 96_000)


def ebur128(samples: NDArray[np.float64], rate: int) -> float:
    """Integrated loudness by FFmpeg."""
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=rate, format="flt", layout="mono", time_base=Fraction(1, rate))
    meter, sink = graph.add("ebur128", "metadata=1:framelog=quiet"), graph.add("abuffersink")
    source.link_to(meter)
    meter.link_to(sink)
    graph.configure()
    frame = av.AudioFrame.from_ndarray(samples.astype(np.float32)[None], format="flt", layout="mono")
    frame.sample_rate, frame.pts = rate, 0
    graph.push(frame)
    graph.push(None)
    found = 0.0
    while True:
        try:
            found = float(graph.pull().metadata["lavfi.r128.I"])
        except (av.error.EOFError, av.error.BlockingIOError):
            return found


def signals(rate: int) -> list[NDArray[np.float64]]:
    rng = np.random.default_rng(rate)
    noise = rng.normal(size=5 * rate)
    gated = 0.05 * noise
    gated[rate : 3 * rate] *= 1e-2  # below the relative gate
    tones = sum(0.1 * np.sin(2 * np.pi * f * np.arange(4 * rate) / rate) for f in (60, 997, 3_300))
    return [0.05 * noise, gated, np.cumsum(rng.normal(size=3 * rate)) * 2e-3, np.asarray(tones)]


@pytest.mark.parametrize("rate", RATES)
def test_it_agrees_with_ffmpeg(rate: int) -> None:
    for samples in signals(rate):
        assert loudness(samples, rate) == pytest.approx(ebur128(samples, rate), abs=0.03)


def test_a_full_scale_sine_is_three_decibels_below() -> None:
    sine = np.sin(2 * np.pi * 997 * np.arange(3 * 48_000) / 48_000)
    assert loudness(sine, 48_000) == pytest.approx(-3.01, abs=0.01)


def test_the_filters_are_those_of_the_standard_at_48_khz() -> None:
    np.testing.assert_allclose(_shelf(48_000)[0], [1.53512485958697, -2.69169618940638, 1.19839281085285], atol=1e-9)
    np.testing.assert_allclose(_shelf(48_000)[1], [1, -1.69065929318241, 0.73248077421585], atol=1e-9)
    np.testing.assert_allclose(_high_pass(48_000)[0], [1, -2, 1], atol=1e-9)
    np.testing.assert_allclose(_high_pass(48_000)[1], [1, -1.99004745483398, 0.99007225036621], atol=1e-9)


def test_silence_has_none() -> None:
    assert loudness(np.zeros(48_000), 48_000) is None
    assert loudness(np.zeros(0), 48_000) is None
    assert loudness(np.full(48_000, 1e-5), 48_000) is None


def test_a_short_clip_is_one_block() -> None:
    noise = 0.1 * np.random.default_rng(0).normal(size=48_000)
    whole, short = loudness(noise, 48_000), loudness(noise[:9_600], 48_000)
    assert whole is not None
    assert short == pytest.approx(whole, abs=1)


def test_twice_the_amplitude_is_six_decibels_more() -> None:
    noise = 0.1 * np.random.default_rng(1).normal(size=48_000)
    once, twice = loudness(noise, 16_000), loudness(2 * noise, 16_000)
    assert once is not None
    assert twice == pytest.approx(once + 20 * np.log10(2), abs=1e-9)
