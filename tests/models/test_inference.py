"""Networks made ready to run give what the plain modules give, in any layout, and keep their state."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from codecbench.models.blocks.inference import ready

MODULES: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: nn.Conv1d(6, 5, 7, padding=3, dilation=2),
    "strided, grouped": lambda: nn.Conv1d(6, 4, 4, 2, groups=2, bias=False),
    "one channel": lambda: nn.Conv1d(1, 1, 3),
    "transposed by twice its stride": lambda: nn.ConvTranspose1d(6, 5, 8, 4),
    "transposed, padded": lambda: nn.ConvTranspose1d(6, 4, 11, 5, padding=3, bias=False),
    "transposed by less than its stride": lambda: nn.ConvTranspose1d(6, 5, 2, 3),
    "picture": lambda: nn.Conv2d(6, 8, (3, 5), (1, 2), padding=(1, 0), dilation=(1, 2)),
    "picture, transposed": lambda: nn.ConvTranspose2d(6, 4, (8, 4), (4, 2), padding=(1, 0), groups=2),
    "norm": lambda: nn.GroupNorm(1, 6),
    "weight norm": lambda: parametrizations.weight_norm(nn.Conv1d(6, 5, 3)),
}


def signal(module: nn.Module, steps: int) -> Tensor:
    plane = isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    channels = getattr(module, "in_channels", 6)
    return torch.randn(2, channels, *((9, steps) if plane else (steps,)))


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("steps", [13, 14, 1200])
def test_the_same_output_from_any_layout(name: str, steps: int) -> None:
    torch.manual_seed(0)
    module = MODULES[name]().eval()
    x = signal(module, steps)
    expected = module(x)
    kind = type(module)
    network = ready(nn.Sequential(module), "cpu")
    assert type(network[0]) is not kind, "nothing was laid out"
    for given in (x, x.mT.contiguous().mT, x.repeat_interleave(2, dim=-1)[..., ::2]):
        found = network(given)
        assert found.shape == expected.shape
        assert torch.allclose(found, expected, rtol=0, atol=1e-5)


def test_names_and_values_of_the_state_stay() -> None:
    network = nn.Sequential(nn.Conv1d(2, 3, 3), nn.ConvTranspose1d(3, 2, 4, 2), nn.GroupNorm(1, 2))
    before = deepcopy(network.state_dict())
    after = ready(network, "cpu").state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_channels_stay_side_by_side() -> None:
    network = ready(nn.Sequential(nn.Conv1d(1, 4, 3), nn.ELU(), nn.ConvTranspose1d(4, 3, 4, 2)), "cpu")
    assert network(torch.randn(1, 1, 50)).stride(1) == 1
