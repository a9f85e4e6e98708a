"""The networks of dGSLM and pGSLM against fairseq's on equal weights."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from codecbench import weights
from codecbench.models.blocks import dialogue_lm, prosody_lm
from codecbench.models.blocks.backbone import BackboneShape
from codecbench.models.blocks.dialogue_lm import DialogueLM, DialogueShape
from codecbench.models.blocks.prosody_lm import ProsodyLM, ProsodyShape
from codecbench.models.blocks.unit_lm import gslm

GOLDEN = Path(__file__).parents[1] / "golden"
RECIPE = runpy.run_path(str(GOLDEN / "checkpoints.py"))
SHAPES: dict[str, Any] = json.loads((GOLDEN / "units.json").read_text())


def released(name: str) -> dict[str, Tensor]:
    return {key: torch.from_numpy(value) for key, value in RECIPE["content"](SHAPES[name], SHAPES["seed"], 1.0).items()}


def golden(name: str) -> Tensor:
    with np.load(GOLDEN / "units.npz") as file:
        return torch.from_numpy(file[name])


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def dialogue() -> DialogueLM:
    network = DialogueLM(DialogueShape(34, 16, 3, 2, 24, 2)).eval().requires_grad_(False)
    weights.load_state(network, dialogue_lm.own_names(released("dialogue")), Path("dialogue"))
    network.duration.bias.fill_(2.0)
    return network


def units_only(size: int = 34) -> Tensor:
    return torch.arange(size) >= 4


def likeliest(_request: int, logits: Tensor) -> Tensor:
    return logits.argmax(dim=-1)


def test_dialogue_against_fairseq(dialogue: DialogueLM) -> None:
    logits, durations = dialogue(golden("dialogue_tokens"))
    close(logits, golden("dialogue_logits"))
    close(durations, golden("dialogue_durations"))
    cache = dialogue.cache(1, 12)
    parts = [dialogue(golden("dialogue_tokens")[..., f : f + 1], cache)[0] for f in range(12)]
    close(torch.cat(parts, dim=2), golden("dialogue_logits"))


@pytest.mark.parametrize("use_cache", [True, False])
def test_greedy_dialogue_against_fairseq(dialogue: DialogueLM, use_cache: bool) -> None:
    """Units go on for as long as the model says, from where the prompt left its clock."""
    expected = golden("dialogue_greedy")[:, :-1]  # the end that fairseq puts at its limit
    prompt = golden("dialogue_tokens")[:, 0]
    frames = 1 + expected.shape[1] - prompt.shape[1]
    (found,) = dialogue_lm.generate(
        dialogue, [prompt], frames, allowed=units_only(), draw=likeliest, use_cache=use_cache
    )
    assert frames > 20
    assert torch.equal(found, expected[:, prompt.shape[1] - 1 :])
    lasts = torch.unique_consecutive(found[0], return_counts=True)[1]
    assert len(set(lasts.tolist())) > 1


@pytest.mark.parametrize("use_cache", [True, False])
def test_dialogues_of_unequal_length(dialogue: DialogueLM, use_cache: bool) -> None:
    whole = golden("dialogue_tokens")[:, 0]
    prompts = [whole[:, :5], whole, whole[:, :1]]
    options: dict[str, Any] = {"allowed": units_only(), "draw": likeliest}
    together = dialogue_lm.generate(dialogue, prompts, 15, use_cache=use_cache, **options)
    for prompt, found in zip(prompts, together, strict=True):
        (alone,) = dialogue_lm.generate(dialogue, [prompt], 15, **options)
        assert torch.equal(found, alone)


def test_likelihood_of_units_that_begin(dialogue: DialogueLM) -> None:
    tokens = golden("dialogue_tokens")[:, 0]
    nats = dialogue.loglikelihood(tokens)
    logits = golden("dialogue_logits")[:, 0].log_softmax(dim=-1)
    goes_on = 0
    for channel in range(2):
        for f in range(11):
            expected = float(logits[channel, f, tokens[channel, f + 1]])
            if tokens[channel, f] == tokens[channel, f + 1]:
                expected, goes_on = 0.0, goes_on + 1
            assert float(nats[channel, f]) == pytest.approx(expected, abs=1e-4)
    assert goes_on >= 4


def prosody(name: str, **options: Any) -> ProsodyLM:
    backbone: BackboneShape = gslm(16, 3, 2, 24)
    shape = ProsodyShape(backbone, 20, 6, 8, discrete=name == "discrete", **options)
    network = ProsodyLM(shape).eval().requires_grad_(False)
    state = {f"decoder.{key}": tensor for key, tensor in released(f"prosody_{name}").items()}
    state["decoder.embed_tokens.weight"] = state["decoder.output_projection.weight"]  # one tensor in fairseq
    weights.load_state(network, prosody_lm.own_names(state), Path(name))
    return network


@pytest.mark.parametrize("name", ["discrete", "continuous"])
def test_prosody_against_fairseq(name: str) -> None:
    network = prosody(name)
    streams = golden("prosody_tokens"), golden(f"{name}_lasts"), golden(f"{name}_heights")
    close(torch.cat(network(*streams), dim=-1), golden(f"{name}_out"))
    cache = network.backbone.cache(2, 11)
    parts = [torch.cat(network(*(s[:, f : f + 1] for s in streams), cache=cache), dim=-1) for f in range(11)]
    close(torch.cat(parts, dim=1), golden(f"{name}_out"))
    zeros = torch.zeros_like(streams[1]), torch.zeros_like(streams[2])
    deaf = prosody(name, deaf=True)
    close(torch.cat(deaf(*streams), dim=-1), torch.cat(network(streams[0], *zeros), dim=-1))


def test_streams_as_steps() -> None:
    """What the release's dataset gives for three units, up to the last that is heard."""
    units, lasts = torch.tensor([5, 6, 7]), torch.tensor([2, 3, 4])
    unit, last, height = prosody("discrete").steps(units, lasts, torch.tensor([1, 0, 3]))
    assert (unit.tolist(), last.tolist(), height.tolist()) == ([20, 5, 6, 7], [0, 0, 2, 3], [9, 8, 1, 0])
    unit, last, height = prosody("continuous").steps(units, lasts.float(), torch.tensor([0.1, 0.2, 0.3]))
    assert (unit.tolist(), last.tolist()) == ([20, 5, 6, 7], [0, 0, 2, 3])
    torch.testing.assert_close(height, torch.tensor([-5.0, 0.0, 0.1, 0.2]))


