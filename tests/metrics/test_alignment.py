import numpy as np
import pytest
from numpy.typing import NDArray

from codecbench.metrics.alignment import Pair, estimate, of_clip, stability
from codecbench.metrics.base import Alignment, Output, Reference
from codecbench.metrics.conformance import signals
from codecbench.metrics.si_sdr import advance

CLIPS = [signals.speech(1.5, seed=seed)[seed * 1_000 :] for seed in range(5)]
Samples = NDArray[np.float32]


def pairs(delay: float = 0, gain: float = 1, decibels: float = 60, rate: int = 16_000) -> list[Pair]:
    return [
        (Reference(clip, rate), Output(signals.at_snr(advance(clip, -delay) * np.float32(gain), decibels), rate))
        for clip in CLIPS
    ]


@pytest.mark.parametrize("delay", [0, 1, -1, 8, 320, -480, 1_599, 0.5, -0.25, 3.7, 100.33])
@pytest.mark.parametrize("polarity", [1, -1])
def test_known_delays(delay: float, polarity: int) -> None:
    system = pairs(delay, 0.5 * polarity)
    found = estimate(system)
    assert found.delay == pytest.approx(delay, abs=0.02)
    assert found.polarity == polarity
    assert found.sample_rate == 16_000
    assert stability(system, found) == 1


@pytest.mark.parametrize("decibels", [-20, -6, 0, 12])
def test_known_gains(decibels: float) -> None:
    assert estimate(pairs(gain=10 ** (decibels / 20))).gain_db == pytest.approx(decibels, abs=0.01)


@pytest.mark.parametrize(("decibels", "tolerance"), [(20, 0.05), (10, 0.1), (0, 0.5)])
def test_noise(decibels: float, tolerance: float) -> None:
    system = pairs(37.4, -1, decibels)
    found = estimate(system)
    assert found.delay == pytest.approx(37.4, abs=tolerance)
    assert found.polarity == -1
    assert stability(system, found) == 1


@pytest.mark.parametrize("rate", [8_000, 48_000])
def test_the_delay_counts_samples_at_the_recordings_rate(rate: int) -> None:
    found = estimate(pairs(24, rate=rate))
    assert found.sample_rate == rate
    assert found.delay == pytest.approx(24, abs=0.02)


def test_a_minority_is_outvoted() -> None:
    system = [*pairs(10)[:3], *pairs(-200, -1)[3:]]
    found = estimate(system)
    assert found.delay == pytest.approx(10, abs=0.02)
    assert found.polarity == 1
    assert stability(system, found) == 0.6


def test_a_system_without_a_constant_delay_has_no_alignment() -> None:
    system = [pairs(delay)[k] for k, delay in enumerate((10, 200, -300, 500, -50))]
    found = estimate(system)
    assert (found.delay, found.polarity) == (0, 1)
    assert stability(system, found) == 0


def test_silence_says_nothing() -> None:
    silence = np.zeros(16_000, dtype=np.float32)
    sound, silent = pairs(7), [(Reference(CLIPS[0][:16_000], 16_000), Output(silence, 16_000))]
    assert of_clip(*silent[0]) is None
    assert estimate(silent) == estimate([]) == Alignment()
    assert stability(silent, Alignment()) == stability([], Alignment()) == 0
    assert estimate([*silent, *sound]).delay == pytest.approx(7, abs=0.02)
    assert stability([*silent, *sound], estimate(sound)) == 1


def test_recordings_shorter_than_the_search_range() -> None:
    short = CLIPS[0][9_000:9_400]
    found = of_clip(Reference(short, 16_000), Output(signals.late(short, 3), 16_000))
    assert found is not None
    assert found.delay == pytest.approx(3, abs=0.1)
