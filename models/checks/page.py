"""The page ``docs/checks.md``, made from the register: ``python -m codecbench.models.checks.page > docs/checks.md``."""

from __future__ import annotations

from codecbench.models.checks.base import ALL, CODECS, SUBJECTS, Check, all_checks

HEAD = """\
# The conformance checks

<!-- Generated: python -m codecbench.models.checks.page > docs/checks.md -->

`codecbench check TARGET` holds a model to the interface with {count} named checks: {codecs} for a codec, {lms} for a
language model. `TARGET` is a registered name or `path/to/file.py:Class`. A small model takes seconds, a large network
a minute.

```sh
codecbench check encodec_24khz                      # on its official weights
codecbench check encodec_24khz --random-weights 0   # on random weights: checks of how it sounds are skipped
codecbench check my_codec.py:MyCodec --json         # one JSON document, for machines
codecbench check my_codec.py:MyCodec --only silence,one_sample
```

**Outcomes.** A check passes, fails with a reason, or is skipped with a reason: it does not apply, or it cannot tell.
The exit code is 0 if none failed, 3 if one did, and 1 for wrong usage.

**Expected failures.** A card may name a check that the system is known to fail, with the reason:
`expected_failures=(("one_sample", "the release needs a whole frame"),)`. It is reported as an expected failure and
shown as a badge. If it passes after all, the report fails and says to remove it.

**A process of its own.** The checks run in a child process, each within `--timeout` seconds. A check that hangs or
ends its process has failed, and the others go on in a new process. `--isolation bwrap` puts the child in a sandbox
without a network, and `--isolation none` runs the checks in the calling process, for a debugger.

**What is seen.** Files, connections and printing are seen through Python's audit events and the process's own folders.
Compiled code that writes to other places or opens connections itself goes unseen here; the sandbox stops it.

**Random weights.** Checks of numbers that only trained weights give (the output's level, its delay, how far other codes
lead) are skipped or ask for less. Everything else is checked as on official weights, and the report says so.

From Python, such as in the test of a package that has a model of its own:

```python
from codecbench.models.checks.runner import check

def test_my_codec():
    report = check("path/to/my_codec.py:MyCodec")
    assert [(result.check, result.reason) for result in report.results if not result.ok] == []
```
"""


def page() -> str:
    """The page's text."""
    checks = list(all_checks().values())
    codecs, lms = (sum(kind in one.kinds for one in checks) for kind in ("codec", "lm"))
    parts = [HEAD.format(count=len(checks), codecs=codecs, lms=lms)]
    for subject, heading in SUBJECTS.items():
        rows = [_row(one) for one in checks if one.subject == subject]
        parts.append("\n".join([f"\n## {heading}\n", "| check | of | what it guards |", "|---|---|---|", *rows, ""]))
    return "".join(parts)


def _row(one: Check) -> str:
    of = "all" if one.kinds == ALL else "codecs" if one.kinds == CODECS else "language models"
    return f"| `{one.name}` | {of} | {one.guards.replace('|', chr(92) + '|')} |"


if __name__ == "__main__":
    print(page(), end="")
