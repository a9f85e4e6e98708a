"""BLEU: how much of a translation is that of the reference.

- ``asr_bleu``: of speech: what a recogniser hears in the answer against the reference text, both normalised as for
  ``wer`` (so without case and punctuation). The variant names the recogniser (``asr_bleu:large-v3``)
- ``answer_bleu``: of an answer that is a text, as it stands

How to read it: from 0 to 100, higher is better, and the value of a corpus is no mean of its sentences'. The signature
holds sacreBLEU's own (Post, WMT 2018); published ASR-BLEU depends on recogniser and normaliser as much as on the
translation, so compare only equal signatures. ``identity`` shows what the recogniser alone costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

import numpy as np

from codecbench.errors import UsageError
from codecbench.metrics import asr
from codecbench.metrics.base import SPEECH, Failed, Material, Metric, Output, Reference, Undefined
from codecbench.metrics.corpus import jackknife, require_items
from codecbench.metrics.recognition import heard_by, normalise, parts_of

WITHOUT_SPACES: Mapping[str, str] = {"zh": "zh", "ja": "char", "th": "char", "lo": "char", "my": "char", "km": "char"}
"""sacreBLEU's tokenizer of languages that are written without spaces, where they need no dictionary."""


def spoken(reference: Reference, output: Output, spec: str) -> Material:
    """Counts of what the recogniser `spec` hears in the output, against the transcript.

    Raises:
        Undefined: ``ref_silent``, ``no_language``, ``language(XX)``; ``empty_ref``.
    """
    found, texts = heard_by(reference, output, spec, unit="characters")
    expected = normalise(reference.transcript, _language(reference))
    return _counted(expected, found, reference, {**texts, "said": reference.transcript})


def written(reference: Reference, output: Output) -> Material:
    """Counts of an answer that is a text.

    Raises:
        Undefined: ``empty_ref``.
        Failed: ``no_text``.
    """
    if output.text is None:
        raise Failed("no_text")
    texts = {"answer": output.text, "said": reference.transcript}
    return _counted(reference.transcript, output.text, reference, texts)


def shares(counts: Sequence[Sequence[int]]) -> list[float]:
    """Each item's share of the corpus's BLEU, from its counts (see `_counted`)."""
    require_items(counts)
    table = np.asarray(counts, np.int64)
    whole = table.sum(axis=0)
    return jackknife(_bleu(whole), [_bleu(whole - row) for row in table])


def _counted(expected: str, found: str, reference: Reference, texts: Mapping[str, str]) -> Material:
    """What sacreBLEU counts in one sentence: lengths of both, then n-grams that match, and n-grams, of each order."""
    if not expected.strip():
        raise Undefined("empty_ref")
    result = _scorer(WITHOUT_SPACES.get(_language(reference), "13a")).corpus_score([found], [[expected]])
    return Material([result.sys_len, result.ref_len, *result.counts, *result.totals], texts)


def _bleu(counts: np.ndarray) -> float:
    from sacrebleu.metrics import BLEU

    length, expected, *both = (int(count) for count in counts)
    orders = len(both) // 2
    result = BLEU.compute_bleu(both[:orders], both[orders:], length, expected, smooth_method="exp")
    return float(result.score)


def _language(reference: Reference) -> str:
    return reference.language.partition("-")[0].lower()


@cache
def _scorer(tokenizer: str) -> Any:
    from sacrebleu.metrics import BLEU

    return BLEU(tokenize=tokenizer)


def _of_bleu() -> Mapping[str, str]:
    _prepare_bleu()
    scorer = _scorer("13a")
    scorer.corpus_score(["a"], [["a"]])  # it knows the number of references only then
    signature = str(scorer.get_signature().format()).replace(":", "=").replace("|", ",")
    return {"bleu": signature, "tok": "13a, zh or char by language"}


def _prepare_bleu() -> None:
    if find_spec("sacrebleu") is None:
        raise UsageError("BLEU needs sacreBLEU: pip install 'codecbench[bleu]'")


def _prepare(spec: str) -> None:
    _prepare_bleu()
    asr.find(spec)


def _spoken_parts(spec: str) -> Mapping[str, str]:
    return {**parts_of(spec), **_of_bleu()}


def _spoken(spec: str) -> Metric:
    return Metric(
        f"asr_bleu:{spec}" if spec else "asr_bleu", "BLEU of what is heard", "", "higher", partial(spoken, spec=spec),
        partial(_spoken_parts, spec), domains=SPEECH, needs_transcript=True, compares="sounds",
        variant=_spoken, prepare=partial(_prepare, spec), shares=shares,
    )  # fmt: skip


METRICS = (
    _spoken(""),
    Metric(
        "answer_bleu", "BLEU of the answer", "", "higher", written, _of_bleu, needs_transcript=True,
        compares="texts", prepare=_prepare_bleu, shares=shares,
    ),
)  # fmt: skip
