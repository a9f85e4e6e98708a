"""Minimal pairs: whether a language model finds the better recording of a pair likelier than the worse one.

Nothing is generated: two recordings that differ in one thing (a word and a non-word, a sentence and an ungrammatical
one, a story and one with the wrong end, a voice that stays and one that changes) are given to the model, which says how
likely each is.

- ``pair_accuracy``: the share of pairs whose better recording is likelier; a tie counts one half. Chance is 0.5. Higher
  is better
- ``pair_ties``: the share of pairs that are equally likely, but for rounding (1e-9 of the value). Many of them mean
  that the model does not hear the difference

Log-likelihoods of recordings that differ in length compare only once it is said how. The variant says it, and stands in
the signature: ``token`` (the default) is the mean over the model's tokens, ``second`` the mean over seconds of audio,
``sum`` no mean. Published numbers were made in different ways, and differ by several points for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import isclose

from codecbench.errors import UsageError
from codecbench.metrics.base import Failed, Likely, Metric, Output, Reference

NORMS: Mapping[str, Callable[[Likely], float]] = {
    "token": lambda likely: likely[0] / likely[1],
    "second": lambda likely: likely[0] / likely[2],
    "sum": lambda likely: likely[0],
}


def accuracy(_reference: Reference, output: Output, norm: str) -> float:
    """1 if the better recording is likelier, 0 if the worse is, and 0.5 if neither is.

    Raises:
        Failed: ``no_likelihood``.
    """
    better, worse = _both(output, norm)
    return 0.5 if _tie(better, worse) else float(better > worse)


def tie(_reference: Reference, output: Output, norm: str) -> float:
    """1 if both are equally likely, else 0.

    Raises:
        Failed: ``no_likelihood``.
    """
    return float(_tie(*_both(output, norm)))


def _both(output: Output, norm: str) -> tuple[float, float]:
    if output.pair is None:
        raise Failed("no_likelihood")
    better, worse = map(NORMS[norm], output.pair)
    return better, worse


def _tie(better: float, worse: float) -> bool:
    return isclose(better, worse, rel_tol=1e-9)


def _metrics(variant: str) -> tuple[Metric, Metric]:
    norm = variant or "token"
    if norm not in NORMS:
        raise UsageError(f"unknown normalisation '{norm}' of pairs: it is one of {', '.join(NORMS)}")

    def named(name: str) -> str:
        return f"{name}:{variant}" if variant else name

    def parts() -> Mapping[str, str]:
        return {"norm": norm, "tie": "0.5"}

    return (
        Metric(
            named("pair_accuracy"), "Pairs told apart", "", "higher", partial(accuracy, norm=norm), parts, floor=0.0,
            perfect=1.0, compares="pairs", variant=lambda other: _metrics(other)[0],
        ),
        Metric(
            named("pair_ties"), "Pairs equally likely", "", "none", partial(tie, norm=norm), parts, compares="pairs",
            variant=lambda other: _metrics(other)[1],
        ),
    )  # fmt: skip


METRICS = _metrics("")
