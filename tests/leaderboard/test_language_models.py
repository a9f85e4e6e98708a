"""Language models on the leaderboard: sections, tables and pages of their own, never mixed with codecs."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from codecbench.leaderboard.aggregate import aggregate
from codecbench.leaderboard.load import read_runs
from codecbench.leaderboard.pages.base import slug
from codecbench.leaderboard.site import build
from codecbench.leaderboard.table import render

MakeRun = Callable[..., Path]
Visit = Callable[[Path, str], Any]
SIZES = {"large_lm": 0.9, "small_lm": 0.2, "ceiling": 2.0, "floor": -2.0}
CODECS = {
    "opus": {"family": "Opus", "track": "classical", "rates": [6, 12], "skill": -0.7},
    "mimi": {"family": "Mimi", "track": "official", "rates": [0.55, 1.1], "skill": 0.5},
}
OF_ANSWERS = ("generate_rtf", "first_audio_ms", "steps_per_second", "cache_kb_per_second")
LISTS = {"speak_en": "tts", "speak_de": "tts", "go_on": "continuation"}
MEASURED = {
    "tts": ("wer", "speaker_similarity", "first_audio", "rtf"),
    "continuation": ("bits_per_second", "steps_per_second"),
}
FACTS: dict[str, dict[str, Any]] = {
    "speaker_similarity": {"title": "Speaker similarity", "direction": "higher", "floor": -1.0, "perfect": 1.0},
    "first_audio": {"title": "Time to the first audio", "unit": "s", "direction": "lower", "floor": None},
    "rtf": {"title": "Real-time factor", "unit": "", "direction": "lower", "floor": None},
    "bits_per_second": {"title": "Bits per second of speech", "unit": "bit/s", "direction": "lower", "floor": None},
    "steps_per_second": {"title": "Steps of the model", "unit": "Hz", "direction": "none", "floor": None},
}


def model_card(name: str) -> dict[str, Any]:
    control = name in ("ceiling", "floor")
    return {
        "name": name, "kind": "control" if control else "lm", "family": "Unit LM", "sample_rate": 24_000,
        "track": "control" if control else "official", "channels": 1, "licence": "MIT", "points": [{"name": "base"}],
        "weights": "none" if control else "official 0a1b2c3d", "ranked": True, "status": "valid", "reason": "",
        "tasks": [] if control else ["tts", "continuation"],
        "streams": [] if control else [{"codebook_size": 2048, "frame_rate": 12.5}] * 8,
        **({"codec": "mimi"} if name == "large_lm" else {}),
    }  # fmt: skip


def with_models(draft: Any) -> None:
    """Two models and the controls of their tasks on three lists of requests, one of which a model fails at."""
    requests = [{"id": f"req{k:02d}", "speaker": f"spk{k % 6}", "language": "en", "duration": 0.0} for k in range(12)]
    draft.facts["systems"] |= {name: model_card(name) for name in SIZES}
    for name, task in LISTS.items():
        draft.facts["datasets"][name] = {
            "title": name.title(), "licence": "CC0-1.0", "fingerprint": "77", "utterances": requests, "task": task,
            "protocol": f"{task}-1",
        }  # fmt: skip
    for name, facts in FACTS.items():
        draft.facts["metrics"][name] = {"perfect": None, **facts, "signature": f"{name}|v:1"}
    draft.facts["metrics"].setdefault("wer", {"title": "Word error rate", "direction": "lower", "signature": "wer|v:1"})
    signatures = {name: facts["signature"] for name, facts in draft.facts["metrics"].items()}
    rng = np.random.default_rng(3)
    for dataset, task in LISTS.items():
        for system, skill in SIZES.items():
            shared = {"system": system, "point": "base", "dataset": dataset, "weight": 1.0, "bits": None,
                      "header_bits": None, "duration": 0.0, "status": "ok", "reason": ""}  # fmt: skip
            for metric in MEASURED[task]:
                sign = 1 if draft.facts["metrics"][metric]["direction"] == "higher" else -1
                for item in requests:
                    row = {**shared, "utterance": item["id"], "metric": metric, "signature": signatures[metric],
                           "value": 1 + 0.2 * sign * skill + 0.02 * float(rng.normal())}  # fmt: skip
                    if (system, dataset, item["id"]) == ("small_lm", "speak_de", "req03"):
                        row |= {"status": "failed", "value": None, "reason": "generate(TimeoutError: 600 s)"}
                    draft.rows.append(row)
            if system.endswith("_lm"):
                draft.rows.append({**shared, "utterance": "*", "metric": "parameters", "value": 1.5e9 * (1 + skill),
                                   "signature": ""})  # fmt: skip


@pytest.fixture
def run(make_run: MakeRun) -> Path:
    """Two codecs on two datasets of recordings, two language models on three lists of requests."""
    return make_run(systems=CODECS, datasets=("demo", "other"), items=8, metrics=["mel", "wer"], trouble=False,
                    edit=with_models)  # fmt: skip


@pytest.fixture
def site(run: Path, tmp_path: Path) -> Path:
    return build([run], tmp_path / "a b" / "site").parent


def test_tasks_have_sections_of_their_own(run: Path) -> None:
    sections = {section.dataset: section for section in aggregate(read_runs([run])).sections}
    assert list(sections) == ["demo", "go_on", "other", "speak_de", "speak_en", "*", "*tts"]
    assert {name: section.task for name, section in sections.items() if section.task} == {**LISTS, "*tts": "tts"}
    for name, section in sections.items():
        assert {row.system for row in section.rows} == set(SIZES if section.task else CODECS), name
    assert sections["*"].title == "Mean over 2 datasets"
    assert "wer" in sections["*"].rows[0].cells  # lists of requests have it too, and are not in this mean
    whole = {row.system: row for row in sections["*tts"].rows}
    apart = [{row.system: row for row in sections[name].rows} for name in ("speak_en", "speak_de")]
    means = [rows["large_lm"].cells["wer"].estimate for rows in apart]
    found = whole["large_lm"].cells["wer"].estimate
    assert found
    assert found.value == pytest.approx(np.mean([mean.value for mean in means if mean]))
    assert whole["small_lm"].cells["wer"].counts.failed == 1


def test_models_are_ranked_without_a_bitrate(run: Path) -> None:
    sections = {section.dataset: section for section in aggregate(read_runs([run])).sections}
    rows = {row.system: row for row in sections["go_on"].rows}
    cells = {name: row.cells["bits_per_second"] for name, row in rows.items()}
    assert all(row.kbps is None and row.band == "" for row in rows.values())
    assert (cells["large_lm"].rank, cells["small_lm"].rank) == ((1, 1), (2, 2))
    assert cells["large_lm"].rivals == 2
    assert {cells["ceiling"].unranked, cells["floor"].unranked} == {"control"}
    assert rows["large_lm"].cells["steps_per_second"].unranked == "no direction"
    failed = {row.system: row for row in sections["speak_de"].rows}["small_lm"].cells["wer"]
    assert (failed.rank, failed.unranked) == (None, "1 failed")


def test_requests_that_record_bits_get_no_bitrate(make_run: MakeRun) -> None:
    def coded(draft: Any) -> None:
        with_models(draft)
        for row in draft.rows:
            if row["dataset"] in LISTS and row["utterance"] != "*":
                row |= {"bits": 4000, "duration": 2.0}

    board = read_runs([make_run(systems=CODECS, items=6, metrics=["mel"], trouble=False, edit=coded)])
    rows = [row for section in aggregate(board).sections if section.task for row in section.rows]
    assert len(rows) > 10
    assert {row.kbps for row in rows} == {None}


def test_speed_of_answers_is_a_property(run: Path) -> None:
    def timing(**facts: Any) -> dict[str, Any]:
        return {"point": "base", "dataset": "speak_en", "encode_seconds": None, "decode_seconds": None,
                "peak_memory_mb": 100.0, "duration": 2.0, "generate_seconds": None, "first_audio_seconds": None,
                "tokens": None, "cache_bytes_per_second": None, **facts}  # fmt: skip

    rows = [
        timing(
            system="large_lm",
            utterance="req00",
            generate_seconds=3.0,
            first_audio_seconds=0.2,
            tokens=50,
            cache_bytes_per_second=3e6,
        ),
        timing(system="large_lm", utterance="req01", generate_seconds=1.0, tokens=150, cache_bytes_per_second=1e6),
        timing(system="ceiling", utterance="req00", encode_seconds=1.0, decode_seconds=2.0),
    ]
    pd.DataFrame(rows).to_parquet(run / "timings.parquet", index=False)
    (section,) = [s for s in aggregate(read_runs([run])).sections if s.dataset == "speak_en"]
    facts = {row.system: row.properties for row in section.rows}
    found = {name: facts["large_lm"][name] for name in OF_ANSWERS}
    expected = {"generate_rtf": 1.0, "first_audio_ms": 200.0, "steps_per_second": 50.0, "cache_kb_per_second": 2000.0}
    assert found == pytest.approx(expected)
    assert (facts["ceiling"]["encode_rtf"], "steps_per_second" in facts["ceiling"]) == (0.5, False)
    assert "first audio" in render(read_runs([run]))


def text_of(path: Path) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", path.read_text(encoding="utf-8")))


def test_the_first_page_has_a_table_a_task(site: Path) -> None:
    source = (site / "index.html").read_text(encoding="utf-8")
    codecs, models = source.split('<section id="models"')
    assert not any(name in codecs.partition('id="explorer"')[2] for name in SIZES)
    tables = models.split("<h3 ")[1:]
    assert [re.findall(r'id="task-(\w+)-', table) for table in tables] == [["continuation"], ["tts"]]
    for name in CODECS:
        assert f'data-name="{name}"' not in models
    heads = [re.findall(r'data-key="([\w.]+)"', table) for table in tables]
    assert heads[1] == ["system", "parameters", "tasks", "codec", "coverage", "wer", "speaker_similarity",
                        "first_audio", "rtf"]  # fmt: skip
    assert heads[0][-2:] == ["bits_per_second", "steps_per_second"]
    shown = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", tables[1]))
    for text in ("2850.0", "tts, continuation", "mimi", "8 of 2048 entries at 12.5 Hz", "control, not ranked",
                 "92 of 96", "protocol tts-1", "rank within track.", "23 of 24"):  # fmt: skip
        assert text in shown, text
    assert re.findall(r'data-name="(\w+)"', tables[1]) == ["large_lm", "small_lm", "ceiling", "floor"]


def test_the_pages_of_models(site: Path) -> None:
    page = text_of(site / "system" / f"{slug('large_lm')}.html")
    for text in ("Tasks tts, continuation", "Parameters 2850.0 M", "Codec mimi", "tts: mean over 2 lists of requests",
                 "Speak_En", "Go_On", "rank 1 of 2", "within track."):  # fmt: skip
        assert text in page, text
    assert "kbps" not in page
    assert "Declared delay" not in page
    listed = text_of(site / "systems.html")
    assert listed.index("mimi") < listed.index("Language models") < listed.index("large_lm")
    requests = text_of(site / "dataset" / f"{slug('speak_de')}.html")
    for text in ("Task tts", "Protocol tts-1", "12 requests", "generate(TimeoutError: 600 s)"):
        assert text in requests, text
    assert "kbps" not in requests
    assert "Quality over bitrate" not in requests
    assert "of requests" not in text_of(site / "curves.html")
    found = json.loads((site / "downloads" / "scores.json").read_text())
    assert [section["task"] for section in found["sections"]] == ["", "continuation", "", "tts", "tts", "", "tts"]


def test_models_are_compared_in_pairs_list_by_list(site: Path, columns: Callable[[Path], dict[str, Any]]) -> None:
    source = (site / "pairs.html").read_text(encoding="utf-8")
    meta = json.loads(re.findall(r'<script type="application/json" id="meta">(.*?)</script>', source, re.DOTALL)[0])
    sections = {section["title"]: section for section in meta["sections"]}
    assert set(sections) >= {"Speak_En", "Speak_De", "Go_On"}
    assert not any("lists" in title for title in sections)
    assert [metric["name"] for metric in sections["Go_On"]["metrics"]] == ["bits_per_second"]
    (band,) = (found := columns(site / sections["Go_On"]["metrics"][0]["file"]))["meta"]["bands"]
    assert (band["band"], band["title"], band["size"]) == ("all entries", "all entries", len(SIZES))
    names = [entry["system"] for entry in found["meta"]["entries"]]
    first, second = sorted((names.index("large_lm"), names.index("small_lm")))
    at = list(itertools.combinations(range(len(names)), 2)).index((first, second))
    better = ("", "first", "second")[found["0.better"][at]]
    assert better == ("first" if names[first] == "large_lm" else "second")


def test_models_alone_make_a_site(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(systems={}, datasets=(), items=1, metrics=["wer"], edit=with_models)
    site = build([run], tmp_path / "site").parent
    source = (site / "index.html").read_text(encoding="utf-8")
    assert "compared task by task" in source
    assert "There are no results yet" not in source
    assert 'id="board"' not in source
    assert source.count("<table") == 2


def test_hostile_facts_of_models_are_text(make_run: MakeRun, tmp_path: Path) -> None:
    bad = '"><script>window.XSS=1</script>{{7*7}}\u202e'

    def hostile(draft: Any) -> None:
        with_models(draft)
        for card in draft.facts["systems"].values():
            card |= {"codec": bad, "tasks": [bad]}
        for dataset in draft.facts["datasets"].values():
            dataset |= {"task": bad, "protocol": bad} if "task" in dataset else {}

    site = build([make_run(systems={}, datasets=(), items=1, metrics=["wer"], edit=hostile)], tmp_path / "site").parent
    pages = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    assert sum("window.XSS=1" in source for source in pages.values()) > 5
    for path, source in pages.items():
        assert "<script>window" not in source, path
        assert "\u202e" not in source, path
        assert not re.findall(r"\b49\b", source), path


def test_the_terminal_shows_tasks_without_bitrates(run: Path) -> None:
    shown = render(read_runs([run]))
    part = shown[shown.index("Go_On: 12 requests") :]
    part = part[: part.index("Other: ")]
    assert "large_lm" in part
    assert "kbps" not in part
    assert "bits_per_second" in part


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scenario", ["everyPage", "accessible", "accessibleModels", "links", "tasks"])
def test_models_in_browsers(visit: Visit, site: Path, scenario: str) -> None:
    visit(site / "index.html", scenario)
