"""PESQ: the listening quality of speech, predicted from a comparison with the original (MOS-LQO).

- ``pesq_wb``: ITU-T P.862.2 (wideband, 50 to 7000 Hz), both signals at 16 kHz
- ``pesq_nb``: ITU-T P.862 with the mapping of P.862.1 (telephone band), both signals at 8 kHz

How to read it: from 1 (bad) to 4.64 (wideband) or 4.55 (narrowband) for an output equal to its reference; higher is
better. Differences under 0.1 are not audible. The two bands do not compare. PESQ aligns time and level by itself, so it
says nothing of delay, gain or polarity. It was made for telephony: it is blind above 7 kHz, and it underrates
generative codecs that change the waveform but not what is heard.

Defined for speech of 0.25 to 30 s (the application guide P.862.3 asks for 8 to 30 s). The standard's own code keeps
50 utterances and writes beyond its arrays at the 51st, so references with more are undefined.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from typing import Literal

import numpy as np

from codecbench.audio import Audio
from codecbench.metrics.base import SPEECH, Failed, Metric, Output, Reference, Undefined, require_sound

Band = Literal["wb", "nb"]
RATES: Mapping[Band, int] = {"wb": 16_000, "nb": 8_000}
MAX_SECONDS = 30.0
MAX_UTTERANCES = 50
FLOOR = 0.999
"""Lower asymptote of the mappings P.862.1 and P.862.2 from raw scores to MOS-LQO."""


def pesq(reference: Reference, output: Output, band: Band) -> float:
    """MOS-LQO from 1 to 4.64 (``wb``) or 4.55 (``nb``).

    Raises:
        Undefined: ``ref_silent``, ``ref_no_speech``, ``too_short``, ``too_long`` or ``too_many_utterances``.
        Failed: ``output_silent``, or ``no_alignment`` where PESQ finds speech in the reference but none of it in
            the output.
    """
    require_sound(reference, output)
    if reference.duration > MAX_SECONDS:
        raise Undefined("too_long")
    rate = RATES[band]
    original = reference.at(rate)
    if reference.memo("pesq utterances", lambda: _most_utterances(reference.at(8_000))) > MAX_UTTERANCES:
        raise Undefined("too_many_utterances")
    score = _score(original, output.at(rate), band)
    if score is None:
        if reference.memo(f"pesq {band} self", lambda: _score(original, original, band)) is None:
            raise Undefined("ref_no_speech")
        raise Failed("no_alignment")
    return score


def _score(original: Audio, coded: Audio, band: Band) -> float | None:
    """The score; None if the library finds no utterance or computes no number."""
    from pesq import BufferTooShortError, NoUtterancesError
    from pesq import pesq as measure

    if not original.any() or not coded.any():  # resampling can leave nothing of a sound beyond the band
        return None
    try:
        score = float(measure(RATES[band], original, coded, band))
    except BufferTooShortError:
        raise Undefined("too_short") from None
    except NoUtterancesError:
        return None
    except ValueError as error:  # its NaN does not fit the integer that the library makes of it
        if "NaN" not in str(error):
            raise
        return None
    return score


def _most_utterances(original: Audio) -> int:
    """Upper estimate of the utterances that PESQ finds in `original`, at 8 kHz.

    Its frames are 4 ms; pauses of up to 50 frames do not part utterances, and shorter utterances do not count (46 and
    44 here, since it widens speech by two frames either way). Its threshold adapts, so the worst of many is taken.
    """
    frames = original[: len(original) // 32 * 32].reshape(-1, 32).astype(np.float64)
    power = np.mean(frames**2, axis=1)
    most = 0
    for threshold in power.max() * 10 ** np.arange(-4, 0, 0.25):
        loud = np.flatnonzero(power > threshold)
        parted = np.flatnonzero(np.diff(loud) > 46)
        extents = loud[np.append(parted, -1)] - loud[np.append(0, parted + 1)]
        most = max(most, int(np.count_nonzero(extents >= 44)))
    return most


def _metric(band: Band, title: str, standard: str, perfect: float) -> Metric:
    return Metric(
        f"pesq_{band}", title, "MOS", "higher", partial(pesq, band=band), floor=FLOOR, perfect=perfect,
        domains=SPEECH, min_seconds=0.25,
        parts=lambda: {"impl": f"pesq-{version('pesq')}", "std": standard, "rate": f"{RATES[band] // 1000}k"},
    )  # fmt: skip


METRICS = (
    _metric("wb", "PESQ, wideband", "P.862.2", 4.643889),  # raw score 4.5, mapped and rounded up
    _metric("nb", "PESQ, narrowband", "P.862.1", 4.548639),
)
