"""What codecs share whose network codes a whole clip at once, into streams of one codebook size and frame rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar, cast

import numpy as np

from codecbench.audio import Audio, Clip
from codecbench.models import streaming
from codecbench.models.base import Codec, Codes, DecodeStream, EncodeStream, OperatingPoint

if TYPE_CHECKING:
    from torch import Tensor, nn


T = TypeVar("T")
R = TypeVar("R")


class Shape(Protocol):
    """What must be known of a network's shape."""

    @property
    def hop(self) -> int:
        """Samples a frame."""


class Network(Protocol):
    """A network that codes waveforms ``[B, C, T]`` of whole frames."""

    @property
    def net(self) -> Shape:
        """Its shape."""

    def encode(self, x: Tensor, codebooks: int | None = None) -> Tensor:
        """Codes ``[B, K, F]`` of the waveform `x`, from the first `codebooks` (None: all)."""

    def decode(self, codes: Tensor) -> Tensor:
        """Waveform ``[B, C, F * hop]`` of `codes` ``[B, K, F]``."""


class WholeClipCodec(Codec):
    """A codec around a `Network`. Clips are extended with zeros to whole frames, and cut back at the end."""

    zero_padded: ClassVar[bool] = True
    """False for a network that takes clips of any length and pads in its layers."""

    def __init__(self, network: nn.Module, device: str, *, compiled: bool = False) -> None:
        from codecbench.models.blocks.inference import ready

        self._parameters = sum(parameter.numel() for parameter in network.parameters())
        self._network = cast("Network", ready(network, device, compiled=compiled))
        self._device = device

    def encode(self, clips: Sequence[Clip], point: OperatingPoint) -> list[Codes]:
        """Encode clips, those with as many frames at once: no clip hears the padding that another needs."""
        return in_groups(clips, self._whole_length, partial(self._encode, codebooks=point.streams))

    def decode(self, codes: Sequence[Codes]) -> list[Audio]:
        """Decode items, those with as many frames and codebooks at once."""
        return in_groups(codes, _shape, self._decode)

    def parameters(self) -> int:
        """Number of learnt parameters that encode and decode, without the codebooks."""
        return self._parameters

    def encode_stream(self, point: OperatingPoint) -> EncodeStream:
        """An encoder that takes a clip in pieces; only of a codec whose card says `streaming`."""
        if not self.card.streaming:
            return super().encode_stream(point)
        network = cast("streaming.Network", self._network)
        whole = self._network.net.hop if self.zero_padded else 1
        late = getattr(network, "late", 0)
        return streaming.NetworkEncodeStream(network, self.card, point, self._device, whole=whole, late=late)

    def decode_stream(self, point: OperatingPoint) -> DecodeStream:
        """A decoder that takes codes in pieces; only of a codec whose card says `streaming`."""
        if not self.card.streaming:
            return super().decode_stream(point)
        network = cast("streaming.Network", self._network)
        return streaming.NetworkDecodeStream(network, self._device, getattr(network, "late", 0))

    def _whole_length(self, clip: Clip) -> int:
        """Samples of `clip` with the zeros that make whole frames of it, if the network needs those."""
        return clip.length + (-clip.length % self._network.net.hop if self.zero_padded else 0)

    def _encode(self, clips: Sequence[Clip], codebooks: int | None) -> list[Codes]:
        """Encode clips of as many frames."""
        import torch

        whole = self._whole_length(clips[0])
        padded = np.stack([np.pad(clip.samples, [(0, 0), (0, whole - clip.length)]) for clip in clips])
        with torch.inference_mode():
            found = self._network.encode(torch.tensor(padded, device=self._device), codebooks)
            streams = found.to(torch.int32).cpu().numpy()
        sizes = tuple(stream.codebook_size for stream in self.card.streams[: streams.shape[1]])
        return [
            Codes(clip.length, clip.sample_rate, clip.channels, tuple(own), sizes)
            for clip, own in zip(clips, streams, strict=True)
        ]

    def _decode(self, items: Sequence[Codes]) -> list[Audio]:
        """Decode items of as many frames and codebooks."""
        import torch

        with torch.inference_mode():
            codes = torch.tensor(np.stack([item.streams for item in items]), device=self._device, dtype=torch.long)
            audio = self._network.decode(codes).cpu().numpy()
        return [np.ascontiguousarray(own[:, : item.length]) for item, own in zip(items, audio, strict=True)]


def _shape(item: Codes) -> tuple[int, int]:
    return len(item.streams), len(item.streams[0])


def in_groups(items: Sequence[T], alike: Callable[[T], object], work: Callable[[list[T]], list[R]]) -> list[R]:
    """What `work` makes of `items`, in their order; it is given lists of those that are `alike`."""
    groups: dict[object, list[int]] = {}
    for place, item in enumerate(items):
        groups.setdefault(alike(item), []).append(place)
    found: dict[int, R] = {}
    for places in groups.values():
        found |= zip(places, work([items[place] for place in places]), strict=True)
    return [found[place] for place in range(len(items))]
