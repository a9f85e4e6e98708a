"""What `check` found in files that have not changed since: they are not decoded again.

A file is the same if its path, inode, size and times of change are, as `git` and `make` take it. The time of change of
an inode is the kernel's, and cannot be set. A file that changed within the last seconds is not trusted, since it may
change once more within the resolution of that time. Before anything is scored, what is read is compared with the digest
that was found here, so a file that fooled this one would be told, not scored.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from codecbench.benchmark import provenance
from codecbench.benchmark.datasets import base
from codecbench.benchmark.datasets.base import Checked, Dataset, Utterance
from codecbench.metrics.base import Cache

SETTLED_SECONDS = 2.0


def check_changed(
    dataset: Dataset, cache: Cache | None, progress: Callable[[int, int], None] | None = None
) -> list[Checked]:
    """`codecbench.benchmark.datasets.base.check`, which raises likewise; `cache` keeps what it found."""
    if cache is None:
        return base.check(dataset, progress)
    now = time.time()
    states = {utterance.id: _state(utterance, now) for utterance in dataset.utterances}
    key = {
        "what": "checked", "dataset": dataset.card.name, "channels": dataset.card.channels,
        "max_duration": dataset.card.max_duration, "source": provenance.source_digest(Path(base.__file__)),
        "environment": provenance.environment(),
    }  # fmt: skip
    before: dict[str, Any] = cache.get(key) or {}
    known = {
        name: Checked(**{**facts, "flags": tuple(facts["flags"])})
        for name, (state, facts) in before.items()
        if state is not None and states.get(name) == state
    }
    found = base.check(dataset, progress, known)
    if len(known) < len(found):
        settled = {c.id: [states[c.id], {**asdict(c), "flags": list(c.flags)}] for c in found if states[c.id]}
        cache.put(key, {**before, **settled})
    return found


def _state(utterance: Utterance, now: float) -> list[Any] | None:
    """What changes when the file does; None if it is absent or has changed just now."""
    try:
        facts = utterance.path.stat()
    except OSError:
        return None
    if now - facts.st_ctime < SETTLED_SECONDS:
        return None
    path = str(utterance.path.absolute()).encode("utf-8", "backslashreplace").decode()
    return [path, facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, utterance.sha256]
