"""The floor of every list of requests with a prompt: a control that plays the prompt again and again.

It keeps the voice to perfection, and says nothing that was asked. A model that is no better than this has not answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from codecbench.audio import Clip
from codecbench.models.base import Card, Likelihood, OperatingPoint, Request, Response, Sampling, SpeechLM, Task
from codecbench.models.limits import check_clip, check_request, check_sampling

RATE, SHORTEST = 16_000, 160
TASKS: tuple[Task, ...] = (
    "continuation", "tts", "conversion", "enhancement", "removal", "extraction", "dereverberation", "editing",
)  # fmt: skip


class PromptLoop(SpeechLM):
    """Answers with its prompt, repeated for as long as is allowed; to a text without a prompt, with silence."""

    card: ClassVar[Card] = Card(
        "prompt_loop", "lm", "Control", "control", sample_rate=RATE, channels=1, points=(OperatingPoint("loop"),),
        tasks=TASKS,
        expected_failures=(
            ("seed_matters", "it draws nothing"), ("likelihood_prefers_own", "it finds all samples equally likely"),
        ),
    )  # fmt: skip

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        """The prompt of each request, from its start, up to the limit."""
        check_sampling(sampling)
        for request in requests:
            check_request(self.card, request, frame=SHORTEST)
        length = int(sampling.max_seconds * RATE)
        return [Response(_looped(request.audio, length), tokens=length) for request in requests]

    def loglikelihood(self, items: Sequence[Clip]) -> list[Likelihood]:
        """That of 16-bit samples, each as likely as any other."""
        for clip in items:
            check_clip(self.card, clip, SHORTEST)
        return [Likelihood(-clip.length * 16 * float(np.log(2)), clip.length, clip.duration) for clip in items]


def _looped(prompt: Clip | None, length: int) -> Clip:
    if prompt is None:
        return Clip(np.zeros((1, length), np.float32), RATE)
    return Clip(np.ascontiguousarray(np.resize(prompt.samples[0], length))[None], RATE)


SYSTEMS = (PromptLoop,)
