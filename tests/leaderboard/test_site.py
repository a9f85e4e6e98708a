from __future__ import annotations

import base64
import csv
import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from codecbench.errors import InfrastructureError, UsageError
from codecbench.leaderboard.aggregate import aggregate
from codecbench.leaderboard.charts import chart_png, chart_svg
from codecbench.leaderboard.load import read_runs
from codecbench.leaderboard.pages import PAGES
from codecbench.leaderboard.pages.base import entry_key, key, slug
from codecbench.leaderboard.pages.encode import LEVELS, NO_ROW, NO_VALUE, pack, quantise, script_json, shard, shorten
from codecbench.leaderboard.site import build
from codecbench.leaderboard.text import link

MakeRun = Callable[..., Path]
Columns = Callable[[Path], dict[str, Any]]
ONE = {"opus": {"family": "Opus", "track": "classical", "rates": [6, 8], "skill": 0.0}}


class Page(HTMLParser):
    """What of a page can act: elements, attributes, addresses; and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.scripts: list[str] = []
        self._inside = ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = "" if tag == self._inside else self._inside

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts.append(data)
        else:
            self.text += data

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]


@pytest.fixture(scope="session")
def site(two_datasets_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a full site."""
    return build([two_datasets_run], tmp_path_factory.mktemp("site")).parent


@pytest.fixture(scope="session")
def pages(site: Path) -> dict[str, Page]:
    return {str(path.relative_to(site)): Page(path) for path in sorted(site.rglob("*.html"))}


def one(pages: dict[str, Page], kind: str) -> Page:
    return next(page for name, page in pages.items() if name.startswith(kind))


def shards(site: Path, dataset: str, columns: Columns) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted((site / "data").glob(f"{slug(dataset)}-*.js")):
        assert path.read_text().startswith("(self.codecbenchShards??=[]).push({")
        found |= columns(path)
    return found


