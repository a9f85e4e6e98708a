"""Checks of what a language model generates, and of what it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from codecbench.audio import Clip
from codecbench.models.base import Request, Response, Sampling, Task
from codecbench.models.checks.base import LMS, Failed, Skipped, check
from codecbench.models.checks.probes import frozen, speechlike
from codecbench.models.checks.requests import GREEDY, SHORT, TAKES_AUDIO, request, same_response
from codecbench.models.checks.subject import Subject, check_audio, describe
from codecbench.models.limits import GIVES_TEXT, TAKES_TEXT, TRANSLATES


def _generate(subject: Subject, requests: Sequence[Request], sampling: Sampling = SHORT) -> list[Response]:
    found = subject.lm.generate(list(requests), sampling)
    if not isinstance(found, list) or len(found) != len(requests):
        raise Failed(f"generate returned {describe(found)} for {len(requests)} requests")
    return found


def _refuses(subject: Subject, requests: Sequence[Request], sampling: Sampling, what: str) -> None:
    try:
        subject.lm.generate(list(requests), sampling)
    except ValueError:
        return
    except Exception as error:
        raise Failed(f"{what} raises {type(error).__name__} ({error}), not ValueError") from error
    raise Failed(f"{what} is accepted")


@check(LMS)
def every_task(subject: Subject) -> None:
    """Every task of the card gives what it is for: text, or finite float32 audio at the card's sample rate."""
    for task in subject.card.tasks:
        (response,) = _generate(subject, [request(subject, task)])
        try:
            _is_whole(subject, response, text=task in GIVES_TEXT)
        except Failed as failure:
            raise Failed(f"{task}: {failure}") from failure


def _is_whole(subject: Subject, response: Response, *, text: bool) -> None:
    if not isinstance(response, Response) or response.tokens < 0:
        raise Failed(f"the response is {describe(response)}, or has a negative number of tokens")
    if text and not isinstance(response.text, str):
        raise Failed("the response has no text")
    if not text:
        if response.audio is None:
            raise Failed("the response has no audio")
        check_audio(response.audio.samples, (subject.channels, response.audio.length))
        if response.audio.sample_rate != subject.rate:
            raise Failed(f"the audio is at {response.audio.sample_rate} Hz, on the card {subject.rate}")
        if response.audio.length and not response.tokens:
            raise Failed("there is audio, but no tokens were counted")


@check(LMS)
def max_seconds(subject: Subject) -> None:
    """No generated audio is longer than `max_seconds`, and a longer limit lets more or as much come."""
    for seconds in (0.2, 0.4):
        (response,) = _generate(subject, [request(subject)], replace(SHORT, max_seconds=seconds))
        if response.audio is not None and response.audio.duration > seconds + 1e-6:
            raise Failed(f"{response.audio.duration:.3f} s came where {seconds} s were allowed")


@check(LMS)
def seed_repeats(subject: Subject) -> None:
    """The same request with the same seed gives the same response, with another in between."""
    before = _generate(subject, [request(subject)])[0]
    _generate(subject, [request(subject, seed=4)], replace(SHORT, seed=9))
    if not same_response(before, _generate(subject, [request(subject)])[0]):
        raise Failed("the same request and seed give another response")


@check(LMS)
def seed_matters(subject: Subject) -> None:
    """At temperature 1 other seeds give other responses."""
    responses = [_generate(subject, [request(subject)], replace(SHORT, seed=seed))[0] for seed in range(4)]
    if all(same_response(responses[0], response) for response in responses[1:]):
        raise Failed("four seeds give one response")


@check(LMS)
def greedy_repeats(subject: Subject) -> None:
    """At temperature 0 every seed gives one response."""
    a, b = (_generate(subject, [request(subject)], replace(GREEDY, seed=seed))[0] for seed in (1, 2))
    if not same_response(a, b):
        raise Failed("at temperature 0 two seeds give two responses")


@check(LMS)
def top_one_is_greedy(subject: Subject) -> None:
    """`top_k` 1 gives what temperature 0 gives."""
    (greedy,) = _generate(subject, [request(subject)], GREEDY)
    (narrow,) = _generate(subject, [request(subject)], replace(SHORT, top_k=1))
    if not same_response(greedy, narrow):
        raise Failed("`top_k` 1 gives something else than temperature 0")


@check(LMS)
def generate_batch(subject: Subject) -> None:
    """A request has the same greedy response alone, in a list, and in that list turned round; or with its own limit."""
    requests = [request(subject), request(subject, subject.card.tasks[-1], seed=5)]
    if subject.card.batches:
        requests.append(replace(requests[0], max_seconds=0.6 * GREEDY.max_seconds))
    alone = [_generate(subject, [one], GREEDY)[0] for one in requests]
    for one, response in zip(requests, alone, strict=True):
        if one.max_seconds and response.audio and response.audio.duration > one.max_seconds + 1e-6:
            raise Failed(f"{response.audio.duration:.3f} s came where the request allows {one.max_seconds:g} s")
    for order in (slice(None), slice(None, None, -1)):
        for a, b in zip(alone[order], _generate(subject, requests[order], GREEDY), strict=True):
            if not same_response(a, b):
                raise Failed("in a list the response is another than alone")


@check(LMS)
def generate_nothing(subject: Subject) -> None:
    """No requests give no responses, and no clips no likelihoods."""
    if subject.lm.generate([], SHORT) != [] or subject.lm.loglikelihood([]) != []:
        raise Failed("an empty list did not come back as an empty list")


