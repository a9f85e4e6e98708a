"""The search for codes that leave less over than greedy ones."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch

from codecbench.models import small
from codecbench.models.base import LoadOptions
from codecbench.models.blocks.factorised import ResidualFactorisedVQ
from codecbench.models.blocks.grouped import GroupedResidualVQ
from codecbench.models.blocks.quantise import ResidualVQ

SIZE = 6
QUANTISERS: dict[str, Callable[[], Any]] = {
    "residual": lambda: ResidualVQ(2, SIZE, 4),
    "grouped": lambda: GroupedResidualVQ(2, 2, SIZE, 4),
    "factorised": lambda: ResidualFactorisedVQ(2, SIZE, 4, 2),
}


@pytest.fixture(params=QUANTISERS)
def quantiser(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    made = QUANTISERS[request.param]()
    for name, buffer in made.named_buffers():
        if name.endswith("embed"):
            buffer.normal_()
    return made.requires_grad_(False)


def left_over(quantiser: Any, x: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = (x - quantiser.decode(codes)).pow(2).sum(1)
    return found


def test_with_a_path_for_each_entry_two_codebooks_leave_as_little_as_can_be(quantiser: Any) -> None:
    x = torch.randn(2, 4, 30)
    quantiser.paths = SIZE
    codes = quantiser.encode(x)
    every = torch.tensor(list(product(range(SIZE), repeat=codes.shape[1])))
    least = torch.stack([left_over(quantiser, x, one[None, :, None].expand(2, -1, 30)) for one in every]).amin(0)
    torch.testing.assert_close(left_over(quantiser, x, codes), least)


def test_more_paths_leave_less(quantiser: Any) -> None:
    x = torch.randn(4, 4, 100)
    means = []
    for quantiser.paths in (1, 2, SIZE):
        means.append(float(left_over(quantiser, x, quantiser.encode(x)).mean()))
    assert means[0] > means[1] > means[2]


def test_frames_are_searched_one_by_one(quantiser: Any) -> None:
    quantiser.paths = 3
    x = torch.randn(1, 4, 6000)  # more than are searched at once
    assert torch.equal(quantiser.encode(x[..., 5000:]), quantiser.encode(x)[..., 5000:])
    assert quantiser.encode(x[..., :0]).shape == (1, len(quantiser.encode(x)[0]), 0)


@pytest.mark.parametrize("quantiser", ["residual", "factorised"], indirect=True)
def test_fewer_codebooks_send_the_first_of_the_codes(quantiser: Any) -> None:
    quantiser.paths = 3
    x = torch.randn(1, 4, 100)
    assert torch.equal(quantiser.encode(x, 1), quantiser.encode(x)[:, :1])


def test_small_codecs_search_but_for_the_one_whose_codes_were_learnt() -> None:
    options = LoadOptions(random_seed=0)
    paths = {system.card.name: system.load(options)._network.quantiser.paths for system in small.SYSTEMS}  # type: ignore[attr-defined]
    assert paths.pop("funcodec-small-digits") == 1
    assert set(paths.values()) == {32}
