"""The systems by name. A new model is one file with `SYSTEMS`, and one line here.

A separate package registers its systems through entry points of the group ``codecbench.models``, each naming a
`System` (a `Codec` class will do). ``path/to/file.py:Class`` names a system that is registered nowhere.
"""

from __future__ import annotations

import importlib.util
import sys
import zlib
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

from codecbench.errors import InvalidSystem, UsageError, did_you_mean
from codecbench.models.base import System

MODULES = (
    "codecbench.models.controls",
    "codecbench.models.prompt_loop",
    "codecbench.models.noise_answer",
    "codecbench.models.ffmpeg",
    "codecbench.models.codec2",
    "codecbench.models.encodec",
    "codecbench.models.encodec_lm",
    "codecbench.models.speechtokenizer",
    "codecbench.models.hificodec",
    "codecbench.models.dac",
    "codecbench.models.dac_chunked",
    "codecbench.models.audiodec",
    "codecbench.models.soundstream",
    "codecbench.models.lyra",
    "codecbench.models.funcodec",
    "codecbench.models.musicgen",
    "codecbench.models.uniaudio",
    "codecbench.models.audiopalm",
    "codecbench.models.lauragpt",
    "codecbench.models.lauratts",
    "codecbench.models.speech_resynthesis",
    "codecbench.models.gslm",
    "codecbench.models.twist",
    "codecbench.models.pgslm",
    "codecbench.models.dgslm",
    "codecbench.models.speechprompt",
    "codecbench.models.speechgen",
    "codecbench.models.stack_and_delay",
    "codecbench.models.musicgen_melody",
    "codecbench.models.audiolm",
    "codecbench.models.musiclm",
    "codecbench.models.soundstorm",
    "codecbench.models.hf.musicgen",
    "codecbench.models.hf.bark",
    "codecbench.models.hf.csm",
    "codecbench.models.hf.dia",
    "codecbench.models.hf.moshi",
    "codecbench.models.hf.speecht5",
    "codecbench.models.hf.seamless",
    "codecbench.models.hf.qwen",
    "codecbench.models.valle",
    "codecbench.models.valle_x",
    "codecbench.models.speechx",
    "codecbench.models.viola",
    "codecbench.models.small",
    "codecbench.models.valle_small",
    "codecbench.models.viola_small",
    "codecbench.models.musicgen_small",
    "codecbench.models.uniaudio_small",
    "codecbench.models.audiolm_small",
    "codecbench.models.gslm_small",
    "codecbench.models.soundstorm_small",
)


@cache
def own_systems() -> dict[str, System]:
    """The systems of this package by name, in the order of `MODULES`."""
    found: dict[str, System] = {}
    for module in MODULES:
        for system in import_module(module).SYSTEMS:
            _add(found, system, module)
    return found


@cache
def own_system(name: str) -> System | None:
    """The system of this package called `name`, or None; no more modules are imported than until it is found."""
    systems = (system for module in MODULES for system in import_module(module).SYSTEMS)
    return next((system for system in systems if system.card.name == name), None)


@cache
def all_systems() -> dict[str, System]:
    """Every registered system by name: this package's, then those of other packages, which are imported."""
    found = dict(own_systems())
    for point in entry_points(group="codecbench.models"):
        try:
            _add(found, point.load(), point.value)
        except Exception as error:  # noqa: BLE001 - another package's fault must not stop this one
            print(f"codecbench: skipped the model '{point.name}' of {point.value}: {error}", file=sys.stderr)
    return found


def _add(found: dict[str, System], system: object, where: str) -> None:
    if not isinstance(system, System):
        raise UsageError(f"{where} is no system: it needs a `card` and a `load` method")
    if system.card.name in found:
        raise UsageError(f"the model name '{system.card.name}' of {where} is taken; choose another")
    found[system.card.name] = system


def find(target: str) -> System:
    """The system that `target` names: a registered name, or ``path/to/file.py:Class``.

    Raises:
        UsageError: Nothing of that name.
        InvalidSystem: The file cannot be imported, or the class is no system.
    """
    if path := file_of(target):
        return _from_file(path, target.rpartition(":")[2])
    if own := own_system(target):
        return own
    if target not in all_systems():
        raise did_you_mean(target, sorted(all_systems()), "model")
    return all_systems()[target]


def file_of(target: str) -> Path | None:
    """The file of a target ``path/to/file.py:Class``; None for a registered name."""
    path, colon, _ = target.rpartition(":")
    return Path(path) if colon and path.endswith(".py") else None


def _from_file(path: Path, attribute: str) -> System:
    if not path.is_file():
        raise UsageError(f"no such file: {path} (in the model '{path}:{attribute}')")
    name = f"codecbench_target_{zlib.crc32(bytes(path.resolve())):08x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses and inspect look for what a class is defined in
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise InvalidSystem(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    system = getattr(module, attribute, None)
    if not isinstance(system, System):
        raise InvalidSystem(f"{path} has no system '{attribute}': it needs a class with a `card` and a `load` method")
    return system
