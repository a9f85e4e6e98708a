"""What a language model refuses, and how it says so: every adapter asks here before it starts to work."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from codecbench.audio import Clip
from codecbench.models.base import Card, Request, Sampling, Task

LONGEST_TEXT = 2_000
"""Characters, where a model does not say otherwise."""

TAKES_TEXT: frozenset[Task] = frozenset({"tts", "mt", "editing", "singing", "music", "sound"})
"""Tasks whose request has a text."""
WORKS_ON_AUDIO: frozenset[Task] = frozenset(
    {"continuation", "asr", "s2st", "s2tt", "slu", "captioning", "enhancement", "removal", "extraction", "editing",
     "dereverberation", "conversion"}
)  # fmt: skip
"""Tasks whose request has audio; others may have a prompt."""
TAKES_REFERENCE: frozenset[Task] = frozenset({"extraction", "conversion"})
"""Tasks whose request has a second recording."""
TRANSLATES: frozenset[Task] = frozenset({"mt", "s2st", "s2tt"})
"""Tasks whose request has a target language."""
GIVES_TEXT: frozenset[Task] = frozenset({"asr", "mt", "s2tt", "slu", "captioning"})
"""Tasks whose response has a text; the others' has audio."""
OPEN_ENDED: frozenset[Task] = frozenset({"continuation", "music", "sound"})
"""Tasks whose answer is as long as was asked for: one that has no end of its own within the limit is an answer too."""


def check_sampling(sampling: Sampling) -> None:
    """Raise ValueError if `sampling` means nothing."""
    if not (isfinite(sampling.temperature) and sampling.temperature >= 0):
        raise ValueError(f"a temperature of {sampling.temperature}: it is 0 (greedy) or more")
    if sampling.top_k < 0:
        raise ValueError(f"top_k {sampling.top_k}: it is 0 (no limit) or more")
    if not 0 < sampling.top_p <= 1:
        raise ValueError(f"top_p {sampling.top_p}: it is above 0 and at most 1 (no limit)")
    if not (isfinite(sampling.guidance) and sampling.guidance >= 0):
        raise ValueError(f"a guidance of {sampling.guidance}: it is 0 or more, 1 for none")
    if not (isfinite(sampling.max_seconds) and sampling.max_seconds > 0):
        raise ValueError(f"max_seconds {sampling.max_seconds}: it is above 0, and finite")


def check_request(
    card: Card, request: Request, *, frame: int = 1, longest_text: int = LONGEST_TEXT, languages: Sequence[str] = ()
) -> None:
    """Raise ValueError if the model of `card` cannot do what `request` asks.

    Args:
        card: The model's card: its tasks, sample rate and channels.
        request: What is asked.
        frame: Samples of the shortest audio that the model can hear.
        longest_text: Characters that it takes.
        languages: The target languages that it knows.
    """
    task, text = request.task, request.text
    if task not in card.tasks:
        raise ValueError(f"{card.name} has no task '{task}'; it has {', '.join(card.tasks)}")
    if task in TAKES_TEXT and not (text and text.strip()):
        raise ValueError(f"the task '{task}' needs a text")
    if text and len(text) > longest_text:
        raise ValueError(f"the text has {len(text)} characters; {card.name} takes {longest_text}")
    if task in WORKS_ON_AUDIO and request.audio is None:
        raise ValueError(f"the task '{task}' needs audio")
    if task in TAKES_REFERENCE and request.reference is None:
        raise ValueError(f"the task '{task}' needs a reference, a second recording")
    for clip in (request.audio, request.reference):
        if clip is not None:
            check_clip(card, clip, frame)
    if task in TRANSLATES and request.language not in languages:
        known = ", ".join(languages)
        raise ValueError(f"{card.name} does not know the language '{request.language}'; it knows {known}")


def seconds_of(request: Request, sampling: Sampling) -> float:
    """The longest answer to `request`, in seconds; ValueError if that means nothing."""
    own = sampling.max_seconds if request.max_seconds is None else request.max_seconds
    if not (isfinite(own) and own > 0):
        raise ValueError(f"a request's max_seconds of {own}: it is above 0, and finite")
    return min(own, sampling.max_seconds)


def check_clip(card: Card, clip: Clip, frame: int = 1) -> None:
    """Raise ValueError unless `clip` is at the card's sample rate and channels, and has `frame` samples at least."""
    if clip.sample_rate != card.sample_rate or clip.channels != (card.channels or clip.channels):
        raise ValueError(
            f"{card.name} takes {card.channels} x {card.sample_rate} Hz, not {clip.channels} x {clip.sample_rate} Hz"
        )
    if clip.length < frame:
        raise ValueError(f"the audio has {clip.length} samples; {card.name} needs {frame}")
