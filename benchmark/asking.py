"""One request to one language model: build it, have it answered, check the answer.

The harness brings every recording to the model's rate and channels. Whatever the model does wrong becomes a
`SystemFailure` with a reason; an answer is neither cut nor repaired.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import fsum
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

import numpy as np

from codecbench.audio import Audio, Clip
from codecbench.benchmark.coding import SystemFailure, call, codec_input
from codecbench.benchmark.datasets.base import Asked, Dataset, Utterance
from codecbench.benchmark.resources import PeakMemory
from codecbench.benchmark.responses import answered, first_audio, one_likelihood
from codecbench.models.base import Card, Likelihood, Request, Response, Sampling, SpeechLM, Task
from codecbench.models.limits import GIVES_TEXT, OPEN_ENDED
from codecbench.recording import DataError

MARGIN_SECONDS = 2.0
"""An answer may be twice as long as the truth, and so much more."""


@runtime_checkable
class HostedLM(Protocol):
    """A language model whose work is done in a process of its own."""

    def begin_item(self) -> None:
        """The time limit of an item begins."""

    def process(self) -> int | None:
        """The process; None while there is none."""

    def first_audio(self, request: Request, sampling: Sampling) -> float:
        """Seconds until the model's stream yields its first audio."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What came back for one request.

    Attributes:
        output: Mono samples ``[T]`` at `sample_rate`; None where the answer is a text.
        sample_rate: The model's rate in Hz.
        text: None where the answer is audio.
        tokens: How many it took.
        seconds: Wall time; None of an answer that came with others in a batch.
        first_audio: Seconds to the first audio of a model that streams; None otherwise, and where it was not measured.
        memory_mb: By how much the process grew, at its peak.
        cache: Bytes of keys and values at their most, for each second of audio that was heard or made; None where they
            are not known.
        likelihood: Of the truth; None where it was not asked for.
        pair: The likelihoods of the better and the worse recording of a pair, of which nothing else was asked.
    """

    output: Audio | None
    sample_rate: int
    text: str | None
    tokens: int
    seconds: float | None
    first_audio: float | None = None
    memory_mb: float | None = None
    cache: float | None = None
    likelihood: Likelihood | None = None
    pair: tuple[Likelihood, Likelihood] | None = None


def request_of(dataset: Dataset, utterance: Utterance, truth: Clip, card: Card) -> tuple[Request, float]:
    """What `utterance` asks, its recordings at the rate and channels of `card`; and the longest answer in seconds.

    Args:
        dataset: Says how recordings are read.
        utterance: A request.
        truth: Its own recording.
        card: Of the model.

    Raises:
        DataError: A recording cannot be read.
    """
    asked: Asked = utterance.asked  # type: ignore[assignment]
    prompt = prompt_of(dataset, utterance, truth)
    reference = _load(dataset, utterance, asked.reference)
    request = Request(
        cast("Task", asked.task), asked.text or None, codec_input(prompt, card) if prompt else None,
        asked.prompt_transcript or None, codec_input(reference, card) if reference else None,
        utterance.language or None, asked.source_language or None,
    )  # fmt: skip
    own = asked.prompt_seconds if asked.prompt is None else 0.0
    rest = truth.duration - own if own else 2 * truth.duration + MARGIN_SECONDS
    return request, asked.max_seconds or max(rest, 1 / truth.sample_rate)


def prompt_of(dataset: Dataset, utterance: Utterance, truth: Clip) -> Clip | None:
    """The recording that `utterance` asks a model to hear; None for none, as in an ordinary dataset.

    Raises:
        DataError: It cannot be read.
    """
    asked = utterance.asked
    if asked is None:
        return None
    heard = _load(dataset, utterance, asked.prompt)
    if heard is None:
        heard = truth if asked.prompt_seconds or asked.task in GIVES_TEXT else None
    if heard is None or not asked.prompt_seconds:
        return heard
    first, count = (round(seconds * heard.sample_rate) for seconds in (asked.prompt_start, asked.prompt_seconds))
    if first >= heard.length:
        raise DataError(f"the prompt of '{utterance.id}' begins at {asked.prompt_start} s, after its recording's end")
    return Clip(heard.samples[:, first : first + count], heard.sample_rate)


def contrast_of(dataset: Dataset, utterance: Utterance) -> Clip:
    """The worse recording of the pair `utterance`.

    Raises:
        DataError: It cannot be read, or `utterance` is no pair.
    """
    worse = _load(dataset, utterance, utterance.asked.contrast if utterance.asked else None)
    if worse is None:
        raise DataError(f"'{utterance.id}' is no pair")
    return worse


def _load(dataset: Dataset, utterance: Utterance, path: Path | None) -> Clip | None:
    return dataset.load(replace(utterance, path=path)) if path else None


def answer(
    model: SpeechLM, card: Card, request: Request, sampling: Sampling, *, first: bool = False, truth: Clip | None = None
) -> Answer | SystemFailure:
    """Have `model` answer `request`.

    Args:
        model: The model.
        card: What it declares.
        request: See `request_of`.
        sampling: With the longest answer.
        first: Also measure how soon a model that streams yields audio.
        truth: Also ask for the likelihood of this clip, at the model's rate and channels.
    """
    try:
        with _begin(model) as memory:
            started = time.perf_counter()
            (response,) = answered(model, [request], sampling)
            seconds = time.perf_counter() - started
        found = _checked(response, card, request, sampling, seconds)
        streams = first and card.streaming and found.output is not None
        soonest = _first_audio(model, request, sampling) if streams else None
        kept = _cache(response, request)
        found = replace(found, first_audio=soonest, memory_mb=memory.growth_mb(), cache=kept)
    except SystemFailure as failure:
        return failure
    return with_likelihood(model, found, truth)


def _cache(response: Response, request: Request) -> float | None:
    """See `Answer`."""
    heard = fsum(clip.duration for clip in (request.audio, request.reference, response.audio) if clip)
    return response.cache_bytes / heard if response.cache_bytes is not None and heard else None


def _begin(model: SpeechLM) -> PeakMemory:
    """Begin an item, and measure the memory of the process that `model` runs in."""
    if not isinstance(model, HostedLM):
        return PeakMemory()
    model.begin_item()
    return PeakMemory(model.process())


def weigh(model: SpeechLM, card: Card, better: Clip, worse: Clip) -> Answer | SystemFailure:
    """Have `model` say how likely it finds both clips of a pair, at the rate and channels of `card`."""
    try:
        with _begin(model) as memory:
            started = time.perf_counter()
            first, second = (one_likelihood(call(model.loglikelihood, [clip])) for clip in (better, worse))
            seconds = time.perf_counter() - started
    except SystemFailure as failure:
        return failure
    rate, tokens, grown = card.sample_rate or 0, first.tokens + second.tokens, memory.growth_mb()
    return Answer(None, rate, None, tokens, seconds, memory_mb=grown, pair=(first, second))


def with_likelihood(model: SpeechLM, found: Answer, truth: Clip | None) -> Answer | SystemFailure:
    """`found` with the likelihood of `truth`, if there is one, which has the time of an item of its own."""
    if truth is None:
        return found
    if isinstance(model, HostedLM):
        model.begin_item()
    try:
        return replace(found, likelihood=one_likelihood(call(model.loglikelihood, [truth])))
    except SystemFailure as failure:
        return failure


def answer_together(
    model: SpeechLM, card: Card, asked: Sequence[tuple[Request, float]], sampling: Sampling
) -> list[Answer | SystemFailure | None]:  # fmt: skip
    """What `model` answers to requests in one batch, each with its longest answer in seconds.

    A batch that fails is halved, so that a failure costs the others nothing; None for a request that is left, which is
    to be asked alone. Of a batch that takes longer than one item may, there are no answers.
    """
    if len(asked) < 2:
        return [None] * len(asked)
    if isinstance(model, HostedLM):
        model.begin_item()
    longest = replace(sampling, max_seconds=max(limit for _, limit in asked))
    requests = [replace(request, max_seconds=limit) for request, limit in asked]
    try:
        found = answered(model, requests, longest)
    except SystemFailure as failure:
        if str(failure).startswith("timeout("):
            return []
        half = len(asked) // 2
        parts = [answer_together(model, card, part, sampling) for part in (asked[:half], asked[half:])]
        return [*parts[0], *parts[1]] if all(parts) else []
    return [
        _judged(response, card, request, replace(sampling, max_seconds=limit))
        for response, (request, limit) in zip(found, asked, strict=True)
    ]


def _judged(response: Response, card: Card, request: Request, sampling: Sampling) -> Answer | SystemFailure:
    try:
        return _checked(response, card, request, sampling, None)
    except SystemFailure as failure:
        return failure


def _first_audio(model: SpeechLM, request: Request, sampling: Sampling) -> float:
    measure: Callable[[Request, Sampling], float]
    measure = model.first_audio if isinstance(model, HostedLM) else lambda *asked: first_audio(model, *asked)
    return measure(request, sampling)


def _checked(response: Response, card: Card, request: Request, sampling: Sampling, seconds: float | None) -> Answer:
    rate = card.sample_rate or 0
    if request.task in GIVES_TEXT:
        if response.text is None:
            raise SystemFailure("contract(the task gives a text, and the response has none)")
        return Answer(None, rate, response.text, response.tokens, seconds)
    audio = response.audio
    if audio is None or audio.sample_rate != rate or audio.channels != (card.channels or audio.channels):
        heard = f"{audio.channels} x {audio.sample_rate} Hz" if audio else "no audio"
        raise SystemFailure(f"contract(the response has {heard}, not {card.channels} x {rate} Hz)")
    if bad := int(audio.samples.size - np.isfinite(audio.samples).sum()):
        raise SystemFailure(f"nonfinite({bad} of {audio.samples.size} samples)")
    if audio.duration > sampling.max_seconds + 1e-6:
        raise SystemFailure(f"length({audio.duration:.2f} s, over the limit of {sampling.max_seconds:.2f} s)")
    if not response.ended and request.task not in OPEN_ENDED:
        raise SystemFailure(f"length(no end within {sampling.max_seconds:.2f} s)")
    if not audio.length:
        raise SystemFailure("length(no audio)")
    samples = np.ascontiguousarray(audio.samples.astype(np.float32).mean(axis=0, dtype=np.float32))
    return Answer(samples, rate, response.text, response.tokens, seconds)
