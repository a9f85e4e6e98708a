"""Models of units in a tiny size: on random weights of the released sizes, checks take minutes to hours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from codecbench.models.dgslm import DGSLM
from codecbench.models.gslm import GSLM
from codecbench.models.pgslm import ContinuousProsody, DiscreteProsody
from codecbench.models.speech_resynthesis import Hubert100, Hubert100Pitch, Hubert500, SpeechResynthesis
from codecbench.models.speechgen import SpeechGen
from codecbench.models.speechprompt import SpeechPrompt, SpeechPromptV2
from codecbench.models.twist import OPT, Twist, Twist7B, Twist350M

HEARS: dict[str, Any] = {
    "layer": 1, "dimension": 16, "heads": 2, "hidden": 32, "position_groups": 4,
    "convs": ((8, 10, 5), *[(8, 3, 2)] * 4, *[(8, 2, 2)] * 2),
}  # fmt: skip
SLOWLY = HEARS | {"convs": (*HEARS["convs"], (8, 2, 2))}
SPEAKS: dict[str, Any] = {"channels": 16, "width": 32, "duration": (8, 3)}


class TinyResynthesis(SpeechResynthesis):
    """A codec of units."""

    card = replace(Hubert100.card, name="tiny-resynthesis")
    features, vocoder_shape = HEARS, SPEAKS


class TinyPitch(Hubert100Pitch):
    """A codec of units and pitch."""

    card = replace(Hubert100Pitch.card, name="tiny-pitch")
    features, vocoder_shape = HEARS, {"channels": 16, "width": 32, "pitch": 20}


class TinyVoices(SpeechResynthesis):
    """A codec of units, spoken by one of several voices."""

    card = replace(Hubert500.card, name="tiny-voices")
    features, vocoder_shape = HEARS, SPEAKS | {"speakers": 3, "styles": 2}


class TinyGSLM(GSLM):
    """GSLM."""

    card = replace(GSLM.card, name="tiny-gslm")
    size = (32, 2, 4, 64)
    features, vocoder_shape = HEARS, SPEAKS


class TinyTwist(Twist):
    """TWIST from OPT."""

    card = replace(Twist350M.card, name="tiny-twist")
    config = OPT | {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 64, "word_embed_proj_dim": 16,
        "do_layer_norm_before": False,
    }  # fmt: skip
    features = SLOWLY
    vocoder_shape = SPEAKS | {"strides": (5, 4, 4, 4, 2), "kernel_sizes": (11, 8, 8, 8, 4)}


class TinyTwistLlama(TinyTwist):
    """TWIST from Llama."""

    card = replace(Twist7B.card, name="tiny-twist-llama")
    config = dict(Twist7B.config) | {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    }  # fmt: skip


class TinyDGSLM(DGSLM):
    """dGSLM."""

    card = replace(DGSLM.card, name="tiny-dgslm")
    size: ClassVar[dict[str, Any]] = {"dimension": 32, "layers": 3, "heads": 4, "hidden": 64, "cross": 2}
    features: ClassVar[dict[str, Any]] = HEARS
    vocoder_shape: ClassVar[dict[str, Any]] = {"channels": 16, "width": 32, "speakers": 5}


PITCHED: dict[str, Any] = {
    "channels": 16, "width": 32, "strides": (5, 4, 2, 2), "kernel_sizes": (11, 8, 4, 4), "duration": None,
}  # fmt: skip


class TinyPGSLM(DiscreteProsody):
    """pGSLM with prosody in codes."""

    card = replace(DiscreteProsody.card, name="tiny-pgslm")
    size = (32, 2, 4, 64)
    features, vocoder_shape = HEARS, PITCHED


class TinyPGSLMNumbers(ContinuousProsody):
    """pGSLM with prosody in numbers."""

    card = replace(ContinuousProsody.card, name="tiny-pgslm-numbers")
    size = (32, 2, 4, 64)
    features, vocoder_shape = HEARS, PITCHED


class TinySpeechPrompt(SpeechPrompt):
    """SpeechPrompt."""

    card = replace(SpeechPrompt.card, name="tiny-speechprompt")
    size, length = (32, 2, 4, 64), 6
    features, vocoder_shape = HEARS, SPEAKS


class TinySpeechPromptV2(SpeechPromptV2):
    """SpeechPrompt's second version."""

    card = replace(SpeechPromptV2.card, name="tiny-speechprompt-v2")
    size = (32, 2, 4, 64)
    features, vocoder_shape = HEARS, SPEAKS


class TinySpeechGen(SpeechGen):
    """SpeechGen."""

    card = replace(SpeechGen.card, name="tiny-speechgen")
    size: ClassVar[dict[str, Any]] = {"dimension": 32, "layers": 2, "heads": 4, "hidden": 64}
    features, vocoder_shape, length = HEARS, SPEAKS, 5
