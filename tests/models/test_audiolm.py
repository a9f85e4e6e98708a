"""AudioLM: its Transformer against T5's decoder, its stages against sums by hand, and what it generates."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from codecbench import tolerant_torchaudio, weights
from codecbench.audio import Clip
from codecbench.errors import InvalidSystem
from codecbench.models.audiolm import SYSTEMS, AudioLM, AudioLMSpeech
from codecbench.models.base import LoadOptions, Request, Sampling
from codecbench.models.blocks import t5
from codecbench.models.blocks.audiolm import AudioLMShape, AudioLMStages
from codecbench.models.blocks.backbone import Backbone
from codecbench.models.blocks.stage_lm import Stage, t5_decoder
from codecbench.models.blocks.vocabulary import Range
from codecbench.models.checks.runner import check
from codecbench.models.checks.subject import Options
from codecbench.models.registry import find

tolerant_torchaudio.load()  # `transformers` imports it plainly

FILE = Path(__file__).parents[1] / "rogues" / "tiny_audiolm.py"
NAMES = ("Tiny", "TinyPiano")
SHAPE = AudioLMShape(t5_decoder(32, 2, 4), units=20, codebooks=6, codebook_size=16, coarse=2, chunk=5)


def build(shape: AudioLMShape = SHAPE) -> AudioLMStages:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        stages = AudioLMStages(shape)
        for parameter in stages.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return stages


STAGES = build().requires_grad_(False)


def tokens(size: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, size, shape, generator=torch.Generator().manual_seed(seed))


def likeliest(_request: int, logits: Tensor) -> Tensor:
    return logits.argmax()


def clip(seconds: float, seed: int = 0) -> Clip:
    noise = np.random.default_rng(seed).standard_normal((1, round(seconds * 16_000)))
    return Clip((0.2 * noise).astype(np.float32), 16_000)


def test_the_transformer_against_the_decoder_of_t5_in_transformers() -> None:
    from transformers import T5Config
    from transformers.models.t5.modeling_t5 import T5Stack

    config = T5Config(
        d_model=32, d_kv=8, num_heads=4, num_layers=3, d_ff=128, vocab_size=50, is_decoder=True, use_cache=False,
        is_encoder_decoder=False,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(5)
        oracle = T5Stack(config).eval().requires_grad_(False)
        oracle.set_input_embeddings(torch.nn.Embedding(50, 32))
        for parameter in oracle.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    x = torch.randn(2, 200, 32, generator=torch.Generator().manual_seed(0))
    expected = oracle(inputs_embeds=x).last_hidden_state
    state = {f"encoder.{name}": tensor for name, tensor in oracle.state_dict().items() if "EncDec" not in name}
    state = {
        name.replace(".layer.2.", ".layer.1."): tensor
        for name, tensor in state.items()
        if ".layer.1." not in name and "embed_tokens" not in name
    }
    shape = t5_decoder(32, 3, 4)
    backbone = Backbone(shape)
    own = t5.own_names(state, shape)
    weights.load_state(backbone, {name.removeprefix("backbone."): t for name, t in own.items()}, Path("oracle"))
    torch.testing.assert_close(backbone(x), expected, rtol=1e-4, atol=1e-5)


def test_ids_of_a_stage() -> None:
    stage = Stage(SHAPE.backbone, (Range("semantic", 20),), Range("coarse", 16, 2), ends=True)
    assert stage.prefix({"semantic": torch.tensor([[3, 7]])}).tolist() == [3, 7, 52]
    ids = stage.ids(torch.tensor([[1, 2], [3, 4]]))
    assert ids.tolist() == [21, 39, 22, 40]
    assert stage.codes(ids).tolist() == [[1, 2], [3, 4]]
    assert stage.end == 53


def test_a_stage_draws_each_codebook_in_its_turn_and_the_end_after_a_frame_alone() -> None:
    seen: list[list[int]] = []

    def watch(_request: int, logits: Tensor) -> Tensor:
        seen.append((logits > float("-inf")).nonzero()[:, 0].tolist())
        return logits[: STAGES.coarse.end].argmax()

    STAGES.coarse.extend([STAGES.coarse.prefix({"semantic": tokens(20, 1, 4)})], [tokens(16, 2, 3)], 3, watch)
    assert len(seen) == 6
    for step, allowed in enumerate(seen):
        first = 20 + 16 * (step % 2)
        assert allowed == list(range(first, first + 16)) + ([STAGES.coarse.end] if step % 2 == 0 else [])


@pytest.mark.parametrize("name", ["semantic", "coarse", "fine"])
@pytest.mark.parametrize("known", [0, 3])
def test_the_cache_changes_nothing(name: str, known: int) -> None:
    stage = cast("Stage", getattr(STAGES, name))
    given = {"semantic": {}, "coarse": {"semantic": tokens(20, 1, 7)}, "fine": {"coarse": tokens(16, 2, 5)}}[name]
    prefix, past = stage.prefix(given), tokens(stage.target.size, stage.target.codebooks, known)
    never = lambda b, logits: likeliest(b, logits.index_fill(0, torch.tensor(stage.end), -1e9))  # noqa: E731
    found = [stage.extend([prefix], [past], 9, never, use_cache=use_cache)[0][0] for use_cache in (True, False)]
    assert found[0].shape == (stage.target.codebooks, 9)
    assert torch.equal(*found)
    for frame in range(9):  # one step by hand each, on the whole sequence
        whole = torch.cat([prefix, stage.ids(past), stage.ids(found[0][:, :frame])])
        logits = stage(whole[None])[0, -1]
        mask = stage.vocabulary.mask(stage.target.name, 0)
        assert int(logits.masked_fill(~mask, -1e9).argmax()) == int(stage.ids(found[0][:, frame : frame + 1])[0])


def test_company_changes_nothing() -> None:
    stage = STAGES.coarse
    prefixes = [stage.prefix({"semantic": tokens(20, 1, n, seed=n)}) for n in (2, 9, 5)]
    known = [tokens(16, 2, n, seed=n) for n in (4, 0, 1)]
    together = stage.extend(prefixes, known, 8, likeliest)
    for prefix, past, (codes, ended) in zip(prefixes, known, together, strict=True):
        ((alone, over),) = stage.extend([prefix], [past], 8, likeliest)
        assert torch.equal(alone, codes)
        assert over == ended


def test_likelihoods_by_hand() -> None:
    stage, codes = STAGES.coarse, [tokens(16, 2, 4), tokens(16, 2, 6, seed=1)]
    prefixes = [stage.prefix({"semantic": tokens(20, 1, n, seed=n)}) for n in (6, 3)]
    found = stage.nats(prefixes, codes, ended=True)
    for prefix, own, nats in zip(prefixes, codes, found, strict=True):
        whole = torch.cat([prefix, stage.ids(own), torch.tensor([stage.end])])
        logits = functional.log_softmax(stage(whole[None])[0], dim=-1)
        expected = [float(logits[i - 1, whole[i]]) for i in range(len(prefix), len(whole))]
        np.testing.assert_allclose(nats.numpy(), expected, rtol=1e-4, atol=1e-5)
        assert len(nats) == own.numel() + 1


def test_repetitions_are_left_out() -> None:
    units = torch.tensor([4, 4, 4, 2, 4, 4])
    assert STAGES.simplified(units).tolist() == [[4, 2, 4]]
    plain = build(AudioLMShape(t5_decoder(32, 2, 4), units=20, deduplicated=False))
    assert plain.simplified(units).tolist() == [[4, 4, 4, 2, 4, 4]]


@pytest.mark.parametrize("past", [0, 3, 5, 7])
def test_fine_codes_come_in_chunks_that_know_their_past_alone(past: int) -> None:
    coarse, known = tokens(16, 2, 13), tokens(16, 6, past)
    coarse[:, :past] = known[:2]
    (whole,) = STAGES.refine([coarse], [known], likeliest, use_cache=True)
    assert whole.shape == (6, 13)
    assert torch.equal(whole[:2], coarse)
    assert torch.equal(whole[:, :past], known)
    for start in (0, 5, 10):
        part = coarse[:, start : start + 5]
        own = known[2:, start : start + 5]
        ((more, _),) = STAGES.fine.extend(
            [STAGES.fine.prefix({"coarse": part})], [own], part.shape[1] - own.shape[1], likeliest
        )
        assert torch.equal(whole[2:, start : start + 5], torch.cat([own, more], dim=1))


def test_it_learns_four_examples() -> None:
    stages = build()
    units = [tokens(20, 7, seed=seed) for seed in range(4)]
    codes = [tokens(16, 6, 7, seed=seed) for seed in range(4)]
    optimiser = torch.optim.Adam(stages.parameters(), lr=1e-2)
    for _ in range(70):
        loss = stages.loss(units, codes)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert loss < 2.0  # of three stages, the first token of each of four is a guess
    for unit, own in zip(units, codes, strict=True):
        said = stages.simplified(unit)
        ((more, over),) = stages.coarse.extend([stages.coarse.prefix({"semantic": said})], [own[:2, :1]], 20, likeliest)
        assert over
        assert torch.equal(more, own[:2, 1:])
        (whole,) = stages.refine([own[:2]], [own[:, :0]], likeliest, use_cache=True)
        assert (whole == own).float().mean() > 0.9


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest) -> AudioLM:
    return cast("AudioLM", find(f"{FILE}:{request.param}").load(LoadOptions(random_seed=0)))


def test_a_response_follows_its_prompt(model: AudioLM) -> None:
    requests = [Request("continuation", audio=clip(0.4)), Request("continuation", audio=clip(0.7, 1))]
    together = model.generate(requests, Sampling(max_seconds=0.6, seed=3))
    for asked, response in zip(requests, together, strict=True):
        (alone,) = model.generate([asked], Sampling(max_seconds=0.6, seed=3))
        assert response.audio is not None
        assert alone.audio is not None
        assert response.audio.length % 320 == 0
        assert response.audio.duration <= 0.6
        assert response.ended == (response.audio.duration < 0.6)
        np.testing.assert_array_equal(alone.audio.samples, response.audio.samples)


def test_likelihood_is_that_of_the_units(model: AudioLM) -> None:
    sound = clip(1.0)
    (score,) = model.loglikelihood([sound])
    units = model.units(sound)
    assert len(units) == 1 + (16_000 - model.reach()) // 640
    said = torch.unique_consecutive(units)
    assert score.tokens == len(said)
    semantic = model.stages.semantic
    logits = functional.log_softmax(semantic(torch.cat([semantic.prefix({}), said])[None])[0], dim=-1)
    assert score.nats == pytest.approx(float(logits[:-1].gather(-1, said[:, None]).sum()), rel=1e-4)


def test_a_file_with_all_networks(tmp_path: Path, model: AudioLM) -> None:
    system = type(model)
    fresh = system.build(7)
    path = tmp_path / "mine.safetensors"
    save_file(fresh.state_dict(), path)
    asked, sampling = Request("continuation", audio=clip(0.3)), Sampling(temperature=0, max_seconds=0.3)
    (expected,) = system(fresh, "cpu").generate([asked], sampling)
    (found,) = system.load(LoadOptions(weights=path)).generate([asked], sampling)
    assert expected.audio is not None
    assert found.audio is not None
    np.testing.assert_array_equal(found.audio.samples, expected.audio.samples)


@pytest.mark.parametrize("name", ["Tiny", pytest.param("TinyPiano", marks=pytest.mark.slow)])
def test_every_check_of_language_models_passes(name: str) -> None:
    report = check(f"{FILE}:{name}", Options(random_seed=0))
    assert [result for result in report.results if not result.ok] == []
    assert report.result("cache_is_exact").outcome == "passed"


def test_the_paper_s_size() -> None:
    """0.3 G parameters a stage, as the paper says."""
    with torch.device("meta"):
        stages = AudioLMStages(AudioLMSpeech.shape())
    for stage in (stages.semantic, stages.coarse, stages.fine):
        assert 0.14e9 < sum(parameter.numel() for parameter in stage.backbone.parameters()) < 0.35e9


def test_systems_are_registered_and_say_that_nothing_was_published() -> None:
    assert len(SYSTEMS) == 2
    for system in SYSTEMS:
        assert find(system.card.name) is system
        with pytest.raises(InvalidSystem, match="its weights were never published"):
            system.load(LoadOptions())
