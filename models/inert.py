"""Reading pickled files of other packages without running their code: numbers come out, all other objects stay inert.

fairseq's checkpoints and k-means models are pickles of whole objects. Unpickling builds those objects, which could run
anything. Here only tensors and arrays are built; an object of any other class becomes an `Inert` that keeps its state.
"""

from __future__ import annotations

import io
import pickle
import tarfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from codecbench.errors import InvalidSystem

if TYPE_CHECKING:
    from torch import Tensor

CENTRES = "cluster_centers_"
"""Scikit-learn's name for the entries of a k-means codebook."""


class Inert:
    """In the place of an object whose class is not imported: it takes whatever a pickle does to it."""

    def __new__(cls, *_args: Any, **_names: Any) -> Inert:
        """Ignore what the object was made of."""
        return super().__new__(cls)

    def __init__(self, *_args: Any, **_names: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """Ignore an entry of what was a dictionary."""

    def append(self, item: Any) -> None:
        """Ignore an element of what was a list."""

    extend = append


class _JoblibArray(Inert):
    """The head of an array that joblib writes into the stream after it."""


def _bytes(text: str, _encoding: str) -> bytes:
    """Bytes as an old protocol writes them."""
    return text.encode("latin1")


def _find(module: str, name: str) -> Any:
    if (module, name) == ("collections", "OrderedDict"):
        return OrderedDict
    if (module, name) == ("numpy", "dtype"):
        return np.dtype
    if (module, name) == ("_codecs", "encode"):
        return _bytes
    if (module, name) == ("numpy", "ndarray"):
        return np.ndarray
    if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
        return np._core.multiarray._reconstruct  # type: ignore[attr-defined]
    if (module, name) == ("joblib.numpy_pickle", "NumpyArrayWrapper"):
        return _JoblibArray
    if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
        import torch

        return getattr(torch._utils, name)
    if module == "torch" and name.endswith("Storage") and name.isalpha():
        import torch

        return getattr(torch, name, Inert)
    return Inert


class Unpickler(pickle.Unpickler):
    """An unpickler for `torch.load`; this module is its ``pickle_module``."""

    def find_class(self, module: str, name: str) -> Any:
        """What may be called, or `Inert`."""
        return _find(module, name)


def load(file: IO[bytes], **options: Any) -> Any:
    """As `pickle.load`, but inert."""
    return Unpickler(file, **options).load()


def read_fairseq(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors of a fairseq checkpoint and the lines of its dictionary.

    Args:
        path: A ``.tgz`` archive as released for GSLM; or a ``.pt`` file, beside a ``dict.txt`` if it has one.

    Returns:
        Tensors by name; the dictionary's symbols in the order of their ids, none if there is no ``dict.txt``.

    Raises:
        InvalidSystem: It is damaged, or no checkpoint.
    """
    try:
        if path.name.endswith((".tgz", ".tar.gz")):
            file: Path | IO[bytes]
            file, lines = _from_archive(path)
        else:
            beside = path.with_name("dict.txt")
            file, lines = path, beside.read_text(encoding="utf-8") if beside.is_file() else ""
        state = load_torch(file)["model"]
    except Exception as error:  # a damaged file makes its reader raise anything
        raise InvalidSystem(f"{path} cannot be read as a fairseq checkpoint: {_reason(error)}") from error
    import torch

    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InvalidSystem(f"{path} cannot be read as a fairseq checkpoint: it holds more than tensors under 'model'")
    return dict(state), tuple(line.split()[0] for line in lines.splitlines() if line.strip())


def _from_archive(path: Path) -> tuple[IO[bytes], str]:
    found: dict[str, bytes] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            name = Path(member.name).name
            if member.isfile() and name in ("checkpoint_best.pt", "dict.txt") and (file := archive.extractfile(member)):
                found[name] = file.read()
    return io.BytesIO(found["checkpoint_best.pt"]), found["dict.txt"].decode()


def load_torch(file: Path | IO[bytes]) -> Any:
    """As `torch.load`, on the CPU, but inert: tensors, arrays, and containers of them come out."""
    import sys

    import torch

    return torch.load(file, map_location="cpu", weights_only=False, pickle_module=sys.modules[__name__])


def read_centroids(path: Path) -> NDArray[np.float32]:
    """The entries ``[K, C]`` of a k-means codebook.

    Args:
        path: A ``.npy`` or ``.safetensors`` file with that array alone; or scikit-learn's model as fairseq publishes it
            (``km.bin``, written by joblib). To convert one yourself: ``numpy.save("km.npy", model.cluster_centers_)``.

    Raises:
        InvalidSystem: It is damaged, compressed, or holds no such array.
    """
    try:
        found = _read_centroids(path)
    except Exception as error:  # as above
        raise InvalidSystem(
            f"{path} cannot be read as k-means centroids: {_reason(error)}; save `model.cluster_centers_` as .npy"
        ) from error
    if found.ndim != 2 or found.dtype.kind != "f":
        raise InvalidSystem(f"{path} holds {found.dtype} {list(found.shape)}, where centroids [K, C] should be")
    return found.astype(np.float32)


def _read_centroids(path: Path) -> NDArray[Any]:
    if path.suffix == ".npy":
        found: NDArray[Any] = np.load(path, allow_pickle=False)
        return found
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        (found,) = load_file(path).values()
        return found
    with path.open("rb") as file:
        model = _JoblibUnpickler(file).load()
    return np.asarray(model.state[CENTRES])


_Base: Any = pickle._Unpickler


class _JoblibUnpickler(_Base):  # type: ignore[misc]
    """Python's own unpickler in Python: only that one can stop in the middle, where joblib puts an array's bytes."""

    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(_Base.dispatch)

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self._file = file

    def find_class(self, module: str, name: str) -> Any:
        """What may be called, or `Inert`."""
        return _find(module, name)

    def load_build(self: Any) -> None:
        """Put state into an object; if that is the head of an array, put the array in its place."""
        super().load_build()
        if isinstance(self.stack[-1], _JoblibArray):
            self.stack[-1] = _read_array(self._file, self.stack[-1].state)

    dispatch[pickle.BUILD[0]] = load_build


def _read_array(file: IO[bytes], head: Mapping[str, Any]) -> NDArray[Any]:
    if head.get("numpy_array_alignment_bytes") is not None:  # joblib 1.2 and later
        file.read(file.read(1)[0])
    dtype, shape = head["dtype"], tuple(head["shape"])
    if dtype.hasobject:
        return np.zeros(0)  # such an array is another pickle, which would follow here
    array = np.frombuffer(file.read(prod(shape) * dtype.itemsize), dtype)
    return array.reshape(shape[::-1]).T if head["order"] == "F" else array.reshape(shape)


def _reason(error: Exception) -> str:
    return str(error).split("\n")[0] or type(error).__name__