def greedy(_b: int, unit: Tensor, last: Tensor, height: Tensor) -> Any:
    if len(last) > 1:
        return unit.argmax(), last.argmax(), height.argmax()
    return unit.argmax(), last[0].round(), height[0]


@pytest.mark.parametrize("name", ["discrete", "continuous"])
@pytest.mark.parametrize("use_cache", [True, False])
def test_prosody_goes_on(name: str, use_cache: bool) -> None:
    """Against the model called anew for each step, and requests of unequal length against each alone."""
    network, kind = prosody(name), torch.long if name == "discrete" else torch.float
    prompts = [
        (torch.tensor([3, 4, 5]), torch.tensor([1, 2, 3], dtype=kind), torch.tensor([1, 2, 0], dtype=kind)),
        (torch.tensor([9]), torch.tensor([4], dtype=kind), torch.tensor([3], dtype=kind)),
    ]
    together = prosody_lm.generate(network, prompts, 8, draw=greedy, use_cache=use_cache)
    for prompt, found in zip(prompts, together, strict=True):
        own = [stream.clone() for stream in prompt]
        for step in range(9):
            unit, last, height = (each[0, -1] for each in network(*(s[None] for s in _steps(network, own))))
            unit[20:22], unit[23] = -torch.inf, -torch.inf
            if name == "discrete":
                last[6:], height[8:] = -torch.inf, -torch.inf
            drawn = greedy(0, unit, last, height)
            own[0] = torch.cat([own[0], drawn[0].view(1)])
            if step:
                own[1], own[2] = torch.cat([own[1], drawn[1].view(1)]), torch.cat([own[2], drawn[2].view(1)])
            if int(drawn[0]) == 22:
                break
        count = len(own[1])
        for stream, expected, past in zip(found, own, prompt, strict=True):
            torch.testing.assert_close(stream, expected[len(past) : count], rtol=1e-4, atol=1e-5)


def _steps(network: ProsodyLM, own: list[Tensor]) -> Any:
    """Streams whose prosody may be one short: the last unit's is not known, and not heard yet."""
    unit, last, height = own
    missing = len(unit) - len(last)
    return network.steps(unit, *(torch.cat([s, s.new_zeros(missing)]) for s in (last, height)))


def test_the_end_is_not_among_what_came() -> None:
    network = prosody("discrete")
    units = iter([7, 8, 22])

    def draw(*_: Any) -> Any:
        return torch.tensor(next(units)), torch.tensor(2), torch.tensor(3)

    prompt = (torch.tensor([3]), torch.tensor([1]), torch.tensor([1]))
    ((unit, last, height),) = prosody_lm.generate(network, [prompt], 9, draw=draw)
    assert (unit.tolist(), last.tolist(), height.tolist()) == ([7, 8], [2, 2], [3, 3])


def test_laplace() -> None:
    levels = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    found = prosody_lm.laplace(torch.tensor(2.0), 0.5, levels, positive=False)
    expected = torch.distributions.Laplace(2.0, 0.5).icdf(levels)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(found, expected)
    cut = prosody_lm.laplace(torch.tensor(0.3), 0.5, levels, positive=True)
    above = expected - 2.0 + 0.3
    assert float(cut.min()) >= 0
    assert float(cut.mean()) == pytest.approx(float(above[above > 0].mean()), rel=1e-3)


def test_prosody_likelihood() -> None:
    network = prosody("discrete")
    streams = torch.tensor([3, 4, 5]), torch.tensor([1, 2, 3]), torch.tensor([1, 2, 0])
    nats = prosody_lm.loglikelihood(network, streams)
    logits = network(*(s[None] for s in network.steps(*streams)))[0][0].log_softmax(dim=-1)
    torch.testing.assert_close(nats, logits[torch.arange(3), streams[0]])


def test_names_are_those_of_the_released_sizes() -> None:
    with torch.device("meta"):
        dialogue = DialogueLM(DialogueShape())
        prosody = ProsodyLM(ProsodyShape(gslm()))
    assert round(sum(p.numel() for p in dialogue.parameters()) / 1e6) == 23
    assert round(sum(p.numel() for p in prosody.parameters()) / 1e6) == 151
    assert prosody.shape.sizes == (104, 25, 36)
