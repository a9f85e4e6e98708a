from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from codecbench.leaderboard.aggregate import aggregate
from codecbench.leaderboard.charts import chart_png, chart_svg
from codecbench.leaderboard.load import read_runs
from codecbench.leaderboard.site import build
from codecbench.leaderboard.view import link

MakeRun = Callable[..., Path]
ONE = {"opus": {"family": "Opus", "track": "classical", "rates": [6, 8], "skill": 0.0}}
HOSTILE = [
    "<script>document.title='XSS'</script>",
    '"><img src=x onerror="document.title=\'XSS\'">',
    "</script><script>document.title='XSS'</script>",
    "</style><script>document.title='XSS'</script>",
    "{{7*7}}{% raw %}",
    "javascript:document.title='XSS'",
    "&#x3c;script&#x3e;",
    "]]> --> ${x} `y`",
    "$\\frac{x$",
]


class Page(HTMLParser):
    """What of a page can act: elements, attributes, addresses; and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.blocks: dict[str, str] = {}
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
        if self._inside in ("script", "style"):
            self.blocks[self._inside] = self.blocks.get(self._inside, "") + data
        else:
            self.text += data

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]


@pytest.fixture(scope="session")
def page(full_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return Page(build([full_run], tmp_path_factory.mktemp("site")))


def check_inert(page: Page) -> None:
    """Nothing on the page acts but its own script, and nothing is fetched."""
    assert page.elements["script"] == 1
    assert page.elements["style"] == 1
    forbidden = {"img", "iframe", "object", "embed", "base", "audio", "video", "image", "foreignobject"}
    assert not forbidden & set(page.elements)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "style", "xlink:href")]
    assert all(re.match(r"https?://|#|data:,$", address) for address in page.values("href"))
    assert not re.search(r"@import|url\((?!#)", page.blocks["style"])
    assert not [value for value in page.values("clip-path") if not value.startswith("url(#")]


def test_the_page_is_inert(page: Page) -> None:
    check_inert(page)


def test_its_policy_allows_its_own_blocks_and_no_others(page: Page) -> None:
    (policy,) = [value for value in page.values("content") if "default-src" in value]
    for block in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(page.blocks[block].encode()).digest()).decode()
        assert f"{block}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


def test_identifiers_are_unique_and_references_resolve(page: Page) -> None:
    ids = Counter(page.values("id"))
    assert [name for name, count in ids.items() if count > 1] == []
    used = [v[1:] for v in page.values("href") if v.startswith("#")]
    used += [v[5:-1] for v in page.values("clip-path")]
    assert set(used) <= set(ids)


def test_everything_is_there_without_a_script(page: Page) -> None:
    rows = [value for name, value in page.attributes if name == "data-name"]
    assert Counter(rows)["opus"] == 2 * 5
    for text in (
        "official, not ranked: random weights", "control, not ranked", "38 of 40, 95 %", "worst case", "Demo",
        "decode(ValueError: frame 12 has 55 bits, expected 56)", "impl:synthetic-1|rs:soxr-1.0-VHQ|v:1",
        "paired bootstrap over 6 speakers; from fewer than 20, read with care", "How failures are counted", "CC-BY-4.0",
    ):  # fmt: skip
        assert text in page.text
    assert page.elements["svg"] == 6
    assert page.elements["caption"] == page.elements["table"]
    assert page.values("aria-sort") == []


def test_the_best_and_ties_are_marked(page: Page) -> None:
    leaders = page.values("class").count("leads")
    assert leaders > 10
    assert "rank 1–2 of 2 in its track and band" in page.values("title")


def test_the_same_runs_give_the_same_bytes(full_run: Path, page: Page, tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from codecbench.leaderboard.site import build;"
    code += "build([Path(sys.argv[1])], Path(sys.argv[2]))"
    settings = {"PYTHONHASHSEED": "77", "TZ": "Asia/Kolkata", "LC_ALL": "C", "SOURCE_DATE_EPOCH": "1"}
    subprocess.run([sys.executable, "-c", code, full_run, tmp_path], check=True, env={**os.environ, **settings})
    assert (tmp_path / "index.html").read_bytes() == page.source.encode()


def test_the_page_is_small(page: Page) -> None:
    assert len(page.source) < 900_000


def hostile_run(make_run: MakeRun) -> Path:
    """Every text of a run is hostile, each system another way."""
    systems = {
        f"s{k}": {"family": "F", "track": "official", "rates": [6], "skill": 0.1 * k} for k in range(len(HOSTILE))
    }
    names = {f"s{k}": text for k, text in enumerate(HOSTILE)}

    def edit(run: Any) -> None:
        bad = HOSTILE[1]
        run.facts["name"] = run.facts["command"] = run.facts["created"] = bad
        run.facts["environment"] = {bad: {bad: bad}, "x": HOSTILE[0]}
        for name in list(run.facts["systems"]):
            card = run.facts["systems"].pop(name)
            text = names[name]
            for key in ("family", "licence", "weights_licence", "paper", "weights", "reason"):
                card[key] = text
            card["training_data"] = [text]
            run.facts["systems"][text] = card
        for key in ("title", "licence", "url", "fingerprint"):
            run.facts["datasets"]["demo"][key] = HOSTILE[5] if key == "url" else bad
        for metric in run.facts["metrics"].values():
            metric |= {"title": bad, "unit": bad, "signature": bad}
        for row in run.rows:
            row["signature"] = bad if row["utterance"] != "*" else ""
            row["system"] = names[row["system"]]
            if row["utterance"] == "utt001":
                row |= {"status": "failed", "value": None, "reason": row["system"]}

    return make_run("hostile", systems=systems, items=8, edit=edit)


def test_hostile_text_is_text(make_run: MakeRun, tmp_path: Path) -> None:
    found = Page(build([hostile_run(make_run)], tmp_path))
    check_inert(found)
    for text in HOSTILE:
        assert text in found.text
    assert "49" not in re.findall(r"\{\{7\*7\}\}|\b49\b", found.text)


def test_text_cannot_turn_or_hide_the_text_around_it(make_run: MakeRun, tmp_path: Path) -> None:
    long = "n" * 10_000
    tricks = {"a\u202eb\u200bc\x00d": "a�b�c�d", "e" + "\u0301" * 500: "e" + "\u0301" * 500, long: long}
    systems = {name: {"family": "F", "track": "small", "rates": [6], "skill": 0.0} for name in tricks}
    found = Page(build([make_run(systems=systems, items=6, metrics=["mel"])], tmp_path))
    for shown in tricks.values():
        assert (
            f'<bdi class="name" tabindex="0" title="{shown[:100]}' in found.source or f">{shown}</bdi>" in found.source
        )
    assert not re.search(r"[\u202a-\u202e\u200b\x00]", found.source)
    svg = found.source[found.source.index("<svg") : found.source.index("</svg>")]
    assert long not in svg


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
        (case_empty, ["There are no results yet", "opus has no row", "Nothing failed", "No metric has a value"]),
        (case_bare, ["There are no results yet", "The runs name no system"]),
        (case_failed, ["Nothing to draw", "0 of 6", "encode(crash)"]),
        (case_tied, ["1–2"]),
        (case_zero, ["0.00", "Nothing to draw"]),
    ],
)
def test_small_data(make_run: MakeRun, tmp_path: Path, edit: Any, says: list[str]) -> None:
    found = Page(build([make_run(systems=ONE, items=6, metrics=["mel"], trouble=False, edit=edit)], tmp_path))
    check_inert(found)
    for text in says:
        assert text in re.sub(r"\s+", " ", found.text)


def test_one_system_one_point_one_item(make_run: MakeRun, tmp_path: Path) -> None:
    systems = {"opus": {**ONE["opus"], "rates": [6]}}
    found = Page(build([make_run(systems=systems, items=1, trouble=False)], tmp_path))
    assert "paired bootstrap over 1 utterance;" in found.text
    assert "no interval" in found.text
    assert found.elements["svg"] == 6


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
    from codecbench.errors import UsageError

    board = read_runs([full_run])
    with pytest.raises(UsageError, match="unknown metric 'werr': did you mean wer"):
        chart_png(board, "werr", tmp_path / "x.png")
    with pytest.raises(UsageError, match="unknown dataset 'demoo': did you mean demo"):
        chart_png(board, "wer", tmp_path / "x.png", dataset="demoo")


browser = pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")


def visit(path: Path, state: str, profile: Path) -> str:
    """The page after its script ran, as Chromium holds it."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
             "--disable-background-networking", "--disable-component-update", "--virtual-time-budget=1000"]  # fmt: skip
    command = ["chromium", *flags, f"--user-data-dir={profile}", "--dump-dom", f"{path.as_uri()}#{state}"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def shown_order(dom: str) -> list[tuple[str, bool]]:
    table = dom[dom.index('<table class="scores') : dom.index("</table>")]
    return [(name, "hidden" in tag) for tag, name in re.findall(r'(<tr data-name="([^"]*)"[^>]*>)', table)]


@browser
def test_the_state_in_the_address_sorts_and_filters(full_run: Path, tmp_path: Path) -> None:
    path = build([full_run], tmp_path / "a b#ü")
    dom = visit(path, "track=official&sort=wer&q=DÀC&dataset=nowhere&__proto__=1", tmp_path / "profile")
    rows = shown_order(dom)
    assert [name for name, hidden in rows if not hidden] == ["dac_16khz"] * 3
    assert [name for name, _ in rows][:3] == ["encodec_24khz", "dac_16khz", "encodec_24khz"]
    assert re.findall(r'<th [^>]*data-key="(\w+)"[^>]*aria-sort="(\w+)"', dom) == [("wer", "ascending")]
    assert "Part of this link is not known here and was ignored. 3 rows, sorted by wer, ascending." in dom


@browser
def test_hostile_text_does_not_run(make_run: MakeRun, tmp_path: Path) -> None:
    path = build([hostile_run(make_run)], tmp_path / "site")
    dom = visit(path, "q=<img src=x onerror=alert(1)>&sort=__proto__", tmp_path / "profile")
    (title,) = re.findall(r"<title>(.*)</title>", dom)
    assert title.endswith("codecbench leaderboard")
    assert "No rows" in dom
