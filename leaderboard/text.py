"""Numbers, names and failures as text, for tables and pages alike."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

from codecbench.leaderboard.board import CORPUS, Board, Metric
from codecbench.leaderboard.stats import FEW_CLUSTERS, MIN_CLUSTERS, Drawn, Estimate
from codecbench.leaderboard.summary import Cell, Row, Section

UNITS = {"speaker": "speakers", "speaker or clip": "speakers and clips without one", "utterance": "utterances"}
ARROWS = {"higher": "↑", "lower": "↓", "none": ""}
# Controls, lone surrogates, line and paragraph separators, marks that reorder text, and zero-width characters.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]"
)


@dataclass(frozen=True)
class Property:
    """A fact about an entry that is not a score: its column title, unit, and how a value is written."""

    name: str
    title: str
    unit: str
    write: Callable[[float], str]


def _fixed(places: int) -> Callable[[float], str]:
    return lambda value: number(value, places)


PROPERTIES = (
    Property("parameters", "parameters", "M", lambda value: number(value / 1e6, 2) if value else "0"),
    Property("nominal_kbps", "nominal", "kbps", _fixed(2)),
    Property("header_kbps", "headers", "kbps", _fixed(2)),
    Property("frame_rate", "frames", "Hz", _fixed(1)),
    Property("token_rate", "tokens", "Hz", _fixed(1)),
    Property("entropy_kbps", "entropy", "kbps", _fixed(2)),
    Property("utilisation", "codebook use", "%", lambda value: number(100 * value, 1)),
    Property("perplexity", "perplexity", "", _fixed(0)),
    Property("delay_ms", "delay", "ms", _fixed(2)),
    Property("gain_db", "gain", "dB", _fixed(2)),
    Property("polarity", "polarity", "", lambda value: "+" if value > 0 else "−"),
    Property("align_stability", "delay stability", "", _fixed(2)),
    Property("clipped", "beyond full scale", "%", lambda value: number(100 * value, 2)),
    Property("repeatable", "repeats itself", "", lambda value: "yes" if value else "no"),
    Property("encode_rtf", "encode", "RTF", _fixed(3)),
    Property("decode_rtf", "decode", "RTF", _fixed(3)),
    Property("generate_rtf", "answers", "s a s of truth", _fixed(3)),
    Property("first_audio_ms", "first audio", "ms", _fixed(0)),
    Property("steps_per_second", "steps", "Hz", _fixed(1)),
    Property("cache_kb_per_second", "cache", "kB a s", _fixed(0)),
    Property("peak_memory_mb", "memory", "MB", _fixed(0)),
)


@dataclass(frozen=True)
class Failure:
    """Items of one entry that went wrong alike: how many, under which metrics, and some of them."""

    dataset: str
    system: str
    point: str
    status: str
    reason: str
    items: int
    metrics: tuple[str, ...]
    examples: tuple[str, ...]


def clean(text: object) -> str:
    """`text` on one line, with every character that could steer a terminal or reorder a page as U+FFFD."""
    return _UNSAFE.sub("\ufffd", re.sub(r"[\t\n\v\f\r]+", " ", str(text)))


def link(text: str) -> str:
    """The address that `text` is or names (an arXiv identifier, a DOI); empty for anything else."""
    if re.fullmatch(r"https?://[^\s\"'<>]+", text):
        return text
    if found := re.fullmatch(r"arxiv:\s*(\d{4}\.\d{4,5})(v\d+)?", text, re.IGNORECASE):
        return f"https://arxiv.org/abs/{found[1]}"
    if found := re.fullmatch(r"(?:doi:\s*)?(10\.\d{4,9}/[\w.()/:;-]+)", text, re.IGNORECASE):
        return f"https://doi.org/{found[1]}"
    return ""


def number(value: float, places: int) -> str:
    """`value` with `places` decimals, and never a negative zero."""
    text = f"{value:.{places}f}"
    return text.replace("-", "", 1) if float(text) == 0 else text


def places(cells: Iterable[Cell | None]) -> int:
    """Decimals for a column: a typical half-width shows one digit, or two if it starts with 1.

    Typical is the lower quartile. Without intervals, three significant digits of the largest value.
    """
    estimates = [cell.estimate for cell in cells if cell and cell.estimate]
    widths = sorted(half for estimate in estimates if (half := half_width(estimate)))
    if widths:
        typical = widths[len(widths) // 4]
        exponent = math.floor(math.log10(typical))
        return min(max(int(typical / 10**exponent < 2) - exponent, 0), 4)
    largest = max((abs(estimate.value) for estimate in estimates), default=0.0)
    return min(max(2 - math.floor(math.log10(largest)), 0), 4) if largest > 0 else 2


def half_width(estimate: Estimate) -> float | None:
    """The longer arm of the interval; None without one."""
    if estimate.low is None or estimate.high is None:
        return None
    return max(estimate.value - estimate.low, estimate.high - estimate.value)


def short_signature(metric: Metric) -> str:
    """The signature without the metric's own name."""
    head, _, rest = metric.signature.partition("|")
    return clean(rest or head or "unsigned")


def group_title(row: Row) -> str:
    """What a row is listed under: its track, and why it is not ranked if it is not."""
    if not row.unranked:
        return clean(row.track)
    return f"{clean(row.track)}, not ranked" + ("" if row.unranked == row.track else f": {clean(row.unranked)}")


def interval_note(section: Section) -> str:
    """What the intervals of a section are made from, and how far to trust them."""
    groups: dict[Drawn, list[str]] = {}
    for metric, drawn in section.drawn.items():
        groups.setdefault(drawn, []).append(metric)
    parts = [
        f"{drawn.count} {UNITS[drawn.unit].removesuffix('s' if drawn.count == 1 else '')}"
        + (f" ({clean(', '.join(metrics))})" if len(groups) > 1 else "")
        for drawn, metrics in groups.items()
    ]
    if not parts:
        return "no scores"
    note = f"95 % intervals: paired bootstrap over {' and '.join(parts)}"
    if any(drawn.unit == "utterance" for drawn in groups):
        note += f"; utterances where fewer than {MIN_CLUSTERS} speakers are known, and then for these speakers only"
    if min(drawn.count for drawn in groups) < MIN_CLUSTERS:
        return f"{note}; none from fewer than {MIN_CLUSTERS}"
    few = min(drawn.count for drawn in groups) < FEW_CLUSTERS
    return f"{note}; from fewer than {FEW_CLUSTERS}, read with care" if few else note


def failures(board: Board, limit: int = 3) -> list[Failure]:
    """What went wrong, by entry and reason, with up to `limit` utterances each. Undefined items are no failure."""
    rows = board.results
    bad = rows[rows["status"].isin(["failed", "error", "missing"]) & (rows["utterance"] != CORPUS)]
    bad = bad[["dataset", "system", "point", "status", "reason", "utterance", "metric"]]
    found = []
    for key, group in bad.groupby(["dataset", "system", "point", "status", "reason"], sort=True):
        dataset, system, point, status, reason = map(str, cast("tuple[str, ...]", key))
        names, metrics = sorted(set(group["utterance"])), sorted(set(group["metric"]))
        found.append(Failure(dataset, system, point, status, reason, len(names), tuple(metrics), tuple(names[:limit])))
    return found
