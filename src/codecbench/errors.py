"""Errors that a user meets: one line, and the exit code of the command that raised it.

- ``CodecbenchError`` (1)
    - ``UsageError`` (1): the command, the sweep or the data are wrong; nothing was started
    - ``InvalidSystem`` (3): a system cannot be loaded or breaks the interface
    - ``InfrastructureError`` (4): disk, lock, store, download

The other exit codes are states, not errors: 0 done, 2 finished with failed items, 130 interrupted.
"""


class CodecbenchError(Exception):
    """Base of all expected errors; ``str(error)`` is one line: what was wrong, where, what to do."""

    exit_code = 1


class UsageError(CodecbenchError):
    """The user's input is wrong."""


class InvalidSystem(CodecbenchError):
    """A system cannot be loaded, or breaks the interface."""

    exit_code = 3


class InfrastructureError(CodecbenchError):
    """The machine failed: disk, lock, corrupt store, download."""

    exit_code = 4


def did_you_mean(name: str, known: list[str], what: str) -> UsageError:
    """The error for an unknown `name` of a `what` ("model", "metric", ...), naming its nearest matches."""
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"`codecbench list {what}s` shows all"
    return UsageError(f"unknown {what} '{name}': {hint}")
