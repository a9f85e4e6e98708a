"""Requests, responses and likelihoods as facts and arrays of a message, and back, every field checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from codecbench.audio import Clip
from codecbench.benchmark.isolation.plain import from_plain, to_plain
from codecbench.benchmark.isolation.protocol import Message, ProtocolError, typed
from codecbench.models.base import Likelihood, Request, Response, Sampling, Task

WORDS = ("text", "transcript", "language", "source_language")
CLIPS = ("audio", "reference")
MAX_TEXT = 100_000
"""Characters of a response; a longer text is a fault of the model."""


def request_message(kind: str, request: Request, sampling: Sampling) -> Message:
    """A message of `kind` that asks for a response to `request`."""
    clips = {name: clip for name in CLIPS if (clip := getattr(request, name)) is not None}
    facts = {
        "task": request.task, "words": {name: getattr(request, name) for name in WORDS},
        "rates": {name: clip.sample_rate for name, clip in clips.items()}, "sampling": to_plain(sampling),
        "max_seconds": request.max_seconds,
    }  # fmt: skip
    return Message(kind, facts, tuple(clip.samples for clip in clips.values()))


def read_request(message: Message) -> tuple[Request, Sampling]:
    """The inverse of `request_message`."""
    rates: dict[str, int] = message.fact("rates", dict)
    given: dict[str, Any] = {name: Clip(array, rates[name]) for name, array in zip(rates, message.arrays, strict=True)}
    task: Task = message.fact("task", str)
    sampling: Sampling = from_plain(Sampling, message.fact("sampling", dict))
    longest = message.facts["max_seconds"]  # of the worker, which is trusted
    return Request(task, **message.fact("words", dict), **given, max_seconds=longest), sampling


def response_message(response: Response) -> Message:
    """A message that holds `response`."""
    audio = response.audio
    facts = {
        "text": response.text, "tokens": response.tokens, "ended": bool(response.ended),
        "sample_rate": audio.sample_rate if audio else None, "cache_bytes": response.cache_bytes,
    }  # fmt: skip
    return Message("done", facts, (audio.samples,) if audio else ())


def read_response(message: Message) -> Response:
    """The inverse of `response_message`, of a process that may have meant harm.

    Raises:
        ProtocolError: It is no response.
        ValueError: Its audio is none; see `Clip`.
    """
    facts: Mapping[str, Any] = message.facts
    text, rate = facts.get("text"), facts.get("sample_rate")
    if not isinstance(text, str | None) or len(text or "") > MAX_TEXT:
        raise ProtocolError(f"'text' is no text of at most {MAX_TEXT} characters")
    if len(message.arrays) != (rate is not None):
        raise ProtocolError("another number of recordings than of sample rates")
    audio = _clip(message.arrays, typed(facts, "sample_rate", int)) if rate is not None else None
    kept = typed(facts, "cache_bytes", int) if facts.get("cache_bytes") is not None else None
    return Response(audio, text, typed(facts, "tokens", int), typed(facts, "ended", bool), kept)


def _clip(arrays: Sequence[NDArray[Any]], rate: int) -> Clip:
    if arrays[0].dtype.kind != "f" or arrays[0].ndim != 2 or rate < 1:
        raise ProtocolError("audio is no float samples [C, T] at a rate")
    return Clip(arrays[0], rate)


def likelihood_message(found: Likelihood) -> Message:
    """A message that holds `found`."""
    return Message("done", {"nats": found.nats, "tokens": found.tokens, "seconds": found.seconds})


def read_likelihood(message: Message) -> Likelihood:
    """The inverse of `likelihood_message`; ProtocolError if it is none."""
    nats, seconds = (float(typed(message.facts, name, float)) for name in ("nats", "seconds"))
    return Likelihood(nats, typed(message.facts, "tokens", int), seconds)
