"""Unit mBART against `transformers` on equal weights, and SpeechGen on it in a tiny size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from codecbench import tolerant_torchaudio, weights
from codecbench.audio import Clip
from codecbench.errors import InvalidSystem
from codecbench.models.base import LoadOptions, Request, Sampling
from codecbench.models.blocks import unit_mbart
from codecbench.models.blocks.unit_mbart import MBartShape, SidePrompt, UnitMBart
from codecbench.models.checks.runner import check
from codecbench.models.checks.subject import Options
from codecbench.models.registry import find
from codecbench.models.speech_resynthesis import Mhubert1000

tolerant_torchaudio.load()  # `transformers` imports it plainly

SYSTEMS = Path(__file__).parents[1] / "rogues" / "tiny_units.py"


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def pair() -> tuple[UnitMBart, Any]:
    from transformers import MBartConfig, MBartForConditionalGeneration

    config = MBartConfig(
        vocab_size=40, d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=30,
        scale_embedding=True, activation_function="gelu", pad_token_id=1,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        oracle = MBartForConditionalGeneration(config).eval().requires_grad_(False)
        for parameter in oracle.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    network = UnitMBart(MBartShape(40, 16, 2, 2, 24, 30)).eval().requires_grad_(False)
    weights.load_state(network, unit_mbart.own_names(oracle.state_dict()), Path("mbart"))
    return network, oracle


def tokens(count: int, seed: int) -> Tensor:
    return torch.randint(4, 40, (2, count), generator=torch.Generator().manual_seed(seed))


def test_mbart_against_transformers(pair: tuple[UnitMBart, Any]) -> None:
    network, oracle = pair
    heard, told = tokens(9, 0), tokens(7, 1)
    expected = oracle(input_ids=heard, decoder_input_ids=told, use_cache=False).logits
    close(network(told, network.hear(heard)), expected)
    cache = network.decoder.backbone.cache(2, 7)
    memory = network.hear(heard)
    close(torch.cat([network(told[:, f : f + 1], memory, cache=cache) for f in range(7)], dim=1), expected)


def prompts(length: int = 3, layers: int = 2) -> list[SidePrompt]:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return [SidePrompt(length, 16, layers).requires_grad_(False) for _ in range(2)]


@pytest.mark.parametrize("use_cache", [True, False])
def test_prompts_with_a_cache_and_without(pair: tuple[UnitMBart, Any], use_cache: bool) -> None:
    network, _ = pair
    own, heard = prompts(), tokens(6, 2)[0]
    allowed = torch.arange(40) > 3
    found = unit_mbart.tell(
        network, heard, 9, own, end=2, allowed=allowed, draw=lambda logits: logits.argmax(), use_cache=use_cache
    )
    so_far = torch.tensor([2])
    for token in found:
        logits = network(so_far[None], network.hear(heard[None], own[0]), own[1])[0, -1]
        assert int(logits.masked_fill(~allowed, -torch.inf).argmax()) == token
        so_far = torch.cat([so_far, torch.tensor([token])])
    assert len(found) == 9


def test_what_a_prompt_is_made_of(pair: tuple[UnitMBart, Any]) -> None:
    """Deep prompts equal to what the layers see at the prompt's steps change nothing; others do."""
    network, _ = pair
    x = torch.randn(1, 4, 16, generator=torch.Generator().manual_seed(3))
    side, (prompt, _) = network.encoder, prompts()
    seen: list[Tensor] = []
    handles = [
        layer.attention_norm.register_forward_hook(lambda _m, _i, out: seen.append(out[0, :3].clone()))  # type: ignore[union-attr]
        for layer in side.backbone.layers
    ]
    plain = SidePrompt(3, 16, 2).requires_grad_(False)
    plain.inputs.copy_(prompt.inputs)
    for _ in range(3):  # each pass settles one layer more
        seen.clear()
        found = side(x, plain)
        for index, own in enumerate(list(seen)):
            plain.keys[index] = plain.values[index] = own
    for handle in handles:
        handle.remove()
    close(side(x, plain), found)
    steps = torch.cat([prompt.inputs[None], side.first_norm(x + side.places(2 + torch.arange(4)))], dim=1)
    close(found, side.backbone(steps)[:, 3:])
    assert not torch.allclose(side(x, prompt), found)


