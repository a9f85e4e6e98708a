"""DNSMOS: the opinion score that listeners would give the output, as a network predicts it without the original.

- ``dnsmos_sig``, ``dnsmos_bak``, ``dnsmos_ovrl``: quality of the speech signal, of the background, and overall, the
  three scales of ITU-T P.835 (Reddy, Gopal and Cutler, ICASSP 2022)
- ``dnsmos_p808``: overall quality, the one scale of ITU-T P.808 (Reddy, Gopal and Cutler, ICASSP 2021)

How to read them: mean opinion scores from 1 (bad) to 5 (excellent), higher is better. Clean recordings of read speech
get about 3.5, 3.8, 3.1 and 3.6, not 5. The networks were trained to rank noise suppressors. They hear noise,
bandwidth and roughness, and cannot hear that the words or the voice have changed: a codec that cleans a noisy original
scores above it. Read them beside ``wer`` and ``spk_sim``, and against the row of the unchanged originals.

The models are those of the package speechmos, and so are the windows: 9.01 s at 16 kHz, once a second, from a clip that
is repeated until it fills one; the score is their mean. In a clip longer than 16 s the package passes over the windows
that start at 7 to 23 s, where its arithmetic makes them a sample short; so do these, to agree with published values.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from codecbench.audio import Audio, resampler_signature
from codecbench.errors import UsageError
from codecbench.metrics.base import SPEECH, Metric, Output, Reference, require_sound
from codecbench.metrics.melscale import mel_power
from codecbench.paths import sha256_of

RATE = 16_000
SECONDS = 9.01
WINDOW = 144_160
P835 = "sig_bak_ovr.onnx"
P808 = "model_v8.onnx"
SCALES = ("sig", "bak", "ovrl")
# From each raw output of the P.835 network to its scale, highest power first (published with the models).
POLYNOMIALS = (
    (-0.08397278, 1.22083953, 0.0052439),
    (-0.13166888, 1.60915514, -0.39604546),
    (-0.06766283, 1.11546468, 0.04602535),
)


def dnsmos(reference: Reference, output: Output, scale: str) -> float:
    """DNSMOS P.835 of `output` on one of `SCALES`, about 1 to 5.

    Raises:
        Undefined: ``ref_silent``.
        Failed: ``output_silent``.
    """
    require_sound(reference, output)
    scores = output.remember(_key(P835), lambda: _p835(output.at(RATE)))
    return scores[SCALES.index(scale)]


def dnsmos_p808(reference: Reference, output: Output) -> float:
    """DNSMOS P.808 of `output`, about 1 to 5; raises what `dnsmos` raises."""
    require_sound(reference, output)
    return output.remember(_key(P808), lambda: _p808(output.at(RATE)))


def windows(samples: Audio) -> list[Audio]:
    """The windows ``[144160]`` that are scored of `samples` ``[T]`` at 16 kHz; see the module's text."""
    while len(samples) < WINDOW:
        samples = np.concatenate([samples, samples])
    count = int(len(samples) // RATE - SECONDS) + 1
    whole = [start for start in range(count) if int((start + SECONDS) * RATE) - start * RATE == WINDOW]
    return [samples[start * RATE : start * RATE + WINDOW] for start in whole]


def _p835(samples: Audio) -> list[float]:
    raw = np.array([_session(P835).run(None, {"input_1": w[None]})[0][0] for w in windows(samples)], np.float64)
    return [float(np.polyval(curve, column).mean()) for curve, column in zip(POLYNOMIALS, raw.T, strict=True)]


def _p808(samples: Audio) -> float:
    scores = [_session(P808).run(None, {"input_1": _features(w)[None]})[0][0, 0] for w in windows(samples)]
    return float(np.mean(scores, dtype=np.float64))


def _features(window: Audio) -> Audio:
    """Log-mel power ``[900, 120]`` in dB below the loudest, at least -80, mapped from [-80, 0] to [-1, 1]."""
    power = 10 * np.log10(np.maximum(mel_power(window[:-160], RATE, 321, 160, 120), 1e-10))
    return np.asarray((np.maximum(power - power.max(), -80) + 40) / 40, dtype=np.float32)


@cache
def _session(model: str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(_path(model), options, providers=["CPUExecutionProvider"])


@cache
def _path(model: str) -> Path:
    package = find_spec("speechmos")
    folders = package.submodule_search_locations if package else None
    path = Path(folders[0], "dnsmos_models", model) if folders else None
    if path is None or not path.is_file():
        raise UsageError("DNSMOS needs the models in the package speechmos: pip install 'codecbench[demo]'")
    return path


@cache
def _facts(model: str) -> Mapping[str, str]:
    digest = sha256_of(_path(model))
    return {"impl": f"onnxruntime-{version('onnxruntime')}", "model": f"{Path(model).stem}-{digest[:8]}", "rate": "16k"}


def _key(model: str) -> dict[str, str]:
    return {"what": "dnsmos", **_facts(model), "rs": resampler_signature(), "v": "1"}


def _metric(name: str, title: str, model: str, **score: Any) -> Metric:
    return Metric(
        name, title, "MOS", "higher", floor=1.0, domains=SPEECH, min_seconds=1.0, compares="sounds",
        parts=partial(_facts, model), prepare=partial(_prepare, model), **score,
    )  # fmt: skip


def _prepare(model: str) -> None:
    _path(model)


METRICS = (
    _metric("dnsmos_sig", "DNSMOS signal", P835, score=partial(dnsmos, scale="sig")),
    _metric("dnsmos_bak", "DNSMOS background", P835, score=partial(dnsmos, scale="bak")),
    _metric("dnsmos_ovrl", "DNSMOS overall", P835, score=partial(dnsmos, scale="ovrl")),
    _metric("dnsmos_p808", "DNSMOS P.808", P808, score=dnsmos_p808),
)
