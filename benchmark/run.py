"""Run a sweep: plan, resume, compute, finish. Everything that a command line or a notebook needs."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

from codecbench.benchmark.artefacts import Artefacts, size_limit
from codecbench.benchmark.dispatch import Engine
from codecbench.benchmark.engines import check_engine, make_engine
from codecbench.benchmark.environment import describe_environment
from codecbench.benchmark.lock import locked
from codecbench.benchmark.plan import Plan, make_plan
from codecbench.benchmark.progress import Progress
from codecbench.benchmark.results import write_results
from codecbench.benchmark.store import RETRIED, SCHEMA, RunStore, about_system
from codecbench.benchmark.sweep import Sweep
from codecbench.metrics import registry as metrics
from codecbench.paths import cache_dir, sha256_of

INTERRUPTED = 130
TOLD = 20
"""How many reasons are told at the end, the most frequent first."""


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended: the exit code of the command, and the number of values of each status."""

    exit_code: int
    counts: dict[str, int]


def run_sweep(
    sweep: Sweep, out: Path, *, engine: str = "local", jobs: int | None = None, command: str = "", quiet: bool = False,
    cache: bool = True, address: str | None = None,
) -> RunOutcome:  # fmt: skip
    """Run `sweep` into the folder `out`, or finish what an earlier, interrupted run left there.

    Args:
        sweep: What to run.
        out: The run folder; created if absent.
        engine: ``local`` or ``ray``.
        jobs: Processes; by default one a core, or one for a GPU; on Ray, as many as there is room for.
        command: The command line, kept for the record.
        quiet: Show no progress.
        cache: Take what earlier runs have coded, measured and heard, and keep it for later ones.
        address: Of a Ray cluster; by default ``$RAY_ADDRESS``, else a cluster of this machine for the run alone.

    Raises:
        UsageError: Before anything is computed: the sweep is wrong, or `out` holds another run or cannot be written.
        InfrastructureError: The disk, the store or the machine failed; finished items are safe.
    """
    address = check_engine(engine, address)
    with locked(out), _cache(cache) as (values, artefacts):
        progress = Progress(quiet)
        plan = make_plan(sweep, values, out, progress.checking, artefacts)
        store = RunStore(out, plan.identity())
        manifest = _manifest(plan, sweep, out, command, store.manifest)
        try:
            if not manifest["finished"]:
                store.write_manifest(manifest)
            computed, stopped = _compute(plan, store, partial(make_engine, engine, plan, jobs, address), progress)
        finally:
            progress.close()
            store.close()
        if computed and artefacts:
            Artefacts(artefacts).trim()
        if stopped:
            progress.say("interrupted; run the same command again to resume")
            return RunOutcome(INTERRUPTED, {})
        if not computed and _written(out, manifest):
            progress.summary(manifest["counts"], manifest["reasons"])
            return RunOutcome(_exit_code(manifest["counts"], manifest), manifest["counts"])
        return _finish(plan, store, manifest, progress)


def _written(out: Path, manifest: dict[str, Any]) -> bool:
    """Whether the tables are there that the finished run wrote."""
    results = manifest["results"]
    if not manifest["finished"] or not results or "reasons" not in manifest:
        return False
    return (out / "timings.parquet").exists() and all(
        (out / name).exists() and sha256_of(out / name) == digest for name, digest in results.items()
    )


@contextmanager
def _cache(wanted: bool) -> Iterator[tuple[Path, Path | None]]:
    """The folders of values and artefacts; if not `wanted`, values that the workers share for this run alone."""
    if wanted:
        size_limit()  # a wrong one is told before anything is computed
        yield cache_dir("values"), cache_dir("work")
        return
    with TemporaryDirectory() as folder:
        yield Path(folder), None


