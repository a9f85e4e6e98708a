"""Mono audio through an encoder or a decoder of PyAV's FFmpeg, packet by packet, without a container."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Literal

import numpy as np

from codecbench.audio import Audio, fit_length
from codecbench.errors import InvalidSystem

if TYPE_CHECKING:
    from av import AudioCodecContext

SampleFormat = Literal["flt", "fltp", "s16"]


def require(system: str, encoder: str, decoder: str) -> None:
    """Raise `InvalidSystem` unless PyAV's FFmpeg has the `encoder` and the `decoder` of `system`."""
    import av

    modes: tuple[tuple[Literal["w", "r"], str, str], ...] = (("w", "encoder", encoder), ("r", "decoder", decoder))
    for mode, what, name in modes:
        try:
            av.codec.Codec(name, mode)
        except av.codec.codec.UnknownCodecError as error:
            raise InvalidSystem(
                f"model '{system}': the FFmpeg of PyAV {av.__version__} has no {what} '{name}'; "
                "install a build of PyAV that has it, or leave the model out"
            ) from error


def encode(
    encoder: str,
    samples: Audio,
    sample_rate: int,
    *,
    bit_rate: int,
    sample_format: SampleFormat,
    options: Mapping[str, str],
    delay: int,
) -> tuple[list[bytes], bytes]:
    """Encode `samples` ``[T]`` in a new encoder.

    Zeros follow the samples for as long as it takes a decoder that lags by `delay` samples to put out the last of
    them; the packets that it does not need for that are dropped. An encoder of 16-bit samples saturates at full scale.

    Returns:
        The packets, and the configuration that a decoder needs besides (FFmpeg's extradata), often empty.
    """
    from av import AudioFrame

    context = _context(encoder, "w", sample_rate, options)
    context.format = sample_format
    context.bit_rate = bit_rate
    context.open()
    size = context.frame_size
    frames = ceil((len(samples) + delay) / size)
    padded = fit_length(samples, frames * size)
    if sample_format == "s16":
        padded = np.clip(np.rint(padded * 32768), -32768, 32767).astype(np.int16)
    packets: list[bytes] = []
    for block in padded.reshape(frames, 1, size):
        frame = AudioFrame.from_ndarray(block, sample_format, "mono")
        frame.sample_rate = sample_rate
        packets += map(bytes, context.encode(frame))
    packets += map(bytes, context.encode(None))
    return packets[:frames], context.extradata or b""


def decode(
    decoder: str,
    packets: Sequence[bytes],
    sample_rate: int,
    options: Mapping[str, str],
    extradata: bytes,
) -> tuple[Audio, int]:
    """Decode `packets` in a new decoder.

    Returns:
        All samples ``[T]``, the delay included, and their rate: the one in the packets where they name one.
    """
    from av import Packet

    context = _context(decoder, "r", sample_rate, options)
    if extradata:
        context.extradata = extradata
    context.open()
    pieces = [np.empty(0, np.float32)]
    for packet in (*map(Packet, filter(None, packets)), None):
        for frame in context.decode(packet):
            piece = frame.to_ndarray()[0]
            pieces.append(piece / np.float32(32768) if piece.dtype == np.int16 else piece)
            sample_rate = frame.sample_rate
    return np.concatenate(pieces), sample_rate


def _context(codec: str, mode: Literal["r", "w"], sample_rate: int, options: Mapping[str, str]) -> AudioCodecContext:
    from av import AudioCodecContext, CodecContext

    context = CodecContext.create(codec, mode)
    if not isinstance(context, AudioCodecContext):
        raise TypeError(f"'{codec}' is no audio codec")
    context.sample_rate = sample_rate
    context.layout = "mono"
    context.options = dict(options)
    context.thread_count = 1
    return context
