"""Guidance where the tokens of an answer tell of the text: every token against a network that runs no cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from codecbench.models.blocks import autoregressive, codebook_generation, multiscale, patterns
from codecbench.models.blocks.autoregressive import Opening
from codecbench.models.blocks.backbone import Backbone, BackboneShape
from codecbench.models.blocks.codebook_lm import CodebookLM, CodebookLMShape
from codecbench.models.blocks.multiscale import MultiScaleLM, MultiScaleShape, Patches
from codecbench.models.blocks.sampling import Guidance, guide, unmarked

MARKS = range(8, 16)
"""Half of all tokens, so that many answers have some."""
SCALE, NONE = 2.5, 99


def seeded(build: Callable[[], nn.Module]) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = build().eval().requires_grad_(False)
    for parameter in network.parameters():  # as built, all logits are nearly equal
        parameter.mul_(3)
    return network


def heard(tokens: Sequence[Any], is_mark: Callable[[Any], bool]) -> list[Any]:
    """What is heard of an answer without text: in the place of a mark, the token before it once more."""
    found: list[Any] = []
    for token in tokens:
        found.append(found[-1] if is_mark(token) and found else token)
    return found


@given(st.lists(st.integers(0, 20), max_size=12))
def test_marks_are_replaced_by_what_was_before(tokens: list[int]) -> None:
    expected = heard(tokens, MARKS.__contains__)
    assert unmarked(torch.tensor([tokens, tokens], dtype=torch.long), MARKS).tolist() == [expected, expected]


class Talker(nn.Module):
    """A network as `autoregressive.generate` takes it."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = Backbone(BackboneShape(32, 2, 4, 64)), nn.Linear(32, 17)
        self.table = nn.Embedding(17, 32)

    def embed(self, tokens: Tensor, places: Tensor, manner: Tensor) -> Tensor:
        found: Tensor = self.table(tokens) + places[..., None] / 10 + manner[:, None]
        return found


def opening(length: int, seed: int) -> Opening:
    random = torch.Generator().manual_seed(seed)
    return Opening(torch.randn(length, 32, generator=random), 2, 3, torch.zeros(32))


@pytest.mark.parametrize("use_cache", [True, False])
def test_token_by_token(use_cache: bool) -> None:
    network = seeded(Talker)
    told, untold = [opening(5, 0), opening(8, 1)], [opening(4, 2), opening(2, 3)]
    found = autoregressive.generate(
        network, told, 12, lambda _b, logits, _found: int(logits[:16].argmax()) if len(_found) else 3, 16,
        use_cache=use_cache, guidance=Guidance(SCALE, untold, MARKS),
    )  # fmt: skip
    for with_text, without, (tokens, ended) in zip(told, untold, found, strict=True):
        assert (tokens[0], len(tokens), ended) == (3, 12, False)
        for count in range(1, 12):
            (own,) = autoregressive.logits(network, [with_text], [torch.tensor(tokens[:count])])
            (other,) = autoregressive.logits(
                network, [without], [torch.tensor(heard(tokens[:count], MARKS.__contains__))]
            )
            assert tokens[count] == int(guide(own[-1], other[-1], SCALE)[:16].argmax())
    assert any(token in MARKS for tokens, _ in found for token in tokens)


@pytest.mark.parametrize("use_cache", [True, False])
def test_frame_by_frame(use_cache: bool) -> None:
    network: MultiScaleLM = seeded(lambda: MultiScaleLM(MultiScaleShape(24, 2, 2, 25, 64, 2, 1, prefix=True)))
    random = torch.Generator().manual_seed(0)

    def prompt(length: int) -> Patches:
        return Patches(torch.randint(0, 8, (length, 2), generator=random), answer=(length, length))

    told, untold = [prompt(6), prompt(3)], [prompt(4), prompt(2)]
    allowed = (torch.arange(25) < 16).expand(2, 2, -1)
    found = multiscale.generate(
        network, told, [9, 7], allowed=allowed, end=NONE, draw=lambda _b, logits: logits.argmax(),
        use_cache=use_cache, guidance=Guidance(SCALE, untold, MARKS),
    )  # fmt: skip
    assert [len(frames) for frames, _ in found] == [9, 7]
    for with_text, without, (frames, _) in zip(told, untold, found, strict=True):
        first, second = (
            network([Patches(torch.cat([own.ids, answer]), answer=own.answer)])[0, len(own.ids) :]
            for own, answer in ((with_text, frames), (without, unmarked(frames.T, MARKS).T))
        )
        # Within a frame, what is drawn is told to both: the first token of each tells how they differ.
        assert torch.equal(frames[:, 0], guide(first[:, 0], second[:, 0], SCALE)[:, :16].argmax(dim=-1))
    assert any(int(token) in MARKS for frames, _ in found for token in frames[:, 0])


@pytest.mark.parametrize("use_cache", [True, False])
def test_step_by_step(use_cache: bool) -> None:
    shape = BackboneShape(32, 2, 4, 64, cross=True, positions="cos_sin", attention_bias=False)
    network: CodebookLM = seeded(lambda: CodebookLM(CodebookLMShape(shape, 3, 16, 8)))
    text = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
    prompt = torch.tensor([[1, 2, 9], [3, 4, 9], [5, 6, 9]])

    def layout(frames: int) -> patterns.Pattern:
        return patterns.delay(3, frames, range(3))

    pieces = codebook_generation.stream(
        network, prompt, text, 8, layout=layout, draw=lambda logits: logits.argmax(dim=-1), guidance=SCALE,
        use_cache=use_cache, unheard=MARKS,
    )  # fmt: skip
    whole = torch.cat([prompt, *pieces], dim=1)
    assert whole.shape == (3, 11)
    pattern = layout(11)
    steps = pattern.pack(whole, 16)
    drawn = pattern.pack(whole, -1)[:, 1:]
    rows = torch.stack([steps, torch.tensor([heard(row, MARKS.__contains__) for row in steps.tolist()])])
    assert not torch.equal(rows[0], rows[1])
    logits = network(rows[..., :-1], memory=network.listen([text, None]))
    expected = guide(logits[0], logits[1], SCALE).argmax(dim=-1)
    new = pattern.pack(torch.arange(11).expand(3, -1), -1)[:, 1:] >= 3
    assert torch.equal(drawn[new], expected[new])
