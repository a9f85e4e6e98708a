"""Commands of ``codecbench``, a file a subject. They import nothing heavy at the top: ``--help`` imports them all."""

from collections.abc import Callable
from typing import Any

from codecbench.benchmark.commands.conformance import conformance

COMMANDS: tuple[Callable[..., Any], ...] = (conformance,)
"""The functions that become commands; a new one is a line here."""
