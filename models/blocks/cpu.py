"""What stands between convolutions, as a CPU computes it fastest.

NumPy has exponentials and sines for AVX-512 that take a third to a half of the time of PyTorch's; where there is no
AVX-512, PyTorch's are used. What activates a signal leaves room around its result, so that padding copies nothing.
All values are those of the plain modules but for rounding.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from codecbench.models.blocks.activations import Snake
from codecbench.models.blocks.conv import with_room

VECTOR_NUMPY = sys.platform == "linux" and torch.backends.cpu.get_cpu_capability() == "AVX512"
"""NumPy has vector kernels of exponentials and sines here."""

_STEPS = 100
"""Time steps that the weights of an LSTM are laid out for; any other number gives the same result."""
_LSTM_MODE = 2
"""oneDNN's number for it."""


def _like(x: Tensor) -> Tensor:
    return with_room(x) if x.ndim == 3 else torch.empty_like(x)


def _apply(ufunc: Any, x: Tensor) -> None:
    """Apply a function of NumPy to `x` in place."""
    values = x.numpy()
    ufunc(values, out=values)


class ELU(nn.ELU):
    """``max(x, exp(min(x, 0)) - 1)``."""

    def forward(self, x: Tensor) -> Tensor:
        """Activate `x` ``[B, C, T]`` or ``[B, C, K, N]``."""
        if self.alpha != 1:
            return super().forward(x)
        y = _like(x)
        if not VECTOR_NUMPY:
            return torch.ops.aten.elu.out(x, out=y)  # type: ignore[no-any-return]
        _apply(np.expm1, torch.clamp_max(x, 0, out=y))
        return torch.maximum(x, y, out=y)


class LeakyReLU(nn.LeakyReLU):
    """A leaky ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        """Activate `x`."""
        return torch.ops.aten.leaky_relu.out(x, self.negative_slope, out=_like(x))  # type: ignore[no-any-return]


class LaidOutSnake(Snake):
    """See `Snake`."""

    def forward(self, x: Tensor) -> Tensor:
        """Activate `x` ``[B, C, T]``."""
        y = torch.mul(self.alpha, x, out=with_room(x))
        if VECTOR_NUMPY:
            _apply(np.sin, y)
        else:
            y.sin_()
        return y.mul_(y).mul_((self.alpha + 1e-9).reciprocal()).add_(x)


class LSTM(nn.LSTM):
    """An LSTM whose weights are laid out for oneDNN once; left to itself, it reorders them at every call."""

    def lay_out(self) -> None:
        """Reorder the weights."""
        for suffix, reverse in self._runs():
            inner, recurrent = getattr(self, f"weight_ih_{suffix}"), getattr(self, f"weight_hh_{suffix}")
            shape = [_STEPS, 1, inner.shape[1]]
            pair = torch.ops.mkldnn._reorder_mkldnn_rnn_layer_weight(
                inner, recurrent, self.hidden_size, reverse, self.bias, False, shape
            )
            for name, laid_out in zip(("inner", "recurrent"), pair, strict=True):
                self.register_buffer(f"{name}_{suffix}", laid_out, persistent=False)

    def _runs(self) -> list[tuple[str, bool]]:
        """The names of the weights of each layer and direction, and whether it runs from the end."""
        ways = ("", False), ("_reverse", True)
        return [(f"l{k}{way}", back) for k in range(self.num_layers) for way, back in ways[: 1 + self.bidirectional]]

    def forward(  # type: ignore[override]
        self, x: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Run over `x` ``[F, B, C]``; returns the output, and the last state."""
        zeros = x.new_zeros(len(self._runs()), x.shape[1], self.hidden_size)
        before = zip(*(state or (zeros, zeros)), strict=True)
        outputs: list[Tensor] = []
        after: list[tuple[Tensor, Tensor]] = []
        for (suffix, reverse), (h, c) in zip(self._runs(), before, strict=True):
            biases = [getattr(self, f"bias_{which}_{suffix}") for which in ("ih", "hh")]
            weights = [getattr(self, f"{name}_{suffix}") for name in ("inner", "recurrent")]
            facts = _LSTM_MODE, self.hidden_size, 1, True, False, False, False
            y, h, c, _ = torch.ops.aten.mkldnn_rnn_layer(x, *weights, *biases, h, c, reverse, [], *facts)
            outputs.append(y)
            after.append((h.view(zeros.shape[1:]), c.view(zeros.shape[1:])))
            if len(outputs) > self.bidirectional:
                x, outputs = torch.cat(outputs, dim=-1), []
        h, c = (torch.stack(each) for each in zip(*after, strict=True))
        return x, (h, c)
