r"""VERSA and this benchmark side by side: the same pairs of recordings, models and processor cores, in one run.

VERSA (https://github.com/wavlab-speech/versa) is the toolkit that most papers score speech with. Both sides read the
same wav files, and score them in `--jobs` processes of their own, as VERSA's ``launch_local.sh`` does, each with its
share of the cores. Models are loaded and one pair is scored before the clock starts. The table says, for each metric,
the seconds of processor a pair, the means of both, and the largest difference between two values of one pair.

What is the same: the PESQ library; STOI with its resampler; the recogniser's weights (Whisper tiny.en), beams (5),
runtime (faster-whisper) and text normaliser; the speaker encoder (GE2E of Resemblyzer, at -30 dBFS, in place of VERSA's
own, whose weights are on a hub). What is not: VERSA runs the recogniser in float32 (its default; `--compute` sets
another) with time stamps and second tries, and has another mel-cepstral distortion, of a vocoder's warped cepstra
(WORLD), whose values do not compare with ours: it has a sum with it, and one without.

How to get it (tried with c398480), in an environment of its own:

    git clone https://github.com/wavlab-speech/versa
    python -m venv versa-env
    versa-env/bin/pip install torch torchaudio soundfile scipy librosa kaldiio pyyaml tqdm pesq pystoi pysptk pyworld \
        fastdtw faster-whisper openai-whisper Levenshtein 'setuptools<81' webrtcvad-wheels jaconv unidecode inflect \
        espnet_tts_frontend g2p_en typeguard
    versa-env/bin/pip install --no-deps espnet Resemblyzer
    python benchmarks/versa.py FOLDER --versa versa --python versa-env/bin/python

FOLDER holds recordings and a ``manifest.csv`` with the columns id, path and text. The outputs that are scored are made
of them by `--systems`. Where torchaudio's compiled extension does not load, its parts in Python are used.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias

Job: TypeAlias = dict[str, Any]
Values: TypeAlias = dict[str, dict[str, float | None]]
"""Metric to pair to value."""

OURS = {"pesq": "pesq_wb", "stoi": "stoi", "estoi": "estoi", "spk_sim": "spk_sim", "wer": "wer", "mcd": "mcd"}
THEIRS = {
    "pesq": "pesq",
    "stoi": "stoi",
    "estoi": "estoi",
    "spk_sim": "speaker",
    "wer": "fwhisper_wer",
    "mcd": "mcd_f0",
}
OTHER_DEFINITION = "mcd"
RATE = 16_000
"""Of the wav files, in Hz."""
EQUAL = {"pesq": 1e-4, "stoi": 1e-4, "estoi": 1e-4}
"""How far values of one definition may lie apart."""


# --- in a process of one side ----------------------------------------------------------------------------------------


def drive(side: str, job: Job) -> None:
    """Score the pairs of `job` on the word of the parent process, and print values and seconds."""
    seconds: dict[str, float] = defaultdict(float)
    score = {"ours": _ours, "versa": _versa}[side](job, seconds)
    score(job["pairs"][:1])
    print("ready", flush=True)
    sys.stdin.readline()
    seconds.clear()
    begun, clock = time.process_time(), time.perf_counter()
    values = score(job["pairs"])
    wall, total = time.perf_counter() - clock, time.process_time() - begun
    print(json.dumps({"values": values, "seconds": seconds, "cpu": total, "wall": wall}), flush=True)


def _timed(seconds: dict[str, float], name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    def timed(*arguments: Any) -> Any:
        begun = time.process_time()
        try:
            return call(*arguments)
        finally:
            seconds[name] += time.process_time() - begun

    return timed


def _ours(job: Job, seconds: dict[str, float]) -> Callable[[list[Job]], Values]:
    from codecbench import recording
    from codecbench.metrics import registry
    from codecbench.metrics.base import Output, Reference, evaluate

    calls = {name: _timed(seconds, name, partial(evaluate, registry.find(OURS[name]))) for name in job["metrics"]}

    def score(pairs: list[Job]) -> Values:
        values: Values = {name: {} for name in calls}
        references: dict[str, Reference] = {}
        for pair in pairs:  # those of one reference stand together
            if pair["reference"] not in references:
                clip = recording.read(Path(pair["reference"])).clip
                reference = Reference(clip.samples[0], clip.sample_rate, transcript=pair["text"], language="en")
                references = {pair["reference"]: reference}
            clip = recording.read(Path(pair["output"])).clip
            output = Output(clip.samples[0], clip.sample_rate)
            for name, call in calls.items():
                values[name][pair["key"]] = call(references[pair["reference"]], output).value
        return values

    return score


def _versa(job: Job, seconds: dict[str, float]) -> Callable[[list[Job]], Values]:
    _load_torchaudio()
    sys.path.insert(0, job["versa"])
    from versa.scorer_shared import VersaScorer  # type: ignore[import-not-found]
    from versa.utterance_metrics import speaker  # type: ignore[import-not-found]

    speaker.Speech2Embedding = GE2E
    settings: dict[str, dict[str, Any]] = {
        "mcd_f0": {"f0min": 40, "f0max": 800},
        "speaker": {"cache_dir": None},
        "fwhisper_wer": {
            "model_tag": job["whisper"], "beam_size": 5, "text_cleaner": "whisper_en", "compute_type": job["compute"],
        },
    }  # fmt: skip
    config = [{"name": THEIRS[name], **settings.get(THEIRS[name], {})} for name in job["metrics"]]
    scorer = VersaScorer()
    suite = scorer.load_metrics(config, use_gt=True, use_gt_text=True)
    missing = {entry["name"] for entry in config} - set(suite.metrics)
    if missing:
        sys.exit(f"VERSA cannot load {', '.join(sorted(missing))}: see its messages above")
    for name in job["metrics"]:
        metric = suite.metrics[THEIRS[name]]
        metric.compute = _timed(seconds, name, metric.compute)

    def score(pairs: list[Job]) -> Values:
        outputs, references, texts = ({p["key"]: p[what] for p in pairs} for what in ("output", "reference", "text"))
        file = Path(job["folder"], f"versa-{os.getpid()}.jsonl")
        rows = scorer.score_utterances(outputs, suite, references, texts, output_file=str(file), io="soundfile")
        return {name: {row["key"]: _their_value(name, row) for row in rows} for name in job["metrics"]}

    return score


def _their_value(name: str, row: Mapping[str, Any]) -> float | None:
    if name != "wer":
        value = row.get({"spk_sim": "spk_similarity"}.get(name, name))
        return None if value is None else float(value)
    inserted, deleted, replaced, equal = (
        row[f"fwhisper_wer_{kind}"] for kind in ("insert", "delete", "replace", "equal")
    )
    return float((inserted + deleted + replaced) / (deleted + replaced + equal))


class GE2E:
    """Resemblyzer's encoder, called as VERSA calls ESPnet's."""

    def __init__(self) -> None:
        from resemblyzer import VoiceEncoder
        from resemblyzer.audio import normalize_volume

        self._encoder, self._level = VoiceEncoder("cpu", verbose=False), normalize_volume

    @classmethod
    def from_pretrained(cls, **_: Any) -> GE2E:
        """The encoder, whatever model was asked for."""
        return cls()

    def __call__(self, samples: Any) -> Any:
        """Embedding ``[1, 256]`` of `samples` ``[T]`` at 16 kHz."""
        import torch

        return torch.from_numpy(self._encoder.embed_utterance(self._level(samples, -30)))[None]


def _load_torchaudio() -> None:
    """Through the one file of this package that this side uses; it needs nothing else of it."""
    file = Path(__file__).parents[1] / "src/codecbench/tolerant_torchaudio.py"
    spec: Any = importlib.util.spec_from_file_location("tolerant_torchaudio", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.load()


# --- the parent ------------------------------------------------------------------------------------------------------


def make_pairs(options: argparse.Namespace, folder: Path) -> list[Job]:
    """Write the references and what the systems make of them as 16-bit wav files at `RATE`."""
    import soundfile

    from codecbench import recording
    from codecbench.audio import Clip, fit_length, resample
    from codecbench.models.base import LoadOptions
    from codecbench.models.registry import find

    systems: list[tuple[str, Any]] = [
        (text, find(text.partition(":")[0]).load(LoadOptions())) for text in options.systems
    ]
    pairs = []
    with (options.folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[: options.limit]
    for row in rows:
        source = recording.read(options.folder / row["path"]).clip
        clip = Clip(resample(source.samples, source.sample_rate, RATE), RATE)
        reference = folder / f"{row['id']}.wav"
        soundfile.write(reference, clip.samples.T, RATE, "PCM_16")
        for text, codec in systems:
            (point,) = [point for point in codec.card.points if point.name == text.partition(":")[2]]
            rate = codec.card.sample_rate or RATE
            heard = Clip(resample(clip.samples, RATE, rate), rate)
            (decoded,) = codec.decode(codec.encode([heard], point))
            output = folder / f"{row['id']}-{text.replace(':', '-')}.wav"
            samples = fit_length(resample(decoded, rate, RATE), clip.length)
            soundfile.write(output, samples.T, RATE, "PCM_16")
            pairs.append(
                {
                    "key": output.stem, "reference": str(reference), "output": str(output), "text": row["text"],
                    "seconds": clip.duration,
                }
            )  # fmt: skip
    return pairs


def deal(pairs: Sequence[Job], jobs: int) -> list[list[Job]]:
    """Shares of about equal length; the pairs of one reference stay together."""
    shares: list[list[Job]] = [[] for _ in range(jobs)]
    groups = [list(group) for _, group in groupby(pairs, lambda pair: pair["reference"])]
    for group in sorted(groups, key=lambda group: -group[0]["seconds"]):
        min(shares, key=lambda share: sum(pair["seconds"] for pair in share)).extend(group)
    return [share for share in shares if share]


def run(side: str, python: str, jobs: Sequence[Job]) -> dict[str, Any]:
    """All jobs of one side at once; the clock runs from the moment when all are loaded."""
    threads = str(max(1, (os.cpu_count() or 1) // len(jobs)))
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "CUDA_VISIBLE_DEVICES": ""}
    processes: list[Any] = []
    for number, job in enumerate(jobs):
        file = Path(job["folder"], f"{side}-{number}.json")
        file.write_text(json.dumps(job))
        log = file.with_suffix(".log").open("w")
        command = [python, __file__, "--drive", side, str(file)]
        processes.append(
            subprocess.Popen(  # noqa: S603 - the user's own commands
                command, stdin=-1, stdout=-1, stderr=log, text=True, env=environment, cwd=job["folder"]
            )
        )
    for process in processes:
        _line(process, lambda line: line == "ready\n")
    begun = time.perf_counter()
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    found = [json.loads(_line(process, lambda line: line.startswith("{"))) for process in processes]
    wall = time.perf_counter() - begun
    for process in processes:
        process.communicate()
    names = jobs[0]["metrics"]
    return {
        "wall": wall,
        "cpu": sum(part["cpu"] for part in found),
        "seconds": {name: sum(part["seconds"][name] for part in found) for name in names},
        "values": {name: {key: v for part in found for key, v in part["values"][name].items()} for name in names},
    }


def _line(process: Any, wanted: Callable[[str], bool]) -> str:
    line: str
    for line in process.stdout:
        if wanted(line):
            return line
    logs = Path(process.args[-1]).with_suffix(".log")
    sys.exit(f"{process.args[3]} ended early:\n{logs.read_text()[-3000:]}")


def table(versa: dict[str, Any], ours: dict[str, Any], pairs: Sequence[Job], options: argparse.Namespace) -> str:
    """Both sides in Markdown."""
    count, audio = len(pairs), sum(pair["seconds"] for pair in pairs)
    lines = [
        f"{count} pairs of {audio / count:.1f} s on average, {options.jobs} processes on {os.cpu_count()} cores, "
        f"recogniser of VERSA in {options.compute}.", "",
        "| Metric | VERSA, CPU s a pair | Ours | Ratio | VERSA, mean | Ours, mean | Largest difference |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]  # fmt: skip
    for name in options.metrics:
        a, b = (side["values"][name] for side in (versa, ours))
        means = [statistics.fmean(v for v in side.values() if v is not None) for side in (a, b)]
        apart = "other definition" if name == OTHER_DEFINITION else f"{largest(a, b):.1e}"
        lines.append(
            _row(name, *(side["seconds"][name] / count for side in (versa, ours)))
            + f" {means[0]:.4f} | {means[1]:.4f} | {apart} |"
        )
    same = [name for name in options.metrics if name != OTHER_DEFINITION]
    sums = [sum(side["seconds"][name] for name in same) / count for side in (versa, ours)]
    lines.append(_row(f"all but {OTHER_DEFINITION}", *sums) + " | | |")
    lines.append(_row("all, with reading", *(side["cpu"] / count for side in (versa, ours))) + " | | |")
    rates = [count / side["wall"] for side in (versa, ours)]
    lines += [
        "",
        f"Pairs a second: VERSA {rates[0]:.2f}, ours {rates[1]:.2f}: {rates[1] / rates[0]:.1f} times as many.",
    ]
    return "\n".join(lines)


def _row(name: str, theirs: float, ours: float) -> str:
    return f"| {name} | {theirs:.4f} | {ours:.4f} | {theirs / ours:.1f} |"


def largest(one: Mapping[str, float | None], other: Mapping[str, float | None]) -> float:
    """The largest difference; infinite where one side alone has a value."""
    gaps = [0.0]
    for key in {*one, *other}:
        a, b = one.get(key), other.get(key)
        if a is not None and b is not None:
            gaps.append(abs(a - b))
        elif (a is None) != (b is None):
            return float("inf")
    return max(gaps)


def main() -> None:
    """Score with both sides and print the table; exit code 1 where values that should be equal are not."""
    if sys.argv[1:2] == ["--drive"]:
        drive(sys.argv[2], json.loads(Path(sys.argv[3]).read_text()))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="recordings and their manifest.csv")
    parser.add_argument("--versa", type=Path, required=True, help="clone of VERSA")
    parser.add_argument("--python", required=True, help="Python of VERSA's environment")
    parser.add_argument("--systems", nargs="+", default=["opus:12kbps", "lowpass:3.5k", "mulaw:8bit", "noise:10dB"])
    parser.add_argument("--metrics", nargs="+", default=list(OURS), choices=list(OURS))
    parser.add_argument("--limit", type=int, help="number of recordings")
    parser.add_argument("--jobs", type=int, default=2, help="processes of each side")
    parser.add_argument("--compute", default="float32", help="precision of VERSA's recogniser")
    options = parser.parse_args()
    from codecbench.metrics import asr

    with tempfile.TemporaryDirectory() as folder:
        pairs = make_pairs(options, Path(folder))
        jobs = [
            {
                "pairs": share,
                "metrics": options.metrics, "versa": str(options.versa.resolve()), "whisper": str(asr.find("").path),
                "compute": options.compute, "folder": folder,
            }
            for share in deal(pairs, options.jobs)
        ]  # fmt: skip
        ours, versa = run("ours", sys.executable, jobs), run("versa", options.python, jobs)
    print(table(versa, ours, pairs, options))
    same = [name for name in EQUAL if name in options.metrics]
    sys.exit(any(largest(versa["values"][name], ours["values"][name]) > EQUAL[name] for name in same))


if __name__ == "__main__":
    main()
