"""EnCodec with its language model: the same tokens in fewer bits (arXiv:2210.13438, section 3.3).

A Transformer predicts all codebooks of a frame from the frames before it, and an arithmetic coder writes each token in
about as many bits as its probability says. The tokens, and so the sound, are those of the plain model at the same
point; the paper reports up to 40 % fewer bits. What is sent is one packet a clip: a byte with the number of codebooks,
then what the release writes behind a file's header (`codecbench.models.ecdc`). A point's kbps are those of its tokens;
what it takes is measured. On random weights, whose predictions are worthless, it is a little more.

It is slow: the encoder and the decoder take one step of the Transformer a frame, 75 or 150 a second, one after
another, each about 5 to 10 ms on a core. Both must do the same arithmetic, or the decoder goes astray
(`codecbench.models.arithmetic`): decode where you encode, with the same number of threads. A packet from elsewhere that
is decoded to something else is noticed only if its bytes do not come out even.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from codecbench import weights
from codecbench.audio import Audio, Clip
from codecbench.models import arithmetic, encodec
from codecbench.models.base import Card, Codec, Codes, LoadOptions, OperatingPoint
from codecbench.models.ecdc import Tokens, check_codebooks, read_segments, write_segments
from codecbench.models.encodec import Encodec

if TYPE_CHECKING:
    from codecbench.models.blocks.token_lm import TokenNetwork

CONTEXT = 3.5
"""Seconds of the past that a frame sees in each layer."""


def _card(base: Card, file: str) -> Card:
    points = tuple(replace(point, streams=None, setting=point.streams) for point in base.points)
    return replace(
        base, name=f"{base.name}_lm", points=points, streams=(), nested=False, side=(), lookahead=None, streaming=False,
        weights=(*base.weights, encodec.release_file(file)),
    )  # fmt: skip


class EncodecLM(Codec):
    """What both models share."""

    base: ClassVar[type[Encodec]]
    """The codec whose tokens are coded."""

    def __init__(self, codec: Encodec, network: TokenNetwork, device: str) -> None:
        self._codec, self._device = codec, device
        self._network = network.requires_grad_(False).eval().to(device)

    @classmethod
    def load(cls, options: LoadOptions) -> EncodecLM:
        """Load the two released files, a folder that holds both under their names, or random weights."""
        from codecbench.models.blocks import token_lm

        card = cls.base.card
        context = int(CONTEXT * (card.streams[0].frame_rate or 0))
        network = token_lm.build(token_lm.TokenLM(len(card.streams), context), options.random_seed or 0)
        if options.random_seed is not None:
            return cls(cls.base.load(options), network, options.device)
        given = options.weights
        first, second = (
            weights.resolve(cls.card.name, file, given / file.name if given else None) for file in cls.card.weights
        )
        state = weights.rename_keys(weights.read_state_dict(second), token_lm.RELEASED_NAMES)
        weights.load_state(network, state, second)
        return cls(cls.base.load(replace(options, weights=first)), network, options.device)

    def encode(self, clips: Sequence[Clip], point: OperatingPoint) -> list[Codes]:
        """Encode each clip to tokens, and those to a packet."""
        return [self.compress(item) for item in self._codec.encode(clips, self.base.card.point(point.name))]

    def decode(self, codes: Sequence[Codes]) -> list[Audio]:
        """Decode each packet to tokens, and those to samples."""
        return self._codec.decode([self.expand(item) for item in codes])

    def parameters(self) -> int:
        """Number of learnt parameters of the codec and the language model, without the codebooks."""
        return self._codec.parameters() + sum(parameter.numel() for parameter in self._network.parameters())

    def compress(self, codes: Codes) -> Codes:
        """The tokens of `base` as one packet."""
        packet = bytes([len(codes.streams)]) + write_segments(self.base, codes, self._write)
        return Codes(codes.length, codes.sample_rate, codes.channels, packets=(packet,))

    def expand(self, codes: Codes) -> Codes:
        """The tokens that `compress` had.

        Raises:
            ValueError: The packet is damaged, or was written with other weights or on another kind of machine.
        """
        (packet,) = codes.packets
        codebooks = packet[0] if packet else 0
        check_codebooks(self.base, codebooks)
        return read_segments(
            self.base, codes.length, packet[1:], lambda data, frames: self._read(data, codebooks, frames)
        )

    def _write(self, tokens: Tokens) -> bytes:
        coder, predictor = arithmetic.Encoder(), _Predictor(self._network, len(tokens), self._device)
        for frame in tokens.T:
            for symbol, cdf in zip(frame.tolist(), predictor.next(), strict=True):
                coder.push(symbol, cdf)
            predictor.heard(frame)
        return coder.finish()

    def _read(self, data: bytes, codebooks: int, frames: int) -> tuple[Tokens, int]:
        coder, predictor = arithmetic.Decoder(data), _Predictor(self._network, codebooks, self._device)
        tokens = np.empty((codebooks, frames), np.int32)
        for f in range(frames):
            tokens[:, f] = [coder.pull(cdf) for cdf in predictor.next()]
            predictor.heard(tokens[:, f])
        return tokens, coder.consumed


class _Predictor:
    """The distributions of one frame after another, from the frames before it."""

    def __init__(self, network: TokenNetwork, codebooks: int, device: str) -> None:
        import torch

        self._network = network
        self._inputs = torch.zeros(1, codebooks, 1, dtype=torch.long, device=device)
        self._past: Sequence[torch.Tensor] | None = None
        self._frames = 0

    def next(self) -> NDArray[np.int64]:
        """Cumulative distributions ``[K, N]`` of the next frame; call once a frame."""
        import torch

        with torch.inference_mode():
            found, self._past = self._network(self._inputs, self._past, self._frames)
        self._frames += 1
        return arithmetic.quantised_cdf(np.ascontiguousarray(found[0, :, :, 0].T.cpu().numpy()))

    def heard(self, frame: NDArray[np.integer[Any]]) -> None:
        """Say what the frame's codes ``[K]`` were."""
        import torch

        self._inputs = 1 + torch.tensor(frame, dtype=torch.long, device=self._inputs.device).view(1, -1, 1)


class Encodec24LM(EncodecLM):
    """EnCodec, 24 kHz, mono, with its language model."""

    base = encodec.Encodec24
    card = _card(base.card, "encodec_lm_24khz-1608e3c0.th")


class Encodec48LM(EncodecLM):
    """EnCodec, 48 kHz, stereo, with its language model, which starts afresh in every segment."""

    base = encodec.Encodec48
    card = _card(base.card, "encodec_lm_48khz-7add9fc3.th")


SYSTEMS = (Encodec24LM, Encodec48LM)
