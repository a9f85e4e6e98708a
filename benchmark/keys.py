"""Under what the work of a plan is kept between runs: everything that determines it, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any

from codecbench.audio import resampler_signature
from codecbench.benchmark import coding, provenance
from codecbench.benchmark.cache import canonical
from codecbench.benchmark.datasets.base import asked_of
from codecbench.benchmark.plan import Plan, PlannedSystem
from codecbench.metrics import alignment as aligning
from codecbench.metrics.base import Alignment
from codecbench.models import registry as models
from codecbench.models.base import OperatingPoint
from codecbench.paths import sha256_of


class Keys:
    """The keys of one plan."""

    def __init__(self, plan: Plan) -> None:
        self._utterances = {
            (planned.name, utterance.id): (planned.dataset.task, utterance, checked)
            for planned in plan.datasets.values()
            for utterance, checked in zip(planned.dataset.utterances, planned.checked, strict=True)
        }
        self._batches = {label: plan.batch for label, system in plan.systems.items() if plan.batches(system)}
        self._systems: dict[str, dict[str, Any]] = {}
        here = Path(__file__)
        self._scoring, self._probing = (sha256_of(here.with_name(name)) for name in ("scoring.py", "probe.py"))

    def item(self, system: PlannedSystem, point: OperatingPoint, dataset: str, utterance: str) -> dict[str, Any]:
        """Of what `system` makes of one recording at `point`."""
        at = system.richest if system.card.nested else point
        clip = self._utterances[dataset, utterance][2].digest
        return {**self._system(system), "what": "coded", "point": point.name, "encoded_at": at.name, "clip": clip}

    def corpus(self, system: PlannedSystem, dataset: str, utterances: Sequence[str]) -> dict[str, Any]:
        """Of what is known of `system` on `dataset` after its probes, which are `utterances`."""
        return {
            **self._system(system), "what": "corpus", "points": [point.name for point in system.points],
            "clips": [self._utterances[dataset, name][2].digest for name in utterances], "probing": self._probing,
            "alignment": provenance.source_digest(Path(aligning.__file__)),
        }  # fmt: skip

    def values(self, dataset: str, utterance: str, output: str, alignment: Alignment) -> dict[str, Any]:
        """Of the values of an output with the digest `output`."""
        return {
            "what": "values", "reference": self._reference(dataset, utterance), "output": output,
            "alignment": list(astuple(alignment)), "scoring": self._scoring, "environment": provenance.environment(),
        }  # fmt: skip

    def _reference(self, dataset: str, utterance: str) -> dict[str, Any]:
        task, facts, checked = self._utterances[dataset, utterance]
        asked = {"asked": asked_of(facts)} if task else {}
        return {
            "audio": checked.digest, "transcript": facts.transcript, "language": facts.language, "domain": facts.domain,
            "task": task, **asked,
        }  # fmt: skip

    def _system(self, system: PlannedSystem) -> dict[str, Any]:
        if system.label not in self._systems:
            file = models.file_of(system.target)
            self._systems[system.label] = {
                "name": system.target.rpartition(":")[2] if file else system.target,
                "card": hashlib.sha256(canonical(system.card.to_json()).encode()).hexdigest(),
                "source": system.source, "options": {**asdict(system.options), "weights": system.weights},
                "isolation": system.isolation, "coding": provenance.source_digest(Path(coding.__file__)),
                "resampler": resampler_signature(), "environment": provenance.environment(system.python),
                "batch": self._batches.get(system.label, 1),
            }  # fmt: skip
        return self._systems[system.label]
