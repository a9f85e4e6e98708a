"""Lists of requests to language models: a dataset whose recordings are the truth, and what is asked about each.

A manifest with a column ``task`` is such a list; every row has the same task. ``path`` names the best answer that is
known: the recording that a text was read from, the rest of a recording to go on from, the clean version of a noisy one.
Codecs and controls in the same sweep code it, and so give the ceiling and the floor of the list. Where the answer is a
text, ``path`` is what is heard, and ``transcript`` the answer.

=====================  ================================================================================================
``task``               a task of `codecbench.models.base.Task`
``text``               what to say, translate or depict; for ``tts`` and ``editing`` by default the transcript
``prompt``             a recording, relative to the manifest: to go on from, to work on, or whose voice to take
``prompt_transcript``  what is said in it
``prompt_start``       where what is heard of ``prompt`` begins, in seconds
``prompt_seconds``     and how much of it is; without ``prompt``: so much of the beginning of the truth (continuation)
``reference``          a second recording: whose voice to extract or to convert to, what melody to follow
``source_language``    of the prompt or text, where it is another than ``language``
``max_seconds``        longest answer; by default twice the truth and 2 s more, or its rest for a continuation
``contrast``           of the task ``pairs``, the worse recording of a pair; ``path`` is the better one. Elsewhere a
                       recording of another speaker, which no system hears: for ``spk_sim_contrast``
=====================  ================================================================================================

``pairs`` is no task of a model, which is not asked for anything: it says how likely it finds both recordings.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, cast, get_args

from codecbench.benchmark.datasets.base import PAIRS, Asked
from codecbench.metrics.base import SIGNALS, Comparison
from codecbench.models.base import Task
from codecbench.models.limits import GIVES_TEXT, TAKES_REFERENCE, TAKES_TEXT, WORKS_ON_AUDIO
from codecbench.recording import DataError, printable

COLUMNS = (
    "task", "text", "prompt", "prompt_transcript", "prompt_start", "prompt_seconds", "reference", "source_language",
    "max_seconds", "contrast",
)  # fmt: skip
KEEPS_TIME: frozenset[Task] = frozenset({"enhancement", "removal", "extraction", "dereverberation"})
"""Tasks whose answer is as long as the prompt, so that it compares with the truth sample by sample."""
SAYS_THE_TRANSCRIPT: frozenset[Task] = frozenset({"tts", "editing"})


ListTask = Task | Literal["pairs"]


def comparable(task: ListTask | None) -> frozenset[Comparison]:
    """What can be compared of the truth and an answer to `task`; of a recording and its codec's output for None."""
    if task is None:
        return SIGNALS
    if task == PAIRS:
        return frozenset({"pairs"})
    if task in GIVES_TEXT:
        return frozenset({"texts"})
    return frozenset({"sounds", "likelihoods", *(SIGNALS if task in KEEPS_TIME else ())})


def read(cells: Mapping[str, str], facts: Mapping[str, str], folder: Path) -> Asked | None:
    """What the `cells` of a row ask, beside the utterance's own `facts`; None if there is no task.

    Raises:
        DataError: The task is unknown, or something that it needs is missing.
    """
    if not cells["task"]:
        if given := [name for name in COLUMNS if cells[name]]:
            raise DataError(f"'{given[0]}' is of a request, and there is no 'task'")
        return None
    known = (*get_args(Task), PAIRS)
    if cells["task"] not in known:
        raise DataError(f"task '{printable(cells['task'])}'; it is one of {', '.join(known)}")
    task = cast("ListTask", cells["task"])
    said = facts.get("transcript", "") if task in SAYS_THE_TRANSCRIPT else ""
    asked = Asked(
        task, cells["text"] or said, _file(cells["prompt"], folder), cells["prompt_transcript"],
        _seconds(cells, "prompt_seconds"), _file(cells["reference"], folder), cells["source_language"],
        _seconds(cells, "max_seconds"), _seconds(cells, "prompt_start"), _file(cells["contrast"], folder),
    )  # fmt: skip
    heard = asked.prompt or asked.prompt_seconds or task in GIVES_TEXT
    missing = {
        "text": task in TAKES_TEXT and not asked.text,
        "prompt": (task in WORKS_ON_AUDIO and not heard) or (asked.prompt_start and not asked.prompt),
        "reference": task in TAKES_REFERENCE and not asked.reference,
        "transcript": task in GIVES_TEXT and task != "mt" and not facts.get("transcript"),
        "contrast": task == PAIRS and not asked.contrast,
    }  # fmt: skip
    if lacking := [name for name, lacks in missing.items() if lacks]:
        raise DataError(f"the task '{task}' needs '{lacking[0]}'")
    return asked


def _file(name: str, folder: Path) -> Path | None:
    if not name:
        return None
    path = folder / os.fsdecode(name.encode("utf-8", "surrogateescape"))
    if not path.is_file():
        raise DataError(f"no such file: {printable(str(path))}")
    return path


def _seconds(cells: Mapping[str, str], name: str) -> float:
    try:
        seconds = float(cells[name] or 0)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise DataError(f"'{name}' is '{printable(cells[name])}', not a number of seconds")
    return seconds
