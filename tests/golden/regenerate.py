# /// script
# requires-python = ">=3.11"
# dependencies = ["librosa==0.11.0", "numpy", "pesq==0.0.4", "praat-parselmouth==0.4.7", "pystoi==0.4.1", "scipy",
#     "soxr"]
# ///
# Its libraries are not installed beside the benchmark, so:
# mypy: ignore-errors
"""Write the golden values of the signal metrics. Run with ``uv run tests/golden/regenerate.py``.

Nothing here imports the benchmark. Each value comes from another implementation (librosa, Praat, pystoi, the PESQ
library called directly) or from the paper's formulas written out plainly. A changed value needs a reason in its commit.

In ``metrics/conformance`` it writes ``golden.json``, one entry a metric, sample rate and case, and
``golden_texts.json``, error rates of pairs of texts; beside itself ``praat_f0.json``, Praat's pitch contour of two
cases, a frame every 10 ms from 20 ms.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import librosa
import numpy as np
import parselmouth
import pesq
import pystoi
import soxr
from numpy.typing import NDArray
from signals import RATE, Samples, cases, speech

Array = NDArray[np.float64]


def resampled(samples: Samples, rate: int) -> Array:
    return soxr.resample(samples, RATE, rate, quality="VHQ").astype(np.float64)


# --- mel, spectral ---------------------------------------------------------------------------------------------------


def spectrum(samples: Samples, window: int, hop: int) -> Array:
    return np.abs(librosa.stft(samples.astype(np.float64), n_fft=window, hop_length=hop, pad_mode="reflect"))


def mel_bands(samples: Samples, rate: int, window: int, hop: int, bands: int) -> Array:
    return librosa.filters.mel(sr=rate, n_fft=window, n_mels=bands, dtype=np.float64) @ spectrum(samples, window, hop)


def mel(one: Samples, other: Samples, rate: int) -> float:
    a, b = (np.log(np.maximum(mel_bands(x, rate, 1024, 256, 80), 1e-5)) for x in (one, other))
    return np.mean(np.abs(a - b))


def mel_ms(one: Samples, other: Samples, rate: int) -> float:
    total = 0.0
    for window, bands in ((2048, 150), (512, 80)):
        a, b = (mel_bands(x, rate, window, window // 4, bands) for x in (one, other))
        total += np.mean(np.abs(a - b))
        total += np.mean(np.abs(np.log10(np.maximum(a, 1e-5) ** 2) - np.log10(np.maximum(b, 1e-5) ** 2)))
    return total


def lsd(one: Samples, other: Samples, rate: int) -> float:  # noqa: ARG001 - no filter depends on the rate
    a, b = (20 * np.log10(np.maximum(spectrum(x, 2048, 512) / 512, 1e-5)) for x in (one, other))
    return np.mean(np.sqrt(np.mean((a - b) ** 2, axis=0)))


def mcd(one: Samples, other: Samples) -> float:
    filters = librosa.filters.mel(sr=RATE, n_fft=512, n_mels=40, norm=None, dtype=np.float64)
    a, b = (np.log(np.maximum(filters @ (spectrum(x, 512, 128) / 128) ** 2, 1e-10)) for x in (one, other))
    bands = np.arange(40)
    squares = sum(np.mean((a - b) * np.cos(np.pi * d * (bands + 0.5) / 40)[:, None], axis=0) ** 2 for d in range(1, 14))
    return np.mean(10 * np.sqrt(2) / np.log(10) * np.sqrt(squares))


# --- STOI, SI-SDR, PESQ, pitch -------------------------------------------------------------------------------------


def stoi(one: Samples, other: Samples) -> float:
    return pystoi.stoi(one.astype(np.float64), other.astype(np.float64), RATE)


def estoi(one: Samples, other: Samples) -> float:
    return pystoi.stoi(one.astype(np.float64), other.astype(np.float64), RATE, extended=True)


def si_sdr(one: Samples, other: Samples) -> float:
    scale, rest = np.linalg.lstsq(one.astype(np.float64)[:, None], other.astype(np.float64), rcond=None)[:2]
    target = scale[0] ** 2 * np.sum(one.astype(np.float64) ** 2)
    return min(100.0, 10 * np.log10(target / max(rest[0], 1e-300)))


def pesq_wb(one: Samples, other: Samples) -> float:
    return pesq.pesq(16_000, one, other, "wb")


def pesq_nb(one: Samples, other: Samples) -> float:
    return pesq.pesq(8_000, *(resampled(x, 8_000).astype(np.float32) for x in (one, other)), "nb")


def praat(one: Samples, other: Samples) -> tuple[Array, Array]:
    a, b = (
        parselmouth.Sound(x.astype(np.float64), RATE).to_pitch_ac(time_step=0.01).selected_array["frequency"]
        for x in (one, other)
    )
    return a, b


def f0_corr(one: Samples, other: Samples) -> float:
    a, b = praat(one, other)
    both = (a > 0) & (b > 0)
    return np.corrcoef(a[both], b[both])[0, 1]


def f0_rmse(one: Samples, other: Samples) -> float:
    a, b = praat(one, other)
    both = (a > 0) & (b > 0)
    return 1200 * np.sqrt(np.mean(np.log2(b[both] / a[both]) ** 2))


def vuv_error(one: Samples, other: Samples) -> float:
    a, b = praat(one, other)
    return np.mean((a > 0) != (b > 0))


# --- Error rates of texts --------------------------------------------------------------------------------------------


def distance(expected: Sequence[str], found: Sequence[str]) -> int:
    """Levenshtein's distance, row by row."""
    row = list(range(len(found) + 1))
    for i, one in enumerate(expected, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(found, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (one != other))
    return row[-1]


# What is said, what is heard in the original, what is heard in the output; and each as Whisper's English normaliser has
# to leave it, by hand from its description (Radford et al. 2023, appendix C).
TEXTS = (
    (("The cat sat on the mat.", "the cat sat on a mat", "The cat sat on, uh, mat."),
     ("the cat sat on the mat", "the cat sat on a mat", "the cat sat on mat")),
    (("Mr. Smith's colour: twenty-one dollars!", "Mister Smith's color, $21", "Mr Smith is collar $20"),
     ("mister smith is color $21", "mister smith is color $21", "mister smith is collar $20")),
    (("Yes.", "yes", "No no no no"), ("yes", "yes", "no no no no")),
    (("Wait for me", "weight for me", ""), ("wait for me", "weight for me", "")),
)  # fmt: skip


def texts() -> list[dict[str, object]]:
    found = []
    for written, (said, original, output) in TEXTS:
        shared = dict(zip(("said", "original", "output"), written, strict=True))
        pairs = {
            "wer": (said.split(), output.split()), "cer": (said, output), "dwer": (original.split(), output.split()),
            "dcer": (original, output), "wer_original": (said.split(), original.split()),
        }  # fmt: skip
        for metric, (one, other) in pairs.items():
            value = distance(one, other) / len(one)
            found.append({"metric": metric, **shared, "value": value, "by": "Levenshtein written out", "atol": 1e-9})
    return found


FOLDER = Path(__file__).parent
CONFORMANCE = FOLDER.parents[1] / "metrics" / "conformance"
# name: (function, where the values come from, absolute tolerance of the test)
PLAIN: dict[str, tuple[Callable[[Samples, Samples], float], str, float]] = {
    "pesq_wb": (pesq_wb, "pesq 0.0.4, called directly", 2e-3),
    "pesq_nb": (pesq_nb, "pesq 0.0.4, called directly", 2e-3),
    "stoi": (stoi, "pystoi 0.4.1", 1e-6),
    "estoi": (estoi, "pystoi 0.4.1", 1e-6),
    "mcd": (mcd, "librosa 0.11.0 filters, cosine sums written out", 1e-4),
    "si_sdr": (si_sdr, "least squares", 1e-6),
    "si_sdr_aligned": (si_sdr, "least squares; these systems have no known delay", 1e-6),
    "f0_corr": (f0_corr, "Praat (parselmouth 0.4.7)", 2e-4),
    "f0_rmse": (f0_rmse, "Praat (parselmouth 0.4.7)", 2.0),
    "vuv_error": (vuv_error, "Praat (parselmouth 0.4.7)", 0.01),
}
AT_RATES: dict[str, tuple[Callable[[Samples, Samples, int], float], str, float]] = {
    "mel": (mel, "librosa 0.11.0", 1e-5),
    "mel_ms": (mel_ms, "librosa 0.11.0", 1e-5),
    "lsd": (lsd, "librosa 0.11.0", 1e-4),
}


def entry(metric: str, rate: int, case: str, value: float, by: str, atol: float) -> dict[str, object]:
    return {"metric": metric, "rate": rate, "case": case, "value": float(value), "by": by, "atol": atol}


def write(path: Path, items: Sequence[Mapping[str, object]]) -> None:
    path.write_text("[\n" + ",\n".join(json.dumps(item) for item in items) + "\n]\n")


def main() -> None:
    reference = speech()
    outputs = cases(reference)
    golden = [
        entry(name, RATE, case, function(reference, output), *rest)
        for name, (function, *rest) in PLAIN.items()
        for case, output in outputs.items()
    ]
    golden += [
        entry(name, rate, case, function(reference, outputs[case], rate), *rest)
        for name, (function, *rest) in AT_RATES.items()
        for rate in (8_000, RATE, 48_000)
        for case in (outputs if rate == RATE else ("noise_10",))
    ]
    write(CONFORMANCE / "golden.json", golden)
    write(CONFORMANCE / "golden_texts.json", texts())
    contours = {case: praat(outputs[case], outputs[case])[0].round(3).tolist() for case in ("identical", "noise_0")}
    write(FOLDER / "praat_f0.json", [{"case": case, "hertz": hertz} for case, hertz in contours.items()])


if __name__ == "__main__":
    main()
