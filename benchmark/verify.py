"""Is a submission what it says? A check is a function of a `Case`; it yields the problems that it finds, a line each.

The checks stand in `codecbench.benchmark.submission_checks`, the one that computes values again in
`codecbench.benchmark.rescore`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codecbench.benchmark.results import CORPUS, EVIDENCE_COLUMNS, RESULT_COLUMNS
from codecbench.benchmark.submission import Submission, read_submission
from codecbench.errors import CodecbenchError, InvalidSystem

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Finding:
    """One check's outcome: its problems (none: it passed), or why it could not be made."""

    check: str
    problems: tuple[str, ...] = ()
    skipped: str = ""

    @property
    def status(self) -> str:
        """``passed``, ``failed`` or ``skipped``."""
        return "failed" if self.problems else "skipped" if self.skipped else "passed"


class Skipped(Exception):
    """A check cannot be made here; `str` is the reason."""


@dataclass(frozen=True, eq=False)
class Case:
    """A submission under examination.

    Attributes:
        submission: It.
        earlier: The version that it replaces, if there is one.
        paths: The paths that a proposal changes, relative to the folder of all submissions; None if unknown.
        facts: What later checks may rely on; filled as files are read.
    """

    submission: Submission
    earlier: Submission | None = None
    paths: Sequence[str] | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def run(self) -> Path:
        """The run folder."""
        return self.submission.folder / "run"

    @cached_property
    def manifest(self) -> Mapping[str, Any]:
        """``run.json``."""
        found = self.submission.json("run/run.json")
        lacking = {"sweep", "systems", "datasets", "metrics", "results", "finished"} - set(found)
        if lacking:
            raise InvalidSystem(f"run/run.json lacks {', '.join(sorted(lacking))}")
        return found  # type: ignore[no-any-return]

    @cached_property
    def rows(self) -> pd.DataFrame:
        """``results.parquet``."""
        return read_table(self.run / "results.parquet", RESULT_COLUMNS)

    @cached_property
    def evidence(self) -> pd.DataFrame:
        """``evidence.parquet``."""
        return read_table(self.run / "evidence.parquet", EVIDENCE_COLUMNS)

    @property
    def items(self) -> pd.DataFrame:
        """The rows about recordings, not about the corpus."""
        return self.rows[self.rows["utterance"] != CORPUS]


Check = Callable[[Case], Iterator[str]]


def verify(
    folder: Path, *, against: Path | None, paths: Sequence[str] | None, checks: Sequence[Check]
) -> list[Finding]:
    """Examine the submission in `folder`.

    Args:
        folder: The submission.
        against: The version that it replaces, if any.
        paths: See `Case`.
        checks: What to look at, in this order.

    Raises:
        UsageError: No submission there, or one of a newer version.
        InvalidSystem: The manifest itself cannot be read.
    """
    earlier = read_submission(against) if against else None
    case = Case(read_submission(folder), earlier, paths)
    return [_outcome(check, case) for check in checks]


def _outcome(check: Check, case: Case) -> Finding:
    name = check.__name__
    try:
        return Finding(name, tuple(check(case)))
    except Skipped as reason:
        return Finding(name, skipped=str(reason))
    except CodecbenchError as error:
        return Finding(name, (str(error),))
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        return Finding(name, (f"malformed: {type(error).__name__}: {error}",))


def read_table(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    """A table with exactly the columns of `columns`.

    Raises:
        InvalidSystem: It is absent, damaged, or another table.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise InvalidSystem(f"{path}: {' '.join(str(error).split())}") from None
    found = {name: str(kind) for name, kind in zip(table.schema.names, table.schema.types, strict=True)}
    if found != {name: {"float64": "double"}.get(kind, kind) for name, kind in columns.items()}:
        raise InvalidSystem(f"{path}: another table than expected, with the columns {', '.join(found)}")
    frame: pd.DataFrame = table.to_pandas()
    return frame


def report(findings: Sequence[Finding]) -> str:
    """The findings as text, one a line, problems below."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.status:8} {finding.check}{f'  {finding.skipped}' if finding.skipped else ''}")
        lines += [f"           {problem}" for problem in finding.problems]
    return "\n".join(lines)


def to_json(findings: Sequence[Finding]) -> str:
    """The findings as one JSON document."""
    return json.dumps([{**vars(f), "status": f.status} for f in findings], indent=1)
