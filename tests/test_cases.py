"""The page of faults and abuses: every case stands there once, and every test that it names exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/cases.md").read_text(encoding="utf-8")
NUMBERS = {"A": 20, "B": 20, "C": 22, "D": 15, "E": 16, "F": 8}
ROWS = [[cell.strip() for cell in line.split(" | ")] for line in PAGE.splitlines() if re.match(r"\| [A-Z]\d+ \|", line)]
CASES = {row[0].removeprefix("| "): row[1:] for row in ROWS}


@cache
def known_in(path: str) -> frozenset[str]:
    """The tests in a file: functions and methods of Python, exported functions of JavaScript."""
    source = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".mjs"):
        return frozenset(re.findall(r"^export async function (\w+)", source, re.MULTILINE))
    functions = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef))
    return frozenset(node.name for node in functions if node.name.startswith("test_"))


def test_every_case_stands_there_once() -> None:
    ids = [row[0].removeprefix("| ") for row in ROWS]
    assert ids == [f"{group}{number}" for group, count in NUMBERS.items() for number in range(1, count + 1)]


@pytest.mark.parametrize("case", CASES)
def test_every_case_has_its_tests_or_a_reason(case: str) -> None:
    fault, behaviour, tests = CASES[case]
    assert fault
    assert behaviour.endswith(".")
    tests = tests.removesuffix("|").strip()
    if tests.startswith("none: "):
        assert len(tests) > len("none: ") + 10
        return
    named = re.findall(r"`([\w./]+)::(\w+)`", tests)
    assert "<br>".join(f"`{path}::{name}`" for path, name in named) == tests
    assert named
    assert [f"{path}::{name}" for path, name in named if name not in known_in(path)] == []
