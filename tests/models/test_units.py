"""Units against `transformers` on equal weights, and a codebook searched by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from codecbench import tolerant_torchaudio, weights
from codecbench.models.blocks import units
from codecbench.models.blocks.units import HEAD, Features, Tokeniser

tolerant_torchaudio.load()  # `transformers` imports it plainly

CONVS = tuple((8, size, stride) for _, size, stride in HEAD)


def oracle(kind: str, large: bool, extra: int) -> tuple[Any, Any]:
    import transformers

    kinds = {"hubert": "Hubert", "wav2vec2": "Wav2Vec2", "wavlm": "WavLM"}
    config = getattr(transformers, f"{kinds[kind]}Config")(
        hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32, conv_dim=[8] * (7 + extra),
        conv_kernel=[10, 3, 3, 3, 3, 2, 2] + [2] * extra, conv_stride=[5, 2, 2, 2, 2, 2, 2] + [2] * extra,
        num_feat_extract_layers=7 + extra, feat_extract_norm="layer" if large else "group", do_stable_layer_norm=large,
        conv_bias=large, num_conv_pos_embedding_groups=4, num_conv_pos_embeddings=16,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = getattr(transformers, f"{kinds[kind]}Model")(config).eval().requires_grad_(False)
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return config, model


def samples(length: int = 6000) -> Tensor:
    return 0.2 * torch.randn(length, generator=torch.Generator().manual_seed(1))


CASES = [("hubert", False, 0), ("hubert", False, 1), ("hubert", True, 0), ("wav2vec2", True, 0), ("wavlm", False, 0)]


@pytest.mark.parametrize(("kind", "large", "extra"), CASES)
@pytest.mark.parametrize("layer", [1, 2])
def test_units_against_transformers(kind: str, large: bool, extra: int, layer: int) -> None:
    config, model = oracle(kind, large, extra)
    net = units.from_config(config.to_dict(), layer, normalise=large)
    assert net.hop == 320 * 2**extra
    tokeniser = Tokeniser(net, 5).eval().requires_grad_(False)
    heard = samples()
    normal = (heard - heard.mean()) / (heard.var(correction=0) + 1e-5).sqrt() if large else heard
    expected = model(normal[None], output_hidden_states=True).hidden_states[layer][0]
    centroids = expected[1:10:2][:4].mean(dim=0) + 1.5 * (expected[[0, 2, 4, 6, 8]] - expected.mean(dim=0))
    state = units.own_names(model.state_dict(), net) | {"centroids": centroids}
    weights.load_state(tokeniser, state, Path(kind))
    torch.testing.assert_close(tokeniser.features(heard), expected, rtol=1e-4, atol=1e-4)
    found = tokeniser(heard)
    assert found.tolist() == [int(np.argmin([float((x - c).square().sum()) for c in centroids])) for x in expected]
    assert len(found) == (6000 - net.reach) // net.hop + 1
    assert len(set(found.tolist())) >= 2


def test_names_of_a_released_file() -> None:
    """A file with a head, weight normalisation by its old names, and more layers than are used."""
    _, model = oracle("hubert", False, 0)
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    state = {}
    for name, tensor in model.state_dict().items():
        for new, former in old.items():
            name = name.replace(new, former)
        state[f"hubert.{name}"] = tensor
    state["lm_head.weight"] = torch.zeros(2, 16)
    net = Features(2, 16, 2, 32, CONVS, position_kernel=16, position_groups=4)
    tokeniser = Tokeniser(net, 3)
    own = units.own_names(state, net)
    assert {*own, "centroids"} == set(tokeniser.state_dict())


def test_reach_and_hop() -> None:
    assert (Features(6).hop, Features(6).reach) == (320, 400)
    slow = Features(11, convs=(*HEAD, (512, 2, 2)))
    assert (slow.hop, slow.reach) == (640, 720)


@pytest.mark.parametrize("length", [1, 320, 321, 4000])
def test_whole_clips(length: int) -> None:
    tokeniser = Tokeniser(Features(1, 16, 2, 32, CONVS, position_groups=4), 20).eval()
    units.fill(tokeniser, torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = tokeniser.whole(samples(length))
    assert found.shape == (-(-length // 320),)
    assert 0 <= int(found.min()) <= int(found.max()) < tokeniser.entries == 20


def test_untrained_units_vary() -> None:
    tokeniser = Tokeniser(Features(1, 16, 2, 32, CONVS, position_groups=4), 20).eval()
    units.fill(tokeniser, torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert len(set(tokeniser.whole(samples(16_000)).tolist())) > 5


@given(st.lists(st.integers(0, 3), min_size=1))
def test_deduplicated_units_and_durations_give_the_units(given: list[int]) -> None:
    found, counts = units.deduplicate(torch.tensor(given))
    assert torch.repeat_interleave(found, counts).tolist() == given
    assert bool((found[1:] != found[:-1]).all())
