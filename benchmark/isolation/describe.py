"""What a system is, found out without importing its code here."""

from __future__ import annotations

import inspect
import time
from dataclasses import dataclass
from pathlib import Path

from codecbench.benchmark.coding import ItemLost
from codecbench.benchmark.isolation.environments import python_for, requirements_of
from codecbench.benchmark.isolation.hosts import absolute, shown
from codecbench.benchmark.isolation.levels import LOAD_SECONDS, Level, files_of, limits_for
from codecbench.benchmark.isolation.log import CappedLog
from codecbench.benchmark.isolation.plain import from_plain
from codecbench.benchmark.isolation.process import HostProcess
from codecbench.benchmark.isolation.protocol import Message
from codecbench.errors import InfrastructureError, InvalidSystem, UsageError
from codecbench.models import registry as models
from codecbench.models.base import Card, LoadOptions


@dataclass(frozen=True)
class Described:
    """A system's card, the file that its code is in, and the interpreter that it needs (None: this one)."""

    card: Card
    source: Path | None
    python: Path | None = None


def describe(target: str, level: Level) -> Described:
    """Describe the system that `target` names; code that is not this package's is run in a host of `level`.

    Raises:
        UsageError: Nothing of that name, or its packages cannot be had.
        InvalidSystem: It cannot be imported, or is no system.
    """
    if level == "none" or models.own_system(target):
        system = models.find(target)
        source = inspect.getsourcefile(system if isinstance(system, type) else type(system))
        return Described(system.card, Path(source) if source else None)
    if (file := models.file_of(target)) and not file.is_file():
        raise UsageError(f"no such file: {file} (in the model '{target}')")
    python = python_for(requirements_of(file)) if file else None
    card, source = _ask(target, level, python)
    if card.requirements and not python:
        python = python_for(card.requirements)
    return Described(card, file or (Path(source) if source else None), python)


def _ask(target: str, level: Level, python: Path | None) -> tuple[Card, str]:
    log = CappedLog()
    readable = files_of(target, None, LoadOptions())
    host = HostProcess(level, limits_for(LOAD_SECONDS), log, python=python, readable=readable)
    try:
        request = Message("describe", {"target": absolute(target)})
        answer = host.ask(request, time.monotonic() + LOAD_SECONDS, 0)
        if answer.kind != "done":
            raise _refusal(answer)
        return from_plain(Card, answer.facts.get("card")), str(answer.facts.get("source"))
    except ItemLost as lost:
        last = log.last_line()
        raise InvalidSystem(f"{target} cannot be imported: {lost}" + (f": {last}" if last else "")) from lost
    except ValueError as error:
        raise InvalidSystem(f"{target} has no valid card: {error}") from error
    finally:
        host.end()


def _refusal(answer: Message) -> UsageError | InvalidSystem | InfrastructureError:
    text = shown(str(answer.facts.get("text") or answer.facts.get("reason")))
    if answer.facts.get("error") == "UsageError":
        return UsageError(text)
    return InvalidSystem(text)
