"""How language models spend less: a cache, shared beginnings, weights laid out, and audio that is streamed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from codecbench.audio import Clip
from codecbench.models import musicgen
from codecbench.models.base import LoadOptions, Request, Sampling
from codecbench.models.blocks import autoregressive, codebook_generation, patterns, unit_generation
from codecbench.models.blocks.ahead import SEANetAhead, UnitsAhead, Windowed, in_pieces
from codecbench.models.blocks.attention import Attention
from codecbench.models.blocks.autoregressive import Opening
from codecbench.models.blocks.backbone import Backbone, BackboneShape
from codecbench.models.blocks.codebook_lm import CodebookLM, CodebookLMShape
from codecbench.models.blocks.inference_lm import LARGE, ready_lm
from codecbench.models.blocks.sampling import drawer
from codecbench.models.blocks.unit_lm import UnitLM, UnitLMShape, gslm
from codecbench.models.registry import find

ROGUES = Path(__file__).parents[1] / "rogues"
SAMPLING = Sampling(max_seconds=0.4, top_k=50, guidance=3.0, seed=3)


def system(name: str) -> Any:
    """One of the tiny models ``file:class`` on random weights."""
    return find(f"{ROGUES / name}").load(LoadOptions(random_seed=0))


def noise(seconds: float, rate: int, channels: int = 1, seed: int = 0) -> Clip:
    samples = 0.1 * np.random.default_rng(seed).standard_normal((channels, round(seconds * rate)))
    return Clip(samples.astype(np.float32), rate)


def seeded(build: Callable[[], nn.Module]) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return build().eval().requires_grad_(False)


def codebook_lm(dimension: int = 32) -> CodebookLM:
    backbone = BackboneShape(dimension, 2, 4, 2 * dimension, cross=True, positions="cos_sin", attention_bias=False)
    network: CodebookLM = seeded(lambda: CodebookLM(CodebookLMShape(backbone, 4, 50, 8)))
    for parameter in network.parameters():  # as built, all logits are nearly equal
        parameter.mul_(3)
    return network


class Work:
    """What the attentions of a network do: rows of each call, and multiplications."""

    def __init__(self, network: nn.Module) -> None:
        self.rows: list[int] = []
        self.products = 0
        for part in network.modules():
            if isinstance(part, Attention):
                part.register_forward_hook(self._count)

    def _count(self, _part: nn.Module, given: tuple[Tensor, ...], _out: Tensor) -> None:
        x, keys = given[:2]
        self.rows.append(x.shape[0])
        self.products += x.shape[0] * x.shape[1] * x.shape[2] * (12 * x.shape[2] + 2 * keys.shape[2])


def test_twenty_seconds_take_a_fifth_with_the_cache() -> None:
    """1000 frames, as MusicGen has in 20 s: equal codes, for far fewer multiplications."""
    shape = CodebookLMShape(BackboneShape(16, 1, 2, 32, positions="cos_sin"), 4, 50, 8, 3, 4)
    network = seeded(lambda: CodebookLM(shape))
    found, products = [], []
    for use_cache in (True, False):
        work = Work(network)
        draw = drawer([Request("music", text="a")], Sampling(seed=5))
        found += codebook_generation.generate(
            network, [torch.zeros(4, 0, dtype=torch.long)], [torch.ones(1, 8)], 1000,
            layout=lambda frames: patterns.delay(4, frames), draw=draw, use_cache=use_cache,
        )  # fmt: skip
        products.append(work.products)
    assert torch.equal(*found)
    assert len(set(found[0].flatten().tolist())) > 40
    assert products[1] > 5 * products[0]


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_codebooks_that_begin_alike_are_heard_once(guidance: float) -> None:
    """Three requests, two of which differ in their seeds alone: two are heard, and all get what they get alone."""
    network = codebook_lm()
    prompts = [torch.randint(50, (4, frames), generator=torch.Generator().manual_seed(1)) for frames in (9, 5, 9)]
    texts = [torch.ones(3, 8), None, torch.ones(3, 8)]
    states = [[torch.Generator().manual_seed(b) for b in range(3)] for _ in range(2)]

    def run(rows: list[int], random: list[torch.Generator]) -> list[Tensor]:
        return codebook_generation.generate(
            network, [prompts[b] for b in rows], [texts[b] for b in rows], 6, guidance=guidance,
            layout=lambda frames: patterns.delay(4, frames),
            draw=lambda row, logits: torch.multinomial(logits.softmax(-1), 1, generator=random[rows[row]])[:, 0],
        )  # fmt: skip

    work = Work(network)
    together = run([0, 1, 2], states[0])
    copies = 1 if guidance == 1 else 2
    assert (work.rows[0], work.rows[-1]) == (2 * copies, 3 * copies)
    assert not torch.equal(together[0], together[2])
    for b, own in enumerate(together):
        assert torch.equal(own, run([b], states[1])[0])


def test_units_that_begin_alike_are_heard_once() -> None:
    network = seeded(lambda: UnitLM(UnitLMShape(gslm(32, 2, 4, 64), 40)))
    prompts = [torch.arange(7), torch.arange(3), torch.arange(7)]
    allowed = torch.ones(40, dtype=torch.bool)

    def run(rows: list[int]) -> list[Tensor]:
        random = {b: torch.Generator().manual_seed(b) for b in rows}
        return unit_generation.generate(
            network, [prompts[b] for b in rows], 12, allowed=allowed, end=4,
            draw=lambda row, logits: torch.multinomial(logits.softmax(-1), 1, generator=random[rows[row]])[0],
        )  # fmt: skip

    work = Work(network)
    together = run([0, 1, 2])
    assert (work.rows[0], work.rows[-1]) == (2, 3)
    assert all(torch.equal(own, run([b])[0]) for b, own in enumerate(together))


class Talker(nn.Module):
    """A network as `autoregressive.generate` takes it."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = Backbone(BackboneShape(32, 2, 4, 64)), nn.Linear(32, 20)
        self.table = nn.Embedding(20, 32)

    def embed(self, tokens: Tensor, places: Tensor, manner: Tensor) -> Tensor:
        found: Tensor = self.table(tokens) + places[..., None] / 10 + manner[:, None]
        return found


