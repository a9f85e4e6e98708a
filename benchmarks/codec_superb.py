r"""Codec-SUPERB's runner and this benchmark's on one sweep: EnCodec 24 kHz at five bitrates, the same recordings.

Codec-SUPERB (https://github.com/voidful/Codec-SUPERB) evaluates a list of codecs on a dataset, each bitrate as a codec
of its own. Both sides are started as a user starts them, as one command with `--jobs` processes; the clock runs over
the whole command, loading included. Both run EnCodec on the same random weights, so nothing has to be downloaded: the
file lies where torch's hub keeps the released one. The values of random weights mean nothing, but those of both sides
are to agree: the table shows their means.

What both measure: PESQ, STOI, a multi-scale mel distance, a spectral distance, a distance of waveforms and the
correlation of pitch. Not the same are the resamplers (librosa's default there, soxr's best here); the spectral and
waveform distances and the correlation, which are defined otherwise and left out of the table of values; and PESQ,
which it computes twice. PESQ and STOI that fail it takes for 1 and 0; here they are no values.

How to get it (tried with cfccafc), in an environment of its own; `datasets` decodes audio by itself below version 4:

    git clone https://github.com/voidful/Codec-SUPERB
    python -m venv superb-env
    superb-env/bin/pip install torch torchaudio encodec librosa soundfile pesq psutil scipy 'datasets<4' torchmetrics \
        praat-parselmouth argbind julius ffmpy flatten-dict importlib-resources markdown2 pyloudnorm randomname \
        torch-stoi tensorboard ipython rich
    superb-env/bin/pip install --no-deps descript-audiotools==0.7.2
    python benchmarks/codec_superb.py FOLDER --codec-superb Codec-SUPERB --python superb-env/bin/python

FOLDER holds recordings and a ``manifest.csv`` with the columns id and path. Where torchaudio's compiled extension does
not load, its parts in Python are used.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import ctypes
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from releases import both

POINTS = {"1.5kbps": "1_5", "3kbps": "3", "6kbps": "6", "12kbps": "12", "24kbps": "24"}
METRICS = "pesq_wb,stoi,mel_ms,lsd,si_sdr,f0_corr"
COMPARED = {"pesq_wb": "pesq", "stoi": "stoi", "mel_ms": "mel"}
PR_SET_CHILD_SUBREAPER = 36
CHECKPOINT = "encodec_24khz-d7cc33bc.th"
TOLERANT = Path(__file__).parents[1] / "src/codecbench/tolerant_torchaudio.py"
MAKE_DATASET = """
import json, sys
from datasets import Audio, Dataset, DatasetDict
rows = json.load(open(sys.argv[1]))
data = Dataset.from_dict({"id": [row["id"] for row in rows], "audio": [row["path"] for row in rows]})
DatasetDict({"speech": data.cast_column("audio", Audio())}).save_to_disk(sys.argv[2])
"""


def timed(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> tuple[float, float]:
    """Run `command`; its seconds on the wall's clock and on the processor's, with all its processes."""

    def processor() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before, begun = processor(), time.perf_counter()
    done = subprocess.run(  # noqa: S603 - the user's own commands
        command, env=dict(environment), cwd=folder, capture_output=True, text=True, check=False
    )
    wall = time.perf_counter() - begun
    _reap()
    seconds = wall, processor() - before
    (folder / "log.txt").write_text(done.stdout + done.stderr)
    if done.returncode not in (0, 2):  # 2: items failed, as they may on random weights
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return seconds


def _adopt() -> None:
    """Inherit processes that outlive their parents, whose time would else be nobody's (Linux)."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


def write_weights(folder: Path) -> Path:
    """EnCodec's random weights as its release keeps them."""
    both("encodec_24khz", "encodec", folder, {})
    kept = folder / "torch/hub/checkpoints" / CHECKPOINT
    kept.parent.mkdir(parents=True)
    shutil.copy(folder / "weights.th", kept)
    return folder / "weights.th"


