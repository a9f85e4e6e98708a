"""Checks of what a call leaves behind: state, files, connections, output, threads, memory."""

from __future__ import annotations

from codecbench.models.checks.base import ALL, Failed, Skipped, check
from codecbench.models.checks.observe import Observation, changes, growth_mb, state
from codecbench.models.checks.subject import Subject
from codecbench.paths import cache_dir

REPEATS = 6
LASTING = {"signals", "numerics", "functions"}
"""Kinds of state that stay as they were from before loading on; others change once when a library is imported."""
GROWTH_MB = 1.0
"""By how much the process may grow for each item, in MB."""


def _seen(subject: Subject) -> tuple[Observation, Observation]:
    """What loading and what use left behind."""
    return subject.loaded[1], subject.used


def _unchanged(subject: Subject, kind: str, what: str) -> None:
    loading, use = _seen(subject)
    since = changes(subject.state_before, state()) if kind in LASTING else {}
    for found, when in ((loading.changed, "loading"), (use.changed, "use"), (since, "its first use")):
        if found.get(kind):
            raise Failed(f"{when} changes {what}: {', '.join(found[kind][:5])}")


@check(ALL)
def random_state(subject: Subject) -> None:
    """Loading and use leave the global random generators of Python, NumPy and PyTorch as they were."""
    _unchanged(subject, "random numbers", "the state of random generators")


@check(ALL)
def environment(subject: Subject) -> None:
    """Use leaves the environment variables as they were."""
    if subject.used.changed["environment"]:
        raise Failed(f"use changes environment variables: {', '.join(subject.used.changed['environment'][:5])}")


@check(ALL)
def process_state(subject: Subject) -> None:
    """Use leaves working folder, locale, module path, standard streams and hooks as they were."""
    if subject.used.changed["process"]:
        raise Failed(f"use changes {', '.join(subject.used.changed['process'])}")


@check(ALL)
def signal_handlers(subject: Subject) -> None:
    """Loading and use install no signal handler: an interrupt stays the harness's."""
    _unchanged(subject, "signals", "the handlers of")


@check(ALL)
def warning_filters(subject: Subject) -> None:
    """Use leaves the filters of warnings as they were."""
    if subject.used.changed["warnings"]:
        raise Failed(f"use changes {', '.join(subject.used.changed['warnings'])}")


@check(ALL)
def numeric_settings(subject: Subject) -> None:
    """Loading and use leave thread counts, default dtype, gradients and NumPy's error state as they were."""
    _unchanged(subject, "numerics", "settings")


@check(ALL)
def patched_functions(subject: Subject) -> None:
    """Loading and use replace no function of NumPy, of the standard library or of this package."""
    _unchanged(subject, "functions", "functions that others use")


@check(ALL)
def prints_nothing(subject: Subject) -> None:
    """Use writes nothing to standard output, from Python or from compiled code."""
    if subject.used.printed:
        start = subject.used.printed[:60].decode(errors="replace")
        raise Failed(f"use prints {len(subject.used.printed)} bytes: {start!r}")


@check(ALL)
def writes_nothing(subject: Subject) -> None:
    """Use writes, moves and removes no file outside its temporary folder; loading none outside the cache."""
    loading, use = _seen(subject)
    if use.wrote:
        raise Failed(f"use writes {', '.join(use.wrote[:3])}")
    outside = [path for path in loading.wrote if not path.startswith(str(cache_dir()))]
    if outside:
        raise Failed(f"loading writes {', '.join(outside[:3])}")


@check(ALL)
def no_network(subject: Subject) -> None:
    """Neither loading nor use asks for a network address; only `codecbench weights get` downloads."""
    for observation, when in zip(_seen(subject), ("loading", "use"), strict=True):
        if observation.connected:
            raise Failed(f"{when} asks for {', '.join(observation.connected[:3])}")


@check(ALL)
def nothing_running(subject: Subject) -> None:
    """After use no Python thread and no child process is left."""
    if subject.used.left:
        raise Failed(f"use leaves {', '.join(subject.used.left[:3])}")


@check(ALL)
def files_closed(subject: Subject) -> None:
    """Use leaves no more open files than there were."""
    if subject.used.opened > 0:
        raise Failed(f"use leaves {subject.used.opened} more files open")


@check(ALL)
def memory_steady(subject: Subject) -> None:
    """Memory does not grow by a megabyte an item, over repeats of one short use."""
    grown = growth_mb(subject.exercise, REPEATS)
    if grown is not None and grown > GROWTH_MB * REPEATS:  # once more: allocators settle late
        grown = growth_mb(subject.exercise, REPEATS)
    if grown is None:
        raise Skipped("this system does not say how much memory a process has")
    if grown > GROWTH_MB * REPEATS:
        raise Failed(f"it grows by {grown / REPEATS:.1f} MB an item")
