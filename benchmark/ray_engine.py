"""The Ray engine: units of work over the nodes of a cluster, one actor a worker (see `codecbench.benchmark.ray_seat`).

Which unit goes where and what a death means is decided in `codecbench.benchmark.dispatch`, as for the local engine.
Here is what is Ray's: resources, and messages over the network. Each worker answers one call at a time, with a bounded
number of messages; nothing is in flight besides.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from codecbench.benchmark.dispatch import LISTEN_SECONDS, Death, Engine, Message, WorkerHandle
from codecbench.benchmark.environment import versions
from codecbench.benchmark.local import HOSTS_END_SECONDS
from codecbench.benchmark.plan import Needs, Plan, Unit
from codecbench.benchmark.probe import recordings_for
from codecbench.benchmark.ray_cluster import Cluster, explained
from codecbench.benchmark.ray_seat import LAST_WORDS, Arrival, Origin, Seat, mark_of, name_of, recordings_of
from codecbench.benchmark.segments import write_atomically
from codecbench.errors import InfrastructureError

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""How often the nodes of the cluster are counted."""
ROOM_SECONDS = 60.0
"""How long no node may be large enough before the run stops: one may be on its way."""
STILLBORN = 5
"""Workers in a row that die before they can be given anything."""
_PASSED = ("CODECBENCH_", "HF_", "XDG_CACHE_HOME")


class SeatHandle(WorkerHandle):
    """A worker on a node.

    Args:
        needs: What it is to be given.
        plan: A reference to the plan.
        origin: A reference to what is so at the coordinator.
        local: The plan itself.
    """

    def __init__(self, needs: Needs, plan: Any, origin: Any, local: Plan) -> None:
        import ray

        super().__init__(needs, up=False)
        self._plan = local
        self._lacking: frozenset[str] = frozenset()
        self._brought: set[Path] = set()
        options = {"memory": int(needs.memory_gb * 1e9)} if needs.memory_gb else {}
        actor = ray.remote(Seat).options(
            num_cpus=needs.cpus, num_gpus=needs.gpus, scheduling_strategy="SPREAD", **options
        )  # fmt: skip
        self.actor = actor.remote()
        self.pending: Any = self.actor.arrive.remote(plan, origin)
        self.node = ""

    def send(self, unit: Unit) -> None:
        """Give it a unit, and the recordings of it that its node lacks."""
        import ray

        files = {}
        if unit.dataset in self._lacking:
            utterances = {u.id: u for u in self._plan.datasets[unit.dataset].dataset.utterances}
            names = recordings_for(self._plan, unit)
            paths = [path for name in names for path in recordings_of(utterances[name]) if path not in self._brought]
            files = {name_of(path): ray.put(path.read_bytes()) for path in paths}
            self._brought.update(paths)
        self.pending = self.actor.ask.remote(unit, files)

    def receive(self) -> list[Message]:
        """What it answered; then it is asked again, unless it has nothing more to say."""
        import ray
        import ray.exceptions as known

        try:
            answer = ray.get(self.pending)
        except known.RayActorError as error:
            self.pending = None
            self.kill()
            return [("died", _death(error))]
        self.pending = None
        if isinstance(answer, Arrival):
            self.up, self.node, self._lacking = True, answer.node, answer.lacking
            return []
        if not answer or answer[-1][0] not in LAST_WORDS:
            self.pending = self.actor.ask.remote()
        elif answer[-1][0] == "died":
            self.end()
        return cast("list[Message]", answer)

    def end(self, patience: float = 0) -> Death:
        """End it; how it ended."""
        import ray
        import ray.exceptions as known

        death = Death("no answer", foreign=True)
        if self.up:
            with suppress(known.RayError):
                death = ray.get(self.actor.end.remote(patience), timeout=patience + 2 * HOSTS_END_SECONDS)
        self.kill()
        return death

    def kill(self) -> None:
        """Kill the actor, without waiting; its worker dies with it."""
        import ray

        with suppress(Exception):  # there may be no cluster any more
            ray.kill(self.actor)


