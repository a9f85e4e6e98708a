"""One host process, seen from the worker: started, asked, and ended with everything below it."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codecbench.benchmark.coding import ItemLost
from codecbench.benchmark.isolation import supervise
from codecbench.benchmark.isolation.levels import Level, Limits, environment, host_command
from codecbench.benchmark.isolation.log import CappedLog
from codecbench.benchmark.isolation.protocol import Assembler, Message, ProtocolError, to_bytes

END_SECONDS = 2.0


class HostProcess:
    """A host under its supervisor.

    Args:
        level: ``process`` or ``bwrap``.
        limits: What it may use.
        log: Takes what it prints.
        python: Its interpreter; this one by default.
        readable: The files that it may read in a sandbox.
        lifeline: A file descriptor that its supervisor holds open for as long as any process of it lives.
        compiled: See `levels.compiled_folder`.
    """

    def __init__(
        self, level: Level, limits: Limits, log: CappedLog, *, python: Path | None = None,
        readable: Sequence[Path] = (), lifeline: int | None = None, compiled: Path | None = None,
    ) -> None:  # fmt: skip
        self.level, self.limits, self.log = level, limits, log
        if compiled:
            compiled.mkdir(parents=True, exist_ok=True)
        self.folder = tempfile.mkdtemp()  # named by nothing of ours: an adapter may look
        self.alive = True
        self._asked = 0
        self._pid: int | None = None
        self._protocol, theirs = socket.socketpair()
        self._control, control = socket.socketpair()
        self._output, output = os.pipe()
        kept = [control.fileno(), *([lifeline] if lifeline is not None else [])]
        settings = {
            "command": host_command(level, python or Path(sys.executable), theirs.fileno(), readable, compiled),
            "control": control.fileno(), "kept": kept, "passed": [theirs.fileno()],
            "memory": limits.memory, "tasks": limits.tasks, "folder": self.folder,
        }  # fmt: skip
        self._supervisor = subprocess.Popen(  # noqa: S603
            [sys.executable, "-I", "-S", supervise.__file__, json.dumps(settings)],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.folder, start_new_session=True,
            env=environment(self.folder, compiled), pass_fds=[theirs.fileno(), *kept],
        )  # fmt: skip
        os.close(output)
        theirs.close()
        control.close()
        for fd in (self._protocol.fileno(), self._output):
            os.set_blocking(fd, False)

    def ask(self, request: Message, deadline: float, cap: int) -> Message:
        """The answer to `request`.

        Args:
            request: A request of the protocol.
            deadline: When, by the monotonic clock, the host is killed.
            cap: The most bytes that the answer's arrays may have.

        Raises:
            ItemLost: The host died, was killed for a limit, or did not keep to the protocol. It is gone.
        """
        self._asked += 1
        facts = {**request.facts, "id": self._asked}
        try:
            answer = self._converse(to_bytes(Message(request.kind, facts, request.arrays)), deadline, cap)
            if answer.fact("id", int) != self._asked:
                raise ProtocolError("it answers another request")
        except ProtocolError as error:
            self.end()
            raise ItemLost(f"contract(protocol: {error})") from None
        return answer

    def _converse(self, pieces: list[bytes | memoryview], deadline: float, cap: int) -> Message:
        left = [memoryview(piece) for piece in pieces]
        assembler = Assembler(cap)
        with selectors.DefaultSelector() as selector:
            selector.register(self._protocol, selectors.EVENT_READ | selectors.EVENT_WRITE)
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(self._output, selectors.EVENT_READ)
            while (seconds := deadline - time.monotonic()) > 0:
                ready = {key.fileobj: events for key, events in selector.select(seconds)}
                if self._output in ready and not self._drain():
                    selector.unregister(self._output)
                if ready.get(self._protocol, 0) & selectors.EVENT_WRITE and not self._push(left):
                    selector.modify(self._protocol, selectors.EVENT_READ)
                if ready.get(self._protocol, 0) & selectors.EVENT_READ:
                    answer = self._pull(assembler)
                    if isinstance(answer, Message):
                        return answer
                    if answer == "closed":
                        selector.unregister(self._protocol)  # the supervisor will say why
                elif self._control in ready:
                    raise ItemLost(self._last_word())
        self.end()
        raise ItemLost(f"timeout({self.limits.item_seconds:g} s)")

    def _push(self, left: list[memoryview]) -> bool:
        """Send more of `left`; False when nothing is left, or nobody is there to take it."""
        while left:
            try:
                sent = self._protocol.send(left[0])
            except BlockingIOError:
                return True
            except OSError:
                return False
            left[0] = left[0][sent:]
            if not left[0].nbytes:
                del left[0]
        return False

    def _pull(self, assembler: Assembler) -> Message | str:
        try:
            while count := self._protocol.recv_into(assembler.room()):
                if answer := assembler.took(count):
                    return answer
        except BlockingIOError:
            return "more"
        except OSError:
            pass
        return "closed"

    def _drain(self) -> bool:
        """Take what was printed; False at its end."""
        try:
            while data := os.read(self._output, 1 << 20):
                self.log.feed(data)
        except BlockingIOError:
            return True
        return False

    def _last_word(self) -> str:
        """The reason of a death, from the supervisor."""
        try:
            word: dict[str, Any] = json.loads(self._control.recv(1000))
        except (OSError, ValueError):
            word = {"code": -signal.SIGKILL, "killed": ""}
        self.end()
        if word["killed"] == "memory":
            return "memory"
        if word["killed"]:
            return f"crash(more than {self.limits.tasks} processes and threads)"
        code = int(word["code"])
        return f"crash({died(128 - code if self.level == 'bwrap' and code > 128 else code)})"

    def process(self) -> int | None:
        """The process that runs the adapter, as this process sees it; None if it has ended."""
        if self._pid is None and self.alive:
            below = list(supervise.descendants(self._supervisor.pid))
            self._pid = below[-1] if below and (self.level == "bwrap" or len(below) == 1) else None
        return self._pid if self.alive else None

    def end(self) -> None:
        """Kill the host and all below it; return when nothing of it is left."""
        if not self.alive:
            return
        self.alive = False
        self._control.close()  # the order to end, if it has not
        self._protocol.close()
        try:
            self._supervisor.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._supervisor.kill()
            self._supervisor.wait()
        with contextlib.suppress(OSError):
            self._drain()
        os.close(self._output)


def died(code: int) -> str:
    """An exit code in words: ``SIGSEGV``, or ``exit 1``."""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"exit {code}"
