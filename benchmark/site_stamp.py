"""Whether a site is what building it again would give: the same runs, the same program, and no file of it touched."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import codecbench
from codecbench.benchmark import provenance
from codecbench.benchmark.cache import DiskCache
from codecbench.paths import cache_dir, sha256_of


class SiteStamp:
    """What the site in a folder was made from when it was last built.

    Args:
        runs: The run folders.
        out: The folder of the site.
        audio_budget: Megabytes of recordings in it.
    """

    def __init__(self, runs: Sequence[Path], out: Path, audio_budget: float) -> None:
        self._cache = DiskCache(cache_dir("work", "sites"))
        self._key = {"what": "site", "folder": ascii(out.resolve())}
        self._out = out
        program = sorted(file for file in (Path(codecbench.__file__).parent / "leaderboard").rglob("*.*"))
        self._made_from = [
            audio_budget, provenance.environment(),
            _digest([sha256_of(file) for file in program if file.suffix != ".pyc"]),
            *([ascii(run.resolve()), _digest(_states(run, "*"))] for run in runs),
        ]  # fmt: skip

    def holds(self) -> bool:
        """Whether nothing has changed since `set`."""
        known = self._cache.get(self._key)
        return known is not None and known == [self._made_from, _digest(_states(self._out, "**/*"))]

    def set(self) -> None:
        """The site has just been built."""
        self._cache.put(self._key, [self._made_from, _digest(_states(self._out, "**/*"))])


def _states(folder: Path, pattern: str) -> list[Any]:
    """Name, size and time of change of every file of `folder` whose name matches."""
    files = sorted(path for path in folder.glob(pattern) if path.is_file() and path.name != ".lock")
    return [[ascii(path), (s := path.stat()).st_size, s.st_mtime_ns] for path in files]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
