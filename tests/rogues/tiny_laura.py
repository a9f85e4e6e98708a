"""LauraTTS and LauraGPT in a tiny size."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, cast

from codecbench.models.base import LoadOptions
from codecbench.models.funcodec_config import Config, time_domain
from codecbench.models.lauragpt import LauraGPTModel
from codecbench.models.lauragpt import Size as GPTSize
from codecbench.models.lauratts import Codec, LauraTTSModel, Size

_CODEC = time_domain(8, 5, 4, 2, 2)


class TinyCodec(Codec):
    """FunCodec, narrow."""

    config: ClassVar[Config] = {
        **_CODEC,
        "encoder_conf": {**_CODEC["encoder_conf"], "n_filters": 2, "dimension": 8},
        "decoder_conf": {**_CODEC["decoder_conf"], "n_filters": 2, "dimension": 8},
    }


class TinyTTS(LauraTTSModel):
    """LauraTTS."""

    card = replace(LauraTTSModel.card, name="tiny-lauratts")
    size = Size(16, 2, 24, (2, 3, 2), 12, 8)

    @classmethod
    def build_codec(cls, options: LoadOptions) -> Codec:
        """The narrow codec."""
        return cast("Codec", TinyCodec.load(options))


class TinyGPT(LauraGPTModel):
    """LauraGPT."""

    card = replace(LauraGPTModel.card, name="tiny-lauragpt")
    size = GPTSize(
        256,
        {
            "dimension": 16, "layers": 2, "heads": 2, "hidden": 24, "audio": (16, 2, 2, 24, 3),
            "predictor": (16, 2, 2, 24), "channels": 8,
        },
    )  # fmt: skip

    @classmethod
    def build_codec(cls, options: LoadOptions) -> Codec:
        """The narrow codec."""
        return cast("Codec", TinyCodec.load(options))
