"""Word error rate as Seed-TTS-eval and F5-TTS count it: each utterance alone, and the mean over utterances.

``wer_seedtts`` differs from ``wer`` in three things, so that the two never compare: every utterance weighs the same,
however short; the only normalisation is that punctuation (but for the apostrophe) is deleted and English is in lower
case; and Chinese is counted by characters. Errors for each word or character, lower is better, above 1 where the
recogniser invents text. The variant names the recogniser; published are ``large-v3`` for English and Paraformer, which
is not among ours, for Chinese.

Source: the scripts of Seed-TTS-eval (arXiv 2406.02430). They resample by another method, and leave out answers that are
missing; here these are failures. F5-TTS also deletes the apostrophe.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from functools import partial

from codecbench.metrics import asr
from codecbench.metrics.base import SPEECH, Metric, Output, Reference, Score, Undefined
from codecbench.metrics.recognition import edits, parts_of, prepare

CHINESE = (
    "＂＃＄％＆＇（）＊＋，－．／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､\u3000、〃〈〉《》「」『』【】"
    "〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏﹑﹔·！？｡。"
)
"""Chinese punctuation: that of the CJK blocks, and what Chinese takes from others."""
DELETED = str.maketrans("", "", (string.punctuation + CHINESE).replace("'", ""))


def utterance_error_rate(reference: Reference, output: Output, spec: str) -> Score:
    """Errors in what the recogniser `spec` hears, for each word (Chinese: character) of the transcript.

    Raises:
        Undefined: ``ref_silent``; ``language(XX)``: neither English nor Chinese, or the model does not know it;
            ``empty_ref``.
    """
    language = reference.language.partition("-")[0].lower()
    if reference.silent:
        raise Undefined("ref_silent")
    if language not in ("en", "zh") or not asr.understands(spec, language):
        raise Undefined(f"language({language})")
    expected = normalise(reference.transcript, language)
    if not expected:
        raise Undefined("empty_ref")
    found = asr.transcript(output, spec, language)
    errors, count = edits(expected, normalise(found, language), "words")
    return Score(errors / count, texts={f"output:{spec}" if spec else "output": found, "said": reference.transcript})


def normalise(text: str, language: str) -> str:
    """`text` without punctuation: English in lower case, Chinese with a space between characters."""
    bare = text.translate(DELETED)
    return " ".join("".join(bare.split()) if language == "zh" else bare.lower().split())


def _parts(spec: str) -> Mapping[str, str]:
    return {**parts_of(spec), "norm": "seed-tts-eval", "mean": "utterances"}


def _metric(spec: str) -> Metric:
    return Metric(
        f"wer_seedtts:{spec}" if spec else "wer_seedtts", "Word error rate, utterance by utterance", "", "lower",
        partial(utterance_error_rate, spec=spec), partial(_parts, spec), domains=SPEECH, needs_transcript=True,
        variant=_metric, prepare=partial(prepare, spec), compares="sounds",
    )  # fmt: skip


METRICS = (_metric(""),)
