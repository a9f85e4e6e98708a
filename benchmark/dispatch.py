"""What all engines do alike: which worker gets which unit, and what the loss of a worker means.

An engine differs in how it starts workers, hears from them and ends them. What a worker says is described in
`codecbench.benchmark.worker`; an engine adds ``("died", death)`` when one has ended without being asked to. A worker
that dies takes nothing with it: finished items have been told, the item in hand gets a verdict, the rest goes to
another worker.
"""

from __future__ import annotations

import signal
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from codecbench.benchmark.isolation.levels import LOAD_SECONDS
from codecbench.benchmark.plan import Needs, Plan, Unit, Verdict
from codecbench.benchmark.probe import recordings_for
from codecbench.benchmark.unit_queue import UnitQueue
from codecbench.errors import InfrastructureError

LOST_RETRIES = 2
"""How often an item is tried again after something outside the system killed its process."""
LISTEN_SECONDS = 0.2
"""How long an engine waits for a message before it looks at time limits and interrupts."""
_FOREIGN_SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

Message = tuple[Any, ...]


@dataclass(frozen=True)
class Death:
    """How a worker ended: in words, and whether something outside the system did it."""

    cause: str
    foreign: bool

    @classmethod
    def of(cls, code: int | None) -> Death:
        """The death of a process with this exit code (minus the signal)."""
        if code is not None and code < 0:
            return cls(signal.Signals(-code).name, -code in _FOREIGN_SIGNALS)
        return cls(f"exit {code}", foreign=False)


class WorkerHandle(ABC):
    """A worker as its engine holds it.

    Attributes:
        needs: What it was given of its machine.
        up: It can take a unit; False while it is still to be started.
        unit: What it works on; None while it waits.
        system: The last system that it was given, which it keeps loaded.
        utterance: The item in hand; empty before the first of its unit.
        deadline: When it is ended, by the monotonic clock.
        done: What it has told of its unit: (utterance, point).
    """

    def __init__(self, needs: Needs, up: bool = True) -> None:
        self.needs, self.up = needs, up
        self.unit: Unit | None = None
        self.system = self.utterance = ""
        self.deadline = float("inf")
        self.done: set[tuple[str, str]] = set()

    @abstractmethod
    def send(self, unit: Unit) -> None:
        """Give it a unit. If it has died, its next message says so."""

    @abstractmethod
    def receive(self) -> list[Message]:
        """What it has said, once it is ready; after ``died`` it has ended, and says no more."""

    @abstractmethod
    def end(self, patience: float = 0) -> Death:
        """End it, if it has not ended within so many seconds; how it ended."""


