"""The interface of every system: its card of declared facts, its codes, and its verbs.

A codec turns clips into `Codes` and `Codes` into samples; nothing else passes between the two, and the harness
packs the codes to bytes and unpacks them again in between, so that every bit is counted. A codec works on lists
of clips, each with its own length: padding to a batch is the adapter's own business, and cannot leak.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import log, log2
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from codecbench.weights import WeightFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from codecbench.audio import Audio, Clip

Kind = Literal["codec", "lm", "control"]
Track = Literal["official", "small", "classical", "control"]
Task = Literal[
    "continuation", "tts", "asr", "mt", "s2st", "s2tt", "slu", "captioning", "enhancement", "removal", "extraction",
    "editing", "dereverberation", "conversion", "singing", "music", "sound",
]  # fmt: skip

SIDE_DTYPES = ("float16", "float32", "int8", "int16", "int32", "uint8", "uint16")


@dataclass(frozen=True)
class Stream:
    """One stream of tokens: `codebook_size` entries, `frame_rate` tokens a second (None: one a sample)."""

    codebook_size: int
    frame_rate: float | None


@dataclass(frozen=True)
class SideInfo:
    """An array that a codec's own format sends beside its tokens; it is packed and counted."""

    name: str
    dtype: Literal["float16", "float32", "int8", "int16", "int32", "uint8", "uint16"]


@dataclass(frozen=True)
class OperatingPoint:
    """One bitrate of a system.

    `kbps` is the nominal bitrate (None where it follows the clip's sample rate); the bitrate that is reported is
    measured. `streams` is how many of the card's streams the point sends, for a codec whose points are prefixes
    of the richest one; `own_streams` are its streams, for a codec whose points differ in their codebooks. `setting`
    is the adapter's own value for anything else, such as an encoder's mode.
    """

    name: str
    kbps: float | None = None
    streams: int | None = None
    setting: int | float | str | None = None
    own_streams: tuple[Stream, ...] = ()


