"""A small honest language model, and broken ones that vary it in one thing each."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from codecbench.audio import Clip
from codecbench.models.base import Card, Likelihood, OperatingPoint, Request, Response, Sampling, SpeechLM, Stream
from codecbench.models.limits import GIVES_TEXT, check_clip, check_request, check_sampling

RATE, HOP, TOKENS = 8000, 80, 16


class Honest(SpeechLM):
    """A bigram model of loudness: a token is the level of 10 ms, and is spoken as a buzz of that level."""

    card: ClassVar[Card] = Card(
        name="honest-lm", kind="lm", family="Bigram", track="small", sample_rate=RATE, channels=1,
        points=(OperatingPoint("0.4kbps", 0.4, 1),), streams=(Stream(TOKENS, RATE / HOP),),
        tasks=("continuation", "tts", "asr", "s2tt"),
    )  # fmt: skip
    use_cache = True

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        check_sampling(sampling)
        for request in requests:
            check_request(self.card, request, frame=HOP, languages=("en",))
        return [self.respond(request, sampling) for request in requests]

    def respond(self, request: Request, sampling: Sampling) -> Response:
        if request.task in GIVES_TEXT:
            return Response(text="level " * 3, tokens=3)
        tokens = self.draw(self.prompt(request), int(sampling.max_seconds * RATE / HOP), sampling)
        return Response(self.speak(tokens), tokens=len(tokens))

    def prompt(self, request: Request) -> NDArray[np.int64]:
        heard = self.listen(request.audio) if request.audio else np.zeros(0, np.int64)
        said = zlib.crc32((request.text or "").encode()) % TOKENS
        return np.concatenate([[said], heard])

    def draw(self, prompt: NDArray[np.int64], count: int, sampling: Sampling) -> NDArray[np.int64]:
        rng = np.random.default_rng(sampling.seed)
        tokens = [int(prompt[-1])]
        for _ in range(count):
            scores = self.scores(tokens[-1])
            if sampling.temperature == 0 or sampling.top_k == 1:
                tokens.append(int(scores.argmax()))
            else:
                weights = np.exp(scores / sampling.temperature)
                tokens.append(int(rng.choice(TOKENS, p=weights / weights.sum())))
        return np.array(tokens[1:], np.int64)

    def scores(self, before: int) -> NDArray[np.float64]:
        """Natural logarithms of the next token's probabilities: it stays near its last."""
        logits = -np.abs(np.arange(TOKENS) - before) / 2
        return np.asarray(logits - np.log(np.exp(logits).sum()))

    def listen(self, clip: Clip) -> NDArray[np.int64]:
        frames = clip.samples[0, : clip.length // HOP * HOP].reshape(-1, HOP)
        level = np.sqrt(np.mean(frames.astype(np.float64) ** 2, axis=1))
        return np.asarray(np.clip(np.rint(level * 2 * (TOKENS - 1)), 0, TOKENS - 1), np.int64)

    def speak(self, tokens: NDArray[np.int64]) -> Clip:
        levels = np.repeat(tokens / 2 / (TOKENS - 1), HOP)
        buzz = np.sign(np.sin(2 * np.pi * 100 * (np.arange(len(levels)) + 0.5) / RATE))
        return Clip(np.asarray(levels * buzz, np.float32)[None], RATE)

    def loglikelihood(self, items: Sequence[Clip]) -> list[Likelihood]:
        for clip in items:
            check_clip(self.card, clip, HOP)
        return [self.score(clip) for clip in items]

    def score(self, clip: Clip) -> Likelihood:
        tokens = np.concatenate([[0], self.listen(clip)])
        nats = sum(self.scores(int(a))[b] for a, b in pairwise(tokens))
        return Likelihood(float(nats), len(tokens) - 1, clip.duration)


class Together(Honest):
    """Answers a list at once, each as long as its request allows, unless one says that it is to be refused."""

    card = replace(Honest.card, name="together-lm", batches=True)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        if any("refuse" in (request.text or "") for request in requests):
            raise ValueError("not this")
        return [self.respond(request, _limited(request, sampling)) for request in requests]


def _limited(request: Request, sampling: Sampling) -> Sampling:
    return replace(sampling, max_seconds=request.max_seconds or sampling.max_seconds)


class TakesAnyTask(Honest):
    """Continues whatever it is asked."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        return super().generate([replace(r, task="tts", text=r.text or "x") for r in requests], sampling)


class TakesAnySampling(Honest):
    """Looks at no sampling."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        sane = Sampling(1.0, 0, 1.0, 1.0, 0.1, sampling.seed)
        return super().generate(requests, sane)


class IgnoresSeed(Honest):
    """Draws with its own seed."""

    def draw(self, prompt: NDArray[np.int64], count: int, sampling: Sampling) -> NDArray[np.int64]:
        return super().draw(prompt, count, replace(sampling, seed=0))


class DrawsAnew(Honest):
    """Draws from entropy."""

    def draw(self, prompt: NDArray[np.int64], count: int, sampling: Sampling) -> NDArray[np.int64]:
        return super().draw(prompt, count, replace(sampling, seed=time.monotonic_ns()))


class NeverGreedy(Honest):
    """Takes temperature 0 for 1."""

    def draw(self, prompt: NDArray[np.int64], count: int, sampling: Sampling) -> NDArray[np.int64]:
        return super().draw(prompt, count, replace(sampling, temperature=sampling.temperature or 1.0))


class TalksTooLong(Honest):
    """Ends when it likes."""

    def draw(self, prompt: NDArray[np.int64], count: int, sampling: Sampling) -> NDArray[np.int64]:
        return super().draw(prompt, count + 30, sampling)


class OtherRate(Honest):
    """Labels its audio with another rate."""

    def speak(self, tokens: NDArray[np.int64]) -> Clip:
        return Clip(super().speak(tokens).samples, 2 * RATE)


class StreamsElse(Honest):
    """Streams with another seed."""

    def stream(self, request: Request, sampling: Sampling) -> Iterator[Clip]:
        return super().stream(request, replace(sampling, seed=sampling.seed + 1))


class HearsTheFuture(Honest):
    """Scores each clip by its mean level, which is not known at its beginning."""

    def score(self, clip: Clip) -> Likelihood:
        tokens = self.listen(clip)
        return Likelihood(-50.0 / len(tokens), len(tokens), clip.duration)


class Improper(Honest):
    """Gives likelihoods above one."""

    def score(self, clip: Clip) -> Likelihood:
        return replace(super().score(clip), nats=3.0)


class CountsOtherSeconds(Honest):
    """Counts the seconds of whole frames only."""

    def score(self, clip: Clip) -> Likelihood:
        return replace(super().score(clip), seconds=1.0)


class LeaksInBatch(Honest):
    """Scores a clip by its neighbours."""

    def loglikelihood(self, items: Sequence[Clip]) -> list[Likelihood]:
        found = super().loglikelihood(items)
        return [replace(one, nats=one.nats - len(found)) for one in found]


class PrefersNoise(Honest):
    """Prefers what changes."""

    def score(self, clip: Clip) -> Likelihood:
        found = super().score(clip)
        return replace(found, nats=-1e4 / (1 + abs(found.nats)))


class WrongCache(Honest):
    """Forgets the prompt without its cache."""

    def prompt(self, request: Request) -> NDArray[np.int64]:
        return super().prompt(request) if self.use_cache else np.array([TOKENS - 1])


class TakesEmptyText(Honest):
    """Speaks empty texts."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        return super().generate([replace(r, text=(r.text or "").strip() or "x") for r in requests], sampling)


class CutsText(Honest):
    """Speaks the beginning of long texts."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        return super().generate([replace(r, text=r.text and r.text[:99]) for r in requests], sampling)


class PadsPrompt(Honest):
    """Extends short prompts."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        return super().generate([replace(r, audio=r.audio and _padded(r.audio)) for r in requests], sampling)


def _padded(clip: Clip) -> Clip:
    return Clip(np.pad(clip.samples, [(0, 0), (0, max(0, HOP - clip.length))]), clip.sample_rate)


class NeverEnds(Honest):
    """Comes to no end within the limit."""

    def respond(self, request: Request, sampling: Sampling) -> Response:
        return replace(super().respond(request, sampling), ended=False)


class SaysNothing(Honest):
    """Ends before it begins."""

    def draw(self, prompt: NDArray[np.int64], count: int, sampling: Sampling) -> NDArray[np.int64]:
        return super().draw(prompt, count, sampling)[:0]


class GivesNoText(Honest):
    """Hears, and keeps it to itself."""

    def respond(self, request: Request, sampling: Sampling) -> Response:
        return replace(super().respond(request, sampling), text=None)


class RefusesAll(Honest):
    """Will not."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        raise ValueError(f"not today, {len(requests)} at {sampling.temperature}")


class TakesAnyRate(Honest):
    """Looks at no rate."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        clips: list[Any] = [r.audio and Clip(r.audio.samples[:1], RATE) for r in requests]
        return super().generate([replace(r, audio=c) for r, c in zip(requests, clips, strict=True)], sampling)


class TakesAnyLanguage(Honest):
    """Translates to English, whatever it is asked."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        return super().generate([replace(r, language="en") for r in requests], sampling)
