"""codecbench: a benchmark for neural audio codecs and codec language models.

Axes, everywhere: ``B`` batch, ``C`` channels, ``T`` samples, ``K`` codebooks, ``F`` frames.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codecbench.audio import Clip
    from codecbench.models.base import Card, Codec, Codes, OperatingPoint, SpeechLM, Stream

__version__ = "0.1.0"

# Resolved on first use: `import codecbench` costs milliseconds, whatever the names below pull in.
_PUBLIC = {
    "Clip": "codecbench.audio",
    "Card": "codecbench.models.base",
    "Codec": "codecbench.models.base",
    "Codes": "codecbench.models.base",
    "OperatingPoint": "codecbench.models.base",
    "SpeechLM": "codecbench.models.base",
    "Stream": "codecbench.models.base",
}

__all__ = ["Card", "Clip", "Codec", "Codes", "OperatingPoint", "SpeechLM", "Stream", "__version__"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'codecbench' has no attribute {name!r}")
