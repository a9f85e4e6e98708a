"""Rate–quality charts: a metric over measured bitrate, a curve a system, as SVG for pages and PNG for documents.

Points are joined only within one system. Controls, whose bitrate says nothing, are dotted lines across. A system is
told by its marker and its label, not by colour alone. Text stays text in the SVG, and its colours are classes that
the page's style sheet sets, so that charts follow light, dark and print.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codecbench.errors import UsageError, did_you_mean
from codecbench.leaderboard.aggregate import aggregate
from codecbench.leaderboard.board import Board, Metric
from codecbench.leaderboard.stats import Estimate
from codecbench.leaderboard.summary import Row, Section
from codecbench.leaderboard.text import clean

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = "osD^vPX*"
COLOURS = ("#0b62a4", "#b4460f", "#0f7b5b", "#8a3f9b", "#8a6500", "#b02a55", "#0e7490", "#4d5a66")
INK, FAINT = "#1a1f24", "#68727c"
"""All of these are readable on white; a page gives its dark theme others (classes ``c0`` to ``c7`` and ``faint``)."""
WIDTH, HEIGHT, RIGHT = 8.4, 4.6, 2.35
"""Of the figure, and of its margin for labels, in inches."""
LABEL_HEIGHT = 0.2
LONGEST_LABEL = 24
LONGEST_TITLE = 70
MOST_CURVES = 24
"""Above this, only the systems with the best single scores are drawn."""
CLASSES = {colour: f"c{k}" for k, colour in enumerate(COLOURS)} | {INK: "ink", FAINT: "faint"}
STYLE: dict[Any, Any] = {
    "figure.facecolor": "none", "axes.facecolor": "none", "svg.fonttype": "none", "svg.hashsalt": "codecbench",
    "text.parse_math": False, "path.simplify": False, "font.family": "DejaVu Sans", "font.size": 11,
    "text.color": INK, "axes.labelcolor": INK, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "xtick.color": FAINT, "ytick.color": FAINT, "axes.edgecolor": FAINT,
    "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False, "ytick.major.size": 0,
    "xtick.minor.size": 0, "axes.titlelocation": "left", "axes.titlesize": 12, "lines.linewidth": 1.5,
    "lines.markersize": 5,
}  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """One system: its points ``(kbps, value, low, high)`` by bitrate, and how it is drawn."""

    name: str
    points: tuple[tuple[float, float, float, float], ...]
    colour: str
    marker: str
    filled: bool


@dataclass(frozen=True)
class Chart:
    """What is drawn: curves, and the level of each control."""

    title: str
    curves: tuple[Curve, ...]
    levels: tuple[tuple[str, float], ...]


def chart_svg(section: Section, metric: Metric) -> str | None:
    """The chart as an SVG element to stand in a page; None if there is nothing to draw."""
    chart = _chart(section, metric)
    if not chart.curves:
        return None
    out = io.BytesIO()
    _save(chart, out, "svg", metadata={"Date": None, "Creator": None})
    return _for_page(out.getvalue(), f"{section.dataset}-{metric.name}", f"{chart.title}, {clean(section.title)}")


def chart_png(board: Board, metric: str, path: Path, dataset: str | None = None) -> Path:
    """Write the chart of one metric as PNG, on white.

    Args:
        board: The results.
        metric: A metric's name.
        path: The file to write.
        dataset: A dataset's name; by default the first one.

    Raises:
        UsageError: No such metric or dataset, or nothing to draw.
    """
    summary = aggregate(board)
    if metric not in summary.metrics:
        raise did_you_mean(metric, list(summary.metrics), "metric")
    sections = {section.dataset: section for section in summary.sections}
    name = dataset or next(iter(sections))
    if name not in sections:
        raise did_you_mean(name, list(sections), "dataset")
    chart = _chart(sections[name], summary.metrics[metric])
    if not chart.curves:
        raise UsageError(f"nothing to draw: no entry has a value of '{metric}' on '{name}'")
    _save(chart, path, "png", dpi=160, facecolor="white", metadata={"Software": None})
    return path


def _chart(section: Section, metric: Metric) -> Chart:
    rows = [row for row in section.rows if row.kbps and row.kbps.value > 0]
    codecs = sorted({row.system for row in rows if row.track != "control"})
    names = codecs or sorted({row.system for row in rows})
    curves = [_curve(k, [row for row in rows if row.system == name], metric) for k, name in enumerate(names)]
    curves = [curve for curve in curves if curve.points]
    low, high = _span([curve for curve in curves if curve.filled] or curves)
    levels = [
        (f"{row.system} {row.point}", e.value)
        for row in rows
        if row.system not in names and (e := _estimate(row, metric)) and low <= e.value <= high
    ]
    shown = [c for c in curves if c.filled or all(low <= point[1] <= high for point in c.points)]
    sign = -1 if metric.direction == "lower" else 1
    shown = sorted(shown, key=lambda c: (-max(sign * point[1] for point in c.points), c.name))[:MOST_CURVES]
    better = {"higher": ", higher is better", "lower": ", lower is better"}.get(metric.direction, "")
    unit = f" ({clean(metric.unit)})" if metric.unit else ""
    title = _short(clean(metric.title) + unit, LONGEST_TITLE - len(better)) + better
    return Chart(title, tuple(shown), tuple(sorted(levels)[:MOST_CURVES]))


def _estimate(row: Row, metric: Metric) -> Estimate | None:
    return row.cells[metric.name].estimate if metric.name in row.cells else None


def _curve(k: int, rows: Sequence[Row], metric: Metric) -> Curve:
    """The `k`-th of all systems: its colour and marker are the same in every chart of a section."""
    points = [
        (row.kbps.value, e.value, e.value if e.low is None else e.low, e.value if e.high is None else e.high)
        for row in rows
        if row.kbps and (e := _estimate(row, metric))
    ]
    size = len(COLOURS)
    marker = MARKERS[(k + k // size) % len(MARKERS)]
    return Curve(rows[0].system, tuple(sorted(points)), COLOURS[k % size], marker, not any(r.unranked for r in rows))


def _span(curves: Sequence[Curve]) -> tuple[float, float]:
    """The values worth showing: those of `curves`, and half of their span to either side.

    Controls and unranked systems beyond would squeeze the curves that are compared.
    """
    values = [value for curve in curves for point in curve.points for value in point[1:]] or [0.0]
    margin = (max(values) - min(values)) / 2
    return min(values) - margin, max(values) + margin


def _save(chart: Chart, out: Path | io.BytesIO, form: str, **options: Any) -> None:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        labels = len(chart.curves) + len(chart.levels)
        figure = Figure(figsize=(WIDTH, max(HEIGHT, labels * LABEL_HEIGHT + 1.2)))
        height = figure.get_figheight()
        axes = figure.add_axes((0.6 / WIDTH, 0.6 / height, 1 - (0.6 + RIGHT) / WIDTH, 1 - 1.0 / height))
        _draw(axes, chart)
        _label(axes, chart, LABEL_HEIGHT / (height - 1.0))
        figure.savefig(out, format=form, **options)


def _draw(axes: Axes, chart: Chart) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    rates = [point[0] for curve in chart.curves for point in curve.points]
    for _, level in chart.levels:
        axes.axhline(level, color=FAINT, linewidth=1, linestyle=(0, (1, 2.5)))
    for curve in chart.curves:
        x, y, low, high = zip(*curve.points, strict=True)
        arms = [[v - a for v, a in zip(y, low, strict=True)], [b - v for v, b in zip(y, high, strict=True)]]
        axes.errorbar(
            x, y, yerr=arms, color=curve.colour, marker=curve.marker, elinewidth=1, capsize=2,
            linestyle="-" if curve.filled else "--", markerfacecolor=curve.colour if curve.filled else "none",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(min(rates) / 1.25, max(rates) * 1.25)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y", color=FAINT, linewidth=0.4, alpha=0.4)
    axes.set_title(chart.title)
    axes.set_xlabel("measured bitrate in kbps")


def _label(axes: Axes, chart: Chart, spacing: float) -> None:
    """Name each curve and level in the right margin, with a thin line from its last point."""
    (low, high), edge = axes.get_ylim(), axes.get_xlim()[1]
    ends = [(curve.points[-1][1], curve.points[-1][0], curve.name, curve.colour) for curve in chart.curves]
    ends = sorted([*ends, *((value, edge, name, FAINT) for name, value in chart.levels)])
    heights = _spread([(value - low) / (high - low) for value, *_ in ends], spacing)
    for (value, rate, name, colour), height in zip(ends, heights, strict=True):
        axes.annotate(
            _short(clean(name), LONGEST_LABEL), (rate, value), xytext=(1.04, height), textcoords="axes fraction",
            va="center", fontsize=10, color=colour, annotation_clip=False,
            arrowprops={
                "arrowstyle": "-", "color": colour, "linewidth": 0.5, "alpha": 0.6, "shrinkA": 2, "relpos": (0, 0.5)
            },
        )  # fmt: skip


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _spread(heights: Sequence[float], spacing: float) -> list[float]:
    """Ascending `heights` in [0, 1] moved apart to at least `spacing`, and kept below 1."""
    spread: list[float] = []
    for height in heights:
        spread.append(max(height, spread[-1] + spacing) if spread else height)
    ceiling = 1.0
    for k in reversed(range(len(spread))):
        spread[k] = min(spread[k], ceiling)
        ceiling = spread[k] - spacing
    return spread


def _for_page(svg: bytes, name: str, title: str) -> str:
    """Matplotlib's SVG as an element of an HTML page.

    No style attributes and no style element (a strict content security policy forbids them), ids that are unique
    on the page, colours as classes, and the chart's title for those who cannot see it.
    """
    root = ET.fromstring(svg)  # noqa: S314 - our own drawing
    ids = set(re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", svg.decode()))
    used = {name for pair in ids for name in pair}
    prefix = re.sub(r"[^a-z0-9]+", "-", name.lower())
    for element in list(root.iter()):
        element[:] = [child for child in element if _local(child.tag) not in {"metadata", "style"}]
        element.text, element.tail = (element.text or "").strip(), ""
        _restyle(element, used, prefix)
    box = root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib.update({"viewBox": box, "class": "chart", "role": "img", "aria-label": title})
    return ET.tostring(root, encoding="unicode")


def _restyle(element: ET.Element, used: set[str], prefix: str) -> None:
    """Styles to attributes, colours to classes, and `prefix` before every identifier that is `used`."""
    element.tag = _local(element.tag)
    style = dict(part.split(":", 1) for part in element.attrib.pop("style", "").split(";") if ":" in part)
    found = {_local(key.strip()): value.strip() for key, value in (*element.attrib.items(), *style.items())}
    element.attrib.clear()
    for key, value in found.items():
        if value in CLASSES:
            element.set("class", CLASSES[value])
            element.set(key, "currentColor")
        elif key == "font":
            element.set("font-size", value.partition(" ")[0])
        elif key == "id":
            if value in used:
                element.set("id", f"{prefix}-{value}")
        elif key == "href" or value.startswith("url("):
            element.set(key, value.replace("#", f"#{prefix}-"))
        elif key != "font-family" and not value.startswith("rotate(-0"):
            element.set(key, value)


def _local(name: str) -> str:
    return name.rpartition("}")[2]
