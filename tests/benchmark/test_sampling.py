"""How a language model is sampled: as a sweep says, else as its card does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from codecbench.benchmark.plan import Plan
from codecbench.benchmark.sweep import SamplingChoice
from codecbench.models.base import Sampling
from codecbench.models.registry import find


def test_a_card_says_how_it_is_sampled_where_a_sweep_does_not() -> None:
    choice = SamplingChoice.model_validate({"temperature": 0.9, "seed": 3})
    assert choice.model_fields_set == {"temperature", "seed"}
    given = Sampling(**choice.model_dump())
    plan = Plan({}, {}, (), 1.0, Path(), Path(), sampling=given, sampling_given=tuple(choice.model_fields_set))
    card = replace(find("prompt_loop").card, sampling=(("temperature", 0.5), ("top_k", 20)))
    assert plan.sampling_of(card) == Sampling(temperature=0.9, top_k=20, seed=3)
    assert plan.sampling_of(replace(card, sampling=())) == given
