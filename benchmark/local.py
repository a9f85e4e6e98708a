"""The local engine: units of work over processes of this machine.

Each worker is a spawned process with its own pipe. A worker that dies takes nothing with it: finished items have
been told, the item in hand gets a verdict, the rest goes to a fresh process.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any
from unittest.mock import patch

from codecbench.benchmark import worker as worker_module
from codecbench.benchmark.isolation.levels import LOAD_SECONDS
from codecbench.benchmark.plan import Plan, Unit, Verdict
from codecbench.benchmark.resources import pin_threads
from codecbench.benchmark.unit_queue import UnitQueue
from codecbench.errors import InfrastructureError

LOST_RETRIES = 2
"""How often an item is tried again after something outside the system killed its process."""
HOSTS_END_SECONDS = 5.0
_FOREIGN_SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

Message = tuple[Any, ...]


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    unit: Unit | None = None
    system: str = ""
    utterance: str = ""
    deadline: float = float("inf")
    done: set[tuple[str, str]] = field(default_factory=set)


class LocalEngine:
    """Runs units on `jobs` processes.

    Args:
        plan: Sent to every worker once.
        jobs: Number of processes.
    """

    def __init__(self, plan: Plan, jobs: int) -> None:
        self.plan = plan
        self.jobs = jobs
        self._queue = UnitQueue()
        self._workers: list[_Worker] = []
        self._verdicts: dict[tuple[str, str], dict[str, Verdict]] = {}
        self._lost: Counter[tuple[str, str, str]] = Counter()
        self._spawn = multiprocessing.get_context("spawn")
        self._last_end, self._lifeline = self._spawn.Pipe(duplex=False)

    def run(self, units: list[Unit], stop: Callable[[], bool] = lambda: False) -> Iterator[Message]:
        """Run `units`, yielding ``record``, ``corpus`` and ``invalid`` messages until all are done or `stop()`.

        No process of the engine outlives the iterator, however it ends.
        """
        self._queue = UnitQueue(units)
        try:
            while (self._queue or any(w.unit for w in self._workers)) and not stop():
                self._assign()
                for worker in self._ready():
                    yield from self._listen(worker)
                self._kill_overdue()
        finally:
            self.close()

    def close(self) -> None:
        """Kill every worker, and wait for it and for all that it started."""
        for worker in self._workers:
            worker.connection.close()
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
        self._workers.clear()
        self._lifeline.close()
        self._last_end.poll(HOSTS_END_SECONDS)  # its end, which comes when the last supervisor of a host has ended

    def _assign(self) -> None:
        idle = [worker for worker in self._workers if worker.unit is None]
        while self._queue and (idle or len(self._workers) < self.jobs):
            worker = idle.pop() if idle else self._start()
            others = {w.unit.system for w in self._workers if w.unit}
            self._give(worker, self._queue.take(worker.system, others))

    def _start(self) -> _Worker:
        ours, theirs = self._spawn.Pipe()
        process = self._spawn.Process(target=worker_module.main, args=(theirs, self.plan, self._lifeline))
        with patch.dict(os.environ, pin_threads({})):  # read by numeric libraries when the child imports them
            process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self._workers.append(worker)
        return worker

    def _give(self, worker: _Worker, unit: Unit) -> None:
        unit = replace(unit, verdicts=dict(self._verdicts.get((unit.system, unit.dataset), {})))
        worker.unit, worker.system, worker.done = unit, unit.system, set()
        worker.utterance, worker.deadline = "", self._deadline(unit)
        with suppress(OSError):  # it died idle: the next look at its pipe finds that out
            worker.connection.send(unit)

    def _ready(self) -> list[_Worker]:
        ready = wait([worker.connection for worker in self._workers], timeout=0.2)
        return [worker for worker in self._workers if worker.connection in ready]

    def _listen(self, worker: _Worker) -> Iterator[Message]:
        try:
            message: Message = worker.connection.recv()
        except (EOFError, OSError):
            self._bury(worker)
            return
        if message[0] == "start":
            worker.utterance = message[1]
            worker.deadline = self._deadline(worker.unit) if worker.unit else float("inf")
        elif message[0] == "idle":
            worker.unit, worker.deadline = None, float("inf")
        elif message[0] == "retire":
            self._remove(worker)
            self._requeue(worker)
        elif message[0] == "invalid":
            yield message
            self._condemn(message[1], message[2])
            self._requeue(worker)
        else:
            if message[0] == "record":
                worker.done.add((message[1]["utterance"], message[1]["point"]))
            yield message

    def _hosted(self, unit: Unit) -> bool:
        """Its adapter runs in a process below the worker, which deals with its faults."""
        return self.plan.systems[unit.system].isolation != "none"

    def _deadline(self, unit: Unit) -> float:
        """When a worker is killed: an item's time limit; where hosts keep that, it is for metrics, and generous."""
        patience = 2 * self.plan.timeout + LOAD_SECONDS if self._hosted(unit) else self.plan.timeout
        return time.monotonic() + patience

    def _condemn(self, system: str, reason: str) -> None:
        """Give every item of a system that cannot load the verdict of its system."""
        for dataset, planned in self.plan.datasets.items():
            verdicts = self._verdicts.setdefault((system, dataset), {})
            for utterance in planned.dataset.utterances:
                verdicts[utterance.id] = ("failed", reason)

    def _kill_overdue(self) -> None:
        for worker in list(self._workers):
            if time.monotonic() > worker.deadline:
                worker.process.kill()
                worker.process.join()
                ours = worker.unit is not None and self._hosted(worker.unit)
                self._bury(worker, ("error" if ours else "failed", f"timeout({self.plan.timeout:g} s)"))

    def _bury(self, worker: _Worker, verdict: Verdict | None = None) -> None:
        """Take note of a death: a verdict for the item in hand, and the rest of the unit to the front of the queue."""
        self._remove(worker)
        if worker.unit is None:
            return
        verdict = verdict or self._verdict(worker, worker.unit)
        if worker.utterance in worker.unit.verdicts and verdict:
            raise InfrastructureError(
                f"a metric ended its process ({_died(worker.process.exitcode)}) on {worker.unit.dataset}/"
                f"{worker.utterance}, whatever the system: leave out the metric or, as known_bad, the recording"
            )
        if verdict:
            verdicts = self._verdicts.setdefault((worker.unit.system, worker.unit.dataset), {})
            blamed = [worker.utterance] if worker.utterance else [utterance for utterance, _ in worker.unit.items]
            verdicts.update(dict.fromkeys(blamed, verdict))
        self._requeue(worker)

    def _remove(self, worker: _Worker) -> None:
        worker.process.join(2)
        worker.process.kill()  # one that closed its pipe and lives on
        worker.process.join()
        worker.connection.close()
        self._workers.remove(worker)

    def _requeue(self, worker: _Worker) -> None:
        if worker.unit is None:
            return
        left = [(name, tuple(p for p in points if (name, p) not in worker.done)) for name, points in worker.unit.items]
        if items := tuple((name, points) for name, points in left if points):
            self._queue.put_back(replace(worker.unit, items=items))

    def _verdict(self, worker: _Worker, unit: Unit) -> Verdict | None:
        """What the death of a worker says of the item in hand (of its system, if none was); None to try it again."""
        code = worker.process.exitcode
        if self._hosted(unit) or (code is not None and -code in _FOREIGN_SIGNALS):
            key = (unit.system, unit.dataset, worker.utterance)
            self._lost[key] += 1
            return None if self._lost[key] <= LOST_RETRIES else ("error", f"worker_lost({_died(code)})")
        return "failed", f"{'crash' if worker.utterance else 'load'}({_died(code)})"


def _died(code: int | None) -> str:
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit {code}"
