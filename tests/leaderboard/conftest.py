"""Synthetic runs: folders exactly as the runner writes them, from a seeded model of systems and metrics."""

from __future__ import annotations

import base64
import gzip
import json
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

HARNESS = Path(__file__).parent.parent / "site"
BROWSERS = {"chromium": ("chromium", "chromium-browser"), "firefox": ("firefox-esr", "firefox")}
COLUMNS = {
    "system": "str", "point": "str", "dataset": "str", "utterance": "str", "metric": "str", "value": "float64",
    "weight": "float64", "status": "str", "reason": "str", "bits": "Int64", "header_bits": "Int64",
    "duration": "float64", "signature": "str",
}  # fmt: skip
METRICS: dict[str, dict[str, Any]] = {
    "pesq_wb": {"title": "PESQ wideband", "unit": "MOS", "direction": "higher", "floor": 1.0, "perfect": 4.64},
    "estoi": {"title": "ESTOI", "unit": "", "direction": "higher", "floor": 0.0, "perfect": 1.0},
    "mel": {"title": "Mel distance", "unit": "", "direction": "lower", "floor": None, "perfect": 0.0},
    "si_sdr": {"title": "SI-SDR", "unit": "dB", "direction": "higher", "floor": None, "perfect": None},
    "wer": {"title": "Word error rate", "unit": "", "direction": "lower", "floor": 1.0, "perfect": 0.0},
    "f0_rmse": {"title": "Pitch error", "unit": "cents", "direction": "lower", "floor": None, "perfect": 0.0},
}
SYSTEMS: dict[str, dict[str, Any]] = {
    "encodec_24khz": {"family": "EnCodec", "track": "official", "rates": [1.5, 3, 6, 12], "skill": 0.0},
    "dac_16khz": {"family": "DAC", "track": "official", "rates": [1.5, 3, 6], "skill": 0.5},
    "snac_24khz": {"family": "SNAC", "track": "official", "rates": [0.98], "skill": 0.4},
    "mimi": {"family": "Mimi", "track": "official", "rates": [0.55, 1.1, 2.2], "skill": 0.5},
    "encodec_24khz[random:1]": {"family": "EnCodec", "track": "official", "rates": [6], "skill": -3.0},
    "tiny_codec": {"family": "Tiny", "track": "small", "rates": [1.5, 3], "skill": -0.4},
    "opus": {"family": "Opus", "track": "classical", "rates": [6, 8, 12, 16, 24], "skill": -0.7},
    "codec2": {"family": "Codec 2", "track": "classical", "rates": [0.7, 1.3, 2.4, 3.2], "skill": -0.6},
    "identity": {"family": "Control", "track": "control", "rates": [256], "skill": 9.0},
    "lowpass_3500hz": {"family": "Control", "track": "control", "rates": [256], "skill": -2.6},
}


