"""The pages of curves, pairs, BD-rates and agreement: their numbers are those of the statistics."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codecbench.leaderboard.aggregate import aggregate
from codecbench.leaderboard.agreement import agreement
from codecbench.leaderboard.bd_matrix import bd_matrix, ladders
from codecbench.leaderboard.bd_rate import Delta, relative_curve_difference
from codecbench.leaderboard.board import Board
from codecbench.leaderboard.load import read_runs
from codecbench.leaderboard.pages import PAGES, bd, curves, pairs
from codecbench.leaderboard.pages.base import Site, entry_key, slug
from codecbench.leaderboard.pairs import compare_bands
from codecbench.leaderboard.rate_distortion import AXES, costs
from codecbench.leaderboard.rate_distortion import curves as rate_distortion_curves
from codecbench.leaderboard.site import build
from codecbench.leaderboard.summary import ALL, Section

Columns = Callable[[Path], dict[str, Any]]

ASSETS = Path(curves.__file__).parent / "assets"
PINNED = {
    "plot.js": "e201cf325f9aae76dff688c05c242620d6c13e0e80bcdc001ec86238e45efde1",
    "plot.LICENCE.txt": "3ffdffe22b577914424e1645c0aa39ad482f5064ae4c24a4b81f046d1b440252",
}
MakeRun = Callable[..., Path]


@pytest.fixture(scope="module")
def site(two_datasets_run: Path) -> Site:
    board = read_runs([two_datasets_run])
    return Site(board, aggregate(board))


@pytest.fixture(scope="module")
def folder(two_datasets_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build([two_datasets_run], tmp_path_factory.mktemp("site")).parent


def section_of(site: Site, dataset: str) -> Section:
    return next(section for section in site.summary.sections if section.dataset == dataset)


def same(stored: Any, value: float | None) -> bool:
    return math.isnan(stored) if value is None else bool(stored == pytest.approx(value, rel=1e-6))


def test_the_library_is_the_pinned_one() -> None:
    for name, digest in PINNED.items():
        assert hashlib.sha256((ASSETS / name).read_bytes()).hexdigest() == digest, f"{name}: run scripts/vendor-plot"
    source = (ASSETS / "plot.js").read_text(encoding="utf-8")
    assert len(source.encode()) < 312_000
    assert not re.search(r"\beval\(|new Function|\bfetch\(|XMLHttpRequest|importScripts|import\(", source)
    assert {address.split("/")[2] for address in re.findall(r"https?://[^\"'`\s]+", source)} == {"www.w3.org"}
    root = Path(__file__).parents[2]
    pinned = json.loads((root / "scripts" / "plot" / "package.json").read_text())["devDependencies"]
    assert f"Observable Plot {pinned['@observablehq/plot']} " in source[:100]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in pinned.values())
    licences = (ASSETS / "plot.LICENCE.txt").read_text(encoding="utf-8")
    assert f"@observablehq/plot {pinned['@observablehq/plot']} (ISC)" in licences
    assert "d3-scale" in licences


def test_only_one_file_knows_the_library() -> None:
    own = sorted(ASSETS.glob("*.js"))
    assert len(own) > 4
    assert [path.name for path in own if "Plot." in path.read_text(encoding="utf-8") and path.name != "plot.js"] == [
        "charts.js"
    ]
    for name in ("views.js", "charts.js", "curves.js", "matrices.js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write", (ASSETS / name).read_text())


def test_the_site_holds_the_files_and_its_pages_ask_for_no_more(folder: Path) -> None:
    for name in curves.CHARTS:
        assert (folder / "assets" / name).is_file()
    kinds = {kind.name for kind in PAGES}
    assert {"curves", "pairs", "bd", "agreement"} <= kinds
    for page in ("curves", "pairs", "bd"):
        source = (folder / f"{page}.html").read_text(encoding="utf-8")
        meta = json.loads(re.search(r'id="meta">(.*?)</script>', source).group(1))  # type: ignore[union-attr]
        files = [section["file"] for section in meta["sections"]]
        files += [m["file"] for section in meta["sections"] for m in section.get("metrics", ())]
        files = [file for file in files if file]
        assert files
        assert {str(path.relative_to(folder)) for path in (folder / page).iterdir()} == set(files)
        assert ("assets/plot.js" in source) == (page != "pairs")
        assert len(source) < 100_000
    assert "<svg viewBox" in (folder / "curves.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("dataset", ["demo", ALL])
def test_curves_hold_the_costs_scores_and_fronts(site: Site, folder: Path, dataset: str, columns: Columns) -> None:
    section = section_of(site, dataset)
    found = columns(folder / "curves" / f"{slug(dataset)}.js")
    meta, count = found["meta"], len(section.rows)
    assert [entry["key"] for entry in meta["entries"]] == [entry_key(row.system, row.point) for row in section.rows]
    assert {axis["name"] for axis in meta["axes"]} == {"kbps", "token_rate", "bits_per_token", "rtf", "parameters"}
    seen = 0
    for axis in meta["axes"]:
        cost = costs(site.summary, section, AXES[axis["name"]])
        for k, row in enumerate(section.rows):
            known = cost.get((row.system, row.point))
            stored = [found[f"x.{axis['name']}"][part * count + k] for part in range(3)]
            triple = (known.value, known.low, known.high) if known else (None, None, None)
            assert all(same(a, b) for a, b in zip(stored, triple, strict=True))
            seen += known is not None
    assert seen > 100
    for metric in meta["metrics"]:
        for k, row in enumerate(section.rows):
            cell = row.cells[metric["name"]]
            assert same(found[f"y.{metric['name']}"][k], cell.estimate.value if cell.estimate else None)
            assert meta["why"][found[f"why.{metric['name']}"][k]] == cell.unranked
            assert found[f"n.{metric['name']}"][k] == cell.counts.expected


def test_each_track_has_the_front_that_it_has_alone(site: Site, folder: Path, columns: Columns) -> None:
    section, metric = section_of(site, "demo"), site.summary.metrics["pesq_wb"]
    found = columns(folder / "curves" / f"{slug('demo')}.js")
    codes = dict(zip([entry["key"] for entry in found["meta"]["entries"]], found["front.kbps.pesq_wb"], strict=True))
    seen = set()
    for track in ("official", "classical"):
        rows = tuple(row for row in section.rows if row.track == track)
        alone = Section(section.dataset, section.title, section.utterances, section.drawn, rows)
        for curve in rate_distortion_curves(site.board, site.summary, alone, metric):
            for point in curve.points:
                assert curves.FRONTS[codes[entry_key(point.system, point.point)]] == point.front
                seen.add(point.front)
    assert seen == {"", "off", "on", "tied"} or seen == {"", "off", "on"}
    everyone = {(p.system, p.point): p.front for c in rate_distortion_curves(site.board, site.summary, section, metric)
                for p in c.points}  # fmt: skip
    assert any(curves.FRONTS[codes[entry_key(*entry)]] != place for entry, place in everyone.items())
    assert "front.bits_per_token.pesq_wb" not in found


@pytest.mark.parametrize("dataset", ["demo", ALL])
def test_pairs_hold_what_the_comparison_gives(site: Site, folder: Path, dataset: str, columns: Columns) -> None:
    section, metric = section_of(site, dataset), site.summary.metrics["wer"]
    k = [m.name for m in pairs.compared(site, section)].index("wer")
    found = columns(folder / "pairs" / f"{slug(dataset)}-{k}.js")
    expected = compare_bands(site.board, section, metric)
    bands = found["meta"]["bands"]
    assert {band["band"] for band in bands} == set(expected)
    checked = 0
    for b, band in enumerate(bands):
        entries = found["meta"]["entries"][band["start"] : band["start"] + band["size"]]
        want = expected[band["band"]]
        places = {entry_key(*entry): place for place, entry in enumerate(want.entries)}
        assert sorted(places) == sorted(entry["key"] for entry in entries)
        order = [places[entry["key"]] for entry in entries]
        at = 0
        for i in range(len(order)):
            for j in range(i + 1, len(order)):
                pair = want.pair(want.entries[order[i]], want.entries[order[j]])
                difference = pair.difference
                assert same(found[f"{b}.difference"][at], difference.value if difference else None)
                assert same(found[f"{b}.low"][at], difference.low if difference else None)
                assert same(found[f"{b}.p"][at], pair.p)
                assert same(found[f"{b}.adjusted"][at], pair.adjusted)
                assert same(found[f"{b}.wins"][at], pair.wins)
                assert found[f"{b}.items"][at] == pair.items
                assert found[f"{b}.clusters"][at] == pair.clusters
                assert pairs.BETTER[found[f"{b}.better"][at]] == pair.better
                at += 1
        checked += at
        assert band["warning"] == want.warning
    assert checked > 10


def test_a_crowded_band_compares_the_best_and_says_so(
    make_run: MakeRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    columns: Columns,
) -> None:
    monkeypatch.setattr(pairs, "MOST_ENTRIES", 3)
    systems = {f"s{k}": {"family": "F", "track": "official", "rates": [6], "skill": 0.3 * k} for k in range(5)}
    out = build([make_run(systems=systems, items=12, metrics=["mel"], trouble=False)], tmp_path / "site").parent
    meta = columns(out / "pairs" / f"{slug('demo')}-0.js")["meta"]
    assert [(band["size"], band["left"]) for band in meta["bands"]] == [(3, 2)]
    assert [entry["system"] for entry in meta["entries"]] == ["s2", "s3", "s4"]


def check_delta(found: dict[str, Any], key: str, k: int, count: int, want: Delta) -> None:
    words = found["meta"]["words"]
    value = want.value
    triple = (value.value, value.low, value.high) if value else (None, None, None)
    assert all(same(found[f"{key}.value"][part * count + k], x) for part, x in enumerate(triple))
    assert same(found[f"{key}.overlap"][k], want.overlap)
    assert words[found[f"{key}.reason"][k]] == want.reason
    assert words[found[f"{key}.note"][k]] == want.note
    assert tuple(found[f"{key}.points"][2 * k : 2 * k + 2]) == want.points


def test_bd_rates_are_those_of_the_matrix(site: Site, folder: Path, columns: Columns) -> None:
    section, metric = section_of(site, "demo"), site.summary.metrics["mel"]
    number = [m.name for m in bd._metrics(site, section)].index("mel")
    found = columns(folder / "bd" / f"{slug('demo')}-{number}.js")
    reasons = 0
    for axis in bd.OVER:
        want = bd_matrix(site.board, site.summary, section, metric, axis)
        sides = ladders(site.board, site.summary, section, metric, axis)
        systems = found["meta"]["axes"][axis]["systems"]
        assert len(systems) >= 4
        assert {fault["system"]: fault["reason"] for fault in found["meta"]["axes"][axis]["faults"]} == {
            name: side.fault for name, side in sides.items() if side.fault
        }
        assert sorted([*systems, *(x["system"] for x in found["meta"]["axes"][axis]["faults"])]) == sorted(sides)
        for a, anchor in enumerate(systems):
            for t, test in enumerate(systems):
                k = a * len(systems) + t
                check_delta(found, f"{axis}.rate", k, len(systems) ** 2, want[anchor, test].rate)
                check_delta(found, f"{axis}.quality", k, len(systems) ** 2, want[anchor, test].quality)
                reasons += bool(want[anchor, test].rate.reason)
                samples = relative_curve_difference(sides[anchor], sides[test], metric, bd.SAMPLES) if a != t else []
                stored = found[f"{axis}.difference"][k * bd.SAMPLES : (k + 1) * bd.SAMPLES]
                assert np.allclose(stored, [y for _, y in samples], rtol=1e-5) if samples else np.isnan(stored).all()
                if samples:
                    assert found[f"{axis}.ends"][2 * k] == pytest.approx(samples[0][0])
    assert reasons


def test_agreement_shows_the_correlations(site: Site, folder: Path) -> None:
    text = (folder / "agreement.html").read_text(encoding="utf-8")
    section = section_of(site, ALL)
    found = agreement(section, site.summary.metrics)
    rho = found.correlation[found.metrics.index("wer"), found.metrics.index("mel")]
    assert f">{rho:.2f}</span>" in text
    assert text.count('class="rho itself"') == len(site.summary.sections) * len(found.metrics)
    assert "Places that stand out" in text


def bare(draft: Any) -> None:
    draft.rows.clear()
    draft.facts.update(systems={}, datasets={}, metrics={})


def test_empty_pages_say_why(make_run: MakeRun, tmp_path: Path, columns: Columns) -> None:
    one = {"opus": {"family": "Opus", "track": "classical", "rates": [6], "skill": 0.0}}
    out = build([make_run("none", systems=one, items=6, metrics=["mel"], edit=bare)], tmp_path / "none").parent
    says = {"curves": "the runs hold no row", "pairs": "no bitrate band has two", "bd": "no metric with a better end",
            "agreement": "no results yet"}  # fmt: skip
    for page, text in says.items():
        assert text in (out / f"{page}.html").read_text(encoding="utf-8")
    out = build([make_run("one", systems=one, items=6, metrics=["mel"], trouble=False)], tmp_path / "one").parent
    assert "no bitrate band has two" in (out / "pairs.html").read_text(encoding="utf-8")
    assert "Fewer than two metrics" in (out / "agreement.html").read_text(encoding="utf-8")
    meta = columns(out / "bd" / f"{slug('demo')}-0.js")["meta"]
    assert meta["axes"]["kbps"]["faults"] == [{"system": "opus", "reason": "opus has 1 of 3 points"}]


def test_hostile_names_are_data(hostile_run: Path, tmp_path: Path, columns: Columns) -> None:
    out = build([hostile_run], tmp_path).parent
    files = [path for name in ("curves", "pairs", "bd") for path in (out / name).glob("*.js")]
    assert len(files) >= 5
    for path in files:
        assert not set("<>&\u2028\u2029") & set(path.read_text(encoding="utf-8"))
        assert "\u202e" not in json.dumps(columns(path)["meta"], ensure_ascii=False)


def test_fronts_of_no_ranked_entry(make_run: MakeRun) -> None:
    board: Board = read_runs([make_run(systems={"c": {"family": "C", "track": "control", "rates": [6, 9], "skill": 0}},
                                       items=8, metrics=["mel"], trouble=False)])  # fmt: skip
    site = Site(board, aggregate(board))
    found = curves._columns(site, site.summary.sections[0])
    assert not found["front.kbps.mel"].any()


def test_a_track_that_is_too_large_has_no_front(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "MOST_IN_FRONT", 10)
    found = curves._columns(site, section_of(site, "demo"))
    assert found["meta"]["frontless"] == ["official"]
    systems = found["meta"]["systems"]
    tracks = [systems[k]["track"] for k in found["system"]]
    fronted = {track for track, code in zip(tracks, found["front.kbps.mel"], strict=True) if code}
    assert fronted == {"small", "classical"}
