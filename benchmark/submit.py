"""From an adapter to a submission: check it, run the standard sweep in audit mode, and bundle what came out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codecbench.benchmark.isolation.describe import describe
from codecbench.benchmark.isolation.levels import Level
from codecbench.benchmark.run import run_sweep
from codecbench.benchmark.submission import MANIFEST, Submission, seal, sha256
from codecbench.benchmark.sweep import read_sweep
from codecbench.errors import CodecbenchError, InfrastructureError, InvalidSystem, UsageError
from codecbench.models.base import Card

STANDARD = Path(__file__).with_name("standard.yaml")
ADAPTER = "adapter.py"


@dataclass(frozen=True)
class Options:
    """How to submit.

    Attributes:
        out: The folder of all submissions.
        datasets: In place of those of the standard sweep.
        weights: A local weights file or folder.
        isolation: ``bwrap`` or ``process``.
        jobs: Processes of the run.
        quiet: Show no progress.
    """

    out: Path
    datasets: tuple[str, ...] = ()
    weights: Path | None = None
    isolation: Level = "bwrap"
    jobs: int | None = None
    quiet: bool = False


def submit(target: str, options: Options, tell: Callable[[str], None]) -> tuple[Submission, int]:
    """Make the submission of `target`; an interrupted one is resumed by the same call.

    Args:
        target: ``FILE.py:CLASS`` or a registered name.
        options: How.
        tell: Takes lines for the user.

    Returns:
        The submission, and 0, or 2 if some items failed: they count, and the system is listed below the ranked ones.

    Raises:
        UsageError: The card does not say what a submission has to.
        InvalidSystem: A conformance check failed, or the run did not end well.
    """
    card = describe(target, options.isolation).card
    _require_facts(card)
    folder = options.out / card.name
    work = options.out / f".{card.name}.partial"
    work.mkdir(parents=True, exist_ok=True)
    within = _copy_adapter(target, work)
    loadable = f"{work / ADAPTER}:{within.rpartition(':')[2]}" if within != target else target
    _write_json(work / "card.json", card.to_json())
    report = _check(loadable, options, tell)
    _write_json(work / "check.json", report)
    code = _run(loadable, work, options)
    _neutralise(work / "run", within, report)
    label = next(iter(json.loads((work / "run" / "run.json").read_text("utf-8"))["systems"]))
    previous = sha256(folder / MANIFEST) if (folder / MANIFEST).exists() else ""
    shutil.rmtree(folder, ignore_errors=True)
    work.rename(folder)
    return seal(folder, name=card.name, target=within, label=label, previous=previous), code


def _require_facts(card: Card) -> None:
    if card.kind == "lm":
        raise UsageError(f"'{card.name}' is a language model; only codecs can be submitted so far")
    lacking = [key for key, stated in (("licence", card.licence), ("contamination", card.contamination)) if not stated]
    if card.weights and not card.training_data:
        lacking.append("training_data")
    if lacking:
        raise UsageError(f"the card of '{card.name}' has to state {' and '.join(lacking)} before it can be submitted")


def _copy_adapter(target: str, work: Path) -> str:
    """Put the adapter's file into the bundle, for a new run if it has changed; returns the target as it is there."""
    path, colon, attribute = target.rpartition(":")
    if not colon or not path.endswith(".py"):
        return target
    adapter = work / ADAPTER
    if adapter.exists() and adapter.read_bytes() != Path(path).read_bytes():
        shutil.rmtree(work / "run", ignore_errors=True)
    shutil.copyfile(path, adapter)
    return f"{ADAPTER}:{attribute}"


def _check(target: str, options: Options, tell: Callable[[str], None]) -> dict[str, Any]:
    from codecbench.models.checks.runner import check
    from codecbench.models.checks.subject import Options as CheckOptions

    report = check(target, CheckOptions(weights=options.weights))
    tell(report.summary())
    if not report.ok:
        failed = [result for result in report.results if not result.ok]
        raise InvalidSystem(
            f"{len(failed)} conformance checks fail, such as {failed[0].check} ({failed[0].reason}): "
            f"`codecbench check` shows all"
        )
    return {**report.to_json(), "target": ADAPTER if target.endswith(".py") else report.system, "seconds": None}


def _run(target: str, work: Path, options: Options) -> int:
    sweep = read_sweep(STANDARD, {
        "models": [{"name": target, "weights": options.weights}], "datasets": list(options.datasets) or None,
        "isolation": options.isolation,
    })  # fmt: skip
    outcome = run_sweep(
        sweep, work / "run", jobs=options.jobs, command="codecbench submit", quiet=options.quiet, cache=False
    )
    if outcome.exit_code in (0, 2):
        return outcome.exit_code
    if outcome.exit_code == 130:
        raise KeyboardInterrupt
    error: type[CodecbenchError] = InvalidSystem if outcome.exit_code == 3 else InfrastructureError
    raise error(f"the run did not end well ({outcome.counts}): see {work / 'run'}; the same command goes on from there")


def _neutralise(run: Path, within: str, report: dict[str, Any]) -> None:
    """Leave in the run what belongs to the results: no path of the submitter's, no rows that the tables hold.

    The outcome of the conformance checks is a fact of the system, which the site shows.
    """
    facts = json.loads((run / "run.json").read_text("utf-8"))
    outcomes = [{key: check[key] for key in ("check", "outcome", "reason")} for check in report["checks"]]
    for system in facts["systems"].values():
        system["check"] = {"checks": outcomes}
    facts["sweep"]["models"][0]["name"] = within
    facts["sweep"]["models"][0]["weights"] = None
    _write_json(run / "run.json", facts)
    shutil.rmtree(run / "rows", ignore_errors=True)
    for left in run.glob(".*"):
        left.unlink()


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