def test_openings_that_are_alike_are_heard_once() -> None:
    network = seeded(Talker)
    steps = [torch.ones(5, 32), torch.ones(8, 32) / 2, torch.ones(5, 32)]
    openings = [Opening(own, 2, 3, torch.zeros(32)) for own in steps]

    def run(rows: list[int]) -> Any:
        random = {b: torch.Generator().manual_seed(b) for b in rows}
        return autoregressive.generate(
            network, [openings[b] for b in rows], 10,
            lambda row, logits, _: int(torch.multinomial(logits.softmax(-1), 1, generator=random[rows[row]])), end=7,
        )  # fmt: skip

    work = Work(network)
    together = run([0, 1, 2])
    assert (work.rows[0], work.rows[-1]) == (2, 3)
    assert together == [run([b])[0] for b in range(3)]


@pytest.mark.parametrize("name", ["tiny_musicgen.py:Tiny", "tiny_units.py:TinyGSLM"])
def test_samples_are_answers_with_seeds_in_turn(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = system(name)
    request = Request("continuation", audio=noise(0.5, model.card.sample_rate))
    expected = [model.generate([request], replace(SAMPLING, seed=seed))[0] for seed in (3, 4, 5)]
    heard: list[Clip | None] = []
    encode: Callable[[Clip | None], Tensor] = model.encode

    def listen(clip: Clip | None) -> Tensor:
        heard.append(clip)
        return encode(clip)

    monkeypatch.setattr(model, "encode", listen)
    found = model.samples(request, SAMPLING, 3)
    assert len(heard) == 1
    for own, other in zip(found, expected, strict=True):
        assert (own.tokens, own.ended) == (other.tokens, other.ended)
        np.testing.assert_allclose(own.audio.samples, other.audio.samples, atol=1e-6)
    assert not np.array_equal(found[0].audio.samples, found[1].audio.samples)
    assert model.samples(request, SAMPLING, 0) == []


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("laid_out_for", [1, 4])
@pytest.mark.parametrize("rows", [1, 2, 4, 9])
def test_large_linear_layers_laid_out(bias: bool, rows: int, laid_out_for: int) -> None:
    side = int(LARGE**0.5)
    network = seeded(lambda: nn.Sequential(nn.Linear(side, side, bias=bias), nn.Linear(side, 8)))
    x = torch.randn(rows, 1, side, generator=torch.Generator().manual_seed(0))
    expected = network(x)
    laid_out = ready_lm(network, "cpu", rows=laid_out_for)
    assert not network[0].weight.numel()
    assert network[1].weight.numel()
    torch.testing.assert_close(laid_out(x), expected, rtol=1e-5, atol=1e-5)


def test_an_embedding_that_is_the_output_too_is_not_laid_out() -> None:
    network = seeded(lambda: UnitLM(UnitLMShape(gslm(256, 1, 4, 64), 1024)))
    expected = network(torch.arange(6)[None])
    torch.testing.assert_close(ready_lm(network, "cpu")(torch.arange(6)[None]), expected)
    assert network.embedding.weight is network.head.weight


def split(x: Tensor, sizes: list[int]) -> Iterator[tuple[Tensor, bool]]:
    parts = torch.split(x, sizes, dim=-1)
    yield from ((part, number == len(parts) - 1) for number, part in enumerate(parts))


@pytest.mark.parametrize("sizes", [[1] * 12, [5, 7], [12, 0], [2, 0, 10]], ids=str)
@pytest.mark.parametrize("past", [0, 1, 6])
def test_windows_give_what_the_whole_gives(sizes: list[int], past: int) -> None:
    kernel = torch.randn(1, 1, 5, generator=torch.Generator().manual_seed(0))

    def network(x: Tensor) -> Tensor:
        return nn.functional.conv1d(x, kernel, padding=2).repeat_interleave(3, dim=-1)

    x = torch.randn(1, 1, past + 12, generator=torch.Generator().manual_seed(1))
    window = Windowed(network, 2, 3, x[..., :past] if past else None)
    parts = [window.push(part, last=last) for part, last in split(x[..., past:], sizes)]
    found = torch.cat([part for part in parts if part is not None], dim=-1)
    torch.testing.assert_close(found, network(x)[..., 3 * past :])


@pytest.mark.parametrize("sizes", [[1] * 20, [3, 17], [20, 0]], ids=str)
@pytest.mark.parametrize("name", ["Tiny", "TinyAudioGen"])
def test_codec_that_looks_ahead(name: str, sizes: list[int]) -> None:
    codec = system(f"tiny_musicgen.py:{name}")._codec
    codes = torch.randint(2048, (2, 4, 20), generator=torch.Generator().manual_seed(0))
    decoder = SEANetAhead(codec)
    parts = [decoder.push(part, last=last) for part, last in split(codes, sizes)]
    found = torch.cat([part for part in parts if part is not None], dim=-1)
    torch.testing.assert_close(found, codec.decode(codes), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("prompt", "sizes"), [(30, [1] * 40), (1, [13, 27]), (8, [40, 0])], ids=str)
def test_vocoder_that_looks_ahead(prompt: int, sizes: list[int]) -> None:
    model = system("tiny_units.py:TinyGSLM")
    units = torch.randint(100, (prompt + 40,), generator=torch.Generator().manual_seed(0))
    speaker = UnitsAhead(model.vocoder, units[:prompt])
    parts = [speaker.push(part, last=last) for part, last in split(units[prompt:], sizes)]
    found = torch.cat([part for part in parts if part is not None])
    expected = torch.from_numpy(model.decode(units[:prompt], units[prompt:]))[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_pieces_grow() -> None:
    frames = (torch.full((1, 1), frame) for frame in range(10))
    pieces = list(in_pieces(frames, torch.full((1, 3), -1), 4))
    assert [part.shape[1] for part, _ in pieces] == [4, 1, 2, 4, 2]
    assert [last for _, last in pieces] == [False] * 4 + [True]
    assert torch.cat([part for part, _ in pieces], dim=1).tolist() == [[-1] * 3 + list(range(10))]


@pytest.mark.parametrize(
    "name", ["tiny_musicgen.py:Tiny", "tiny_musicgen.py:TinyStereo", "tiny_musicgen_melody.py:TinyMelody",
             "tiny_stack_and_delay.py:TinyStackDelay", "tiny_units.py:TinyGSLM", "tiny_units.py:TinyTwist"],
)  # fmt: skip
def test_what_is_streamed_is_what_is_generated(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also beyond the frames that MusicGen was trained on; and the first audio is there before the last step."""
    monkeypatch.setattr(musicgen, "WINDOW", 40)
    monkeypatch.setattr(musicgen, "OVERLAP", 15)
    model = system(name)
    assert model.card.streaming
    if "GSLM" in name:  # whose end would come too soon
        model._allowed[model.symbols.end] = False
    request = Request("continuation", audio=noise(0.5, model.card.sample_rate, model.card.channels))
    sampling = replace(SAMPLING, max_seconds=1.5 if "musicgen" in name or "stack" in name else 4.0)
    work = Work(model.lm)
    (whole,) = model.generate([request], sampling)
    pieces, steps, spent = [], [], len(work.rows)
    for piece in model.stream(request, sampling):
        pieces.append(piece.samples)
        steps.append((len(work.rows) - spent) / spent)
    assert steps[0] < 0.7
    assert len(pieces) > 2
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole.audio.samples, atol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("ignore")  # of the compiler itself
def test_compiled_layers_give_the_same() -> None:
    network = codebook_lm(64)
    codes = torch.randint(50, (2, 4, 12), generator=torch.Generator().manual_seed(0))
    expected = network(codes, memory=network.listen([torch.ones(3, 8), None]))
    compiled = ready_lm(network, "cpu", compiled=True)
    memory, cache = compiled.listen([torch.ones(3, 8), None]), compiled.backbone.cache(2, 12)
    with torch.inference_mode():
        parts = [compiled(part, cache=cache, memory=memory) for part in torch.split(codes, [4, *[1] * 8], dim=2)]
    torch.testing.assert_close(torch.cat(parts, dim=2), expected, rtol=1e-5, atol=1e-4)  # its exponentials are others


def test_a_cache_whose_shape_does_not_change() -> None:
    network = codebook_lm()
    codes = torch.randint(50, (2, 4, 12), generator=torch.Generator().manual_seed(0))
    memory = network.listen([torch.ones(3, 8), None])
    expected = network(codes, memory=memory)
    network.backbone.static = True
    cache = network.backbone.cache(2, 16)
    parts = [network(part, cache=cache, memory=memory) for part in torch.split(codes, [4, *[1] * 8], dim=2)]
    torch.testing.assert_close(torch.cat(parts, dim=2), expected, rtol=1e-5, atol=1e-5)
