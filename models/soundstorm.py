"""SoundStorm (arXiv:2305.09636): all codes of a recording at once, from its semantic tokens, in a few dozen passes.

``soundstorm`` is the model of the paper, which was never published. Semantic tokens go on from those of a prompt, or
follow a text; a Conformer then fills in twelve codebooks of SoundStream: 16 passes for the first, one for each other.
What is said of AudioLM's semantic tokens and codec (`codecbench.models.audiolm`) holds here; repetitions stay, and each
token stands for two frames. For texts the paper has a model of its own; here the first stage reads their bytes, that of
the voice's `transcript` first. Its log-likelihood is that of the semantic tokens.

``soundstorm_speechtokenizer`` is the second network alone, on SpeechTokenizer, with published weights of
soundstorm-speechtokenizer (MIT licence). Its network is equal on equal weights. The first codebook holds what is said:
the rest, from `Request.reference`, whose voice it is to be said in. The release's sampling differs from the paper's (it
draws from the 30 % likeliest, colder at first); here it is the paper's, for both. Its log-likelihood is that of all
codebooks after the first, each in one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from codecbench import weights
from codecbench.audio import Clip
from codecbench.models.audiolm import AudioLM, Said, Size
from codecbench.models.base import (
    Card,
    Codes,
    Likelihood,
    LoadOptions,
    OperatingPoint,
    Request,
    Response,
    Sampling,
    SpeechLM,
    Stream,
)  # fmt: skip
from codecbench.models.limits import check_clip, check_request, check_sampling
from codecbench.models.speechtokenizer import SpeechTokenizer, SpeechTokenizerSnake
from codecbench.weights import WeightFile

if TYPE_CHECKING:
    from torch import Tensor, nn

    from codecbench.models.blocks.masked_lm import MaskedLM
    from codecbench.models.blocks.stage_lm import Draw

FIRST_PASSES = 16
"""Of the first codebook; the others have one."""


@dataclass(frozen=True)
class Conformer:
    """The second network's Conformer, as of `blocks.conformer.ConformerShape`."""

    dimension: int = 1024
    layers: int = 12
    heads: int = 16
    head_size: int = 64
    kernel: int = 5

    def network(self, units: int, codebooks: int, codebook_size: int, seed: int) -> MaskedLM:
        """The network with random weights from `seed`; torch's own random state is left as it was."""
        import torch

        from codecbench.models.blocks import masked_lm
        from codecbench.models.blocks.conformer import ConformerShape

        shape = masked_lm.MaskedLMShape(ConformerShape(**vars(self)), units, codebooks, codebook_size)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return masked_lm.MaskedLM(shape)


