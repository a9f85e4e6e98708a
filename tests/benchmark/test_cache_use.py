"""What language models keep of the past is measured: as much as their shape says, and through a process's edge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from codecbench.audio import Clip
from codecbench.benchmark.asking import Answer, answer
from codecbench.benchmark.coding import SystemFailure
from codecbench.benchmark.isolation.protocol import Message, ProtocolError
from codecbench.benchmark.isolation.wire import read_response, response_message
from codecbench.benchmark.responses import answered
from codecbench.models import cache_use
from codecbench.models.base import LoadOptions, Request, Response, Sampling, SpeechLM
from codecbench.models.registry import find

ROGUES = Path(__file__).parents[1] / "rogues"


class Cache:
    """Something that holds bytes."""


def test_the_most_that_caches_hold_at_once() -> None:
    first, second = Cache(), Cache()
    cache_use.note(first, 1000)
    with cache_use.watched() as use:
        assert use.most is None
        cache_use.note(first, 3)
        cache_use.note(second, 4)
        cache_use.note(first, 5)
        del second
        cache_use.note(first, 8)
        with cache_use.watched() as later:
            cache_use.note(first, 2)
    cache_use.note(first, 1000)
    assert [watched.most for watched in (use, later)] == [9, 2]


def test_a_model_keeps_what_its_shape_says() -> None:
    model = find(f"{ROGUES / 'tiny_musicgen.py'}:Tiny").load(LoadOptions(random_seed=0))
    assert isinstance(model, SpeechLM)
    shape, card = model.lm.shape, model.card  # type: ignore[attr-defined]
    sampling = Sampling(max_seconds=0.4, guidance=3.0)
    request = Request("music", text="noise")
    found = answer(model, card, request, sampling)
    assert isinstance(found, Answer)
    rate = card.sample_rate or 0
    frames = round(0.4 * (card.streams[0].frame_rate or 0))
    steps = frames + shape.codebooks - 1  # of the delay; the last is drawn and never kept
    kept = (
        2 * shape.backbone.layers * shape.backbone.dimension * 4 * steps * 2
    )  # keys and values; guidance has two rows
    assert found.output is not None
    assert found.cache == pytest.approx(kept * rate / len(found.output))
    one, two = answered(model, [request, request], sampling)
    assert one.cache_bytes == two.cache_bytes == kept


def test_a_response_tells_its_cache_across_processes() -> None:
    clip = Clip(np.zeros((1, 8), np.float32), 8000)
    for kept in (None, 12_345):
        assert read_response(response_message(Response(clip, cache_bytes=kept))).cache_bytes == kept
    message = response_message(Response(clip))
    with pytest.raises(ProtocolError):
        read_response(Message(message.kind, {**message.facts, "cache_bytes": "many"}, message.arrays))


@pytest.mark.parametrize("kept", [-1, 0.5])
def test_bytes_that_are_none_break_the_contract(kept: float) -> None:
    class Boastful:
        def generate(self, requests: list[Request], _: Sampling) -> list[Response]:
            return [replace(Response(text="x"), cache_bytes=kept) for _request in requests]  # type: ignore[arg-type]

    with pytest.raises(SystemFailure, match="cache"):
        answered(Boastful(), [Request("asr")], Sampling())  # type: ignore[arg-type]
