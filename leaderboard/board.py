"""What tables and pages are made of: results with the facts that give them a meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from codecbench.leaderboard.recordings import Kept

if TYPE_CHECKING:
    import pandas as pd

CORPUS = "*"
"""In place of an utterance: the row is about the whole dataset."""
STATUSES = ("ok", "undefined", "failed", "error", "missing")


@dataclass(frozen=True)
class System:
    """A system as the run recorded it; `facts` is its card with its weights, rank permission and status."""

    name: str
    facts: Mapping[str, Any]

    @property
    def track(self) -> str:
        """The part of the leaderboard it competes in."""
        return str(self.facts.get("track", "official"))

    @property
    def tasks(self) -> tuple[str, ...]:
        """What a language model can do."""
        return tuple(map(str, self.facts.get("tasks") or ()))

    @property
    def is_model(self) -> bool:
        """It is a language model, no codec."""
        return self.facts.get("kind") == "lm"

    @property
    def invalid(self) -> str:
        """Why the system could not be run; empty if it could."""
        status, reason = str(self.facts.get("status", "valid")), str(self.facts.get("reason") or "")
        return "" if status == "valid" else status if reason in status else f"{status}: {reason}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What readers of its results should know, such as that its codes differ from one coding to the next."""
        return tuple(str(note) for note in self.facts.get("notes") or ())

    @property
    def unranked(self) -> str:
        """Why the system as a whole is not ranked; empty if it is."""
        if self.invalid or self.track == "control":
            return self.invalid or "control"
        if self.facts.get("ranked", True):
            return ""
        weights = str(self.facts.get("weights", ""))
        return "random weights" if weights.startswith("random") else "not entered"


@dataclass(frozen=True)
class Metric:
    """A metric's facts. `name` is its column, `signature` everything its numbers depend on."""

    name: str
    title: str
    unit: str = ""
    direction: Literal["higher", "lower", "none"] = "none"
    floor: float | None = None
    perfect: float | None = None
    signature: str = ""


@dataclass(frozen=True)
class Utterance:
    """One recording of a dataset; `duration` in seconds."""

    id: str
    speaker: str = ""
    language: str = ""
    domain: str = ""
    duration: float = 0.0
    transcript: str = ""


@dataclass(frozen=True)
class Dataset:
    """A dataset and its utterances, by id.

    A list of requests to language models has a `task`, such as ``tts``, and a `protocol`: how they are asked, and what
    of the answer is measured. Both are empty for recordings that are coded.
    """

    name: str
    title: str
    licence: str
    url: str
    fingerprint: str
    utterances: tuple[Utterance, ...]
    note: str = ""
    task: str = ""
    protocol: str = ""


@dataclass(frozen=True)
class Run:
    """Where results came from."""

    name: str
    created: str
    finished: bool
    command: str
    environment: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Board:
    """Everything that tables and pages are made of.

    `results` has one row a system, point, dataset, utterance (``*``: the whole dataset) and metric, sorted by
    these, and a column `transcript`, what was heard in the output, if any run recorded one; `timings` may be
    empty. `notices` are sentences that every view of the board has to show; `kept` is what
    the runs kept besides numbers.
    """

    results: pd.DataFrame
    timings: pd.DataFrame
    systems: Mapping[str, System]
    datasets: Mapping[str, Dataset]
    metrics: Mapping[str, Metric]
    runs: tuple[Run, ...]
    notices: tuple[str, ...] = ()
    kept: tuple[Kept, ...] = ()

    def datasets_of(self, section: str) -> list[Dataset]:
        """The dataset that a section is of; of ``*`` all of recordings, of ``*`` and a task's name all of the task."""
        if section in self.datasets:
            return [self.datasets[section]]
        return [dataset for dataset in self.datasets.values() if section == CORPUS + dataset.task]
