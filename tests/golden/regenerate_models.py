# /// script
# requires-python = ">=3.11,<3.12"
# dependencies = [
#     "librosa==0.11.0", "numpy", "onnxruntime", "pandas", "requests", "Resemblyzer==0.1.4", "scipy<1.18",
#     "setuptools<81", "speechmos==0.0.1.1", "tqdm",
# ]
# ///
"""Write ``model_metrics.json``: golden values of DNSMOS and GE2E from the packages that publish the models,
and of mel filters from librosa. What whole metrics make of them goes to ``metrics/conformance/golden_models.json``.

Run with ``uv run tests/golden/regenerate_models.py``. Nothing here imports the benchmark.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import scipy.ndimage.morphology  # noqa: F401 - Resemblyzer imports it, and later releases of SciPy have it no more
from resemblyzer import VoiceEncoder
from signals import Samples, at_snr, speech
from speechmos import dnsmos

FOLDER = Path(__file__).parent


def at_level(samples: Samples, decibels: float) -> Samples:
    rms = np.sqrt(np.mean(samples.astype(np.float64) ** 2))
    return np.asarray(samples * 10 ** (decibels / 20) / rms, dtype=np.float32)


def conformance(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Values of whole metrics, as ``golden.json`` of the conformance data has them."""
    of_3_s = {(entry["of"], entry["snr"]): entry for entry in entries if entry.get("seconds") == 3.0}
    found = [
        {"metric": f"dnsmos_{part}", "rate": 16_000, "case": case, "level": 0.5,
         "value": of_3_s["dnsmos", snr][f"{part}_mos"], "by": "speechmos 0.0.1.1", "atol": 1e-4}
        for case, snr in (("identical", None), ("noise_10", 10.0)) for part in ("sig", "bak", "ovrl", "p808")
    ]  # fmt: skip
    one, other = (np.array(of_3_s["ge2e", snr]["embedding"]) for snr in (None, 0.0))
    cosine = float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
    alike = {"value": round(cosine, 6), "by": "Resemblyzer 0.1.4", "atol": 1e-4}
    return [*found, {"metric": "spk_sim", "rate": 16_000, "case": "noise_0", **alike}]


def write(path: Path, entries: list[dict[str, Any]]) -> None:
    path.write_text("[\n" + ",\n".join(json.dumps(entry) for entry in entries) + "\n]\n")


def main() -> None:
    entries = []
    for seconds, snr in ((3.0, None), (3.0, 10.0), (10.2, None), (17.5, None)):
        samples = speech(seconds) * np.float32(0.5)  # within full scale, as the package demands
        if snr is not None:
            samples = at_snr(samples, snr)
        scores = {name: float(value) for name, value in dnsmos.run(samples, 16_000).items()}
        entries.append({"of": "dnsmos", "seconds": seconds, "snr": snr, **scores})
    encoder = VoiceEncoder("cpu", verbose=False)
    for seconds, snr in ((1.0, None), (3.0, None), (3.0, 0.0), (4.7, None)):
        samples = speech(seconds) if snr is None else at_snr(speech(seconds), snr)
        values = encoder.embed_utterance(at_level(samples, -30.0)).tolist()
        entries.append({"of": "ge2e", "seconds": seconds, "snr": snr, "embedding": [round(v, 7) for v in values]})
    for window, bands in ((400, 40), (321, 120)):
        filters = librosa.filters.mel(sr=16_000, n_fft=window, n_mels=bands)
        columns = {"sums": filters.sum(axis=1), "peaks": filters.max(axis=1), "centres": filters.argmax(axis=1)}
        rounded = {name: [round(value, 7) for value in values.tolist()] for name, values in columns.items()}
        entries.append({"of": "filterbank", "window": window, "bands": bands, **rounded})
    write(FOLDER / "model_metrics.json", entries)
    write(FOLDER.parents[1] / "metrics" / "conformance" / "golden_models.json", conformance(entries))


if __name__ == "__main__":
    main()
