"""Official model files: what they are, where they come from, and how they are read safely.

They lie in the folder ``weights`` of the cache, each under its own name. Nothing is downloaded on the way: `get` is
called by a command that the user types.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codecbench.errors import InfrastructureError, InvalidSystem
from codecbench.paths import cache_dir

if TYPE_CHECKING:
    from torch import Tensor, nn

    from codecbench.download import Progress


@dataclass(frozen=True)
class WeightFile:
    """One official file, or a whole repository of the Hugging Face hub: a folder in the cache.

    Attributes:
        name: Name in the cache.
        url: Where it is published.
        sha256: Hex digest, or a prefix of at least 8 digits where only that is published; empty if unknown
            until the first download, which then pins it in the local lock.
        licence: SPDX identifier (or name) of the licence.
        revision: Of a repository: the branch, tag or commit; empty for a file. Of a branch, the first download pins
            what the files were.
    """

    name: str
    url: str
    sha256: str = ""
    licence: str = ""
    revision: str = ""


def packaged(name: str) -> Path:
    """Where a file of weights lies that comes with this package: `name` is its path below ``codecbench.models``."""
    return Path(__file__).with_name("models") / name


def cache_path(file: WeightFile) -> Path:
    """Where `file` lies in the cache, or would."""
    return cache_dir("weights", file.name)


def local_path(file: WeightFile) -> Path | None:
    """Where `file` lies in the cache; None if it is not there."""
    path = cache_path(file)
    whole = path.is_dir() and _lock(file).is_file() if file.revision else path.is_file()
    return path if whole else None


def get(file: WeightFile, progress: Progress | None = None) -> Path:
    """Download `file` unless it is in the cache; either way its hash is checked.

    Raises:
        InfrastructureError: The download failed, or the file is not the published (or pinned) one.
    """
    from codecbench import download, repository

    path = cache_path(file)
    if local_path(file) is None and file.revision:
        repository.fetch(file.url, file.revision, path)
    elif local_path(file) is None:
        download.fetch(file.url, path, _expected(file), progress)
    verify(file)
    return path


def verify(file: WeightFile) -> None:
    """Check the cached `file` against its published hash; without one, against the hash pinned at its first use.

    Raises:
        InfrastructureError: They differ, or the file cannot be read.
    """
    from codecbench.paths import sha256_of
    from codecbench.repository import sha256_of_folder, size_of

    path, lock, expected = cache_path(file), _lock(file), _expected(file)
    try:
        digest = sha256_of_folder(path) if file.revision else sha256_of(path)
        if not expected:
            pin = {"sha256": digest, "size": size_of(path), "url": file.url}
            lock.write_text(json.dumps(pin, indent=1) + "\n")
    except OSError as error:
        raise InfrastructureError(f"cannot check {path}: {error}") from error
    if not digest.startswith(expected):
        whence = "" if file.sha256 else f" (pinned in {lock})"
        raise InfrastructureError(
            f"{path} is not the published file: sha256 {digest}, expected {expected}{whence}; "
            "delete it and get it again"
        )


def _lock(file: WeightFile) -> Path:
    return cache_dir("weights", f"{file.name}.lock.json")


def _expected(file: WeightFile) -> str:
    """The hash that `file` must have, or its beginning; empty before the first download of an unknown one."""
    lock = _lock(file)
    if file.sha256 or not lock.is_file():
        return file.sha256.lower()
    try:
        return str(json.loads(lock.read_text())["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InfrastructureError(f"cannot read the pinned hash in {lock}: {error}") from error


def resolve(system: str, file: WeightFile, given: Path | None = None) -> Path:
    """The file to load for `system`: the one `given` by the user, else the official one, checked.

    Raises:
        InvalidSystem: It is not there; the message names the command that gets it.
        InfrastructureError: The cached file is not the official one.
    """
    if given is not None:
        if not given.exists():
            raise InvalidSystem(f"{system}: no such file or folder for its weights: {given}")
        return given
    if local_path(file) is None:
        raise InvalidSystem(
            f"{system}: its weights are not here; get them with `codecbench weights get {system}`, name a local "
            "file with `--weights PATH`, or try the system out with `--random-weights SEED`"
        )
    verify(file)
    return cache_path(file)


def unpublished(system: str, given: Path | None) -> Path:
    """The file or folder `given` by the user for `system`, whose weights were never published.

    Raises:
        InvalidSystem: None is given, or it is not there.
    """
    if given is None:
        raise InvalidSystem(
            f"{system}: its weights were never published; name a file of your own with `--weights PATH`, or try the "
            "system out with `--random-weights SEED`"
        )
    if not given.exists():
        raise InvalidSystem(f"{system}: no such file or folder for its weights: {given}")
    return given


def member(path: Path, name: str) -> Path | zipfile.Path:
    """The file `name` in `path`, a folder or a zip archive.

    Raises:
        InvalidSystem: There is no such file, or the archive is damaged.
    """
    try:
        found = path / name if path.is_dir() else zipfile.Path(path, name)
    except (OSError, zipfile.BadZipFile) as error:
        raise InvalidSystem(f"{path} is neither a folder nor a zip archive: {error}") from error
    if not found.is_file():
        raise InvalidSystem(f"{path} holds no file {name}")
    return found


def read_state_dict(
    path: Path | zipfile.Path, parts: Sequence[str] = (), within: Sequence[str] = ()
) -> dict[str, Tensor]:
    """Read named tensors from `path`, without ever running code from the file.

    Args:
        path: A ``.safetensors`` file, a PyTorch file that holds a mapping of names to tensors and nothing else, or
            a folder with a ``model.safetensors``. In a zip archive, a PyTorch file.
        parts: For a PyTorch file that holds several such mappings: the name of each. Tensors are then called
            ``part.name``, as they are in a file that is flat.
        within: For a PyTorch file that holds such a mapping among other things: the keys that lead to it, outermost
            first.

    Returns:
        The tensors, on the CPU.

    Raises:
        InvalidSystem: The file is damaged, or holds anything but tensors.
    """
    if path.is_dir():
        path = path / "model.safetensors"
    try:
        state = _read(path)
    except pickle.UnpicklingError as error:
        reason = "it is damaged, or holds more than tensors; reading such a file could run code, so it is refused"
        raise InvalidSystem(f"{path} cannot be read as tensors: {reason}") from error
    except Exception as error:  # a damaged file makes its reader raise anything
        reason = str(error).split("\n")[0].split(". ")[0] or type(error).__name__
        raise InvalidSystem(f"{path} cannot be read as tensors: {reason}") from error
    import torch

    for key in within:
        if not isinstance(state, Mapping) or key not in state:
            raise InvalidSystem(f"{path} holds no tensors under {'.'.join(within)}")
        state = state[key]
    if not isinstance(state, Mapping):
        raise InvalidSystem(f"{path} holds a {type(state).__name__}, not a mapping of names to tensors")
    state = _flat(state, parts)
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise InvalidSystem(f"{path} holds a {type(value).__name__} under {name!r}, where a tensor should be")
    return state


def _flat(state: Mapping[Any, Any], parts: Sequence[str]) -> dict[Any, Any]:
    flat = {}
    for name, value in state.items():
        if name in parts and isinstance(value, Mapping):
            flat.update({f"{name}.{inner}": tensor for inner, tensor in value.items()})
        else:
            flat[name] = value
    return flat


def _read(path: Path | zipfile.Path) -> Any:
    if isinstance(path, Path) and path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    import torch

    file = path if isinstance(path, Path) else io.BytesIO(path.read_bytes())
    return torch.load(file, map_location="cpu", weights_only=True)


def rename_keys(state: Mapping[str, Tensor], rules: Sequence[tuple[str, str]], drop: str = r"$^") -> dict[str, Tensor]:
    """`state` under other names, without the tensors whose names match `drop`.

    Each rule, a pattern and its replacement (as of `re.sub`), is applied to every name in turn.
    """
    renamed = {}
    for old, tensor in state.items():
        name = old
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        if not re.search(drop, old):
            renamed[name] = tensor
    return renamed


def load_state(module: nn.Module, state: Mapping[str, Tensor], source: Path) -> None:
    """Load `state` into `module`, all of it and nothing else.

    Raises:
        InvalidSystem: Names are missing or left over, or shapes differ; `source` says where the tensors are from.
    """
    try:
        missing, unexpected = module.load_state_dict(dict(state), strict=False)
    except RuntimeError as error:
        shapes = [line.strip() for line in str(error).split("\n")[1:]]
        raise InvalidSystem(f"{source} does not fit the model: {_few(shapes)}") from error
    problems = [f"{len(names)} {what}: {_few(names)}" for what, names in
                (("missing", missing), ("unexpected", unexpected)) if names]  # fmt: skip
    if problems:
        raise InvalidSystem(f"{source} does not fit the model: {'; '.join(problems)}")


def _few(items: Sequence[str], count: int = 3) -> str:
    return ", ".join(items[:count]) + (", …" if len(items) > count else "")
