"""Models of metrics that transformers loads: where they lie, and how a signature names them.

A model is a folder as transformers saves it, or a name on the Hugging Face hub (``owner/name``) that is in the hub's
cache on this disk. Nothing is downloaded here.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from codecbench import tolerant_torchaudio
from codecbench.errors import UsageError
from codecbench.paths import sha256_of

WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def transformers() -> Any:
    """The library, whether or not torchaudio, which it imports, has its extension."""
    tolerant_torchaudio.load()
    import transformers as library

    library.logging.disable_progress_bar()
    return library


@cache
def folder(model: str) -> Path:
    """Where `model` lies.

    Raises:
        UsageError: It is not on this disk, has no weights, or transformers is not installed.
    """
    if find_spec("transformers") is None:
        raise UsageError(f"the model '{model}' needs transformers: pip install 'codecbench[hf]'")
    found = Path(model).expanduser()
    if not found.is_dir():
        if model.startswith(("/", ".", "~")) or model.count("/") > 1:
            raise UsageError(f"no such folder with a model: {found}")
        found = _from_hub(model)
    if not (found / "config.json").is_file() or not _weights(found):
        raise UsageError(f"{found} is no model of transformers: it lacks config.json or weights")
    return found


@cache
def signature(model: str) -> str:
    """The name of `model` and the beginning of the digest of its files, weights and settings alike."""
    where = folder(model)
    files = sorted([*_weights(where), *where.glob("*.json"), *where.glob("*.txt"), *where.glob("*.model")])
    digest = hashlib.sha256("".join(f"{file.name} {sha256_of(file)}\n" for file in files).encode()).hexdigest()
    name = model if "/" in model and not Path(model).expanduser().is_dir() else where.name
    return f"{name}-{digest[:8]}"


def _weights(where: Path) -> list[Path]:
    return sorted(file for pattern in WEIGHTS for file in where.glob(pattern))


def _from_hub(model: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise UsageError(f"the model '{model}' is not on this disk; get it with: hf download {model}") from error
