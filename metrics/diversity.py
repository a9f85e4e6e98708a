"""Diversity of what is said: whether answers repeat themselves, or each other.

Computed on what a recogniser hears, normalised as for ``wer``; the variant names the recogniser (``vert:large-v3``):

- ``auto_bleu``: the share of an answer's words and pairs of words that occur again in the same answer. For each order
  up to 2 the share is counted without overlap, and the two are multiplied and rooted (GSLM's geometric auto-BLEU-2)
- ``self_bleu``: how much an answer's words and pairs of words are those of any other answer of the list: BLEU-2 against
  all other answers, without brevity penalty (GSLM's geometric self-BLEU-2)
- ``vert``: the square root of the product of both means over the answers

How to read them: from 0 to 1, more is less diverse. Neither way is better by itself: a model that says nonsense is
diverse, and people repeat themselves. Read them against the truth (``identity``) and beside ``text_perplexity``.
``self_bleu`` grows with the number of answers, so it compares on equal lists alone. An answer in which nothing is
heard has failed; GSLM's scripts count it as diverse.

Source: Lakhotia et al., "On Generative Spoken Language Modeling from Raw Audio", TACL 2021, section 4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from math import sqrt

import numpy as np

from codecbench.metrics.base import SPEECH, Failed, Material, Metric, Output, Reference, Score
from codecbench.metrics.corpus import jackknife, require_items
from codecbench.metrics.recognition import heard_by, parts_of, prepare

ORDERS = (1, 2)


def auto_bleu(words: Sequence[str]) -> float:
    """The geometric mean over `ORDERS` of the share of n-grams that occur again, elsewhere in `words` ``[W]``."""
    product = 1.0
    for order in ORDERS:
        grams = _grams(words, order)
        places: dict[tuple[str, ...], list[int]] = {}
        for place, gram in enumerate(grams):
            places.setdefault(gram, []).append(place)
        again = sum(any(abs(place - other) >= order for other in places[gram]) for place, gram in enumerate(grams))
        product *= again / len(grams) if grams else 0.0
    return float(product ** (1 / len(ORDERS)))


def self_bleu(answers: Sequence[Sequence[str]]) -> tuple[float, list[float]]:
    """The mean over `answers` of BLEU against all others; and the same without each of them, ``[N]``.

    Counts are clipped at the most that any one other answer has. Taking an answer away changes others only where it
    alone had the most, so all ``N`` values cost little more than the first.
    """
    count = len(answers)
    matches, totals = np.zeros((len(ORDERS), count)), np.zeros((len(ORDERS), count))
    losses: list[dict[int, list[float]]] = [{} for _ in answers]
    for k, order in enumerate(ORDERS):
        counts = [Counter(_grams(words, order)) for words in answers]
        most = _most(counts)
        for i, own in enumerate(counts):
            totals[k, i] = sum(own.values())
            for gram, number in own.items():
                (first, by), (second, _) = [pair for pair in most[gram] if pair[1] != i][:2]
                matches[k, i] += min(number, first)
                if lost := min(number, first) - min(number, second):
                    losses[i].setdefault(by, [0.0] * len(ORDERS))[k] += lost
    scores = _bleu(matches, totals)
    without = (scores.sum() - scores) / max(1, count - 1)
    for i, of_item in enumerate(losses):
        for by, gone in of_item.items():
            less = _bleu(matches[:, i] - gone, totals[:, i])
            without[by] += (less - scores[i]) / (count - 1)
    return float(scores.mean()), [float(value) for value in without]


def _grams(words: Sequence[str], order: int) -> list[tuple[str, ...]]:
    return list(zip(*(words[start:] for start in range(order)), strict=False))


def _most(counts: Sequence[Mapping[tuple[str, ...], int]]) -> dict[tuple[str, ...], list[tuple[int, int]]]:
    """Of each n-gram the three largest counts in any one answer, and the answers; filled up with nobody's zeros."""
    found: dict[tuple[str, ...], list[tuple[int, int]]] = {}
    for i, own in enumerate(counts):
        for gram, number in own.items():
            found[gram] = sorted([*found.get(gram, []), (number, i)], key=lambda pair: -pair[0])[:3]
    return {gram: [*pairs, (0, -1), (0, -1), (0, -1)] for gram, pairs in found.items()}


def _bleu(matches: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """The geometric mean of precisions ``[orders, ...]``; 0 where one is 0."""
    return np.asarray(np.prod(matches / np.maximum(totals, 1), axis=0) ** (1 / len(ORDERS)))


def _words(reference: Reference, output: Output, spec: str) -> tuple[list[str], dict[str, str]]:
    text, texts = heard_by(reference, output, spec)
    if not text:
        raise Failed("no_words")
    return text.split(), texts


def repetition(reference: Reference, output: Output, spec: str) -> Score:
    """`auto_bleu` of what the recogniser `spec` hears in the output.

    Raises:
        Undefined: ``ref_silent``, ``no_language``, ``language(XX)``.
        Failed: ``no_words``.
    """
    words, texts = _words(reference, output, spec)
    return Score(auto_bleu(words), texts=texts)


def words_of(reference: Reference, output: Output, spec: str) -> Material:
    """The words that the recogniser `spec` hears in the output; raises as `repetition` does."""
    words, texts = _words(reference, output, spec)
    return Material(words, texts)


def self_bleu_shares(answers: Sequence[Sequence[str]]) -> list[float]:
    """Each answer's share of the mean `self_bleu`."""
    require_items(answers)
    return jackknife(*self_bleu(answers))


def vert_shares(answers: Sequence[Sequence[str]]) -> list[float]:
    """Each answer's share of VERT."""
    require_items(answers)
    among, among_without = self_bleu(answers)
    within = np.array([auto_bleu(words) for words in answers])
    within_without = (within.sum() - within) / (len(within) - 1)
    return jackknife(sqrt(among * within.mean()), np.sqrt(np.maximum(among_without * within_without, 0)))


def _parts(spec: str) -> Mapping[str, str]:
    return {**parts_of(spec), "n": str(ORDERS[-1]), "mean": "geometric"}


def _metrics(spec: str) -> tuple[Metric, ...]:
    words, parts = partial(words_of, spec=spec), partial(_parts, spec)
    metric = partial(Metric, unit="", direction="none", parts=parts, domains=SPEECH, prepare=partial(prepare, spec),
                     compares="sounds")  # fmt: skip

    def named(name: str) -> str:
        return f"{name}:{spec}" if spec else name

    return (
        metric(
            named("auto_bleu"), "Repetition within an answer (auto-BLEU-2)", score=partial(repetition, spec=spec),
            variant=lambda other: _metrics(other)[0],
        ),
        metric(
            named("self_bleu"), "Repetition among answers (self-BLEU-2)", score=words, shares=self_bleu_shares,
            variant=lambda other: _metrics(other)[1],
        ),
        metric(
            named("vert"), "Lack of variety (VERT)", score=words, shares=vert_shares,
            variant=lambda other: _metrics(other)[2],
        ),
    )  # fmt: skip


METRICS = _metrics("")
