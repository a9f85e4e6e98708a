"""Networks made ready to run: weights folded, and on a CPU laid out as its convolutions want them.

On a CPU, oneDNN convolves fastest where the channels of a time step lie side by side in memory, and where the weights
lie in blocks that it chooses. Left to itself, every call on ``[B, C, T]`` reorders the weights, and the signal twice.
Here the weights are reordered once. Signals keep their shape, but from the first convolution on, time is the slowest
axis in memory; what stands between convolutions keeps that layout (see `cpu`). The operators are those that the CPU
backend of `torch.compile` calls.

The products are the same, but summed in another order: outputs differ from the plain modules' by rounding.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbench.models.blocks import cpu
from codecbench.models.blocks.activations import Snake
from codecbench.models.blocks.conv import fold_weight_norm, pad
from codecbench.models.blocks.quantise import EuclideanCodebook

Network = TypeVar("Network", bound=nn.Module)

_ops = torch.ops.mkldnn
_EXTENT = 64, 1000
"""Bands and time steps of the input that weights are laid out for; any other gives the same result."""


def ready(network: Network, device: str, *, compiled: bool = False) -> Network:
    """`network` on `device`, for inference alone: its weights are folded, and laid out if that is a CPU.

    With `compiled`, it is left to `torch.compile` in place of the layout, whose operators the compiler does not know.
    Names and values of its state are those of the folded weights.

    Raises:
        UsageError: It is to be compiled, and there is no C++ compiler.
    """
    fold_weight_norm(network)
    network.requires_grad_(False).eval().to(device)
    for part in network.modules():
        if isinstance(part, EuclideanCodebook):
            part.remember_norms()
    if compiled:
        from codecbench.models.blocks.compiled import compile_network

        compile_network(network, device)
    elif torch.device(device).type == "cpu" and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        for part in network.modules():
            _lay_out(part)
    return network


class _Conv(nn.Module):
    """A convolution whose weight is laid out."""

    laid_out: Tensor

    def lay_out(self: Any) -> None:
        plane = self.weight.ndim == 4
        weight = self.weight if plane else self.weight.unsqueeze(2)
        extent = 1, self.in_channels, _EXTENT[0] if plane else 1, _EXTENT[1]
        laid_out = _ops._reorder_convolution_weight(weight, *self.geometry(), extent)
        self.register_buffer("laid_out", laid_out, persistent=False)

    def geometry(self: Any) -> tuple[Any, ...]:
        return (0, *self.padding)[-2:], (1, *self.stride)[-2:], (1, *self.dilation)[-2:], self.groups

    def forward(self: Any, x: Tensor) -> Tensor:
        y: Tensor = _ops._convolution_pointwise(_plane(x), self.laid_out, self.bias, *self.geometry(), "none", [], "")
        return y.squeeze(2) if x.ndim == 3 else y


class _Conv1d(_Conv, nn.Conv1d):
    def forward(self, x: Tensor) -> Tensor:
        """Convolve `x`; to a single channel by a matrix product, since oneDNN computes sixteen of them."""
        if self.out_channels > 1 or self.stride != (1,):
            return super().forward(x)
        (size,), (dilation,), padding = self.kernel_size, self.dilation, int(self.padding[0])
        x = pad(x, padding, padding, "constant")
        taps = (self.weight[0].mT @ x).contiguous()  # [B, K, T]: the output sums its diagonals
        steps = x.shape[-1] - (size - 1) * dilation
        diagonals = taps.as_strided((len(x), size, steps), (taps.stride(0), taps.stride(1) + dilation, 1))
        y = diagonals.sum(1, keepdim=True)
        return y if self.bias is None else y.add_(self.bias)


class _Conv2d(_Conv, nn.Conv2d):
    pass


class _ConvTranspose1d(nn.ConvTranspose1d):
    """As a plain convolution that gives the outputs of a stride as so many groups of channels, which then lie in order.

    oneDNN's own takes up to twice as long, and with some numbers of channels ten times.
    """

    laid_out: Tensor
    biases: Tensor | None

    def lay_out(self) -> None:
        (size,), (stride,) = self.kernel_size, self.stride
        steps = -(-size // stride)
        taps = (
            functional.pad(self.weight, (0, steps * stride - size)).view(*self.weight.shape[:2], steps, stride).flip(2)
        )
        weight = taps.permute(3, 1, 0, 2).flatten(0, 1).unsqueeze(2).contiguous()
        self.beyond = 0, steps - 1
        extent = 1, self.in_channels, 1, _EXTENT[1]
        laid_out = _ops._reorder_convolution_weight(weight, self.beyond, (1, 1), (1, 1), 1, extent)
        self.register_buffer("laid_out", laid_out, persistent=False)
        self.register_buffer("biases", None if self.bias is None else self.bias.repeat(stride), persistent=False)

    def forward(self: Any, x: Tensor, output_size: list[int] | None = None) -> Tensor:  # noqa: ARG002
        (padding,), (size,), (stride,) = self.padding, self.kernel_size, self.stride
        plain: Any = (1, 1), (1, 1), 1, "none", [], ""
        y = _ops._convolution_pointwise(_plane(x), self.laid_out, self.biases, self.beyond, *plain).squeeze(2)
        samples: Tensor = y.mT.reshape(len(x), -1, self.out_channels).mT
        return samples[..., padding : (x.shape[-1] - 1) * stride + size - padding]


class _ConvTranspose2d(nn.ConvTranspose2d):
    laid_out: Tensor

    def lay_out(self) -> None:
        extent = 1, self.in_channels, *_EXTENT
        laid_out = _ops._reorder_convolution_transpose_weight(self.weight, *self.geometry(), extent)
        self.register_buffer("laid_out", laid_out, persistent=False)

    def geometry(self) -> tuple[Any, ...]:
        return self.padding, self.output_padding, self.stride, self.dilation, self.groups

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:  # noqa: ARG002
        options: Any = *self.geometry(), "none", [], ""
        return cast("Tensor", _ops._convolution_transpose_pointwise(_plane(x), self.laid_out, self.bias, *options))


class _GroupNorm(nn.GroupNorm):
    def forward(self, x: Tensor) -> Tensor:
        plane = _plane(x)
        if self.num_groups == 1:  # PyTorch's kernel for this layout loses two digits on long clips
            inner = plane.permute(0, 2, 3, 1)
            normal = functional.layer_norm(inner, inner.shape[1:], eps=self.eps).permute(0, 3, 1, 2)
            y = normal.mul_(self.weight.view(-1, 1, 1)).add_(self.bias.view(-1, 1, 1))
        else:
            y = super().forward(plane)
        return y.squeeze(2) if x.ndim == 3 else y


_LAID_OUT: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv1d: _Conv1d, nn.Conv2d: _Conv2d, nn.ConvTranspose1d: _ConvTranspose1d,
    nn.ConvTranspose2d: _ConvTranspose2d, nn.GroupNorm: _GroupNorm,
    nn.ELU: cpu.ELU, nn.LeakyReLU: cpu.LeakyReLU, Snake: cpu.LaidOutSnake, nn.LSTM: cpu.LSTM,
}  # fmt: skip


def _lay_out(part: Any) -> None:
    """Make `part` compute on channels that lie side by side, if it is of a kind that can."""
    if kind := _LAID_OUT.get(type(part)):
        part.__class__ = kind
        if hasattr(part, "lay_out"):
            part.lay_out()


def _plane(x: Tensor) -> Tensor:
    """A signal ``[B, C, T]`` as a picture ``[B, C, 1, T]``, or a picture, whose channels lie side by side."""
    return (x.unsqueeze(2) if x.ndim == 3 else x).contiguous(memory_format=torch.channels_last)
