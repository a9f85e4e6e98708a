"""The drill-down: every utterance of every entry on a dataset, and a page that shows one utterance in full.

Both pages draw what they show from the dataset's packed numbers, ``data/<dataset>-<n>.js``: a page an utterance
would repeat them thousands of times. The page of an utterance holds an empty ``<section data-slot="players">``; a
script that has the audio fills it when the document fires ``codecbench:utterance``, whose ``detail`` is
``{dataset, utterance, entries: [{key, system, point}]}``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from codecbench.leaderboard.board import STATUSES, Dataset, Metric
from codecbench.leaderboard.pages.base import (
    Page,
    PageType,
    Site,
    entry_key,
    key,
    rows_path,
    slug,
    system_path,
    utterance_path,
)  # fmt: skip
from codecbench.leaderboard.pages.encode import LEVELS, quantise, shard
from codecbench.leaderboard.pages.listen import player_scripts
from codecbench.leaderboard.pages.scores import digits_of, groups_of, metric_view, shown_metrics
from codecbench.leaderboard.scores import Entry, entry_places, places_of
from codecbench.leaderboard.text import clean

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

MOST_VALUES = 4_000_000
"""Values in one file of data; a dataset with more has several files."""
BITRATE = Metric("kbps", "Measured bitrate", "kbps")

Grid: TypeAlias = "tuple[NDArray[np.uint16], float, float]"
"""A code an entry and utterance, and the range of the codes."""


def _pages(site: Site) -> Iterator[Page]:
    for dataset in site.board.datasets.values():
        facts = {"dataset": dataset, "key": key(dataset.name)}
        scripts = tuple(_files(site, dataset))
        for path, template, heading in (
            (rows_path(dataset.name), "rows.html", f"Utterances of {dataset.title}"),
            (utterance_path(dataset.name), "utterance.html", f"An utterance of {dataset.title}"),
        ):
            one = path == utterance_path(dataset.name)
            own = ("assets/utterance.js", *player_scripts(site, dataset.name)) if one else ()
            yield Page(path, template, heading, {**facts, "rows": rows_path(dataset.name)}, (*scripts, *own))


def _write(site: Site, out: Path) -> Iterator[str]:
    for dataset in site.board.datasets.values():
        files = list(_files(site, dataset))
        for path, columns in zip(files, _shards(site, dataset), strict=True):
            (out / path).parent.mkdir(exist_ok=True)
            (out / path).write_text(shard(path, columns), encoding="utf-8", newline="\n")
            yield path


def _files(site: Site, dataset: Dataset) -> Iterator[str]:
    """The files of a dataset: the names, then the numbers, some metrics each."""
    sets = _metric_sets(_metrics(site, dataset), len(_entries(site, dataset)) * len(dataset.utterances))
    yield from (f"data/{slug(dataset.name)}-{k}.js" for k in range(1 + len(sets)))


def _metric_sets(metrics: Sequence[Metric], values: int) -> list[Sequence[Metric]]:
    each = max(1, MOST_VALUES // max(values, 1))
    return [metrics[k : k + each] for k in range(0, len(metrics), each)]


def _metrics(site: Site, dataset: Dataset) -> list[Metric]:
    (section,) = (s for s in site.summary.sections if s.dataset == dataset.name)
    return [*([] if dataset.task else [BITRATE]), *shown_metrics(section, site.summary)]


def _entries(site: Site, dataset: Dataset) -> list[Entry]:
    (section,) = (s for s in site.summary.sections if s.dataset == dataset.name)
    return [(row.system, row.point) for row in section.rows]


def _shards(site: Site, dataset: Dataset) -> Iterator[dict[str, Any]]:
    """The columns of each file: grids of entries by utterances, a code a value."""
    metrics, entries = _metrics(site, dataset), _entries(site, dataset)
    (section,) = (s for s in site.summary.sections if s.dataset == dataset.name)
    digits = {**digits_of(section, metrics), BITRATE.name: 2}
    titles, groups = groups_of(site, entries)
    found, bad, transcripts = _gather(site, dataset)
    grids = [found[metric.name] for metric in metrics]
    items = dataset.utterances
    yield {
        "meta": {
            "dataset": key(dataset.name), "groups": titles,
            "entries": [{"key": entry_key(*e), "system": clean(e[0]), "point": clean(e[1]), "href": system_path(e[0])}
                        for e in entries],
            "metrics": [{**metric_view(m), "low": low, "high": high, "log": m is BITRATE,
                         "digits": min(digits[m.name], _useful_digits(low, high))}
                        for m, (_, low, high) in zip(metrics, grids, strict=True)],
            "utterances": [{"id": item.id, "shown": clean(item.id), "speaker": clean(item.speaker),
                            "language": clean(item.language), "domain": clean(item.domain),
                            "transcript": clean(item.transcript)} for item in items],
            "href": utterance_path(dataset.name), "rows": rows_path(dataset.name),
        },
        "group": groups, "seconds": np.array([item.duration for item in items], dtype=np.float32),
        **_reasons(bad, metrics), **_heard(site, dataset, transcripts),
    }  # fmt: skip
    sets = _metric_sets(metrics, len(entries) * len(items))
    places = {metric.name: k for k, metric in enumerate(metrics)}
    for own in sets:
        yield {f"m{places[m.name]}": grids[places[m.name]][0] for m in own}


def _gather(site: Site, dataset: Dataset) -> tuple[dict[str, Grid], pd.DataFrame, pd.DataFrame]:
    """Codes and range of the bitrate and each metric; the rows without a value; and those with a transcript.

    One metric at a time is looked at, since a dataset may have many millions of rows.
    """
    import pandas as pd

    entries = _entries(site, dataset)
    size = len(entries) * len(dataset.utterances)
    kbps = np.full(size, np.nan)
    grids: dict[str, Grid] = {}
    bad, heard = [], []
    for name in sorted(site.board.metrics):
        rows = site.board.items(dataset.name, name)
        place, count = _places(rows, entries, dataset)
        rows = rows.assign(place=place)[(place >= 0) & (place < count)]
        coded = rows[rows["bits"].notna() & (rows["duration"] > 0) & np.isnan(kbps[rows["place"]])]
        kbps[coded["place"]] = (coded["bits"] / coded["duration"] / 1000).to_numpy(dtype=np.float64)
        grids[name] = _grid(rows, size)
        bad.append(rows[(rows["status"] != "ok") & (rows["reason"].fillna("") != "")])
        heard.append(rows[rows["transcript"].notna()] if "transcript" in rows else rows.iloc[:0])
    # Bitrates span decades: log(1 + kbps).
    ok = np.where(np.isnan(kbps), -1, STATUSES.index("ok"))
    grids[BITRATE.name] = quantise(np.log1p(kbps), ok)
    return grids, pd.concat(bad).sort_index(), pd.concat(heard).sort_index()


def _grid(rows: pd.DataFrame, size: int) -> Grid:
    """The codes of one metric, entry by entry, and their range."""
    values, status = np.full(size, np.nan), np.full(size, -1)
    values[rows["place"]] = rows["value"].to_numpy(dtype=np.float64, na_value=np.nan)
    status[rows["place"]] = places_of(STATUSES, rows["status"])
    return quantise(values, status)


def _places(frame: pd.DataFrame, entries: Sequence[Entry], dataset: Dataset) -> tuple[NDArray[np.intp], int]:
    """Where each row stands in a flat grid of entries by utterances; -1 for nowhere. And the size of the grid."""
    count = len(dataset.utterances)
    if not entries or not count:
        return np.full(len(frame), -1), 0
    row = entry_places(entries, frame)
    column = places_of([item.id for item in dataset.utterances], frame["utterance"])
    return np.where((row >= 0) & (column >= 0), row * count + column, -1), len(entries) * count


def _useful_digits(low: float, high: float) -> int:
    """Decimals that the step between two codes supports."""
    step = (high - low) / LEVELS
    return max(0, int(-np.log10(step))) if step > 0 else 9


def _reasons(frame: pd.DataFrame, metrics: Sequence[Metric]) -> dict[str, Any]:
    """Why a value is absent: places in the grid, metrics and indices of reasons."""
    import pandas as pd

    names = [metric.name for metric in metrics]
    bad = frame[frame["metric"].isin(names)]
    codes, reasons = pd.factorize(bad["reason"].astype(str), sort=True)
    return {
        "reasons": [clean(reason)[:2000] for reason in reasons],
        "reason_place": bad["place"].to_numpy(dtype=np.uint32),
        "reason_metric": places_of(names, bad["metric"]).astype(np.uint16),
        "reason": np.asarray(codes, dtype=np.uint32),
    }


def _heard(site: Site, dataset: Dataset, frame: pd.DataFrame) -> dict[str, Any]:
    """What recognisers heard: in outputs, texts with their places in the grid and recognisers, and in originals.

    From the texts that runs kept, else from a column of the rows, which names no recogniser.
    """
    if "transcript" in frame:
        known = frame.drop_duplicates("place")
        heard = {(int(place), ""): text for place, text in zip(known["place"], known["transcript"], strict=True)}
    else:
        heard = {}
    rows = {entry: k * len(dataset.utterances) for k, entry in enumerate(_entries(site, dataset))}
    items = {item.id: k for k, item in enumerate(dataset.utterances)}
    originals: dict[tuple[int, str], str] = {}
    for kept in site.board.kept:
        entry = (kept.system, kept.point)
        if kept.dataset != dataset.name or entry not in rows or kept.utterance not in items:
            continue
        for key_, text in kept.texts.items():
            what, _, recogniser = key_.partition(":")
            if what == "output":
                heard[rows[entry] + items[kept.utterance], recogniser] = text
            elif what == "original":
                originals.setdefault((items[kept.utterance], recogniser), text)
    return {
        "heard": [clean(text) for _, text in sorted(heard.items())],
        "heard_by": [clean(recogniser) for _, recogniser in sorted(heard)],
        "heard_place": np.array([place for place, _ in sorted(heard)], dtype=np.uint32),
        "originals": [[item, clean(recogniser), clean(text)] for (item, recogniser), text in sorted(originals.items())],
    }


PAGE = PageType("utterances", "", _pages, write=_write, assets=("utterance.js",))