def check_inert(page: Page) -> None:
    """Nothing on the page acts but the site's own scripts, and nothing is fetched from elsewhere."""
    forbidden = {"img", "iframe", "object", "embed", "base", "style", "image", "foreignobject"}
    assert not forbidden & set(page.elements)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("style", "xlink:href")]
    assert all(re.fullmatch(r"(\.\./)?((assets|data)/[\w.-]+\.js|audio/\w+\.flac)", src) for src in page.values("src"))
    assert all(re.match(r"https?://|#|data:,$|(\.\./)?[\w./-]+\.(html|css|csv|json|parquet|gz|flac|xml)(#|$)", address)
               for address in page.values("href"))  # fmt: skip
    assert not [value for value in page.values("clip-path") if not value.startswith("url(#")]
    acting = [script for script in page.scripts if not script.startswith("{")]
    assert len(acting) == 1
    (policy,) = [value for value in page.values("content") if "default-src" in value]
    digest = base64.b64encode(hashlib.sha256(acting[0].encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; script-src 'self' 'sha256-{digest}'; style-src 'self'; img-src 'self' data:;"
        " media-src 'self' data: blob:; connect-src 'none'; base-uri 'none'; form-action 'none'"
    )


def test_there_is_a_page_of_every_type_and_it_is_inert(pages: dict[str, Page]) -> None:
    assert len(PAGES) >= 7
    kinds = {value for page in pages.values() for value in page.values("data-page")}
    assert kinds == {kind.name for kind in PAGES}
    for page in pages.values():
        check_inert(page)


def test_identifiers_are_unique_and_links_resolve(site: Path, pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        ids = Counter(page.values("id"))
        assert [name for name, count in ids.items() if count > 1] == []
        assert {v[5:-1] for v in page.values("clip-path")} <= set(ids)
        for address in page.values("href"):
            file = address.partition("#")[0]
            if file and not file.startswith(("http", "data:")):
                assert ((site / name).parent / file).is_file(), f"{name}: {address}"


def test_the_tables_are_there_without_a_script(pages: dict[str, Page]) -> None:
    index = pages["index.html"]
    assert Counter(index.values("data-name"))["opus"] == 5
    for text in ("official, not ranked: random weights", "control, not ranked", "78 of 80", "Mean over 2 datasets",
                 "paired bootstrap over 6 speakers; from fewer than 20, read with care"):  # fmt: skip
        assert text in index.text
    assert index.elements["svg"] == 1
    dataset = one(pages, "dataset/")
    for text in ("worst case", "38 of 40", "decode(ValueError: frame 12 has 55 bits, expected 56)", "CC-BY-4.0"):
        assert text in dataset.text
    assert dataset.elements["svg"] == 6
    method = pages["methodology.html"]
    for text in ("impl:synthetic-1|rs:soxr-1.0-VHQ|v:1", "How failures are counted", "codecbench run --datasets demo"):
        assert text in method.text
    system = one(pages, "system/opus")
    for text in ("codecbench run --models opus --datasets demo,other --out again", "39 of 40", "metric(RuntimeError"):
        assert text in system.text
    for page in pages.values():
        assert page.elements["caption"] == page.elements["table"]
        assert page.values("aria-sort") == []


def test_trained_here_is_said_beside_the_name(pages: dict[str, Page]) -> None:
    for page in (pages["index.html"], one(pages, "system/tiny-codec")):
        assert "small, trained here, 9 steps on 1 min of tones" in page.text


def test_the_best_and_ties_are_marked(pages: dict[str, Page]) -> None:
    assert pages["index.html"].values("class").count("leads") > 10
    assert "rank 1–2 of 2" in "".join(page.text for name, page in pages.items() if name.startswith("system/"))


def test_a_system_shows_its_check_and_notes(make_run: MakeRun, tmp_path: Path) -> None:
    def edit(draft: Any) -> None:
        checks = [{"check": "loads", "outcome": "passed", "reason": ""},
                  {"check": "same_alone", "outcome": "failed", "reason": "codes differ"}]  # fmt: skip
        draft.facts["systems"]["opus"] |= {
            "check": {"checks": checks}, "notes": ["codes vary between runs"], "isolation": "bwrap", "audit": True,
            "lookahead": 312, "streams": [{"codebook_size": 1024, "frame_rate": 75.0}] * 8, "odd_fact": "kept",
        }  # fmt: skip

    site = build([make_run(**{**FEW, "edit": edit})], tmp_path / "site").parent
    page = Page(next((site / "system").glob("opus-*")))
    for text in ("1 of 2 conformance checks passed", "codes differ", "codes vary between runs", "312 samples",
                 "bwrap; encoder and decoder shared", "8 of 1024 entries at 75 Hz", "odd_fact"):  # fmt: skip
        assert text in page.text


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_runs_give_the_same_bytes(two_datasets_run: Path, site: Path, tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from codecbench.leaderboard.site import build;"
    code += "build([Path(sys.argv[1])], Path(sys.argv[2]))"
    settings = {"PYTHONHASHSEED": "77", "TZ": "Asia/Kolkata", "LC_ALL": "C", "SOURCE_DATE_EPOCH": "1"}
    subprocess.run([sys.executable, "-c", code, two_datasets_run, tmp_path], check=True, env={**os.environ, **settings})
    again, before = contents(tmp_path), contents(site)
    assert again.keys() == before.keys()
    assert [name for name in before if before[name] != again[name]] == []


def test_a_rebuilt_site_keeps_no_page_of_what_is_gone(make_run: MakeRun, tmp_path: Path) -> None:
    out = tmp_path / "site"
    two = {**ONE, "mimi": {"family": "Mimi", "track": "official", "rates": [1.1], "skill": 0.5}}
    build([make_run("a", systems=two, items=6, metrics=["mel"])], out)
    (out / "mine.txt").write_text("left alone")
    assert list((out / "system").glob("mimi-*"))
    build([make_run("b", systems=ONE, items=6, metrics=["mel"])], out)
    assert not list((out / "system").glob("mimi-*"))
    assert (out / "mine.txt").exists()
    (out / "site.json").write_text('{"files": ["../b/run.json", "mine.txt/x"]}')
    build([tmp_path / "b"], out)
    assert (tmp_path / "b" / "run.json").exists()


def test_packed_columns_come_back(columns: Columns, tmp_path: Path) -> None:
    sent = {
        "bytes": np.arange(5, dtype=np.uint8), "codes": np.array([[1, 65535], [256, 0]], dtype=np.uint16),
        "counts": np.array([2**32 - 1, 7], dtype=np.uint32), "none": np.zeros(0, dtype=np.uint32),
        "values": np.array([1.5, np.nan, -0.25], dtype=np.float32), "text": {"é": ["<", None]},
    }  # fmt: skip
    file = tmp_path / "packed.js"
    file.write_text(f"push({json.dumps(pack(sent))});", encoding="utf-8")
    found = columns(file)
    assert found.keys() == sent.keys()
    assert found["text"] == sent["text"]
    for name in ("bytes", "codes", "counts", "none", "values"):
        np.testing.assert_array_equal(found[name], np.asarray(sent[name]).ravel())
    assert pack(sent) == pack(sent)
    with pytest.raises(TypeError, match="column 'x' has dtype float64"):
        pack({"x": np.zeros(1)})


def test_quantised_values_are_within_half_a_step() -> None:
    rng = np.random.default_rng(0)
    values, status = rng.normal(size=1000), np.zeros(1000, dtype=np.intp)
    status[:5] = [1, 2, 3, 4, -1]
    codes, low, high = quantise(np.where(status == 0, values, np.nan), status)
    assert list(codes[:5]) == [*NO_VALUE.values(), NO_ROW]
    assert min(NO_VALUE.values()) > LEVELS
    error = low + codes[5:] / LEVELS * (high - low) - values[5:]
    assert np.abs(error).max() <= (high - low) / LEVELS / 2 * 1.000001
    same, low, high = quantise(np.full(3, 4.5), np.zeros(3, dtype=np.intp))
    assert (list(same), low, high) == ([0, 0, 0], 4.5, 4.5)
    nothing, low, high = quantise(np.full(2, np.nan), np.full(2, -1))
    assert (list(nothing), low, high) == ([NO_ROW] * 2, 0.0, 0.0)


def test_shortened_values_show_the_same_digits() -> None:
    rng = np.random.default_rng(0)
    values = (rng.normal(size=5000) * 10.0 ** rng.uniform(-4, 3, 5000)).astype(np.float32)
    decimals = rng.integers(0, 5, 5000)
    found = shorten(values, decimals)
    assert (np.abs(found.astype(float) - values) <= 0.25 * 10.0**-decimals).all()
    short = (found.view(np.uint32) & 0xFF) == 0
    assert 0.5 < short.mean() < 0.99
    odd = np.array([0.0, np.nan, np.inf, 1e-30], dtype=np.float32)
    np.testing.assert_allclose(shorten(odd, np.full(4, 2)), odd, rtol=1e-5)


def test_json_in_scripts_ends_nothing() -> None:
    text = "</script><!--&\u2028\u2029 é"
    assert json.loads(script_json({"a": text})) == {"a": text}
    assert not set("<>&\u2028\u2029") & set(script_json({"a": text}))
    assert "</script" not in shard("</script>", {"x": text})
    with pytest.raises(ValueError, match="not JSON compliant"):
        script_json(float("nan"))


def test_names_of_files_are_safe_and_never_shared() -> None:
    names = ["a", "A", "á", "a b", "../../etc/passwd", "CON", "nul.txt", "", " ", "é", "e\u0301", "\ud800", "n" * 9999]
    slugs = [slug(name) for name in names]
    assert all(re.fullmatch(r"[a-z0-9-]{8,41}", text) for text in slugs)
    assert len(set(slugs)) == len(names)
    assert not {text.partition(".")[0] for text in slugs} & {"con", "nul", "aux", "prn"}
    assert (key("opus_v1.2"), key("a b")) == ("opus_v1.2", slug("a b"))
    assert entry_key("a~b", "c") != entry_key("a", "b~c")


def test_the_numbers_of_the_drill_down_are_those_of_the_run(
    two_datasets_run: Path, site: Path, columns: Columns
) -> None:
    data = shards(site, "demo", columns)
    meta = data["meta"]
    metrics = [metric["name"] for metric in meta["metrics"]]
    entries = [entry["key"] for entry in meta["entries"]]
    items = [item["id"] for item in meta["utterances"]]
    reasons = {(int(p), metrics[m]): data["reasons"][r]
               for p, m, r in zip(data["reason_place"], data["reason_metric"], data["reason"], strict=True)
               }  # fmt: skip
    rows = pd.read_parquet(two_datasets_run / "results.parquet")
    rows = rows[(rows["dataset"] == "demo") & (rows["utterance"] != "*")]
    statuses = {"undefined": 65531, "failed": 65532, "error": 65533, "missing": 65534}
    seen: Counter[str] = Counter()
    row: Any
    for row in rows.itertuples():
        place = entries.index(entry_key(row.system, row.point)) * len(items) + items.index(row.utterance)
        m = metrics.index(row.metric)
        low, high, code = meta["metrics"][m]["low"], meta["metrics"][m]["high"], int(data[f"m{m}"][place])
        seen[row.status] += 1
        if row.status == "ok":
            assert low + code / 65530 * (high - low) == pytest.approx(row.value, abs=(high - low) / 131060 * 1.001)
        else:
            assert code == statuses[row.status]
            assert reasons[place, row.metric] == row.reason
    assert set(seen) == {"ok", *statuses}
    place = entries.index("opus~6kbps") * len(items)
    bits = rows[(rows["system"] == "opus") & (rows["point"] == "6kbps") & (rows["utterance"] == "utt000")].iloc[0]
    low, high = meta["metrics"][0]["low"], meta["metrics"][0]["high"]
    kbps = np.expm1(low + data["m0"][place] / 65530 * (high - low))
    assert kbps == pytest.approx(bits["bits"] / bits["duration"] / 1000, rel=1e-3)
    heard = dict(zip(zip(data["heard_place"].tolist(), data["heard_by"], strict=True), data["heard"], strict=True))
    assert (heard[place + 1, ""], heard[place + 1, "base"]) == ("the brown red fox", "the quick brown fox")


def test_many_values_go_into_several_files(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: Columns
) -> None:
    from codecbench.leaderboard.pages import utterances

    monkeypatch.setattr(utterances, "MOST_VALUES", 30)
    index = build([make_run(systems=ONE, items=6, trouble=False)], tmp_path / "site")
    assert len(list((tmp_path / "site" / "data").iterdir())) == 1 + 4  # the names; two metrics of 12 values a file
    assert {"meta", *(f"m{k}" for k in range(7))} < set(shards(index.parent, "demo", columns))
    assert (tmp_path / "site" / "rows" / f"{slug('demo')}.html").read_text().count("../data/") == 5


def test_the_downloads_hold_everything(two_datasets_run: Path, site: Path) -> None:
    rows = pd.read_parquet(site / "downloads" / "rows.parquet")
    with gzip.open(site / "downloads" / "rows.csv.gz", "rt", newline="") as file:
        lines = list(csv.reader(file))
    assert len(lines) == 1 + len(rows) == 1 + len(pd.read_parquet(two_datasets_run / "results.parquet"))
    assert lines[0] == list(rows.columns)
    scores = list(csv.DictReader((site / "downloads" / "scores.csv").read_text(encoding="utf-8").splitlines()))
    frame = pd.read_parquet(site / "downloads" / "scores.parquet")
    assert len(scores) == len(frame) > 500
    values = frame["value"].to_numpy()
    np.testing.assert_allclose([float(row["value"] or "nan") for row in scores], values)
    found = json.loads((site / "downloads" / "scores.json").read_text())
    assert [section["dataset"] for section in found["sections"]] == ["demo", "other", "*"]


def test_no_cell_is_a_formula(hostile_run: Path, tmp_path: Path) -> None:
    folder = build([hostile_run], tmp_path).parent / "downloads"
    with gzip.open(folder / "rows.csv.gz", "rt", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {"'=1+1"} < {row["system"] for row in rows}
    for row in rows:
        for name, cell in row.items():
            assert not cell.startswith(("=", "+", "@", "\t", "\r")), name
            assert not cell.startswith("-") or float(cell) < 0
    exact = pd.read_parquet(folder / "rows.parquet")
    assert "=1+1" in set(exact["system"])


FEW: dict[str, Any] = {
    "systems": {
        "mimi": {"family": "Mimi", "track": "official", "rates": [0.55, 1.1], "skill": 0.5},
        "opus": {"family": "Opus", "track": "classical", "rates": [6, 8, 12], "skill": -0.7},
        "codec2": {"family": "Codec 2", "track": "classical", "rates": [1.3], "skill": -0.6},
    },
    "metrics": ["mel", "estoi"],
    "items": 12,
    "trouble": False,
}


def moved(draft: Any) -> None:
    """One system far better, one a little, one gone, and a metric of another signature."""
    for row in draft.rows:
        if row["metric"] == "mel" and row["value"] is not None:
            row["value"] += {"mimi": 0.8, "opus": 1e-4}.get(row["system"], 0.0)
        if row["metric"] == "estoi":
            row["signature"] += "|rs:other"
    draft.rows[:] = [row for row in draft.rows if row["system"] != "codec2"]


@pytest.mark.parametrize("kind", ["run", "site", "file"])
def test_changes_against_earlier_scores(make_run: MakeRun, tmp_path: Path, kind: str) -> None:
    new, old = make_run("new", **FEW), make_run("old", **FEW, edit=moved)
    if kind != "run":
        site = build([old], tmp_path / "old-site").parent
        old = site if kind == "site" else site / "downloads" / "scores.json"
    page = Page(build([new], tmp_path / "site", [old]).parent / "changes.html")
    text = re.sub(r"\s+", " ", page.text)
    assert "2 beyond its interval" in text  # mimi
    assert "−0.80" in text
    assert "3 within its interval" in text  # opus
    assert "−0.00010" in text
    assert "5 other signature" in text
    assert "2 new" in text  # codec2
    assert Counter(re.findall("beyond its|within its|other signature", text)) == {
        "beyond its": 1 + 2, "within its": 2 + 3, "other signature": 1 + 5,
    }  # fmt: skip


def test_no_changes(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(**FEW)
    page = Page(build([run], tmp_path, [run]).parent / "changes.html")
    assert "Nothing changed" in page.text
    assert "without earlier scores" in Page(build([run], tmp_path).parent / "changes.html").text


def test_earlier_scores_that_are_none(make_run: MakeRun, tmp_path: Path) -> None:
    full_run = make_run(**FEW)
    with pytest.raises(UsageError, match="holds no earlier scores"):
        build([full_run], tmp_path / "site", [tmp_path])
    (tmp_path / "scores.json").write_text('{"sections": 1}')
    with pytest.raises(InfrastructureError, match=r"scores.json is damaged"):
        build([full_run], tmp_path / "site", [tmp_path])


def test_hostile_text_is_text(hostile_run: Path, tmp_path: Path) -> None:
    site = build([hostile_run], tmp_path).parent
    found = {str(path.relative_to(site)): Page(path) for path in site.rglob("*.html")}
    for page in found.values():
        check_inert(page)
        assert not re.search("[\u202a-\u202e\u200b\x00\u2028]", page.source)
    text = found["systems.html"].text
    for name in ("<script>window.XSS", '"><img src=x onerror=', "{{7*7}}{% raw %}", "&#x3c;script&#x3e;", "$\\frac{x$",
                 "a\ufffdb\ufffdc\ufffdd"):  # fmt: skip
        assert name in text
    assert "49" not in re.findall(r"\{\{7\*7\}\}|\b49\b", text)
    charts = one(found, "dataset/").source
    assert "n" * 10_000 not in charts[charts.index("<svg") : charts.rindex("</svg>")]
    for path in (site / "data").iterdir():
        assert path.read_text().isascii()


def test_the_script_and_the_shards_are_small(site: Path) -> None:
    assert (site / "assets" / "app.js").stat().st_size <= 60 * 1024
    values = np.random.default_rng(0).normal(size=100_000)
    grids = {f"m{k}": quantise(np.roll(values, k), np.zeros(100_000, dtype=np.intp))[0] for k in range(8)}
    assert len(shard("x", grids)) < 2_200_000


def case_empty(run: Any) -> None:
    run.rows.clear()


def case_bare(run: Any) -> None:
    run.rows.clear()
    run.facts.update(systems={}, datasets={}, metrics={})


def case_failed(run: Any) -> None:
    for row in run.rows:
        row |= {"status": "failed", "reason": "encode(crash)", "value": None, "bits": None}


def case_tied(run: Any) -> None:
    for row in run.rows:
        row["value"] = 1.0


def case_zero(run: Any) -> None:
    for row in run.rows:
        row |= {"value": 0.0, "bits": 0 if row["bits"] else None}


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (case_empty, ["There are no results yet", "opus has no row", "No metric has a value", "Nothing failed"]),
        (case_bare, ["There are no results yet", "The runs name no system", "The runs name no dataset"]),
        (case_failed, ["Nothing to draw", "0 of 6", "encode(crash)"]),
        (case_tied, ["1–2"]),
        (case_zero, ["0.00", "Nothing to draw"]),
    ],
)
def test_few_results(make_run: MakeRun, tmp_path: Path, edit: Any, says: list[str]) -> None:
    run = make_run(systems=ONE, items=6, metrics=["mel"], trouble=False, edit=edit)
    found = [Page(path) for path in build([run], tmp_path / "site").parent.rglob("*.html")]
    for page in found:
        check_inert(page)
    text = re.sub(r"\s+", " ", " ".join(page.text for page in found))
    for part in says:
        assert part in text


def test_one_system_one_point_one_item(make_run: MakeRun, tmp_path: Path) -> None:
    systems = {"opus": {**ONE["opus"], "rates": [6]}}
    found = Page(build([make_run(systems=systems, items=1, trouble=False)], tmp_path / "site"))
    assert "paired bootstrap over 1 utterance;" in found.text
    assert "no interval" in found.text


def test_a_path_with_odd_characters(make_run: MakeRun, tmp_path: Path) -> None:
    out = tmp_path / "a b#c%20ü"
    assert build([make_run(systems=ONE, items=6)], out) == out / "index.html"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("https://example.org/a?b=c", "https://example.org/a?b=c"), ("arXiv:2210.13438", "https://arxiv.org/abs/2210.13438"),
        ("10.1109/TASLP.2021.3129994", "https://doi.org/10.1109/TASLP.2021.3129994"), ("RFC 6716", ""),
        ("javascript:alert(1)", ""), ("data:text/html,x", ""), ("https://x\" onclick=\"y", ""), ("//x.org", ""),
    ],
)  # fmt: skip
def test_only_addresses_become_links(text: str, address: str) -> None:
    assert link(text) == address


def test_a_chart_as_picture_and_as_element(full_run: Path, tmp_path: Path) -> None:
    board = read_runs([full_run])
    path = chart_png(board, "wer", tmp_path / "wer.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    again = chart_png(board, "wer", tmp_path / "again.png")
    assert again.read_bytes() == path.read_bytes()
    summary = aggregate(board)
    svg = chart_svg(summary.sections[0], summary.metrics["wer"])
    assert svg
    assert svg.count(">opus</text>") == 1
    assert "style=" not in svg
    assert set(re.findall(r'"(#[0-9a-f]{6})"', svg)) == set()


def test_charts_of_unknown_names(full_run: Path, tmp_path: Path) -> None:
    board = read_runs([full_run])
    with pytest.raises(UsageError, match="unknown metric 'werr': did you mean wer"):
        chart_png(board, "werr", tmp_path / "x.png")
    with pytest.raises(UsageError, match="unknown dataset 'demoo': did you mean demo"):
        chart_png(board, "wer", tmp_path / "x.png", dataset="demoo")
