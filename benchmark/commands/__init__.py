"""Commands of ``codecbench``, a file a subject. They import nothing heavy at the top: ``--help`` imports them all."""

from collections.abc import Callable
from typing import Any

from codecbench.benchmark.commands.check import check
from codecbench.benchmark.commands.compare import compare
from codecbench.benchmark.commands.conformance import conformance
from codecbench.benchmark.commands.latency import latency
from codecbench.benchmark.commands.new import new
from codecbench.benchmark.commands.submit import submit, verify
from codecbench.benchmark.commands.train import train

COMMANDS: tuple[Callable[..., Any], ...] = (
    check,
    compare,
    conformance,
    latency,
    new,
    submit,
    train,
    verify,
)
"""The functions that become commands; a new one is a line here."""
