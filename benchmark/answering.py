"""What a worker does with a language model: ask, score, keep."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from codecbench.audio import Clip
from codecbench.benchmark.asking import (
    Answer,
    answer,
    answer_together,
    contrast_of,
    request_of,
    weigh,
    with_likelihood,
)  # fmt: skip
from codecbench.benchmark.coding import SystemFailure, codec_input, one_line
from codecbench.benchmark.datasets.base import PAIRS, Dataset, Utterance
from codecbench.benchmark.evidence import Keeper
from codecbench.benchmark.plan import Plan, PlannedSystem, Unit
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
        self._ahead: dict[str, Answer | SystemFailure] = {}
        self._slow: set[str] = set()

    def ask_together(self, model: SpeechLM, system: PlannedSystem, unit: Unit) -> Iterator[tuple[str, str]]:
        """Have the requests of `unit` answered in batches, the longest last, if the run has any and the card allows it.

        `row` then has the answers. The first of a dataset are asked alone, as their times are measured; so is each that
        fails in a batch, and all that are left once a batch took too long. A model that crashes takes its batch with
        it, so one without a process of its own is asked one by one.

        Yields:
            ``("start", utterance)`` with the first of each batch.
        """
        self._ahead = {}
        source, size = self._plan.datasets[unit.dataset].dataset, self._plan.batch
        if not self._plan.asks_together(system) or source.task == PAIRS:
            return
        alone = {*unit.verdicts, *(utterance.id for utterance in source.utterances[: Probe.ITEMS])}
        asked = {}
        for name in [name for name, _ in unit.items if name not in alone]:
            with suppress(CodecbenchError):  # told when its turn comes
                truth, _ = self._references.get(unit.dataset, name)
                asked[name] = request_of(source, self._references.utterance(unit.dataset, name), truth, system.card)
        names = sorted(asked, key=lambda name: asked[name][1])
        sampling = self._plan.sampling_of(system.card)
        for start in range(0, len(names), size):
            batch = names[start : start + size]
            if system.label in self._slow:
                return
            yield "start", batch[0]
            found = answer_together(model, system.card, [asked[name] for name in batch], sampling)
            self._slow |= set() if found else {system.label}
            self._ahead |= {name: one for name, one in zip(batch, found, strict=False) if one}

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
        heard = codec_input(truth, card) if self._likely else None
        if known := self._ahead.pop(asked.id, None):
            return known if isinstance(known, SystemFailure) else with_likelihood(model, known, heard)
        request, limit = request_of(source, asked, truth, card)
        return answer(
            model, card, request, replace(self._plan.sampling_of(card), max_seconds=limit),
            first=asked in source.utterances[: Probe.ITEMS], truth=heard,
        )  # fmt: skip


def facts_of(model: SpeechLM, system: PlannedSystem, dataset: str) -> list[Row]:
    """The corpus-level rows of a language model."""
    facts = {"dataset": dataset, "utterance": "*", "corpus": {"parameters": float(model.parameters())}}
    return [{"system": system.label, "point": point.name, **facts} for point in system.points]
