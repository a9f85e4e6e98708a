"""What a run costs beside its work, at growing sizes: planning, scheduling, rows, resuming, results, table and site.

The work is made up: systems, datasets and rows as workers would send them, no audio and no model. All else is what a
run does, through the same functions, each stage in a process of its own. A value is a (system, operating point,
dataset, utterance, metric); an item has ten of them.

    python benchmarks/scale.py                                  # some minutes, and 2 GB of memory
    python benchmarks/scale.py --values 1e5 1e6 1e7 --units 1e4 1e5

Seconds are the processor's, which other programs on the machine disturb little; memory is the peak of the stage less
what it had when its modules were imported.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from codecbench.benchmark.datasets.base import Checked, Dataset, DatasetCard, Utterance, fingerprint
from codecbench.benchmark.dispatch import Death, Engine, Message, WorkerHandle
from codecbench.benchmark.plan import Needs, Plan, PlannedDataset, PlannedSystem, Unit
from codecbench.benchmark.results import write_results
from codecbench.benchmark.run import _manifest
from codecbench.benchmark.store import RunStore
from codecbench.benchmark.sweep import Sweep
from codecbench.metrics.tokens import encode_histograms
from codecbench.models.base import Card, LoadOptions, OperatingPoint, Stream

METRICS = ("mel", "lsd", "si_sdr", "pesq_wb", "estoi", "stoi", "mel_ms", "mcd", "f0_rmse", "wer")
POINTS = 5
DATASETS = 2
JOBS = 8


def fake_plan(folder: Path, systems: int, utterances: int, datasets: int = DATASETS, points: int = POINTS) -> Plan:
    """A plan of nested codecs on datasets of 2 to 12 s a recording, 40 speakers each."""
    streams = (Stream(64, 50.0),) * points
    levels = tuple(OperatingPoint(f"{k}x6bit", 0.3 * k, k) for k in range(1, points + 1))
    return Plan(
        {f"codec_{k:03d}": fake_system(f"codec_{k:03d}", levels, streams) for k in range(systems)},
        {f"set_{k}": fake_dataset(f"set_{k}", utterances) for k in range(datasets)},
        METRICS, 600.0, folder / "cache", folder,
    )  # fmt: skip


def fake_system(label: str, points: tuple[OperatingPoint, ...], streams: tuple[Stream, ...]) -> PlannedSystem:
    """A nested codec."""
    family = f"Family {sum(map(ord, label)) % 9}"
    card = Card(label, "codec", family, "official", 24_000, 1, points, streams, nested=True)
    return PlannedSystem(label, label, card, points, LoadOptions(), "none", ranked=True, code="")


def fake_dataset(name: str, utterances: int) -> PlannedDataset:
    """A dataset none of whose files exist, and what a check would have found."""
    chance = random.Random(name)  # noqa: S311 - lengths, no secret
    items = tuple(
        Utterance(f"{name}-{k:06d}", Path(f"{k}.flac"), f"speaker {k % 40}", "en", transcript="a b c d e")
        for k in range(utterances)
    )
    seconds = [chance.randint(32_000, 192_000) / 16_000 for _ in items]
    checked = tuple(
        Checked(u.id, 16_000, round(16_000 * s), s, f"{k:064x}", "FLAC PCM_16")
        for k, (u, s) in enumerate(zip(items, seconds, strict=True))
    )
    dataset = Dataset(DatasetCard(name, name.title(), "CC0-1.0"), items)
    return PlannedDataset(dataset, checked, fingerprint(dataset, checked))


def fake_rows(plan: Plan, unit: Unit) -> Iterator[dict[str, Any]]:
    """The rows of a unit, as a worker sends them; the same for the same items. One in a hundred failed."""
    seconds = {checked.id: checked.duration for checked in plan.datasets[unit.dataset].checked}
    for utterance, points in unit.items:
        chance = random.Random(f"{unit.system} {unit.dataset} {utterance}")  # noqa: S311 - numbers, no secret
        duration, level = seconds[utterance], chance.gauss(0, 0.3) + int(unit.system[-3:]) / 50
        for point in points:
            facts = {"system": unit.system, "point": point, "dataset": unit.dataset, "utterance": utterance}
            streams = int(point[0])
            if chance.random() < 0.01:
                failed = {metric: ["failed", "encode(RuntimeError: made up)", None, 1.0] for metric in plan.metrics}
                yield {**facts, "duration": duration, "values": failed}
                continue
            frames = round(50 * duration)
            yield {
                **facts, "duration": duration, "bits": 8 * round(frames * 6 * streams / 8), "header_bits": 64,
                "frames": [frames] * streams, "clipped": 0.0, "timing": [duration / 9, duration / 11, 512.0],
                "values": {
                    metric: ["ok", "", round(level + streams / 4 + chance.gauss(0, 0.2), 6), 1.0]
                    for metric in plan.metrics
                },
                **({"tokens": _histograms(frames, streams)} if point == plan.systems[unit.system].richest.name else {}),
            }  # fmt: skip


def _histograms(frames: int, streams: int, known: dict[tuple[int, int], str] = {}) -> str:  # noqa: B006 - a cache
    size = frames // 50, streams
    if size not in known:
        known[size] = encode_histograms([np.arange(50 * size[0]) * (k + 1) % 64 for k in range(streams)])
    return known[size]


class FakeWorker(WorkerHandle):
    """A worker that is done as soon as it is given a unit, and is no process."""

    def send(self, unit: Unit) -> None:
        """Take a unit from the coordinator."""

    def receive(self) -> list[Message]:
        """Tell the coordinator that it is done."""
        return [("idle",)]

    def end(self, patience: float = 0) -> Death:  # noqa: ARG002
        """There is nothing to end."""
        return Death("", foreign=True)


class FakeEngine(Engine):
    """The coordinator's part of an engine, with such workers."""

    def _start(self, needs: Needs) -> WorkerHandle:
        return FakeWorker(needs)

    def _ready(self) -> list[WorkerHandle]:
        return list(self._workers)


