"""AudioLM (arXiv:2209.03143): speech and piano that go on from a few seconds of themselves.

Three Transformers, one after another: semantic tokens (25 a second, repetitions left out); then the coarse tokens of
SoundStream, four codebooks of twelve, given all semantic ones; then the fine tokens, in chunks of 3 s, given the
coarse ones. For piano, the codec has three large codebooks and there are no fine tokens.

Nothing was published but the paper. Its semantic tokens are clusters of w2v-BERT's features, at 25 a second; here, of
those of a HuBERT at that rate, the one of TWIST (`codecbench.models.twist`), which comes with the weights.
What the paper leaves open: the Transformers are T5's (see `blocks.stage_lm`); the first two stages have a token for the
end, and without one a response ends at `Sampling.max_seconds`; acoustic stages see the prompt and all that came.

`Sampling.temperature` multiplies those of the paper: 0.6, 0.8 and 0.6. As in the paper's tests of words and sentences
(sWUGGY, sBLIMP), the log-likelihood is that of the semantic tokens alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

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
from codecbench.models.limits import check_clip, check_request, check_sampling

if TYPE_CHECKING:
    from torch import Tensor, nn

    from codecbench.models.blocks.audiolm import AudioLMShape
    from codecbench.models.blocks.stage_lm import Draw


@dataclass(frozen=True)
class Size:
    """What the models differ in.

    Attributes:
        dimension, layers, heads: Of each Transformer, whose feed-forward parts are four times as wide.
        units: Semantic tokens.
        unit_hop: Samples from one to the next.
        coarse: Codebooks of the second stage.
        strides, width: Of the codec's encoder.
        chunk: Frames that the third stage sees at once.
        temperatures: Of the stages.
        deduplicated: Repetitions of semantic tokens are left out.
    """

    dimension: int = 1024
    layers: int = 12
    heads: int = 16
    units: int = 1024
    unit_hop: int = 640
    coarse: int = 4
    strides: tuple[int, ...] = (2, 4, 5, 8)
    width: int = 32
    chunk: int = 150
    temperatures: tuple[float, float, float] = (0.6, 0.8, 0.6)
    deduplicated: bool = True


@dataclass(frozen=True, eq=False)
class Said:
    """What the first stage gave: semantic tokens ``[1, N]`` of prompt and response, and how many are `new`."""

    tokens: Tensor
    new: int
    ended: bool
    """The end came."""


class AudioLM(SpeechLM):
    """What all models share, and MusicLM too. `networks` has them as `stages`, `units` and `codec`."""

    size: ClassVar[Size]
    features: ClassVar[Mapping[str, Any]] = {
        "layer": 11, "convs": ((512, 10, 5), *[(512, 3, 2)] * 4, *[(512, 2, 2)] * 3)
    }  # fmt: skip
    """Of what semantic tokens are clusters, as of `blocks.units.Features`."""
    zero_padded: ClassVar[bool] = False
    """The codec takes whole frames."""
    use_cache = True
    """False computes all steps anew for each: the same, and slower."""

    def __init__(self, networks: nn.ModuleDict, device: str) -> None:
        from codecbench.models.blocks.inference import ready
        from codecbench.models.codec_tokens import CodecTokens

        self._parameters = sum(parameter.numel() for parameter in networks.parameters())
        self._device = device
        self.networks: Any = networks.requires_grad_(False).eval().to(device)
        self.stages: Any = networks["stages"]
        codec: Any = ready(networks["codec"], device)
        rate = self.card.sample_rate or 0
        count = len(self.card.streams)
        self.codec = CodecTokens(codec, count, codec.net.hop, rate, device, zero_padded=self.zero_padded)

    @classmethod
    def load(cls, options: LoadOptions) -> AudioLM:
        """Load a file with weights of all networks, by the names that they have here, or random weights."""
        seed = options.random_seed
        path = weights.unpublished(cls.card.name, options.weights) if seed is None else None
        networks = cls.build(seed or 0)
        if path is not None:
            weights.load_state(networks, weights.read_state_dict(path), path)
        return cls(networks, options.device)

    @classmethod
    def build(cls, seed: int) -> nn.ModuleDict:
        """The networks with random weights from `seed`; torch's own random state is left as it was."""
        import torch

        parts = {"stages": cls.language(seed), "units": cls.tokeniser(seed), "codec": cls.acoustic(seed)}
        return torch.nn.ModuleDict(parts)

    @classmethod
    def language(cls, seed: int) -> nn.Module:
        """The language models."""
        import torch

        from codecbench.models.blocks.audiolm import AudioLMStages

        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return AudioLMStages(cls.shape())

    @classmethod
    def shape(cls) -> AudioLMShape:
        """The stages' shape."""
        from codecbench.models.blocks import audiolm, stage_lm

        size, streams = cls.size, cls.card.streams
        return audiolm.AudioLMShape(
            stage_lm.t5_decoder(size.dimension, size.layers, size.heads), size.units, len(streams),
            streams[0].codebook_size, size.coarse, size.chunk, deduplicated=size.deduplicated,
        )  # fmt: skip

    @classmethod
    def tokeniser(cls, seed: int) -> nn.Module:
        """Semantic tokens: takes samples ``[T]``, gives units ``[F]``."""
        import torch

        from codecbench.models.blocks import units

        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            tokeniser = units.Tokeniser(units.Features(**cls.features), cls.size.units).eval()
        units.fill(tokeniser, torch.Generator().manual_seed(seed))
        return tokeniser

    @classmethod
    def reach(cls) -> int:
        """Samples of the shortest clip that has a semantic token."""
        from codecbench.models.blocks.units import Features

        return Features(**cls.features).reach

    @classmethod
    def acoustic(cls, seed: int) -> nn.Module:
        """The codec: ``encode([1, 1, T], codebooks)`` gives ``[1, K, F]``, and `decode` goes back."""
        from codecbench.models.blocks.soundstream import SoundStream, SoundStreamCodec, build, enliven

        size, streams = cls.size, cls.card.streams
        net = SoundStream(dimension=64, width=size.width, strides=size.strides)
        codec = build(lambda: SoundStreamCodec(net, len(streams), streams[0].codebook_size), seed)
        enliven(codec, seed)
        return codec

    def parameters(self) -> int:
        """Number of learnt parameters of all networks."""
        return self._parameters

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        """Audio that goes on from each request's."""
        check_sampling(sampling)
        for request in requests:
            check_request(self.card, request, frame=self.reach())
        if not requests:
            return []
        draws = self.draws(requests, sampling)
        codes = [self.codec.encode(request.audio) for request in requests]
        frames = int(sampling.max_seconds * (self.card.sample_rate or 0) / self.codec.hop + 1e-6)
        told = [self.told(request) for request in requests]
        said = self.speak([self.units(request.audio) for request in requests], told, sampling, draws[0])
        found = self.sound(codes, said, told, frames, draws)
        parts = zip(codes, said, found, strict=True)
        return [self._respond(prompt, own.new, whole, ended=over) for prompt, own, (whole, over) in parts]

    def _respond(self, prompt: Tensor, units: int, codes: Tensor, *, ended: bool) -> Response:
        new = codes.shape[1] - prompt.shape[1]
        clip = self.codec.decode(codes)
        samples = clip.samples[:, max(0, clip.length - new * self.codec.hop) :].copy()
        return Response(Clip(samples, clip.sample_rate), tokens=units + new * len(codes), ended=ended)

    def loglikelihood(self, items: Sequence[Clip]) -> list[Likelihood]:
        """Log-likelihood of each clip's semantic tokens."""
        for clip in items:
            check_clip(self.card, clip, self.reach())
        return [self._score(clip) for clip in items]

    def _score(self, clip: Clip) -> Likelihood:
        import torch

        with torch.inference_mode():
            said, semantic = self.stages.simplified(self.units(clip)), self.stages.semantic
            (nats,) = semantic.nats([semantic.prefix({})], [said])
        return Likelihood(float(nats.sum()), said.numel(), clip.duration)

    def units(self, clip: Clip | None) -> Tensor:
        """Semantic tokens ``[F]`` of a clip; none of none."""
        import torch

        if clip is None:
            return torch.zeros(0, dtype=torch.long, device=self._device)
        with torch.inference_mode():
            units: Tensor = self.networks["units"](torch.tensor(clip.samples[0], device=self._device))
            return units

    def told(self, request: Request) -> Mapping[str, Tensor]:  # noqa: ARG002 - AudioLM is told nothing
        """What tells the first two stages what to do: codes ``[K, F]`` by kind."""
        return {}

    def draws(self, requests: Sequence[Request], sampling: Sampling) -> list[Draw]:
        """For each stage a function that draws a token; all share the random states of the requests."""
        from codecbench.models.blocks.sampling import draw, generator

        states = [generator(sampling.seed, request) for request in requests]

        def at(temperature: float) -> Callable[[int, Tensor], Tensor]:
            own = replace(sampling, temperature=sampling.temperature * temperature)
            return lambda number, logits: draw(logits, own, states[number])

        return [at(temperature) for temperature in self.size.temperatures]

    def speak(
        self, units: Sequence[Tensor], told: Sequence[Mapping[str, Tensor]], sampling: Sampling, draw: Draw
    ) -> list[Said]:  # fmt: skip
        """The first stage: from the `units` of each prompt to semantic tokens of prompt and response."""
        stage = self.stages.semantic
        known = [self.stages.simplified(own) for own in units]
        most = max(1, int(sampling.max_seconds * (self.card.sample_rate or 0) / self.size.unit_hop + 1e-6))
        found = stage.extend([stage.prefix(own) for own in told], known, most, draw, use_cache=self.use_cache)
        parts = zip(known, found, strict=True)
        return [Said(_joined(past, more, self.size), more.shape[1], over) for past, (more, over) in parts]

    def sound(
        self, codes: Sequence[Tensor], said: Sequence[Said], told: Sequence[Mapping[str, Tensor]],
        frames: int, draws: Sequence[Draw],
    ) -> list[tuple[Tensor, bool]]:  # fmt: skip
        """The other stages: codes ``[K, F]`` of prompt and response, and whether the end came."""
        stage, size = self.stages.coarse, self.size
        prefixes = [stage.prefix({**own, "semantic": heard.tokens}) for own, heard in zip(told, said, strict=True)]
        known = [own[: size.coarse] for own in codes]
        found = stage.extend(prefixes, known, frames, draws[1], use_cache=self.use_cache)
        coarse = [_cat(past, more) for past, (more, _) in zip(known, found, strict=True)]
        whole = self.stages.refine(coarse, codes, draws[2], use_cache=self.use_cache)
        return [(own, over) for own, (_, over) in zip(whole, found, strict=True)]


