"""Networks made ready to run: weights folded, and on a CPU laid out as its convolutions want them.

On a CPU, oneDNN convolves fastest where the channels of a time step lie side by side in memory, and where the weights
lie in blocks that it chooses. Left to itself, every call on ``[B, C, T]`` reorders the weights, and the signal twice.
Here the weights are reordered once. Signals keep their shape, but from the first convolution on, time is the slowest
axis in memory; what stands between convolutions keeps that layout. The operators are those that the CPU backend of
`torch.compile` calls.

The products are the same, but summed in another order: outputs differ from the plain modules' by rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from codecbench.models.blocks.conv import fold_weight_norm

Network = TypeVar("Network", bound=nn.Module)

_EXTENT = 64, 1000
"""Bands and time steps of the input that weights are laid out for; any other gives the same result."""


def ready(network: Network, device: str) -> Network:
    """`network` on `device`, for inference alone: its weights are folded, and laid out if that is a CPU.

    Names and values of its state are those of the folded weights.
    """
    fold_weight_norm(network)
    network.requires_grad_(False).eval().to(device)
    if torch.device(device).type == "cpu" and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        for part in network.modules():
            _lay_out(part)
    return network


class _Convolution(nn.Module):
    """A convolution whose weight is laid out."""

    laid_out: Tensor
    bias: Tensor | None
    groups: int
    operator: ClassVar[Callable[..., Tensor]]
    reorder: ClassVar[Callable[..., Tensor]]

    def geometry(self) -> tuple[tuple[int, int], ...]:
        """Padding, stride and dilation, in two dimensions."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        y = self.operator(_plane(x), self.laid_out, self.bias, *self.geometry(), self.groups, "none", [], "")
        return y.squeeze(2) if x.ndim == 3 else y


class _Plain(_Convolution):
    operator = torch.ops.mkldnn._convolution_pointwise
    reorder = torch.ops.mkldnn._reorder_convolution_weight

    def geometry(self: Any) -> tuple[tuple[int, int], ...]:
        return (0, *self.padding)[-2:], (1, *self.stride)[-2:], (1, *self.dilation)[-2:]


class _Transposed(_Convolution):
    operator = torch.ops.mkldnn._convolution_transpose_pointwise
    reorder = torch.ops.mkldnn._reorder_convolution_transpose_weight

    def geometry(self: Any) -> tuple[tuple[int, int], ...]:
        padding, beyond = (0, *self.padding)[-2:], (0, *self.output_padding)[-2:]
        return padding, beyond, (1, *self.stride)[-2:], (1, *self.dilation)[-2:]


class _Conv1d(_Plain, nn.Conv1d):
    pass


class _Conv2d(_Plain, nn.Conv2d):
    pass


class _ConvTranspose1d(_Transposed, nn.ConvTranspose1d):  # type: ignore[misc]
    pass


class _ConvTranspose2d(_Transposed, nn.ConvTranspose2d):  # type: ignore[misc]
    pass


class _GroupNorm(nn.GroupNorm):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(_plane(x))
        return y.squeeze(2) if x.ndim == 3 else y


_LAID_OUT: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv1d: _Conv1d, nn.Conv2d: _Conv2d, nn.ConvTranspose1d: _ConvTranspose1d,
    nn.ConvTranspose2d: _ConvTranspose2d, nn.GroupNorm: _GroupNorm,
}  # fmt: skip


def _lay_out(part: Any) -> None:
    """Make `part` compute on channels that lie side by side, if it is of a kind that can."""
    kind = _LAID_OUT.get(type(part))
    if kind is None:
        return
    part.__class__ = kind
    if issubclass(kind, _Convolution):
        weight = part.weight if part.weight.ndim == 4 else part.weight.unsqueeze(2)
        extent = 1, part.in_channels, _EXTENT[0] if part.weight.ndim == 4 else 1, _EXTENT[1]
        laid_out = part.reorder(weight, *part.geometry(), part.groups, extent)
        part.register_buffer("laid_out", laid_out, persistent=False)


def _plane(x: Tensor) -> Tensor:
    """A signal ``[B, C, T]`` as a picture ``[B, C, 1, T]``, or a picture, whose channels lie side by side."""
    return (x.unsqueeze(2) if x.ndim == 3 else x).contiguous(memory_format=torch.channels_last)
