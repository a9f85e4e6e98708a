"""Networks made ready to run give what the plain modules give, in any layout, and keep their state."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from codecbench.models.blocks import cpu
from codecbench.models.blocks.activations import Snake
from codecbench.models.blocks.conv import ROOM, pad, with_room
from codecbench.models.blocks.inference import ready

MODULES: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: nn.Conv1d(6, 5, 7, padding=3, dilation=2),
    "strided, grouped": lambda: nn.Conv1d(6, 4, 4, 2, groups=2, bias=False),
    "one channel": lambda: nn.Conv1d(1, 1, 3),
    "to one channel": lambda: nn.Conv1d(6, 1, 7, padding=3),
    "to one channel, dilated": lambda: nn.Conv1d(6, 1, 4, dilation=2, bias=False),
    "to one channel, strided": lambda: nn.Conv1d(6, 1, 4, 2),
    "transposed by twice its stride": lambda: nn.ConvTranspose1d(6, 5, 8, 4),
    "transposed, padded": lambda: nn.ConvTranspose1d(6, 4, 11, 5, padding=3, bias=False),
    "transposed by less than its stride": lambda: nn.ConvTranspose1d(6, 5, 2, 3),
    "picture": lambda: nn.Conv2d(6, 8, (3, 5), (1, 2), padding=(1, 0), dilation=(1, 2)),
    "picture, transposed": lambda: nn.ConvTranspose2d(6, 4, (8, 4), (4, 2), padding=(1, 0), groups=2),
    "norm": lambda: nn.GroupNorm(1, 6),
    "ELU": nn.ELU,
    "ELU of another slope": lambda: nn.ELU(0.7),
    "leaky ReLU": lambda: nn.LeakyReLU(0.1),
    "Snake": lambda: _moved(Snake(6)),
    "weight norm": lambda: parametrizations.weight_norm(nn.Conv1d(6, 5, 3)),
}


def _moved(snake: Snake) -> Snake:
    nn.init.uniform_(snake.alpha, 0.1, 3)
    return snake


def signal(module: nn.Module, steps: int) -> Tensor:
    plane = isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    channels = getattr(module, "in_channels", 6)
    return torch.randn(2, channels, *((9, steps) if plane else (steps,)))


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("steps", [13, 14, 1200])
@pytest.mark.parametrize("numpy", [True, False])
def test_the_same_output_from_any_layout(name: str, steps: int, numpy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "VECTOR_NUMPY", numpy)
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


@pytest.mark.parametrize("mode", ["reflect", "constant", "replicate"])
@pytest.mark.parametrize(("left", "right"), [(3, 0), (0, 2), (12, 12), (ROOM, 7), (ROOM + 1, 7), (0, 0)])
def test_room_changes_no_padding(mode: str, left: int, right: int) -> None:
    for steps in (200, 9):  # the second is shorter than what is mirrored
        plain = torch.randn(2, 4, steps)
        roomy = with_room(plain).copy_(plain)
        assert torch.equal(pad(roomy, left, right, mode), pad(plain, left, right, mode))
        assert torch.equal(roomy, plain)


def test_an_activation_pads_without_a_copy() -> None:
    y = ready(nn.Sequential(nn.ELU()), "cpu")(torch.randn(1, 4, 50))
    assert pad(y, 3, 5, "reflect").untyped_storage().data_ptr() == y.untyped_storage().data_ptr()


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_laid_out_lstm_is_the_same(bidirectional: bool) -> None:
    torch.manual_seed(0)
    lstm = nn.LSTM(12, 20, 2, bidirectional=bidirectional)
    laid_out = ready(nn.Sequential(deepcopy(lstm)), "cpu")[0]
    assert type(laid_out) is cpu.LSTM
    state = found_state = None
    with torch.inference_mode():
        for steps, batch in ((7, 1), (1, 1), (150, 1), (4, 3)):
            state, found_state = (None, None) if batch > 1 else (state, found_state)
            x = torch.randn(steps, batch, 12)
            expected, state = lstm(x, state)
            found, found_state = laid_out(x, found_state)
            assert torch.allclose(found, expected, rtol=0, atol=1e-6)
            assert all(torch.allclose(a, b, rtol=0, atol=1e-6) for a, b in zip(found_state, state, strict=True))
    assert list(laid_out.state_dict()) == list(lstm.state_dict())
