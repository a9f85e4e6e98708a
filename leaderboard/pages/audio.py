"""The recordings that a site takes along: which, how loud they are, and what had to stay behind.

A recording is a FLAC file, taken unchanged: another coder would be heard on top of the one that is judged. It comes
twice, as ``audio/NAME.flac`` for the browser's own player and for saving, and as ``audio/NAME.js``, the same bytes in
base64: scripts of a page opened from a folder may not read files, but may load other scripts.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from math import log10
from pathlib import Path

import numpy as np

from codecbench.leaderboard.loudness import loudness
from codecbench.leaderboard.recordings import Kept, content
from codecbench.leaderboard.scores import Entry

BUDGET = 50.0
"""Megabytes (10⁶ bytes) of recordings in a site unless told otherwise."""
NAME_LENGTH = 32
FULL_SCALE = 32_767 / 32_768


@dataclass(frozen=True)
class Recording:
    """A file to listen to.

    Attributes:
        name: The first half of the SHA-256 of its content, in hexadecimal.
        source: Where it lies.
        size: Its bytes.
        rate: Its sample rate in Hz.
        seconds: Its duration.
        loudness: In LUFS; None for silence.
        peak: Of its samples, in dB of full scale; None if all are 0.
        clipped: The number of its samples at full scale.
    """

    name: str
    source: Path
    size: int
    rate: int
    seconds: float
    loudness: float | None
    peak: float | None
    clipped: int

    @property
    def cost(self) -> int:
        """The bytes that it takes in the site."""
        return self.size + len(_sidecar(self.name, "")) + 4 * -(-self.size // 3)


@dataclass
class Scene:
    """An utterance that can be heard: its original, and the outputs of some entries.

    `absent` says why outputs that the runs kept are not among them: how many a reason.
    """

    dataset: str
    utterance: str
    reference: Recording | None = None
    outputs: dict[Entry, Recording] = field(default_factory=dict)
    absent: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Audio:
    """The recordings of a site: `scenes` in the order of their datasets and utterances, `used` bytes of `budget` MB."""

    budget: float = BUDGET
    used: int = 0
    scenes: tuple[Scene, ...] = ()

    def of(self, dataset: str) -> list[Scene]:
        """The utterances of `dataset` of which runs kept audio."""
        return [scene for scene in self.scenes if scene.dataset == dataset]

    def write(self, out: Path) -> Iterator[str]:
        """Write the recordings into the folder `out` of the site, and give the paths of the files there."""
        for name, recording in sorted(self._recordings().items()):
            (out / "audio").mkdir(exist_ok=True)
            data = content(recording.source)
            (out / f"audio/{name}.flac").write_bytes(data)
            sidecar = _sidecar(name, base64.b64encode(data).decode())
            (out / f"audio/{name}.js").write_text(sidecar, encoding="ascii", newline="\n")
            yield from (f"audio/{name}.flac", f"audio/{name}.js")

    def _recordings(self) -> dict[str, Recording]:
        every = chain.from_iterable(
            (scene.reference, *scene.outputs.values()) for scene in self.scenes if scene.outputs
        )
        return {recording.name: recording for recording in every if recording}


def choose(kept: Sequence[Kept], entries: Sequence[Entry], budget: float = BUDGET) -> Audio:
    """The recordings that fit into `budget` megabytes.

    Utterances take turns over the datasets, and the outputs of an utterance over the systems: one point of each, then
    a second one of each. What does not fit is left out, and counted with its reason. The same recordings give the same
    choice on every machine.

    Args:
        kept: What the runs kept.
        entries: Those that the site shows; others are left out.
        budget: For files and sidecars together; 0 for no audio.
    """
    scenes: list[Scene] = []
    known: dict[Path, Recording | str] = {}
    taken: set[str] = set()
    used, room = 0, int(budget * 1e6)
    for items in _in_turn(kept, entries):
        scene = Scene(items[0].dataset, items[0].utterance)
        scenes.append(scene)
        for item in items:
            pair = [_read(path, known) for path in (item.reference, item.output) if path]
            if reasons := [found for found in pair if isinstance(found, str)]:
                scene.absent[reasons[0]] = scene.absent.get(reasons[0], 0) + 1
                continue
            new = {found.name: found for found in pair if isinstance(found, Recording) and found.name not in taken}
            cost = sum(recording.cost for recording in new.values())
            if used + cost > room:
                reason = f"did not fit into the budget of {budget:g} MB"
                scene.absent[reason] = scene.absent.get(reason, 0) + 1
                continue
            used, taken = used + cost, taken | set(new)
            scene.reference, scene.outputs[item.system, item.point] = pair  # type: ignore[assignment]
    return Audio(budget, used, tuple(sorted(scenes, key=lambda scene: (scene.dataset, scene.utterance))))


def _in_turn(kept: Sequence[Kept], entries: Sequence[Entry]) -> list[list[Kept]]:
    """The items with audio of each utterance, in the order in which they are taken."""
    turn = _turns(entries)
    utterances: dict[str, dict[str, list[Kept]]] = {}
    for item in kept:
        if item.output and item.reference and (item.system, item.point) in turn:
            utterances.setdefault(item.dataset, {}).setdefault(item.utterance, []).append(item)
    rounds = zip_longest(*(by_id.values() for _, by_id in sorted(utterances.items())))
    return [sorted(items, key=lambda item: turn[item.system, item.point]) for items in chain(*rounds) if items]


def _turns(entries: Sequence[Entry]) -> Mapping[Entry, tuple[int, int]]:
    """Which point of its system an entry is, and where it stands among all."""
    points: dict[str, int] = {}
    turn = {}
    for place, (system, point) in enumerate(entries):
        turn[system, point] = (points.setdefault(system, 0), place)
        points[system] += 1
    return turn


def _read(path: Path, known: dict[Path, Recording | str]) -> Recording | str:
    """The recording in `path`, or why there is none."""
    if path not in known:
        try:
            known[path] = _measure(path, content(path))
        except ValueError as error:
            known[path] = str(error)
    return known[path]


def _measure(path: Path, data: bytes) -> Recording:
    import soundfile

    try:
        samples, rate = soundfile.read(io.BytesIO(data), dtype="float64", always_2d=True)
    except soundfile.SoundFileError as error:
        raise ValueError(f"{path.name} cannot be decoded: {error}") from None
    mono = samples.mean(1)
    level, peak = loudness(mono, rate), float(np.abs(samples).max(initial=0.0))
    return Recording(
        path.stem[:NAME_LENGTH], path, len(data), int(rate), len(mono) / rate,
        None if level is None else round(level, 2), round(20 * log10(peak), 2) if peak else None,
        int((np.abs(samples) >= FULL_SCALE).sum()),
    )  # fmt: skip


def _sidecar(name: str, text: str) -> str:
    return f'(self.codecbenchAudio??={{}})["{name}"]="{text}";\n'
