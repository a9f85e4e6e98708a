"""Listening: a page a dataset with plain players, which need no script, and what the player of an utterance is told.

The player itself, which switches between outputs in place, stands on the page of an utterance (``assets/player.js``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from codecbench.leaderboard.board import Dataset
from codecbench.leaderboard.pages.audio import Recording, Scene
from codecbench.leaderboard.pages.base import Page, PageType, Site, entry_key, slug, utterance_path
from codecbench.leaderboard.pages.encode import script_json
from codecbench.leaderboard.text import clean, number

ASSETS = ("sound.js", "spectrogram.js", "blind.js", "player.js", "player.css")


def listen_path(dataset: str) -> str:
    """The page with all recordings of a dataset."""
    return f"listen/{slug(dataset)}.html"


def player_scripts(site: Site, dataset: str) -> tuple[str, ...]:
    """What the page of an utterance of `dataset` loads for its player; nothing if there is nothing to hear."""
    if not _audible(site, dataset):
        return ()
    return (_data_path(dataset), *(f"assets/{name}" for name in ASSETS if name.endswith(".js")))


def _audible(site: Site, dataset: str) -> list[Scene]:
    return [scene for scene in site.audio.of(dataset) if scene.outputs]


def _data_path(dataset: str) -> str:
    return f"data/{slug(dataset)}.audio.js"


def _pages(site: Site) -> Iterator[Page]:
    audible = [dataset for dataset in site.board.datasets.values() if _audible(site, dataset.name)]
    links = [(listen_path(dataset.name), dataset.title) for dataset in audible]
    for dataset in audible:
        scenes = site.audio.of(dataset.name)
        values = {
            "dataset": dataset, "links": links, "scenes": [_view(dataset, scene) for scene in scenes],
            "summary": _summary(site, scenes),
        }  # fmt: skip
        yield Page(listen_path(dataset.name), "listen.html", f"Listen to {dataset.title}", values)


def _summary(site: Site, scenes: list[Scene]) -> str:
    """How much of what the runs kept of a dataset is here."""
    here, gone = sum(len(scene.outputs) for scene in scenes), sum(sum(scene.absent.values()) for scene in scenes)
    text = f"{here} of {here + gone} outputs that the runs kept of {len(scenes)} utterances are here."
    return f"{text} All recordings of this site take {site.audio.used / 1e6:.1f} of at most {site.audio.budget:g} MB."


def _view(dataset: Dataset, scene: Scene) -> dict[str, Any]:
    reference = [("Reference", "the original", scene.reference)] if scene.reference else []
    return {
        "id": scene.utterance, "href": f"{utterance_path(dataset.name)}#{urlencode({'u': scene.utterance})}",
        "absent": _absent(scene),
        "rows": [
            {"system": system, "point": point, **_facts(recording)}
            for system, point, recording in (*reference, *((*entry, r) for entry, r in scene.outputs.items()))
        ],
    }  # fmt: skip


def _facts(recording: Recording) -> dict[str, str]:
    return {
        "src": f"audio/{recording.name}.flac",
        "loudness": "silent" if recording.loudness is None else _decibels(recording.loudness),
        "peak": "–" if recording.peak is None else _decibels(recording.peak),
        "clipped": str(recording.clipped),
    }  # fmt: skip


def _decibels(value: float) -> str:
    return number(value, 1).replace("-", "−")


def _absent(scene: Scene) -> list[str]:
    return [f"{count} {'output' if count == 1 else 'outputs'}: {why}" for why, count in sorted(scene.absent.items())]


def _write(site: Site, out: Path) -> Iterator[str]:
    yield from site.audio.write(out)
    for name in site.board.datasets:
        if scenes := _audible(site, name):
            (out / "data").mkdir(exist_ok=True)
            told = {"utterances": [_told(scene) for scene in scenes], "page": listen_path(name)}
            path = _data_path(name)
            (out / path).write_text(f"self.codecbenchListening={script_json(told)};\n", encoding="utf-8", newline="\n")
            yield path


def _told(scene: Scene) -> dict[str, Any]:
    """What the player is told of an utterance."""
    return {
        "id": scene.utterance, "shown": clean(scene.utterance), "absent": _absent(scene),
        "reference": scene.reference and _file(scene.reference),
        "outputs": [{"key": entry_key(*entry), **_file(recording)} for entry, recording in scene.outputs.items()],
    }  # fmt: skip


def _file(recording: Recording) -> dict[str, Any]:
    return {
        "name": recording.name, "rate": recording.rate, "loudness": recording.loudness, "peak": recording.peak,
        "clipped": recording.clipped,
    }  # fmt: skip


PAGE = PageType("listen", "Listen", _pages, write=_write, assets=ASSETS)
