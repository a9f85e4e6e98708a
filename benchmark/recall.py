"""What earlier runs have found out, so that nothing is coded or measured twice: artefacts, values, facts of systems.

Nothing is recalled in an audit, of a system that did not repeat itself, or of weights in a folder, whose content no
digest tells. What is kept is what went well: a failure may have been the machine's doing, and is met again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from codecbench.benchmark import provenance, scoring
from codecbench.benchmark.artefacts import Artefacts, Kept
from codecbench.benchmark.cache import DiskCache
from codecbench.benchmark.coding import Coded
from codecbench.benchmark.keys import Keys
from codecbench.benchmark.plan import Plan, PlannedSystem
from codecbench.metrics import registry as metrics
from codecbench.metrics.base import Alignment, Value
from codecbench.models.base import OperatingPoint


class Recall:
    """What is known of the work of a plan, and takes note of more.

    Args:
        plan: Its `artefacts` says where, or None for nowhere: then nothing is known, and nothing kept.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._keys = Keys(plan)
        root = plan.artefacts
        self._artefacts = Artefacts(root) if root else None
        self._values = DiskCache(root / "scores") if root else None
        self._names = {name: _identity(name, plan) for name in plan.metrics} if root else {}

    def item(self, system: PlannedSystem, point: OperatingPoint, dataset: str, utterance: str) -> Kept | None:
        """What `system` made of a recording at `point`."""
        if self._artefacts is None or not _known(system):
            return None
        return self._artefacts.look(self._keys.item(system, point, dataset, utterance))

    def keep_item(
        self, system: PlannedSystem, point: OperatingPoint, dataset: str, utterance: str, coded: Coded
    ) -> None:
        """Keep `coded`, which was coded in this run."""
        if self._artefacts is not None and _known(system):
            key = self._keys.item(system, point, dataset, utterance)
            self._artefacts.put(key, coded, scoring.facts_of(coded))

    def values(self, dataset: str, utterance: str, output: str, alignment: Alignment) -> dict[str, Value]:
        """The values, by metric, of the output with the digest `output`."""
        if self._values is None:
            return {}
        known = self._values.get(self._keys.values(dataset, utterance, output, alignment)) or {}
        return {name: Value(*known[full]) for name, full in self._names.items() if full in known}

    def keep_values(
        self, dataset: str, utterance: str, output: str, alignment: Alignment, values: Mapping[str, Value]
    ) -> None:
        """Keep `values`, by metric, beside those that are known."""
        if self._values is None:
            return
        key = self._keys.values(dataset, utterance, output, alignment)
        new = {self._names[name]: _plain(value) for name, value in values.items() if value.status != "error"}
        self._values.put(key, {**(self._values.get(key) or {}), **new})

    def corpus(self, system: PlannedSystem, dataset: str, utterances: Sequence[str]) -> Any | None:
        """What `Probe.to_json` said when `utterances` were the probes."""
        if self._values is None or not _known(system):
            return None
        return self._values.get(self._keys.corpus(system, dataset, utterances))

    def keep_corpus(self, system: PlannedSystem, dataset: str, utterances: Sequence[str], known: Any) -> None:
        """Keep `known`, of `Probe.to_json`."""
        if self._values is not None and _known(system):
            self._values.put(self._keys.corpus(system, dataset, utterances), known)


def _known(system: PlannedSystem) -> bool:
    """All that it depends on is known."""
    in_folder = system.options.weights is not None and system.options.weights.is_dir()
    return bool(system.source) and not system.audit and not in_folder


def _identity(name: str, plan: Plan) -> str:
    """The signature of a metric, and the code behind it."""
    return f"{plan.signatures[name]}|src:{provenance.function_digest(metrics.find(name).score)[:16]}"


def _plain(value: Value) -> list[Any]:
    return [value.status, value.reason, value.value, value.weight, dict(value.texts), value.material]
