"""SoundStorm: its network against an open implementation, its schedule and prompts by hand, and what it generates."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from math import cos, floor, pi
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from codecbench import weights
from codecbench.audio import Clip
from codecbench.errors import InvalidSystem
from codecbench.models.base import LoadOptions, Request, Sampling
from codecbench.models.blocks import masked_lm
from codecbench.models.blocks.conformer import ConformerShape
from codecbench.models.blocks.masked_lm import UNKNOWN, MaskedLM, MaskedLMShape, SoundStormStages
from codecbench.models.blocks.stage_lm import Stage, t5_decoder
from codecbench.models.blocks.vocabulary import Range
from codecbench.models.checks.runner import check
from codecbench.models.checks.subject import Options
from codecbench.models.registry import find
from codecbench.models.soundstorm import SYSTEMS, Conformer, SoundStorm, SoundStormConversion

FILE = Path(__file__).parents[1] / "rogues" / "tiny_soundstorm.py"
GOLDEN = Path(__file__).parents[1] / "golden"
RECIPE = runpy.run_path(str(GOLDEN / "checkpoints.py"))
SHAPE = MaskedLMShape(ConformerShape(32, 2, 4, 8, 5), units=20, codebooks=3, codebook_size=16)


def build() -> MaskedLM:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = MaskedLM(SHAPE)
        for parameter in network.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return network


NETWORK = build().requires_grad_(False)


def tokens(size: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, size, shape, generator=torch.Generator().manual_seed(seed))


def sampled(seed: int) -> Callable[[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda logits: torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)[:, 0]


def unknown(prompt: Tensor, frames: int) -> Tensor:
    return functional.pad(prompt, (0, frames), value=UNKNOWN)


def clip(seconds: float, seed: int = 0) -> Clip:
    noise = np.random.default_rng(seed).standard_normal((1, round(seconds * 16_000)))
    return Clip((0.2 * noise).astype(np.float32), 16_000)


def test_the_network_against_an_open_implementation() -> None:
    shapes = json.loads((GOLDEN / "soundstorm.json").read_text())
    filled = RECIPE["content"](shapes["tiny"], shapes["seed"], 1.0)
    network = MaskedLM(MaskedLMShape(ConformerShape(16, 2, 2, 12, 31), 20, 3, 20)).requires_grad_(False)
    state = {name: torch.from_numpy(value) for name, value in filled.items()}
    weights.load_state(network, masked_lm.from_released(state), Path("tiny"))
    with np.load(GOLDEN / "soundstorm.npz") as file:
        codes, units, expected = (torch.from_numpy(file[name]) for name in ("codes", "units", "logits"))
    assert (codes == 20).any()
    found = network(units, torch.where(codes == 20, UNKNOWN, codes))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_names_and_shapes_are_those_of_the_released_size() -> None:
    shapes = json.loads((GOLDEN / "soundstorm.json").read_text())["released"]
    state = masked_lm.from_released({name: torch.empty(*shape, device="meta") for name, shape in shapes.items()})
    shape = ConformerShape(**vars(SoundStormConversion.conformer))
    with torch.device("meta"):
        own = MaskedLM(MaskedLMShape(shape, 1024, 7, 1024)).state_dict()
    assert {name: tensor.shape for name, tensor in state.items()} == {name: t.shape for name, t in own.items()}
    assert len(own) == 356


def test_the_paper_s_size() -> None:
    with torch.device("meta"):
        network = MaskedLM(MaskedLMShape(ConformerShape(**vars(Conformer())), 1024, 12, 1024))
    assert 0.33e9 < sum(parameter.numel() for parameter in network.parameters()) < 0.4e9


def test_padding_is_not_heard() -> None:
    units, codes = tokens(20, 2, 9), tokens(16, 2, 3, 9)
    visible = torch.arange(9) < torch.tensor([[5], [9]])
    together = NETWORK(units, codes, visible)
    alone = NETWORK(units[:1, :5], codes[:1, :, :5])
    torch.testing.assert_close(together[0, :, :5], alone[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together[1], NETWORK(units[1:], codes[1:])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prompt", [0, 150])
def test_30_seconds_take_27_passes_and_masks_fall_as_the_cosine(prompt: int) -> None:
    small = MaskedLM(MaskedLMShape(ConformerShape(8, 1, 1, 8, 3), 20, 12, 16)).requires_grad_(False)
    masked: list[Tensor] = []
    units, past = tokens(20, 1500 + prompt), tokens(16, 12, prompt)
    found = masked_lm.fill(
        small, units, unknown(past, 1500), [16] + [1] * 11, sampled(0),
        watch=lambda codes: masked.append((codes == UNKNOWN).sum(dim=1)),
    )  # fmt: skip
    assert len(masked) == 27
    first = [int(counts[0]) for counts in masked[:16]]
    assert first == [floor(1500 * cos(pi / 2 * i / 16)) for i in range(16)]
    for k, counts in enumerate(masked[15:]):
        assert counts.tolist() == [0] * k + counts[k : k + 1].tolist() + [1500] * (11 - k)
    assert ((found >= 0) & (found < 16)).all()


@given(prompt=st.integers(0, 12), frames=st.integers(1, 30), first=st.integers(1, 20), seed=st.integers(0, 99))
@settings(max_examples=30)
def test_prompts_are_never_touched_and_what_is_accepted_stays(prompt: int, frames: int, first: int, seed: int) -> None:
    past, seen = tokens(16, 3, prompt, seed=seed), list[Tensor]()
    found = masked_lm.fill(
        NETWORK, tokens(20, prompt + frames, seed=seed), unknown(past, frames), [first, 1, 1], sampled(seed),
        watch=lambda codes: seen.append(codes.clone()),
    )  # fmt: skip
    assert torch.equal(found[:, :prompt], past)
    assert not (found == UNKNOWN).any()
    for before, after in zip(seen, [*seen[1:], found], strict=True):
        known = before != UNKNOWN
        assert torch.equal(after[known], before[known])
        assert (after == UNKNOWN).sum() < (before == UNKNOWN).sum()


def test_the_surest_are_accepted_first_and_the_last_pass_is_greedy() -> None:
    units, seen = tokens(20, 12), list[Tensor]()
    found = masked_lm.fill(
        NETWORK, units, unknown(tokens(16, 3, 0), 12), [4, 1, 1], lambda logits: logits.argmin(dim=-1),
        watch=lambda codes: seen.append(codes.clone()),
    )  # fmt: skip
    logits = functional.log_softmax(NETWORK(units[None], seen[0][None])[0, 0], dim=-1)
    accepted = seen[1][0] != UNKNOWN
    worst = logits.amin(dim=-1)
    assert set(accepted.nonzero()[:, 0].tolist()) == set(worst.topk(int(accepted.sum())).indices.tolist())
    assert torch.equal(seen[1][0][accepted], logits.argmin(dim=-1)[accepted])
    last = NETWORK(units[None], seen[3][None])[0, 0].argmax(dim=-1)
    left = seen[3][0] == UNKNOWN
    assert torch.equal(found[0][left], last[left])
    for k in (1, 2):
        assert torch.equal(found[k], NETWORK(units[None], seen[3 + k][None])[0, k].argmax(dim=-1))


@given(codebooks=st.integers(1, 5), frames=st.integers(1, 20), seed=st.integers(0, 999))
@settings(max_examples=60)
def test_what_training_hides(codebooks: int, frames: int, seed: int) -> None:
    codes = tokens(9, codebooks, frames, seed=seed)
    known, asked = masked_lm.hide(codes, torch.Generator().manual_seed(seed))
    hidden = known == UNKNOWN
    assert torch.equal(known[~hidden], codes[~hidden])
    (level,) = set(asked.nonzero()[:, 0].tolist())
    assert not hidden[:level].any()
    assert torch.equal(hidden[level], asked[level])
    for finer in hidden[level + 1 :]:
        start = frames - int(finer.sum())
        assert finer[start:].all()
        assert not asked[level, :start].any()


def test_likelihood_by_hand() -> None:
    units, codes = tokens(20, 8), tokens(16, 3, 8)
    found = masked_lm.loglikelihood(NETWORK, units, codes)
    for k in range(3):
        known = torch.cat([codes[:k], torch.full((3 - k, 8), UNKNOWN)])
        logits = NETWORK(units[None], known[None])[0, k].log_softmax(dim=-1)
        expected = [float(logits[f, codes[k, f]]) for f in range(8)]
        np.testing.assert_allclose(found[k].numpy(), expected, rtol=1e-4)


def test_a_unit_stands_for_two_frames() -> None:
    semantic = Stage(t5_decoder(32, 1, 4), (), Range("semantic", 20), ends=True)
    stages, units = SoundStormStages(semantic, NETWORK, 2), torch.tensor([3, 1, 4])
    assert stages.spread(units, 6).tolist() == [3, 3, 1, 1, 4, 4]
    assert stages.spread(units, 8).tolist() == [3, 3, 1, 1, 4, 4, 4, 4]
    assert stages.spread(units, 5).tolist() == [3, 3, 1, 1, 4]
    assert stages.spread(units[:0], 0).tolist() == []


def test_it_learns_four_examples() -> None:
    network = build()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        semantic = Stage(t5_decoder(32, 2, 4), (Range("text", 256),), Range("semantic", 20), ends=True)
    stages = SoundStormStages(semantic, network, 2)
    units, codes = [tokens(20, 4, seed=s) for s in range(4)], [tokens(16, 3, 8, seed=s) for s in range(4)]
    texts = [{"text": torch.tensor([list(word.encode())])} for word in ("one", "two", "three", "four")]
    random = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(stages.parameters(), lr=1e-2)
    losses = []
    for _ in range(120):
        loss = stages.loss(units, codes, random, texts)
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert np.mean(losses[-20:]) < 0.5 < np.mean(losses[:5])
    for text, unit, own in zip(texts, units, codes, strict=True):
        ((said, over),) = semantic.extend([semantic.prefix(text)], [own[:1, :0]], 9, lambda _, x: x.argmax())
        assert over
        assert torch.equal(said[0], unit)
        found = masked_lm.fill(
            network, stages.spread(said[0], 8), unknown(own[:, :2], 6), [4, 1, 1], lambda x: x.argmax(dim=-1)
        )
        assert (found == own).float().mean() > 0.8  # by chance 1 / 16, of what is unknown


@pytest.fixture(scope="module")
def model() -> SoundStorm:
    return cast("SoundStorm", find(f"{FILE}:Tiny").load(LoadOptions(random_seed=0)))


@pytest.fixture(scope="module")
def converter() -> SoundStormConversion:
    return cast("SoundStormConversion", find(f"{FILE}:TinyConversion").load(LoadOptions(random_seed=0)))


def test_speech_follows_its_prompt_and_its_text(model: SoundStorm) -> None:
    requests = [
        Request("continuation", audio=clip(0.5)),
        Request("tts", text="good morning"),
        Request("tts", text="good morning", audio=clip(0.6, 1), transcript="a voice"),
    ]
    sampling = Sampling(max_seconds=0.8, seed=5)
    for asked, response in zip(requests, model.generate(requests, sampling), strict=True):
        (alone,) = model.generate([asked], sampling)
        assert response.audio is not None
        assert alone.audio is not None
        np.testing.assert_array_equal(alone.audio.samples, response.audio.samples)
        assert response.audio.length % 640 == 0
        assert response.ended == (response.audio.duration < 0.8)
    texts = [bytes(model.told(asked)["text"][0].tolist()) for asked in requests[1:]]
    assert texts == [b"good morning", b"a voice good morning"]


def test_conversion_keeps_what_is_said(converter: SoundStormConversion) -> None:
    asked = Request("conversion", audio=clip(0.51), reference=clip(0.7, 1))
    (response,) = converter.generate([asked], Sampling(seed=1))
    assert response.audio is not None
    assert response.audio.length == clip(0.51).length
    assert response.tokens == 7 * 26
    (other,) = converter.generate([Request("conversion", audio=clip(0.51), reference=clip(0.7, 2))], Sampling(seed=1))
    assert other.audio is not None
    assert (other.audio.samples != response.audio.samples).any()
    (short,) = converter.generate([asked], Sampling(max_seconds=0.25))
    assert short.audio is not None
    assert short.audio.duration == 0.25


def test_the_released_layout_is_read(
    converter: SoundStormConversion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """The network's file; that of the codec is as its own tests have it."""
    system = type(converter)
    shapes = json.loads((GOLDEN / "soundstorm.json").read_text())["tiny"]
    zeros = {name: torch.zeros(shape) for name, shape in shapes.items()}
    released = dict(zip(masked_lm.from_released(zeros), shapes, strict=True))
    state = {}
    for name, tensor in converter._network.state_dict().items():
        linear = len(shapes[released[name]]) == 3 and name.startswith("conformer.") and tensor.ndim == 2
        value = tensor[None, :, None] if name.endswith(".gain") else tensor[..., None] if linear else tensor
        state[released[name]] = value.clone()
    assert sum(tensor.ndim == 3 for tensor in state.values()) == 2 * 4 + 1
    network, codec = (tmp_path / file.name for file in system.card.weights)
    torch.save(state, network)
    with pytest.raises(InvalidSystem, match=f"no such file or folder for its weights: {codec}"):
        system.load(LoadOptions(weights=tmp_path))
    codec.touch()
    monkeypatch.setattr(system.codec, "load", lambda options: converter._codec if options.weights == codec else None)
    asked, sampling = Request("conversion", audio=clip(0.3), reference=clip(0.4, 1)), Sampling(temperature=0)
    (expected,) = converter.generate([asked], sampling)
    (found,) = system.load(LoadOptions(weights=tmp_path)).generate([asked], sampling)
    assert expected.audio is not None
    assert found.audio is not None
    np.testing.assert_array_equal(found.audio.samples, expected.audio.samples)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Tiny", "TinyConversion"])
def test_every_check_of_language_models_passes(name: str) -> None:
    report = check(f"{FILE}:{name}", Options(random_seed=0))
    assert [result for result in report.results if not result.ok] == []


def test_systems_are_registered() -> None:
    assert len(SYSTEMS) == 2
    for system in SYSTEMS:
        assert find(system.card.name) is system
    with pytest.raises(InvalidSystem, match="its weights were never published"):
        SoundStorm.load(LoadOptions())
