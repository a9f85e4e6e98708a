"""A metric whose code changes gets a new version, so that numbers of both never stand in one column.

``metric_versions.json`` holds, for each metric, its version and a digest of the code that makes its values: its file
and the files of this package that it uses, without comments and docstrings. When the digest differs, either raise the
metric's `version`, or, where no value can have changed (`codecbench conformance` shows the same deviations as before),
keep it; then run ``python tests/metrics/test_versions.py`` to write the file anew, and let the review see it.
"""

import ast
import hashlib
import inspect
import json
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

from codecbench.metrics import registry

RECORD = Path(__file__).parents[1] / "golden" / "metric_versions.json"
SHARED = {"codecbench.metrics.base", "codecbench.audio"}


def current() -> dict[str, dict[str, object]]:
    """Version and digest of every metric, as they are."""
    found: dict[str, dict[str, object]] = {}
    for family in registry.FAMILIES:
        for metric in import_module(family).METRICS:
            found[metric.name] = {"version": metric.version, "code": digest(family)}
    return found


def digest(module: str) -> str:
    """Of the code of `module` and of all of this package's modules that it imports, directly or not."""
    text = "\n".join(bare(name) for name in sorted(closure(module)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def closure(module: str) -> set[str]:
    """`module` and what makes its values: other modules of metrics, and what all of them share."""
    found, left = set(SHARED), [module]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += [other for other in imports(name) if other.startswith("codecbench.metrics.")]
    return found - {"codecbench.metrics.registry"}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(inspect.getsource(import_module(module)))


def imports(module: str) -> set[str]:
    names = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if name in sys.modules}


def bare(module: str) -> str:
    """The code without comments and docstrings."""
    code = tree(module)
    for node in ast.walk(code):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            node.body = body[1:] or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(code)


def test_a_metric_that_changed_has_a_new_version() -> None:
    recorded, now = json.loads(RECORD.read_text()), current()
    assert set(recorded) == set(now), "a metric was added or removed: write the record anew"
    stale = [name for name in now if recorded[name]["code"] != now[name]["code"]]
    assert stale == [], "the code of these changed: raise their versions, or see this file's docstring"
    assert recorded == now, "a version was raised: write the record anew"


def test_the_digest_sees_code_and_nothing_else() -> None:
    assert "codecbench.metrics.melscale" in closure("codecbench.metrics.dnsmos")
    assert len({digest(family) for family in registry.FAMILIES}) == len(registry.FAMILIES)
    assert "Le Roux" not in bare("codecbench.metrics.si_sdr")
    assert "log10" in bare("codecbench.metrics.si_sdr")


if __name__ == "__main__":
    lines = (f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in current().items())
    RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n")