class SoundStorm(AudioLM):
    """The paper's SoundStorm, with 0.35 G parameters in its second network."""

    card = Card(
        name="soundstorm", kind="lm", family="SoundStorm", track="official", sample_rate=16_000, channels=1,
        points=(OperatingPoint("6kbps", 6.0, 12),), streams=(Stream(1024, 50),) * 12, tasks=("continuation", "tts"),
        unpublished=True, training_data=("Libri-Light (60 000 h)",), paper="arXiv:2305.09636",
    )  # fmt: skip
    size = Size(temperatures=(1.0, 1.0, 1.0), deduplicated=False)
    conformer: ClassVar[Conformer] = Conformer()

    @classmethod
    def language(cls, seed: int) -> nn.Module:
        """Both networks."""
        import torch

        from codecbench.models.blocks.masked_lm import SoundStormStages
        from codecbench.models.blocks.stage_lm import Stage, t5_decoder
        from codecbench.models.blocks.vocabulary import Range

        size, streams = cls.size, cls.card.streams
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            backbone = t5_decoder(size.dimension, size.layers, size.heads)
            semantic = Stage(backbone, (Range("text", 256),), Range("semantic", size.units), ends=True)
        acoustic = cls.conformer.network(size.units, len(streams), streams[0].codebook_size, seed)
        hop = (cls.card.sample_rate or 0) // int(streams[0].frame_rate or 1)
        return SoundStormStages(semantic, acoustic, size.unit_hop // hop)

    def told(self, request: Request) -> Mapping[str, Tensor]:
        """The text to say, as bytes; before it, what is said in the prompt."""
        import torch

        if request.task != "tts":
            return {}
        words = [request.transcript if request.audio else None, request.text]
        text = " ".join(part for part in words if part).encode()
        return {"text": torch.tensor([list(text)], device=self._device)}

    def sound(
        self, codes: Sequence[Tensor], said: Sequence[Said], told: Sequence[Mapping[str, Tensor]],  # noqa: ARG002
        frames: int, draws: Sequence[Draw],
    ) -> list[tuple[Tensor, bool]]:  # fmt: skip
        """The second network: codes ``[K, F]`` of prompt and response, and whether the end came; one after another."""
        return [
            (self._fill(prompt, own, frames, draws[1], b), own.ended)
            for b, (prompt, own) in enumerate(zip(codes, said, strict=True))
        ]

    def _fill(self, prompt: Tensor, said: Said, frames: int, draw: Draw, request: int) -> Tensor:
        import torch
        from torch.nn import functional

        from codecbench.models.blocks import masked_lm

        past, new = torch.split(said.tokens[0], [said.tokens.shape[1] - said.new, said.new])
        count = min(frames, said.new * self.stages.ratio)
        spread = [self.stages.spread(past, prompt.shape[1]), self.stages.spread(new, count)]
        wanted = functional.pad(prompt, (0, count), value=masked_lm.UNKNOWN)
        passes = [FIRST_PASSES] + [1] * (len(prompt) - 1)
        return masked_lm.fill(self.stages.acoustic, torch.cat(spread), wanted, passes, partial(draw, request))


class SoundStormConversion(SpeechLM):
    """SoundStorm on SpeechTokenizer: speech in another voice."""

    card = Card(
        name="soundstorm_speechtokenizer", kind="lm", family="SoundStorm", track="official", sample_rate=16_000,
        channels=1, points=(OperatingPoint("4kbps", 4.0, 8),), streams=SpeechTokenizerSnake.card.streams,
        tasks=("conversion",), weights=(
            WeightFile(
                "speechtokenizer_soundstorm_mls.pt",
                "https://huggingface.co/fnlp/AnyGPT-speech-modules/resolve/main/soundstorm/"
                "speechtokenizer_soundstorm_mls.pt", licence="not stated",
            ),
            *SpeechTokenizerSnake.card.weights,
        ), weights_licence="not stated", training_data=("Multilingual LibriSpeech (English)",),
        paper="arXiv:2305.09636",
    )  # fmt: skip
    conformer: ClassVar[Conformer] = Conformer(heads=8, head_size=128, kernel=31)
    codec: ClassVar[type[SpeechTokenizer]] = SpeechTokenizerSnake

    def __init__(self, network: MaskedLM, codec: Any, device: str) -> None:
        self._network = network.requires_grad_(False).eval().to(device)
        self._codec, self._device = codec, device

    @classmethod
    def load(cls, options: LoadOptions) -> SoundStormConversion:
        """Load the two released files, a folder with both, or random weights."""
        from codecbench.models.blocks.masked_lm import from_released

        stream = cls.card.streams[0]
        network = cls.conformer.network(
            stream.codebook_size, len(cls.card.streams) - 1, stream.codebook_size, options.random_seed or 0
        )  # fmt: skip
        if options.random_seed is not None:
            return cls(network, cls.codec.load(options), options.device)
        given = options.weights
        path, codec = (weights.resolve(cls.card.name, f, given / f.name if given else None) for f in cls.card.weights)
        weights.load_state(network, from_released(weights.read_state_dict(path)), path)
        return cls(network, cls.codec.load(replace(options, weights=codec)), options.device)

    def parameters(self) -> int:
        """Number of learnt parameters of the network and the codec."""
        return sum(parameter.numel() for parameter in self._network.parameters()) + int(self._codec.parameters())

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        """Each request's audio in the voice of its reference."""
        check_sampling(sampling)
        for request in requests:
            check_request(self.card, request, frame=self._hop)
        from codecbench.models.blocks.sampling import drawer

        draw = drawer(requests, sampling)
        pairs = [(request.audio, request.reference) for request in requests]
        return [
            self._convert(audio, voice, sampling.max_seconds, partial(draw, b))
            for b, (audio, voice) in enumerate(pairs)
            if audio and voice  # which `check_request` saw to
        ]

    def _convert(
        self, audio: Clip, reference: Clip, seconds: float, draw: Callable[[Tensor], Tensor]
    ) -> Response:  # fmt: skip
        import torch
        from torch.nn import functional

        from codecbench.models.blocks import masked_lm

        length = min(audio.length, int(seconds * audio.sample_rate + 1e-6))
        said, voice = self.encode(audio)[:, : -(-length // self._hop)], self.encode(reference)
        wanted = functional.pad(voice[1:], (0, said.shape[1]), value=masked_lm.UNKNOWN)
        passes = [FIRST_PASSES] + [1] * (len(wanted) - 1)
        units = torch.cat([voice[0], said[0]])
        found = masked_lm.fill(self._network, units, wanted, passes, draw)
        codes = torch.cat([said[:1], found[:, voice.shape[1] :]])
        streams = tuple(codes.to(torch.int32).cpu().numpy())
        sizes = tuple(stream.codebook_size for stream in self.card.streams)
        (samples,) = self._codec.decode([Codes(length, audio.sample_rate, 1, streams, sizes)])
        return Response(Clip(samples, audio.sample_rate), tokens=codes[1:].numel())

    def loglikelihood(self, items: Sequence[Clip]) -> list[Likelihood]:
        """Log-likelihood of all codebooks after the first, given that."""
        from codecbench.models.blocks.masked_lm import loglikelihood

        for clip in items:
            check_clip(self.card, clip, self._hop)
        found = []
        for clip in items:
            codes = self.encode(clip)
            nats = loglikelihood(self._network, codes[0], codes[1:])
            found.append(Likelihood(float(nats.sum()), nats.numel(), clip.duration))
        return found

    def encode(self, clip: Clip) -> Tensor:
        """Codes ``[K, F]`` of a clip."""
        import torch

        (codes,) = self._codec.encode([clip], self._codec.card.points[-1])
        return torch.tensor(np.stack(codes.streams), dtype=torch.long, device=self._device)

    @property
    def _hop(self) -> int:
        return round((self.card.sample_rate or 0) / (self.card.streams[0].frame_rate or 1))


SYSTEMS = (SoundStorm, SoundStormConversion)
