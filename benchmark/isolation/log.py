"""What a host prints: its beginning and its end are kept, whatever its size."""

from __future__ import annotations

from pathlib import Path

HALF_BYTES = 512 * 1024


class CappedLog:
    """Keeps the first and the last 512 KB of what it is fed."""

    def __init__(self) -> None:
        self._head, self._tail = bytearray(), bytearray()
        self.size = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self.size += len(data)
        room = HALF_BYTES - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        if len(self._tail) > 2 * HALF_BYTES:
            del self._tail[:-HALF_BYTES]

    def text(self) -> str:
        """What was kept, fit to be shown: control characters other than line ends and tabs become spaces."""
        tail = self._tail[-HALF_BYTES:]
        left_out = self.size - len(self._head) - len(tail)
        notice = f"\n[{left_out} bytes left out]\n" if left_out else ""
        return printable(bytes(self._head)) + notice + printable(bytes(tail))

    def last_line(self) -> str:
        """The last line that was printed."""
        return printable(bytes(self._tail or self._head)[-1000:]).rstrip().rpartition("\n")[2]

    def save(self, path: Path) -> None:
        """Write `text` to `path`, after what earlier hosts left there, if there is any; then begin anew."""
        if self.size:
            path.parent.mkdir(parents=True, exist_ok=True)
            before = path.read_text(encoding="utf-8") if path.exists() else ""
            kept = before if len(before) < HALF_BYTES else before[-HALF_BYTES:]
            path.write_text(kept + self.text() + "\n", encoding="utf-8")
        self.__init__()  # type: ignore[misc]


def printable(data: bytes) -> str:
    """`data` as text without control characters, which could move a terminal's cursor or worse."""
    text = data.decode("utf-8", "replace").replace("\r\n", "\n")
    return "".join(c if c in "\n\t" or c.isprintable() else " " for c in text)