class RayEngine(Engine):
    """Runs units on the nodes of a Ray cluster.

    Args:
        plan: What to know.
        jobs: Most workers; as many as there is room for, if None.
        address: Of the cluster; None starts one on this machine.
    """

    def __init__(self, plan: Plan, jobs: int | None, address: str | None) -> None:
        self._address, self._cores = address, max(len(os.sched_getaffinity(0)), jobs or 0)
        super().__init__(_absolute(plan), jobs or sys.maxsize)
        self._cluster: Cluster | None = None
        self._shared: tuple[Any, Any] = (None, None)
        self._capacity: dict[Needs, tuple[float, int]] = {}
        self._stillborn = 0
        self._homeless_since: float | None = None

    def run(self, units: Sequence[Unit], stop: Any = lambda: False) -> Any:
        """As `Engine.run`; what Ray raises becomes one line.

        Raises:
            InfrastructureError: There is no cluster or no room in it, its object store is full, its nodes differ.
        """
        import ray
        import ray.exceptions as known

        self._cluster = Cluster(self._address, self._cores)
        try:
            origin = Origin(Path.cwd(), _environment(), versions(), mark_of(self.plan.folder))
            self._shared = ray.put(self.plan), ray.put(origin)
            yield from super().run(units, stop)
        except known.RayError as error:
            raise explained(error) from error
        finally:
            self._shared = (None, None)
            self._cluster.close()

    def close(self) -> None:
        """End every worker, all at once, and wait for what they started."""
        import ray

        seats = cast("list[SeatHandle]", self._workers)
        with suppress(Exception):  # there may be no cluster any more
            ray.wait(
                ending := [seat.actor.end.remote(0) for seat in seats if seat.up],
                num_returns=len(ending), timeout=2 * HOSTS_END_SECONDS,
            )  # fmt: skip
        for seat in seats:
            seat.kill()
        seats.clear()

    def _needs(self, system: str) -> Needs:
        return self.plan.systems[system].needs

    def _start(self, needs: Needs) -> WorkerHandle:
        return SeatHandle(needs, *self._shared, self.plan)

    def _room(self, needs: Needs) -> int:
        cluster = cast("Cluster", self._cluster)
        looked, found = self._capacity.get(needs, (float("-inf"), 0))
        if time.monotonic() - looked > LOOK_SECONDS:
            found = cluster.capacity(needs)
            self._capacity[needs] = time.monotonic(), found
        return found

    def _assign(self) -> None:
        super()._assign()
        homeless = [needs for needs, queue in self._queues.items() if queue and not self._room(needs)]
        if not homeless or self._workers:
            self._homeless_since = None
            return
        cluster = cast("Cluster", self._cluster)
        self._homeless_since = self._homeless_since or time.monotonic()
        if cluster.own or time.monotonic() - self._homeless_since > ROOM_SECONDS:
            raise InfrastructureError(
                f"no node of the cluster has {_shown(homeless[0])}, which a worker needs (its nodes: "
                f"{cluster.largest()}): add one, or ask for less under 'resources' in the sweep"
            )

    def _ready(self) -> Sequence[WorkerHandle]:
        import ray

        pending = {seat.pending: seat for seat in cast("list[SeatHandle]", self._workers) if seat.pending is not None}
        if not pending:
            time.sleep(LISTEN_SECONDS)
            return []
        ready, _ = ray.wait(list(pending), num_returns=1, timeout=LISTEN_SECONDS)
        if ready:
            ready, _ = ray.wait(list(pending), num_returns=len(pending), timeout=0)
        return [pending[reference] for reference in ready]

    def _listen(self, worker: WorkerHandle) -> Any:
        was_up = worker.up
        for message in super()._listen(worker):
            if message[0] == "file":
                self._keep(cast("SeatHandle", worker).node, message[1], message[2])
            else:
                yield message
        if worker.up:
            self._stillborn = 0
        elif not was_up and worker not in self._workers:
            self._stillborn += 1
            if self._stillborn >= STILLBORN:
                raise InfrastructureError(
                    f"{STILLBORN} workers in a row died on their nodes before they could start: see Ray's logs there"
                )

    def _keep(self, node: str, name: str, data: bytes) -> None:
        """Put a file from a node whose run folder is another into this one; logs of all nodes stand side by side."""
        path = self.plan.folder / name
        if path.suffix == ".log":
            path = path.with_name(f"{path.stem}.{node}.log")
        if path.suffix == ".log" or not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, data)


def _absolute(plan: Plan) -> Plan:
    """`plan` with the folders that workers write to as absolute paths."""
    artefacts = plan.artefacts.absolute() if plan.artefacts else None
    return replace(plan, folder=plan.folder.absolute(), cache=plan.cache.absolute(), artefacts=artefacts)


def _environment() -> dict[str, str]:
    """The variables that workers on other nodes must have too."""
    return {name: value for name, value in os.environ.items() if name.startswith(_PASSED)}


def _shown(needs: Needs) -> str:
    memory = f" and {needs.memory_gb:g} GB of memory" if needs.memory_gb else ""
    return f"{needs.cpus:g} cores and {needs.gpus:g} GPUs{memory}"


def _death(error: Exception) -> Death:
    """How a worker was lost with its actor, which tells it in a sentence."""
    text = str(error)
    if "running low on memory" in text or "OUT_OF_MEMORY" in text:
        return Death("node out of memory", foreign=True)
    return Death("node lost" if "its node has died" in text else "process lost", foreign=True)
