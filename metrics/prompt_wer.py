"""Word error rate of the prompt region: whether the given beginning is still understood where an answer goes on.

``prompt_wer``: a recogniser hears the prompt together with its continuation, and what it hears first is compared with
what it hears in the prompt alone. Errors for each word of the prompt; 0 is unharmed, lower is better. The part of the
transcript that is the prompt's is the one with the fewest errors, so what follows costs nothing.

How to read it: an answer of a language model begins where the prompt ends, and is joined to it, so what is judged is
the seam: words cut in two, a jump that throws the recogniser off. A codec has coded all, so its value is that of the
resynthesised prompt, the ceiling of a model that repeats its prompt through the same codec. Undefined where the prompt
is another recording than the beginning of the truth, for then nothing continues it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from codecbench.metrics import asr
from codecbench.metrics.base import SPEECH, Metric, Output, Reference, Score, Undefined
from codecbench.metrics.recognition import heard_by, normalise, parts_of, prepare


def seam_error_rate(reference: Reference, output: Output, spec: str) -> Score:
    """Errors for each word of the prompt, weighted with their number.

    Raises:
        Undefined: ``no_prompt``; ``ref_silent``; ``no_language``; ``language(XX)``; ``empty_prompt``: the recogniser
            hears no words in it.
    """
    prompt = reference.prompt
    if prompt is None or not begins_with(reference, prompt.at(reference.sample_rate)):
        raise Undefined("no_prompt")
    before = prompt.at(reference.sample_rate)
    joined = np.concatenate([before, output.samples]) if output.continues else output.samples
    whole = Output(joined, reference.sample_rate, cache=output.cache)
    found, texts = heard_by(reference, whole, spec)
    language = reference.language.partition("-")[0].lower()
    expected = normalise(asr.transcript(prompt, spec, language), language).split()
    if not expected:
        raise Undefined("empty_prompt")
    variant = f":{spec}" if spec else ""
    kept = {f"prompt{variant}": " ".join(expected), f"continued{variant}": next(iter(texts.values()))}
    return Score(edits_of_beginning(expected, found.split()) / len(expected), len(expected), kept)


def begins_with(reference: Reference, prompt: np.ndarray) -> bool:
    """Whether `prompt` ``[T]`` is the beginning of the reference."""
    return len(prompt) <= len(reference.samples) and np.array_equal(prompt, reference.samples[: len(prompt)])


def edits_of_beginning(expected: Sequence[str], found: Sequence[str]) -> int:
    """The least number of errors that turn `expected` into any beginning of `found`."""
    row = list(range(len(expected) + 1))
    least = row[-1]
    for number, word in enumerate(found, 1):
        before, row = row, [number]
        for k, own in enumerate(expected):
            row.append(min(before[k] + (own != word), before[k + 1] + 1, row[k] + 1))
        least = min(least, row[-1])
    return least


def _parts(spec: str) -> Mapping[str, str]:
    return {**parts_of(spec), "edit": "prefix"}


def _metric(spec: str) -> Metric:
    return Metric(
        f"prompt_wer:{spec}" if spec else "prompt_wer", "Word error rate of the prompt region", "", "lower",
        partial(seam_error_rate, spec=spec), partial(_parts, spec), perfect=0.0, domains=SPEECH, compares="sounds",
        variant=_metric, prepare=partial(prepare, spec),
    )  # fmt: skip


METRICS = (_metric(""),)
