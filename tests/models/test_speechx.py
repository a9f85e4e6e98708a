"""SpeechX in a tiny size: what its prompts are made of, where an edit is, and the checks."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from codecbench.audio import Clip
from codecbench.errors import InvalidSystem
from codecbench.models.base import LoadOptions, Request, Sampling
from codecbench.models.checks.runner import check
from codecbench.models.checks.subject import Options
from codecbench.models.registry import find
from codecbench.models.speechx import LAYOUTS, TOKENS, SpeechX, arrange, edited

SYSTEMS = Path(__file__).parents[1] / "rogues" / "tiny_valle.py"
TinySpeechX = cast("type[SpeechX]", find(f"{SYSTEMS}:TinySpeechX"))
NS, SR, TSE, SOE, MASK, EOE = range(1025, 1031)


def noise(frames: int, seed: int = 0) -> Clip:
    samples = 0.3 * np.random.default_rng(seed).standard_normal((1, 320 * frames))
    return Clip(samples.astype(np.float32), 24_000)


@pytest.fixture(scope="module")
def model() -> SpeechX:
    return cast("SpeechX", TinySpeechX.load(LoadOptions(random_seed=0)))


@pytest.mark.slow
def test_every_check_of_language_models_passes() -> None:
    """In a tiny size: on random weights of the paper's size they take minutes to hours on a CPU."""
    report = check(f"{SYSTEMS}:TinySpeechX", Options(random_seed=0))
    assert [result for result in report.results if not result.ok] == []
    assert report.result("cache_is_exact").outcome == "passed"


def test_every_task_has_a_layout_of_known_parts() -> None:
    assert set(SpeechX.card.tasks) | {"noisy editing"} == set(LAYOUTS)
    parts = {"audio", "reference", "before", "edited", "after"}
    assert {name for layout in LAYOUTS.values() for name in layout} == parts | set(TOKENS)


def first_row(model: SpeechX, request: Request) -> list[int]:
    codes = model.prompt(request).codes
    tokens = codes[0] > 1023
    assert bool((codes[1:, tokens] == 0).all())
    return cast("list[int]", codes[0].tolist())


def test_prompts(model: SpeechX, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the paper's table of prompts."""
    audio, reference = noise(10), noise(6, seed=1)
    a, r = (cast("list[int]", model.codec.encode(clip)[0].tolist()) for clip in (audio, reference))
    assert first_row(model, Request("tts", text="new", audio=audio, transcript="old")) == a
    assert first_row(model, Request("tts", text="new")) == []
    assert first_row(model, Request("enhancement", audio=audio)) == [NS, *a]
    assert first_row(model, Request("removal", audio=audio)) == [SR, *a]
    assert first_row(model, Request("extraction", audio=audio, reference=reference)) == [*r, TSE, *a]
    edit = Request("editing", audio=audio, transcript="aaaa bbbb", text="aaaa cccc")
    assert first_row(model, edit) == [*a[:5], SOE, MASK, EOE]
    monkeypatch.setattr(type(model), "keeps_noise", True)
    assert first_row(model, edit) == [*a[:5], SOE, *a[5:], EOE]


def test_what_is_read(model: SpeechX) -> None:
    def read(request: Request) -> bytes:
        return bytes(token - 3 for token in model.prompt(request).text.tolist()[1:-1])

    audio = noise(4)
    assert read(Request("tts", text="new", audio=audio, transcript="old ")) == b"old new"
    assert read(Request("enhancement", audio=audio)) == b""
    assert read(Request("extraction", audio=audio, reference=audio, transcript="words")) == b"words"
    assert read(Request("editing", audio=audio, transcript="old", text="new")) == b"new"


def test_tasks_and_references_matter(model: SpeechX) -> None:
    audio = noise(10)
    asked = [
        Request("enhancement", audio=audio), Request("removal", audio=audio),
        Request("enhancement", audio=audio, transcript="words"),
        Request("extraction", audio=audio, reference=noise(6, seed=1)),
        Request("extraction", audio=audio, reference=noise(6, seed=2)),
    ]  # fmt: skip
    said = model.codec.encode(noise(5, seed=3))
    assert len({float(model.lm.loglikelihood(model.prompt(own), said).sum()) for own in asked}) == len(asked)
    with pytest.raises(ValueError, match="needs a reference"):
        model.generate([Request("extraction", audio=audio)], Sampling())


@pytest.mark.parametrize(
    ("transcript", "text", "span"),
    [
        ("", "anything", (0, 100)),
        ("aaaa bbbb cccc dddd", "aaaa xx cccc dddd", (25, 50)),
        ("aaaa bbbb cccc dddd", "xx yy cccc dddd", (0, 50)),
        ("aaaa bbbb cccc dddd", "aaaa bbbb cccc e", (75, 100)),
        ("aaaa bbbb cccc dddd", "aaaa bbbb x cccc dddd", (50, 50)),
        ("aaaa bbbb cccc dddd", "aaaa cccc dddd", (25, 50)),
        ("aaaa bbbb", "aaaa bbbb", (100, 100)),
        ("aaaa aaaa", "aaaa", (50, 100)),
    ],
)
def test_where_an_edit_is(transcript: str, text: str, span: tuple[int, int]) -> None:
    assert edited(transcript, text, 100) == span


WORDS = st.lists(st.sampled_from(["a", "bb", "ccc"]), max_size=6).map(" ".join)


@given(WORDS, WORDS, st.integers(0, 200))
def test_an_edit_is_within_the_recording(transcript: str, text: str, frames: int) -> None:
    start, stop = edited(transcript, text, frames)
    assert 0 <= start <= stop <= frames


def test_the_parts_of_an_edit_are_the_recording(model: SpeechX) -> None:
    parts = model.parts(Request("editing", audio=noise(10), transcript="a b c", text="a x c"))
    assert torch.equal(torch.cat([parts["before"], parts["edited"], parts["after"]], dim=1), parts["audio"])
    assert parts["reference"].shape == (8, 0)


def test_training_reaches_the_tokens_of_tasks() -> None:
    network = TinySpeechX.build(0)
    random = torch.Generator().manual_seed(0)

    def codes(frames: int) -> Tensor:
        return torch.randint(0, 1024, (8, frames), generator=random)

    from codecbench.models.blocks.valle import Prompt

    parts = {"audio": codes(5), "reference": codes(3)}
    prompts = [Prompt(torch.tensor([1, 2]), arrange(LAYOUTS[task], parts, 1024)) for task in ("removal", "extraction")]
    network.loss(prompts, [codes(6), codes(4)], random).backward()  # type: ignore[no-untyped-call]
    for table in (network.coarse.codes, network.fine.codes[0]):
        gradient = cast("Tensor", cast("torch.nn.Embedding", table).weight.grad).abs().sum(dim=1)
        assert bool((gradient[[SR, TSE]] > 0).all())
        assert bool((gradient[[NS, SOE, MASK, EOE]] == 0).all())


def test_files_of_ones_own(tmp_path: Path, model: SpeechX, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import save_model

    from codecbench.models import valle_files

    with pytest.raises(InvalidSystem, match="its weights were never published"):
        TinySpeechX.load(LoadOptions())
    save_model(model.lm, str(tmp_path / "model.safetensors"))
    monkeypatch.setattr(valle_files, "encodec_file", lambda _folder: None)  # random weights
    system = TinySpeechX.load(LoadOptions(weights=tmp_path))
    request = Request("enhancement", audio=noise(10))
    own = cast("SpeechX", system).lm.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in model.lm.state_dict().items())
    assert system.generate([request], Sampling(max_seconds=0.1))[0].tokens == 7 * 8
