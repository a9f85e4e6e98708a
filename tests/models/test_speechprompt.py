"""SpeechPrompt against the second version's own code on equal weights; prompts that are learnt, and their files."""

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
from codecbench.audio import Clip
from codecbench.errors import InvalidSystem
from codecbench.models import speechprompt
from codecbench.models.base import LoadOptions, Request, Sampling
from codecbench.models.blocks import prompts, unit_lm
from codecbench.models.blocks.prompts import PromptedLM, SoftPrompt
from codecbench.models.blocks.unit_lm import UnitLM, UnitLMShape
from codecbench.models.checks.runner import check
from codecbench.models.checks.subject import Options
from codecbench.models.registry import find

GOLDEN = Path(__file__).parents[1] / "golden"
RECIPE = runpy.run_path(str(GOLDEN / "checkpoints.py"))
SHAPES: dict[str, Any] = json.loads((GOLDEN / "units.json").read_text())
SYSTEMS = Path(__file__).parents[1] / "rogues" / "tiny_units.py"
NAMES = ("TinySpeechPrompt", "TinySpeechPromptV2")


def golden(name: str) -> Tensor:
    with np.load(GOLDEN / "units.npz") as file:
        return torch.from_numpy(file[name])


def released() -> dict[str, Tensor]:
    content = RECIPE["content"](SHAPES["prompted"], SHAPES["seed"], 1.0)
    return {f"decoder.{key}": torch.from_numpy(value) for key, value in content.items()}


def prompted() -> PromptedLM:
    state = released()
    network = UnitLM(UnitLMShape(unit_lm.gslm(16, 3, 2, 24), 16, scaled=True))
    own = {key: tensor for key, tensor in state.items() if not any(part in key for part in ("prompt", "sep_embed"))}
    own["decoder.embed_tokens.weight"] = own["decoder.output_projection.weight"]  # one tensor in fairseq
    weights.load_state(network, unit_lm.from_fairseq(own), Path("prompted"))
    return PromptedLM(network, prompts.from_released(state)).eval().requires_grad_(False)


def test_answers_against_speechprompt_v2() -> None:
    model = prompted()
    tokens, expected = golden("prompted_tokens"), golden("prompted_out")[:, 4:]
    assert expected.shape == (2, 9, 7)
    assert model.prompt.classes == 3
    torch.testing.assert_close(model(tokens), expected, rtol=1e-4, atol=1e-5)
    for row, wanted in zip(tokens, expected, strict=True):
        cache = model.cache(9)
        parts = [model(row[None, f : f + 1], cache) for f in range(9)]
        torch.testing.assert_close(torch.cat(parts, dim=1)[0], wanted, rtol=1e-4, atol=1e-5)


def test_deep_prompts_take_the_place_of_keys_and_values() -> None:
    """Step by step from the description: the prompt's own keys and values are those of the deep prompt alone."""
    model = prompted()
    tokens = golden("prompted_tokens")[:1]
    shallow = SoftPrompt(4, 16, 0).requires_grad_(False)
    shallow.inputs.copy_(model.prompt.inputs)
    shallow.separator.copy_(model.prompt.separator)
    without = PromptedLM(model.network, shallow)(tokens)
    same = SoftPrompt(4, 16, 3).requires_grad_(False)
    same.load_state_dict(shallow.state_dict() | {"keys": torch.zeros(3, 4, 16), "values": torch.zeros(3, 4, 16)})
    x = torch.cat(
        [shallow.inputs[None], model.network.backbone._placed(_embedded(model, tokens), torch.arange(9)[None])], 1
    )
    for index, layer in enumerate(model.network.backbone.layers):
        normed = layer.attention_norm(x)  # type: ignore[operator]
        same.keys[index] = same.values[index] = normed[0, :4]
        x = layer(x, 0, _call(x))
    torch.testing.assert_close(PromptedLM(model.network, same)(tokens), without, rtol=1e-4, atol=1e-5)
    same.values[0] += 1
    assert not torch.allclose(PromptedLM(model.network, same)(tokens), without)


def _embedded(model: PromptedLM, tokens: Tensor) -> Tensor:
    own: Tensor = model.network.embedding(tokens)
    own[tokens == 0] = model.prompt.separator
    return own * 4.0


def _call(x: Tensor) -> Any:
    from codecbench.models.blocks.backbone import _Call

    steps = x.shape[1]
    return _Call(
        torch.arange(steps)[None], steps, torch.ones(steps, steps).tril().bool()[None, None], None, None, None, None
    )


def likeliest(logits: Tensor) -> Tensor:
    return logits.argmax()


@pytest.mark.parametrize("use_cache", [True, False])
def test_answer(use_cache: bool) -> None:
    model = prompted()
    tokens = golden("prompted_tokens")[0, :6]
    allowed = torch.tensor([False, False, True, False, True, True, True])
    found = prompts.answer(model, tokens, 5, allowed=allowed, draw=likeliest, use_cache=use_cache)
    own = tokens
    for output in found:
        logits = model(own[None])[0, -1].masked_fill(~allowed, -torch.inf)
        assert int(logits.argmax()) == output
        own = torch.cat([own, torch.tensor([output])])
    assert len(found) == 5 or found[-1] == prompts.END
    forced = iter([4, 2, 5])
    found = prompts.answer(
        model, tokens, 5, allowed=allowed, draw=lambda _: torch.tensor(next(forced)), use_cache=use_cache
    )
    assert found == [4, 2]


