"""An arithmetic coder: any sequence of symbols in about as many bits as a model's probabilities say.

Compatible, byte for byte, with that of the released EnCodec (arXiv:2210.13438, section 3.3). The interval that holds
all sequences that begin as the coded one does is kept as two integers. Bits that both have in common are sent and
forgotten; while the interval is narrower than `TOTAL`, it is scaled up by a bit. Python's integers have no end,
so neither the width of the interval nor a long run of undecided bits can overflow.

Both sides must have the same cumulative distribution for every symbol, to the last integer. `quantised_cdf` rounds
probabilities down to multiples of `ROUNDOFF` first, which hides some differences between machines, but not all: a
value close to a multiple can still fall on either side, and what follows is then decoded to something else. So a
network that gives the probabilities must do the same arithmetic on both sides: the same shapes in the same order, and
in practice the same machine, version of torch, device and number of threads.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

TOTAL_BITS = 24
TOTAL = 1 << TOTAL_BITS
"""What the last value of a cumulative distribution may reach."""
ROUNDOFF = 1e-8
FLOOR = 2
"""Least share of a symbol, out of `TOTAL`: even one that the model excludes can be coded."""


def quantised_cdf(probabilities: NDArray[np.float32]) -> NDArray[np.int64]:
    """Integer cumulative distributions of `probabilities`.

    In 32-bit floats, as the release: in others, some shares would be one less or one more.

    Args:
        probabilities: ``[..., N]``, each row a distribution over ``N`` symbols.

    Returns:
        Upper ends ``[..., N]`` of the symbols' shares, each of at least `FLOOR`. Where the model is almost certain,
        rounding can make the shares add up to a little more than `TOTAL`, and the last are cut there. As in the
        release, nobody else makes room for them: `Encoder.push` refuses a symbol that has no share left.
    """
    rounded = np.floor(probabilities / np.float32(ROUNDOFF)) * np.float32(ROUNDOFF)
    spread = np.float32((1 - FLOOR * probabilities.shape[-1] / TOTAL) * TOTAL)
    ends: NDArray[np.int64] = np.cumsum(np.floor(spread * rounded).astype(np.int64) + FLOOR, axis=-1)
    return ends.clip(max=TOTAL)


class _Interval:
    """The interval ``[low, high]`` of ``bits`` bits that encoder and decoder narrow alike."""

    def __init__(self) -> None:
        self.low = self.high = self.bits = 0

    def widen(self) -> None:
        self.low, self.high, self.bits = 2 * self.low, 2 * self.high + 1, self.bits + 1

    @property
    def width(self) -> int:
        return self.high - self.low + 1

    def narrow(self, start: int, end: int) -> None:
        """Keep what the share from `start` to `end`, out of `TOTAL`, has of the interval."""
        first, last = scaled(start, self.width), (end - 1) * self.width >> TOTAL_BITS
        if first > last:
            raise ValueError(f"a share from {start} to {end} of {TOTAL} is too small to be coded")
        self.low, self.high = self.low + first, self.low + last

    def settled(self) -> list[int]:
        """Drop the leading bits that both ends have in common, and return them."""
        common = self.bits - (self.low ^ self.high).bit_length()
        rest = self.bits - common
        found = [self.low >> (self.bits - 1 - place) & 1 for place in range(common)]
        mask = (1 << rest) - 1
        self.low, self.high, self.bits = self.low & mask, self.high & mask, rest
        return found


def scaled(edge: int, width: int) -> int:
    """Where the share that ends at `edge`, out of `TOTAL`, ends in an interval of `width`, rounded up."""
    return -(-edge * width >> TOTAL_BITS)


class Encoder:
    """Turns symbols into bytes."""

    def __init__(self) -> None:
        self._interval = _Interval()
        self._bits: list[int] = []

    def push(self, symbol: int, cdf: Sequence[int] | NDArray[np.integer[Any]]) -> None:
        """Add `symbol`, of the distribution whose shares end at `cdf` ``[N]``."""
        if not 0 <= symbol < len(cdf):
            raise ValueError(f"symbol {symbol} is none of {len(cdf)}")
        while self._interval.width < TOTAL:
            self._interval.widen()
        self._interval.narrow(int(cdf[symbol - 1]) if symbol else 0, int(cdf[symbol]))
        self._bits += self._interval.settled()

    def finish(self) -> bytes:
        """All that was pushed, least significant bit first, with zeros to the last byte's end."""
        low, left = self._interval.low, self._interval.bits
        bits = self._bits + [low >> (left - 1 - place) & 1 for place in range(left)]
        return np.packbits(np.array(bits, np.uint8), bitorder="little").tobytes()


class Decoder:
    """Turns bytes back into symbols; it reads no byte that the encoder of the same symbols has not written."""

    def __init__(self, data: bytes) -> None:
        self._data, self._read = data, 0
        self._interval, self._value = _Interval(), 0

    @property
    def consumed(self) -> int:
        """Bytes that were read, in whole or in part."""
        return -(-self._read // 8)

    def pull(self, cdf: Sequence[int] | NDArray[np.integer[Any]]) -> int:
        """The next symbol, of the distribution whose shares end at `cdf` ``[N]``.

        Raises:
            ValueError: The bytes have ended, or no such encoder wrote them.
        """
        interval = self._interval
        while interval.width < TOTAL:
            interval.widen()
            self._value = 2 * self._value + self._next_bit()
        offset, width = self._value - interval.low, interval.width
        symbol = bisect_right(cdf, offset, key=lambda edge: scaled(int(edge), width))
        if symbol == len(cdf) or offset > (int(cdf[symbol]) - 1) * width >> TOTAL_BITS:
            raise ValueError(f"corrupt: no symbol's share holds what byte {self.consumed - 1} ends in")
        interval.narrow(int(cdf[symbol - 1]) if symbol else 0, int(cdf[symbol]))
        interval.settled()
        self._value &= (1 << interval.bits) - 1
        return symbol

    def _next_bit(self) -> int:
        at, place = divmod(self._read, 8)
        if at >= len(self._data):
            raise ValueError(f"truncated: the {len(self._data)} bytes end before the symbols do")
        self._read += 1
        return self._data[at] >> place & 1
