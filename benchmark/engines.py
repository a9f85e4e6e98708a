"""The engines by name: what runs the units of a plan."""

from __future__ import annotations

import os

from codecbench.benchmark.local import LocalEngine
from codecbench.benchmark.plan import Plan
from codecbench.errors import UsageError


def make_engine(name: str, plan: Plan, jobs: int | None) -> LocalEngine:
    """The engine called `name`, with `jobs` processes (by default one a core, or one for a GPU).

    Raises:
        UsageError: No such engine.
    """
    if name != "local":
        raise UsageError(f"unknown engine '{name}': there is 'local'")
    on_cpu = all(system.options.device == "cpu" for system in plan.systems.values())
    return LocalEngine(plan, jobs or (len(os.sched_getaffinity(0)) if on_cpu else 1))