class Engine(ABC):
    """Runs the units of a plan on up to `jobs` workers.

    Args:
        plan: Sent to every worker once.
        jobs: Number of workers.
    """

    def __init__(self, plan: Plan, jobs: int) -> None:
        self.plan = plan
        self.jobs = jobs
        self._queues: dict[Needs, UnitQueue] = {}
        self._workers: list[WorkerHandle] = []
        self._verdicts: dict[tuple[str, str], dict[str, Verdict]] = {}
        self._lost: Counter[tuple[str, str, str]] = Counter()

    @abstractmethod
    def _start(self, needs: Needs) -> WorkerHandle:
        """A new worker."""

    @abstractmethod
    def _ready(self) -> Sequence[WorkerHandle]:
        """The workers that have something to say, after `LISTEN_SECONDS` at most."""

    def _needs(self, system: str) -> Needs:  # noqa: ARG002 - for engines that tell systems apart
        """What a worker must have for a system; equal needs share workers."""
        return Needs()

    def _room(self, needs: Needs) -> int:  # noqa: ARG002
        """How many workers of these needs there may be at once."""
        return self.jobs

    def run(self, units: Sequence[Unit], stop: Callable[[], bool] = lambda: False) -> Iterator[Message]:
        """Run `units`, yielding ``record``, ``corpus``, ``note`` and ``invalid`` until all are done or `stop()`.

        No process of the engine outlives the iterator, however it ends.
        """
        try:
            for needs in {self._needs(system): None for system in self.plan.systems}:
                self._queues[needs] = UnitQueue(unit for unit in units if self._needs(unit.system) == needs)
            while (any(self._queues.values()) or any(w.unit for w in self._workers)) and not stop():
                self._assign()
                for worker in self._ready():
                    yield from self._listen(worker)
                self._end_overdue()
        finally:
            self.close()

    def close(self) -> None:
        """End every worker."""
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    def _assign(self) -> None:
        """Give every worker that waits a unit, and start workers for the rest; those that no unit suits make room."""
        for needs, queue in self._queues.items():
            for worker in [w for w in self._workers if w.needs == needs and w.up and not w.unit]:
                if queue:
                    self._give(worker, queue)
                elif any(self._queues.values()):
                    worker.end()
                    self._workers.remove(worker)
        for needs, queue in self._queues.items():
            while queue and self._may_start(needs, len(queue)):
                worker = self._start(needs)
                self._workers.append(worker)
                if worker.up:
                    self._give(worker, queue)

    def _may_start(self, needs: Needs, waiting: int) -> bool:
        alike = [worker for worker in self._workers if worker.needs == needs]
        starting = sum(not worker.up for worker in alike)
        return starting < waiting and len(alike) < self._room(needs) and len(self._workers) < self.jobs

    def _give(self, worker: WorkerHandle, queue: UnitQueue) -> None:
        unit = queue.take(worker.system, {w.unit.system for w in self._workers if w.unit})
        unit = replace(unit, verdicts=self._verdicts_on(unit))
        worker.unit, worker.system, worker.done = unit, unit.system, set()
        worker.utterance, worker.deadline = "", self._deadline(unit)
        worker.send(unit)

    def _verdicts_on(self, unit: Unit) -> dict[str, Verdict]:
        """The verdicts on its items and on the recordings that probe a system; a dataset may have many more."""
        known = self._verdicts.get((unit.system, unit.dataset))
        if not known:
            return {}
        return {name: known[name] for name in recordings_for(self.plan, unit) if name in known}

    def _listen(self, worker: WorkerHandle) -> Iterator[Message]:
        for message in worker.receive():
            if message[0] == "start":
                worker.utterance = message[1]
                worker.deadline = self._deadline(worker.unit) if worker.unit else float("inf")
            elif message[0] == "idle":
                worker.unit, worker.deadline = None, float("inf")
            elif message[0] == "died":
                self._bury(worker, message[1])
            elif message[0] == "retire":
                worker.end(patience=2)
                self._workers.remove(worker)
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
        """When a worker is ended: an item's time limit; where hosts keep that, it is for metrics, and generous."""
        hosted = (1 + self.plan.batch) * self.plan.timeout + LOAD_SECONDS
        patience = hosted if self._hosted(unit) else self.plan.timeout
        return time.monotonic() + patience

    def _condemn(self, system: str, reason: str) -> None:
        """Give every item of a system that cannot load the verdict of its system."""
        for dataset, planned in self.plan.datasets.items():
            verdicts = self._verdicts.setdefault((system, dataset), {})
            for utterance in planned.dataset.utterances:
                verdicts[utterance.id] = ("failed", reason)

    def _end_overdue(self) -> None:
        for worker in list(self._workers):
            if time.monotonic() > worker.deadline:
                death = worker.end()
                ours = worker.unit is not None and self._hosted(worker.unit)
                self._bury(worker, death, ("error" if ours else "failed", f"timeout({self.plan.timeout:g} s)"))

    def _bury(self, worker: WorkerHandle, death: Death, verdict: Verdict | None = None) -> None:
        """Take note of a death: a verdict for the item in hand, and the rest of the unit to the front of the queue."""
        self._workers.remove(worker)
        if worker.unit is None:
            return
        verdict = verdict or self._verdict(worker, worker.unit, death)
        if worker.utterance in worker.unit.verdicts and verdict:
            raise InfrastructureError(
                f"a metric ended its process ({death.cause}) on {worker.unit.dataset}/"
                f"{worker.utterance}, whatever the system: leave out the metric or, as known_bad, the recording"
            )
        if verdict:
            verdicts = self._verdicts.setdefault((worker.unit.system, worker.unit.dataset), {})
            blamed = [worker.utterance] if worker.utterance else [utterance for utterance, _ in worker.unit.items]
            verdicts.update(dict.fromkeys(blamed, verdict))
        self._requeue(worker)

    def _requeue(self, worker: WorkerHandle) -> None:
        if worker.unit is None:
            return
        left = [(name, tuple(p for p in points if (name, p) not in worker.done)) for name, points in worker.unit.items]
        if items := tuple((name, points) for name, points in left if points):
            self._queues[worker.needs].put_back(replace(worker.unit, items=items))

    def _verdict(self, worker: WorkerHandle, unit: Unit, death: Death) -> Verdict | None:
        """What a death says of the item in hand (of its system, if none was); None to try it again."""
        if self._hosted(unit) or death.foreign:
            key = (unit.system, unit.dataset, worker.utterance)
            self._lost[key] += 1
            return None if self._lost[key] <= LOST_RETRIES else ("error", f"worker_lost({death.cause})")
        return "failed", f"{'crash' if worker.utterance else 'load'}({death.cause})"
