"""What a person sees of a run: a bar with the time left, one line a failed item, and a count at the end."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any


class Progress:
    """Writes to standard error; a bar only on a terminal."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bar: Any = None
        self._task: Any = None
        self._checked = ""

    def checking(self, dataset: str, done: int, total: int) -> None:
        """Recordings of a dataset are being checked."""
        if done == total and dataset != self._checked:
            self._checked = dataset
            self.say(f"checked  {dataset}: {total} recordings")

    def start(self, total: int, done: int) -> None:
        """Show the bar: `done` of `total` items were there already."""
        if done:
            self.say(f"resumed  {done} of {total} items were done")
        if self._quiet or not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("{task.description:28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), console=Console(stderr=True), transient=True,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=total, completed=done)
        self._bar.start()

    def record(self, row: dict[str, Any]) -> None:
        """An item is done; says why if it failed."""
        name = f"{row['system']} {row['point']}"
        if self._bar:
            self._bar.update(self._task, advance=1, description=name)
        reasons = {
            f"{status}:{reason}" for status, reason, *_ in row["values"].values() if status in ("failed", "error")
        }
        for reason in sorted(reasons):
            self.say(f"{name} {row['dataset']}/{row['utterance']}: {reason}")

    def say(self, line: str) -> None:
        """One line on standard error, above the bar."""
        if self._bar:
            from rich.text import Text

            self._bar.console.print(Text(line))
        else:
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar:
            self._bar.stop()
            self._bar = None

    def summary(self, counts: Mapping[str, int], reasons: Mapping[str, int]) -> None:
        """The count at the end: values by status, and those that failed or are errors by reason."""
        for reason, count in reasons.items():
            self.say(f"{count:6d}  {reason}")
        self.say("values   " + ", ".join(f"{counts[status]} {status}" for status in counts if counts[status]))
