"""The units that wait for a worker, a queue a system: choosing one costs the same whatever their number."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable

from codecbench.benchmark.plan import Unit


class UnitQueue:
    """Units in order; what comes back is first again."""

    def __init__(self, units: Iterable[Unit] = ()) -> None:
        self._queues: dict[str, deque[tuple[int, Unit]]] = {}
        self._length = self._front = 0
        for unit in units:
            self._queues.setdefault(unit.system, deque()).append((self._length, unit))
            self._length += 1

    def __len__(self) -> int:
        return self._length

    def put_back(self, unit: Unit) -> None:
        """Put `unit` before all others."""
        self._front -= 1
        self._queues.setdefault(unit.system, deque()).appendleft((self._front, unit))
        self._length += 1

    def take(self, system: str = "", others: Collection[str] = ()) -> Unit:
        """The first unit of `system` (loaded already), else of one that is not among `others`, else of any.

        Raises:
            IndexError: There is none.
        """
        if system not in self._queues:
            free = self._queues.keys() - others or self._queues.keys()
            if not free:
                raise IndexError("no unit is left")
            system = min(free, key=lambda name: self._queues[name][0][0])
        queue = self._queues[system]
        _, unit = queue.popleft()
        if not queue:
            del self._queues[system]
        self._length -= 1
        return unit
