"""Checks of unusual signals. All are a tenth of a second; the output must be finite and of the clip's shape."""

from __future__ import annotations

from typing import Any

import numpy as np

from codecbench.models.checks.base import Failed, check
from codecbench.models.checks.probes import quiet, speechlike
from codecbench.models.checks.subject import Subject

LOUDEST = 10.0
"""Times full scale that no output reaches, whatever went in."""


def _through(subject: Subject, samples: np.ndarray[Any, Any], loudest: float = LOUDEST) -> None:
    output = subject.round_trip([subject.spread(samples)])[0]
    peak = float(np.abs(output).max(initial=0))
    if peak > loudest and not subject.random:
        raise Failed(f"the output's peak is {peak:.3g} times full scale")


def _time(subject: Subject) -> np.ndarray[Any, Any]:
    return np.arange(subject.rate // 10) / subject.rate


@check()
def silence(subject: Subject) -> None:
    """Digital silence comes back finite and, from trained weights, below -20 dBFS."""
    _through(subject, np.zeros(subject.rate // 10), loudest=0.1)


@check()
def click(subject: Subject) -> None:
    """One full-scale sample in digital silence comes back finite."""
    samples = np.zeros(subject.rate // 10)
    samples[len(samples) // 3] = 1
    _through(subject, samples)


@check()
def direct_current(subject: Subject) -> None:
    """A constant of half of full scale comes back finite."""
    _through(subject, np.full(subject.rate // 10, 0.5))


@check()
def full_scale(subject: Subject) -> None:
    """A sine that reaches full scale on both sides comes back finite."""
    _through(subject, np.cos(2 * np.pi * 500 * _time(subject)))


@check()
def square_wave(subject: Subject) -> None:
    """A square wave at full scale, as clipping makes it, comes back finite."""
    _through(subject, np.where(np.sin(2 * np.pi * 200 * _time(subject) + 0.1) < 0, -1.0, 1.0))


@check()
def beyond_full_scale(subject: Subject) -> None:
    """Samples of 1.5, such as resampling makes of loud recordings, come back finite: they may saturate."""
    _through(subject, 1.5 * np.cos(2 * np.pi * 300 * _time(subject)))


@check()
def very_quiet(subject: Subject) -> None:
    """A signal at -90 dBFS comes back finite and, from trained weights, below -20 dBFS."""
    _through(subject, quiet(subject.rate // 10, subject.rate), loudest=0.1)


@check()
def white_noise(subject: Subject) -> None:
    """White noise comes back finite."""
    _through(subject, 0.2 * np.random.default_rng(0).standard_normal(subject.rate // 10))


@check()
def subnormal(subject: Subject) -> None:
    """Samples too small for a normal float32 come back finite."""
    _through(subject, 1e-40 * speechlike(subject.rate // 10, subject.rate), loudest=0.1)
