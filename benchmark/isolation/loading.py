"""Loading a system, the same in a worker and in a host, and what is said when that fails."""

from __future__ import annotations

from codecbench import weights
from codecbench.benchmark.coding import last_trace, one_line
from codecbench.errors import CodecbenchError
from codecbench.models import registry as models
from codecbench.models.base import Codec, LoadOptions, SpeechLM


class LoadFailure(Exception):
    """A system cannot be loaded; `str` is the reason, such as ``load(OSError: no such library)``.

    Attributes:
        trace: The end of the traceback.
    """

    def __init__(self, reason: str, trace: str = "") -> None:
        super().__init__(reason)
        self.trace = trace


def load_system(target: str, options: LoadOptions) -> Codec | SpeechLM:
    """What `target` names, ready to run.

    Raises:
        LoadFailure: It cannot be loaded, for whatever reason.
    """
    try:
        loaded = models.find(target).load(options)
        if not isinstance(loaded, Codec | SpeechLM):
            raise TypeError(f"{target} loads a {type(loaded).__name__}, not a Codec or SpeechLM")
        if options.device.startswith("cuda"):
            import torch

            torch.backends.cudnn.allow_tf32 = False  # cuDNN's default, and enough to flip codes
    except Exception as error:
        raise LoadFailure(load_reason(error), last_trace(error)) from error
    return loaded


def load_reason(error: BaseException) -> str:
    """Why a system cannot be loaded: ``weights(...)`` where its weights are to blame, else ``load(...)``."""
    text = one_line(error)
    frame, of_weights = error.__traceback__, False
    while frame:
        of_weights |= frame.tb_frame.f_code.co_filename == weights.__file__
        frame = frame.tb_next
    if isinstance(error, CodecbenchError):
        return f"weights({text})" if of_weights else f"load({text})"
    return f"load({type(error).__name__}: {text})"