def system() -> Any:
    return find(f"{SYSTEMS}:TinySpeechGen")


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pair: tuple[UnitMBart, Any]) -> None:
    """fairseq's names are those of `transformers` but for the shared embedding; HuBERT's files are read elsewhere."""
    _, oracle = pair
    theirs = {name.removeprefix("model."): tensor for name, tensor in oracle.state_dict().items()}
    again = {name: theirs.pop("shared.weight") for name in ("encoder.embed_tokens.weight",)} | theirs
    again["encoder.version"] = torch.tensor([3.0])
    again["decoder.output_projection.weight"] = again["encoder.embed_tokens.weight"]
    expected = unit_mbart.own_names(oracle.state_dict())
    found = unit_mbart.own_names(again)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)

    model = system()
    built = model.load(LoadOptions(random_seed=5))
    state = {f"{name}": tensor for name, tensor in built.lm.state_dict().items()}
    monkeypatch.setattr(unit_mbart, "own_names", lambda given: dict(given))
    torch.save({"model": state}, tmp_path / "unit_mBART.pt")
    for file in Mhubert1000.card.weights:
        (tmp_path / file.name).touch()
    parts = built._tokeniser, built._vocoder
    monkeypatch.setattr(Mhubert1000, "read", classmethod(lambda *_: parts))
    with pytest.raises(InvalidSystem, match=r"no prompt: neither continuation\.pt nor s2st\.pt"):
        model.load(LoadOptions(weights=tmp_path))
    torch.save(torch.nn.ModuleList(built._prompts["s2st"]).state_dict(), tmp_path / "s2st.pt")
    loaded = model.load(LoadOptions(weights=tmp_path))
    asked = Request("s2st", audio=clip(0.4), language="en")
    (one,), (other,) = (own.generate([asked], Sampling(max_seconds=0.2)) for own in (built, loaded))
    assert one.audio is not None
    assert other.audio is not None
    np.testing.assert_array_equal(one.audio.samples, other.audio.samples)
    with pytest.raises(ValueError, match="no prompt for the task 'continuation'; there is s2st"):
        loaded.generate([Request("continuation", audio=clip(0.4))], Sampling())
    torch.save({"a": torch.zeros(1)}, tmp_path / "s2st.pt")
    with pytest.raises(InvalidSystem, match="holds no prompts of an encoder and a decoder"):
        model.load(LoadOptions(weights=tmp_path))


def clip(seconds: float, seed: int = 0) -> Clip:
    samples = 0.2 * np.random.default_rng(seed).standard_normal((1, int(16_000 * seconds)))
    return Clip(samples.astype(np.float32), 16_000)


def test_speech_from_speech() -> None:
    model = system().load(LoadOptions(random_seed=0))
    sampling = Sampling(max_seconds=0.3, seed=1)
    asked = [Request("continuation", audio=clip(0.4)), Request("s2st", audio=clip(0.4), language="en")]
    one, other = model.generate(asked, sampling)
    assert 0 < one.audio.length <= 4800
    assert one.tokens != other.tokens or not np.array_equal(one.audio.samples, other.audio.samples)
    with pytest.raises(ValueError, match="does not know the language 'es'"):
        model.generate([Request("s2st", audio=clip(0.4), language="es")], sampling)


@pytest.mark.slow
def test_every_check_of_language_models_passes() -> None:
    report = check(f"{SYSTEMS}:TinySpeechGen", Options(random_seed=0))
    assert [result for result in report.results if not result.ok] == []