@pytest.mark.parametrize("classes", [0, 3])
def test_a_prompt_learns_and_the_model_does_not(classes: int) -> None:
    """Two kinds of clips are told apart, by a prompt alone."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UnitLM(UnitLMShape(unit_lm.gslm(32, 2, 4, 64), 16, scaled=True))
        network.embedding.weight.data /= 32**0.5
        for parameter in network.backbone.layers.parameters():
            parameter.data *= 2.5 if parameter.ndim == 2 else 1  # as built, attention hardly tells steps apart
        model = PromptedLM(network, SoftPrompt(4, 32, 2, classes, 16 if classes else 0))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    pairs = [
        (torch.tensor([2, 7, 8, 7, 8, 0]), torch.tensor([4])), (torch.tensor([2, 11, 12, 11, 0]), torch.tensor([5])),
    ]  # fmt: skip
    losses = prompts.tune(model, pairs, steps=300, rate=0.03)
    assert np.mean(losses[-10:]) < 0.2 * np.mean(losses[:10])
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    allowed = torch.ones(7 if classes else 16).bool()
    for heard, wanted in pairs:
        assert prompts.answer(model, heard, 3, allowed=allowed, draw=likeliest) == [*wanted.tolist(), 2]


def system(name: str) -> Any:
    return find(f"{SYSTEMS}:{name}")


def clip(seconds: float, seed: int = 0) -> Clip:
    samples = 0.2 * np.random.default_rng(seed).standard_normal((1, int(16_000 * seconds)))
    return Clip(samples.astype(np.float32), 16_000)


@pytest.mark.parametrize("name", NAMES)
def test_labels(name: str) -> None:
    model = system(name).load(LoadOptions(random_seed=0))
    requests = [Request("slu", audio=clip(seconds, seed)) for seed, seconds in enumerate((0.4, 0.9))]
    for sampling in (Sampling(temperature=0), Sampling(seed=3)):
        together = model.generate(requests, sampling)
        model.use_cache = False
        alone = [model.generate([request], sampling)[0] for request in requests]
        model.use_cache = True
        for a, b in zip(together, alone, strict=True):
            assert (a.text, a.tokens, a.ended) == (b.text, b.tokens, b.ended)
            assert a.audio is None
            assert len(a.text.split()) == 2 * (a.tokens - a.ended)  # each label is "label N"


def test_a_learnt_prompt_from_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels of a prompt that was tuned on the clips themselves; the base's files are read elsewhere in the tests."""
    tiny = system("TinySpeechPromptV2")

    def build(*_: Any) -> Any:
        networks = tiny.build(0)
        networks.lm.embedding.weight.data *= 2**0.5  # so that what is heard tells more
        return networks

    networks = build()
    base = tiny(networks, SoftPrompt(5, 32, 2, 2, 104), {"noise": "0", "hum": "1"}, "cpu")
    times = np.arange(8000) / 16_000
    hum = Clip((0.3 * np.sin(2 * np.pi * 300 * times) * np.sin(9 * times)).astype(np.float32)[None], 16_000)
    clips = [clip(0.5), hum]
    pairs = [(base.heard(base.encode(own)), torch.tensor([4 + n])) for n, own in enumerate(clips)]
    assert not torch.equal(pairs[0][0], pairs[1][0])
    prompts.tune(base.prompted, pairs, steps=60, rate=0.02)
    torch.save(base.prompted.prompt.state_dict(), tmp_path / "prompt.pt")
    (tmp_path / "labels.json").write_text(json.dumps({"noise": "0", "hum": "1"}))
    for file in tiny.card.weights or find("gslm_hubert100").card.weights:
        (tmp_path / file.name).touch()
    monkeypatch.setattr(tiny, "read", classmethod(build))
    loaded = tiny.load(LoadOptions(weights=tmp_path))
    found = loaded.generate([Request("slu", audio=own) for own in clips], Sampling(temperature=0))
    assert [response.text for response in found] == ["noise", "hum"]
    assert all(response.ended for response in found)

    (tmp_path / "labels.json").write_text(json.dumps({"noise": "7"}))
    with pytest.raises(InvalidSystem, match="labels that do not fit: a label is 7, where there are 2"):
        tiny.load(LoadOptions(weights=tmp_path))
    torch.save({"model": released(), "args": None}, tmp_path / "prompt.pt")
    assert speechprompt.read_prompt(tmp_path / "prompt.pt").classes == 3
    torch.save({"model": {}}, tmp_path / "prompt.pt")
    with pytest.raises(InvalidSystem, match=r"prompt\.pt holds no prompt"):
        speechprompt.read_prompt(tmp_path / "prompt.pt")


def test_prompts_are_for_models_that_normalise_first() -> None:
    network = UnitLM(UnitLMShape(unit_lm.opt(16, 1, 2, 24, 30), 16))
    with pytest.raises(ValueError, match="waves for positions"):
        PromptedLM(network, SoftPrompt(2, 16, 1))


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in NAMES])
def test_every_check_of_language_models_passes(name: str) -> None:
    report = check(f"{SYSTEMS}:{name}", Options(random_seed=0))
    assert [result for result in report.results if not result.ok] == []
