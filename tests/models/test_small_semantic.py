"""Small models of semantic tokens: their units, what they learn, and the weights that come with the package."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from codecbench.audio import Clip
from codecbench.models import audiolm_small, gslm_small, semantic_small, small, small_lm, soundstorm_small
from codecbench.models.base import LoadOptions, Request, Sampling
from codecbench.models.blocks import code_vocoder, digit_units, masked_lm
from codecbench.models.blocks.conformer import ConformerShape
from codecbench.models.blocks.units import deduplicate
from codecbench.models.registry import find
from codecbench.models.semantic_small import Item
from codecbench.models.training import digit_units as training
from codecbench.models.training.student import LMRecipe

SYSTEMS: tuple[Any, ...] = (*audiolm_small.SYSTEMS, *gslm_small.SYSTEMS, *soundstorm_small.SYSTEMS)
NAMES = [system.card.name for system in SYSTEMS]
CARRIED = [system for system in SYSTEMS if system.card.package_weights]


def clip(seconds: float, seed: int = 0) -> Clip:
    """Noise that swells and fades."""
    noise = np.random.default_rng(seed).standard_normal(round(seconds * 16_000))
    swell = np.sin(np.arange(len(noise)) / 1000) ** 2
    return Clip((0.1 * noise * swell)[None].astype(np.float32), 16_000)


def items(count: int = 4) -> list[Item]:
    """Strings of which each unit lasts three frames, and has codes of its own."""
    random = torch.Generator().manual_seed(0)
    found = []
    for number in range(count):
        units = torch.randint(semantic_small.UNITS, (8,), generator=random).repeat_interleave(3)
        codes = torch.stack([(units * 7 + k * 31) % 1024 for k in range(small_lm.CODEBOOKS)])
        found.append(Item(units, codes, ("one two", "three", "four five", "six")[number % 4], "a"))
    return found


def test_units_come_fifty_a_second_and_depend_on_their_neighbourhood_alone() -> None:
    tokeniser = digit_units.build(digit_units.DigitUnitsShape(), 0)
    samples = torch.from_numpy(clip(1.0).samples[0])
    for length, expected in ((16_000, 50), (15_681, 50), (15_680, 49), (320, 1)):
        assert tokeniser(samples[:length]).shape == (expected,)
    features = tokeniser.features(samples)
    moved = samples.clone()
    moved[8_000:8_320] = 0  # frame 25
    changed = (tokeniser.features(moved) - features).abs().amax(dim=1) > 1e-4
    around = changed.nonzero()[:, 0]
    assert changed[25]
    assert around.min() >= 25 - 9
    assert around.max() <= 25 + 9


def test_a_digit_is_cut_where_its_parts_are_likeliest() -> None:
    truth = torch.tensor([0, 0, 1, 2, 2, 2, 3, 0])
    nats = torch.full((8, 5), -3.0)
    nats[torch.arange(8), torch.tensor([0, 0, 1, 2, 2, 2, 3, 4])] = -0.1
    states = torch.tensor([0, 1, 2, 3, 0])
    assert states[training.likeliest(nats)].tolist() == truth.tolist()
    labels = training.even(40, 2, 4)
    assert deduplicate(labels)[0].tolist() == [0, 9, 10, 11, 12, 0]
    assert len(training.even(3, 2, 4)) == 3


def test_the_vocoder_learns_durations_and_codes_and_leaves_the_prompt() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shape = masked_lm.MaskedLMShape(ConformerShape(32, 1, 2, 16, 5), semantic_small.UNITS, small_lm.CODEBOOKS, 1024)
        vocoder = code_vocoder.CodeVocoder(shape)
        optimiser = torch.optim.Adam(vocoder.parameters(), 1e-2)
        random, known = torch.Generator().manual_seed(0), items()
        for _ in range(150):
            losses = vocoder.losses([own.units for own in known], [own.codes for own in known], random)
            optimiser.zero_grad()
            torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    vocoder.eval()
    own = known[0]
    single, lengths = deduplicate(own.units)
    assert torch.equal(vocoder.durations(single), lengths)
    prompt = torch.randint(1024, (small_lm.CODEBOOKS, 6), generator=random)
    found = vocoder(own.units[:6], prompt, own.units[6:], (4, 1, 1))
    assert torch.equal(found[:, :6], prompt)
    assert (found[:, 6:] == own.codes[:, 6:]).float().mean() > 0.9


@pytest.mark.parametrize("system", SYSTEMS, ids=NAMES)
def test_it_learns(system: Any) -> None:
    """The loss of what it learns from falls in 20 steps, and every parameter moves."""
    network = system.network(0)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    optimiser, losses = torch.optim.Adam(network.parameters(), 2e-3), []
    rng, known = np.random.default_rng(0), items()
    for step in range(20):
        found = system.loss(network, system.examples(known, 4, rng), torch.Generator().manual_seed(step))
        loss = torch.stack(list(found.values())).sum()
        losses.append({name: float(value.detach()) for name, value in found.items()})
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    for name in losses[0]:
        assert np.mean([row[name] for row in losses[-4:]]) < 0.9 * np.mean([row[name] for row in losses[:4]]), name
    still = [name for name, value in network.named_parameters() if torch.equal(value, before[name])]
    assert still == []


@pytest.mark.parametrize("system", SYSTEMS, ids=NAMES)
def test_random_weights_answer(system: Any) -> None:
    model = system.load(LoadOptions(random_seed=0))
    assert find(system.card.name) is system
    for task in system.card.tasks:
        request = Request(task, audio=clip(0.513))
        (response,) = model.generate([request], Sampling(max_seconds=0.5, seed=1))
        assert response.audio is not None
        assert response.audio.sample_rate == 16_000
        assert response.audio.length <= 8_000
        (again,) = model.generate([request], Sampling(max_seconds=0.5, seed=1))
        np.testing.assert_array_equal(again.audio.samples, response.audio.samples)
    (score,) = model.loglikelihood([clip(0.6)])
    assert score.nats < 0
    assert 1e6 < model.parameters() < 8e6


@pytest.mark.parametrize("system", CARRIED, ids=lambda system: system.card.name)
def test_weights_load_by_name_and_find_speech_likelier_than_random_ones(system: Any) -> None:
    path = small.FOLDER / f"{system.card.name}.safetensors"
    facts = small.metadata(path)
    assert path.stat().st_size < 8e6
    assert system.card.label.startswith(f"small, trained here, {facts['steps']} steps on ")
    assert path.with_suffix(".md").is_file()
    model = system.load(LoadOptions())
    (response,) = model.generate([Request("continuation", audio=clip(0.5))], Sampling(max_seconds=1.0, seed=1))
    assert response.audio is not None
    assert np.isfinite(response.audio.samples).all()


def test_the_recipes_say_what_the_weights_were_made_with() -> None:
    assert all(isinstance(system.recipe, LMRecipe) for system in SYSTEMS)
