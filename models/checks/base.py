"""What a check is, the register of all, and what comes of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from codecbench.models.base import Kind

if TYPE_CHECKING:
    from codecbench.models.checks.subject import Subject

SUBJECTS = {
    "card": "What the card declares",
    "loading": "Importing and loading",
    "lengths": "Lengths and shapes",
    "signals": "Unusual signals",
    "codes": "Codes, and nothing but codes",
    "rates": "Bitrates and operating points",
    "repeats": "The same again",
    "timing": "Delay, causality, streaming",
    "hygiene": "What a call leaves behind",
    "generation": "Language models: generation",
    "likelihood": "Language models: likelihood",
}
"""The modules of checks, in the order in which they run, each with its heading."""

CODECS: frozenset[Kind] = frozenset({"codec", "control"})
LMS: frozenset[Kind] = frozenset({"lm"})
ALL = CODECS | LMS

Outcome = Literal["passed", "failed", "skipped", "expected failure", "unexpected pass"]


class Failed(Exception):
    """The system does not hold to what the check guards; ``str`` is the reason, one line."""


class Skipped(Exception):
    """The check does not apply to this system, or cannot tell; ``str`` says why."""


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: Unique, as reports and `Card.expected_failures` name it.
        subject: A key of `SUBJECTS`.
        guards: One sentence: what holds of a system that passes.
        kinds: The kinds of system to which it applies.
        loads: It needs the loaded system; such checks are skipped when loading fails.
        run: Returns if the system holds, else raises `Failed` or `Skipped`; any other exception is the system's
            fault, and a failure.
    """

    name: str
    subject: str
    guards: str
    kinds: frozenset[Kind]
    loads: bool
    run: Callable[[Subject], None]


@dataclass(frozen=True)
class Result:
    """What came of one check: its outcome, the reason unless it passed, and the seconds it took."""

    check: str
    outcome: Outcome
    reason: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Neither a failure nor an expected failure that passed."""
        return self.outcome not in {"failed", "unexpected pass"}

    def to_json(self) -> dict[str, Any]:
        """The result as plain JSON values, with what the check guards."""
        check = all_checks()[self.check]
        return {**asdict(self), "subject": check.subject, "guards": check.guards}


_found: dict[str, Check] = {}


def check(
    kinds: frozenset[Kind] = CODECS, *, loads: bool = True
) -> Callable[[Callable[[Subject], None]], Callable[[Subject], None]]:
    """Register a function as a check: its name is the check's, its docstring the sentence of what it guards."""

    def register(function: Callable[[Subject], None]) -> Callable[[Subject], None]:
        name = function.__name__
        if name in _found:
            raise ValueError(f"two checks are called '{name}'")
        guards = " ".join((function.__doc__ or "").split("\n\n")[0].split())
        _found[name] = Check(name, function.__module__.rpartition(".")[2], guards, kinds, loads, function)
        return function

    return register


@cache
def all_checks() -> dict[str, Check]:
    """Every check by name, in the order in which they run."""
    for subject in SUBJECTS:
        import_module(f"codecbench.models.checks.{subject}")
    return {name: one for subject in SUBJECTS for name, one in _found.items() if one.subject == subject}


def judge(result: Result, expected: dict[str, str], *, strict: bool = True) -> Result:
    """`result` in the light of the card's `expected` failures, a reason by check name.

    Unless `strict`, a check that was expected to fail may pass: the card speaks of trained weights, not of random ones.
    """
    if result.check not in expected or result.outcome not in {"passed", "failed"}:
        return result
    if result.outcome == "failed":
        reason = f"{expected[result.check]} ({result.reason})"
        return Result(result.check, "expected failure", reason, result.seconds)
    if not strict:
        return result
    reason = "the card expects this check to fail, but it passed: remove it from `expected_failures`"
    return Result(result.check, "unexpected pass", reason, result.seconds)
