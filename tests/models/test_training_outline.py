"""The outline of a voice, and what latent frames and waveforms have to do with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from codecbench.models import small
from codecbench.models.training import losses, outline
from codecbench.models.training.objective import Objective, Pass, reconstruct
from codecbench.models.training.recipe import RECIPES
from codecbench.models.training.trainer import begin

RATE, HOP = small.SAMPLE_RATE, small.HOP
OUTLINE = outline.Outline(RATE, HOP)


def tone(frequency: float, level: float = 0.1, seconds: float = 0.4) -> torch.Tensor:
    time = torch.arange(round(seconds * RATE)) / RATE
    return level * torch.sin(2 * torch.pi * frequency * time)[None, None]


def test_low_coefficients_are_scipys_below_the_edge() -> None:
    from scipy.fft import dct

    x = torch.randn(2, 1, 5 * HOP, generator=torch.Generator().manual_seed(0))
    expected = dct(x.view(2, 5, HOP).numpy(), norm="ortho")[..., :32]
    np.testing.assert_allclose(OUTLINE.low(x).transpose(1, 2), expected, atol=1e-5)
    assert OUTLINE(x).shape == (2, OUTLINE.size, 5)
    assert OUTLINE.size == 32 + 14


@pytest.mark.parametrize("frequency", [1_000.0, 2_300.0, 6_800.0])
def test_the_level_of_a_tone_is_in_its_band(frequency: float) -> None:
    levels = OUTLINE(tone(frequency))[0, 32:, 4]
    edges = torch.expm1(torch.linspace(np.log1p(800 / 700), np.log1p(8_000 / 700), 15)) * 700
    assert int(levels.argmax()) == int((edges < frequency).sum()) - 1
    louder = OUTLINE(tone(frequency, level=0.2))[0, 32:, 4].max()
    assert float((louder + 1) / (levels.max() + 1)) == pytest.approx(2**0.3, rel=1e-3)


def test_a_frame_knows_nothing_of_what_comes_after_it() -> None:
    x = tone(500.0) + tone(3_000.0)
    changed = x.clone()
    changed[..., 7 * HOP :] = 0
    torch.testing.assert_close(OUTLINE(changed)[..., :7], OUTLINE(x)[..., :7])
    assert not torch.allclose(OUTLINE(changed)[..., 7], OUTLINE(x)[..., 7])


@torch.no_grad()
def test_waveforms_differ_below_the_edge_alone() -> None:
    x = tone(300.0)
    assert float(OUTLINE.difference(x, x)) == 0
    far = float(OUTLINE.difference(-x, x))
    assert float(OUTLINE.difference(x + tone(4_000.0), x)) < 0.05 * far
    assert float(OUTLINE.difference(0.9 * x, x)) == pytest.approx(far / 20, rel=1e-3)


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("late", [0, 1])
def test_latent_frames_that_hold_an_outline(groups: int, late: int) -> None:
    drawn = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0))
    latent = torch.zeros(2, 8, 5)
    for value in range(6):
        place = value % groups * (8 // groups) + value // groups
        latent[:, place, late:] = drawn[:, value, : 5 - late]
    assert float(outline.distance(latent, drawn, groups, late)) == 0
    latent[:, 0, -1] += 2  # one of ten frames is 4 away
    assert float(outline.distance(latent, drawn, groups, late)) == pytest.approx(4 / 5)
    narrow = outline.distance(latent[:, : 4 // groups * groups], drawn, groups, late)
    assert torch.isfinite(narrow)


def test_loudness_of_what_is_louder() -> None:
    x = torch.randn(1, 1, 4_000, generator=torch.Generator().manual_seed(0))
    assert float(losses.loudness(x, x)) == 0
    powers = [losses.magnitudes(x, window, window // 4).pow(0.3).mean() for window in (256, 512, 1024)]
    expected = (2**0.3 - 1) * float(torch.stack(powers).mean())
    assert float(losses.loudness(2 * x, x)) == pytest.approx(expected, rel=1e-4)


@torch.no_grad()
def test_latent_frames_are_drawn_to_the_outline_where_it_has_a_weight() -> None:
    x, recipe = tone(300.0), RECIPES["soundstream-small"]
    made = reconstruct(small.SmallSoundStream.network(0), x, None, quantised=False)
    assert made.latent is made.quantised.frames
    weighted = Objective(replace(recipe, weights={"outline": 1.0}), RATE, HOP, 64).inner(made, x)
    assert list(weighted) == ["outline"]
    held = Pass(made.output, torch.cat([OUTLINE(x), torch.zeros(1, 18, 20)], dim=1), made.quantised)
    exact = Objective(replace(recipe, weights={"outline": 1.0}), RATE, HOP, 64).inner(held, x)
    assert float(exact["outline"]) == 0 < float(weighted["outline"])
    assert "outline" not in Objective(recipe, RATE, HOP, 64).inner(made, x)


@torch.no_grad()
def test_a_late_codec_is_compared_in_time() -> None:
    network = small.SmallAudioDec.network(0)
    small.enliven(network, 0)
    begin(network, "transform")
    x = tone(200.0, seconds=1.0)
    output = reconstruct(network.eval(), x, None, quantised=False).output
    assert not output[..., -HOP:].any()
    pair = torch.stack([x[0, 0, HOP:-HOP], output[0, 0, HOP:-HOP]])
    assert float(torch.corrcoef(pair)[0, 1]) > 0.75
