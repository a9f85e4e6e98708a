"""Perplexity of what is said, by a text language model: whether answers make sense.

``text_perplexity:MODEL`` is the exponential of the mean negative log-likelihood of a token, over all tokens of all
transcripts: 1 and up, lower is better, and a corpus has one value. ``MODEL`` is a folder with a causal language model
and its tokenizer as transformers saves them, or such a model's name on the Hugging Face hub that is on this disk
already; ``MODEL+RECOGNISER`` takes another recogniser than the default. Transcripts are normalised as for ``wer``, and
begin after the model's token for the beginning (or, if it has none, for the end) of a text.

How to read it: a model that says one sentence again and again gets a low perplexity, so read it beside ``vert``; and
against ``identity``, the truth. Values of two models, or two tokenizers, never compare.

Source: Lakhotia et al., "On Generative Spoken Language Modeling from Raw Audio", TACL 2021, section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from importlib.metadata import version
from typing import Any

import numpy as np

from codecbench.errors import UsageError
from codecbench.metrics import pretrained
from codecbench.metrics.base import SPEECH, Failed, Material, Metric, Output, Reference
from codecbench.metrics.corpus import jackknife, require_items
from codecbench.metrics.recognition import heard_by, parts_of, prepare


def surprise(reference: Reference, output: Output, model: str, spec: str) -> Material:
    """Negative log-likelihood in nats of what the recogniser `spec` hears, and its tokens.

    Raises:
        Undefined: ``ref_silent``, ``no_language``, ``language(XX)``.
        Failed: ``no_words``.
    """
    text, texts = heard_by(reference, output, spec)
    if not text:
        raise Failed("no_words")
    nats, tokens = _loaded(model)(text)
    return Material([nats, tokens], texts)


def shares(counts: Sequence[tuple[float, int]]) -> list[float]:
    """Each item's share of the perplexity, from its nats and tokens."""
    require_items(counts)
    nats, tokens = np.asarray(counts, np.float64).T
    without = (nats.sum() - nats) / (tokens.sum() - tokens)
    return jackknife(float(np.exp(nats.sum() / tokens.sum())), np.exp(without))


@cache
def _loaded(model: str) -> Callable[[str], tuple[float, int]]:
    import torch

    folder, library = pretrained.folder(model), pretrained.transformers()
    tokenizer = library.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    network = library.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if start is None:
        raise UsageError(f"the tokenizer in {folder} has no token for the beginning or the end of a text")

    def score(text: str) -> tuple[float, int]:
        ids = torch.tensor([[start, *tokenizer(text, add_special_tokens=False)["input_ids"]]])
        with torch.inference_mode():
            logits = network(ids).logits[0, :-1].double()
        likely = torch.log_softmax(logits, -1)[torch.arange(ids.shape[1] - 1), ids[0, 1:]]
        return -float(likely.sum()), ids.shape[1] - 1

    return score


@cache
def _parts(model: str, spec: str) -> Mapping[str, str]:
    named = {"lm": pretrained.signature(model), "impl": f"transformers-{version('transformers')}", "mean": "tokens"}
    return {**parts_of(spec), **named}


def _prepare(model: str, spec: str) -> None:
    if not model:
        raise UsageError("text_perplexity needs a language model: text_perplexity:FOLDER, or text_perplexity:NAME")
    prepare(spec)
    pretrained.folder(model)


def _metric(variant: str) -> Metric:
    model, _, spec = variant.partition("+")
    facts: dict[str, Any] = {"floor": None, "domains": SPEECH, "compares": "sounds", "shares": shares}
    return Metric(
        f"text_perplexity:{variant}" if variant else "text_perplexity", "Perplexity of what is said", "", "lower",
        partial(surprise, model=model, spec=spec), partial(_named_parts, model, spec),
        prepare=partial(_prepare, model, spec), variant=_metric, **facts,
    )  # fmt: skip


def _named_parts(model: str, spec: str) -> Mapping[str, str]:
    _prepare(model, spec)
    return _parts(model, spec)


METRICS = (_metric(""),)
