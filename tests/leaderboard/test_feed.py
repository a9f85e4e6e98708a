"""The Atom feed of changes, read as RFC 4287 wants it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from codecbench.leaderboard.pages import feed as feeds
from codecbench.leaderboard.site import build

MakeRun = Callable[..., Path]
ATOM = "{http://www.w3.org/2005/Atom}"
FEW: dict[str, Any] = {
    "systems": {
        "mimi": {"family": "Mimi", "track": "official", "rates": [0.55, 1.1], "skill": 0.5},
        "opus": {"family": "Opus", "track": "classical", "rates": [6, 8], "skill": -0.7},
    },
    "metrics": ["mel", "estoi"],
    "items": 6,
    "trouble": False,
}  # fmt: skip
ONCE = {"id", "title", "updated"}  # section 4.1.1 and 4.1.2: exactly one of each, in the feed and in each entry
KNOWN = ONCE | {"author", "link", "entry", "content"}


def read(site: Path) -> ET.Element:
    """The feed, once it has shown all that the standard requires of it."""
    root = ET.fromstring((site / "feed.xml").read_bytes())  # noqa: S314 - made here
    assert root.tag == f"{ATOM}feed"
    assert root.findtext(f"{ATOM}author/{ATOM}name")  # 4.1.1: an author, where entries have none
    assert [link.get("href") for link in root.findall(f"{ATOM}link[@rel='self']")] == ["feed.xml"]
    parts = [root, *root.findall(f"{ATOM}entry")]
    for part in parts:
        names = [child.tag.removeprefix(ATOM) for child in part]
        assert set(names) <= KNOWN
        assert {name for name in names if names.count(name) == 1} >= ONCE
        kinds = [(link.get("type"), link.get("hreflang")) for link in part.findall(f"{ATOM}link[@rel='alternate']")]
        assert len(kinds) == len(set(kinds)) == 1
        for link in part.findall(f"{ATOM}link"):
            assert (site / str(link.get("href"))).is_file()
        updated = str(part.findtext(f"{ATOM}updated"))
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", updated)  # 3.3: a date of RFC 3339
        assert datetime.fromisoformat(updated).tzinfo
        assert UUID(str(part.findtext(f"{ATOM}id")).removeprefix("urn:uuid:"))  # 4.2.6: an absolute IRI
        assert str(part.findtext(f"{ATOM}title")).strip()
    ids = [part.findtext(f"{ATOM}id") for part in parts]
    assert len(ids) == len(set(ids))
    assert root.findtext(f"{ATOM}updated") == max(str(p.findtext(f"{ATOM}updated")) for p in parts[1:])
    return root


def titles(root: ET.Element) -> list[str]:
    return [str(entry.findtext(f"{ATOM}title")) for entry in root.findall(f"{ATOM}entry")]


def moved(draft: Any) -> None:
    draft.facts["created"] = "2026-02-01T09:00:00+02:00"
    for row in draft.rows:
        if row["metric"] == "mel" and row["system"] == "mimi":
            row["value"] += 0.8
    draft.rows[:] = [row for row in draft.rows if row["system"] != "opus"]


def test_changes_are_entries(make_run: MakeRun, tmp_path: Path) -> None:
    new, old = make_run("new", **FEW), make_run("old", **FEW, edit=moved)
    site = build([new], tmp_path / "site", [old]).parent
    root = read(site)
    assert titles(root) == ["mimi on Demo: 2 beyond its interval", "opus on Demo: 4 new", "Run new"]
    assert {entry.findtext(f"{ATOM}updated") for entry in root.findall(f"{ATOM}entry")} == {"2026-03-01T12:00:00Z"}
    content = str(root.findtext(f"{ATOM}entry/{ATOM}content"))
    assert re.search(r"^mel at 1\.1kbps: \S+ → \S+ \(−0\.80?\d*\), beyond its interval$", content, re.MULTILINE)
    assert 'href="feed.xml"' in (site / "changes.html").read_text()


def test_without_earlier_scores_there_are_the_runs(make_run: MakeRun, tmp_path: Path) -> None:
    site = build([make_run("b", **FEW), make_run("a", **FEW, edit=moved)][:1], tmp_path / "site").parent
    assert titles(read(site)) == ["Run b"]


def test_dates_are_those_of_the_runs_in_utc() -> None:
    assert feeds._date("2026-02-01T09:00:00+02:00") == "2026-02-01T07:00:00Z"
    assert feeds._date("2026-02-01T09:00:00.75") == "2026-02-01T09:00:00Z"
    assert feeds._date("yesterday") == feeds.EPOCH


def test_many_changes_are_counted(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "MOST_ENTRIES", 1)
    monkeypatch.setattr(feeds, "MOST_LINES", 1)
    new, old = make_run("new", **FEW), make_run("old", **FEW, edit=moved)
    root = read(build([new], tmp_path / "site", [old]).parent)
    assert titles(root) == ["mimi on Demo: 2 beyond its interval", "Run new"]
    assert str(root.findtext(f"{ATOM}entry/{ATOM}content")).endswith("\nand 1 more")


def test_hostile_names_make_a_valid_feed(hostile_run: Path, make_run: MakeRun, tmp_path: Path) -> None:
    site = build([hostile_run], tmp_path / "site", [make_run("old", **FEW)]).parent
    root = read(site)
    assert len(titles(root)) > 10
    assert any(title.startswith("<script>window.XSS") for title in titles(root))
    assert "\u202e" not in (site / "feed.xml").read_text(encoding="utf-8")
