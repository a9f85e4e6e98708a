"""The engines by name: what runs the units of a plan."""

from __future__ import annotations

import os

from codecbench.benchmark.dispatch import Engine
from codecbench.benchmark.plan import Plan
from codecbench.errors import UsageError

ENGINES = ("local", "ray")


def check_engine(name: str, address: str | None) -> str | None:
    """Refuse what cannot run, before anything is planned; returns the address of the cluster that is meant, if any.

    Raises:
        UsageError: No such engine, it is not installed, or it has no use for an address.
        InfrastructureError: Nothing answers at `address`.
    """
    if name not in ENGINES:
        raise UsageError(f"unknown engine '{name}': there are {' and '.join(ENGINES)}")
    if name == "ray":
        from codecbench.benchmark.ray_cluster import check_address

        return check_address(address)
    if address:
        raise UsageError("--address is of a Ray cluster: it goes with --engine ray")
    return None


def make_engine(name: str, plan: Plan, jobs: int | None, address: str | None = None) -> Engine:
    """The engine called `name`, with up to `jobs` workers.

    By default the local engine has one a core, or one for a GPU; Ray's as many as its cluster has room for.

    Raises:
        UsageError: A device that the engine cannot give.
    """
    devices = {system.options.device for system in plan.systems.values()}
    if name == "ray":
        if numbered := [device for device in devices if device.startswith("cuda:")]:
            raise UsageError(f"Ray gives each worker its GPU: say --device cuda in place of {numbered[0]}")
        from codecbench.benchmark.ray_engine import RayEngine

        return RayEngine(plan, jobs, address)
    from codecbench.benchmark.local import LocalEngine

    return LocalEngine(plan, jobs or (len(os.sched_getaffinity(0)) if devices == {"cpu"} else 1))
