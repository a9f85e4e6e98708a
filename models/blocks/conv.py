"""One-dimensional convolutions with the padding of SEANet: ``ceil(T / stride)`` frames in, ``F * stride`` samples out.

The rule of the released EnCodec (arXiv:2210.13438), which codecs derived from it share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize

Norm = Literal["none", "weight", "group"]


@dataclass(frozen=True)
class ConvStyle:
    """What all convolutions of a network have in common.

    Attributes:
        norm: ``weight`` normalises the weights, ``group`` the output over channels and time together.
        causal: Pad on the left only, so that no output depends on a later stride of the input.
        padding: ``reflect`` mirrors the signal, ``constant`` adds zeros.
    """

    norm: Norm = "none"
    causal: bool = False
    padding: Literal["reflect", "constant"] = "reflect"

    def __post_init__(self) -> None:
        if self.causal and self.norm == "group":
            raise ValueError("group normalisation averages over all time, so it cannot be causal")


class Conv1d(nn.Module):
    """A convolution ``[B, C, T]`` to ``[B, C', ceil(T / stride)]``.

    Padding is the kernel's extent less the stride, split evenly with the larger half on the left, plus what the
    last window lacks on the right.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel_size: int, *, stride: int = 1, dilation: int = 1, groups: int = 1,
        bias: bool = True, style: ConvStyle,
    ) -> None:  # fmt: skip
        super().__init__()
        conv = nn.Conv1d(inputs, outputs, kernel_size, stride, dilation=dilation, groups=groups, bias=bias)
        self.conv = weight_normalised(conv, style)
        self.norm = output_norm(outputs, style)
        self.stride = stride
        self.style = style
        self.padding = (kernel_size - 1) * dilation + 1 - stride
        if self.padding < 0:
            raise ValueError(f"stride {stride} skips samples between kernels of size {kernel_size}")

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `x` ``[B, C, T]``, ``T`` at least 1."""
        left, right = split(self.padding, self.style)
        right += -x.shape[-1] % self.stride
        return cast("Tensor", self.norm(self.conv(pad(x, left, right, self.style.padding))))


class ConvTranspose1d(nn.Module):
    """A transposed convolution ``[B, C, F]`` to ``[B, C', F * stride]``, the mirror of `Conv1d`."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int, *, stride: int, style: ConvStyle) -> None:
        super().__init__()
        self.conv = weight_normalised(nn.ConvTranspose1d(inputs, outputs, kernel_size, stride), style)
        self.norm = output_norm(outputs, style)
        self.stride = stride
        # A causal decoder drops the tail: its left edge is already the first sample.
        left, right = (0, kernel_size - stride) if style.causal else split(kernel_size - stride, style)
        self.trim = left, right

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `x` ``[B, C, F]``."""
        left, right = self.trim
        x = self.norm(self.conv(x))
        return x[..., left : x.shape[-1] - right]


def split(padding: int, style: ConvStyle) -> tuple[int, int]:
    """How much of `padding` goes to the left and to the right."""
    if style.causal:
        return padding, 0
    return padding - padding // 2, padding // 2


def symmetric_padding(kernel_size: int, stride: int = 1, dilation: int = 1) -> int:
    """Zeros at either end of a convolution's input: half of what its window covers beyond a stride, rounded up.

    An input of whole strides gives one frame a stride. A transposed convolution drops as much at either end of its
    output, so for an odd stride it gives one sample less than its frames have.
    """
    return -(-((kernel_size - 1) * dilation + 1 - stride) // 2)


def pad(x: Tensor, left: int, right: int, mode: str) -> Tensor:
    """Pad `x` ``[B, C, T]`` by `left` and `right` samples.

    Mirroring needs more samples than it adds; a shorter signal is first extended with zeros, which are cut off
    again at the end.
    """
    if not left and not right:
        return x
    missing = max(0, max(left, right) + 1 - x.shape[-1]) if mode == "reflect" else 0
    if not missing and (wider := widened(x, left, right)) is not None:
        return _fill(wider, left, right, mode)
    # As a picture: padding in one dimension would undo the layout in memory that `inference` asks for.
    plane = x.unsqueeze(2)
    if missing:
        plane = functional.pad(plane, (0, missing))
    padded = functional.pad(plane, (left, right, 0, 0), mode).squeeze(2)
    return padded[..., : padded.shape[-1] - missing]


ROOM = 64
"""Time steps free on either side of a signal of `with_room`."""


def with_room(x: Tensor) -> Tensor:
    """An empty signal like `x` ``[B, C, T]``, its channels side by side, that `pad` pads without a copy of it."""
    whole = x.new_empty(len(x), x.shape[-1] + 2 * ROOM, x.shape[1]).mT
    middle: Any = whole[..., ROOM:-ROOM]
    middle.whole = whole
    return cast("Tensor", middle)


def widened(x: Tensor, left: int, right: int) -> Tensor | None:
    """`x` with `left` and `right` time steps more, of any value, at its sides; None if it has not the room."""
    whole = getattr(x, "whole", None)
    if whole is None or max(left, right) > ROOM:
        return None
    return cast("Tensor", whole[..., ROOM - left : whole.shape[-1] - ROOM + right])


def _fill(x: Tensor, left: int, right: int, mode: str) -> Tensor:
    """Pad the signal in `x`, whose first `left` and last `right` samples are to be set."""
    end = x.shape[-1] - right
    if mode == "reflect":
        x[..., :left] = x[..., left + 1 : 2 * left + 1].flip(-1)
        x[..., end:] = x[..., end - 1 - right : end - 1].flip(-1)
    elif mode == "replicate":
        x[..., :left], x[..., end:] = x[..., left : left + 1], x[..., end - 1 : end]
    else:
        x[..., :left], x[..., end:] = 0, 0
    return x


def fold_weight_norm(module: nn.Module) -> None:
    """Replace every normalised weight in `module` by its value: the same output, computed once."""
    for part in module.modules():
        if parametrize.is_parametrized(part, "weight"):
            parametrize.remove_parametrizations(part, "weight")


def scale_output(conv: nn.Module, factor: Tensor | float) -> None:
    """Make an untrained convolution, weight-normalised or not, give `factor` times as much."""
    for name, parameter in conv.named_parameters():
        if not name.endswith(".original1"):  # of a normalised weight, the direction: its length is ignored
            parameter.data.mul_(factor)


def weight_normalised(conv: nn.Module, style: ConvStyle) -> nn.Module:
    """`conv`, its weight normalised if the style says so."""
    # The parametrisation also loads the names `weight_g` and `weight_v` that released checkpoints hold.
    return parametrizations.weight_norm(conv) if style.norm == "weight" else conv


def output_norm(channels: int, style: ConvStyle) -> nn.Module:
    """What normalises the output of a convolution."""
    return nn.GroupNorm(1, channels) if style.norm == "group" else nn.Identity()
