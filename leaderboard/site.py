"""The board as a page: one HTML file that needs no network, no server and, for reading, no script."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codecbench.leaderboard.aggregate import aggregate
from codecbench.leaderboard.load import read_runs
from codecbench.leaderboard.text import clean
from codecbench.leaderboard.view import page_view

HERE = Path(__file__).parent


def build(runs: Sequence[Path], out: Path) -> Path:
    """Write the leaderboard of one or several run folders as ``out/index.html``.

    The same runs give the same bytes: the page holds no time but that of the runs.

    Raises:
        UsageError: No such run, a newer schema, or runs that contradict each other.
        InfrastructureError: A file of a run is damaged.
    """
    board = read_runs(runs)
    page = render_page("page.html", page_view(board, aggregate(board)))
    out.mkdir(parents=True, exist_ok=True)
    path = out / "index.html"
    path.write_text(page, encoding="utf-8", newline="\n")
    return path


def render_page(template: str, view: Mapping[str, Any]) -> str:
    """Fill a template of this folder with `view`, `page.css` and `page.js`.

    All text is escaped, and rid of characters that reorder or hide other text. The page's security policy
    allows nothing but these very styles and this very script, by their digests.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    def safe(value: object) -> object:
        return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, finalize=safe, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; img-src data:;"
        " base-uri 'none'; form-action 'none'"
    )
    return environment.get_template(template).render(view, style=Markup(style), script=Markup(script), policy=policy)  # noqa: S704


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