def values_plan(folder: Path, values: int) -> Plan:
    """A plan of so many values: 0.1 million a system."""
    each = len(METRICS) * POINTS * DATASETS
    systems = max(1, values // (each * 1000))
    return fake_plan(folder, systems, values // (each * systems))


def units_plan(folder: Path, units: int) -> Plan:
    """A plan of so many units of 16 utterances at one point: 1,000 a system."""
    systems = max(1, units // 1000)
    return fake_plan(folder, systems, 16 * units // systems // 10, datasets=10, points=1)


def plan_units(folder: Path, units: int) -> str:
    """Identity and units of a plan."""
    plan = units_plan(folder, units)
    plan.identity()
    found = len(plan.units(frozenset()))
    return f"{found:,} units"


def schedule(folder: Path, units: int) -> str:
    """Hand all units to eight workers."""
    plan = units_plan(folder, units)
    waiting, engine = plan.units(frozenset()), FakeEngine(plan, JOBS)
    start = time.process_time()
    for _ in engine.run(waiting):
        pass
    return f"{1e6 * (time.process_time() - start) / len(waiting):.1f} µs a unit"


def rows(folder: Path, values: int) -> str:
    """Append every row to the store, synced as in a run."""
    plan = values_plan(folder, values)
    store = RunStore(folder, plan.identity())
    seconds, count = 0.0, 0
    for unit in plan.units(store.done()):
        made = list(fake_rows(plan, unit))
        start = time.perf_counter()
        for row in made:
            store.append(row)
        seconds, count = seconds + time.perf_counter() - start, count + len(made)
    store.close()
    size = sum(path.stat().st_size for path in (folder / "rows").iterdir())
    return f"{count / seconds:,.0f} rows/s by the wall, {size / 1e6:,.0f} MB"


def resume(folder: Path, values: int) -> str:
    """Read all rows, and find that nothing is left to do."""
    plan = values_plan(folder, values)
    store = RunStore(folder, plan.identity())
    left, done = len(plan.units(store.done())), len(store.done())
    return f"{done:,} items done, {left} units left"


def results(folder: Path, values: int) -> str:
    """Write the tables of the run, and ``run.json``."""
    plan = values_plan(folder, values)
    store = RunStore(folder, plan.identity())
    tally = write_results(plan, store)
    labels = [{"name": label} for label in plan.systems]
    sweep = Sweep.model_validate({"models": labels, "datasets": list(plan.datasets), "metrics": list(METRICS)})
    manifest = _manifest(plan, sweep, folder, "made up", {})
    store.write_manifest({**manifest, "finished": True, "results": tally.digests, "counts": dict(tally.counts)})
    return f"{(folder / 'results.parquet').stat().st_size / 1e6:,.0f} MB"


def table(folder: Path, values: int) -> str:  # noqa: ARG001 - as all stages
    """``codecbench table``."""
    from codecbench.leaderboard.load import read_runs
    from codecbench.leaderboard.table import render

    return f"{len(render(read_runs([folder]), 'md').splitlines()):,} lines"


def site(folder: Path, values: int) -> str:  # noqa: ARG001 - as all stages
    """``codecbench site``."""
    from codecbench.leaderboard.site import build

    build([folder], folder / "site")
    size = sum(path.stat().st_size for path in (folder / "site").rglob("*") if path.is_file())
    return f"{size / 1e6:,.0f} MB"


OF_UNITS: tuple[Callable[[Path, int], str], ...] = (plan_units, schedule)
OF_VALUES: tuple[Callable[[Path, int], str], ...] = (rows, resume, results, table, site)
STAGES = {stage.__name__: stage for stage in (*OF_UNITS, *OF_VALUES)}


def measure(stage: str, folder: Path, size: int) -> dict[str, Any]:
    """Run a stage in a process of its own: ``seconds`` of processor time, ``bytes`` of memory, a ``note``."""
    command = [sys.executable, __file__, "--stage", stage, "--folder", str(folder), "--size", str(size)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 - this script
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _stage(name: str, folder: Path, size: int) -> dict[str, Any]:
    import pandas as pd
    import pyarrow.parquet  # noqa: F401 - what a stage imports is no part of what it needs

    del pd
    before = _memory("VmRSS")
    start = time.process_time()
    note = STAGES[name](folder, size)
    seconds = time.process_time() - start
    return {"seconds": seconds, "bytes": _memory("VmHWM") - before, "note": note}


def _memory(what: str) -> int:
    """Bytes resident now (``VmRSS``) or at the most; `getrusage` counts the process that started this one too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))


def main() -> None:
    """Measure every stage at every size, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--values", type=float, nargs="*", default=[1e5, 1e6])
    parser.add_argument("--units", type=float, nargs="*", default=[1e4, 1e5])
    parser.add_argument("--stages", nargs="*", choices=list(STAGES), default=list(STAGES))
    parser.add_argument("--keep", type=Path, help="folder for the runs, which are kept; by default a temporary one")
    for hidden in ("--stage", "--folder", "--size"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.stage:
        print(json.dumps(_stage(chosen.stage, Path(chosen.folder), int(chosen.size))))
        return
    print(f"Python {platform.python_version()}, {platform.machine()}\n")
    print("| stage | size | processor | a unit or value | memory | a unit or value | |")
    print("|---|--:|--:|--:|--:|--:|---|")
    base = chosen.keep or Path(tempfile.mkdtemp(prefix="codecbench-scale-"))
    for sizes, stages in ((chosen.units, OF_UNITS), (chosen.values, OF_VALUES)):
        for size in map(int, sizes):
            folder = base / f"{size}"
            folder.mkdir(parents=True, exist_ok=True)
            for stage in (stage.__name__ for stage in stages if stage.__name__ in chosen.stages):
                found = measure(stage, folder, size)
                seconds, memory = found["seconds"], found["bytes"]
                print(
                    f"| {stage} | {size:,} | {seconds:.1f} s | {1e6 * seconds / size:.1f} µs | {memory / 1e6:,.0f} MB "
                    f"| {memory / size:,.0f} B | {found['note']} |",
                    flush=True,
                )
    if not chosen.keep:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
