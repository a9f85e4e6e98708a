"""Decoders that look ahead, piece by piece: each piece is computed with as much around it as it looks at.

For the networks of `streaming`, which do not look ahead, no step is computed twice. Here the steps around a piece are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import ceil, prod
from typing import cast

import torch
from torch import Tensor

from codecbench.models.blocks.conv import Conv1d
from codecbench.models.blocks.lstm import SkipLSTM
from codecbench.models.blocks.seanet import SEANetCodec
from codecbench.models.blocks.streaming import StreamedLSTM
from codecbench.models.blocks.unit_vocoder import DILATIONS, UnitVocoder, UnitVocoderShape


class Windowed:
    """A `network` of which each step of the output depends on the steps of the input up to `reach` away, in pieces.

    Args:
        network: From ``[..., F]`` to ``[..., F * rate]``.
        reach: In steps of the input.
        rate: Steps of the output for each of the input.
        past: What comes before all pieces, whose output is not wanted ``[..., P]``.
    """

    def __init__(
        self, network: Callable[[Tensor], Tensor], reach: int, rate: int = 1, past: Tensor | None = None
    ) -> None:  # fmt: skip
        self._network, self._reach, self._rate = network, reach, rate
        self._held = None if past is None else past[..., max(0, past.shape[-1] - reach) :]
        self._done = 0 if self._held is None else self._held.shape[-1]
        """Steps of `_held` whose output was given."""

    def push(self, x: Tensor, *, last: bool = False) -> Tensor | None:
        """The output that is certain once the steps `x` ``[..., F]`` have come; None for none. `last`: no more come."""
        held = x if self._held is None else torch.cat([self._held, x], dim=-1)
        ready = held.shape[-1] if last else max(self._done, held.shape[-1] - self._reach)
        start, self._done = self._done, ready
        self._held = held
        if ready == start:
            return None
        found = self._network(held)[..., start * self._rate : ready * self._rate]
        dropped = max(0, ready - self._reach)
        self._held, self._done = held[..., dropped:], ready - dropped
        return found


class SEANetAhead:
    """The decoder of a `SEANetCodec` that is not causal: codes ``[B, K, F]`` to a waveform ``[B, C, F * hop]``.

    The first convolution is a window, the LSTM keeps its state, and what follows is another window.
    """

    def __init__(self, codec: SEANetCodec) -> None:
        first, *rest = codec.decoder.layers.children()
        self._codec = codec
        self._first = Windowed(first, cast("Conv1d", first).padding // 2 + 1)
        self._lstm = StreamedLSTM(cast("SkipLSTM", rest[0]))
        self._rest = Windowed(torch.nn.Sequential(*rest[1:]), _reach(codec), codec.net.hop)

    @torch.inference_mode()
    def push(self, codes: Tensor, *, last: bool = False) -> Tensor | None:
        """As of `Windowed`."""
        x = self._first.push(self._codec.quantiser.decode(codes), last=last)
        return None if x is None else self._rest.push(self._lstm(x), last=last)


def _reach(codec: SEANetCodec) -> int:
    """Frames that a sample depends on, to either side, after the LSTM."""
    net, rate, steps = codec.net, 1, 0.0
    for stride in reversed(net.strides):
        steps += 1 / rate
        rate *= stride
        steps += sum(net.dilation_base**unit * (net.residual_kernel_size - 1) / rate for unit in range(net.units))
    return ceil(steps + net.last_kernel_size / rate)


class UnitsAhead:
    """A `UnitVocoder` with durations: units ``[N]`` after those of a `prompt` to a waveform ``[T]``."""

    def __init__(self, vocoder: UnitVocoder, prompt: Tensor) -> None:
        self._vocoder, self._units, self._prompt = vocoder, prompt, len(prompt)
        self._reach = 2 * ((vocoder.net.duration or (0, 0))[1] // 2)
        """Units that a duration depends on, to either side."""
        self._done = max(0, len(prompt) - self._reach)
        past, _ = self._frames(0, self._done)
        self._window = Windowed(vocoder, _vocoder_reach(vocoder.net), vocoder.net.hop, past)
        self._skip = 0

    @torch.inference_mode()
    def push(self, units: Tensor, *, last: bool = False) -> Tensor | None:
        """As of `Windowed`."""
        self._units = torch.cat([self._units, units])
        ready = len(self._units) if last else max(self._done, len(self._units) - self._reach)
        frames, of_prompt = self._frames(self._done, ready)
        self._done, self._skip = ready, self._skip + of_prompt * self._vocoder.net.hop
        found = self._window.push(frames, last=last)
        if found is None:
            return None
        skip, self._skip = self._skip, max(0, self._skip - len(found))
        return found[skip:]

    @torch.inference_mode()
    def _frames(self, start: int, end: int) -> tuple[Tensor, int]:
        """A unit a frame for the units from `start` to `end`, and how many of the frames are the prompt's."""
        durations = self._vocoder.durations(self._units)[start:end] if end > start else self._units[:0]
        return self._units[start:end].repeat_interleave(durations), int(durations[: max(0, self._prompt - start)].sum())


def _vocoder_reach(net: UnitVocoderShape) -> int:
    """Frames that a sample of a `UnitVocoder` depends on, to either side."""
    rate, steps, widest = 1, 3.0, max(net.fields) - 1
    for size, stride in zip(net.kernel_sizes, net.strides, strict=True):
        steps += ceil(size / stride) / rate
        rate *= stride
        steps += sum((dilation + 1) * widest / 2 / rate for dilation in DILATIONS)
    return ceil(steps + 4 / prod(net.strides))


def in_pieces(frames: Iterator[Tensor], past: Tensor, longest: int) -> Iterator[tuple[Tensor, bool]]:
    """`past` ``[K, P]`` and then `frames` ``[K, n]`` in pieces, and whether each is the last, which may be empty.

    A piece is as long as all new ones before it, up to `longest`: the first is there at once, and the later ones are
    worth what is computed around them.
    """
    waiting, wanted, done = past, past.shape[1] + 1, -past.shape[1]
    for new in frames:
        waiting = torch.cat([waiting, new], dim=1)
        if waiting.shape[1] >= wanted:
            yield waiting, False
            done += waiting.shape[1]
            waiting, wanted = waiting[:, :0], min(done, longest)
    yield waiting, True
