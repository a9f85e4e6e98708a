"""The report of a check: for people, and as JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from codecbench.models.checks.base import SUBJECTS, Outcome, Result, all_checks

SIGNS: dict[Outcome, str] = {"passed": "ok", "failed": "FAILED", "skipped": "skipped", "expected failure": "expected",
         "unexpected pass": "FAILED"}  # fmt: skip


@dataclass(frozen=True)
class Report:
    """What came of all checks of one system.

    Attributes:
        target: What was checked, as it was named.
        system: The name on the card.
        weights: The label of the weights it ran on.
        results: One a check.
        seconds: Wall time of all.
    """

    target: str
    system: str
    weights: str
    results: tuple[Result, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        """No check failed, and no expected failure passed."""
        return all(result.ok for result in self.results)

    def result(self, name: str) -> Result:
        """The result of the check called `name`; KeyError if it was not run."""
        return {result.check: result for result in self.results}[name]

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {
            "schema": 1, "target": self.target, "system": self.system, "weights": self.weights, "ok": self.ok,
            "seconds": self.seconds, "counts": dict(Counter(result.outcome for result in self.results)),
            "checks": [result.to_json() for result in self.results],
        }  # fmt: skip

    def summary(self) -> str:
        """One line: how many checks came out how."""
        counts = Counter(result.outcome for result in self.results)
        told = ", ".join(f"{counts[outcome]} {outcome}" for outcome in SIGNS if counts[outcome])
        return f"{self.system} ({self.weights}): {told} in {self.seconds:.0f} s"


class Progress:
    """Makes the lines that people read, one a check, under the heading of their subject."""

    def __init__(self) -> None:
        self._subject = ""

    def lines(self, result: Result) -> list[str]:
        """The lines to print for `result`."""
        check = all_checks()[result.check]
        heading = [] if check.subject == self._subject else ["", SUBJECTS[check.subject]]
        self._subject = check.subject
        line = f"  {SIGNS[result.outcome]:8}  {result.check:24}"
        told = f"  {result.reason}" if result.reason else ""
        guarded = [f"            it guards: {check.guards}"] if not result.ok else []
        return [*heading, (line + told).rstrip(), *guarded]
