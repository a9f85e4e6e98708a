"""Lyra V2, Google's published SoundStream for speech at 16 kHz: the trained model, run as it was published.

The three files of the release (version 1.3.2) are TFLite models: an encoder, a residual quantiser of 46 codebooks of
16 entries, and a decoder ("LyraGAN"). Encoder and decoder take a frame of 20 ms at a time, keep what they need of the
past, and have no delay: a clip is coded as a stream is. As in the release, samples have 16 bits on either side, and
the points are the first 16, 30 or 46 codebooks. Its packet-loss concealment, comfort noise and discontinuous
transmission have no part here.

Some layers compute in 8 bits, with kernels that depend on the processor: codes may differ between machines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from codecbench import weights
from codecbench.audio import Audio, Clip
from codecbench.errors import InvalidSystem
from codecbench.models.base import (
    Card,
    Codec,
    Codes,
    DecodeStream,
    EncodeStream,
    LoadOptions,
    OperatingPoint,
    Stream,
)
from codecbench.models.streaming import join_codes
from codecbench.weights import WeightFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

HOP = 320
CODEBOOKS = 46
CODEBOOK_SIZE = 16
PARAMETERS = 1_319_873
"""Weights and biases of the encoder's and the decoder's convolutions."""

RELEASE = "https://raw.githubusercontent.com/google/lyra/47698dadf0010abff6a848e02642f55f806d4842/lyra/model_coeffs"
FILES = {
    "soundstream_encoder.tflite": "237da0b16226fb0a68d49551c81bebf614e42142af72764448359f68581e88f1",
    "quantizer.tflite": "841ee05989687d32d1f616a8ad1419fc7eda37599d3c05c7cf5a0d60ccf8ac5c",
    "lyragan.tflite": "50e7839cda4f30599a3a34cfaddcd9c98449b049eee884e1a74295780448ad06",
}
"""The release's files with their SHA-256."""


class Lyra(Codec):
    """Lyra V2 at 3.2, 6 and 9.2 kbps."""

    card: ClassVar[Card] = Card(
        name="lyra_v2",
        kind="codec",
        family="SoundStream",
        track="official",
        sample_rate=16_000,
        channels=1,
        points=tuple(OperatingPoint(f"{count / 5:g}kbps", count / 5, count) for count in (16, 30, 46)),
        streams=(Stream(CODEBOOK_SIZE, 50.0),) * CODEBOOKS,
        nested=True,
        causal=True,
        lookahead=0,
        streaming=True,
        weights=tuple(
            WeightFile(f"lyra-v2-{name}", f"{RELEASE}/{name}", digest, "Apache-2.0") for name, digest in FILES.items()
        ),
        weights_licence="Apache-2.0",
        training_data=("not published",),
        paper="arXiv:2107.03312",
        requires="lyra",
    )

    def __init__(self, encoder: bytes, quantiser: bytes, decoder: bytes) -> None:
        self._encoder, self._decoder = encoder, decoder
        quantise = _interpreter(quantiser, accelerated=False)
        self._quantise = quantise.get_signature_runner("encode")
        self._look_up = quantise.get_signature_runner("decode")

    @classmethod
    def load(cls, options: LoadOptions) -> Lyra:
        """Load the release's files, or those of their names in a folder.

        Raises:
            InvalidSystem: The runtime is not installed, a file is missing or no such model, or random weights are
                asked for.
        """
        name = cls.card.name
        if find_spec("ai_edge_litert") is None:
            raise InvalidSystem(f"model '{name}' needs ai-edge-litert: pip install 'codecbench[lyra]'")
        if options.random_seed is not None:
            raise InvalidSystem(
                f"{name} is a compiled model and has no random weights; `codecbench weights get {name}`"
            )
        folder = options.weights
        paths = [folder / file for file in FILES] if folder else [weights.resolve(name, f) for f in cls.card.weights]
        return cls(*(_read(name, path) for path in paths))

    def encode(self, clips: Sequence[Clip], point: OperatingPoint) -> list[Codes]:
        """Encode each clip ``[1, T]``; samples beyond full scale saturate."""
        return [self._encode(clip, point) for clip in clips]

    def decode(self, codes: Sequence[Codes]) -> list[Audio]:
        """Decode each item, with the codebooks that it has."""
        return [self.decode_stream(self.card.points[-1]).push(item)[:, : item.length] for item in codes]

    def parameters(self) -> int:
        """Number of learnt parameters, without the codebooks."""
        return PARAMETERS

    def _encode(self, clip: Clip, point: OperatingPoint) -> Codes:
        stream = self.encode_stream(point)
        return join_codes([stream.push(clip.samples), stream.finish()])

    def encode_stream(self, point: OperatingPoint) -> LyraEncodeStream:
        """An encoder that takes a clip in pieces."""
        return LyraEncodeStream(_Network(self._encoder), self._quantise, point.streams or CODEBOOKS)

    def decode_stream(self, point: OperatingPoint) -> LyraDecodeStream:  # noqa: ARG002
        """A decoder that takes codes in pieces."""
        return LyraDecodeStream(_Network(self._decoder), self._look_up)


