"""AudioLM in a tiny size: on random weights of the paper's, checks take hours."""

from __future__ import annotations

from dataclasses import replace

from codecbench.models.audiolm import AudioLMPiano, AudioLMSpeech, Size
from codecbench.models.base import OperatingPoint

FEATURES = {
    "layer": 1, "dimension": 16, "heads": 2, "hidden": 32, "position_kernel": 8, "position_groups": 2,
    "convs": ((16, 10, 5), *[(16, 3, 2)] * 4, *[(16, 2, 2)] * 3),
}  # fmt: skip
TINY = Size(32, 2, 4, units=50, coarse=2, width=4, chunk=12)


class Tiny(AudioLMSpeech):
    """Speech."""

    card = replace(
        AudioLMSpeech.card, name="tiny-audiolm", streams=AudioLMSpeech.card.streams[:4],
        points=(OperatingPoint("2kbps", 2.0, 4),),
    )  # fmt: skip
    size, features = TINY, FEATURES


class TinyPiano(AudioLMPiano):
    """Piano."""

    card = replace(AudioLMPiano.card, name="tiny-audiolm-piano")
    size, features = replace(TINY, coarse=3), FEATURES
