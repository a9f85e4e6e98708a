"""Checks of the log-likelihoods that a language model gives."""

from __future__ import annotations

from math import isfinite

import numpy as np

from codecbench.audio import Clip
from codecbench.models.base import Likelihood, Request
from codecbench.models.checks.base import LMS, Failed, Skipped, check
from codecbench.models.checks.requests import GREEDY, request
from codecbench.models.checks.subject import Subject, describe

CLOSE = 1e-3
"""Relative difference of two likelihoods that rounding may make."""


def _score(subject: Subject, clips: list[Clip]) -> list[Likelihood]:
    if not subject.card.likelihood:
        raise Skipped("by its card it gives no likelihood of audio")
    found = subject.lm.loglikelihood(clips)
    if not isinstance(found, list) or len(found) != len(clips):
        raise Failed(f"loglikelihood returned {describe(found)} for {len(clips)} clips")
    return found


@check(LMS)
def likelihood_is_whole(subject: Subject) -> None:
    """A clip's log-likelihood is finite and not positive, over at least one token, for the clip's own seconds."""
    clip = subject.clip(0.5)
    (score,) = _score(subject, [clip])
    if not isfinite(score.nats) or score.nats > 1e-6:
        raise Failed(f"{score.nats} nats")
    if score.tokens < 1 or abs(score.seconds - clip.duration) > 1e-6:
        raise Failed(f"{score.tokens} tokens and {score.seconds} s for a clip of {clip.duration} s")


@check(LMS)
def no_likelihood(subject: Subject) -> None:
    """A model whose card says that it gives no likelihood of audio raises ValueError when asked for one."""
    if subject.card.likelihood:
        raise Skipped("it gives likelihoods")
    try:
        subject.lm.loglikelihood([subject.clip(0.5)])
    except ValueError:
        return
    raise Failed("it gives one: say `likelihood=True` on its card")


@check(LMS)
def likelihood_of_silence(subject: Subject) -> None:
    """Silence and full-scale noise have finite likelihoods."""
    length = subject.rate // 4
    noise = np.random.default_rng(2).uniform(-1, 1, length)
    for samples in (np.zeros(length), noise):
        (score,) = _score(subject, [subject.spread(samples)])
        if not isfinite(score.nats):
            raise Failed(f"{score.nats} nats")


@check(LMS)
def likelihood_repeats(subject: Subject) -> None:
    """A clip has the same likelihood again, in a list with others, and in that list turned round."""
    clips = [subject.clip(0.5), subject.clip(0.3, seed=2), subject.clip(0.4, seed=3)]
    alone = [_score(subject, [clip])[0] for clip in clips]
    for order in (slice(None), slice(None, None, -1)):
        for a, b in zip(alone[order], _score(subject, clips[order]), strict=True):
            if a.tokens != b.tokens or abs(a.nats - b.nats) > CLOSE * abs(a.nats) + 1e-3:
                raise Failed(f"{a.nats:.4f} nats alone, {b.nats:.4f} in a list")


@check(LMS)
def likelihood_adds_up(subject: Subject) -> None:
    """A clip's beginning has fewer tokens than the whole and is no less likely: the model looks at the past alone."""
    whole = subject.clip(0.8)
    cut = Clip(whole.samples[:, : whole.length // 2].copy(), whole.sample_rate)
    (long,), (short,) = _score(subject, [whole]), _score(subject, [cut])
    if short.tokens >= long.tokens:
        raise Failed(f"half the clip has {short.tokens} tokens, the whole {long.tokens}")
    edge = 0.05 * abs(long.nats)  # the last frames before the cut hear it
    if short.nats < long.nats - edge:
        raise Failed(f"half the clip has {short.nats:.2f} nats, the whole {long.nats:.2f}")


@check(LMS)
def likelihood_prefers_own(subject: Subject) -> None:
    """What the model generates greedily is likelier to it, a token, than noise of the same length."""
    if "continuation" not in subject.card.tasks:
        raise Skipped("it does not continue audio")
    subject.needs_true_weights()
    asked: Request = request(subject, "continuation")
    audio = subject.lm.generate([asked], GREEDY)[0].audio
    if audio is None or not audio.length:
        raise Skipped("it generated no audio")
    noise = subject.spread(0.3 * np.random.default_rng(3).standard_normal(audio.length))
    own, other = _score(subject, [audio, noise])
    if own.nats / own.tokens <= other.nats / other.tokens:
        raise Failed(f"{own.nats / own.tokens:.3f} nats a token for its own, {other.nats / other.tokens:.3f} for noise")
