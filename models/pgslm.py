"""pGSLM (arXiv:2109.03264): speech that goes on from speech in its own melody, by units, durations and pitch.

The language model hears 100 units of HuBERT without repetitions, for how long each lasts and how high it is, and
predicts all three; equal to fairseq's on equal weights. In two of the four released models prosody is codes, in two it
is numbers; one of each predicts prosody without hearing it. There is a token for the end.

`Sampling` is that of the units. Prosody is drawn as the release found best, codes at temperatures of their own and
numbers from a Laplace distribution, or taken at its likeliest where units are (temperature 0 or `top_k` 1). Likelihoods
are those of the units, given the prosody before them.

The pitch tracker is ours, where the release has YAAPT, and a voice's mean pitch is that of the clip, where the release
has the speaker's of all recordings. The vocoder speaks with the voice of Blizzard 2013.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from codecbench import weights
from codecbench.audio import Clip
from codecbench.errors import InvalidSystem
from codecbench.models import unit_files
from codecbench.models.base import Card, Likelihood, LoadOptions, Request, Response, Sampling, SpeechLM, Stream
from codecbench.models.limits import check_clip, check_request, check_sampling
from codecbench.models.unit_speech import draw_for
from codecbench.weights import WeightFile

if TYPE_CHECKING:
    from torch import Tensor

    from codecbench.models.blocks.prosody_lm import ProsodyLM, ProsodyShape, Streams
    from codecbench.models.blocks.unit_vocoder import UnitVocoder
    from codecbench.models.blocks.units import Tokeniser

UNITS, BINS, RATE = 100, 32, 50
LONGEST = 3072
"""Units that the model was trained on."""
DECIMALS = 4
"""Of prosody in numbers: what is lost is inaudible, and rounding errors of a batch or a cache go with it."""
RELEASE = f"{unit_files.TEXTLESS}/pgslm"
BLIZZARD = f"{RELEASE}/vocoder/blizzard2013"
EDGES = WeightFile("pgslm-f0-bins.th", f"{BLIZZARD}/mean_norm_log_f0_seg_bin.th", licence="MIT")


def _card(name: str) -> Card:
    discrete = name.startswith("discrete")
    units = Stream(UNITS, RATE)
    streams = (units, Stream(21, RATE), Stream(BINS, RATE)) if discrete else (units,)
    kind = "naive_quant_32_norm_log_seg_hubert" if discrete else "mean_norm_log_f0_hubert"
    return Card(
        name=f"pgslm_{name}", kind="lm", family="pGSLM", track="official", sample_rate=16_000, channels=1,
        points=(unit_files.point(*streams),), streams=streams, tasks=("continuation",),
        weights=(
            WeightFile(f"pgslm-{name}.pt", f"{RELEASE}/ulm_checkpoints/{name}_shift_1_1.pt", licence="MIT"),
            unit_files.HUBERT, unit_files.HUBERT_100,
            WeightFile(f"pgslm-{kind}.pt", f"{BLIZZARD}/{kind}/checkpoint.pt", licence="MIT"),
            WeightFile(f"pgslm-{kind}.json", f"{BLIZZARD}/{kind}/config.json", licence="MIT"), EDGES,
        ),
        weights_licence="MIT", training_data=("Libri-Light (clean, 6 000 h)", "LibriSpeech", "Blizzard 2013"),
        contamination="HuBERT is trained on the training parts of LibriSpeech", paper="arXiv:2109.03264",
    )  # fmt: skip


class PGSLM(SpeechLM):
    """What the four models share."""

    discrete: ClassVar[bool] = True
    deaf: ClassVar[bool] = False
    spread: ClassVar[tuple[float, float]]
    """Of durations and of heights: temperatures of codes, or scales of Laplace distributions."""
    size: ClassVar[tuple[int, int, int, int]] = (1024, 12, 16, 4096)
    """Channels, layers and heads of the language model, and channels inside its feed-forward parts."""
    features: ClassVar[Mapping[str, Any]] = {"layer": 6}
    """Of HuBERT, as of `blocks.units.Features`."""
    vocoder_shape: ClassVar[Mapping[str, Any]] = {"strides": (5, 4, 2, 2), "kernel_sizes": (11, 8, 4, 4)}
    """Of the vocoder on random weights, but for its pitch, as of `blocks.unit_vocoder.UnitVocoderShape`."""
    use_cache = True
    """False computes all steps anew for each: the same, and slower."""

    def __init__(self, lm: ProsodyLM, tokeniser: Tokeniser, vocoder: UnitVocoder, edges: Tensor, device: str) -> None:
        from codecbench.models.blocks.inference import ready

        self._parameters = sum(p.numel() for part in (lm, tokeniser, vocoder) for p in part.parameters())
        self.lm = lm.requires_grad_(False).eval().to(device)
        self._tokeniser = tokeniser.requires_grad_(False).eval().to(device)
        self._vocoder, self._device = ready(vocoder, device), device
        self._edges = edges.to(device)

    @classmethod
    def load(cls, options: LoadOptions) -> PGSLM:
        """Load the released files, a folder with them, or random weights."""
        import torch

        from codecbench.models.blocks.pitch import bins
        from codecbench.models.blocks.prosody_lm import ProsodyLM
        from codecbench.models.blocks.unit_lm import enliven

        if (seed := options.random_seed) is not None:
            shape = {**cls.vocoder_shape, "pitch": BINS if cls.discrete else -1}
            parts = unit_files.random_parts(cls.features, UNITS, shape, seed)
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)
                lm = ProsodyLM(cls.shape())
            enliven(lm)
            return cls(lm, *parts, bins(BINS), options.device)
        given = options.weights
        paths = [weights.resolve(cls.card.name, f, given / f.name if given else None) for f in cls.card.weights]
        return cls.read(paths, options.device)

    @classmethod
    def shape(cls) -> ProsodyShape:
        """The shape of the language model."""
        from codecbench.models.blocks.prosody_lm import ProsodyShape
        from codecbench.models.blocks.unit_lm import gslm

        return ProsodyShape(gslm(*cls.size), discrete=cls.discrete, deaf=cls.deaf)

    @classmethod
    def read(cls, paths: Sequence[Path], device: str) -> PGSLM:
        """The model of the released files, in the order of the card.

        Raises:
            InvalidSystem: A file is damaged, or is another model's.
        """
        from codecbench.models.blocks import prosody_lm
        from codecbench.models.blocks.units import Features
        from codecbench.models.inert import read_fairseq

        checkpoint, hubert, codebook, vocoder, config, edges = paths
        lm = prosody_lm.ProsodyLM(cls.shape())
        weights.load_state(lm, prosody_lm.own_names(read_fairseq(checkpoint)[0]), checkpoint)
        tokeniser = unit_files.read_tokeniser(Features(**cls.features), hubert, codebook, UNITS)
        spoken = unit_files.read_vocoder(vocoder, config)
        if spoken.net.pitch != (BINS if cls.discrete else -1):
            raise InvalidSystem(f"{config} is of a vocoder with another pitch than {cls.card.name}'s")
        return cls(lm, tokeniser, spoken, read_edges(edges), device)

    def parameters(self) -> int:
        """Number of learnt parameters of all three networks, without the k-means codebook."""
        return self._parameters

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        """Speech that goes on from each request's audio."""
        check_sampling(sampling)
        for request in requests:
            check_request(self.card, request, frame=self._tokeniser.net.reach)
        if not requests:
            return []
        from codecbench.models.blocks.prosody_lm import generate

        frames = int(sampling.max_seconds * RATE + 1e-6)
        prompts = [self.encode(request.audio) for request in requests if request.audio]
        longest = max(len(prompt[0]) for prompt in prompts)
        if longest >= LONGEST - 1:
            raise ValueError(f"the audio has {longest} units; {self.card.name} hears {LONGEST - 2}")
        draw = self._drawer(requests, sampling)
        rooms = [min(frames, LONGEST - 1 - len(prompt[0])) for prompt in prompts]
        found: dict[int, Streams] = {}
        for room in set(rooms):  # one, but for prompts that nearly fill the context
            rows = [b for b, own in enumerate(rooms) if own == room]
            more = generate(
                self.lm, [self._heard(prompts[b]) for b in rows], room, draw=partial(draw_for, draw, rows),
                use_cache=self.use_cache,
            )  # fmt: skip
            found.update(zip(rows, more, strict=True))
        return [self._respond(prompt, found[b], rooms[b], frames) for b, prompt in enumerate(prompts)]

    def loglikelihood(self, items: Sequence[Clip]) -> list[Likelihood]:
        """Log-likelihood of each clip's units, given the prosody before each."""
        for clip in items:
            check_clip(self.card, clip, self._tokeniser.net.reach)
        return [self._score(clip) for clip in items]

    def encode(self, clip: Clip) -> Streams:
        """Units without repetitions, for how many frames each lasts, and how high it is, ``[N]`` each."""
        import torch

        from codecbench.models.blocks import pitch, units

        with torch.inference_mode():
            samples = torch.tensor(clip.samples[0], device=self._device)
            found, durations = units.deduplicate(self._tokeniser(samples))
            spoken = pitch.of_units(pitch.track(samples), durations, self._tokeniser.net.hop // pitch.HOP)
            heights = pitch.normalised(spoken)
            return found, durations, (heights[:, None] > self._edges).sum(dim=1) if self.discrete else heights

    def decode(self, streams: Streams) -> Tensor:
        """What units with durations and heights sound like ``[T]``."""
        import torch

        units, durations, heights = streams
        times = durations.round().long().clamp(min=1)
        each = self._tokeniser.net.hop // self._vocoder.net.hop
        with torch.inference_mode():
            found: Tensor = self._vocoder(units.repeat_interleave(times), heights.repeat_interleave(times * each))
        return found

    def _heard(self, streams: Streams) -> Streams:
        """`streams` as the language model takes them: long durations cut, or all as numbers."""
        units, durations, heights = streams
        if self.discrete:
            return units, durations.clamp(max=self.lm.shape.durations - 1), heights
        return units, durations.to(heights.dtype), heights

    def _drawer(self, requests: Sequence[Request], sampling: Sampling) -> Any:
        import torch

        from codecbench.models.blocks.prosody_lm import laplace
        from codecbench.models.blocks.sampling import draw, generator, pick

        states = [generator(sampling.seed, request) for request in requests]
        greedy = sampling.temperature == 0 or sampling.top_k == 1

        def prosody(values: Tensor, spread: float, random: torch.Generator, *, positive: bool) -> Tensor:
            if self.discrete:
                return values.argmax() if greedy else pick(values / spread, random)
            if greedy:
                return values[0].round(decimals=DECIMALS)
            level = torch.rand((), generator=random, dtype=torch.float64).to(values)
            return laplace(values[0], spread, level, positive=positive).round(decimals=DECIMALS)

        def draw_all(b: int, unit: Tensor, duration: Tensor, height: Tensor) -> Streams:
            token = draw(unit, sampling, states[b])
            lasts = prosody(duration, self.spread[0], states[b], positive=True)
            high = prosody(height, self.spread[1], states[b], positive=False)
            return token, lasts if self.discrete else lasts.round(), high

        return draw_all

    def _respond(self, prompt: Streams, more: Streams, room: int, frames: int) -> Response:
        import torch

        hop, count = self._tokeniser.net.hop, len(more[0])
        whole = tuple(torch.cat([a, b.to(a.dtype)]) for a, b in zip(prompt, more, strict=True))
        start = int(prompt[1].sum()) * hop
        samples = self.decode((whole[0], whole[1], whole[2]))[start : start + frames * hop]
        clip = Clip(np.ascontiguousarray(samples[None].cpu().numpy()), self.card.sample_rate or 0)
        # Fewer units than there was room for: the end came.
        return Response(clip, tokens=3 * count, ended=count < room)

    def _score(self, clip: Clip) -> Likelihood:
        import torch

        from codecbench.models.blocks.prosody_lm import loglikelihood

        streams = self._heard(self.encode(clip))
        with torch.inference_mode():
            parts = [tuple(stream[s : s + LONGEST] for stream in streams) for s in range(0, len(streams[0]), LONGEST)]
            nats = sum(float(loglikelihood(self.lm, (p[0], p[1], p[2])).double().sum()) for p in parts)
        return Likelihood(nats, len(streams[0]), clip.duration)


def read_edges(path: Path) -> Tensor:
    """The edges ``[31]`` between the 32 bins of heights in the release's file of quantisers.

    Raises:
        InvalidSystem: It is damaged, or has none for 32 bins.
    """
    import torch

    from codecbench.models.inert import load_torch

    try:
        found = torch.as_tensor(load_torch(path)[BINS]).float()
    except Exception as error:  # a damaged file makes its reader raise anything
        raise InvalidSystem(f"{path} holds no bins of pitch: {str(error).splitlines()[0]}") from error
    if found.shape != (BINS - 1,):
        raise InvalidSystem(f"{path} holds edges {list(found.shape)}, not those between {BINS} bins")
    return found


class DiscreteProsody(PGSLM):
    """Prosody in codes, heard and predicted."""

    card, spread = _card("discrete_prosody"), (0.25, 0.7)


class DiscreteNoProsody(PGSLM):
    """Prosody in codes, predicted from the units alone."""

    card, spread, deaf = _card("discrete_no_prosody"), (0.25, 0.5), True


class ContinuousProsody(PGSLM):
    """Prosody in numbers, heard and predicted."""

    card, spread, discrete = _card("continuous_prosody"), (0.125, 0.00125), False


class ContinuousNoProsody(PGSLM):
    """Prosody in numbers, predicted from the units alone."""

    card, spread, discrete, deaf = _card("continuous_no_prosody"), (0.125, 0.0003125), False, True


SYSTEMS = (DiscreteProsody, DiscreteNoProsody, ContinuousProsody, ContinuousNoProsody)