@dataclass(frozen=True)
class Card:
    """What a system declares about itself. The harness measures what can be measured and shows both.

    Attributes:
        name: The registered name.
        kind: ``codec``, ``lm`` (a language model) or ``control``.
        family: The architecture, such as ``EnCodec``; configurations of one architecture share it.
        track: The part of the leaderboard the system competes in.
        sample_rate: In Hz; None for a control that runs at the clip's own rate.
        channels: Channels of the model; None for any. Mono clips are copied to all channels of a model that has
            more, and its output is averaged.
        streams: The token streams of the richest point; empty for a codec that sends packets of bytes.
        points: The operating points, poorest first.
        nested: Every point's codes are a prefix of the richest point's streams: encode once, decode many.
        side: Arrays sent beside the tokens.
        causal: Encoder and decoder look no further ahead of a frame's end than the `delay` of the output; None if
            unknown.
        delay: Declared delay of the output in samples at `sample_rate`, which the adapter has removed already.
        lookahead: Samples beyond the end of a frame that must have come in before the frame can come out: of encoder
            and decoder together, with `delay`. Negative where the rest of the frame itself is not needed; None if
            unknown. A frame and the look-ahead are the algorithmic latency, which `codecbench.models.latency` measures.
        warm_up: Samples of a clip's start that must have come in before anything can come out, where they are more
            than a frame and the look-ahead: of a codec that mirrors them, to have a past.
        streaming: It has `Codec.encode_stream` and `Codec.decode_stream`, or a `SpeechLM.stream` of many pieces.
        batches: `SpeechLM.generate` works on a list of requests at once, gives each what it gives it alone, but where
            rounding decides between two tokens, and heeds `Request.max_seconds`.
        tasks: What a language model can do.
        likelihood: A language model gives the likelihood of audio; one that only hears it, or speaks no tokens, cannot,
            and its `loglikelihood` raises ValueError.
        sampling: How a language model is sampled where nobody says otherwise: names and values of `Sampling`.
        licence: SPDX identifier of the model's code or implementation.
        weights: The official files; empty for a system that has none.
        unpublished: It takes weights, but none were ever published: it runs on a file of the user's or random ones.
        package_weights: The file below `codecbench.models` that holds the weights, for a system whose weights come with
            this package.
        label: What its weights are called wherever its numbers stand, where readers might take them for published ones.
        weights_licence: SPDX identifier (or name) of the weights' licence.
        training_data: The training sets, as published.
        contamination: What is known of test recordings among the training data, such as ``none of the test sets``.
        paper: arXiv identifier, DOI or standard.
        requires: The extra of this package that the system needs, such as ``codec2``.
        requirements: Packages (PEP 508) that the system needs and this package's environment lacks; it then runs
            in an environment of its own.
        expected_failures: (name, reason) of each conformance check that the system is known to fail.
    """

    name: str
    kind: Kind
    family: str
    track: Track
    sample_rate: int | None
    channels: int | None
    points: tuple[OperatingPoint, ...]
    streams: tuple[Stream, ...] = ()
    nested: bool = False
    side: tuple[SideInfo, ...] = ()
    causal: bool | None = None
    delay: int = 0
    lookahead: int | None = None
    warm_up: int = 0
    streaming: bool = False
    batches: bool = False
    tasks: tuple[Task, ...] = ()
    likelihood: bool = True
    sampling: tuple[tuple[str, float], ...] = ()
    licence: str = "Apache-2.0"
    weights: tuple[WeightFile, ...] = ()
    unpublished: bool = False
    package_weights: str = ""
    label: str = ""
    weights_licence: str = ""
    training_data: tuple[str, ...] = ()
    contamination: str = ""
    paper: str = ""
    requires: str = ""
    requirements: tuple[str, ...] = ()
    expected_failures: tuple[tuple[str, str], ...] = ()

    def point(self, name: str) -> OperatingPoint:
        """The operating point called `name`; KeyError if the card has none."""
        return {point.name: point for point in self.points}[name]

    def streams_at(self, point: OperatingPoint) -> tuple[Stream, ...]:
        """The token streams that `point` sends."""
        return point.own_streams or self.streams[: point.streams]

    def nominal_kbps(self, streams: int) -> float | None:
        """Bitrate of the first `streams` streams in kbps: the sum of frame rate times log2 of codebook size."""
        used = self.streams[:streams]
        if not used or any(stream.frame_rate is None for stream in used):
            return None
        return sum((stream.frame_rate or 0) * log2(stream.codebook_size) for stream in used) / 1000

    def to_json(self) -> dict[str, Any]:
        """The card as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Codes:
    """All that passes from an encoder to a decoder for one clip.

    Attributes:
        length: Samples a channel of the encoded clip.
        sample_rate: Of the encoded clip, in Hz.
        channels: Of the encoded clip.
        streams: ``K`` integer arrays, each ``[F_k]``; a codec's streams may have different lengths.
        codebook_sizes: ``K`` sizes; the values of stream ``k`` lie in ``[0, codebook_sizes[k])``.
        side: Declared arrays of the card's `SideInfo`, of any shape.
        packets: The packets of a codec that sends bytes; such a codec has no streams.
    """

    length: int
    sample_rate: int
    channels: int = 1
    streams: tuple[NDArray[np.integer[Any]], ...] = ()
    codebook_sizes: tuple[int, ...] = ()
    side: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    packets: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if len(self.streams) != len(self.codebook_sizes):
            raise ValueError(f"{len(self.streams)} streams but {len(self.codebook_sizes)} codebook sizes")
        if self.streams and self.packets:
            raise ValueError("codes are token streams or packets of bytes, not both")
        for k, (stream, size) in enumerate(zip(self.streams, self.codebook_sizes, strict=True)):
            _check_stream(k, stream, size)
        for name, array in self.side.items():
            if array.dtype.name not in SIDE_DTYPES:
                raise ValueError(f"side information '{name}' has dtype {array.dtype}, not one of {SIDE_DTYPES}")
        if not all(isinstance(packet, bytes) for packet in self.packets):
            raise ValueError("every packet is a bytes object")

    def prefix(self, streams: int) -> Codes:
        """The same codes with only the first `streams` streams: the codes of a poorer nested point."""
        return replace(self, streams=self.streams[:streams], codebook_sizes=self.codebook_sizes[:streams])


def _check_stream(k: int, stream: NDArray[Any], size: int) -> None:
    if not hasattr(stream, "dtype"):
        raise ValueError(f"stream {k} is a {type(stream).__name__}, not integers [F]")
    if stream.ndim != 1 or stream.dtype.kind not in "iu":
        raise ValueError(f"stream {k} is {stream.dtype} {list(stream.shape)}, not integers [F]")
    if size < 1:
        raise ValueError(f"stream {k} has codebook size {size}")
    if stream.size and (int(stream.min()) < 0 or int(stream.max()) >= size):
        raise ValueError(f"stream {k} has codes in [{stream.min()}, {stream.max()}], outside [0, {size})")


@dataclass(frozen=True)
class LoadOptions:
    """How a system is to be loaded.

    Attributes:
        device: A torch device string.
        weights: A local file or folder to use in place of the official files; None for those.
        random_seed: Run on random weights from this seed. Shown in every row, never ranked.
        compile: Run the network through `torch.compile`, which needs a C++ compiler on a CPU, and seconds to minutes
            when the codec first encodes and decodes. The last bits of the output may differ, and so codes between two
            equally near entries. A system that has no network, or whose adapter cannot compile it, ignores this.
    """

    device: str = "cpu"
    weights: Path | None = None
    random_seed: int | None = None
    compile: bool = False


class Codec(ABC):
    """A codec. A subclass sets `card` and implements two methods.

    Its module imports nothing heavy at the top: listing the models reads every card and must stay fast.
    """

    card: ClassVar[Card]

    @classmethod
    def load(cls, options: LoadOptions) -> Codec:  # noqa: ARG003 - a codec without weights needs no options
        """Return the codec, ready to run.

        Raises:
            CodecbenchError: The weights are missing, do not match, or an extra is not installed; the message
                is one line and says what to do.
        """
        return cls()

    @abstractmethod
    def encode(self, clips: Sequence[Clip], point: OperatingPoint) -> list[Codes]:
        """Encode each clip at `point`.

        Args:
            clips: Clips of any lengths, at the card's sample rate and channels, samples in [-1, 1].
            point: One of the card's points; for a nested codec always the richest one.

        Returns:
            One `Codes` a clip.
        """

    @abstractmethod
    def decode(self, codes: Sequence[Codes]) -> list[Audio]:
        """Decode each item to float32 samples ``[C, T]``, with the ``C`` and ``T`` of the clip that went in."""

    def parameters(self) -> int:
        """Number of learnt parameters; 0 for a codec that has none."""
        return 0

    def encode_stream(self, point: OperatingPoint) -> EncodeStream:
        """An encoder that takes a clip in pieces; only of a codec whose card says `streaming`."""
        raise NotImplementedError(f"{self.card.name} does not stream, at {point.name} or any other point")

    def decode_stream(self, point: OperatingPoint) -> DecodeStream:
        """A decoder that takes codes in pieces; only of a codec whose card says `streaming`."""
        raise NotImplementedError(f"{self.card.name} does not stream, at {point.name} or any other point")


class EncodeStream(ABC):
    """An encoder with state, for one clip.

    What it returns, joined by `codecbench.models.streaming.join_codes`, is what `Codec.encode` returns for the whole
    clip, but where rounding decides between two equally near entries. Its memory does not grow. Any number of streams
    of a codec may run at once; each is for one clip, and is spent after `finish`.
    """

    @abstractmethod
    def push(self, samples: Audio) -> Codes:
        """Take the next samples ``[C, T]``, any ``T``, also none; return the tokens that are now certain, maybe none.

        That is, from the card's `warm_up` samples on: of ``n`` samples so far, at least the first
        ``(n - lookahead) // hop`` frames. The `length` of what is returned is ``T``, so that the lengths of all pieces
        add up to the clip's. It has all streams of the point, empty ones too.
        """

    @abstractmethod
    def finish(self) -> Codes:
        """The clip has ended: return what is left of its tokens, with length 0."""


class DecodeStream(ABC):
    """A decoder with state, for one clip.

    What it returns, end to end and cut to the clip's length, is what `Codec.decode` returns, but for rounding. As for
    encoders, its memory does not grow, and any number may run at once.
    """

    @abstractmethod
    def push(self, codes: Codes) -> Audio:
        """Take the next tokens (all streams, some frames); return the samples ``[C, T]`` that are now certain.

        The `length` of `codes` says nothing here. So the samples may be more than the clip has, by less than a frame.
        """

    @abstractmethod
    def finish(self, length: int) -> Audio:
        """The clip, of `length` samples a channel, has ended: return what is left, so that all pieces make `length`.

        Where more was returned already than the clip has, the caller cuts it.
        """


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. `temperature` 0 is greedy; `top_k` 0 and `top_p` 1 restrict nothing."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    guidance: float = 1.0
    max_seconds: float = 10.0
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Request:
    """One thing to generate. Every clip is at the card's sample rate and channels.

    Attributes:
        task: What to do.
        text: What to say, to sing, to translate or to depict; an instruction; the edited words of an edit.
        audio: What to go on from, to work on or to understand; for ``tts``, the voice to speak in.
        transcript: The words of `audio`, for a model that wants them.
        reference: A second recording: the speaker to extract or to speak as, the melody to follow.
        language: Of what is generated, as an ISO 639-1 code; of what is said, for ``tts`` and ``asr``.
        source_language: Of `audio` or of the text to translate.
        max_seconds: Of the answer, if less than `Sampling.max_seconds`; for a model whose card says `batches`.
    """

    task: Task
    text: str | None = None
    audio: Clip | None = None
    transcript: str | None = None
    reference: Clip | None = None
    language: str | None = None
    source_language: str | None = None
    max_seconds: float | None = None


@dataclass(frozen=True, eq=False)
class Response:
    """What a model generated.

    Attributes:
        audio: What is new: without the prompt, unless the task is to change all of it.
        text: Likewise.
        tokens: How many it took.
        ended: False if the model has a token for the end and did not come to it within the limit.
        cache_bytes: What its keys and values took at most. The runner fills this in where they lie in a
            `blocks.attention.KeyValueCache`; a model that keeps them elsewhere may say it, or not.
    """

    audio: Clip | None = None
    text: str | None = None
    tokens: int = 0
    ended: bool = True
    cache_bytes: int | None = None


@dataclass(frozen=True)
class Likelihood:
    """Log-likelihood of one item: its sum in nats, over `tokens` tokens, for `seconds` of audio."""

    nats: float
    tokens: int
    seconds: float

    @property
    def bits_per_second(self) -> float:
        """Negative log-likelihood in bits for each second of audio: comparable between vocabularies."""
        return -self.nats / log(2) / self.seconds


class SpeechLM(ABC):
    """A codec language model. A subclass sets `card` (kind ``lm``, with its tasks) and implements both verbs."""

    card: ClassVar[Card]

    @classmethod
    def load(cls, options: LoadOptions) -> SpeechLM:  # noqa: ARG003
        """Return the model, ready to run; see `Codec.load`."""
        return cls()

    @abstractmethod
    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        """Generate one response a request. ValueError for a task that the card does not name."""

    @abstractmethod
    def loglikelihood(self, items: Sequence[Clip]) -> list[Likelihood]:
        """Log-likelihood of each clip under the model. ValueError if the card says that it gives none."""

    def stream(self, request: Request, sampling: Sampling) -> Iterator[Clip]:
        """The audio of `generate` for one request in pieces, each as soon as it is certain.

        Joined, they are that audio, but for rounding. A model whose card does not say `streaming` has one piece.
        """
        response = self.generate([request], sampling)[0]
        if response.audio is not None:
            yield response.audio

    def samples(self, request: Request, sampling: Sampling, count: int) -> list[Response]:
        """`count` answers to one request: those of `generate` with `Sampling.seed` and the seeds after it."""
        seeds = range(sampling.seed, sampling.seed + count)
        return [self.generate([request], replace(sampling, seed=seed))[0] for seed in seeds]

    def parameters(self) -> int:
        """Number of learnt parameters."""
        return 0


@runtime_checkable
class System(Protocol):
    """What the registry holds: a card, and a way to load it. `Codec` and `SpeechLM` classes are such objects."""

    @property
    def card(self) -> Card:
        """The declared facts."""

    def load(self, options: LoadOptions) -> Codec | SpeechLM:
        """Load the system."""
