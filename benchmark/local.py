"""The local engine: units of work over processes of this machine, each spawned, with its own pipe."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import cast
from unittest.mock import patch

from codecbench.benchmark import worker as worker_module
from codecbench.benchmark.dispatch import LISTEN_SECONDS, Death, Engine, Message, WorkerHandle
from codecbench.benchmark.plan import Needs, Plan, Unit
from codecbench.benchmark.resources import pin_threads

HOSTS_END_SECONDS = 5.0
_SPAWN = multiprocessing.get_context("spawn")


class Lifeline:
    """A pipe whose one end all processes below workers hold, so that the last end can be waited for."""

    def __init__(self) -> None:
        self._last_end, self.held = _SPAWN.Pipe(duplex=False)

    def wait(self) -> None:
        """Wait until nobody holds it: the last supervisor of a host has ended."""
        self.held.close()
        self._last_end.poll(HOSTS_END_SECONDS)


class WorkerProcess(WorkerHandle):
    """A worker that is a process of this machine.

    Args:
        plan: What it is to know.
        lifeline: Given to all that it starts.
        needs: What it was given.
    """

    def __init__(self, plan: Plan, lifeline: Lifeline, needs: Needs = Needs()) -> None:  # noqa: B008 - frozen
        super().__init__(needs)
        self.connection: Connection
        self.connection, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=worker_module.main, args=(theirs, plan, lifeline.held))
        with patch.dict(os.environ, pin_threads({})):  # read by numeric libraries when the child imports them
            self._process.start()
        theirs.close()

    def send(self, unit: Unit) -> None:
        """Give it a unit. If it has died, its next message says so."""
        with suppress(OSError):
            self.connection.send(unit)

    def receive(self) -> list[Message]:
        """The next message."""
        try:
            message: Message = self.connection.recv()
        except (EOFError, OSError):
            return [("died", self.end(patience=2))]
        return [message]

    def kill(self) -> None:
        """Kill it, without waiting."""
        self.connection.close()
        self._process.kill()

    def end(self, patience: float = 0) -> Death:
        """Kill it, if it has not ended within so many seconds."""
        self._process.join(patience)
        self.kill()  # one that closed its pipe may live on
        self._process.join()
        return Death.of(self._process.exitcode)


class LocalEngine(Engine):
    """Runs units on `jobs` processes."""

    def __init__(self, plan: Plan, jobs: int) -> None:
        super().__init__(plan, jobs)
        self._lifeline = Lifeline()

    def close(self) -> None:
        """Kill every worker, and wait for it and for all that it started."""
        for worker in cast("list[WorkerProcess]", self._workers):
            worker.kill()
        super().close()
        self._lifeline.wait()

    def _start(self, needs: Needs) -> WorkerProcess:
        return WorkerProcess(self.plan, self._lifeline, needs)

    def _ready(self) -> Sequence[WorkerHandle]:
        workers = cast("list[WorkerProcess]", self._workers)
        ready = wait([worker.connection for worker in workers], timeout=LISTEN_SECONDS)
        return [worker for worker in workers if worker.connection in ready]
