"""Sound and music: whether an answer is what the text asked for, and what the truth is.

- ``clap``: the cosine of what a CLAP network has for the answer and for the text of the request, from -1 to 1, higher
  is better. The truth itself is far from 1: read it against ``identity``
- ``kld``: the Kullback-Leibler divergence from the classes that a classifier hears in the truth to those that it hears
  in the answer, in nats, from 0 up, lower is better

Both need their network named, and values of two networks never compare: ``clap:FOLDER`` or
``clap:laion/larger_clap_music`` for a CLAP model of transformers', ``kld:FOLDER`` or
``kld:MIT/ast-finetuned-audioset-10-10-0.4593`` for an audio spectrogram transformer. Published values are of LAION's
music checkpoint, and of PaSST, which transformers does not have.

Sources: Wu et al., "Large-Scale Contrastive Language-Audio Pretraining", ICASSP 2023; Kreuk et al., "AudioGen", ICLR
2023.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from codecbench.metrics import sound_models
from codecbench.metrics.base import Metric, Output, Reference, Undefined, require_sound
from codecbench.metrics.sound_models import Matrix

DOMAINS = frozenset({"music", "sound"})


def agreement(reference: Reference, output: Output, model: str) -> float:
    """Cosine of the embeddings of the output, the mean over its windows, and of the request's text.

    Raises:
        Undefined: ``no_text``; ``ref_silent``.
        Failed: ``output_silent``.
    """
    if not reference.text.strip():
        raise Undefined("no_text")
    require_sound(reference, output)
    audio = sound_models.heard(output, "clap", model).mean(axis=0)
    return float(audio @ sound_models.describe(model, reference.text) / np.linalg.norm(audio))


def divergence(reference: Reference, output: Output, model: str) -> float:
    """Divergence of the classes of the output from those of the reference, in nats.

    Raises:
        Undefined: ``ref_silent``.
        Failed: ``output_silent``.
    """
    require_sound(reference, output)
    truth, found = (_mean(sound_models.heard(signal, "classes", model)) for signal in (reference, output))
    return max(0.0, float(np.sum(np.exp(truth) * (truth - found))))


def _mean(logs: Matrix) -> Matrix:
    """The logarithm of the mean over windows ``[F, D]`` of probabilities given by their logarithms."""
    return np.asarray(np.logaddexp.reduce(logs, axis=0) - np.log(len(logs)))


def _parts(kind: str, model: str) -> Mapping[str, str]:
    return {**sound_models.parts(kind, model), **({"prob": "softmax"} if kind == "classes" else {})}


def _clap(model: str) -> Metric:
    return Metric(
        f"clap:{model}" if model else "clap", "Agreement with the text (CLAP)", "", "higher",
        partial(agreement, model=model), partial(_parts, "clap", model), floor=-1.0, domains=DOMAINS, min_seconds=0.5,
        compares="sounds", variant=_clap, prepare=partial(sound_models.prepare, "clap", model),
    )  # fmt: skip


def _kld(model: str) -> Metric:
    return Metric(
        f"kld:{model}" if model else "kld", "Divergence of classes from the truth", "nats", "lower",
        partial(divergence, model=model), partial(_parts, "classes", model), perfect=0.0, domains=DOMAINS,
        min_seconds=0.5, compares="sounds", variant=_kld, prepare=partial(sound_models.prepare, "classes", model),
    )  # fmt: skip


METRICS = (_clap(""), _kld(""))
