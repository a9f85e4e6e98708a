"""What codecs share whose network codes a whole clip at once, into streams of one codebook size and frame rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol, cast

import numpy as np

from codecbench.audio import Audio, Clip
from codecbench.models import streaming
from codecbench.models.base import Codec, Codes, DecodeStream, EncodeStream, OperatingPoint

if TYPE_CHECKING:
    from torch import Tensor, nn


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
        """Encode one clip after another: what else is in the list cannot change a clip's codes."""
        return [self._encode(clip, point.streams) for clip in clips]

    def decode(self, codes: Sequence[Codes]) -> list[Audio]:
        """Decode each item, with the codebooks that it has."""
        return [self._decode(item) for item in codes]

    def parameters(self) -> int:
        """Number of learnt parameters that encode and decode, without the codebooks."""
        return self._parameters

    def encode_stream(self, point: OperatingPoint) -> EncodeStream:
        """An encoder that takes a clip in pieces; only of a codec whose card says `streaming`."""
        if not self.card.streaming:
            return super().encode_stream(point)
        network = cast("streaming.Network", self._network)
        whole = self._network.net.hop if self.zero_padded else 1
        return streaming.NetworkEncodeStream(network, self.card, point, self._device, whole)

    def decode_stream(self, point: OperatingPoint) -> DecodeStream:
        """A decoder that takes codes in pieces; only of a codec whose card says `streaming`."""
        if not self.card.streaming:
            return super().decode_stream(point)
        return streaming.NetworkDecodeStream(cast("streaming.Network", self._network), self._device)

    def _encode(self, clip: Clip, codebooks: int | None) -> Codes:
        import torch

        missing = -clip.length % self._network.net.hop if self.zero_padded else 0
        padded = np.pad(clip.samples, [(0, 0), (0, missing)])
        with torch.inference_mode():
            found = self._network.encode(torch.tensor(padded, device=self._device)[None], codebooks)
            streams = tuple(found[0].to(torch.int32).cpu().numpy())
        sizes = tuple(stream.codebook_size for stream in self.card.streams[: len(streams)])
        return Codes(clip.length, clip.sample_rate, clip.channels, streams, sizes)

    def _decode(self, item: Codes) -> Audio:
        import torch

        with torch.inference_mode():
            codes = torch.tensor(np.stack(item.streams), device=self._device, dtype=torch.long)[None]
            audio = self._network.decode(codes)[0, :, : item.length]
            return np.ascontiguousarray(audio.cpu().numpy())
