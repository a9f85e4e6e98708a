"""Generation in stages, such as semantic, coarse, fine and codec: a list of stages, and a function that runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Stage:
    """One stage: `run` takes what is called `inputs`, in that order, and returns what is called `output`."""

    output: str
    inputs: tuple[str, ...]
    run: Callable[..., Any]


def run(stages: Sequence[Stage], given: Mapping[str, Any]) -> dict[str, Any]:
    """Everything by name: what is `given`, and the output of each of `stages` in turn.

    A stage whose output is given is skipped: so one may start from semantic tokens that are there.

    Raises:
        ValueError: An input comes from nowhere, or two stages have one output; before anything runs.
    """
    known = set(given)
    outputs: set[str] = set()
    for stage in stages:
        missing = [] if stage.output in given else [name for name in stage.inputs if name not in known]
        if missing:
            raise ValueError(f"the stage '{stage.output}' lacks {', '.join(missing)}")
        if stage.output in outputs:
            raise ValueError(f"two stages give '{stage.output}'")
        outputs.add(stage.output)
        known.add(stage.output)
    found = dict(given)
    for stage in stages:
        if stage.output not in found:
            found[stage.output] = stage.run(*(found[name] for name in stage.inputs))
    return found
