"""The changelog of scores as an Atom feed (RFC 4287): an entry a run, and one for each system and dataset that changed.

Dates are those of the runs and identifiers are made from names, so the same runs give the same bytes. The feed does not
know where the site will stand: its links are relative, as the standard allows.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, uuid5

from codecbench.leaderboard.changelog import ORDER
from codecbench.leaderboard.pages.base import Site, system_path
from codecbench.leaderboard.text import clean

PATH = "feed.xml"
MOST_ENTRIES, MOST_LINES = 200, 60
"""Of changed systems in the feed, and of scores in an entry; the page has all."""
EPOCH = "1970-01-01T00:00:00Z"
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Item(NamedTuple):
    """An entry of the feed."""

    title: str
    updated: str
    link: str
    text: str


def feed(site: Site) -> bytes:
    """The feed of a site."""
    items = list(dict.fromkeys((*_changed(site), *_runs(site))))
    root = ET.Element("feed", xmlns="http://www.w3.org/2005/Atom")
    _add(root, "id", _identifier("feed", *site.board.datasets))
    _add(root, "title", "codecbench: changes of scores")
    _add(root, "updated", max((item.updated for item in items), default=EPOCH))
    _add(ET.SubElement(root, "author"), "name", "codecbench")
    ET.SubElement(root, "link", rel="self", type="application/atom+xml", href=PATH)
    ET.SubElement(root, "link", rel="alternate", type="text/html", href="changes.html")
    for item in items:
        entry = ET.SubElement(root, "entry")
        _add(entry, "id", _identifier(item.title, item.updated, item.text))
        _add(entry, "title", item.title)
        _add(entry, "updated", item.updated)
        ET.SubElement(entry, "link", rel="alternate", type="text/html", href=item.link)
        _add(entry, "content", item.text)
    ET.indent(root)
    written: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return written + b"\n"


def _changed(site: Site) -> Iterator[Item]:
    """An item for each system and dataset with a change, those beyond their intervals first."""
    updated = max((_date(run.created) for run in site.board.runs), default=EPOCH)
    known = {system for system, _ in site.entries}

    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in site.changes:  # the most telling first, and so are the groups
        if row["kind"]:
            groups.setdefault((row["system"], row["dataset"]), []).append(row)
    for (system, dataset), rows in list(groups.items())[:MOST_ENTRIES]:
        counts = Counter(row["kind"] for row in rows)
        said = ", ".join(f"{counts[kind]} {kind}" for kind in ORDER if counts[kind])
        link = system_path(system) if system in known else "changes.html"
        yield Item(f"{system} on {dataset}: {said}", updated, link, _lines(rows))


def _lines(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        f"{row['metric']} at {row['point']}: {row['before']} → {row['after']}"
        + (f" ({row['difference']})" if row["difference"] else "")
        + f", {row['kind']}"
        for row in rows[:MOST_LINES]
    ]
    left = len(rows) - len(lines)
    return "\n".join([*lines, *([f"and {left} more"] if left else [])])


def _runs(site: Site) -> Iterator[Item]:
    """An item for each run, the newest first."""
    dates = [(_date(run.created), run) for run in site.board.runs]
    for updated, run in sorted(dates, key=lambda pair: (pair[0], pair[1].name), reverse=True):
        state = "" if run.finished else " It is not finished."
        yield Item(f"Run {run.name}", updated, "index.html", f"Scores of the run {run.name} of {run.created}.{state}")


def _date(text: str) -> str:
    """A run's date as RFC 3339 in UTC; of a text that is no date, the epoch."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return EPOCH
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    return found.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _identifier(*names: str) -> str:
    plain = "\n".join(("codecbench", *names)).encode("utf-8", "backslashreplace").decode()
    return f"urn:uuid:{uuid5(NAMESPACE_URL, plain)}"


def _add(parent: ET.Element, tag: str, text: str) -> None:
    lines = "\n".join(clean(line) for line in text.split("\n"))
    ET.SubElement(parent, tag).text = _NO_XML.sub("\ufffd", lines)
