"""Official model files: what they are, where they come from, and how they are read safely."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WeightFile:
    """One official file.

    Attributes:
        name: File name in the cache.
        url: Where it is published.
        sha256: Hex digest, or a prefix of at least 8 digits where only that is published; empty if unknown
            until the first download, which then pins it in the local lock.
        licence: SPDX identifier (or name) of the licence.
    """

    name: str
    url: str
    sha256: str = ""
    licence: str = ""
