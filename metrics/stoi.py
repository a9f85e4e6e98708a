"""STOI and ESTOI: how intelligible the output of a speech system is, given the original.

- ``stoi`` (Taal et al. 2011): mean correlation of short-time envelopes (384 ms) in 15 third-octave bands from 150 Hz,
  over the frames in which the reference is less than 40 dB below its loudest
- ``estoi`` (Jensen and Taal 2016): the same idea on whole normalised spectrograms; it also sees distortions that come
  and go, such as modulated noise

How to read it: a correlation; 1 is identical, higher is better. An unrelated output has about 0 ``estoi``, but up to
about 0.5 ``stoi``: compare with a noise control. Both are level-blind and see 130 Hz to 4.3 kHz only. Above 0.95 they
saturate and do not tell good codecs apart.

Both run at STOI's own 10 kHz, resampled by the benchmark's resampler and not by the library's.
"""

from __future__ import annotations

import warnings
from functools import partial
from importlib.metadata import version

import numpy as np

from codecbench.metrics.base import SPEECH, Metric, Output, Reference, Undefined, require_sound

RATE = 10_000


def stoi(reference: Reference, output: Output, extended: bool) -> float:
    """STOI, or ESTOI if `extended`, from -1 to 1.

    Raises:
        Undefined: ``ref_silent``, or ``too_short``: fewer than 30 frames of 25.6 ms are left without silence.
        Failed: ``output_silent``.
    """
    from pystoi import stoi as measure

    require_sound(reference, output)
    original, coded = (signal.at(RATE).astype(np.float64) for signal in (reference, output))
    state = np.random.get_state()
    np.random.seed(0)  # ESTOI adds noise of machine precision, which decides where the output is digital silence
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            value = float(measure(original, coded, RATE, extended=extended))
    finally:
        np.random.set_state(state)
    if any("Not enough STFT frames" in str(warning.message) for warning in caught):
        raise Undefined("too_short")  # the library returns 1e-5
    return round(value, 12)  # an identical output is 1, not 1 + 2e-16


def _metric(name: str, title: str, extended: bool) -> Metric:
    return Metric(
        name, title, "", "higher", partial(stoi, extended=extended), floor=-1.0, perfect=1.0, domains=SPEECH,
        min_seconds=0.4, parts=lambda: {"impl": f"pystoi-{version('pystoi')}", "rate": "10k"},
    )  # fmt: skip


METRICS = (_metric("stoi", "STOI", extended=False), _metric("estoi", "ESTOI", extended=True))
