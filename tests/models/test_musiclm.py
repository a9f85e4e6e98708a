"""MusicLM: what it is told, and what becomes of it."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from codecbench.audio import Clip
from codecbench.errors import InvalidSystem
from codecbench.models.base import LoadOptions, Request, Sampling
from codecbench.models.blocks.audiolm import AudioLMShape, AudioLMStages
from codecbench.models.blocks.stage_lm import t5_decoder
from codecbench.models.blocks.vocabulary import Range
from codecbench.models.checks.runner import check
from codecbench.models.checks.subject import Options
from codecbench.models.musiclm import SYSTEMS, MusicLM
from codecbench.models.registry import find

FILE = Path(__file__).parents[1] / "rogues" / "tiny_musiclm.py"
RATE = 24_000


def tune(seconds: float, seed: int = 0) -> Clip:
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = 220 * 2 ** (rng.integers(0, 24, 200)[(2 * time).astype(int)] / 12)
    return Clip(0.3 * np.sin(2 * np.pi * np.cumsum(pitch) / RATE)[None].astype(np.float32), RATE)


@pytest.fixture(scope="module")
def model() -> MusicLM:
    return cast("MusicLM", find(f"{FILE}:Tiny").load(LoadOptions(random_seed=0)))


@pytest.mark.parametrize(("seconds", "pieces"), [(0.5, 1), (4.0, 1), (5.5, 2), (10.0, 7)])
def test_what_it_is_told(model: MusicLM, seconds: float, pieces: int) -> None:
    """12 tokens of the text, and 24 for each piece of 4 s of the melody, of which one begins every second."""
    told = model.told(Request("music", text="a calm violin", reference=tune(seconds)))
    assert list(told) == ["told", "melody"]
    assert told["told"].shape == (12, 1)
    assert told["melody"].shape == (24, pieces)
    assert int(told["melody"].max()) < 512
    semantic = model.stages.semantic
    assert len(semantic.prefix(told)) == 12 + 24 * pieces + 1


def test_texts_and_music_are_told_apart(model: MusicLM) -> None:
    words = ("a calm violin", "loud drums", "a calm violin melody", "techno")
    points = [model.told(Request("music", text=text))["told"] for text in words]
    points += [model.told(Request("continuation", audio=tune(1.0, seed)))["told"] for seed in (0, 1)]
    assert len({tuple(point[:, 0].tolist()) for point in points}) == len(points)
    assert torch.equal(points[0], model.told(Request("music", text=words[0], audio=tune(1.0)))["told"])
    melodies = [model.told(Request("music", text="x", reference=tune(3.0, seed)))["melody"] for seed in (0, 1, 2)]
    assert len({tuple(melody.flatten().tolist()) for melody in melodies}) == 3


def likeliest(_request: int, logits: Tensor) -> Tensor:
    return logits.argmax()


def test_it_learns_to_do_as_it_is_told() -> None:
    given = (Range("told", 8, 3), Range("melody", 6, 2))
    shape = AudioLMShape(
        t5_decoder(32, 2, 4), units=20, codebooks=4, codebook_size=16, coarse=2, chunk=5, given=given,
        deduplicated=False,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(3)
        stages = AudioLMStages(shape)
    random = torch.Generator().manual_seed(0)

    def draw(size: int, *dimensions: int) -> Tensor:
        return torch.randint(0, size, dimensions, generator=random)

    told = [{"told": draw(8, 3, 1), **({"melody": draw(6, 2, 2)} if i % 2 else {})} for i in range(4)]
    units, codes = [draw(20, 4) for _ in range(4)], [draw(16, 4, 6) for _ in range(4)]
    optimiser = torch.optim.Adam(stages.parameters(), lr=1e-2)
    for _ in range(60):
        loss = stages.loss(units, codes, told)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert loss < 1.0
    for own, unit in zip(told, units, strict=True):
        ((said, over),) = stages.semantic.extend([stages.semantic.prefix(own)], [unit[None, :0]], 9, likeliest)
        assert over
        assert torch.equal(said[0], unit)


def test_music_follows_all_that_it_is_given(model: MusicLM) -> None:
    requests = [
        Request("music", text="a calm violin"),
        Request("music", text="loud drums", reference=tune(2.0)),
        Request("music", text="techno", audio=tune(0.5, 1)),
        Request("continuation", audio=tune(0.6, 2)),
    ]
    sampling = Sampling(max_seconds=0.4, seed=2)
    for asked, response in zip(requests, model.generate(requests, sampling), strict=True):
        (alone,) = model.generate([asked], sampling)
        assert response.audio is not None
        assert alone.audio is not None
        np.testing.assert_array_equal(alone.audio.samples, response.audio.samples)
        assert response.audio.length % 480 == 0
        assert response.ended == (response.audio.duration < 0.4)


def test_likelihood_is_that_of_the_units_told_nothing(model: MusicLM) -> None:
    sound = tune(1.0)
    (score,) = model.loglikelihood([sound])
    units, semantic = model.units(sound), model.stages.semantic
    assert score.tokens == len(units) == 25
    ids = semantic.ids(units[None])
    logits = functional.log_softmax(semantic(torch.cat([semantic.prefix({}), ids])[None])[0], dim=-1)
    expected = logits[:-1].gather(-1, ids[:, None]).sum()
    assert score.nats == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.slow
def test_every_check_of_language_models_passes() -> None:
    report = check(f"{FILE}:Tiny", Options(random_seed=0))
    assert [result for result in report.results if not result.ok] == []
    assert report.result("cache_is_exact").outcome == "passed"


def test_it_is_registered_and_says_that_nothing_was_published() -> None:
    (system,) = SYSTEMS
    assert find("musiclm") is system
    with pytest.raises(InvalidSystem, match="its weights were never published"):
        system.load(LoadOptions())
