"""Streaming that codecs share: pieces of codes joined, and encoders and decoders around a network of causal blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from codecbench.audio import Audio
from codecbench.models.base import Card, Codes, DecodeStream, EncodeStream, OperatingPoint

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn


def join_codes(parts: Sequence[Codes]) -> Codes:
    """The codes of a clip from those of its pieces, in order: streams, packets and side information end to end.

    Raises:
        ValueError: There are none, or they are not of one clip: their rates, channels, codebooks or side differ.
    """
    if not parts:
        raise ValueError("no codes to join")
    kinds = {(part.sample_rate, part.channels, part.codebook_sizes, tuple(sorted(part.side))) for part in parts}
    if len(kinds) > 1:
        raise ValueError("codes with different rates, channels, codebooks or side information are not of one clip")
    first = parts[0]
    return Codes(
        sum(part.length for part in parts),
        first.sample_rate,
        first.channels,
        tuple(np.concatenate(stream) for stream in zip(*(part.streams for part in parts), strict=True)),
        first.codebook_sizes,
        {name: np.concatenate([part.side[name] for part in parts]) for name in first.side},
        tuple(packet for part in parts for packet in part.packets),
    )


class Quantiser(Protocol):
    """A quantiser of single frames: what came before a frame does not matter."""

    def encode(self, x: Tensor, codebooks: int | None = None) -> Tensor:
        """Codes ``[B, K, F]`` of `x` ``[B, D, F]``, from the first `codebooks` (None: all)."""

    def decode(self, codes: Tensor) -> Tensor:
        """Frames ``[B, D, F]`` of `codes` ``[B, K, F]``."""


class Network(Protocol):
    """A codec of causal blocks around a quantiser."""

    @property
    def encoder(self) -> nn.Module:
        """Waveform ``[B, C, T]`` to latent frames ``[B, D, F]``."""

    @property
    def quantiser(self) -> Quantiser:
        """Of those frames."""

    @property
    def synthesis(self) -> nn.Module:
        """Quantised frames ``[B, D, F]`` to waveform ``[B, C, F * hop]``."""


class NetworkEncodeStream(EncodeStream):
    """The encoder of a codec around a `Network` on `device`.

    Zeros extend a clip to a multiple of `whole` samples, and by `late` more: the output comes so much later.
    """

    def __init__(
        self, network: Network, card: Card, point: OperatingPoint, device: str, *, whole: int = 1, late: int = 0
    ) -> None:
        from codecbench.models.blocks.streaming import Streamed

        self._encoder, self._quantiser = Streamed(network.encoder), network.quantiser
        self._card, self._device, self._whole, self._late = card, device, whole, late
        self._streams = card.streams_at(point)
        self._length = 0

    def push(self, samples: Audio) -> Codes:
        """Encode the next samples ``[C, T]``; returns every frame that they complete."""
        self._length += samples.shape[1]
        return self._take(samples, last=False)

    def finish(self) -> Codes:
        """The frames that the clip's end cuts."""
        missing = -self._length % self._whole + self._late
        return self._take(np.zeros((self._card.channels or 1, missing), np.float32), last=True)

    def _take(self, samples: Audio, *, last: bool) -> Codes:
        import torch

        with torch.inference_mode():
            x = torch.tensor(samples, device=self._device)[None]
            latent = self._encoder.finish(x) if last else self._encoder.push(x)
            found = self._quantiser.encode(latent, len(self._streams))[0].to(torch.int32).cpu().numpy()
        sizes = tuple(stream.codebook_size for stream in self._streams)
        length = 0 if last else samples.shape[1]
        return Codes(length, self._card.sample_rate or 0, len(samples), tuple(found), sizes)


class NetworkDecodeStream(DecodeStream):
    """The decoder of a codec around a `Network` on `device`, without the first `late` samples of its output."""

    def __init__(self, network: Network, device: str, late: int = 0) -> None:
        from codecbench.models.blocks.streaming import Streamed

        self._quantiser, self._decoder, self._device = network.quantiser, Streamed(network.synthesis), device
        self._late, self._returned = late, 0

    def push(self, codes: Codes) -> Audio:
        """Decode the next frames, with the codebooks that they have."""
        return self._take(np.stack(codes.streams), last=False)

    def finish(self, length: int) -> Audio:
        """What is left of a clip of `length` samples: something only where the decoder mirrors the first frames."""
        return self._take(np.empty((1, 0), np.int32), last=True)[:, : max(0, length - self._returned)]

    def _take(self, streams: NDArray[Any], *, last: bool) -> Audio:
        import torch

        with torch.inference_mode():
            tokens = torch.tensor(streams, device=self._device, dtype=torch.long)[None]
            latent = self._quantiser.decode(tokens)
            audio = self._decoder.finish(latent) if last else self._decoder.push(latent)
        samples = np.ascontiguousarray(audio[0, :, self._late :].cpu().numpy())
        self._late = max(0, self._late - audio.shape[-1])
        self._returned += 0 if last else samples.shape[1]
        return samples
