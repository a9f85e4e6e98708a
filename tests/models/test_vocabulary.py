"""The layout of a vocabulary, and stages."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch

from codecbench.models.blocks import patterns, sampling, stages
from codecbench.models.blocks.stages import Stage
from codecbench.models.blocks.vocabulary import Range, Vocabulary

WORDS = Vocabulary(
    (Range("task", 2), Range("text", 5), Range("semantic", 4), Range("acoustic", 10, codebooks=3)),
    {"task": ("text",), "text": ("text", "semantic"), "semantic": ("semantic", "acoustic"), "acoustic": ("acoustic",)},
)


def test_ids_and_back() -> None:
    codes = torch.randint(0, 10, (2, 3, 7), generator=torch.Generator().manual_seed(0))
    ids = WORDS.ids("acoustic", codes)
    assert torch.equal(WORDS.codes("acoustic", ids), codes)
    assert ids[0, 1, 0] == 2 + 5 + 4 + 10 + codes[0, 1, 0]
    for token in range(WORDS.size):
        name, codebook, code = WORDS.where(token)
        one = torch.full((codebook + 1, 1), code)
        assert int(WORDS.ids(name, one)[codebook, 0]) == token
    assert WORDS.size == 41


def test_what_may_follow() -> None:
    def allowed(token: int) -> list[int]:
        return torch.nonzero(WORDS.allowed(token))[:, 0].tolist()

    assert allowed(1) == [2, 3, 4, 5, 6]
    assert allowed(6) == list(range(2, 11))
    assert allowed(7) == list(range(7, 21))
    assert [allowed(token) for token in (11, 21, 31)] == [[*range(a, a + 10)] for a in (21, 31, 11)]
    assert not Vocabulary((Range("end", 1),)).allowed(0).any()
    codes = torch.randint(0, 10, (3, 5), generator=torch.Generator().manual_seed(0))
    flat = patterns.flat(3, 5).flatten(WORDS.ids("acoustic", codes)).tolist()
    assert all(WORDS.allowed(a)[b] for a, b in pairwise(flat))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Vocabulary((Range("a", 1), Range("a", 2))), "names of their own"),
        (lambda: Vocabulary((Range("a", 0),)), "at least one"),
        (lambda: Vocabulary((Range("a", 1),), {"a": ("b",)}), "called b"),
        (lambda: WORDS.ids("text", torch.tensor([[5]])), "outside"),
        (lambda: WORDS.ids("text", torch.zeros(2, 1, dtype=torch.long)), "1 codebooks, not 2"),
        (lambda: WORDS.codes("acoustic", torch.tensor([[21]])), "outside"),
        (lambda: WORDS.where(41), "outside"),
        (lambda: WORDS.where(-1), "outside"),
        (lambda: WORDS.mask("text", 1), "no codebook 1"),
    ],
)
def test_refusals(make: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


def test_masked_decoding_accepts_as_scheduled_and_never_twice() -> None:
    random = torch.Generator().manual_seed(0)
    masked = torch.ones(100, dtype=torch.bool)
    for count in patterns.cosine_counts(100, 16):
        confidence = torch.rand(100, generator=random)
        accepted = sampling.unmask(confidence, masked, count)
        assert int(accepted.sum()) == count
        assert not (accepted & ~masked).any()
        rest = masked & ~accepted
        if count and rest.any():
            assert confidence[accepted].min() >= confidence[rest].max()
        masked = rest
    assert not masked.any()


CHAIN = (
    Stage("semantic", ("text",), lambda text: text + "s"),
    Stage("coarse", ("semantic",), lambda semantic: semantic + "c"),
    Stage("fine", ("coarse",), lambda coarse: coarse + "f"),
    Stage("audio", ("coarse", "fine"), lambda coarse, fine: (coarse, fine)),
)


def test_stages_run_in_turn_and_start_where_one_likes() -> None:
    assert stages.run(CHAIN, {"text": "t"})["audio"] == ("tsc", "tscf")
    assert stages.run(CHAIN, {"semantic": "x"})["audio"] == ("xc", "xcf")
    with pytest.raises(ValueError, match="'semantic' lacks text"):
        stages.run(CHAIN, {})
    with pytest.raises(ValueError, match="two stages give 'coarse'"):
        stages.run((*CHAIN, CHAIN[1]), {"text": "t"})
