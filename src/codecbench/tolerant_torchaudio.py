"""The one place that imports torchaudio, with or without its compiled extension, and SpeechBrain, which needs it.

The only wheel of torchaudio on the common index is linked against CUDA. Beside a CPU build of torch its extension
cannot be loaded, and ``import torchaudio`` raises, although the parts that are written in Python (mel filter banks,
transforms, Kaldi features) need no extension. `load` then imports those parts alone. It also leaves torchaudio in
``sys.modules``, so that a later plain ``import torchaudio``, such as SpeechBrain's, finds it there.
"""

from __future__ import annotations

import sys
from functools import cache
from types import ModuleType
from typing import Any, NoReturn

EXTENSION = "torchaudio._extension"


@cache
def load() -> ModuleType:
    """Return torchaudio: as installed where its extension loads, else its Python parts.

    What needs the extension raises RuntimeError when called.

    Raises:
        ImportError: torchaudio or torch is not installed.
    """
    try:
        import torchaudio
    except (OSError, RuntimeError):  # linked against another torch, or another CUDA version
        _forget()
        placeholder = _without_extension()
        sys.modules[EXTENSION] = placeholder
        try:
            import torchaudio
        except BaseException:
            _forget()
            raise
        torchaudio._extension = placeholder  # the import system binds only what it loads itself
    return torchaudio  # type: ignore[no-any-return]


def import_speechbrain() -> None:
    """Import SpeechBrain, with or without torchaudio's extension, and take its stand-ins out of `sys.modules`.

    Those redirect old names of its modules; one that needs a package that is not installed raises ImportError
    at whatever looks at all modules, as debuggers and test tools do. The precision of products, which it lowers for
    the whole process, is as before.
    """
    load()
    import torch

    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        from speechbrain.utils.importutils import LazyModule
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions
    for name in [name for name, module in sys.modules.items() if issubclass(type(module), LazyModule)]:
        del sys.modules[name]


def _forget() -> None:
    """Drop half-imported modules: a second import would take them for whole ones."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
        del sys.modules[name]


def _without_extension() -> ModuleType:
    """A stand-in for `EXTENSION` that says what torchaudio itself says where no extension was built."""
    module: Any = ModuleType(EXTENSION)
    module._IS_TORCHAUDIO_EXT_AVAILABLE = False
    module._IS_ALIGN_AVAILABLE = False
    module._load_lib = lambda _name: False
    module.fail_if_no_align = _unavailable
    return module  # type: ignore[no-any-return]


def _unavailable(function: Any) -> Any:
    """Decorate a function that needs the extension."""

    def fail(*_args: Any, **_kwargs: Any) -> NoReturn:
        name = f"{function.__module__}.{function.__name__}"
        raise RuntimeError(f"{name} needs torchaudio's compiled extension, which did not load")

    return fail
