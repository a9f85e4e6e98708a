"""The networks of VALL-E and VALL-E X, in a tiny size, against the open implementations on equal weights."""

from __future__ import annotations

import json
import runpy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from codecbench import weights
from codecbench.errors import InvalidSystem
from codecbench.models.blocks import autoregressive
from codecbench.models.blocks.valle import Prompt, ValleLM, ValleShape, from_released

GOLDEN = Path(__file__).parents[1] / "golden"
RECIPE = runpy.run_path(str(GOLDEN / "checkpoints.py"))
TINY = ValleShape(dimension=32, layers=2, heads=4, text=20, codebooks=4, codebook_size=64)
CASES: dict[str, dict[str, Any]] = {
    "mode0": {"prefix_mode": 0}, "mode1": {"prefix_mode": 1, "starts": True}, "mode2": {"prefix_mode": 2},
    "apart": {"starts": True, "tied": False, "norm_first": False}, "languages": {"starts": True, "languages": 3},
}  # fmt: skip


def golden(case: str) -> tuple[ValleLM, dict[str, Tensor]]:
    """The tiny model with the open implementation's weights, and what that gave."""
    shapes = json.loads((GOLDEN / "valle.json").read_text())
    state = {k: torch.from_numpy(v) for k, v in RECIPE["content"](shapes[case], shapes["seed"], 1.0).items()}
    shape = replace(TINY, **CASES[case])
    if shape.tied:
        for k in range(shape.codebooks - 2):
            state[f"nar_predict_layers.{k}.weight"] = state[f"nar_audio_embeddings.{k + 2}.word_embeddings.weight"]
    network = ValleLM(shape).requires_grad_(False)
    weights.load_state(network, from_released(state), Path(case))
    with np.load(GOLDEN / "valle.npz") as file:
        names = [name for name in file if name.startswith(f"{case}_")]
        return network, {name.removeprefix(f"{case}_"): torch.from_numpy(file[name]) for name in names}


def prompt_of(case: str, values: dict[str, Tensor]) -> Prompt:
    said = torch.tensor([0, 3, 4, 5]) if case == "mode2" else None  # of four entries that the voice says
    languages = torch.tensor([2, 2, 1, 0, 0, 1]) if case == "languages" else None
    return Prompt(values["text"], values["prompt"], said=said, text_languages=languages)


def likeliest(_request: int, logits: Tensor, _found: Sequence[int]) -> int:
    return int(logits.argmax())


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_logits_against_the_open_implementations(case: str) -> None:
    network, values = golden(case)
    prompt, codes = prompt_of(case, values), values["codes"]
    (coarse,) = autoregressive.logits(network.coarse, [network.coarse.open(prompt)], [codes[0]])
    close(coarse[[0, -1]], values["coarse"])
    for level in range(1, 4):
        (fine,) = network.fine([prompt], [codes], level)
        close(fine[-12:], values["fine"][level - 1])
        assert torch.equal(fine.argmax(dim=-1), codes[level])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("use_cache", [True, False])
def test_greedy_codes_against_the_open_implementations(case: str, use_cache: bool) -> None:
    network, values = golden(case)
    frames = values["codes"].shape[1]
    ((codes, ended),) = network.generate([prompt_of(case, values)], frames, likeliest, use_cache=use_cache)
    assert torch.equal(codes, values["codes"])
    assert not ended


def test_losses_against_the_open_implementation() -> None:
    network, values = golden("mode0")
    text, codes = values["loss_text"], values["loss_codes"]
    coarse, fine, level = values["losses"].tolist()
    opening = network.coarse.open(Prompt(text, codes[:, :1]))  # which it is not asked for, as codes have no start
    close(autoregressive.loss(network.coarse, [opening], [codes[0, 1:]], 64), torch.tensor(coarse, dtype=torch.float32))
    (found,) = network.fine([Prompt(text, codes[:, :0])], [codes], int(level))
    close(functional.cross_entropy(found, codes[int(level)]), torch.tensor(fine, dtype=torch.float32))


def test_names_and_shapes_are_those_of_the_released_checkpoint() -> None:
    shapes = json.loads((GOLDEN / "valle.json").read_text())["vallex-checkpoint"]
    state = from_released({name: torch.empty(*shape, device="meta") for name, shape in shapes.items()})
    with torch.device("meta"):
        own = ValleLM(ValleShape(text=2048, starts=True, languages=3)).state_dict()
    assert {name: tensor.shape for name, tensor in state.items()} == {name: t.shape for name, t in own.items()}
    assert len(own) > 400


def test_another_shape_is_refused() -> None:
    network, _ = golden("mode1")
    other = ValleLM(replace(TINY, starts=True, languages=2))
    with pytest.raises(InvalidSystem, match="does not fit the model: 2 missing"):
        weights.load_state(other, network.state_dict(), Path("other"))


def examples(shape: ValleShape, count: int = 4) -> tuple[list[Prompt], list[Tensor]]:
    random = torch.Generator().manual_seed(2)
    prompts, codes = [], []
    for b in range(count):
        text = torch.randint(3, shape.text, (4 + b,), generator=random)
        prompts.append(Prompt(text, torch.zeros(shape.codebooks, 0, dtype=torch.long)))
        codes.append(torch.randint(0, shape.codebook_size, (shape.codebooks, 8 + 2 * b), generator=random))
    return prompts, codes


@pytest.mark.parametrize("use_cache", [True, False])
def test_company_changes_no_code(use_cache: bool) -> None:
    network, _ = golden("mode1")
    prompts, codes = examples(network.shape)
    prompts = [replace(prompt, codes=own[:, :b]) for b, (prompt, own) in enumerate(zip(prompts, codes, strict=True))]
    together = network.generate(prompts, 10, likeliest, use_cache=use_cache)
    for prompt, (found, _) in zip(prompts, together, strict=True):
        assert torch.equal(found, network.generate([prompt], 10, likeliest)[0][0])


def test_it_overfits_four_examples_and_says_them_to_their_ends() -> None:
    shape = ValleShape(dimension=32, layers=1, heads=4, text=20, codebooks=3, codebook_size=16)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ValleLM(shape)
    prompts, codes = examples(shape)
    optimiser = torch.optim.AdamW(network.parameters(), 5e-3, weight_decay=0)
    random = torch.Generator().manual_seed(0)
    first = network.loss(prompts, codes, random).item()
    for _ in range(100):
        optimiser.zero_grad()
        network.loss(prompts, codes, random).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    network.requires_grad_(False)
    after = [network.loss(prompts, codes, random).item() for _ in range(8)]  # of other codebooks after other beginnings
    assert np.mean(after) < 0.5 < 2 < first
    for (found, ended), own in zip(network.generate(prompts, 30, likeliest), codes, strict=True):
        assert ended
        assert torch.equal(found[0], own[0])
        assert found.shape == own.shape
    nats = network.loglikelihood(prompts[0], codes[0])
    assert nats.shape == codes[0].shape
    assert float(nats[0].mean()) > -0.05


def test_the_first_network_hears_the_past_and_the_second_all() -> None:
    network, values = golden("mode1")
    prompt, codes = prompt_of("mode1", values), values["codes"][:, :10]
    other = codes.clone()
    other[:, 9] = (other[:, 9] + 1) % 64
    before = network.loglikelihood(prompt, codes)
    after = network.loglikelihood(prompt, other)
    close(before[0, :9], after[0, :9])
    assert bool((before[1, :9] != after[1, :9]).all())
