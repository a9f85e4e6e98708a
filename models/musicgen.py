"""MusicGen (arXiv:2306.05284) and the second version of AudioGen (arXiv:2209.15352): text to music, or to sounds.

A Transformer predicts the tokens of four codebooks of EnCodec (eight in stereo), each codebook a step later than the
one before, and hears the text through cross-attention. Equal to the released code on equal weights. One thing differs
from audiocraft, as in ``transformers``: texts of a batch are encoded one by one, so that none hears another's padding.

There is no token for the end: a response is as long as `Sampling.max_seconds` allows, in whole frames. The model was
trained on 30 s; beyond, it goes on in strides of 18 s from the last 12 s. `Sampling.guidance` is that of the release at
3, with `top_k` 250. Likelihoods are those without a text, in windows of 30 s, summed over all codebooks.

What is streamed is certain as soon as a few frames more are known: the codec looks ahead.

On random weights the text is read as its bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np

from codecbench import weights
from codecbench.audio import Clip
from codecbench.models.base import (
    Card,
    Likelihood,
    LoadOptions,
    OperatingPoint,
    Request,
    Response,
    Sampling,
    SpeechLM,
    Stream,
)  # fmt: skip
from codecbench.models.limits import check_clip, check_request, check_sampling, seconds_of
from codecbench.models.musicgen_files import (
    ENCODEC_32,
    LICENCE,
    Networks,
    read_released,
    read_transformers,
    released,
)  # fmt: skip

if TYPE_CHECKING:
    from torch import Tensor

    from codecbench.models.blocks.codebook_lm import CodebookLMShape
    from codecbench.models.blocks.patterns import Pattern

    Melody = Callable[[int], Tensor | None]

CODEBOOKS, CODEBOOK_SIZE, FRAME_RATE = 4, 2048, 50
WINDOW, OVERLAP = 30 * FRAME_RATE, 12 * FRAME_RATE
"""Frames that the model was trained on, and those that it goes on from."""


@dataclass(frozen=True)
class Size:
    """What the models differ in.

    Attributes:
        dimension, layers, heads: Of the language model.
        text: Channels, layers and heads of T5.
        strides: Of the codec's encoder.
        width: Of the codec.
        padding: Of the codec.
    """

    dimension: int
    layers: int
    heads: int
    text: tuple[int, int, int] = (768, 12, 12)
    strides: tuple[int, ...] = (4, 4, 5, 8)
    width: int = 64
    padding: Literal["reflect", "constant"] = "reflect"


class MusicGen(SpeechLM):
    """What all models share."""

    size: ClassVar[Size]
    use_cache = True
    """False computes all steps anew for each: the same, and slower."""

    def __init__(self, networks: Networks, tokenizer: Any, device: str, *, compiled: bool = False) -> None:
        from codecbench.models.blocks.inference import ready
        from codecbench.models.blocks.inference_lm import ready_lm

        self._parameters: int = sum(p.numel() for part in vars(networks).values() for p in part.parameters())
        self.lm = ready_lm(networks.lm, device, compiled=compiled, rows=4)  # for guidance, which has two
        self._text = networks.text.requires_grad_(False).eval().to(device)
        self._codec: Any = ready(networks.codec, device)
        self._tokenizer, self._device = tokenizer, device

    @classmethod
    def load(cls, options: LoadOptions) -> MusicGen:
        """Load the released files, a folder with them or with a model of ``transformers``, or random weights."""
        networks = cls.build(options.random_seed or 0)
        if options.random_seed is not None:
            from codecbench.models.blocks.seanet import enliven

            enliven(networks.codec, options.random_seed, level=0.1, output_level=0.1)
            return cls(networks, None, options.device, compiled=options.compile)
        given = options.weights
        if given is not None and given.is_dir() and any(given.glob("model*.safetensors")):
            return cls(networks, read_transformers(networks, given), options.device, compiled=options.compile)
        paths = [weights.resolve(cls.card.name, f, given / f.name if given else None) for f in cls.card.weights]
        return cls(networks, read_released(networks, paths), options.device, compiled=options.compile)

    @classmethod
    def shape(cls) -> CodebookLMShape:
        """The language model's shape."""
        from codecbench.models.blocks import codebook_lm

        size = cls.size
        backbone = codebook_lm.musicgen(size.dimension, size.layers, size.heads)
        streams = cls.card.streams
        return codebook_lm.CodebookLMShape(backbone, len(streams), streams[0].codebook_size, size.text[0])

    @classmethod
    def build(cls, seed: int) -> Networks:
        """The networks with random weights from `seed`; torch's own random state is left as it was."""
        import torch

        from codecbench.models.blocks import codebook_lm, t5
        from codecbench.models.blocks.conv import ConvStyle
        from codecbench.models.blocks.seanet import SEANet, SEANetCodec

        size = cls.size
        style = ConvStyle("weight", padding=size.padding)
        net = SEANet(width=size.width, strides=size.strides, conv_skip=False, style=style)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            lm = codebook_lm.CodebookLM(cls.shape())
            return Networks(lm, SEANetCodec(net, CODEBOOKS, CODEBOOK_SIZE), t5.T5Encoder(t5.shape(*size.text)))

    def parameters(self) -> int:
        """Number of learnt parameters of all three networks, without the codebooks."""
        return self._parameters

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        """Music or sounds for a text, which may go on from audio; or audio continued, with or without a text."""
        check_sampling(sampling)
        for request in requests:
            check_request(self.card, request, frame=self.hop)
        if not requests:
            return []
        from codecbench.models.blocks.sampling import drawer

        return self._answer(requests, sampling, drawer(requests, sampling))

    def samples(self, request: Request, sampling: Sampling, count: int) -> list[Response]:
        """`count` answers to one request, which is heard once; see `SpeechLM.samples`."""
        check_sampling(sampling)
        check_request(self.card, request, frame=self.hop)
        from codecbench.models.blocks.sampling import sampler

        return self._answer([request] * count, sampling, sampler(request, sampling, count)) if count else []

    def _answer(
        self, requests: Sequence[Request], sampling: Sampling, draw: Callable[[int, Tensor], Tensor]
    ) -> list[Response]:
        frames = [_frames(request, sampling) for request in requests]
        heard = {id(request): request for request in requests}
        prompts = {name: self.encode(request.audio) for name, request in heard.items()}
        texts = {name: self.read(request.text) for name, request in heard.items()}
        melodies = dict(zip(heard, self.melodies(list(heard.values())), strict=False))
        names = [id(request) for request in requests]
        found = self.extend(
            [prompts[name] for name in names], [texts[name] for name in names], frames, draw, sampling.guidance,
            [melodies[name] for name in names if name in melodies],
        )  # fmt: skip
        parts = zip(found, frames, strict=True)
        return [Response(self.decode(codes, count), tokens=len(codes) * count) for codes, count in parts]

    def stream(self, request: Request, sampling: Sampling) -> Iterator[Clip]:
        """The audio of `generate` for one request, frame by frame at first, then in longer pieces, up to a second."""
        check_sampling(sampling)
        check_request(self.card, request, frame=self.hop)
        from codecbench.models.blocks.ahead import SEANetAhead, in_pieces

        channels, prompt = self.card.channels or 1, self.encode(request.audio)
        decoder, skip = SEANetAhead(self._codec), prompt.shape[1] * self.hop
        frames = in_pieces(self.frames(request, sampling, prompt), prompt, FRAME_RATE)
        for codes, last in frames:
            parts = codes.view(-1, channels, codes.shape[1]).transpose(0, 1)
            audio = decoder.push(parts, last=last)
            if audio is None:
                continue
            samples = audio[:, 0, skip:].cpu().numpy()
            skip = max(0, skip - audio.shape[2])
            if samples.shape[1]:
                yield Clip(np.ascontiguousarray(samples), self.card.sample_rate or 0)

    def frames(self, request: Request, sampling: Sampling, prompt: Tensor) -> Iterator[Tensor]:
        """The codes ``[K, n]`` after those of the `prompt` ``[K, P]``, as soon as they are known."""
        import torch

        from codecbench.models.blocks.codebook_generation import stream
        from codecbench.models.blocks.sampling import drawer

        draw, text = partial(drawer([request], sampling), 0), self.read(request.text)
        melodies, codes = self.melodies([request]), prompt
        end = prompt.shape[1] + _frames(request, sampling)
        while codes.shape[1] < end:
            start = _start(codes.shape[1])
            room = _room(codes.shape[1], end)
            more = stream(
                self.lm, codes[:, start:], text, room, layout=self.layout, draw=draw, guidance=sampling.guidance,
                melody=melodies[0](start) if melodies else None, use_cache=self.use_cache,
            )  # fmt: skip
            for new in more:
                codes = torch.cat([codes, new], dim=1)
                yield new

    def loglikelihood(self, items: Sequence[Clip]) -> list[Likelihood]:
        """Log-likelihood of each clip's tokens, of all codebooks."""
        for clip in items:
            check_clip(self.card, clip, self.hop)
        return [self._score(clip) for clip in items]

    @property
    def hop(self) -> int:
        """Samples a frame."""
        return (self.card.sample_rate or 0) // FRAME_RATE

    @property
    def delays(self) -> tuple[int, ...]:
        """Steps by which each codebook is late; in stereo, left and right take turns."""
        channels = self.card.channels or 1
        return tuple(k // channels for k in range(len(self.card.streams)))

    def melodies(self, requests: Sequence[Request]) -> Sequence[Melody]:  # noqa: ARG002 - it hears none
        """What each request is to follow, of a model that hears melodies."""
        return ()

    def layout(self, frames: int) -> Pattern:
        """In which step each code of so many frames is generated."""
        from codecbench.models.blocks import patterns

        return patterns.delay(len(self.delays), frames, self.delays)

    def extend(
        self, codes: Sequence[Tensor], texts: Sequence[Tensor | None], frames: int | Sequence[int],
        draw: Callable[[int, Tensor], Tensor], guidance: float = 1.0, melodies: Sequence[Melody] = (),
    ) -> list[Tensor]:  # fmt: skip
        """The codes ``[K, P]`` of each request with `frames` more.

        Args:
            codes: So far, of each request.
            texts: Of each request, as of `read`.
            frames: How many more: of all, or of each.
            draw: Takes the number of a request and logits ``[K, N]``, and returns codes ``[K]``.
            guidance: As of `Sampling`.
            melodies: Of each request, if the model hears any: chroma ``[M, 12]`` from a frame on, or None.
        """
        import torch

        from codecbench.models.blocks.codebook_generation import generate

        counts = [frames] * len(codes) if isinstance(frames, int) else frames
        found, ends = list(codes), [own.shape[1] + count for own, count in zip(codes, counts, strict=True)]
        heard = [0 if self.lm.shape.backbone.cross or text is None else len(text) for text in texts]
        while groups := _windows([own.shape[1] for own in found], ends, heard):
            for rows in groups.values():
                rooms = [_room(found[b].shape[1], ends[b]) for b in rows]
                starts = [_start(found[b].shape[1]) for b in rows]
                pasts = [found[b][:, start:] for b, start in zip(rows, starts, strict=True)]
                tunes = [melodies[b](start) for b, start in zip(rows, starts, strict=True)] if melodies else None
                more = generate(
                    self.lm, pasts, [texts[b] for b in rows], rooms, layout=self.layout, melodies=tunes,
                    draw=partial(_draw_for, draw, rows), guidance=guidance, use_cache=self.use_cache,
                )  # fmt: skip
                for b, own in zip(rows, more, strict=True):
                    found[b] = torch.cat([found[b], own], dim=1)
        return found

    def encode(self, clip: Clip | None) -> Tensor:
        """Codes ``[K, F]`` of a clip, none for none; in stereo, each codebook's left and right in turn."""
        import torch

        if clip is None:
            return torch.zeros(len(self.card.streams), 0, dtype=torch.long, device=self._device)
        with torch.inference_mode():
            samples = torch.tensor(clip.samples, device=self._device)
            parts = [self._codec.encode(channel[None, None])[0] for channel in samples]
            return torch.stack(parts, dim=1).flatten(0, 1)

    def decode(self, codes: Tensor, frames: int) -> Clip:
        """The last `frames` frames of `codes` ``[K, F]`` as audio."""
        import torch

        rate, channels = self.card.sample_rate or 0, self.card.channels or 1
        if not frames:
            return Clip(np.zeros((channels, 0), np.float32), rate)
        with torch.inference_mode():
            parts = codes.view(-1, channels, codes.shape[1]).transpose(0, 1)
            audio = torch.cat([self._codec.decode(own[None])[0] for own in parts])[:, -frames * self.hop :]
        return Clip(np.ascontiguousarray(audio.cpu().numpy()), rate)

    def read(self, text: str | None) -> Tensor | None:
        """Vectors ``[M, C]`` of the text; None without one."""
        import torch

        if not text or not text.strip():
            return None
        ids = [3 + byte for byte in text.encode()] + [1]
        if self._tokenizer is not None:
            ids = self._tokenizer.encode(text).ids
        with torch.inference_mode():
            return cast("Tensor", self._text(torch.tensor([ids], device=self._device))[0])

    def _score(self, clip: Clip) -> Likelihood:
        import torch

        from codecbench.models.blocks.codebook_generation import loglikelihood

        codes = self.encode(clip)
        parts = torch.split(codes, WINDOW, dim=1)
        nats = sum(float(loglikelihood(self.lm, part, self.layout).sum()) for part in parts)
        return Likelihood(nats, codes.numel(), clip.duration)


def _frames(request: Request, sampling: Sampling) -> int:
    """How many frames the answer to `request` has."""
    return int(seconds_of(request, sampling) * FRAME_RATE + 1e-6)


def _windows(lengths: Sequence[int], ends: Sequence[int], heard: Sequence[int]) -> dict[int, list[int]]:
    """The requests that are not at their end, by how many vectors come before all."""
    groups: dict[int, list[int]] = {}
    for b, (length, end) in enumerate(zip(lengths, ends, strict=True)):
        if length < end:
            groups.setdefault(heard[b], []).append(b)
    return groups


def _room(length: int, end: int) -> int:
    """How many frames come next, of a request with `length` frames so far."""
    return min(end, _start(length) + WINDOW) - length


def _start(length: int) -> int:
    """The first frame that the next window of a request with `length` frames sees."""
    return 0 if length < WINDOW else length - OVERLAP


def _draw_for(draw: Callable[[int, Tensor], Tensor], rows: Sequence[int], row: int, logits: Tensor) -> Tensor:
    """Draw for the request whose number stands in `rows` at `row`."""
    return draw(rows[row], logits)


def _card(name: str, family: str, rate: int, text: str, *, channels: int = 1, **facts: Any) -> Card:
    codebooks = channels * CODEBOOKS
    kbps = codebooks * FRAME_RATE * (CODEBOOK_SIZE.bit_length() - 1) / 1000
    return Card(
        name=name.replace("-", "_"), kind="lm", family=family, track="official", sample_rate=rate, channels=channels,
        points=(OperatingPoint(f"{kbps:g}kbps", kbps, codebooks),),
        streams=(Stream(CODEBOOK_SIZE, FRAME_RATE),) * codebooks,
        weights=released(name, text, None if family == "AudioGen" else ENCODEC_32), weights_licence=LICENCE,
        streaming=True, batches=True, **facts,
    )  # fmt: skip


def musicgen_card(name: str, channels: int = 1) -> Card:
    """The card of a release called `name`."""
    return _card(
        name, "MusicGen", 32_000, "t5-base", channels=channels, tasks=("music", "continuation"),
        training_data=("20 000 h of licensed music (Meta, Shutterstock, Pond5)",), paper="arXiv:2306.05284",
    )  # fmt: skip


SMALL, MEDIUM, LARGE = Size(1024, 24, 16), Size(1536, 48, 24), Size(2048, 48, 32)


class MusicGenSmall(MusicGen):
    """MusicGen with 300 M parameters."""

    card, size = musicgen_card("musicgen-small"), SMALL


class MusicGenMedium(MusicGen):
    """MusicGen with 1.5 G parameters."""

    card, size = musicgen_card("musicgen-medium"), MEDIUM


class MusicGenLarge(MusicGen):
    """MusicGen with 3.3 G parameters."""

    card, size = musicgen_card("musicgen-large"), LARGE


class MusicGenStereoSmall(MusicGen):
    """MusicGen with 300 M parameters, in stereo."""

    card, size = musicgen_card("musicgen-stereo-small", 2), SMALL


class MusicGenStereoMedium(MusicGen):
    """MusicGen with 1.5 G parameters, in stereo."""

    card, size = musicgen_card("musicgen-stereo-medium", 2), MEDIUM


class MusicGenStereoLarge(MusicGen):
    """MusicGen with 3.3 G parameters, in stereo."""

    card, size = musicgen_card("musicgen-stereo-large", 2), LARGE


class AudioGen(MusicGen):
    """The second version of AudioGen, with 1.5 G parameters and a codec of its own at 16 kHz."""

    card = _card(
        "audiogen-medium", "AudioGen", 16_000, "t5-large", tasks=("sound", "continuation"), paper="arXiv:2209.15352",
        training_data=("AudioSet", "BBC Sound Effects", "AudioCaps", "Clotho", "VGG-Sound", "FSD50K", "other effects"),
        contamination="trained on the training parts of AudioCaps and Clotho",
    )  # fmt: skip
    size = Size(1536, 48, 24, text=(1024, 24, 16), strides=(2, 4, 5, 8), padding="constant")


SYSTEMS = (
    MusicGenSmall, MusicGenMedium, MusicGenLarge, MusicGenStereoSmall, MusicGenStereoMedium, MusicGenStereoLarge,
    AudioGen,
)  # fmt: skip
