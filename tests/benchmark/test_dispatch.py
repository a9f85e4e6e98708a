"""Which worker gets which unit, and what a death means: with workers of a script, in no processes at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from codecbench.benchmark.dispatch import LOST_RETRIES, Death, Engine, Message, WorkerHandle
from codecbench.benchmark.plan import Needs, Plan, Unit
from codecbench.errors import InfrastructureError

KILLED, ABORTED = Death("SIGKILL", foreign=True), Death("SIGABRT", foreign=False)
Script = Callable[[str], "Death | None"]


class Scripted(WorkerHandle):
    """Does its units at once, or dies of the item that the script names."""

    def __init__(self, needs: Needs, script: Script, ended: list[Needs]) -> None:
        super().__init__(needs)
        self.script, self.ended = script, ended

    def send(self, unit: Unit) -> None:
        """It is done when it is asked."""

    def receive(self) -> list[Message]:
        said: list[Message] = []
        assert self.unit
        for utterance, points in self.unit.items:
            said.append(("start", utterance))
            if utterance not in self.unit.verdicts and (death := self.script(utterance)):
                return [*said, ("died", death)]
            row = {"system": self.unit.system, "utterance": utterance, "verdict": self.unit.verdicts.get(utterance)}
            said += [("record", {**row, "point": point}) for point in points]
        return [*said, ("idle",)]

    def end(self, patience: float = 0) -> Death:  # noqa: ARG002
        self.ended.append(self.needs)
        return KILLED


class ScriptedEngine(Engine):
    """On two workers at most."""

    def __init__(self, plan: Plan, script: Script) -> None:
        super().__init__(plan, 2)
        self.script = script
        self.started: list[Needs] = []
        self.ended: list[Needs] = []

    def _needs(self, system: str) -> Needs:
        return self.plan.systems[system].needs

    def _start(self, needs: Needs) -> WorkerHandle:
        self.started.append(needs)
        return Scripted(needs, self.script, self.ended)

    def _ready(self) -> Sequence[WorkerHandle]:
        return [worker for worker in self._workers if worker.unit]


def engine_of(script: Script = lambda _: None, isolation: str = "none", **needs: Needs) -> ScriptedEngine:
    systems = {
        name: SimpleNamespace(isolation=isolation, needs=need) for name, need in (needs or {"a": Needs()}).items()
    }
    datasets = {"d": SimpleNamespace(dataset=SimpleNamespace(utterances=()))}
    plan = Plan(cast("Any", systems), cast("Any", datasets), (), 300, Path("cache"), Path("run"))
    return ScriptedEngine(plan, script)


def units_of(system: str, count: int = 2) -> list[Unit]:
    return [Unit(system, "d", tuple((f"u{4 * k + i}", ("p", "q")) for i in range(4))) for k in range(count)]


def records(messages: Sequence[Message]) -> list[tuple[str, str, str, Any]]:
    rows = [message[1] for message in messages if message[0] == "record"]
    return sorted((row["system"], row["utterance"], row["point"], row["verdict"]) for row in rows)


def test_a_crash_of_its_own_costs_the_item_in_hand() -> None:
    engine = engine_of(lambda name: ABORTED if name == "u2" else None)
    found = records(list(engine.run(units_of("a"))))
    assert len(found) == 16
    assert {row[1:] for row in found if row[3]} == {("u2", point, ("failed", "crash(SIGABRT)")) for point in "pq"}


@pytest.mark.parametrize("isolation", ["none", "process"])
@pytest.mark.parametrize("deaths", [LOST_RETRIES, LOST_RETRIES + 1])
def test_a_lost_worker_is_tried_again_twice(deaths: int, isolation: str) -> None:
    left = [KILLED] * deaths
    engine = engine_of(lambda name: left.pop() if name == "u2" and left else None, isolation)
    verdicts = {row[3] for row in records(list(engine.run(units_of("a")))) if row[1] == "u2"}
    assert verdicts == ({None} if deaths == LOST_RETRIES else {("error", "worker_lost(SIGKILL)")})


def test_a_metric_that_ends_whatever_is_measured_stops_the_run() -> None:
    class Stubborn(Scripted):
        def receive(self) -> list[Message]:
            return [("start", "u0"), ("died", ABORTED)]

    engine = engine_of()
    engine._start = lambda needs: Stubborn(needs, engine.script, engine.ended)  # type: ignore[method-assign]
    with pytest.raises(InfrastructureError, match=r"a metric ended its process \(SIGABRT\) on d/u0"):
        list(engine.run(units_of("a")))


def test_systems_of_other_needs_have_other_workers_which_make_room_for_each_other() -> None:
    small, large = Needs(cpus=1), Needs(cpus=1, gpus=0.5)
    engine = engine_of(a=small, b=large)
    found = records(list(engine.run([*units_of("a", 5), *units_of("b", 5)])))
    assert len(found) == 2 * 5 * 8
    assert engine.started == [small, small, large, large]
    assert engine.ended[:2] == [small, small]


def test_a_worker_goes_on_with_the_system_that_it_has_loaded() -> None:
    seen: dict[str, list[int]] = {}

    class Noting(Scripted):
        def send(self, unit: Unit) -> None:
            seen.setdefault(unit.system, []).append(id(self))

    engine = engine_of(a=Needs(), b=Needs())
    engine._start = lambda needs: Noting(needs, engine.script, engine.ended)  # type: ignore[method-assign]
    list(engine.run([*units_of("a", 3), *units_of("b", 3)]))
    assert {system: len(set(workers)) for system, workers in seen.items()} == {"a": 1, "b": 1}
