"""Columns of numbers as text that a page can load without a network: shuffled bytes, gzip, base64.

A page opened from a folder may load scripts but no data, so data travels as scripts. Bytes are shuffled (all first
bytes of a column, then all second bytes, …) because neighbours' high bytes are alike. Values of utterances are
quantised to 16 bits over the range of their column, which is far finer than what a page shows; the exact values
are in the site's downloads.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codecbench.leaderboard.board import STATUSES

LEVELS = 65530
"""Codes 0 to 65530 are values; those above say why there is none."""
NO_VALUE = {"undefined": 65531, "failed": 65532, "error": 65533, "missing": 65534}
NO_ROW = 65535
DTYPES = ("u1", "u2", "u4", "f4")


def quantise(values: NDArray[np.float64], status: NDArray[np.intp]) -> tuple[NDArray[np.uint16], float, float]:
    """Codes of `values` with their range ``(low, high)``; `status` indexes `STATUSES`, and -1 means no row.

    The value of code ``c`` is ``low + c / LEVELS * (high - low)``, off by at most half a step.
    """
    ok = status == STATUSES.index("ok")
    low, high = (float(values[ok].min()), float(values[ok].max())) if ok.any() else (0.0, 0.0)
    codes = np.full(values.shape, NO_ROW, dtype=np.uint16)
    span = high - low
    codes[ok] = np.round((values[ok] - low) / span * LEVELS) if span > 0 else 0
    for name, code in NO_VALUE.items():
        codes[status == STATUSES.index(name)] = code
    return codes, low, high


def shorten(values: NDArray[np.float32], decimals: NDArray[np.intp]) -> NDArray[np.float32]:
    """`values` rounded to numbers whose last byte is 0, which packs to nothing.

    Those stay as they are that would move by more than a quarter of their last shown digit, of `decimals`.
    """
    bits = np.ascontiguousarray(values).view(np.uint32)
    fine = np.isfinite(values) & (np.abs(values) * 2.0**-16 < 0.25 * 10.0**-decimals)
    return np.where(fine, (bits + 0x80) & 0xFFFFFF00, bits).astype(np.uint32).view(np.float32)


def pack(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Columns as ``{"layout": [[name, dtype, count], …], "data": base64}``, the same bytes for the same columns.

    An array keeps its dtype, which must be one of `DTYPES`; anything else travels as JSON.
    """
    layout, parts = [], []
    for name, column in columns.items():
        if isinstance(column, np.ndarray):
            dtype = column.dtype.str.lstrip("<|=")
            if dtype not in DTYPES:
                raise TypeError(f"column '{name}' has dtype {column.dtype}: use one of {', '.join(DTYPES)}")
            raw = np.ascontiguousarray(column.ravel()).astype(column.dtype.newbyteorder("<"))
            parts.append(raw.view(np.uint8).reshape(-1, raw.itemsize).T.tobytes())
            layout.append([name, dtype, raw.size])
        else:
            text = json.dumps(column, allow_nan=False, separators=(",", ":")).encode()
            parts.append(text)
            layout.append([name, "json", len(text)])
    packed = bytearray(gzip.compress(b"".join(parts), compresslevel=9, mtime=0))
    packed[9] = 255  # the operating system that packed it, which is nobody's business
    return {"layout": layout, "data": base64.b64encode(packed).decode()}


def script_json(value: Any) -> str:
    """JSON that can stand inside of a ``<script>`` element or file: nothing in it ends or begins anything."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def shard(name: str, columns: Mapping[str, Any]) -> str:
    """A script that hands `columns` to the page under `name`."""
    return f"(self.codecbenchShards??=[]).push({script_json({'name': name, **pack(columns)})});\n"
