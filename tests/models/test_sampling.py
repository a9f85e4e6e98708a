"""The sampler: against transformers' logits processors, by hand, and request by request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from codecbench import tolerant_torchaudio
from codecbench.audio import Clip
from codecbench.models.base import Request, Sampling
from codecbench.models.blocks import sampling as sampler


@pytest.fixture(scope="module")
def processors() -> Any:
    tolerant_torchaudio.load()  # `transformers` imports it plainly
    return pytest.importorskip("transformers.generation.logits_process")


def logits(*shape: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


NO_IDS = torch.zeros(5, 0, dtype=torch.long)


@pytest.mark.parametrize("k", [1, 2, 17, 40, 90])
def test_top_k_of_transformers(processors: Any, k: int) -> None:
    wanted = processors.TopKLogitsWarper(k)(NO_IDS, logits(5, 40))
    assert torch.equal(sampler.top_k(logits(5, 40), k), wanted)


@pytest.mark.parametrize("p", [0.01, 0.3, 0.8, 0.95, 0.999])
def test_top_p_of_transformers(processors: Any, p: float) -> None:
    wanted = processors.TopPLogitsWarper(p)(NO_IDS, logits(5, 40))
    assert torch.equal(sampler.top_p(logits(5, 40), p), wanted)


@pytest.mark.parametrize("penalty", [0.8, 1.0, 1.3])
def test_repetition_penalty_of_transformers(processors: Any, penalty: float) -> None:
    history = torch.randint(0, 40, (5, 12), generator=torch.Generator().manual_seed(1))
    wanted = processors.RepetitionPenaltyLogitsProcessor(penalty)(history, logits(5, 40))
    assert torch.equal(sampler.penalise_repetition(logits(5, 40), history, penalty), wanted)


@pytest.mark.parametrize("scale", [1.5, 3.0])
def test_guidance_of_transformers(processors: Any, scale: float) -> None:
    with_text, without = logits(5, 40), logits(5, 40, seed=1)
    wanted = processors.ClassifierFreeGuidanceLogitsProcessor(scale)(NO_IDS, torch.cat([with_text, without]))
    assert torch.allclose(sampler.guide(with_text, without, scale), wanted, rtol=0, atol=1e-5)


def test_restrictions_of_transformers_in_a_row(processors: Any) -> None:
    wanted = logits(5, 40)
    for warp in (
        processors.TemperatureLogitsWarper(0.7), processors.TopKLogitsWarper(12), processors.TopPLogitsWarper(0.9),
    ):  # fmt: skip
        wanted = warp(NO_IDS, wanted)
    assert torch.equal(sampler.restrict(logits(5, 40), Sampling(temperature=0.7, top_k=12, top_p=0.9)), wanted)


def test_by_hand() -> None:
    likely = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()

    def kept(found: Tensor) -> list[bool]:
        return [bool(one) for one in torch.isfinite(found)]

    assert kept(sampler.top_k(likely, 2)) == [True, True, False, False]
    assert kept(sampler.top_p(likely, 0.6)) == [True, True, False, False]
    assert kept(sampler.top_p(likely, 0.1)) == [True, False, False, False]
    assert kept(sampler.top_p(likely, 1)) == [True] * 4
    assert kept(sampler.top_k(likely, 0)) == [True] * 4
    assert sampler.guide(torch.tensor([2.0]), torch.tensor([1.0]), 3).tolist() == [4]
    assert sampler.guide(torch.tensor([2.0]), torch.tensor([1.0]), 0).tolist() == [1]
    assert sampler.guide(torch.tensor([2.0]), torch.tensor([float("nan")]), 1).tolist() == [2]
    history = torch.tensor([0, 0, 2])
    assert sampler.penalise_repetition(torch.tensor([4.0, 4, -1]), history, 2).tolist() == [2, 4, -2]


def test_greedy_takes_the_likeliest_and_no_random_number() -> None:
    random = sampler.generator(0)
    before = random.get_state()
    ties = torch.tensor([[0.0, 2, 2], [1, 0, 1]])
    assert sampler.draw(ties, Sampling(temperature=0, top_k=2), random).tolist() == [1, 0]
    assert torch.equal(random.get_state(), before)


def test_draws_follow_the_distribution() -> None:
    wanted = torch.tensor([0.5, 0.0, 0.3, 0.2])
    drawn = sampler.pick(wanted.log().expand(20_000, -1), sampler.generator(3))
    found = torch.bincount(drawn, minlength=4) / 20_000
    assert found[1] == 0
    assert torch.allclose(found, wanted, atol=0.015)  # four standard errors


@pytest.mark.parametrize("bad", [torch.full((3,), sampler.NEVER), torch.tensor([0.0, float("nan"), 1])])
def test_nothing_to_draw(bad: Tensor) -> None:
    with pytest.raises(ValueError, match="nothing can be drawn"):
        sampler.pick(bad, sampler.generator(0))


def clip(level: float) -> Clip:
    return Clip(np.full((1, 8), level, np.float32), 16_000)


REQUESTS = [
    Request("tts", "one"), Request("tts", "two"), Request("music", "one"),
    Request("s2st", audio=clip(0), language="de"), Request("s2st", audio=clip(0.5), language="de"),
    Request("s2st", audio=clip(0), language="fr"), Request("s2st", audio=clip(0), language="fr", source_language="en"),
    Request("conversion", audio=clip(0), reference=clip(0.5)),
    Request("conversion", audio=clip(0.5), reference=clip(0)),
    Request("tts", "one", clip(0.5)), Request("tts", "one", reference=clip(0.5)), Request("tts", "one", transcript="a"),
]  # fmt: skip


def drawn(requests: list[Request], order: Callable[[int], Any] = range, seed: int = 0) -> list[list[int]]:
    take = sampler.drawer(requests, Sampling(seed=seed))
    found: list[list[int]] = [[] for _ in requests]
    for step in range(4):
        for number in order(len(requests)):
            found[number] += take(number, logits(3, 1000, seed=step)).tolist()
    return found


def test_what_a_request_draws_does_not_depend_on_its_company() -> None:
    whole = drawn(REQUESTS)
    assert len({tuple(one) for one in whole}) == len(REQUESTS) == 12
    assert whole == [drawn([request])[0] for request in REQUESTS]
    assert whole[::-1] == drawn(REQUESTS[::-1])
    assert whole == drawn(REQUESTS, lambda count: reversed(range(count)))
    assert all(a != b for a, b in zip(whole, drawn(REQUESTS, seed=1), strict=True))


def test_the_global_random_state_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    drawn(REQUESTS)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_repetition_aware_sampling_leaves_a_loop() -> None:
    nucleus = torch.tensor([0.9, 0.06, 0.04]).log()
    setting = Sampling(top_p=0.5)

    def take(history: list[int], **options: Any) -> Tensor:
        random = sampler.generator(0)
        return torch.tensor(
            [sampler.draw_repetition_aware(nucleus, history, setting, random, **options) for _ in range(3000)]
        )

    for history in ([], [1] * 10, [0] + [1] * 9, [0, 0] + [1] * 10):  # at most one in the last ten: 0.1 is not above
        assert (take(history) == 0).all()
    found = torch.bincount(take([0, 0] + [1] * 8), minlength=3) / 3000
    assert torch.allclose(found, torch.tensor([0.9, 0.06, 0.04]), atol=0.025)
    assert (take([0, 0], threshold=0.2) == 0).all()
    assert (take([0, 0, 1], window=2) == 0).sum() < 3000
