"""The family of VALL-E in a tiny size: on random weights of the papers' sizes, checks take minutes on a CPU."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from codecbench.models.speechx import SpeechX
from codecbench.models.valle import Valle, ValleX
from codecbench.models.valle_x import ValleXPaper
from codecbench.models.viola import Viola

TINY: dict[str, Any] = {"dimension": 32, "layers": 2, "heads": 4}


class TinyValle(Valle):
    """VALL-E."""

    card, settings, codec_width = replace(Valle.card, name="tiny-valle"), TINY, 4


class TinyValleX(ValleX):
    """VALL-E X."""

    card, settings, codec_width = replace(ValleX.card, name="tiny-valle-x"), ValleX.settings | TINY, 4


class TinySpeechX(SpeechX):
    """SpeechX."""

    card, settings, codec_width = replace(SpeechX.card, name="tiny-speechx"), SpeechX.settings | TINY, 4


class TinyViola(Viola):
    """VioLA."""

    card, codec_width, longest = replace(Viola.card, name="tiny-viola"), 4, 30
    settings: ClassVar[dict[str, Any]] = TINY | {"fine": TINY}


class TinyValleXPaper(ValleXPaper):
    """VALL-E X with a translator."""

    card, settings = replace(ValleXPaper.card, name="tiny-valle-x-paper"), ValleXPaper.settings | TINY
    codec_width, longest, translator = 4, 30, TINY
