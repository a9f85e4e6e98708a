"""The other floor of every list of requests: a control that answers with noise.

It says nothing and has nobody's voice. Beside `prompt_loop`, which keeps the voice, it shows what a metric gives for no
answer at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar
from zlib import crc32

import numpy as np

from codecbench.audio import Clip
from codecbench.models.base import Card, Likelihood, OperatingPoint, Request, Response, Sampling, SpeechLM, Task
from codecbench.models.limits import check_clip, check_request, check_sampling

RATE, SHORTEST = 16_000, 160
LEVEL = 10 ** (-30 / 20)
TASKS: tuple[Task, ...] = (
    "continuation", "tts", "s2st", "conversion", "enhancement", "removal", "extraction", "dereverberation", "editing",
    "singing", "music", "sound",
)  # fmt: skip
LANGUAGES = ("de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "ru", "tr", "zh")


class NoiseAnswer(SpeechLM):
    """Answers with white noise at -30 dBFS for as long as is allowed, which the seed and the request decide."""

    card: ClassVar[Card] = Card(
        "noise_answer", "lm", "Control", "control", sample_rate=RATE, channels=1, points=(OperatingPoint("noise"),),
        tasks=TASKS, expected_failures=(("likelihood_prefers_own", "it finds all samples equally likely"),),
    )  # fmt: skip

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        """Noise up to the limit for each request; the same one at temperature 0, whatever the seed."""
        check_sampling(sampling)
        for request in requests:
            check_request(self.card, request, frame=SHORTEST, languages=LANGUAGES)
        length = int(sampling.max_seconds * RATE)
        seed = sampling.seed if sampling.temperature and sampling.top_k != 1 else 0
        return [Response(_noise(request, seed, length), tokens=length) for request in requests]

    def loglikelihood(self, items: Sequence[Clip]) -> list[Likelihood]:
        """That of 16-bit samples, each as likely as any other."""
        for clip in items:
            check_clip(self.card, clip, SHORTEST)
        return [Likelihood(-clip.length * 16 * float(np.log(2)), clip.length, clip.duration) for clip in items]


def _noise(request: Request, seed: int, length: int) -> Clip:
    heard = request.audio.samples.astype("<f4").tobytes() if request.audio else b""
    asked = crc32(heard, crc32(f"{request.task} {request.text} {request.transcript}".encode()))
    rng = np.random.RandomState([seed % 2**32, asked])  # numpy promises its numbers for good
    return Clip(np.asarray(LEVEL * rng.standard_normal((1, length)), np.float32), RATE)


SYSTEMS = (NoiseAnswer,)
