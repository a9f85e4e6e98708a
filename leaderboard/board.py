"""What tables and pages are made of: results with the facts that give them a meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from codecbench.leaderboard.recordings import Kept

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

CORPUS = "*"
"""In place of an utterance: the row is about the whole dataset."""
STATUSES = ("ok", "undefined", "failed", "error", "missing")


def codes_of(column: pd.Series[Any]) -> tuple[NDArray[np.intp], list[str]]:
    """A column of names as numbers, and the names that these index; -1 is no name."""
    names = column.astype("category").cat
    return names.codes.to_numpy().astype(np.intp), list(names.categories)


def distinct(rows: pd.DataFrame, first: str, second: str) -> list[tuple[str, str]]:
    """The pairs that two columns of names hold, sorted."""
    (a, names), (b, others) = codes_of(rows[first]), codes_of(rows[second])
    found = np.flatnonzero(np.bincount(a * len(others) + b, minlength=1)).tolist()
    return sorted((names[k // len(others)], others[k % len(others)]) for k in found)


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
    def label(self) -> str:
        """What its weights are called, where readers might take them for published ones."""
        return str(self.facts.get("label") or "")

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

    @cached_property
    def entries(self) -> list[tuple[str, str]]:
        """Every system and point that has an item."""
        return distinct(self.results[(self.results["utterance"] != CORPUS).to_numpy()], "system", "point")

    def items(self, dataset: str, metric: str) -> pd.DataFrame:
        """The rows of a metric on the utterances of a dataset."""
        places = self._places.get((dataset, metric))
        return self.results.iloc[:0] if places is None else self.results.take(places)

    @cached_property
    def _places(self) -> dict[tuple[str, str], NDArray[np.int32]]:
        """Where the rows of each dataset and metric are: found once, since boards may have many millions."""
        rows = self.results
        (dataset, datasets), (metric, metrics) = (codes_of(rows[name]) for name in ("dataset", "metric"))
        group = np.where((rows["utterance"] != CORPUS).to_numpy(), dataset * len(metrics) + metric, -1)
        small = np.int16 if len(datasets) * len(metrics) < 2**15 else np.int64  # numpy sorts 16 bits in linear time
        order = np.argsort(group.astype(small), kind="stable").astype(np.int32)
        ends = np.searchsorted(group[order], np.arange(-1, len(datasets) * len(metrics)), side="right")
        keys = [(name, other) for name in datasets for other in metrics]
        return {key: order[a:b] for key, a, b in zip(keys, ends[:-1], ends[1:], strict=True) if b > a}

    def datasets_of(self, section: str) -> list[Dataset]:
        """The dataset that a section is of; of ``*`` all of recordings, of ``*`` and a task's name all of the task."""
        if section in self.datasets:
            return [self.datasets[section]]
        return [dataset for dataset in self.datasets.values() if section == CORPUS + dataset.task]
