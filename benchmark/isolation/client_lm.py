"""A language model in a process of its own, as the rest of the worker sees it: an ordinary `SpeechLM`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from codecbench.audio import Clip
from codecbench.benchmark.coding import SystemFailure
from codecbench.benchmark.isolation.hosts import Hosts, HostSettings, Slot, shown
from codecbench.benchmark.isolation.protocol import Message, ProtocolError, typed
from codecbench.benchmark.isolation.wire import read_likelihood, read_response, request_message
from codecbench.models.base import Card, Likelihood, Request, Response, Sampling, SpeechLM

T = TypeVar("T")
_SMALL = 1 << 20


class IsolatedLM(Hosts, SpeechLM):
    """A language model whose adapter runs in a host; see `Hosts`."""

    def __init__(self, card: Card, settings: HostSettings) -> None:
        self._slot = Slot()
        super().__init__(card, settings, (self._slot,))

    def process(self) -> int | None:
        """See `codecbench.benchmark.asking.HostedLM`."""
        host = self._running(self._slot)
        return host.process()

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        """See `SpeechLM`; all requests in one batch."""
        if not requests:
            return []
        # Float32 of every channel, and as much again: what is longer is refused before it is held.
        samples = sampling.max_seconds * (self.card.sample_rate or 0) * (self.card.channels or 1)
        cap = _SMALL + 8 * round(samples)
        *others, last = requests
        for one in others:
            self._read(request_message("also", one, sampling), 0, lambda _: None)
        asked = [request_message("generate", last, sampling), *[Message("another")] * len(others)]
        return [self._read(message, cap, read_response) for message in asked]

    def loglikelihood(self, items: Sequence[Clip]) -> list[Likelihood]:
        """See `SpeechLM`; one clip at a time."""
        messages = (Message("loglikelihood", {"sample_rate": c.sample_rate}, (c.samples,)) for c in items)
        return [self._read(message, 0, read_likelihood) for message in messages]

    def first_audio(self, request: Request, sampling: Sampling) -> float:
        """See `codecbench.benchmark.asking.HostedLM`; as the host measures it."""
        message = request_message("first_audio", request, sampling)
        return self._read(message, 0, lambda answer: float(typed(answer.facts, "seconds", float)))

    def _read(self, message: Message, cap: int, read: Callable[[Message], T]) -> T:
        answer = self._ask(self._slot, message, cap)
        try:
            return read(answer)
        except ProtocolError as error:
            raise SystemFailure(f"contract(protocol: {error})") from error
        except ValueError as error:
            raise SystemFailure(f"contract({shown(str(error))})") from error
