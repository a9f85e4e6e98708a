"""Repositories of the Hugging Face hub: fetched whole by its own client, and hashed as one."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from codecbench.errors import InfrastructureError
from codecbench.paths import sha256_of

UNUSED = ("*.h5", "*.msgpack", "*.onnx", "*.onnx_data", "*.gguf", "flax_model*", "tf_model*", "rust_model*")
"""Weights for other frameworks."""


def fetch(url: str, revision: str, folder: Path) -> None:
    """Download the repository at `url` as it is at `revision` into `folder`; what is there already is kept.

    Raises:
        InfrastructureError: The client is not installed, or the download failed.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise InfrastructureError(f"{url} needs the client of the hub: pip install 'codecbench[hf]'") from error
    name = url.removeprefix("https://huggingface.co/")
    try:
        snapshot_download(name, revision=revision, local_dir=folder, ignore_patterns=list(UNUSED))
    except Exception as error:  # whatever the client raises: network, rights, disk
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise InfrastructureError(f"cannot download {url} at {revision}: {reason}") from error


def sha256_of_folder(folder: Path) -> str:
    """The hash of the names and hashes of all files in `folder`, but the client's own."""
    lines = [f"{sha256_of(path)}  {path.relative_to(folder).as_posix()}\n" for path in _files(folder)]
    return sha256("".join(lines).encode()).hexdigest()


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(own.stat().st_size for own in _files(path)) if path.is_dir() else path.stat().st_size


def _files(folder: Path) -> list[Path]:
    whole = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in whole if ".cache" not in path.relative_to(folder).parts)
