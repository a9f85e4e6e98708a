"""What changed since earlier scores, as a page, and as a feed for those who want to be told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from codecbench.leaderboard.changelog import ORDER
from codecbench.leaderboard.pages.base import Page, PageType, Site, system_path
from codecbench.leaderboard.pages.feed import PATH, feed


def _pages(site: Site) -> Iterator[Page]:
    counts = Counter(row["kind"] for row in site.changes)
    known = {system for system, _ in site.entries}
    yield Page(
        "changes.html",
        "changes.html",
        "Changes",
        {
            "compared": bool(site.previous),
            "since": ", ".join(run["name"] + ", " + run["created"] for p in site.previous for run in p["runs"]),
            "counts": {kind: counts[kind] for kind in ORDER if counts[kind]},
            "same": counts[""],
            "rows": [{**row, "href": system_path(row["system"]) if row["system"] in known else ""}
                     for row in site.changes if row["kind"]],
            "feed": PATH,
        },
    )  # fmt: skip


def _write(site: Site, out: Path) -> Iterator[str]:
    (out / PATH).write_bytes(feed(site))
    yield PATH


PAGE = PageType("changes", "Changes", _pages, write=_write)