def superb(rows: list[dict[str, str]], folder: Path, options: argparse.Namespace) -> tuple[float, float]:
    """Run Codec-SUPERB on `rows`; its results lie in ``results`` in `folder`."""
    shutil.copy(TOLERANT, folder / "tolerant_torchaudio.py")
    (folder / "sitecustomize.py").write_text("import tolerant_torchaudio\n\ntolerant_torchaudio.load()\n")
    clone = options.codec_superb.resolve()
    environment = {
        **os.environ, "TORCH_HOME": str(folder / "torch"), "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": f"{folder}:{clone}", "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // options.jobs)),
    }  # fmt: skip
    (folder / "rows.json").write_text(json.dumps(rows))
    timed([options.python, "-c", MAKE_DATASET, "rows.json", "dataset"], environment, folder)
    models = [f"encodec_24k_{POINTS[point]}bps" for point in options.points]
    command = [
        options.python, str(clone / "scripts/benchmarking.py"), "--dataset", "dataset", "--models", *models,
        "--max_workers", str(options.jobs), "--chunksize", "1", "--no_save_audio", "--no-disk-cache",
        "--output_dir", "results",
    ]  # fmt: skip
    return timed(command, environment, folder)


def ours(rows: list[dict[str, str]], weights: Path, folder: Path, options: argparse.Namespace) -> tuple[float, float]:
    """Run our sweep on `rows`; its run lies in ``run`` in `folder`."""
    manifest = folder / "manifest.csv"
    with manifest.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["id", "path"])
        writer.writeheader()
        writer.writerows(rows)
    command = [
        sys.executable, "-m", "codecbench", "run", "--models", "encodec_24khz", "--weights", str(weights),
        "--points", ",".join(options.points), "--datasets", str(manifest), "--metrics", METRICS,
        "--jobs", str(options.jobs), "--no-cache", "--quiet", "--out", "run",
    ]  # fmt: skip
    return timed(command, os.environ, folder)


def table(folder: Path, theirs: tuple[float, float], mine: tuple[float, float], options: argparse.Namespace) -> str:
    """Seconds and means of both in Markdown."""
    import pandas as pd

    (file,) = (folder / "results").glob("*.json")
    superb_means = json.loads(file.read_text())
    values = pd.read_parquet(folder / "run/results.parquet")
    lines = ["| | Codec-SUPERB | Ours | Ratio |", "|---|--:|--:|--:|"]
    for name, a, b in zip(("Seconds in all", "Seconds of processor"), theirs, mine, strict=True):
        lines.append(f"| {name} | {a:.1f} | {b:.1f} | {a / b:.1f} |")
    lines += [
        "",
        "| Point | Metric | Codec-SUPERB, mean | Ours, mean | Ours without a value |",
        "|---|---|--:|--:|--:|",
    ]
    for point in options.points:
        for name, other in COMPARED.items():
            some = values[(values["point"] == point) & (values["metric"] == name)]
            good = [float(value) for value in some["value"][some["status"] == "ok"]]
            mean = f"{statistics.fmean(good):.4f}" if good else "–"
            found = superb_means[f"encodec_24k_{POINTS[point]}bps"]["overall"][other]
            lines.append(f"| {point} | `{name}` | {found:.4f} | {mean} | {len(some) - len(good)} of {len(some)} |")
    return "\n".join(lines)


def main() -> None:
    """Run both and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="recordings and their manifest.csv")
    parser.add_argument("--codec-superb", type=Path, required=True, help="clone of Codec-SUPERB")
    parser.add_argument("--python", required=True, help="Python of its environment")
    parser.add_argument("--points", nargs="+", default=list(POINTS), choices=list(POINTS))
    parser.add_argument("--limit", type=int, help="number of recordings")
    parser.add_argument("--jobs", type=int, default=2, help="processes of each side")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    _adopt()
    options.python = str(Path(options.python).absolute())
    with (options.folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[: options.limit]
    rows = [{"id": row["id"], "path": str((options.folder / row["path"]).resolve())} for row in rows]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mine = ours(rows, write_weights(folder), folder, options)
        theirs = superb(rows, folder, options)
        print(f"{len(rows)} recordings, {len(options.points)} points, {options.jobs} processes.\n")
        print(table(folder, theirs, mine, options))


if __name__ == "__main__":
    main()
