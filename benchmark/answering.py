"""What a worker does with a language model: ask, score, keep."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from codecbench.audio import Clip
from codecbench.benchmark.asking import Answer, answer, contrast_of, request_of, weigh
from codecbench.benchmark.coding import SystemFailure, codec_input, one_line
from codecbench.benchmark.datasets.base import PAIRS, Dataset, Utterance
from codecbench.benchmark.evidence import Keeper
from codecbench.benchmark.plan import Plan, PlannedSystem
from codecbench.benchmark.probe import Probe
from codecbench.benchmark.scoring import References, Scorer
from codecbench.errors import CodecbenchError
from codecbench.metrics.base import Reference
from codecbench.models.base import Card, SpeechLM

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
            found = self._asked(model, system.card, source, asked, truth)
        except CodecbenchError as error:
            return self._scorer.unreadable(f"dataset({one_line(error)})")
        if isinstance(found, SystemFailure):
            return found
        row = self._scorer.answered(found, reference, source.task)
        if kept := self._keeper.keep_answer(dataset, utterance, found, reference):
            row["evidence"] = kept
        return row

    def _asked(
        self, model: SpeechLM, card: Card, source: Dataset, asked: Utterance, truth: Clip
    ) -> Answer | SystemFailure:
        if source.task == PAIRS:
            return weigh(model, card, *(codec_input(clip, card) for clip in (truth, contrast_of(source, asked))))
        request, limit = request_of(source, asked, truth, card)
        return answer(
            model, card, request, replace(self._plan.sampling_of(card), max_seconds=limit),
            first=asked in source.utterances[: Probe.ITEMS],
            truth=codec_input(truth, card) if self._likely else None,
        )  # fmt: skip


def facts_of(model: SpeechLM, system: PlannedSystem, dataset: str) -> list[Row]:
    """The corpus-level rows of a language model."""
    facts = {"dataset": dataset, "utterance": "*", "corpus": {"parameters": float(model.parameters())}}
    return [{"system": system.label, "point": point.name, **facts} for point in system.points]
