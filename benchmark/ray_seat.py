"""A place for one worker on a node of a Ray cluster.

An actor of Ray that dies tells little of why. So the worker is a process below the actor, the same that the local
engine starts: its exit code says what a death means, and an adapter that ends it leaves the actor standing.

What the node lacks comes with the units: recordings, under names made from their paths. What the worker keeps in a run
folder that is not the coordinator's goes back with its messages.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, cast
from unittest.mock import patch

from codecbench.benchmark.datasets.base import Dataset, Utterance
from codecbench.benchmark.dispatch import Death, Message
from codecbench.benchmark.environment import versions
from codecbench.benchmark.local import Lifeline, WorkerProcess
from codecbench.benchmark.plan import Plan, Unit
from codecbench.errors import InfrastructureError
from codecbench.models.registry import file_of
from codecbench.paths import sha256_of

POLL_SECONDS = 0.5
MOST_MESSAGES = 32
"""In one answer. A worker that is ahead of the coordinator waits, once its pipe is full."""
LAST_WORDS = ("idle", "retire", "died")


@dataclass(frozen=True)
class Origin:
    """The coordinator's side, which a seat takes over, or compares its node with.

    Attributes:
        folder: Its working folder.
        environment: Variables that say where things are.
        versions: Of everything that numbers depend on.
        mark: What is written in the lock of the run folder.
    """

    folder: Path
    environment: Mapping[str, str]
    versions: Mapping[str, str]
    mark: str


@dataclass(frozen=True)
class Arrival:
    """What a seat finds on its node: the node's name, and the datasets of which it lacks recordings."""

    node: str
    lacking: frozenset[str]


class Seat:
    """The actor."""

    def __init__(self) -> None:
        self._scratch: Path | None = None
        self._lifeline = Lifeline()
        self._worker: WorkerProcess | None = None
        self._sent: dict[Path, int] = {}

    def arrive(self, plan: Plan, origin: Origin) -> Arrival:
        """Look at the node, and start the worker.

        Raises:
            InfrastructureError: Results from this node would not be those of the coordinator's.
        """
        os.environ.update(origin.environment)
        with suppress(OSError):  # relative paths mean the same, where there is the same folder
            os.chdir(origin.folder)
        node = socket.gethostname()
        if differs := difference(node, plan, origin):
            raise InfrastructureError(differs)
        lacking = frozenset(
            name for name, planned in plan.datasets.items()
            if not all(path.exists() for u in planned.dataset.utterances for path in recordings_of(u))
        )  # fmt: skip
        if lacking or not origin.mark or mark_of(plan.folder) != origin.mark:
            self._scratch = scratch = Path(tempfile.mkdtemp(prefix="codecbench-"))
            datasets = {
                name: replace(planned, dataset=moved(planned.dataset, scratch)) if name in lacking else planned
                for name, planned in plan.datasets.items()
            }
            plan = replace(plan, datasets=datasets, folder=scratch / "run")
        # The main module here is Ray's, which a spawned process need not import.
        with patch.dict(sys.modules, {"__main__": ModuleType("__main__")}):
            self._worker = WorkerProcess(plan, self._lifeline)
        return Arrival(node, lacking)

    def ask(self, unit: Unit | None = None, files: Mapping[str, Any] | None = None) -> list[Message]:
        """Give the worker `unit`, if any, and return what it says within `POLL_SECONDS`.

        Args:
            unit: What to do.
            files: Recordings that the node lacks: references to their content, by name.
        """
        import ray

        scratch, worker = cast("Path", self._scratch), cast("WorkerProcess", self._worker)
        for name, content in (files or {}).items():
            (scratch / name).write_bytes(ray.get(content))
        if unit:
            worker.send(unit)
        messages: list[Message] = []
        while len(messages) < MOST_MESSAGES and worker.connection.poll(0 if messages else POLL_SECONDS):
            (message,) = worker.receive()
            if message[0] in LAST_WORDS or (message[0] == "record" and "evidence" in message[1]):
                messages += [("file", *file) for file in self._new_files()]
            messages.append(message)
            if message[0] in LAST_WORDS:
                break
        return messages

    def end(self, patience: float) -> Death:
        """End the worker and all that it started, and leave nothing on the node."""
        death = self._worker.end(patience) if self._worker else Death("not started", foreign=True)
        self._lifeline.wait()
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)
        return death

    def _new_files(self) -> Iterator[tuple[str, bytes]]:
        """What the worker has put into a run folder that is this seat's alone, since the last look."""
        run = self._scratch / "run" if self._scratch else None
        for path in sorted(run.rglob("[!.]*")) if run else ():
            if path.is_file() and self._sent.get(path) != path.stat().st_size:
                data = path.read_bytes()
                self._sent[path] = len(data)
                yield path.relative_to(cast("Path", run)).as_posix(), data


def difference(node: str, plan: Plan, origin: Origin) -> str:
    """Why `node` would give other results than the coordinator; empty if it would not."""
    here = versions()
    for name, there in sorted(origin.versions.items()):
        if here.get(name) != there:
            return f"node {node} has {name} {here.get(name) or 'not at all'}, the coordinator {there}: install the same"
    for system in plan.systems.values():
        file = file_of(system.target)
        if file and not file.is_file():
            return f"node {node} has no {file}: put adapters where all nodes see them"
        if file and sha256_of(file) != system.code:
            return f"node {node} has another {file} than the coordinator: put adapters where all nodes see them"
    return ""


def mark_of(folder: Path) -> str:
    """What the coordinator that holds `folder` has written into its lock; empty if there is none."""
    try:
        return (folder / ".lock").read_text(encoding="utf-8")
    except OSError:
        return ""


def recordings_of(utterance: Utterance) -> Iterator[Path]:
    """The files of an utterance: its recording, and those of its request."""
    yield utterance.path
    if utterance.asked:
        yield from (path for path in (utterance.asked.prompt, utterance.asked.reference) if path)


def name_of(path: Path) -> str:
    """What the file at `path` is called where it has been brought to."""
    return hashlib.sha256(os.fsencode(path)).hexdigest() + path.suffix


def moved(dataset: Dataset, folder: Path) -> Dataset:
    """`dataset` with all its files in `folder`, by `name_of`."""

    def move(path: Path | None) -> Path | None:
        return folder / name_of(path) if path else None

    return replace(dataset, utterances=tuple(
        replace(
            u, path=folder / name_of(u.path),
            asked=replace(u.asked, prompt=move(u.asked.prompt), reference=move(u.asked.reference)) if u.asked else None,
        )
        for u in dataset.utterances
    ))  # fmt: skip
