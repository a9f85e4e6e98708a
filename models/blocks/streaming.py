"""Causal networks that take their input piece by piece, with a memory that does not grow.

`Streamed` copies the structure of a network, shares its weights, and puts in the place of every block that looks at
more than one time step one that remembers what it needs of the past. All else, such as a residual unit, runs as it is:
both of its ways get and give the same time steps. The network itself is not touched, and any number of streams may run
at once.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from fractions import Fraction
from math import ceil
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbench.models.blocks.activations import Snake
from codecbench.models.blocks.causal import EarlyConv1d, HeldConvTranspose1d
from codecbench.models.blocks.conv import Conv1d, ConvTranspose1d, pad
from codecbench.models.blocks.lstm import SkipLSTM
from codecbench.models.blocks.soundstream import Normalise

POINTWISE = (nn.ELU, nn.Identity, nn.LeakyReLU, nn.Tanh, Snake, Normalise)
"""Blocks whose output at a time step depends on that time step alone."""


class StreamedConv1d(nn.Module):
    """A causal `Conv1d` or `EarlyConv1d` that keeps the samples which later windows cover too.

    It gives every frame whose window is complete. Once `ending` is set, it also gives the frame of a stride that the
    signal's end cuts.
    """

    def __init__(self, block: Conv1d) -> None:
        super().__init__()
        early = isinstance(block, EarlyConv1d)
        self.conv = cast("nn.Conv1d", block.conv)
        self.stride = block.stride
        self.extent = block.padding + block.stride
        self.left = self.extent - 1 if early else block.padding
        self.mode = "constant" if early else block.style.padding
        self.fills_end = not early
        self.ending = False
        self.held: Tensor | None = None
        if not block.style.causal:
            raise ValueError("a convolution that looks ahead cannot be streamed")
        if self.mode == "reflect" and 1 < self.stride > block.padding:
            raise ValueError(f"kernels of extent {self.extent} keep too little of the past to mirror the signal's end")

    @property
    def warm_up(self) -> int:
        """Samples that the first piece must have: mirroring takes one more than it adds."""
        return self.left + 1 if self.mode == "reflect" else 1

    def forward(self, x: Tensor) -> Tensor:
        """Convolve the next samples ``[B, C, T]`` to the frames ``[B, C', F]`` that they complete."""
        if self.held is not None:
            x = torch.cat([self.held, x], dim=-1)
        elif x.shape[-1]:
            x = pad(x, self.left, 0, self.mode)
        if self.ending and self.fills_end and self.held is not None:
            x = pad(x, 0, -(x.shape[-1] - self.extent) % self.stride, self.mode)
        frames = max(0, (x.shape[-1] - self.extent) // self.stride + 1)
        if x.shape[-1]:
            self.held = x[..., frames * self.stride :].clone()  # a view would keep the whole piece
        if not frames:
            return x.new_empty(x.shape[0], self.conv.out_channels, 0)
        return cast("Tensor", self.conv(x[..., : (frames - 1) * self.stride + self.extent]))


class StreamedConvTranspose1d(nn.Module):
    """A causal `ConvTranspose1d` or `HeldConvTranspose1d` that keeps the frames which reach into later strides."""

    def __init__(self, block: ConvTranspose1d) -> None:
        super().__init__()
        self.conv = cast("nn.ConvTranspose1d", block.conv)
        self.stride = block.stride
        (kernel_size,) = self.conv.kernel_size
        self.context = -(-kernel_size // self.stride) - 1
        self.mode = "replicate" if isinstance(block, HeldConvTranspose1d) else "constant"
        self.held: Tensor | None = None
        if block.trim != (0, kernel_size - self.stride):
            raise ValueError("a transposed convolution that looks ahead cannot be streamed")
        if self.mode == "replicate" and self.context != 1:
            raise ValueError("a held transposed convolution streams with kernels of two strides only")

    def forward(self, x: Tensor) -> Tensor:
        """Convolve the next frames ``[B, C, F]`` to ``[B, C', F * stride]``."""
        frames = x.shape[-1]
        if not frames:
            return x.new_empty(x.shape[0], self.conv.out_channels, 0)
        past = self.held
        x = functional.pad(x, (self.context, 0), mode=self.mode) if past is None else torch.cat([past, x], dim=-1)
        self.held = x[..., frames:].clone()
        start = self.context * self.stride
        return cast("Tensor", self.conv(x)[..., start : start + frames * self.stride])


class StreamedLSTM(nn.Module):
    """A `SkipLSTM` that keeps its state."""

    def __init__(self, block: SkipLSTM) -> None:
        super().__init__()
        self.lstm = block.lstm
        self.state: tuple[Tensor, Tensor] | None = None
        if self.lstm.bidirectional:
            raise ValueError("an LSTM that runs both ways cannot be streamed")

    def forward(self, x: Tensor) -> Tensor:
        """Run over the next frames ``[B, C, F]``."""
        if not x.shape[-1]:
            return x
        frames = x.permute(2, 0, 1).contiguous()  # as in `SkipLSTM`
        y, self.state = self.lstm(frames, self.state)
        return cast("Tensor", (y + frames).permute(1, 2, 0))


WITH_MEMORY: tuple[tuple[type[nn.Module], Callable[..., nn.Module]], ...] = (
    (Conv1d, StreamedConv1d),
    (ConvTranspose1d, StreamedConvTranspose1d),
    (SkipLSTM, StreamedLSTM),
)
"""Blocks that look at more than one time step, and what streams them."""


class Streamed:
    """A causal `network` of one input and one output, ``[B, C, T]`` to ``[B, C', T']``, with a memory.

    What `push` and `finish` return, joined, is the network's output for the whole signal, but for rounding. Where the
    network mirrors the signal's start, nothing can be known before the mirrored samples are: until then, the input
    itself is kept.

    Args:
        network: Blocks of this package, defined in the order in which a signal passes them.

    Raises:
        ValueError: A block is not causal, or none that can be streamed.
    """

    def __init__(self, network: nn.Module) -> None:
        self._offline = network
        self._network = _with_memory(network)
        self._convs = [part for part in self._network.modules() if isinstance(part, StreamedConv1d)]
        self.warm_up = _warm_up(self._network)
        self._waiting: Tensor | None = None
        self._started = self._ended = False

    def push(self, x: Tensor) -> Tensor:
        """Take the next samples ``[B, C, T]``, any ``T``; return the output that is now certain, maybe none.

        RuntimeError after `finish`.
        """
        if self._ended:
            raise RuntimeError("this stream has ended: every clip takes a new one")
        if not self._started:
            x = x if self._waiting is None else torch.cat([self._waiting, x], dim=-1)
            self._started = x.shape[-1] >= self.warm_up
            self._waiting = None if self._started else x
            if not self._started:
                return cast("Tensor", self._network(x[..., :0]))
        return cast("Tensor", self._network(x))

    def finish(self, x: Tensor) -> Tensor:
        """Take the last samples ``[B, C, T]``, any ``T``; return the rest of the output."""
        y = self.push(x)
        self._ended = True
        if self._waiting is not None:  # shorter than what has to be mirrored
            return cast("Tensor", self._offline(self._waiting)) if self._waiting.shape[-1] else y
        for conv in self._convs:
            conv.ending = True
        return torch.cat([y, self._network(x[..., :0])], dim=-1)

    def state_size(self) -> int:
        """Numbers in memory."""
        held = [self._waiting]
        for part in self._network.modules():
            held += [getattr(part, "held", None), *(getattr(part, "state", None) or ())]
        return sum(tensor.untyped_storage().nbytes() // tensor.itemsize for tensor in held if tensor is not None)


def _with_memory(network: nn.Module) -> nn.Module:
    """A copy of `network` that shares its weights, its blocks replaced by those with a memory."""
    tensors = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    copy = deepcopy(network, tensors)
    return _replaced(copy)


def _replaced(module: nn.Module) -> nn.Module:
    for kind, streamed in WITH_MEMORY:
        if isinstance(module, kind):
            return streamed(module)
    parts = list(module.named_children())
    if not parts and not isinstance(module, POINTWISE):
        raise ValueError(f"'{type(module).__name__}' has no counterpart that can be streamed")
    for name, part in parts:
        setattr(module, name, _replaced(part))
    return module


def _warm_up(network: nn.Module) -> int:
    """The shortest first piece that gives every block as much as it must mirror."""
    needed, rate = Fraction(0), Fraction(1)  # samples of the input; time steps of the present block for each of them
    for part in network.modules():
        if isinstance(part, StreamedConv1d):
            needed = max(needed, part.warm_up / rate if part.mode == "reflect" else Fraction(0))
            rate /= part.stride
        elif isinstance(part, StreamedConvTranspose1d):
            rate *= part.stride
    return ceil(needed)
