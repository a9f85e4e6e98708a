"""What a language model may return: checked, and nothing beside it. Hosts import this, and nothing of datasets."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from math import isfinite
from typing import Any

from codecbench.audio import Clip
from codecbench.benchmark.coding import SystemFailure, call
from codecbench.models import cache_use
from codecbench.models.base import Likelihood, Request, Response, Sampling, SpeechLM


def first_audio(model: SpeechLM, request: Request, sampling: Sampling) -> float:
    """Seconds until `model`'s stream yields its first audio; the rest is not waited for.

    Raises:
        SystemFailure: It raises, or yields none.
    """
    started = time.perf_counter()
    pieces = call(model.stream, request, sampling)
    try:
        while True:
            piece = call(next, pieces, None)
            if piece is None:
                raise SystemFailure("contract(its stream yields no audio)")
            if getattr(piece, "length", 0):
                return time.perf_counter() - started
    finally:
        call(getattr(pieces, "close", lambda: None))


def answered(model: SpeechLM, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
    """The responses of `model`, checked, with the part of each in what the model kept of the past.

    Raises:
        SystemFailure: It raises, or returns anything else.
    """
    with cache_use.watched() as use:
        found = responses(call(model.generate, requests, sampling), len(requests))
    if use.most is None:
        return found
    return [replace(each, cache_bytes=use.most // len(found)) for each in found]


def responses(found: Any, count: int) -> list[Response]:
    """The responses to `count` requests, of all that a model may return for them: checked, and nothing beside them."""
    if not isinstance(found, list) or len(found) != count or not all(isinstance(each, Response) for each in found):
        raise SystemFailure("contract(generate must return a list of one Response a request)")
    for each in found:
        if not isinstance(each.text, str | None) or type(each.tokens) is not int or each.tokens < 0:
            raise SystemFailure("contract(a response's text is a str or None, its tokens are a number from 0)")
        if each.cache_bytes is not None and (type(each.cache_bytes) is not int or each.cache_bytes < 0):
            raise SystemFailure("contract(the bytes of a response's cache are a number from 0, or None)")
        if not isinstance(each.audio, Clip | None):
            raise SystemFailure(f"contract(a response's audio is a {type(each.audio).__name__}, not a Clip)")
    return list(found)


def one_likelihood(found: Any) -> Likelihood:
    """The likelihood of one clip, of all that a model may return for it."""
    if not isinstance(found, list) or len(found) != 1 or not isinstance(found[0], Likelihood):
        raise SystemFailure("contract(loglikelihood must return a list of one Likelihood a clip)")
    nats, tokens, seconds = float(found[0].nats), int(found[0].tokens), float(found[0].seconds)
    if not (isfinite(nats) and nats <= 0 and tokens > 0 and seconds > 0):
        raise SystemFailure(f"likelihood({nats} nats, {tokens} tokens, {seconds} s)")
    return Likelihood(nats, tokens, seconds)
