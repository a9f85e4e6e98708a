"""A language model in every pattern: with its cache as without, each code from what it may see, and able to learn."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

from codecbench.audio import Clip
from codecbench.errors import InvalidSystem
from codecbench.models.base import LoadOptions, Request, Sampling
from codecbench.models.blocks import codebook_generation, codebook_lm, patterns, stacked_generation
from codecbench.models.blocks.codebook_lm import CodebookLM, CodebookLMShape
from codecbench.models.blocks.patterns import Pattern
from codecbench.models.checks.runner import check
from codecbench.models.checks.subject import Options
from codecbench.models.musicgen import MusicGen
from codecbench.models.registry import find
from codecbench.models.stack_and_delay import SYSTEMS

FILE = Path(__file__).parents[1] / "rogues" / "tiny_stack_and_delay.py"
NAMES = ("TinyFlat", "TinyParallel", "TinyStack", "TinyStackDelay")
LAYOUTS: dict[str, Callable[[int], Pattern]] = {
    "flat": lambda f: patterns.flat(4, f),
    "parallel": lambda f: patterns.parallel(4, f),
    "delay": lambda f: patterns.delay(4, f),
    "stack": lambda f: patterns.stack(4, f),
    "stack-delay": lambda f: patterns.stack_delay(4, f),
    "stack-delay in order": lambda f: patterns.stack_delay(4, f, range(f)),
}
STACKED = [name for name in LAYOUTS if name.startswith("stack")]
EACH = pytest.mark.parametrize("name", LAYOUTS)


def build(seed: int = 3) -> CodebookLM:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = CodebookLM(CodebookLMShape(codebook_lm.musicgen(32, 2, 4), 4, 32, 12))
        for parameter in network.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return network


NETWORK = build().requires_grad_(False)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def codes(frames: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 32, (4, frames), generator=torch.Generator().manual_seed(seed))


def likeliest(_request: int, logits: Tensor) -> Tensor:
    return logits.argmax(dim=-1)


@EACH
@pytest.mark.parametrize("prompt", [0, 1, 7, 21])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_the_cache_changes_nothing(name: str, prompt: int, guidance: float) -> None:
    past, text = codes(prompt), noise(5, 12)
    found = [
        codebook_generation.generate(
            NETWORK, [past], [text], 20, layout=LAYOUTS[name], draw=likeliest, guidance=guidance, use_cache=use_cache
        )[0]
        for use_cache in (True, False)
    ]
    assert found[0].shape == (4, 20)
    assert len(set(found[0].flatten().tolist())) > 5
    assert torch.equal(*found)


@EACH
def test_what_is_generated_greedily_is_likeliest_at_every_step(name: str) -> None:
    """The logits of a whole sequence, from which a model learns, are those of one step after another."""
    past = codes(5)
    (more,) = codebook_generation.generate(NETWORK, [past], [None], 14, layout=LAYOUTS[name], draw=likeliest)
    whole = torch.cat([past, more], dim=1)
    found = codebook_generation.log_probabilities(NETWORK, whole, None, LAYOUTS[name])
    for other in range(0, 32, 5):
        for k in range(4):
            changed = whole.clone()
            changed[k, -1] = other
            likelihood = codebook_generation.log_probabilities(NETWORK, changed, None, LAYOUTS[name])
            assert likelihood[k, -1] <= found[k, -1] + 1e-5


@EACH
def test_a_code_is_predicted_from_what_comes_before_it_alone(name: str) -> None:
    layout, before = LAYOUTS[name](11), codes(11)
    found = codebook_generation.log_probabilities(NETWORK, before, None, LAYOUTS[name])
    for k, f in ((0, 0), (3, 4), (1, 8), (0, 10)):
        changed = before.clone()
        changed[k, f] = (changed[k, f] + 1) % 32
        moved = codebook_generation.log_probabilities(NETWORK, changed, None, LAYOUTS[name]) != found
        moved[k, f] = False
        assert not (moved & (layout.at <= layout.at[k, f])).any()


@pytest.mark.parametrize("name", STACKED)
def test_a_code_hears_its_own_frame_and_all_that_were_complete(name: str) -> None:
    """Of its own frame the codebooks before it; and all of the frames that ended before the last that has started."""
    layout, before, exact = LAYOUTS[name](11), codes(11), copy.deepcopy(NETWORK).double()
    found = codebook_generation.log_probabilities(exact, before, None, LAYOUTS[name])
    starts, ends = layout.at[0], layout.at[-1]
    last = torch.stack([starts[starts <= step].max() for step in layout.at.flatten()]).view_as(layout.at)
    for k, f in layout.order.tolist():
        changed = before.clone()
        changed[k, f] = (changed[k, f] + 1) % 32
        moved = codebook_generation.log_probabilities(exact, changed, None, LAYOUTS[name]) != found
        expected = ends[f] < last
        expected[k:, f] = True  # the code itself, and those after it in its frame
        assert torch.equal(moved, expected), (k, f)


def _told(layout: Pattern) -> Tensor:
    steps = stacked_generation.steps_of(layout)
    first = steps.codebook == 0
    return torch.empty(int(first.sum()), dtype=torch.long).scatter(0, steps.frame[first], steps.told[first])


@pytest.mark.parametrize("name", STACKED)
def test_the_cache_keeps_a_row_a_frame(name: str) -> None:
    rows = stacked_generation._Rows(NETWORK, codes(30), 1)
    assert rows.cache.keys.shape[3] == 30 + 4 * 3
    assert int(LAYOUTS[name](30).cached().sum()) == 30


def test_stack_is_told_the_frame_before_and_stack_delay_the_last_complete_one() -> None:
    assert _told(patterns.stack(4, 6)).tolist() == [-1, 0, 1, 2, 3, 4]
    assert _told(patterns.stack_delay(4, 8, range(8))).tolist() == [-1, -1, -1, -1, 0, 1, 2, 3]


@EACH
def test_company_changes_nothing(name: str) -> None:
    pasts, texts = [codes(6), codes(0), codes(11, 2)], [noise(3, 12), None, noise(7, 12, seed=1)]
    together = codebook_generation.generate(
        NETWORK, pasts, texts, 12, layout=LAYOUTS[name], draw=likeliest, guidance=2.0
    )  # fmt: skip
    for past, text, found in zip(pasts, texts, together, strict=True):
        (alone,) = codebook_generation.generate(
            NETWORK, [past], [text], 12, layout=LAYOUTS[name], draw=likeliest, guidance=2.0
        )
        assert torch.equal(found, alone)


@pytest.mark.parametrize("name", ["delay", "flat", "coarse"])
def test_company_of_other_lengths_changes_nothing(name: str) -> None:
    """Requests for 12, 3 and 7 frames, in patterns of unequal numbers of steps too."""
    coarse: codebook_generation.Layout = lambda f: patterns.coarse_to_fine(4, f, [2, 2], ["flat", "flat"])  # noqa: E731
    layout = LAYOUTS.get(name, coarse)
    pasts, frames = [codes(6), codes(0), codes(6)], [12, 3, 7]
    together = codebook_generation.generate(NETWORK, pasts, [None] * 3, frames, layout=layout, draw=likeliest)
    for past, count, found in zip(pasts, frames, together, strict=True):
        (alone,) = codebook_generation.generate(NETWORK, [past], [None], count, layout=layout, draw=likeliest)
        assert found.shape == (4, count)
        assert torch.equal(found, alone)


@pytest.mark.parametrize("name", ["parallel", "stack", "stack-delay"])
def test_it_learns_four_examples(name: str) -> None:
    network, examples = build(), [codes(9, seed) for seed in range(4)]
    texts = [noise(3, 12, seed=seed) for seed in range(4)]
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(60):
        loss = codebook_generation.loss(network, examples, texts, LAYOUTS[name])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert loss < 0.2
    for example, text in zip(examples, texts, strict=True):
        (found,) = codebook_generation.generate(
            network, [example[:, :1]], [text], 8, layout=LAYOUTS[name], draw=likeliest
        )
        assert (found == example[:, 1:]).float().mean() > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_a_continuation_follows_its_prompt(name: str) -> None:
    model = cast("MusicGen", find(f"{FILE}:{name}").load(LoadOptions(random_seed=0)))
    samples = (0.3 * np.random.default_rng(1).standard_normal((1, 8_000))).astype(np.float32)
    asked = Request("continuation", audio=Clip(samples, 32_000))
    found = [model.generate([asked], Sampling(max_seconds=0.2, seed=seed))[0] for seed in (0, 0, 1)]
    sounds = [response.audio.samples for response in found if response.audio is not None]
    assert [sound.shape for sound in sounds] == [(1, 6_400)] * 3
    np.testing.assert_array_equal(sounds[0], sounds[1])
    assert (sounds[0] != sounds[2]).any()


@pytest.mark.parametrize("name", ["TinyStackDelay", *(pytest.param(n, marks=pytest.mark.slow) for n in NAMES[:3])])
def test_every_check_of_language_models_passes(name: str) -> None:
    report = check(f"{FILE}:{name}", Options(random_seed=0))
    assert [result for result in report.results if not result.ok] == []
    assert report.result("cache_is_exact").outcome == "passed"


def test_systems_are_registered_and_say_that_nothing_was_published() -> None:
    assert len(SYSTEMS) == 4
    for system in SYSTEMS:
        assert find(system.card.name) is system
        with pytest.raises(InvalidSystem, match="its weights were never published"):
            system.load(LoadOptions())
        with pytest.raises(InvalidSystem, match="no such file or folder for its weights: nowhere"):
            system.load(LoadOptions(weights=Path("nowhere")))
