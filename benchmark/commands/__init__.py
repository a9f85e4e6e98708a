"""Commands of ``codecbench``, a file a subject. They import nothing heavy at the top: ``--help`` imports them all."""

from collections.abc import Callable
from typing import Any

COMMANDS: tuple[Callable[..., Any], ...] = ()
"""The functions that become commands; a new one is a line here."""
