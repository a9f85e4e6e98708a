"""From a sweep to units of work: every name resolved, every recording checked, every cell laid out."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from codecbench.benchmark.cache import DiskCache
from codecbench.benchmark.datasets.base import PAIRS, Checked, Dataset, fingerprint
from codecbench.benchmark.datasets.checked import check_changed
from codecbench.benchmark.datasets.registry import open_dataset
from codecbench.benchmark.isolation.describe import Described, describe
from codecbench.benchmark.isolation.levels import Level, require
from codecbench.benchmark.provenance import source_of
from codecbench.benchmark.sweep import ModelChoice, Sweep
from codecbench.errors import UsageError
from codecbench.metrics import registry as metrics
from codecbench.metrics.base import Status
from codecbench.models.base import Card, LoadOptions, OperatingPoint, Sampling
from codecbench.models.compiling import require_compiler
from codecbench.models.limits import GIVES_TEXT
from codecbench.paths import sha256_of
from codecbench.weights import packaged

UNIT_SIZE = 16
Cell = tuple[str, str, str]
"""(system, point, dataset): whose utterances are averaged."""
ItemKey = tuple[str, str, str, str]
"""(system, point, dataset, utterance): what a row of results is about."""
Verdict = tuple[Status, str]
"""(status, reason) of an item that is not to be coded: its system cannot load, or it killed its process."""


@dataclass(frozen=True)
class Needs:
    """What a worker takes of a node of a cluster for itself: cores, GPUs (a share of one below 1), GB of memory."""

    cpus: float = 1
    gpus: float = 0
    memory_gb: float = 0


@dataclass(frozen=True)
class PlannedSystem:
    """A system of the run: its `label` in every row, what to load, and the points to run, poorest first.

    `code` is the digest of the file that defines it, `source` that of all source code that it may run; empty where
    that is unknown.
    """

    label: str
    target: str
    card: Card
    points: tuple[OperatingPoint, ...]
    options: LoadOptions
    weights: str
    ranked: bool
    code: str
    source: str = ""
    isolation: Level = "process"
    audit: bool = False
    python: Path | None = None
    needs: Needs = Needs()

    @property
    def generates(self) -> bool:
        """It answers requests; a codec codes their truth."""
        return bool(self.card.tasks)

    @property
    def richest(self) -> OperatingPoint:
        """The point whose codes hold those of all other points, for a nested codec."""
        return max(self.points, key=lambda point: point.streams or 0)


@dataclass(frozen=True)
class PlannedDataset:
    """A dataset of the run, every recording of which has been decoded once and found sound."""

    dataset: Dataset
    checked: tuple[Checked, ...]
    fingerprint: str

    @property
    def name(self) -> str:
        """The dataset's name in every row."""
        return self.dataset.card.name


UnitItem = tuple[str, tuple[str, ...]]
"""An utterance, and the points still to do."""


