"""How much of the past a language model keeps: bytes of keys and values, told by its caches while somebody watches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary


class CacheUse:
    """What all caches together held at most, in bytes; None if there were none."""

    def __init__(self) -> None:
        self.most: int | None = None
        self._held: WeakKeyDictionary[object, int] = WeakKeyDictionary()

    def note(self, cache: object, held: int) -> None:
        """`cache` now holds so many bytes."""
        self._held[cache] = held
        self.most = max(self.most or 0, sum(self._held.values()))


_watching: list[CacheUse] = []


@contextmanager
def watched() -> Iterator[CacheUse]:
    """What caches hold while this lasts."""
    use = CacheUse()
    _watching.append(use)
    try:
        yield use
    finally:
        _watching.remove(use)


def note(cache: object, held: int) -> None:
    """Tell whoever watches that `cache` now holds so many bytes."""
    for use in _watching:
        use.note(cache, held)
