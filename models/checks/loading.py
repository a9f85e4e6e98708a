"""Checks of importing and loading."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from codecbench.errors import CodecbenchError
from codecbench.models.base import LoadOptions
from codecbench.models.checks.base import ALL, Failed, Skipped, check
from codecbench.models.checks.requests import GREEDY, request
from codecbench.models.checks.subject import Subject, same_codes

HEAVY = (
    "torch", "torchaudio", "tensorflow", "jax", "onnxruntime", "transformers", "scipy", "pandas", "av", "librosa",
    "soundfile",
)  # fmt: skip
IMPORTER = """
import importlib, sys
from codecbench.models.registry import _from_file
from pathlib import Path
name = sys.argv[1]
path, colon, attribute = name.rpartition(":")
_from_file(Path(path), attribute) if path.endswith(".py") else importlib.import_module(name)
print("\\n", ",".join(sys.modules))
"""


@check(ALL, loads=False)
def import_is_light(subject: Subject) -> None:
    """Importing the system's module imports no torch, scipy or the like: listing all systems stays fast."""
    system = subject.system
    module = getattr(system, "__module__", None) or type(system).__module__
    name = subject.target if ".py:" in subject.target else module
    done = subprocess.run([sys.executable, "-c", IMPORTER, name], capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise Failed(f"the module cannot be imported alone: {done.stderr.strip().splitlines()[-1]}")
    found = [module for module in HEAVY if module in done.stdout.splitlines()[-1].strip().split(",")]
    if found:
        raise Failed(f"importing it imports {', '.join(found)}; import those inside functions")


@check(ALL, loads=False)
def loads(subject: Subject) -> None:
    """It loads, as what its card says it is."""
    model = subject.loaded[0]
    _ = subject.lm if subject.card.kind == "lm" else subject.codec
    if model.card != subject.card:
        raise Failed("the loaded system has another card")


@check(ALL)
def loads_again(subject: Subject) -> None:
    """A second instance beside the first changes nothing of it, and gives the same codes or scores."""
    if subject.card.kind == "lm":
        before, other = _impression(subject), replace_model(subject)
        if any(_impression(one) != before for one in (other, subject)):
            raise Failed("the same clip has another likelihood, or response, after a second load")
        return
    before_codes = subject.coded
    again = replace_model(subject)
    if not same_codes(again.encode([subject.probe])[0], before_codes):
        raise Failed("a second instance gives other codes for the same clip")
    if not same_codes(subject.encode([subject.probe])[0], before_codes):
        raise Failed("after a second load the first instance gives other codes for the same clip")


def _impression(subject: Subject) -> object:
    """What a language model makes of a clip: its likelihood, or else a greedy response."""
    if subject.card.likelihood:
        return subject.lm.loglikelihood([subject.clip(0.2)])
    (found,) = subject.lm.generate([request(subject)], GREEDY)
    return found.text, found.tokens, found.audio and found.audio.samples.tobytes()


def replace_model(subject: Subject) -> Subject:
    """The same system, loaded anew."""
    return Subject(subject.target, subject.options)


@check(ALL, loads=False)
def missing_weights(subject: Subject) -> None:
    """Without its weights it stops with one line that says how to get them; with a wrong path, one that names it."""
    if not (subject.card.weights or subject.card.unpublished):
        raise Skipped("it takes no weights")
    options = replace(subject.options.load_options(), random_seed=None)
    with tempfile.TemporaryDirectory() as empty:
        nowhere = Path(empty, "no-such-file.pt")
        message = _refusal(subject, replace(options, weights=nowhere))
        if nowhere.name not in message:
            raise Failed(f"given a file that does not exist, it says '{message}' and does not name the file")
        if not subject.card.weights:
            return
        with _cache_in(empty):
            message = _refusal(subject, replace(options, weights=None))
        if "codecbench weights get" not in message:
            raise Failed(f"without its weights it says '{message}', which does not name the command that gets them")


def _refusal(subject: Subject, options: LoadOptions) -> str:
    """The message with which the system refuses to load."""
    try:
        subject.system.load(options)
    except CodecbenchError as error:
        message = str(error)
    except Exception as error:
        raise Failed(f"it raises {type(error).__name__} ({error}), not a one-line InvalidSystem") from error
    else:
        raise Failed("it loads all the same")
    if "\n" in message or len(message) > 500:
        raise Failed(f"its message is not one line: {message[:80]!r}…")
    return message


@contextmanager
def _cache_in(folder: str) -> Iterator[None]:
    """Point the cache to `folder` for as long as the body runs."""
    before = os.environ.get("CODECBENCH_CACHE")
    os.environ["CODECBENCH_CACHE"] = folder
    try:
        yield
    finally:
        os.environ.pop("CODECBENCH_CACHE")
        if before is not None:
            os.environ["CODECBENCH_CACHE"] = before


@check(ALL)
def parameters(subject: Subject) -> None:
    """The number of parameters is a whole number, the same when asked twice, and above zero where there are weights."""
    model = subject.loaded[0]
    if not hasattr(model, "parameters"):
        raise Skipped("it does not count its parameters")
    counts = [model.parameters(), model.parameters()]
    if not isinstance(counts[0], int) or counts[0] < 0 or counts[0] != counts[1]:
        raise Failed(f"`parameters()` returned {counts[0]!r}, then {counts[1]!r}")
    if subject.card.weights and not counts[0]:
        raise Failed("it has weights, but no parameters")
