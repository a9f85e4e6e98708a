"""The weights that come with the package: they load by name, offline, and their cards say what they are."""

from __future__ import annotations

import json

import numpy as np
import pytest

from codecbench.audio import Clip
from codecbench.models import small
from codecbench.models.base import LoadOptions
from codecbench.models.checks.runner import check
from codecbench.models.checks.subject import Options

CARRIED = [system for system in small.SYSTEMS if system.card.package_weights]
MODELS = (
    "audiolm-small", "gslm-small", "musicgen-small-digits", "soundstorm-small", "uniaudio-small", "valle-small",
    "viola-small",
)  # fmt: skip


def voice(seconds: float = 1.0) -> Clip:
    """Harmonics that swell and fade, at the level of speech."""
    time = np.arange(round(seconds * small.SAMPLE_RATE)) / small.SAMPLE_RATE
    tones = sum(np.sin(2 * np.pi * 120 * k * time + k) / k for k in range(1, 20))
    return Clip((0.05 * tones * np.sin(np.pi * 3 * time) ** 2)[None].astype(np.float32), small.SAMPLE_RATE)


def test_every_family_has_its_weights() -> None:
    assert [system.card.name for system in CARRIED] == [system.card.name for system in small.SYSTEMS]


@pytest.mark.parametrize("system", CARRIED, ids=lambda system: system.card.name)
def test_weights_load_by_name_and_code_better_than_random_ones(system: type[small.Small]) -> None:
    clip = voice()

    def error(options: LoadOptions) -> float:
        codec = system.load(options)
        (output,) = codec.decode(codec.encode([clip], system.card.points[-1]))
        ours, theirs = (np.log10(np.abs(np.fft.rfft(x[0].reshape(-1, 400))) + 1e-3) for x in (output, clip.samples))
        return float(np.abs(ours - theirs).mean())

    assert error(LoadOptions()) < 0.75 * error(LoadOptions(random_seed=0))


@pytest.mark.parametrize("system", CARRIED, ids=lambda system: system.card.name)
def test_the_card_says_what_they_are(system: type[small.Small]) -> None:
    path = small.FOLDER / f"{system.card.name}.safetensors"
    facts = small.metadata(path)
    assert path.stat().st_size < 8e6
    assert facts["codec"] == system.card.name
    assert facts["hardware"]
    assert int(facts["steps"]) > 0
    minutes = round(float(facts["data_seconds"]) / 60)
    assert system.card.label.startswith(f"small, trained here, {facts['steps']} steps on {minutes} min of ")
    assert minutes == (50 if system in small.FAMILIES else 27)
    assert system.card.weights_licence == facts["licence"]
    assert system.card.track == "small"
    assert path.with_suffix(".md").is_file()


def test_all_had_the_same_steps_and_batch() -> None:
    facts = [small.metadata(small.FOLDER / f"{system.card.name}.safetensors") for system in small.FAMILIES]
    recipes = [json.loads(each["recipe"]) for each in facts]
    assert len({(f["steps"], r["batch"], r["seconds"]) for f, r in zip(facts, recipes, strict=True)}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_check_of_a_language_model_passes_with_them(name: str) -> None:
    report = check(name, Options())
    assert [result for result in report.results if not result.ok] == []
