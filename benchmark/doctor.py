"""``codecbench doctor``: what this installation can do, and what to install for the rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from codecbench.benchmark.datasets import registry as datasets
from codecbench.benchmark.environment import package_version
from codecbench.benchmark.isolation.environments import find_uv
from codecbench.benchmark.isolation.levels import LEVELS, require
from codecbench.errors import CodecbenchError
from codecbench.metrics import registry as metrics
from codecbench.models import registry as models
from codecbench.models.base import LoadOptions

NEEDED = ("torch", "torchaudio", "soxr", "soundfile", "av", "pesq", "jiwer", "openai-whisper", "speechbrain")


@dataclass(frozen=True)
class Finding:
    """One thing looked at: ok, or missing with what to do; `needed` if nothing works without it."""

    subject: str
    status: Literal["ok", "missing"]
    detail: str
    needed: bool = False


def examine() -> list[Finding]:
    """Look at packages, isolation, systems, metrics and datasets. Loads every system that needs no weights."""
    return [*_packages(), *_isolation(), *_systems(), *_metrics(), *_datasets()]


def report(findings: list[Finding]) -> str:
    """The findings as text, one a line."""
    return "\n".join(f"{f.status:8} {f.subject:32} {f.detail}" for f in findings)


def _packages() -> Iterator[Finding]:
    for name in NEEDED:
        version = package_version(name)
        yield Finding(f"package {name}", "ok" if version else "missing", version or f"pip install {name}", needed=True)


def _isolation() -> Iterator[Finding]:
    for level in LEVELS:
        try:
            require(level)
        except CodecbenchError as error:
            yield Finding(f"isolation {level}", "missing", str(error))
        else:
            yield Finding(f"isolation {level}", "ok", "")
    uv = find_uv()
    yield Finding("environments of models' own", "ok" if uv else "missing", uv or "pip install uv")


def _systems() -> Iterator[Finding]:
    for name, system in models.all_systems().items():
        try:
            system.load(LoadOptions())
        except CodecbenchError as error:
            yield Finding(f"model {name}", "missing", str(error))
        else:
            yield Finding(f"model {name}", "ok", "")


def _metrics() -> Iterator[Finding]:
    for name, metric in metrics.all_metrics().items():
        try:
            if metric.prepare:
                metric.prepare()
            signature = metric.signature()
        except CodecbenchError as error:
            yield Finding(f"metric {name}", "missing", str(error))
        else:
            yield Finding(f"metric {name}", "ok", signature)


def _datasets() -> Iterator[Finding]:
    for name in datasets.names():
        here = datasets.path(name)
        yield Finding(f"dataset {name}", "ok" if here else "missing", str(here or f"codecbench data get {name}"))
