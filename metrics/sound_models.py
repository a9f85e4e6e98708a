"""Networks that hear sound and music, as metrics use them: embeddings, and the classes that a classifier names.

A network is named by the variant of a metric: a folder as transformers saves it, or a name on the Hugging Face hub that
is on this disk (see `codecbench.metrics.pretrained`). It hears a recording in windows as long as it was trained on, end
to end, so that no crop is drawn by chance; the last one is filled up as the model's own feature extractor does.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codecbench.audio import Audio, resampler_signature
from codecbench.errors import InfrastructureError, UsageError
from codecbench.metrics import pretrained, vggish
from codecbench.metrics.base import Signal
from codecbench.paths import sha256_of
from codecbench.weights import local_path

Matrix = NDArray[np.float64]
SHORTEST_WINDOW = 0.1
"""A rest of a recording shorter than this share of a window is left out, unless it is all there is."""


@dataclass(frozen=True)
class Listener:
    """A network: the `rate` it hears at, and what it makes of samples ``[T]``, one row of ``[F, D]`` a window."""

    rate: int
    hear: Callable[[Audio], Any]


def heard(signal: Signal, kind: str, model: str) -> Matrix:
    """What the network `model` of a `kind` (see `KINDS`) makes of `signal`: ``[F, D]``, kept between runs."""
    key = {"what": kind, **parts(kind, model), "rs": resampler_signature(), "v": "1"}

    def compute() -> list[Any]:
        import torch

        listener = _loaded(kind, model)
        with torch.inference_mode():
            return packed(np.asarray(listener.hear(signal.at(listener.rate)), np.float64))

    return unpacked(signal.remember(key, compute))


def packed(rows: Matrix) -> list[Any]:
    """``[F, D]`` as plain JSON, in single precision."""
    return [rows.shape[0], base64.b64encode(rows.astype("<f4").tobytes()).decode("ascii")]


def unpacked(text: list[Any]) -> Matrix:
    """The inverse of `packed`."""
    return np.frombuffer(base64.b64decode(text[1]), "<f4").astype(np.float64).reshape(text[0], -1)


def describe(model: str, text: str) -> Matrix:
    """The embedding ``[D]`` that the CLAP network `model` has for `text`, of length 1."""
    import torch

    network, library = _network(model, "clap"), pretrained.transformers()
    tokenizer = library.AutoTokenizer.from_pretrained(pretrained.folder(model), local_files_only=True)
    with torch.inference_mode():
        found = network.get_text_features(**tokenizer([text], return_tensors="pt", truncation=True))
    row: Matrix = _unit(np.asarray(getattr(found, "pooler_output", found)[0], np.float64))
    return row


def prepare(kind: str, model: str) -> None:
    """Raise `UsageError` or `InfrastructureError` unless the network `model` of a `kind` is here."""
    if kind == "vggish":
        _vggish_path()
    elif not model:
        raise UsageError(f"name the network: METRIC:FOLDER, or METRIC:OWNER/NAME of one of type {TYPES[kind]}")
    elif (found := _config(model).get("model_type")) != TYPES[kind]:
        raise UsageError(f"{model} is of type {found}, and {TYPES[kind]} is wanted")


@cache
def parts(kind: str, model: str) -> Mapping[str, str]:
    """Everything that `heard` depends on but the recording."""
    prepare(kind, model)
    if kind == "vggish":
        digest = sha256_of(_vggish_path())[:8]
        return {"model": f"vggish-{digest}", "impl": f"torch-{_release('torch')}", "win": "0.96s"}
    impl = f"transformers-{_release('transformers')}"
    return {"model": pretrained.signature(model), "impl": impl, "win": f"{_seconds(kind, model):g}s"}


def _release(package: str) -> str:
    return version(package).partition("+")[0]


def _vggish_path() -> Path:
    path = local_path(vggish.WEIGHTS)
    if path is None:
        raise InfrastructureError("fad: its weights are not here: codecbench weights get fad; or name a CLAP model")
    return path


@cache
def _config(model: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads((pretrained.folder(model) / "config.json").read_text("utf-8"))
    return found


@cache
def _extractor(model: str) -> Any:
    library = pretrained.transformers()
    return library.AutoFeatureExtractor.from_pretrained(pretrained.folder(model), local_files_only=True)


def _seconds(kind: str, model: str) -> float:
    extractor = _extractor(model)
    if kind == "clap":
        return float(extractor.max_length_s)
    return float(extractor.max_length * 0.01)  # frames 10 ms apart


@cache
def _network(model: str, kind: str) -> Any:
    import torch

    make = getattr(pretrained.transformers(), CLASSES[kind])
    return make.from_pretrained(pretrained.folder(model), local_files_only=True, dtype=torch.float32).eval()


@cache
def _loaded(kind: str, model: str) -> Listener:
    return KINDS[kind](model)


def _vggish(_model: str) -> Listener:
    return Listener(vggish.RATE, vggish.load(_vggish_path()))


def _clap(model: str) -> Listener:
    network, extractor = _network(model, "clap"), _extractor(model)

    def hear(samples: Audio) -> Any:
        rows = []
        for window in _windows(samples, extractor.nb_max_samples):
            given = extractor(window, sampling_rate=extractor.sampling_rate, return_tensors="pt")
            found = network.get_audio_features(**given)
            rows.append(_unit(np.asarray(getattr(found, "pooler_output", found)[0])))
        return np.stack(rows)

    return Listener(extractor.sampling_rate, hear)


def _classes(model: str) -> Listener:
    """Logarithms of the probabilities of the classes, by softmax, as AudioCraft's KLD has them."""
    import torch

    network, extractor = _network(model, "classes"), _extractor(model)

    def hear(samples: Audio) -> Any:
        rows = []
        for window in _windows(samples, round(_seconds("classes", model) * extractor.sampling_rate)):
            given = extractor(window, sampling_rate=extractor.sampling_rate, return_tensors="pt")
            rows.append(torch.log_softmax(network(**given).logits[0], -1))
        return torch.stack(rows)

    return Listener(extractor.sampling_rate, hear)


def _windows(samples: Audio, size: int) -> Iterator[Audio]:
    for start in range(0, max(1, len(samples)), size):
        window = samples[start : start + size]
        if start == 0 or len(window) >= SHORTEST_WINDOW * size:
            yield window


def _unit(row: NDArray[Any]) -> Any:
    return row / np.linalg.norm(row)


TYPES = {"clap": "clap", "classes": "audio-spectrogram-transformer"}
CLASSES = {"clap": "ClapModel", "classes": "ASTForAudioClassification"}
KINDS: Mapping[str, Callable[[str], Listener]] = {"vggish": _vggish, "clap": _clap, "classes": _classes}
