"""What a worker does with a language model: ask, score, keep."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from codecbench.audio import Clip
from codecbench.benchmark.asking import answer, request_of
from codecbench.benchmark.coding import SystemFailure, codec_input, one_line
from codecbench.benchmark.evidence import Keeper
from codecbench.benchmark.plan import Plan, PlannedSystem
from codecbench.benchmark.probe import Probe
from codecbench.benchmark.scoring import References, Scorer
from codecbench.errors import CodecbenchError
from codecbench.metrics.base import Reference
from codecbench.models.base import SpeechLM

Row = dict[str, Any]


class Answerer:
    """Has requests answered, and makes rows of the answers."""

    def __init__(self, plan: Plan, references: References, scorer: Scorer, keeper: Keeper) -> None:
        self._plan, self._references, self._scorer, self._keeper = plan, references, scorer, keeper
        self._likely = any(metric.compares == "likelihoods" for metric in scorer.metrics)

    def row(
        self, model: SpeechLM, system: PlannedSystem, dataset: str, utterance: str, truth: Clip, reference: Reference
    ) -> Row | SystemFailure:
        """The part of a row that comes from the answer of `model` to the request `utterance`."""
        source, asked = self._plan.datasets[dataset].dataset, self._references.utterance(dataset, utterance)
        try:
            request, limit = request_of(source, asked, truth, system.card)
        except CodecbenchError as error:
            return self._scorer.unreadable(f"dataset({one_line(error)})")
        found = answer(
            model, system.card, request, replace(self._plan.sampling, max_seconds=limit),
            first=asked in source.utterances[: Probe.ITEMS],
            truth=codec_input(truth, system.card) if self._likely else None,
        )  # fmt: skip
        if isinstance(found, SystemFailure):
            return found
        row = self._scorer.answered(found, reference, request.task)
        if kept := self._keeper.keep_answer(dataset, utterance, found, reference):
            row["evidence"] = kept
        return row


def facts_of(model: SpeechLM, system: PlannedSystem, dataset: str) -> list[Row]:
    """The corpus-level rows of a language model."""
    facts = {"dataset": dataset, "utterance": "*", "corpus": {"parameters": float(model.parameters())}}
    return [{"system": system.label, "point": point.name, **facts} for point in system.points]
