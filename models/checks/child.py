"""The process that runs the checks of one system, one after another, and says what came of each.

It is told what to do by one JSON object on the command line, and answers on a file descriptor of its own, a line of
JSON before and after each check: what the system prints cannot be taken for an answer.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

from codecbench.models.checks.base import Check, Failed, Result, Skipped, all_checks
from codecbench.models.checks.elsewhere import options_of
from codecbench.models.checks.subject import Subject

MAX_FILE_BYTES = 256 << 20
"""Of anything that the process writes: a system that prints without end meets it."""


def run(check: Check, subject: Subject) -> Result:
    """Run one check; whatever it raises becomes the outcome."""
    started = time.perf_counter()
    outcome, reason = "passed", ""
    try:
        check.run(subject)
    except Failed as failure:
        outcome, reason = "failed", str(failure)
    except Skipped as skip:
        outcome, reason = "skipped", str(skip)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a system raises is its failure
        outcome, reason = "failed", f"{type(error).__name__}: {error}"
    return Result(check.name, outcome, _one_line(reason), round(time.perf_counter() - started, 3))  # type: ignore[arg-type]


def _one_line(text: str, limit: int = 400) -> str:
    plain = "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


def run_all(
    names: list[str], subject: Subject, tell: Callable[[dict[str, Any]], None], *, loadable: bool = True
) -> None:
    """Run the checks called `names`, and tell of each when it begins and when it ends.

    Those that need the loaded system are skipped once it is known not to be `loadable`.
    """
    for name in names:
        check = all_checks()[name]
        tell({"begin": name})
        skip = check.loads and not loadable
        result = Result(name, "skipped", "it does not load") if skip else run(check, subject)
        if name == "loads" and result.outcome == "failed":
            loadable = False
        tell({"end": vars(result)})


def main(request: str) -> None:
    """Do what the JSON object `request` asks."""
    asked = json.loads(request)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, MAX_FILE_BYTES))
    answers = os.fdopen(asked["answers"], "w", buffering=1)
    os.set_inheritable(asked["answers"], False)
    subject = Subject(asked["target"], options_of(asked["options"]))
    run_all(
        asked["checks"], subject, lambda message: print(json.dumps(message), file=answers), loadable=asked["loadable"]
    )


if __name__ == "__main__":
    main(sys.argv[1])