def _cat(past: Tensor, more: Tensor) -> Tensor:
    import torch

    return torch.cat([past, more], dim=1)


def _joined(past: Tensor, more: Tensor, size: Size) -> Tensor:
    """Semantic tokens ``[1, N]`` of both, as the second stage was taught to see them."""
    import torch

    whole = _cat(past, more)
    return torch.unique_consecutive(whole)[None] if size.deduplicated else whole


def _card(name: str, codebooks: int, codebook_size: int, data: str) -> Card:
    kbps = codebooks * 50 * (codebook_size.bit_length() - 1) / 1000
    return Card(
        name=name, kind="lm", family="AudioLM", track="official", sample_rate=16_000, channels=1,
        points=(OperatingPoint(f"{kbps:g}kbps", kbps, codebooks),), streams=(Stream(codebook_size, 50),) * codebooks,
        tasks=("continuation",), unpublished=True, training_data=(data,), paper="arXiv:2209.03143",
    )  # fmt: skip


class AudioLMSpeech(AudioLM):
    """AudioLM for speech, with 0.3 G parameters a stage in the paper's size."""

    card, size = _card("audiolm", 12, 1024, "Libri-Light (60 000 h)"), Size()


class AudioLMPiano(AudioLM):
    """AudioLM for piano: three codebooks, no fine stage."""

    card, size = _card("audiolm_piano", 3, 16_384, "40 000 h of piano (Google)"), Size(coarse=3)


SYSTEMS = (AudioLMSpeech, AudioLMPiano)
