"""Recognition: whether a speech recogniser still understands the output.

- ``wer``, ``cer``: word and character error rate of the output against the text that was spoken
- ``dwer``, ``dcer``: the same against what the recogniser hears in the original, so that its own errors do not count
- ``wer_original``: the recogniser's word error rate on the original: the same for every system, and what ``wer`` is to
  be read against

How to read them: errors (substitutions, deletions, insertions) for each word or character of the reference, 0.05 is
5 %, lower is better. A corpus has one rate: all its errors over all its words. A recogniser that invents text goes
above 1, and nothing is clipped; an output in which it hears nothing has 1. Rates of different recognisers do not
compare: the variant says which one it is (``wer:large-v3``; see `codecbench.metrics.asr`).

Both texts pass Whisper's normaliser (Radford et al. 2023, appendix C) first: English spelling, numbers and contractions
for English, else case, symbols and spaces only. Invisible characters and words without a letter or digit are removed
besides. Languages written without spaces have no words: use ``cer`` and ``dcer``, which count a space as a character.
"""

from __future__ import annotations

import importlib.util
import sys
import unicodedata
import warnings
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from codecbench.metrics import asr
from codecbench.metrics.base import SPEECH, Metric, Output, Reference, Score, Undefined

Unit = Literal["words", "characters"]
Target = Literal["text", "original"]

WITHOUT_SPACES = frozenset({"zh", "yue", "ja", "th", "lo", "my", "km"})


def error_rate(
    reference: Reference, output: Output, spec: str, unit: Unit, target: Target, heard: Literal["output", "original"]
) -> Score:
    """Errors in what the recogniser `spec` hears, for each word or character of the reference text.

    Args:
        reference: The original, with its language and, for the target ``text``, its transcript.
        output: What is listened to, unless `heard` is ``original``.
        spec: The recogniser.
        unit: What is counted.
        target: The reference text: what was spoken, or what the recogniser hears in the original.
        heard: The recording that is judged.

    Returns:
        The rate from 0 up, weighted with the number of words or characters.

    Raises:
        Undefined: ``ref_silent``; ``no_language``; ``language(XX)``: the model does not know it, or it has no words;
            ``empty_ref``: the reference text has no words left once normalised.
    """
    if reference.silent:
        raise Undefined("ref_silent")
    language = _language(reference, spec, unit)
    truth = reference.transcript if target == "text" else asr.transcript(reference, spec, language)
    expected = normalise(truth, language)
    if not expected:
        raise Undefined("empty_ref")
    found = asr.transcript(output if heard == "output" else reference, spec, language)
    errors, count = edits(expected, normalise(found, language), unit)
    variant = f":{spec}" if spec else ""
    texts = {f"{heard}{variant}": found, "said" if target == "text" else f"original{variant}": truth}
    return Score(errors / count, count, texts)


def heard_by(reference: Reference, output: Output, spec: str, unit: Unit = "words") -> tuple[str, dict[str, str]]:
    """What the recogniser `spec` hears in the output, normalised; and as it was heard, under its name.

    Raises:
        Undefined: ``ref_silent``; ``no_language``; ``language(XX)``: the model does not know it, or it has no words.
    """
    if reference.silent:
        raise Undefined("ref_silent")
    language = _language(reference, spec, unit)
    found = asr.transcript(output, spec, language)
    return normalise(found, language), {f"output:{spec}" if spec else "output": found}


def edits(expected: str, found: str, unit: Unit) -> tuple[int, int]:
    """The least number of errors that turn `expected` into `found`, and the number of units in `expected`."""
    import jiwer

    result = (jiwer.process_words if unit == "words" else jiwer.process_characters)(expected, found)
    errors = result.substitutions + result.deletions + result.insertions
    return errors, result.substitutions + result.deletions + result.hits


def normalise(text: str, language: str) -> str:
    """`text` as Whisper's normaliser of `language` leaves it, single-spaced.

    Invisible characters are removed before, and what it leaves of an ellipsis (a lone full stop) after.
    """
    visible = "".join(character for character in text if unicodedata.category(character) != "Cf")
    words = _normaliser(language == "en")(visible).split()
    return " ".join(word for word in words if any(map(str.isalnum, word)))


@cache
def _normaliser(english: bool) -> Callable[[str], str]:
    module = _normalizers()
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):  # it leaves its word list open
        normaliser: Callable[[str], str] = module.EnglishTextNormalizer() if english else module.BasicTextNormalizer()
    return normaliser


@cache
def _normalizers() -> Any:
    """``whisper.normalizers`` by itself: the package around it would import torch and numba, 1.3 s and 200 MB."""
    name = "_codecbench_whisper_normalizers"
    package: Any = importlib.util.find_spec("whisper")
    file = Path(package.submodule_search_locations[0], "normalizers", "__init__.py")
    spec: Any = importlib.util.spec_from_file_location(name, file)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _language(reference: Reference, spec: str, unit: Unit) -> str:
    language = reference.language.partition("-")[0].lower()
    if not language:
        raise Undefined("no_language")
    if not asr.understands(spec, language) or (unit == "words" and language in WITHOUT_SPACES):
        raise Undefined(f"language({language})")
    return language


@cache
def parts_of(spec: str) -> Mapping[str, str]:
    """Everything that a normalised transcript by `spec` depends on, and how errors in it are counted."""
    normaliser = f"whisper-{version('openai-whisper')}"
    return {**asr.parts(spec), "norm": normaliser, "edit": f"jiwer-{version('jiwer')}", "rate": "16k"}


def prepare(spec: str) -> None:
    """Raise `UsageError` or `InfrastructureError` unless the recogniser `spec` is here."""
    asr.find(spec)


def _metrics(spec: str) -> tuple[Metric, ...]:
    """The metrics of this family with the recogniser `spec`."""

    def metric(
        name: str, title: str, unit: Unit, target: Target, heard: Literal["output", "original"] = "output"
    ) -> Metric:
        return Metric(
            f"{name}:{spec}" if spec else name, title, "", "lower" if heard == "output" else "none",
            partial(error_rate, spec=spec, unit=unit, target=target, heard=heard), partial(parts_of, spec),
            perfect=0.0 if target == "original" else None, domains=SPEECH, needs_transcript=target == "text",
            prepare=partial(prepare, spec), compares="sounds",
            variant=lambda other: {m.name.partition(":")[0]: m for m in _metrics(other)}[name],
        )  # fmt: skip

    return (
        metric("wer", "Word error rate", "words", "text"),
        metric("cer", "Character error rate", "characters", "text"),
        metric("dwer", "Word error rate against the original", "words", "original"),
        metric("dcer", "Character error rate against the original", "characters", "original"),
        metric("wer_original", "Word error rate of the original", "words", "text", heard="original"),
    )


METRICS = _metrics("")