def card(name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    random = "[random" in name
    weights = "random, seed 1" if random else "official 3f2a91c0" if facts["track"] == "official" else "none"
    return {
        "name": name.partition("[")[0], "kind": "codec", "family": facts["family"], "track": facts["track"],
        "sample_rate": None if facts["track"] == "control" else 24_000, "channels": 1, "streams": [],
        "points": [{"name": f"{rate}kbps", "kbps": rate} for rate in facts["rates"]], "licence": "MIT",
        "weights_licence": "CC-BY-4.0" if facts["track"] == "official" else "", "training_data": ["LibriTTS"],
        "label": "small, trained here, 9 steps on 1 min of tones" if facts["track"] == "small" else "",
        "paper": "arXiv:2210.13438", "causal": facts["track"] == "official", "weights": weights, "ranked": not random,
        "status": "valid", "reason": "",
    }  # fmt: skip


def utterances(count: int, speakers: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(7)
    return [
        {
            "id": f"utt{k:03d}", "speaker": f"spk{k % speakers}", "language": ("en", "de")[k % 2], "domain": "speech",
            "duration": round(float(rng.uniform(2, 9)), 2), "transcript": "the quick brown fox",
        }
        for k in range(count)
    ]  # fmt: skip


def measure(metric: str, quality: float, noise: float, words: int) -> float:
    """A plausible value for a quality between about -3 and 6."""
    level = 1 / (1 + np.exp(-(quality + noise)))
    if metric == "wer":
        return round(float((1 - level) * 0.9 * words)) / words
    scales = {"pesq_wb": (1.05, 4.6), "estoi": (0.3, 0.99), "mel": (2.6, 0.1), "si_sdr": (-8, 14), "f0_rmse": (90, 2)}
    low, high = scales[metric]
    return float(low + (high - low) * level)


def rows_of(
    dataset: str, items: Iterable[Mapping[str, Any]], systems: Mapping[str, Mapping[str, Any]],
    metrics: Iterable[str], seed: int = 0, trouble: bool = True,
) -> list[dict[str, Any]]:  # fmt: skip
    """Rows of all systems; `trouble` adds failed, error, missing and undefined items."""
    rows: list[dict[str, Any]] = []
    for item in items:
        hard = float(np.random.default_rng([seed, *item["id"].encode()]).normal(0, 0.35))
        words = 6 + len(item["id"]) + int(item["duration"] * 2)
        for name, facts in systems.items():
            for rate in facts["rates"]:
                rng = np.random.default_rng([seed, *item["id"].encode(), *name.encode(), int(rate * 100)])
                quality = 0.8 * np.log2(rate + 0.4) + facts["skill"] - hard
                broken = trouble and name == "codec2" and rate == 0.7 and item["id"].endswith(("03", "17"))
                bits = None if broken else int(rate * 1000 * item["duration"] / 8 + rng.integers(0, 4)) * 8
                for metric in metrics:
                    status, reason, value = "ok", "", measure(metric, quality, float(rng.normal(0, 0.3)), words)
                    if broken:
                        status, reason = "failed", "decode(ValueError: frame 12 has 55 bits, expected 56)"
                    elif trouble and metric == "f0_rmse" and item["id"].endswith("9"):
                        status, reason = "undefined", "ref_unvoiced"
                    elif trouble and name == "opus" and rate == 8 and metric == "wer" and item["id"] == "utt005":
                        status, reason = "error", "metric(RuntimeError: out of memory)"
                    elif trouble and name == "mimi" and rate == 2.2 and item["id"] == "utt011":
                        status, reason = "missing", "not_run"
                    rows.append({
                        "system": name, "point": f"{rate}kbps", "dataset": dataset, "utterance": item["id"],
                        "metric": metric, "value": value if status == "ok" else None,
                        "weight": float(words) if metric == "wer" else 1.0, "status": status, "reason": reason,
                        "bits": bits, "header_bits": 64, "duration": item["duration"],
                        "signature": f"{metric}|impl:synthetic-1|rs:soxr-1.0-VHQ|v:1",
                    })  # fmt: skip
    return rows


def corpus_rows(dataset: str, systems: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "system": name, "point": f"{rate}kbps", "dataset": dataset, "utterance": "*", "metric": metric,
            "value": value, "weight": 1.0, "status": "ok", "reason": "", "bits": None, "header_bits": None,
            "duration": None, "signature": "",
        }
        for name, facts in systems.items()
        for rate in facts["rates"]
        for metric, value in {
            "delay_ms": 0.02 if facts["track"] == "official" else 6.5, "gain_db": -0.12, "polarity": 1.0,
            "nominal_kbps": rate, "token_rate": rate * 100, "utilisation/0": 0.93, "header_kbps": 0.05,
            "parameters": 14_851_810.0,
        }.items()
    ]  # fmt: skip


def timing_rows(rows: Iterable[Mapping[str, Any]], metric: str) -> list[dict[str, Any]]:
    return [
        {
            **{key: row[key] for key in ("system", "point", "dataset", "utterance", "duration")},
            "encode_seconds": row["duration"] * 0.11, "decode_seconds": row["duration"] * 0.07,
            "peak_memory_mb": 812.0,
        }
        for row in rows
        if row["metric"] == metric
    ]  # fmt: skip


def write(folder: Path, facts: Mapping[str, Any], rows: list[dict[str, Any]], timings: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(facts), encoding="utf-8")
    columns = [*COLUMNS, *(["transcript"] if any("transcript" in row for row in rows) else [])]
    frame = pd.DataFrame(rows, columns=columns).astype(COLUMNS)
    frame.to_parquet(folder / "results.parquet", index=False)
    if timings:
        pd.DataFrame(timings).to_parquet(folder / "timings.parquet", index=False)
    return folder


class Draft(NamedTuple):
    """What is about to be written: the content of run.json, and the rows."""

    facts: dict[str, Any]
    rows: list[dict[str, Any]]


def synthesise(
    folder: Path, *, systems: Mapping[str, Mapping[str, Any]] | None = None, metrics: Iterable[str] = tuple(METRICS),
    datasets: Iterable[str] = ("demo",), items: int = 40, speakers: int = 6, seed: int = 0, trouble: bool = True,
    edit: Callable[[Draft], None] | None = None,
) -> Path:  # fmt: skip
    """Write a run; `edit` may change its draft in place before that."""
    systems, metrics = SYSTEMS if systems is None else systems, list(metrics)
    known = utterances(items, speakers)
    rows: list[dict[str, Any]] = []
    for k, dataset in enumerate(datasets):
        rows += rows_of(dataset, known, systems, metrics, seed + k, trouble) + corpus_rows(dataset, systems)
    facts: dict[str, Any] = {
        "schema": 1, "name": folder.name, "created": "2026-03-01T12:00:00Z", "finished": True,
        "command": "codecbench run --datasets demo", "environment": {"python": "3.11.9", "codecbench": "0.1.0"},
        "systems": {name: card(name, spec) for name, spec in systems.items()},
        "datasets": {
            dataset: {"title": dataset.title(), "licence": "CC-BY-4.0", "url": "https://example.org/demo",
                      "fingerprint": "3fa1c2d4", "utterances": known}
            for dataset in datasets
        },
        "metrics": {
            name: {**METRICS[name], "domains": ["speech"], "signature": f"{name}|impl:synthetic-1|rs:soxr-1.0-VHQ|v:1"}
            for name in metrics
        },
        "counts": {},
    }  # fmt: skip
    if edit:
        edit(Draft(facts, rows))
    return write(folder, facts, rows, timing_rows(rows, metrics[0]) if metrics else [])


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """``make_run("name", **options)`` writes a run folder; see `synthesise`."""
    return lambda name="run", **options: synthesise(tmp_path / name, **options)


@pytest.fixture(scope="session")
def full_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One full synthetic run: ten systems, forty utterances, six metrics, every status."""
    return synthesise(tmp_path_factory.mktemp("runs") / "full")


HOSTILE = [
    "<script>window.XSS=document.title='XSS'</script>",
    '"><img src=x onerror="window.XSS=document.title=\'XSS\'">',
    "</script><script>window.XSS=document.title='XSS'</script>",
    "</style><script>window.XSS=document.title='XSS'</script>",
    "{{7*7}}{% raw %}",
    "javascript:window.XSS=document.title='XSS'",
    "&#x3c;script&#x3e;",
    "]]> --> ${window.XSS=1} `y` </textarea></title>",
    "$\\frac{x$",
    "=1+1",
]
TRICKS = {
    "a\u202eb\u200bc\x00d": "a\ufffdb\ufffdc\ufffdd",
    "e" + "\u0301" * 500: "e" + "\u0301" * 500,
    "n" * 10_000: "n" * 10_000,
    "line\u2028one\nline two": "line\ufffdone line two",
    "__proto__": "__proto__",
}
"""Names that turn, hide or stretch, and what may be shown of them."""


def hostile(draft: Draft) -> None:
    """Make every text of a run hostile, each system another way; the run needs a system a text."""
    texts = [*HOSTILE, *TRICKS]
    names = dict(zip(draft.facts["systems"], texts, strict=True))
    bad = HOSTILE[1]
    draft.facts.update(name=bad, command=bad, created=bad, environment={bad: {bad: bad}, "x": HOSTILE[0]})
    for name, text in names.items():
        card = draft.facts["systems"].pop(name)
        for key in ("family", "licence", "weights_licence", "paper", "weights", "reason", "isolation", "extra"):
            card[key] = text
        card |= {"training_data": [text], "notes": [text]}
        card["check"] = {"checks": [{"check": text, "outcome": text, "reason": text}]}
        draft.facts["systems"][text] = card
    dataset = draft.facts["datasets"]["demo"]
    dataset |= {"title": bad, "licence": bad, "fingerprint": bad, "note": bad, "url": HOSTILE[5]}
    items = {item["id"]: text for item, text in zip(dataset["utterances"], texts, strict=False)}
    for item in dataset["utterances"]:
        text = items.get(item["id"], item["id"])
        item |= {"id": text, "speaker": text, "language": text, "domain": text, "transcript": text}
    for metric in draft.facts["metrics"].values():
        metric |= {"title": bad, "unit": bad, "signature": bad}
    for row in draft.rows:
        whole = row["utterance"] == "*"
        row |= {"signature": "" if whole else bad, "system": names[row["system"]]}
        if not whole:
            row |= {"transcript": row["system"]}
            if row["utterance"] == "utt001":
                row |= {"status": "failed", "value": None, "reason": row["system"]}
            row["utterance"] = items.get(row["utterance"], row["utterance"])


@pytest.fixture(scope="session")
def hostile_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose every text tries to act, to break out or to break the layout."""
    systems = {
        f"s{k:02d}": {"family": "F", "track": "official", "rates": [6], "skill": 0.1 * k}
        for k in range(len(HOSTILE) + len(TRICKS))
    }
    folder = tmp_path_factory.mktemp("runs") / "hostile"
    return synthesise(folder, systems=systems, items=16, metrics=["wer", "mel"], edit=hostile)


def with_transcripts(draft: Draft) -> None:
    """What was heard: the transcript with one word lost and one put in, in every second output."""
    for row in draft.rows:
        if row["metric"] == "wer" and row["status"] == "ok":
            row["transcript"] = "the quick brown fox" if row["utterance"].endswith(("0", "2")) else "the brown red fox"
        if row["metric"] == "wer" and row["status"] == "failed":
            row["transcript"] = "the quick"


@pytest.fixture(scope="session")
def two_datasets_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The full run on two datasets, with transcripts of the outputs, and audio of one utterance."""
    folder = tmp_path_factory.mktemp("runs") / "two"
    return keep_audio(synthesise(folder, datasets=("demo", "other"), edit=with_transcripts), ["utt000"], seconds=0.5)


def keep_audio(run: Path, utterances: Iterable[str], seconds: float = 1.5, rate: int = 16_000) -> Path:
    """Put recordings of these utterances beside a run as its runner does, and texts of all: each entry another tone."""
    import hashlib
    import io

    import soundfile

    def put(samples: np.ndarray[Any, Any]) -> str:
        buffer = io.BytesIO()
        soundfile.write(buffer, samples, rate, format="FLAC", subtype="PCM_16")
        name = f"{hashlib.sha256(buffer.getvalue()).hexdigest()}.flac"
        path = run / "evidence" / name[:2] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(buffer.getvalue())
        return name

    time, rows, kept = np.arange(int(seconds * rate)) / rate, pd.read_parquet(run / "results.parquet"), set(utterances)
    keys = ["system", "point", "dataset", "utterance"]
    items = rows[rows["utterance"] != "*"][keys].drop_duplicates().sort_values(keys)
    evidence = []
    for k, values in enumerate(items.itertuples(index=False, name=None)):
        item = dict(zip(keys, map(str, values), strict=True))
        files: dict[str, str | None] = {"codes": None, "output": None, "reference": None}
        if item["utterance"] in kept:
            seed = int(hashlib.sha256(item["utterance"].encode()).hexdigest()[:8], 16)
            noise = np.random.default_rng(seed).normal(size=len(time))
            tone = 0.05 * (1 + k % 4) * np.sin(2 * np.pi * (300 + 40 * (k % 40)) * time)
            files |= {"output": put(0.02 * noise + tone), "reference": put(0.1 * noise)}
        texts = {"said": "the quick brown fox", "output": "the brown red fox", "output:base": "the quick brown fox"}
        evidence.append({**item, **files, "texts": json.dumps({**texts, "original": "the quick brown socks"})})
    pd.DataFrame(evidence).to_parquet(run / "evidence.parquet", index=False)
    return run


FEW_SYSTEMS = {
    name: SYSTEMS[name] | {"rates": SYSTEMS[name]["rates"][:2]} for name in ("encodec_24khz", "opus", "mimi")
}


@pytest.fixture(scope="session")
def audible_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three systems at two points each on two datasets, which kept audio of three utterances and all texts."""
    folder = tmp_path_factory.mktemp("runs") / "audible"
    run = synthesise(folder, systems=FEW_SYSTEMS, datasets=("demo", "other"), items=6, metrics=["mel", "wer"],
                     trouble=False)  # fmt: skip
    return keep_audio(run, ["utt000", "utt002", "utt004"])


@pytest.fixture(params=BROWSERS)
def visit(request: pytest.FixtureRequest) -> Callable[[Path, str], Any]:
    """``visit(index, scenario)`` runs a scenario on the site in each browser and gives its result."""
    executable = next(filter(None, map(shutil.which, BROWSERS[request.param])), None)
    if executable is None or shutil.which("node") is None or not (HARNESS / "node_modules").exists():
        pytest.skip(f"needs {request.param}, node and the packages of tests/site: run scripts/setup-tests")

    def run(index: Path, scenario: str) -> Any:
        command = ["node", HARNESS / "run.mjs", request.param, executable, index.parent, scenario]
        done = subprocess.run(command, capture_output=True, text=True, timeout=580)
        assert done.returncode == 0, done.stderr
        outcome = json.loads(done.stdout.splitlines()[-1])
        assert outcome["ok"], "\n".join([outcome.get("error", ""), *outcome.get("problems", [])])
        return outcome.get("result")

    return run


@pytest.fixture(scope="session")
def columns() -> Callable[[Path], dict[str, Any]]:
    """Reads a file of data of a site."""
    return _columns


def _columns(path: Path) -> dict[str, Any]:
    """What a file of data holds, read independently."""
    text = path.read_text(encoding="utf-8")
    packed = json.loads(text.partition("push(")[2].rpartition(");")[0])
    raw, found = gzip.decompress(base64.b64decode(packed["data"])), {}
    for name, dtype, count in packed["layout"]:
        size = 1 if dtype == "json" else int(dtype[1])
        part, raw = raw[: count * size], raw[count * size :]
        if dtype == "json":
            found[name] = json.loads(part)
        else:
            found[name] = np.frombuffer(np.frombuffer(part, np.uint8).reshape(size, count).T.tobytes(), f"<{dtype}")
    assert raw == b""
    return found