class LyraEncodeStream(EncodeStream):
    """The encoder: a `network` with a memory, and the first `codebooks` of the quantiser."""

    def __init__(self, network: _Network, quantise: Callable[..., Any], codebooks: int) -> None:
        self._network, self._quantise, self._codebooks = network, quantise, codebooks
        self._waiting = np.empty(0, np.float32)

    def push(self, samples: Audio) -> Codes:
        """Encode the next samples ``[1, T]``; returns every frame that they complete."""
        pcm = np.clip(np.rint(samples[0] * 32768), -32768, 32767) / np.float32(32768)
        waiting = np.concatenate([self._waiting, pcm])
        whole = len(waiting) // HOP * HOP
        self._waiting = waiting[whole:]
        return self._encode(waiting[:whole], samples.shape[1])

    def finish(self) -> Codes:
        """The frame that the clip's end cuts, if it cuts one."""
        return self._encode(np.pad(self._waiting, (0, -len(self._waiting) % HOP)), 0)

    def _encode(self, pcm: NDArray[np.float32], length: int) -> Codes:
        frames = pcm.reshape(-1, 1, HOP)
        codes = np.empty((self._codebooks, len(frames)), np.int32)
        for i, frame in enumerate(frames):
            found = self._quantise(input_frames=self._network(frame), num_quantizers=np.int32(self._codebooks))
            codes[:, i] = found["output_0"][: self._codebooks, 0, 0]
        return Codes(length, 16_000, 1, tuple(codes), (CODEBOOK_SIZE,) * self._codebooks)


class LyraDecodeStream(DecodeStream):
    """The decoder: the quantiser's entries, and a `network` with a memory."""

    def __init__(self, network: _Network, look_up: Callable[..., Any]) -> None:
        self._network, self._look_up = network, look_up

    def push(self, codes: Codes) -> Audio:
        """Decode the next frames, with the codebooks that they have."""
        # The quantiser takes -1 for a codebook that was not sent.
        frames = np.full((len(codes.streams[0]), CODEBOOKS, 1, 1), -1, np.int32)
        frames[:, : len(codes.streams), 0, 0] = np.stack(codes.streams, axis=1)
        samples = [self._network(self._look_up(encoding_indices=frame)["output_0"]) for frame in frames]
        pcm = np.trunc(np.clip(np.concatenate([np.empty((1, 0)), *samples], axis=1) * 32768, -32768, 32767))
        return np.asarray(pcm / 32768, np.float32)

    def finish(self, length: int) -> Audio:  # noqa: ARG002
        """Nothing: a frame's samples come with the frame."""
        return np.empty((1, 0), np.float32)


def _read(system: str, path: Path) -> bytes:
    """The model in `path`, if it is one."""
    try:
        model = path.read_bytes()
        _interpreter(model)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).split("\n")[0]
        raise InvalidSystem(f"{system}: {path} cannot be read as a TFLite model: {reason}") from error
    return model


class _Network:
    """A model with a memory, at its beginning: a new interpreter, for nothing can make an old one forget."""

    def __init__(self, model: bytes) -> None:
        self._interpreter = _interpreter(model)
        (source,), (result,) = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self._source, self._result = source["index"], result["index"]

    def __call__(self, frame: NDArray[np.float32]) -> NDArray[np.float32]:
        """The output for the next `frame`."""
        self._interpreter.set_tensor(self._source, frame)
        self._interpreter.invoke()
        return cast("NDArray[np.float32]", self._interpreter.get_tensor(self._result))


def _interpreter(model: bytes, *, accelerated: bool = True) -> Any:
    """An interpreter of one thread; `accelerated` as the release has its networks, but not its quantiser."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kind = OpResolverType.AUTO if accelerated else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=model, num_threads=1, experimental_op_resolver_type=kind)
    interpreter.allocate_tensors()
    return interpreter


SYSTEMS = (Lyra,)
