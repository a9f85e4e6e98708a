"""The Transformer of the language models: caches, masks, and the language models of `transformers` on equal weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from codecbench import tolerant_torchaudio, weights
from codecbench.models.blocks.backbone import Backbone, BackboneShape
from codecbench.models.blocks.positions import buckets
from codecbench.models.blocks.unit_lm import TRANSFORMERS_NAMES, UnitLM, UnitLMShape, gslm, llama, opt

tolerant_torchaudio.load()  # `transformers` imports it plainly

PLAIN = BackboneShape(32, 2, 4, 64)
SHAPES = {
    "plain": PLAIN,
    "norm_last": replace(PLAIN, norm_first=False, final_norm=False, activation="relu"),
    "cos_sin": replace(PLAIN, positions="cos_sin", attention_bias=False, hidden_bias=False),
    "sin_cos": replace(PLAIN, positions="sin_cos", first_place=2),
    "learned": replace(PLAIN, positions="learned", longest=64),
    "llama": llama(32, 2, 4, 48, key_heads=2),
    "relative": replace(PLAIN, positions="relative", norm="rms", buckets=8, furthest=16),
    "palm": replace(llama(32, 2, 4, 48, key_heads=1), norm="layer", norm_bias=False, parallel=True, activation="geglu"),
    "cross": replace(PLAIN, cross=True, memory=12, positions="sin_cos"),
}


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def build(shape: BackboneShape) -> Backbone:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        backbone = Backbone(shape).eval()
        for parameter in backbone.parameters():  # no norm or bias may be left where it starts
            parameter.data += 0.1 * torch.randn_like(parameter)
    return backbone.requires_grad_(False)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("splits", [(9, 1, 1, 1), (1,) * 12, (5, 7)], ids=str)
def test_cache_changes_nothing(name: str, splits: tuple[int, ...]) -> None:
    backbone, x = build(SHAPES[name]), noise(3, 12, 32)
    memory = backbone.memory(noise(3, 5, 12), torch.tensor([5, 1, 3])) if SHAPES[name].cross else None
    cache = backbone.cache(3, 12)
    pieces = [backbone(part, cache=cache, memory=memory) for part in torch.split(x, list(splits), dim=1)]
    close(torch.cat(pieces, dim=1), backbone(x, memory=memory))


@pytest.mark.parametrize("name", SHAPES)
def test_company_changes_nothing(name: str) -> None:
    """Requests with 7, 2 and 4 steps, then three more of each, are as each is alone and uncached."""
    shape, counts = SHAPES[name], [7, 2, 4]
    backbone, first, more = build(shape), noise(3, 7, 32), noise(3, 3, 32, seed=1)
    source, heard = noise(3, 5, 12, seed=2), [5, 1, 3]
    memory = backbone.memory(source, torch.tensor(heard)) if shape.cross else None
    cache = backbone.cache(3, 10)
    together = backbone(first, cache=cache, counts=torch.tensor(counts), memory=memory)
    steps = [backbone(more[:, f : f + 1], cache=cache, memory=memory) for f in range(3)]
    for b, count in enumerate(counts):
        own = backbone.memory(source[b : b + 1, : heard[b]]) if shape.cross else None
        alone = backbone(torch.cat([first[b : b + 1, :count], more[b : b + 1]], dim=1), memory=own)[0]
        found = torch.cat([together[b, :count], torch.cat(steps, dim=1)[b]])
        close(found, alone)


@pytest.mark.parametrize(
    ("causal", "prefix", "sees"), [(True, None, "past"), (True, 4, "prefix"), (False, None, "all")], ids=str
)
def test_who_sees_whom(causal: bool, prefix: int | None, sees: str) -> None:
    backbone, x = build(replace(PLAIN, causal=causal)), noise(1, 8, 32)
    first = None if prefix is None else torch.tensor([prefix])
    before = backbone(x, prefix=first)
    for changed in range(8):
        other = x.clone()
        other[:, changed] *= -1
        moved = (backbone(other, prefix=first) - before).abs().amax(dim=(0, 2)) > 1e-6
        together = prefix is not None and changed < prefix
        expected = [sees == "all" or f >= changed or (together and f < (prefix or 0)) for f in range(8)]
        assert moved.tolist() == expected


@pytest.mark.parametrize("causal", [True, False])
def test_prefix_and_all_with_cache_and_padding(causal: bool) -> None:
    backbone, x, counts = build(replace(PLAIN, causal=causal)), noise(2, 6, 32), torch.tensor([6, 3])
    prefix = torch.tensor([4, 2]) if causal else None
    found = backbone(x, cache=backbone.cache(2, 6), counts=counts, prefix=prefix)
    for b, count in enumerate(counts.tolist()):
        alone = backbone(x[b : b + 1, :count], prefix=None if prefix is None else prefix[b : b + 1])
        close(found[b, :count], alone[0])


def test_a_full_cache_and_too_many_learned_positions_are_refused() -> None:
    backbone = build(SHAPES["learned"])
    cache = backbone.cache(1, 4)
    backbone(noise(1, 3, 32), cache=cache)
    with pytest.raises(ValueError, match="holds 4 steps, too few for 2 more after 3"):
        backbone(noise(1, 2, 32), cache=cache)
    with pytest.raises(ValueError, match="65 steps, where the model has positions for 64"):
        backbone(noise(1, 65, 32))


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="32 channels, 4 heads and 3 heads of keys do not divide"):
        Backbone(replace(PLAIN, key_heads=3))


@pytest.mark.parametrize("both_ways", [True, False])
def test_buckets_are_those_of_t5(both_ways: bool) -> None:
    from transformers.models.t5.modeling_t5 import T5Attention

    distance = torch.arange(-300, 301)
    expected = T5Attention._relative_position_bucket(distance, both_ways, 32, 128)
    assert torch.equal(buckets(distance, 32, 128, both_ways=both_ways), expected)


T5_NAMES = (
    (r"^block\.(\d+)\.layer\.0\.layer_norm", r"layers.\1.attention_norm"),
    (r"^block\.0\.layer\.0\.SelfAttention\.relative_attention_bias", "distances"),
    (r"^block\.(\d+)\.layer\.0\.SelfAttention\.q\.", r"layers.\1.attention.query."),
    (r"^block\.(\d+)\.layer\.0\.SelfAttention\.k\.", r"layers.\1.attention.key."),
    (r"^block\.(\d+)\.layer\.0\.SelfAttention\.v\.", r"layers.\1.attention.value."),
    (r"^block\.(\d+)\.layer\.0\.SelfAttention\.o\.", r"layers.\1.attention.output."),
    (r"^block\.(\d+)\.layer\.1\.layer_norm", r"layers.\1.feed_norm"),
    (r"^block\.(\d+)\.layer\.1\.DenseReluDense\.wi\.", r"layers.\1.feed.inner."),
    (r"^block\.(\d+)\.layer\.1\.DenseReluDense\.wo\.", r"layers.\1.feed.outer."),
    (r"^final_layer_norm", "norm"),
)


def test_relative_positions_against_t5() -> None:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(vocab_size=20, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        oracle = T5EncoderModel(config).encoder.eval().requires_grad_(False)
    state = weights.rename_keys(oracle.state_dict(), T5_NAMES, drop="embed_tokens")
    for name in state:
        if name.endswith("query.weight"):
            state[name] = state[name] * 8**0.5  # T5 does not divide by the square root of a head's size
    shape = BackboneShape(
        32, 2, 4, 64, norm="rms", epsilon=1e-6, activation="relu", attention_bias=False, hidden_bias=False,
        positions="relative", causal=False,
    )  # fmt: skip
    backbone = build(shape)
    weights.load_state(backbone, state, Path("t5"))
    x = noise(2, 70, 32)
    expected = oracle(inputs_embeds=x).last_hidden_state
    close(backbone(x), expected)


def _oracles() -> dict[str, tuple[Any, UnitLMShape]]:
    from transformers import LlamaConfig, OPTConfig, XGLMConfig

    small = {"vocab_size": 50, "max_position_embeddings": 40, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 2}
    wide = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
    twist = OPTConfig(**small, **wide, ffn_dim=64, word_embed_proj_dim=32)
    twist_350 = OPTConfig(**small, **wide, ffn_dim=64, word_embed_proj_dim=16, do_layer_norm_before=False)
    twist_7b = LlamaConfig(**small, **wide, intermediate_size=48, num_key_value_heads=2, rms_norm_eps=1e-6)
    unit = XGLMConfig(
        **small, d_model=32, num_layers=3, attention_heads=4, ffn_dim=64, activation_function="relu",
        scale_embedding=True,
    )  # fmt: skip
    return {
        "twist": (twist, UnitLMShape(opt(32, 3, 4, 64, 40), 50)),
        "twist_350": (twist_350, UnitLMShape(opt(32, 3, 4, 64, 40, norm_first=False), 50, narrow=16)),
        "twist_7b": (twist_7b, UnitLMShape(llama(32, 3, 4, 48, key_heads=2), 50, tied=False)),
        "gslm": (unit, UnitLMShape(gslm(32, 3, 4, 64), 50, scaled=True)),
    }


@pytest.mark.parametrize("name", ["twist", "twist_350", "twist_7b", "gslm"])
def test_unit_language_models_against_transformers(name: str) -> None:
    from transformers import AutoModelForCausalLM

    config, shape = _oracles()[name]
    with torch.random.fork_rng():
        torch.manual_seed(2)
        oracle = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
        for parameter in oracle.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        model = UnitLM(shape).eval().requires_grad_(False)
    weights.load_state(model, weights.rename_keys(oracle.state_dict(), TRANSFORMERS_NAMES), Path(name))
    tokens = torch.randint(3, 50, (2, 20), generator=torch.Generator().manual_seed(0))
    expected = oracle(tokens).logits
    close(model(tokens), expected)
    cache = model.backbone.cache(2, 20)
    steps = torch.cat([model(tokens[:, f : f + 1], cache) for f in range(20)], dim=1)
    close(steps, expected)
    loss = oracle(tokens, labels=tokens).loss
    close(-model.loglikelihood(tokens).mean(), loss)
