"""Muon, beside PyTorch's own and PyTorch's Adam."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import nn

from codecbench.models.training.learning import Learner
from codecbench.models.training.muon import REST, Muon, equalised, matrices


@pytest.mark.parametrize("shape", [(8, 8), (6, 40), (40, 6)])
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    made = equalised(100 * drawn)
    values = torch.linalg.svdvals(made)
    assert 0.5 < float(values.min()) < float(values.max()) < 1.3
    # The directions stay: made and drawn have the same singular vectors.
    one, _, other = torch.linalg.svd(drawn, full_matrices=False)
    inner = one.t() @ made @ other.t()
    assert float((inner - torch.diag(inner.diag())).abs().max()) < 0.02


def followed(parameter: torch.Tensor, make: Callable[[Iterable[Any]], torch.optim.Optimizer]) -> torch.Tensor:
    """Where an optimiser brings `parameter` in five steps of a given course of gradients."""
    own = nn.Parameter(parameter.clone())
    optimiser, draw = make([own]), torch.Generator().manual_seed(1)
    for _ in range(5):
        own.grad = torch.randn(own.shape, generator=draw)
        optimiser.step()
    return own.detach()


@pytest.mark.parametrize("shape", [(12, 20), (30, 10)])
def test_matrices_move_as_with_pytorchs_muon(shape: tuple[int, int]) -> None:
    start = torch.zeros(shape)
    ours = followed(start, lambda own: Muon(list(own), [], 0.01, (0.8, 0.99)))
    theirs = followed(
        start, lambda own: torch.optim.Muon(own, 0.01, weight_decay=0.0, momentum=0.9, adjust_lr_fn="original")
    )
    # Theirs iterates in bfloat16.
    assert float((ours - theirs).norm() / theirs.norm()) < 0.03
    # A kernel is a matrix with a row for an output channel.
    kernel = followed(start.view(shape[0], -1, 5), lambda own: Muon(list(own), [], 0.01, (0.8, 0.99)))
    assert kernel.shape == (shape[0], shape[1] // 5, 5)
    torch.testing.assert_close(kernel.flatten(1), ours)


def test_the_rest_moves_as_with_adam() -> None:
    start = torch.ones(7)
    ours = followed(start, lambda own: Muon([], list(own), 0.01, (0.8, 0.99)))
    theirs = followed(start, lambda own: torch.optim.Adam(own, REST * 0.01, (0.8, 0.99)))
    torch.testing.assert_close(ours, theirs)


def test_a_learner_with_matrices_follows_its_course() -> None:
    network = nn.Sequential(nn.Conv1d(2, 4, 3), nn.GroupNorm(1, 4), nn.LSTM(4, 3))
    found = matrices(network)
    assert [tuple(parameter.shape) for parameter in found] == [(4, 2, 3), (12, 4), (12, 3)]
    learner = Learner(list(network.parameters()), 0.1, (0.8, 0.99), 10.0, matrices=found)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    assert learner.step(0.0) > 0
    assert all(map(torch.equal, before, network.parameters()))
    weight, bias, *_ = network.parameters()
    weight.grad = torch.randn(4, 2, 3)
    learner.step(1.0)
    assert not torch.equal(before[0], weight)
    assert torch.equal(before[1], bias)
