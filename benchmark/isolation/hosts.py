"""The processes that host one adapter: started when needed, asked with a time limit, replaced when they die."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codecbench.benchmark.coding import DEVICE, OUT_OF_MEMORY, ItemLost, SystemFailure
from codecbench.benchmark.isolation.levels import Level, Limits, compiled_folder, files_of
from codecbench.benchmark.isolation.loading import LoadFailure
from codecbench.benchmark.isolation.log import CappedLog, printable
from codecbench.benchmark.isolation.plain import to_plain
from codecbench.benchmark.isolation.process import HostProcess
from codecbench.benchmark.isolation.protocol import Message
from codecbench.benchmark.resources import PeakMemory
from codecbench.models import registry as models
from codecbench.models.base import Card, LoadOptions
from codecbench.paths import cache_dir

TIMEOUTS_IN_A_ROW = 3
_FOREIGN = ("crash(SIGKILL)", "crash(SIGTERM)", "crash(SIGINT)", "crash(SIGHUP)")
_REASON_CHARACTERS, _TRACE_CHARACTERS = 400, 2048
_REASONS = ("exception(", "contract(", "codes(", "likelihood(", "memory", OUT_OF_MEMORY, DEVICE)


@dataclass(frozen=True)
class HostSettings:
    """How the hosts of one system are started.

    Attributes:
        target: What to load.
        options: How.
        level: ``process`` or ``bwrap``.
        limits: What a host may use.
        python: The interpreter; this one by default.
        audit: Encoder and decoder are different processes.
        log: Where to keep what the hosts print.
        lifeline: See `HostProcess`.
    """

    target: str
    options: LoadOptions
    level: Level
    limits: Limits
    python: Path | None = None
    audit: bool = False
    log: Path | None = None
    lifeline: int | None = None


@dataclass
class Slot:
    """A host, or the place of one that is still to be started."""

    process: HostProcess | None = None
    parameters: int = 0


@dataclass
class Witnessed:
    """What the hosts of a system were seen to do by their own witness: paths written, addresses on the network."""

    wrote: set[str] = field(default_factory=set)
    network: set[str] = field(default_factory=set)
    since: float = field(default_factory=time.time)
    compiled: Path | None = None
    """Where they may write as well; see `levels.compiled_folder`."""

    def trespassed(self, folders: Iterable[Path]) -> str:
        """The reason if a path that was written lies in one of `folders` and has changed; else empty.

        Only what the witness saw this adapter open counts: others work on the same disk.
        """
        allowed = [cache_dir("weights").resolve(), Path(sys.prefix).resolve()]
        allowed += [self.compiled.resolve()] if self.compiled else []
        for path in map(Path, sorted(self.wrote)):
            inside = any(map(path.is_relative_to, folders)) and not any(map(path.is_relative_to, allowed))
            if inside and _changed(path, self.since):
                return f"wrote_outside({shown(str(path))})"
        return ""

    def note(self, facts: dict[str, Any]) -> None:
        """Take what a message says of it."""
        for name, noted in (("wrote", self.wrote), ("network", self.network)):
            said = facts.get(name)
            if isinstance(said, list) and len(noted) < 100:
                noted.update(shown(text, 1000) for text in said[:100] if isinstance(text, str))


class Hosts:
    """What all adapters that run in hosts have in common: a host is started at its first use and after each death.

    Args:
        card: The adapter's card.
        settings: How to start its hosts.
        slots: The places of hosts, each once.
    """

    def __init__(self, card: Card, settings: HostSettings, slots: tuple[Slot, ...]) -> None:
        self.card = card
        self.settings = settings
        self.witnessed = Witnessed(compiled=compiled_folder(settings.target, settings.options))
        self.load_memory_mb = 0.0
        self._slots = slots
        self._log = CappedLog()
        self._deadline = float("inf")
        self._timeouts, self._timed_out = 0, False

    def start(self) -> None:
        """Start the hosts and load the system.

        Raises:
            LoadFailure: It cannot be loaded.
        """
        try:
            for slot in self._slots:
                self._running(slot)
        except ItemLost as lost:
            self.close()
            raise LoadFailure(str(lost), lost.trace) from lost

    def close(self) -> None:
        """End the hosts; they start again when they are needed."""
        for slot in self._slots:
            if slot.process:
                slot.process.end()
                slot.process = None
        self.save_log()

    def save_log(self) -> None:
        """Put what the hosts printed into the file of the settings."""
        if self.settings.log:
            self._log.save(self.settings.log)

    def begin_item(self, items: int = 1) -> None:
        """The time limit of so many items begins."""
        self._timeouts, self._timed_out = (self._timeouts if self._timed_out else 0), False
        self._deadline = time.monotonic() + items * self.settings.limits.item_seconds

    def condemned(self) -> str:
        """Why no more items are to be tried; empty if they are."""
        return f"timeout({TIMEOUTS_IN_A_ROW} items in a row)" if self._timeouts >= TIMEOUTS_IN_A_ROW else ""

    def parameters(self) -> int:
        """Number of learnt parameters, as the adapter counts them."""
        return self._slots[0].parameters

    def _ask(self, slot: Slot, request: Message, cap: int, again: bool = False) -> Message:
        host = self._running(slot)
        try:
            answer = host.ask(request, self._deadline, cap)
        except ItemLost as lost:
            if str(lost) in _FOREIGN and not again:  # somebody else may have killed it
                return self._ask(slot, request, cap, again=True)
            self._timed_out = str(lost).startswith("timeout(")
            self._timeouts += self._timed_out
            raise
        self.witnessed.note(dict(answer.facts))
        if answer.kind == "failed":
            reason = shown(str(answer.facts.get("reason")))
            if not reason.startswith(_REASONS):
                reason = f"contract(protocol: {reason})"
            if reason == OUT_OF_MEMORY or reason.startswith(DEVICE):
                self.close()  # neither a GPU's allocator nor its driver recovers: a fresh process takes the rest
            if reason.startswith(DEVICE) and not again:
                return self._ask(slot, request, cap, again=True)
            raise SystemFailure(reason, _trace(answer))
        return answer

    def _running(self, slot: Slot) -> HostProcess:
        """The host of `slot`, loaded; started if need be, at no cost to the item in hand."""
        if slot.process and slot.process.alive:
            return slot.process
        started = time.monotonic()
        settings = self.settings
        slot.process = HostProcess(
            settings.level, settings.limits, self._log, python=settings.python, lifeline=settings.lifeline,
            readable=files_of(settings.target, self.card, settings.options),
            compiled=self.witnessed.compiled,
        )  # fmt: skip
        deadline = started + settings.limits.load_seconds
        try:
            slot.process.ask(Message("ping"), deadline, 0)
            with PeakMemory(slot.process.process()) as memory:
                facts = {"target": absolute(settings.target), "options": to_plain(settings.options)}
                answer = slot.process.ask(Message("load", facts), deadline, 0)
        except ItemLost as lost:
            slot.process = None
            reason = f"timeout({settings.limits.load_seconds:g} s)" if str(lost).startswith("timeout") else str(lost)
            last = self._log.last_line()
            raise ItemLost(f"load({shown(f'{reason}: {last}' if last else reason)})") from lost
        parameters = answer.facts.get("parameters")
        if answer.kind != "done" or type(parameters) is not int or not 0 <= parameters < 1 << 63:
            self.close()
            reason = shown(str(answer.facts.get("reason") or f"contract(its parameters are {parameters})"))
            raise ItemLost(reason if reason.startswith(("load(", "weights(")) else f"load({reason})", _trace(answer))
        self.witnessed.note(dict(answer.facts))
        slot.parameters = parameters
        self.load_memory_mb = max(self.load_memory_mb, memory.growth_mb() or 0.0)
        self._deadline += time.monotonic() - started
        return slot.process


def _changed(path: Path, since: float) -> bool:
    """`path` is gone, or has changed after `since`; the change time is the kernel's, and cannot be set."""
    try:
        return path.lstat().st_ctime >= since
    except OSError:
        return True


def absolute(target: str) -> str:
    """`target`, its file named from the root: a host has another working folder."""
    path = models.file_of(target)
    return f"{path.absolute()}:{target.rpartition(':')[2]}" if path else target


def _trace(answer: Message) -> str:
    return printable(str(answer.facts.get("trace", ""))[-_TRACE_CHARACTERS:].encode(errors="replace"))


def shown(text: str, limit: int = _REASON_CHARACTERS) -> str:
    """`text`, which an adapter may have written, on one line and fit to be shown."""
    return "".join(c if c.isprintable() else " " for c in text[:limit])
