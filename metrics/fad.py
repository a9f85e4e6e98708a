"""Fréchet audio distance: how far the answers to a list are, as a whole, from the truth.

``fad``: the embeddings of all answers, and those of all true recordings, are each taken for one normal distribution;
the value is the Fréchet distance between the two, from 0 up, lower is better. Of a list of requests the true recordings
are the list's own, so ``identity`` has 0.

How to read it: a value belongs to its embedder, which stands in the signature, and to a number of answers: from few it
comes out too large (by about 1 over their number), and published values are of thousands. Compare on equal lists alone.
By default the embedder is VGGish; ``fad:FOLDER`` or ``fad:OWNER/NAME`` is a CLAP model of transformers'. Intervals take
the true recordings as given, and let the answers vary.

Sources: Kilgour et al., "Fréchet Audio Distance", Interspeech 2019; Dowson and Landau, Journal of Multivariate Analysis
12(3), 1982.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from codecbench.metrics import sound_models, vggish
from codecbench.metrics.base import Failed, Material, Metric, Output, Reference, require_sound
from codecbench.metrics.corpus import jackknife, require_items
from codecbench.metrics.sound_models import Matrix

FEWEST_ROWS = 2


def embeddings(reference: Reference, output: Output, model: str) -> Material:
    """The embeddings of the output and of the reference.

    Raises:
        Undefined: ``ref_silent``.
        Failed: ``output_silent``.
    """
    require_sound(reference, output)
    kind = "clap" if model else "vggish"
    return Material([sound_models.packed(sound_models.heard(signal, kind, model)) for signal in (output, reference)])


def frechet(mean: Matrix, covariance: Matrix, other_mean: Matrix, other_root: Matrix) -> float:
    """Squared Fréchet distance between two normal distributions; the second is given by its covariance's square root.

    The trace of the root of a product is that of a symmetric product, whose eigenvalues are real and not negative.
    """
    product = np.linalg.eigvalsh(other_root @ covariance @ other_root)
    traces = np.trace(covariance) + np.sum(other_root**2)
    return float(np.sum((mean - other_mean) ** 2) + traces - 2 * np.sqrt(np.maximum(product, 0)).sum())


def root(covariance: Matrix) -> Matrix:
    """The symmetric square root of a covariance ``[D, D]``."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)


def shares(material: Sequence[Sequence[Any]]) -> list[float]:
    """Each item's share of the distance between all outputs and all references.

    Raises:
        Failed: ``too_few_items``; ``too_few_embeddings``.
    """
    require_items(material)
    outputs, references = ([sound_models.unpacked(item[k]) for item in material] for k in (0, 1))
    truth, count = np.concatenate(references), sum(map(len, outputs))
    if min(len(truth), *(count - len(rows) for rows in outputs)) < FEWEST_ROWS:
        raise Failed(f"too_few_embeddings({count})")
    centre = truth.mean(axis=0)
    other_root = root(np.cov(truth, rowvar=False).reshape(len(centre), -1))
    moments = [_Moments.of(rows - centre) for rows in outputs]

    whole = _Moments.of(np.concatenate(outputs) - centre)

    def distance(of: _Moments) -> float:
        return frechet(of.total / of.count, of.covariance(), np.zeros_like(centre), other_root)

    return jackknife(distance(whole), [distance(whole.without(own)) for own in moments])


@dataclass(frozen=True)
class _Moments:
    """Of rows ``[N, D]``: how many, their sum ``[D]``, and the sum of their outer products ``[D, D]``."""

    count: int
    total: Matrix
    squares: Matrix

    @classmethod
    def of(cls, rows: Matrix) -> _Moments:
        return cls(len(rows), rows.sum(axis=0), rows.T @ rows)

    def without(self, other: _Moments) -> _Moments:
        return _Moments(self.count - other.count, self.total - other.total, self.squares - other.squares)

    def covariance(self) -> Matrix:
        return np.asarray((self.squares - np.outer(self.total, self.total) / self.count) / (self.count - 1))


def _parts(model: str) -> Mapping[str, str]:
    return {**sound_models.parts("clap" if model else "vggish", model), "ref": "own truths"}


def _metric(model: str) -> Metric:
    return Metric(
        f"fad:{model}" if model else "fad", "Fréchet audio distance", "", "lower", partial(embeddings, model=model),
        partial(_parts, model), min_seconds=0.5, weights=() if model else (vggish.WEIGHTS,), compares="sounds",
        variant=_metric, prepare=partial(sound_models.prepare, "clap" if model else "vggish", model), shares=shares,
    )  # fmt: skip


METRICS = (_metric(""),)
