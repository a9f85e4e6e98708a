"""Where downloads and caches live, and what a file is known by."""

import hashlib
import os
from pathlib import Path


def cache_dir(*parts: str) -> Path:
    """A folder of the user's cache: ``$CODECBENCH_CACHE``, else ``$XDG_CACHE_HOME/codecbench``, else ``~/.cache``.

    The folder is not created.
    """
    if own := os.environ.get("CODECBENCH_CACHE"):
        return Path(own, *parts)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home, "codecbench", *parts)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
