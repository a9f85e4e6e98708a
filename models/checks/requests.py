"""The requests that the checks of language models make."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codecbench.models.base import Request, Response, Sampling, Task
from codecbench.models.limits import TAKES_REFERENCE, TAKES_TEXT, TRANSLATES, WORKS_ON_AUDIO

if TYPE_CHECKING:
    from codecbench.models.checks.subject import Subject

SHORT = Sampling(max_seconds=0.5, seed=1)
GREEDY = Sampling(temperature=0, max_seconds=0.5, seed=1)

TAKES_AUDIO = WORKS_ON_AUDIO | {"tts"}
"""Tasks whose request has audio here: what is worked on, or a prompt."""

TEXT = "a short line"


def request(subject: Subject, task: Task | None = None, seed: int = 0) -> Request:
    """An ordinary request of `task`, by default the first of the card's."""
    chosen = task or subject.card.tasks[0]
    return Request(
        chosen,
        text=TEXT if chosen in TAKES_TEXT else None,
        audio=subject.clip(0.5, seed) if chosen in TAKES_AUDIO else None,
        reference=subject.clip(0.5, seed + 1) if chosen in TAKES_REFERENCE else None,
        transcript=TEXT if chosen == "tts" else None,
        language="en" if chosen in TRANSLATES else None,
    )


def same_response(a: Response, b: Response) -> bool:
    """Both have the same text, tokens and samples."""
    if a.text != b.text or a.tokens != b.tokens or (a.audio is None) != (b.audio is None):
        return False
    return a.audio is None or b.audio is None or a.audio.samples.tobytes() == b.audio.samples.tobytes()
