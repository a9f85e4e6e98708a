"""The process of one adapter: loads it, and does what the worker asks, one message after the other.

It is started as ``python -I -m codecbench.benchmark.isolation.host FD`` with an environment and a folder of its own.
It imports numpy and this package's light modules, nothing else; the rest is the adapter's.
"""

from __future__ import annotations

import inspect
import os
import socket
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from codecbench.audio import Clip
from codecbench.benchmark.coding import SystemFailure, all_codes, all_outputs, call, last_trace, one_line
from codecbench.benchmark.isolation.loading import LoadFailure, load_system
from codecbench.benchmark.isolation.plain import from_plain, to_plain
from codecbench.benchmark.isolation.protocol import Message, ProtocolError, receive, send, unwire_many, wire_many
from codecbench.benchmark.isolation.wire import likelihood_message, read_request, response_message
from codecbench.benchmark.responses import answered, first_audio, one_likelihood
from codecbench.errors import CodecbenchError
from codecbench.models import registry as models
from codecbench.models.base import Codec, LoadOptions, OperatingPoint, Request, Response, SpeechLM

ANY_SIZE = 1 << 50
"""The worker is trusted with the size of what it sends."""
_CHANGES = frozenset(("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"))
_CONNECTS = frozenset(("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto"))
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
MAX_NOTED = 20


class Witness:
    """Notes the paths outside `folder` that Python code of this process opens for writing, and network it uses.

    It is for honest adapters, to name the culprit of a change; code that means harm can avoid it.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.wrote: list[str] = []
        self.network: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit hook."""
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & _WRITES and isinstance(path, (str, bytes)):
                self._note_path(path)
        elif event in _CHANGES:
            for path in arguments:
                if isinstance(path, (str, bytes)):
                    self._note_path(path)
        elif event in _CONNECTS and len(self.network) < MAX_NOTED:
            self._note_network(event, arguments)

    def _note_path(self, path: str | bytes) -> None:
        full = os.path.realpath(os.fsdecode(path))
        inside = full.startswith((f"{self.folder}/", "/dev/", "/proc/"))
        if not inside and full not in self.wrote and len(self.wrote) < MAX_NOTED:
            self.wrote.append(full)

    def _note_network(self, event: str, arguments: tuple[Any, ...]) -> None:
        family = getattr(arguments[0], "family", None)
        address = arguments[0] if event == "socket.getaddrinfo" else arguments[1]
        where = one_line(ValueError(address), 100)
        if family != socket.AF_UNIX and where not in self.network:
            self.network.append(where)


class Server:
    """Answers ``ping``, ``describe``, ``load``; of a codec ``encode``, ``decode``; of a language model the rest."""

    def __init__(self, witness: Witness) -> None:
        self.witness = witness
        self._system: Codec | SpeechLM | None = None
        self._waiting: list[Request] = []
        self._answers: list[Response] = []

    def answer(self, request: Message) -> Message:
        """The answer to `request`: of kind ``done``, or ``failed`` with the reason."""
        try:
            return getattr(self, f"_{request.kind}")(request)  # type: ignore[no-any-return]
        except (SystemFailure, LoadFailure) as failure:
            return Message("failed", {"reason": str(failure), "trace": failure.trace})
        except (ProtocolError, TypeError, ValueError, AttributeError, OverflowError) as error:
            reason = f"contract({type(error).__name__}: {one_line(error)})"  # of the conversion of what it returned
            return Message("failed", {"reason": reason, "trace": last_trace(error)})

    def _ping(self, request: Message) -> Message:
        del request
        return Message("done")

    def _describe(self, request: Message) -> Message:
        try:
            system = models.find(request.fact("target", str))
        except CodecbenchError as error:
            return Message("refused", {"error": type(error).__name__, "text": str(error)})
        defined = system if isinstance(system, type) else type(system)
        return Message("done", {"card": to_plain(system.card), "source": inspect.getsourcefile(defined) or ""})

    def _load(self, request: Message) -> Message:
        options = from_plain(LoadOptions, request.fact("options", dict))
        self._system = load_system(request.fact("target", str), options)
        return Message("done", {"parameters": call(lambda system: int(system.parameters()), self._system)})

    def _encode(self, request: Message) -> Message:
        clips = [Clip(samples, request.fact("sample_rate", int)) for samples in request.arrays]
        point = from_plain(OperatingPoint, request.fact("point", dict))
        facts, arrays = wire_many(all_codes(call(self._codec.encode, clips, point), len(clips)))
        return Message("done", {"codes": facts}, arrays)

    def _decode(self, request: Message) -> Message:
        codes = unwire_many(request.fact("codes", list), request.arrays)
        return Message("done", {}, tuple(all_outputs(call(self._codec.decode, codes), len(codes))))

    def _also(self, request: Message) -> Message:
        """A request that is to be answered with the next, in one batch."""
        self._waiting.append(read_request(request)[0])
        return Message("done")

    def _generate(self, request: Message) -> Message:
        asked, sampling = read_request(request)
        requests, self._waiting = [*self._waiting, asked], []
        self._answers = answered(self._model, requests, sampling)
        return self._another(request)

    def _another(self, request: Message) -> Message:
        """The next answer of a batch."""
        del request
        if not self._answers:
            raise ProtocolError("no answer is left")
        return response_message(self._answers.pop(0))

    def _loglikelihood(self, request: Message) -> Message:
        clip = Clip(request.arrays[0], request.fact("sample_rate", int))
        return likelihood_message(one_likelihood(call(self._model.loglikelihood, [clip])))

    def _first_audio(self, request: Message) -> Message:
        return Message("done", {"seconds": first_audio(self._model, *read_request(request))})

    @property
    def _codec(self) -> Codec:
        if not isinstance(self._system, Codec):
            raise ProtocolError("no codec is loaded")
        return self._system

    @property
    def _model(self) -> SpeechLM:
        if not isinstance(self._system, SpeechLM):
            raise ProtocolError("no language model is loaded")
        return self._system


def serve(connection: socket.socket, witness: Witness) -> NoReturn:
    """Answer requests on `connection` until the worker closes it."""
    server = Server(witness)
    while True:
        request = receive(connection, ANY_SIZE)
        answer = server.answer(request)
        facts: Mapping[str, Any] = {
            **answer.facts, "id": request.fact("id", int), "wrote": witness.wrote, "network": witness.network,
        }  # fmt: skip
        send(connection, Message(answer.kind, facts, answer.arrays))


def main() -> None:
    """Entry point."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.set_inheritable(False)
    witness = Witness(os.path.realpath(os.getcwd()))  # noqa: PTH109
    sys.addaudithook(witness)
    try:
        serve(connection, witness)
    except (EOFError, ConnectionError):
        return  # the worker is gone


if __name__ == "__main__":
    main()
