"""The board as a static site: pages that need no network, no server and, for reading, no script.

The same runs give the same bytes: no page holds a time but that of the runs.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codecbench.leaderboard.aggregate import aggregate
from codecbench.leaderboard.changelog import read_all
from codecbench.leaderboard.load import read_runs
from codecbench.leaderboard.pages import PAGES
from codecbench.leaderboard.pages.audio import BUDGET
from codecbench.leaderboard.pages.base import Page, Site, dataset_path, slug
from codecbench.leaderboard.pages.encode import script_json
from codecbench.leaderboard.text import clean, link

if TYPE_CHECKING:
    from jinja2 import Environment

HERE = Path(__file__).parent / "pages"
ASSETS = ("app.js", "style.css")
MANIFEST = "site.json"
"""Lists the files of a site, so that the next build in the same folder removes those it no longer has."""


def build(runs: Sequence[Path], out: Path, previous: Sequence[Path] = (), audio_budget: float = BUDGET) -> Path:
    """Write the site of one or several run folders into `out`, and give its first page.

    Args:
        runs: Run folders.
        out: A folder; files of an earlier site there that this one lacks are removed, others are left alone.
        previous: Earlier runs or sites to compare the scores with.
        audio_budget: Megabytes of recordings that the site may hold (see `pages.audio.choose`).

    Raises:
        UsageError: No such run, a newer schema, or runs that contradict each other.
        InfrastructureError: A file of a run is damaged.
    """
    board = read_runs(runs)
    site = Site(board, aggregate(board), read_all(previous), audio_budget)
    out.mkdir(parents=True, exist_ok=True)
    written = sorted({*_write_files(site, out), *_write_pages(site, out)})
    _remove_stale(out, written)
    (out / MANIFEST).write_text(json.dumps({"files": written}, indent=1), encoding="utf-8", newline="\n")
    return out / "index.html"


def _write_files(site: Site, out: Path) -> Iterator[str]:
    for name in dict.fromkeys((*ASSETS, *(asset for kind in PAGES for asset in kind.assets))):
        (out / "assets").mkdir(exist_ok=True)
        (out / "assets" / name).write_bytes((HERE / "assets" / name).read_bytes())
        yield f"assets/{name}"
    for kind in PAGES:
        yield from kind.write(site, out)


def _write_pages(site: Site, out: Path) -> Iterator[str]:
    environment = _environment(site)
    kinds = [(kind, list(kind.pages(site))) for kind in PAGES]
    nav = [(kind.name, kind.nav, pages[0].path) for kind, pages in kinds if kind.nav and pages]
    for kind, pages in kinds:
        for page in pages:
            path = out / page.path
            path.parent.mkdir(exist_ok=True)
            path.write_text(_render(environment, page, kind.name, nav), encoding="utf-8", newline="\n")
            yield page.path


def _remove_stale(out: Path, written: Sequence[str]) -> None:
    try:
        known = json.loads((out / MANIFEST).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    for name in set(known) - set(written):
        path = (out / str(name)).resolve()
        if path.is_relative_to(out.resolve()) and path.is_file():
            path.unlink()


def _environment(site: Site) -> Environment:
    """Templates in which all text is escaped, and rid of characters that reorder or hide other text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    def safe(value: object) -> object:
        return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, finalize=safe,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    theme = (HERE / "assets" / "theme.js").read_text(encoding="utf-8").strip()
    environment.globals |= {
        "board": site.board, "summary": site.summary, "theme": Markup(theme), "policy": _policy(theme),  # noqa: S704
        "title": " + ".join(dict.fromkeys(run.name for run in site.board.runs)),
        "address": link, "slug": slug, "dataset_path": dataset_path,
    }  # fmt: skip
    environment.filters["script_json"] = lambda value: Markup(script_json(value))  # noqa: S704 - escaped for scripts
    return environment


def _render(environment: Environment, page: Page, kind: str, nav: Sequence[tuple[str, str, str]]) -> str:
    values: Mapping[str, Any] = {
        "page": page, "kind": kind, "nav": nav, "root": "../" * page.path.count("/"), **page.values,
    }  # fmt: skip
    return environment.get_template(page.template).render(values)


def _policy(script: str) -> str:
    """What a page may load: its own folder's scripts and styles, and the one script inside of it."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'self' 'sha256-{digest}'; style-src 'self'; img-src 'self' data:;"
        " media-src 'self' data: blob:; connect-src 'none'; base-uri 'none'; form-action 'none'"
    )
