"""Files of unknown origin are first decoded in processes of their own: a decoder that hangs or crashes is alone.

A file that has been decoded once, to the end and in time, is later read wherever it is needed.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from codecbench.benchmark.resources import die_with_parent
from codecbench.errors import CodecbenchError
from codecbench.recording import DataError, printable

if TYPE_CHECKING:
    from codecbench.benchmark.datasets.base import Dataset, Utterance

SECONDS = 10.0
"""What decoding one file may take; ten minutes of audio take less than one."""


class Decoders:
    """One process a thread that asks, each busy with one file at a time.

    Args:
        examine: What to do with an utterance there; a function of the dataset and the utterance.
        dataset: Whose utterances.
    """

    def __init__(self, examine: Callable[[Dataset, Utterance], Any], dataset: Dataset) -> None:
        self._examine, self._dataset = examine, dataset
        self._own = threading.local()
        self._all: list[_Decoder] = []

    def ask(self, utterance: Utterance) -> Any:
        """What `examine` returns for `utterance`, or what it raises.

        Raises:
            DataError: It took longer than `SECONDS`, or its process died of the file.
        """
        decoder: _Decoder | None = getattr(self._own, "decoder", None)
        if decoder is None:
            decoder = self._own.decoder = _Decoder(self._examine, self._dataset)
            self._all.append(decoder)
        try:
            return decoder.ask(utterance)
        except _Lost as lost:
            self._own.decoder = None
            raise DataError(f"{printable(str(utterance.path))}: {lost}") from None

    def close(self) -> None:
        """End all processes."""
        for decoder in self._all:
            decoder.end()


class _Lost(Exception):
    """The process is gone."""


class _Decoder:
    """One process."""

    def __init__(self, examine: Callable[[Dataset, Utterance], Any], dataset: Dataset) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._connection, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs, examine, dataset), daemon=True)
        self._process.start()
        theirs.close()
        self._connection.recv()  # it has started: from here on, time is the file's

    def ask(self, utterance: Utterance) -> Any:
        """See `Decoders.ask`."""
        try:
            self._connection.send(utterance)
            if not self._connection.poll(SECONDS):
                self.end()
                raise _Lost(f"decode_timeout: not decoded after {SECONDS:g} s; is it damaged?")
            answer = self._connection.recv()
        except (EOFError, OSError):
            self.end()
            raise _Lost("its decoder crashed; is it damaged?") from None
        if isinstance(answer, CodecbenchError):
            raise answer
        return answer

    def end(self) -> None:
        """Kill it: a thread that waits for its answer sees the pipe end.

        The pipe is closed with the last reference to it. Closed here, under the thread that reads it, its number
        could by then be another file's.
        """
        self._process.kill()
        self._process.join()


def _serve(connection: Connection, examine: Callable[[Dataset, Utterance], Any], dataset: Dataset) -> None:
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, OSError):
        connection.send("ready")
        while True:
            utterance = connection.recv()
            try:
                answer: Any = examine(dataset, utterance)
            except CodecbenchError as error:
                answer = error
            connection.send(answer)