@check(LMS)
def prompt_unmodified(subject: Subject) -> None:
    """Generating writes nothing into the prompt."""
    task = next((task for task in subject.card.tasks if task in TAKES_AUDIO), None)
    if task is None:
        raise Skipped("no task takes audio")
    own = subject.clip(0.5).samples.copy()
    asked = replace(request(subject, task), audio=Clip(own, subject.rate))
    before = own.copy()
    _generate(subject, [asked])
    if not np.array_equal(own, before):
        raise Failed("the prompt's samples are others afterwards")


@check(LMS)
def cache_is_exact(subject: Subject) -> None:
    """A model with a switch `use_cache` gives the same greedy response with its cache and without."""
    model: Any = subject.lm
    if not isinstance(getattr(model, "use_cache", None), bool):
        raise Skipped("it has no switch `use_cache`")
    found, before = [], model.use_cache
    try:
        for model.use_cache in (True, False):
            found += _generate(subject, [request(subject)], GREEDY)
    finally:
        model.use_cache = before
    if not same_response(*found):
        raise Failed("the cache changes the response")


@check(LMS)
def stream_is_generate(subject: Subject) -> None:
    """What `stream` yields, end to end, is the audio of `generate`; in several pieces where the card says so."""
    asked = next((request(subject, task) for task in subject.card.tasks if task not in GIVES_TEXT), None)
    if asked is None:
        raise Skipped("no task gives audio")
    sampling = replace(SHORT, max_seconds=2.0) if subject.card.streaming else SHORT
    whole = _generate(subject, [asked], sampling)[0].audio
    pieces = list(subject.lm.stream(asked, sampling))
    several = subject.card.streaming and whole is not None and whole.duration > 1.5  # what is shorter may be one
    if whole is None or len(pieces) < 1 + several:
        raise Failed(f"{len(pieces)} pieces came")
    found = np.concatenate([piece.samples for piece in pieces], axis=1)
    if found.shape != whole.samples.shape or not np.allclose(found, whole.samples, atol=1e-5):
        raise Failed("the pieces are not what `generate` gives")


@check(LMS)
def refuses_other_tasks(subject: Subject) -> None:
    """A task that the card does not name is a ValueError, among good requests too."""
    other = "sound" if "sound" not in subject.card.tasks else "no-such-task"
    _refuses(subject, [request(subject), Request(cast("Task", other), text="rain")], SHORT, f"the task '{other}'")


@check(LMS)
def refuses_empty_text(subject: Subject) -> None:
    """An empty text, or none, is a ValueError where the task needs one."""
    task = next((task for task in subject.card.tasks if task in TAKES_TEXT), None)
    if task is None:
        raise Skipped("no task takes text")
    for text in ("", "  \n", None):
        _refuses(subject, [replace(request(subject, task), text=text)], SHORT, f"the text {text!r}")


@check(LMS)
def refuses_long_text(subject: Subject) -> None:
    """A text of a hundred thousand words is a ValueError, not an hour of work or a crash."""
    task = next((task for task in subject.card.tasks if task in TAKES_TEXT), None)
    if task is None:
        raise Skipped("no task takes text")
    _refuses(subject, [replace(request(subject, task), text="word " * 100_000)], SHORT, "a text of 100 000 words")


@check(LMS)
def refuses_short_prompt(subject: Subject) -> None:
    """A prompt of one sample, less than a frame, is a ValueError, and so is none where the task works on audio."""
    task = next((task for task in subject.card.tasks if task in TAKES_AUDIO - TAKES_TEXT), None)
    if task is None:
        raise Skipped("no task works on audio")
    _refuses(subject, [replace(request(subject, task), audio=subject.clip_of(1))], SHORT, "a prompt of one sample")
    if task != "continuation":
        _refuses(subject, [replace(request(subject, task), audio=None)], SHORT, "no audio")


@check(LMS)
def refuses_other_rate(subject: Subject) -> None:
    """Audio at another rate or with other channels than the card's is a ValueError: the harness converts, no model."""
    wrong = frozen(speechlike(2_000, subject.rate)[None].repeat(subject.channels, 0), subject.rate // 2)
    wide = frozen(speechlike(2_000, subject.rate)[None].repeat(subject.channels + 1, 0), subject.rate)
    task = next((task for task in subject.card.tasks if task in TAKES_AUDIO), None)
    for clip, what in ((wrong, "audio at half the rate"), (wide, "audio with a channel too many")):
        if task:
            _refuses(subject, [replace(request(subject, task), audio=clip)], SHORT, what)
        try:
            subject.lm.loglikelihood([clip])
        except ValueError:
            continue
        raise Failed(f"loglikelihood accepts {what}")


@check(LMS)
def refuses_other_languages(subject: Subject) -> None:
    """A language that does not exist is a ValueError where the task has one."""
    task = next((task for task in subject.card.tasks if task in TRANSLATES), None)
    if task is None:
        raise Skipped("no task translates")
    _refuses(subject, [replace(request(subject, task), language="xx-none")], SHORT, "the language 'xx-none'")


@check(LMS)
def refuses_odd_sampling(subject: Subject) -> None:
    """Sampling that means nothing is a ValueError: negative or not finite temperature, `top_p` 0, `max_seconds` 0."""
    odd: tuple[dict[str, Any], ...] = (
        {"temperature": -1.0}, {"temperature": float("nan")}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5},
        {"max_seconds": 0.0}, {"max_seconds": float("inf")},
    )  # fmt: skip
    for change in odd:
        _refuses(subject, [request(subject)], replace(SHORT, **change), f"sampling with {change}")