@dataclass(frozen=True)
class Unit:
    """Work for one worker: some utterances of one system on one dataset, each with the points still to do."""

    system: str
    dataset: str
    items: tuple[UnitItem, ...]
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """All that a worker needs to know; small, and picklable."""

    systems: Mapping[str, PlannedSystem]
    datasets: Mapping[str, PlannedDataset]
    metrics: tuple[str, ...]
    timeout: float
    cache: Path
    folder: Path
    keep_codes: bool = False
    keep_audio: int = 0
    sampling: Sampling = field(default_factory=Sampling)
    sampling_given: tuple[str, ...] = ()
    """What of it somebody asked for; the rest may be a card's."""
    artefacts: Path | None = None
    signatures: Mapping[str, str] = field(default_factory=dict)
    batch: int = 1

    def sampling_of(self, card: Card) -> Sampling:
        """How the language model of `card` is sampled: as its card says, but for what somebody asked for."""
        own: dict[str, Any] = {name: value for name, value in card.sampling if name not in self.sampling_given}
        return replace(self.sampling, **own)

    def asks_together(self, system: PlannedSystem) -> bool:
        """Whether `system` is given several requests at once: a language model that says it can, as of `batches`."""
        return self.batch > 1 and system.isolation != "none" and system.generates and system.card.batches

    def batches(self, system: PlannedSystem) -> bool:
        """Whether `system` is given several recordings at once: a codec of one rate, whose death costs no more."""
        hosted = system.isolation != "none" and not system.audit
        return self.batch > 1 and hosted and not system.generates and bool(system.card.sample_rate)

    def pairs(self) -> Iterable[tuple[PlannedSystem, PlannedDataset]]:
        """The systems and datasets that suit each other.

        A language model takes requests of its tasks, and pairs if it gives likelihoods; a codec takes what has audio
        for its answer.
        """
        for system in self.systems.values():
            takes = (*system.card.tasks, *([PAIRS] if system.card.likelihood else []))
            for planned in self.datasets.values():
                task = planned.dataset.task
                if task in takes if system.generates else task not in (*GIVES_TEXT, PAIRS):
                    yield system, planned

    def watched(self) -> tuple[Path, ...]:
        """The folders that no adapter may write to: the run's, the datasets', the working folder, the user's home."""
        recordings = [[str(u.path.absolute()) for u in d.dataset.utterances] for d in self.datasets.values()]
        shared = [Path(os.path.commonpath(paths)) for paths in recordings if paths]
        kept = [self.artefacts] if self.artefacts else []
        folders = [self.folder, Path.cwd(), Path.home(), *kept, *(f.parent if f.is_file() else f for f in shared)]
        return tuple(folder.resolve() for folder in folders if folder != Path("/"))  # that would be everything

    def audible(self, dataset: str) -> frozenset[str]:
        """The utterances of `dataset` whose outputs are kept: `keep_audio` of them, spread over it."""
        names = [utterance.id for utterance in self.datasets[dataset].dataset.utterances]
        kept = min(self.keep_audio, len(names))
        return frozenset(names[k * len(names) // kept] for k in range(kept))

    def cells(self) -> Iterable[Cell]:
        """Every cell of the run."""
        for system, planned in self.pairs():
            for point in system.points:
                yield system.label, point.name, planned.name

    def item_count(self) -> int:
        """How many items the run has."""
        return sum(len(self.datasets[dataset].dataset.utterances) for _, _, dataset in self.cells())

    def units(self, done: Container[ItemKey]) -> list[Unit]:
        """The work that is not in `done`, in units of up to `UNIT_SIZE` utterances of much the same length.

        What takes longest comes first, so that the workers end together: systems that have a network, then those with
        the most seconds to code at all points, and of each the longest utterances.
        """
        longest_first = {
            name: [c.id for c in sorted(planned.checked, key=lambda c: (-c.duration, c.id))]
            for name, planned in self.datasets.items()
        }
        seconds = {(name, c.id): c.duration for name, planned in self.datasets.items() for c in planned.checked}
        units: dict[str, list[Unit]] = {}
        work = dict.fromkeys(self.systems, 0.0)
        for system, planned in self.pairs():
            every = tuple(point.name for point in system.points)
            items = []
            for utterance in longest_first[planned.name]:
                points = tuple(p for p in every if (system.label, p, planned.name, utterance) not in done)
                if points:
                    items.append((utterance, every if points == every else points))
                    work[system.label] += len(points) * seconds[planned.name, utterance]
            chunks = (items[start : start + UNIT_SIZE] for start in range(0, len(items), UNIT_SIZE))
            units.setdefault(system.label, []).extend(Unit(system.label, planned.name, tuple(c)) for c in chunks)
        order = sorted(units, key=lambda label: (not _learnt(self.systems[label].card), -work[label]))
        return [unit for label in order for unit in units[label]]

    def identity(self) -> dict[str, Any]:
        """Everything that the results depend on, as JSON; a resumed run must state the same."""
        return {
            "systems": {
                s.label: {
                    "card": _digest(s.card.to_json()),
                    "code": s.code,
                    "weights": s.weights,
                    "isolation": f"{s.isolation}, audited" if s.audit else s.isolation,
                    "points": [p.name for p in s.points],
                    **({"compile": True} if s.options.compile else {}),
                    **({"batch": self.batch} if self.batches(s) or self.asks_together(s) else {}),
                    **({"sampling": asdict(self.sampling_of(s.card))} if s.card.sampling else {}),
                }
                for s in self.systems.values()
            },
            "datasets": {name: planned.fingerprint for name, planned in self.datasets.items()},
            "metrics": dict(self.signatures),
            **({"sampling": asdict(self.sampling)} if any(s.generates for s in self.systems.values()) else {}),
        }


def make_plan(
    sweep: Sweep, cache: Path, folder: Path, progress: Callable[[str, int, int], None] | None = None,
    artefacts: Path | None = None,
) -> Plan:  # fmt: skip
    """Resolve a sweep.

    Args:
        sweep: What to run.
        cache: Folder of the persistent cache.
        folder: The run folder, where kept codes and outputs go.
        progress: Called with a dataset's name, recordings checked, and their number.
        artefacts: Folder of what systems made in earlier runs; None to code and measure everything anew.

    Raises:
        UsageError: An unknown name, a point that a model has not, a bad recording.
        InfrastructureError: A dataset or a metric's model cannot be had.
    """
    names = tuple(dict.fromkeys(sweep.metrics))
    for metric in map(metrics.find, names):
        if metric.prepare:
            metric.prepare()
    require(sweep.isolation)
    if sweep.audit and sweep.isolation == "none":
        raise UsageError("an audit needs encoder and decoder in processes of their own: choose --isolation bwrap")
    found = [describe(choice.name, sweep.isolation) for choice in sweep.models]
    unknown = set(sweep.points) - {point.name for system in found for point in system.card.points}
    if unknown:
        raise UsageError(f"no model of this sweep has the point '{min(unknown)}': `codecbench show MODEL` lists them")
    systems = [_plan_system(choice, system, sweep) for choice, system in zip(sweep.models, found, strict=True)]
    if sweep.compile:
        require_compiler(sweep.device)
        if not any(system.options.compile for system in systems):
            raise UsageError("no model of this sweep has a network to compile: leave --compile out")
    datasets = []
    for choice in sweep.datasets:
        dataset = open_dataset(choice.name, channels=choice.channels, known_bad=choice.known_bad).limited(sweep.limit)
        name = dataset.card.name
        remembered = DiskCache(artefacts / "checked") if artefacts else None
        checked = check_changed(dataset, remembered, partial(progress, name) if progress else None)
        datasets.append(PlannedDataset(dataset, tuple(checked), fingerprint(dataset, checked)))
    plan = Plan(
        _by_name("model", {s.label: s for s in systems}, len(systems)),
        _by_name("dataset", {d.name: d for d in datasets}, len(datasets)),
        names, sweep.timeout, cache, folder, sweep.keep_codes, sweep.keep_audio,
        Sampling(**sweep.sampling.model_dump()), tuple(sorted(sweep.sampling.model_fields_set)), artefacts,
        {name: metrics.find(name).signature() for name in names}, sweep.batch,
    )  # fmt: skip
    _check_tasks(plan, sweep)
    return plan


def _check_tasks(plan: Plan, sweep: Sweep) -> None:
    """Refuse a system that nothing in the sweep suits."""
    if sweep.audit and any(system.generates for system in plan.systems.values()):
        raise UsageError("an audit is of codecs, whose encoder and decoder are apart: leave the language models out")
    suited = {system.label for system, _ in plan.pairs()}
    tasks = (f"{name} ({planned.dataset.task or 'no requests'})" for name, planned in plan.datasets.items())
    for label, system in plan.systems.items():
        if label not in suited:
            has = "a codec gives no text, and no likelihood"
            if system.generates:
                has = f"its tasks are {', '.join(system.card.tasks)}"
            raise UsageError(f"'{label}' suits no dataset of this sweep: {has}; the datasets are {', '.join(tasks)}")


def _by_name(what: str, named: dict[str, Any], count: int) -> dict[str, Any]:
    if len(named) < count:
        raise UsageError(f"a {what} is named twice in the sweep ({', '.join(named)} are all there are); name each once")
    return named


def _plan_system(choice: ModelChoice, described: Described, sweep: Sweep) -> PlannedSystem:
    card = described.card
    points = tuple(_point(card, name) for name in choice.points) if choice.points else card.points
    if sweep.points:
        points = tuple(point for point in points if point.name in sweep.points)
    if not points:
        raise UsageError(f"model '{card.name}' has none of the points {', '.join(sweep.points)}: leave it out")
    label, weights, seed = _weights(card, choice.weights, sweep.random_weights)
    order = {point.name: i for i, point in enumerate(card.points)}
    options = LoadOptions(sweep.device, choice.weights, seed, compile=sweep.compile and _learnt(card))
    ordered = tuple(sorted(set(points), key=lambda point: order[point.name]))
    return PlannedSystem(
        label, choice.name, card, ordered, options, weights, ranked=seed is None, code=_code_digest(described.source),
        source=source_of(described.source, choice.name), isolation=sweep.isolation, audit=sweep.audit,
        python=described.python,
        needs=_needs(choice, sweep),
    )  # fmt: skip


def _needs(choice: ModelChoice, sweep: Sweep) -> Needs:
    """What a worker of the system needs: as the sweep says, and a GPU if it runs on one."""
    asked = choice.resources or sweep.resources
    gpus = asked.gpus if asked.gpus is not None else float(sweep.device.startswith("cuda"))
    return Needs(asked.cpus, gpus if sweep.device != "cpu" else 0, asked.memory_gb)


def _learnt(card: Card) -> bool:
    """Whether the system takes weights, and so has a network."""
    return bool(card.weights) or card.unpublished


def _weights(card: Card, local: Path | None, random_seed: int | None) -> tuple[str, str, int | None]:
    """The label of a system's rows, what its weights are, and the seed of random ones."""
    if not _learnt(card):
        return card.name, "none", None
    if local:
        if not local.exists():
            raise UsageError(f"{card.name}: no weights at {local}")
        digest = sha256_of(local) if local.is_file() else str(local)
        if any(file.sha256 and digest.startswith(file.sha256) for file in card.weights):
            return card.name, f"official {digest}", None
        return f"{card.name}[local:{digest[:8]}]", f"local {digest}", None
    if random_seed is not None:
        return f"{card.name}[random:{random_seed}]", f"random, seed {random_seed}", random_seed
    if card.package_weights:
        return card.name, f"packaged {sha256_of(packaged(card.package_weights))}", None
    official = ", ".join(file.sha256 or file.name for file in card.weights)
    return card.name, f"official {official}" if official else "unpublished", None


def _point(card: Card, name: str) -> OperatingPoint:
    try:
        return card.point(name)
    except KeyError:
        known = ", ".join(point.name for point in card.points)
        raise UsageError(f"model '{card.name}' has no point '{name}': its points are {known}") from None


def _code_digest(source: Path | None) -> str:
    """Digest of the file that defines the system, so that results of an adapter and of its next version never mix."""
    return sha256_of(source) if source and source.is_file() else ""


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
