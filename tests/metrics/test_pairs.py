"""Minimal pairs: what counts as telling two recordings apart, and how length is normalised."""

import numpy as np
import pytest

from codecbench.errors import UsageError
from codecbench.metrics.base import Likely, Output, Reference, Value, evaluate, undefined_reason
from codecbench.metrics.registry import find

REFERENCE = Reference(np.ones(800, np.float32), 8000, comparable=frozenset({"pairs"}))


def weighed(name: str, better: Likely, worse: Likely) -> Value:
    return evaluate(find(name), REFERENCE, Output(np.zeros(0, np.float32), 8000, pair=(better, worse)))


@pytest.mark.parametrize(("norm", "value"), [("", 1.0), (":token", 1.0), (":sum", 0.0), (":second", 0.5)])
def test_the_normalisation_decides_and_is_named(norm: str, value: float) -> None:
    found = weighed(f"pair_accuracy{norm}", (-30.0, 30, 3.0), (-20.0, 10, 2.0))
    assert (found.status, found.value) == ("ok", value)
    assert weighed(f"pair_ties{norm}", (-30.0, 30, 3.0), (-20.0, 10, 2.0)).value == float(value == 0.5)
    assert f"|norm:{norm[1:] or 'token'}|tie:0.5" in find(f"pair_accuracy{norm}").signature()


def test_rounding_is_a_tie() -> None:
    third = -16 * np.log(2)
    assert weighed("pair_accuracy", (third * 7, 7, 1.0), (third * 1000003, 1000003, 1.0)).value == 0.5


def test_a_model_without_likelihoods_has_failed_and_a_codec_is_not_asked() -> None:
    nothing = evaluate(find("pair_accuracy"), REFERENCE, Output(np.zeros(0, np.float32), 8000))
    assert (nothing.status, nothing.reason) == ("failed", "no_likelihood")
    assert undefined_reason(find("pair_accuracy"), REFERENCE) == ""
    assert undefined_reason(find("duration_ratio"), REFERENCE) == "not_comparable(sounds)"
    with pytest.raises(UsageError, match="unknown normalisation 'frame'"):
        find("pair_accuracy:frame")