def _compute(plan: Plan, store: RunStore, start: Callable[[], Engine], progress: Progress) -> tuple[bool, bool]:
    """Compute what is missing; returns whether anything was, and whether it was interrupted."""
    units = plan.units(store.done())
    progress.start(total=plan.item_count(), done=len(store.done()))
    if not units:
        return False, False
    invalid: set[str] = set()
    with _interruptible() as stop:
        for message in start().run(units, lambda: bool(stop)):
            if message[0] == "record":
                store.append(message[1])
                progress.record(message[1])
            elif message[0] == "corpus":
                for row in message[1]:
                    store.append(row)
            elif message[0] == "note":
                store.append(about_system(message[1], note=message[2]))
                progress.say(f"note     {message[1]}: {message[2]}")
            elif message[1] not in invalid:
                invalid.add(message[1])
                progress.say(f"invalid  {message[1]}: {message[2]}")
                if not message[2].startswith(RETRIED):
                    store.append(about_system(message[1], invalid=message[2]))
        return True, bool(stop)


def _finish(plan: Plan, store: RunStore, manifest: dict[str, Any], progress: Progress) -> RunOutcome:
    tally = write_results(plan, store)
    counts = {status: tally.counts[status] for status in ("ok", "undefined", "failed", "error", "missing")}
    reasons = dict(sorted(tally.reasons.items(), key=lambda item: (-item[1], item[0]))[:TOLD])
    invalid = {**tally.unloadable, **store.invalid}
    for label, system in manifest["systems"].items():
        system["status"] = f"invalid:{invalid[label]}" if label in invalid else "valid"
        system["notes"] = sorted(store.notes.get(label, []))
    manifest["faults"] = list(tally.faults.values())
    if not manifest["finished"] or manifest["results"] != tally.digests:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        ended = {"finished": True, "ended": now, "results": tally.digests, "counts": counts, "reasons": reasons}
        store.write_manifest({**manifest, **ended})
    progress.summary(counts, reasons)
    return RunOutcome(_exit_code(counts, manifest), counts)


def _exit_code(counts: dict[str, int], manifest: dict[str, Any]) -> int:
    if counts.get("error") or counts.get("missing"):
        return 4
    if any(system["status"] != "valid" for system in manifest["systems"].values()):
        return 3
    return 2 if counts.get("failed") else 0


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """Within it the first SIGINT or SIGTERM fills the list, and the second ends the process at once."""
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        if received:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            sys.stderr.write("interrupted twice: stopping now\n")
            raise SystemExit(INTERRUPTED)
        received.append(number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _manifest(plan: Plan, sweep: Sweep, out: Path, command: str, before: dict[str, Any]) -> dict[str, Any]:
    if before.get("finished"):
        return before
    return {
        "schema": SCHEMA,
        "name": out.name,
        "created": before.get("created") or datetime.now(UTC).isoformat(timespec="seconds"),
        "finished": False,
        "command": command,
        "environment": describe_environment(),
        "sweep": sweep.model_dump(mode="json"),
        "identity": plan.identity(),
        "systems": {
            s.label: {
                **s.card.to_json(), "weights": s.weights, "ranked": s.ranked, "status": "valid",
                "isolation": s.isolation, "audit": s.audit, "compile": s.options.compile, "notes": [],
                "points": [p for p in s.card.to_json()["points"] if p["name"] in {q.name for q in s.points}],
            }
            for s in plan.systems.values()
        },
        "datasets": {name: _dataset_facts(plan, name) for name in plan.datasets},
        "metrics": {
            name: {**metrics.find(name).facts(), "signature": metrics.find(name).signature()} for name in plan.metrics
        },
        "counts": {},
        "results": {},
    }  # fmt: skip


def _dataset_facts(plan: Plan, name: str) -> dict[str, Any]:
    planned = plan.datasets[name]
    utterances = [
        {
            "id": u.id, "speaker": u.speaker, "language": u.language, "domain": u.domain, "transcript": u.transcript,
            "duration": c.duration, "sample_rate": c.sample_rate, "digest": c.digest, "flags": list(c.flags),
        }
        for u, c in zip(planned.dataset.utterances, planned.checked, strict=True)
    ]  # fmt: skip
    return {
        **planned.dataset.card.to_json(), "task": planned.dataset.task, "fingerprint": planned.fingerprint,
        "utterances": utterances,
    }  # fmt: skip
