"""Generation: what language models are asked for, and codecs are not.

- ``spk_sim_prompt``: whether an answer sounds like the speaker of the prompt: the cosine of the two embeddings of
  ``spk_sim``, from 0 to 1, higher is better. Read it against the ceiling, the truth resynthesised by the model's codec:
  a voice is never quite itself in another sentence
- ``spk_sim_contrast``: the same for the recording of another speaker that a list may name beside the prompt. No system
  hears it. An answer that keeps its voice has a lower one than ``spk_sim_prompt``
- ``duration_ratio``: the answer's seconds for each second of the truth; 1 is as long. Neither way is better
- ``answer_wer``, ``answer_cer``: word and character error rate of an answer that is a text, against the transcript,
  both normalised as for ``wer``; lower is better, and a corpus has one rate
- ``bits_per_second``: how many bits a language model needs for each second of the truth, which it has not heard: its
  negative log-likelihood to base 2 over the duration. Comparable between vocabularies, lower is better
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib.metadata import version

from codecbench.metrics.base import SPEECH, Failed, Metric, Output, Reference, Score, Signal, Undefined
from codecbench.metrics.recognition import Unit, edits, normalise
from codecbench.metrics.speaker import GE2E, similarity
from codecbench.metrics.speaker import METRICS as SPEAKER


def prompt_similarity(reference: Reference, output: Output) -> float:
    """Similarity of the voices of the output and of the prompt, in [0, 1].

    Raises:
        Undefined: ``no_prompt``; ``ref_silent``.
        Failed: ``output_silent``.
    """
    if reference.prompt is None:
        raise Undefined("no_prompt")
    return _same_voice(reference.prompt, output)


def contrast_similarity(reference: Reference, output: Output) -> float:
    """Similarity of the voices of the output and of another speaker, in [0, 1].

    Raises:
        Undefined: ``no_contrast``; ``ref_silent``.
        Failed: ``output_silent``.
    """
    if reference.contrast is None:
        raise Undefined("no_contrast")
    return _same_voice(reference.contrast, output)


def _same_voice(heard: Signal, output: Output) -> float:
    rate = heard.sample_rate
    return similarity(Reference(heard.samples, rate), Output(output.at(rate), rate), GE2E)


def duration_ratio(reference: Reference, output: Output) -> float:
    """Seconds of the output for each second of the reference."""
    return output.duration / reference.duration


def answer_error_rate(reference: Reference, output: Output, unit: Unit) -> Score:
    """Errors of a text answer for each word or character of the transcript, weighted with their number.

    Raises:
        Undefined: ``empty_ref``: the transcript has no words left once normalised.
        Failed: ``no_text``: there is no answer.
    """
    language = reference.language.partition("-")[0].lower()
    expected = normalise(reference.transcript, language)
    if not expected:
        raise Undefined("empty_ref")
    if output.text is None:
        raise Failed("no_text")
    errors, count = edits(expected, normalise(output.text, language), unit)
    return Score(errors / count, count, {"answer": output.text, "said": reference.transcript})


def bits_per_second(_reference: Reference, output: Output) -> float:
    """Bits for each second of the reference, from 0 up.

    Raises:
        Undefined: ``no_likelihood``: the system is no language model.
    """
    if output.bits_per_second is None:
        raise Undefined("no_likelihood")
    return output.bits_per_second


def _of_text() -> Mapping[str, str]:
    return {"norm": f"whisper-{version('openai-whisper')}", "edit": f"jiwer-{version('jiwer')}"}


def _text_metric(name: str, title: str, unit: Unit) -> Metric:
    return Metric(
        name, title, "", "lower", partial(answer_error_rate, unit=unit), _of_text, needs_transcript=True,
        compares="texts",
    )  # fmt: skip


METRICS = (
    Metric(
        "spk_sim_prompt", "Speaker similarity to the prompt", "", "higher", prompt_similarity, SPEAKER[0].parts,
        floor=0.0, domains=SPEECH, compares="sounds", prepare=SPEAKER[0].prepare,
    ),
    Metric(
        "spk_sim_contrast", "Speaker similarity to another speaker", "", "lower", contrast_similarity,
        SPEAKER[0].parts, domains=SPEECH, compares="sounds", prepare=SPEAKER[0].prepare,
    ),
    Metric(
        "duration_ratio", "Duration against the truth", "", "none", duration_ratio, dict, perfect=1.0,
        compares="sounds",
    ),
    _text_metric("answer_wer", "Word error rate of the answer", "words"),
    _text_metric("answer_cer", "Character error rate of the answer", "characters"),
    Metric("bits_per_second", "Bits a second", "bit/s", "lower", bits_per_second, dict, compares="likelihoods"),
)  # fmt: skip
