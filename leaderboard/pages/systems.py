"""The systems: a list, and a page each with its card, what was measured, its check, and how to reproduce it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from codecbench.leaderboard.board import System
from codecbench.leaderboard.pages.base import Page, PageType, Site, dataset_path, entry_key, rows_path, system_path
from codecbench.leaderboard.pages.scores import (
    cell_view,
    codec_of,
    coverage_view,
    digits_of,
    metric_view,
    parameters,
    properties,
    rate_view,
    sample_rate,
    shown_metrics,
    token_streams,
    weights_kind,
    yes_no,
)  # fmt: skip
from codecbench.leaderboard.summary import Section
from codecbench.leaderboard.text import failures, link

OWN_ROWS = frozenset({
    "name", "family", "track", "kind", "sample_rate", "channels", "causal", "streaming", "lookahead", "delay",
    "licence", "weights", "weights_licence", "training_data", "contamination", "paper", "status", "reason", "ranked",
    "check", "isolation", "audit", "notes", "points", "streams", "tasks", "codec",
})  # fmt: skip
"""Facts that the page has a place for; whatever else a run recorded is listed as it is."""


def _pages(site: Site) -> Iterator[Page]:
    kinds = {"": False, "Language models": True}
    listed = {title: lines for title, model in kinds.items()
              if (lines := [_line(system) for system in _known(site) if system.is_model is model])}  # fmt: skip
    yield Page("systems.html", "systems.html", "Systems", {"kinds": listed})
    failed = failures(site.board)
    digits = {s.dataset: digits_of(s, shown_metrics(s, site.summary)) for s in site.summary.sections}
    for system in _known(site):
        yield Page(
            system_path(system.name),
            "system.html",
            system.name,
            {
                "system": _line(system),
                "facts": [*_facts(system), *(_model_facts(site, system) if system.is_model else _coding(system))],
                "claims": [
                    claim for entry in site.entries if entry[0] == system.name for claim in site.claims.get(entry, ())
                ],
                "notes": system.notes,
                "recorded": list(_recorded(system.facts)),
                "check": _check(system.facts.get("check")),
                "datasets": [d for s in site.summary.sections if (d := _results(site, system, s, digits[s.dataset]))],
                "failures": [f for f in failed if f.system == system.name],
                "commands": _commands(site, system),
                "absent": site.summary.absent.get(system.name, ""),
            },
        )


def _known(site: Site) -> list[System]:
    return sorted(site.board.systems.values(), key=lambda s: (s.name.casefold(), s.name))


def _line(system: System) -> dict[str, Any]:
    facts, paper = system.facts, str(system.facts.get("paper") or "")
    return {
        "name": system.name, "href": system_path(system.name), "family": facts.get("family") or "–",
        "track": system.track, "label": system.label, "rate": sample_rate(system),
        "causal": yes_no(facts.get("causal")),
        "tasks": ", ".join(system.tasks) or "–",
        "licence": facts.get("licence") or "not stated", "weights": weights_kind(system), "paper": paper,
        "link": link(paper), "unranked": system.unranked,
    }  # fmt: skip


def _facts(system: System) -> Iterator[tuple[str, str, str]]:
    """What the system declares about itself: a title, a text and perhaps an address."""
    facts = system.facts
    paper = str(facts.get("paper") or "")
    training = ", ".join(map(str, facts.get("training_data") or ()))
    yield "Family", str(facts.get("family") or "–"), ""
    yield "Track", system.track + (f"; not ranked: {system.unranked}" if system.unranked else ""), ""
    yield "Source", paper or "–", link(paper)
    yield "Licence of the code", str(facts.get("licence") or "not stated"), ""
    yield "Weights", str(facts.get("weights") or "none"), ""
    yield "Licence of the weights", str(facts.get("weights_licence") or "–"), ""
    yield "Training data", training or ("not stated" if weights_kind(system) == "published" else "none"), ""
    yield "Test recordings among it", str(facts.get("contamination") or "not stated"), ""
    yield "Sample rate", sample_rate(system), ""
    yield "Channels", str(facts.get("channels") or "any"), ""
    yield "Streaming", yes_no(facts.get("streaming")), ""
    audit = "; encoder and decoder shared nothing but the bytes" if facts.get("audit") else ""
    yield "Isolation of its process", str(facts.get("isolation") or "not stated") + audit, ""


def _coding(system: System) -> Iterator[tuple[str, str, str]]:
    """How a codec says that it codes."""
    facts = system.facts
    yield "Token streams", token_streams(facts.get("streams") or ()) or "packets of bytes, or none", ""
    yield "Causal", yes_no(facts.get("causal")), ""
    if facts.get("lookahead") is not None:
        yield "Lookahead", f"{facts['lookahead']} samples", ""
    yield "Declared delay", f"{facts.get('delay') or 0} samples", ""


def _model_facts(site: Site, system: System) -> Iterator[tuple[str, str, str]]:
    """What a language model can do, its size, and the codec that it speaks."""
    yield "Tasks", ", ".join(system.tasks) or "not stated", ""
    counts = {parameters(site, *entry) for entry in site.entries if entry[0] == system.name}
    sizes = [f"{count / 1e6:.1f} M" for count in sorted(filter(None, counts))]
    yield "Parameters", ", ".join(sizes) or "not measured", ""
    yield "Codec", codec_of(system) or "not stated", ""


def _recorded(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        if name not in OWN_ROWS and value not in ("", None, [], (), {}):
            yield name, str(value)


def _check(report: object) -> dict[str, Any] | None:
    """The conformance report that the run recorded, if it did: ``{"checks": [{"check", "outcome", "reason"}, …]}``."""
    results = report.get("checks") if isinstance(report, Mapping) else None
    rows = [
        {part: str(result.get(part) or "") for part in ("check", "outcome", "reason")}
        for result in (results if isinstance(results, Sequence) else ())
        if isinstance(result, Mapping)
    ]
    return {"rows": rows, "passed": sum(row["outcome"] == "passed" for row in rows)} if rows else None


def _results(site: Site, system: System, section: Section, digits: Mapping[str, int]) -> dict[str, Any] | None:
    """All numbers of the system on one dataset: a table of points by metrics, each with n, interval and rank."""
    rows = [row for row in section.rows if row.system == system.name]
    if not rows:
        return None
    metrics = [site.summary.metrics[name] for name in digits if any(name in row.cells for row in rows)]
    own = properties(rows)
    facts = {row["point"]: row["cells"] for row in own["rows"]}
    single = section.dataset in site.board.datasets
    return {
        "title": section.title, "href": dataset_path(section.dataset) if single else "", "task": section.task,
        "properties": own["columns"],
        "points": [
            {"point": row.point, "kbps": rate_view(row.kbps), "band": row.band, "coverage": coverage_view(row),
             "facts": facts[row.point], "entry": entry_key(row.system, row.point),
             "rows": rows_path(section.dataset) if single else "",
             "cells": [{"metric": metric_view(m), "cell": cell_view(row.cells.get(m.name), digits[m.name])}
                       for m in metrics]}
            for row in rows
        ],
    }  # fmt: skip


def _commands(site: Site, system: System) -> list[tuple[str, str]]:
    """How to get the numbers again: the system alone, and the whole of each run."""
    datasets = [s.dataset for s in site.summary.sections
                if s.dataset in site.board.datasets and any(row.system == system.name for row in s.rows)]  # fmt: skip
    seed = re.fullmatch(r"random, seed (\d+)", str(system.facts.get("weights") or ""))
    runs = [(f"The run {run.name}", run.command) for run in site.board.runs if run.command]
    if system.is_model:
        return runs
    alone = ["codecbench", "run", "--models", str(system.facts.get("name") or system.name)]
    alone += ["--random-weights", seed[1]] if seed else []
    alone += ["--datasets", ",".join(datasets)] if datasets else []
    return [("This system alone", shlex.join([*alone, "--out", "again"])), *runs]


PAGE = PageType("systems", "Systems", _pages)
