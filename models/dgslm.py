"""dGSLM (arXiv:2203.16502): dialogue that goes on from dialogue, two speakers in two channels.

500 units a channel of a HuBERT that heard telephone calls, 50 a second, repetitions included. The language model, equal
to fairseq's on equal weights, draws a unit where one begins and says how long it lasts. There is no token for the end:
a response is as long as `Sampling.max_seconds` allows, in whole frames. Each channel has a voice of the vocoder's.

The release draws five continuations and takes the likeliest; here one is drawn. Only units are drawn. Likelihoods are
those of the units that begin, of both channels; for how long they last the model has no probability.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from codecbench import weights
from codecbench.audio import Clip
from codecbench.errors import InvalidSystem
from codecbench.models import unit_files
from codecbench.models.base import Card, Likelihood, LoadOptions, Request, Response, Sampling, SpeechLM, Stream
from codecbench.models.gslm import END, SPECIAL, symbols
from codecbench.models.limits import check_clip, check_request, check_sampling
from codecbench.weights import WeightFile

if TYPE_CHECKING:
    from torch import Tensor

    from codecbench.models.blocks.dialogue_lm import DialogueLM
    from codecbench.models.blocks.unit_vocoder import UnitVocoder
    from codecbench.models.blocks.units import Tokeniser

UNITS, RATE = 500, 50
STREAM = Stream(UNITS, RATE)
LONGEST = 6144
"""Frames that the model was trained on: it hears and tells no more, and scores in windows of so many."""
VOICES = 0, 4
"""Speakers of the vocoder, one a channel, as in the release's examples."""
RELEASE = f"{unit_files.TEXTLESS}/dgslm/checkpoints"
FILES = tuple(
    WeightFile(f"dgslm.{name}", f"{RELEASE}/{path}", licence="MIT")
    for name, path in (
        ("speech_dlm_base.pt", "speech_dlm/speech_dlm_base.pt"),
        ("dict.unitA.txt", "speech_dlm/dict.unitA.txt"),
        ("hubert_fisher.pt", "hubert/hubert_fisher.pt"),
        ("hubert_fisher_km_500.bin", "hubert/hubert_fisher_km_500.bin"),
        ("hifigan_vocoder.pt", "hifigan/hifigan_vocoder"),
        ("hifigan_vocoder.json", "hifigan/config.json"),
    )
)


class DGSLM(SpeechLM):
    """dGSLM, in its best configuration: units where they begin, and durations a step late."""

    card = Card(
        name="dgslm", kind="lm", family="dGSLM", track="official", sample_rate=16_000, channels=2,
        points=(unit_files.point(STREAM, STREAM),), streams=(STREAM, STREAM), tasks=("continuation",), weights=FILES,
        weights_licence="MIT", training_data=("Fisher (2 000 h)",), paper="arXiv:2203.16502",
    )  # fmt: skip
    size: ClassVar[Mapping[str, Any]] = {}
    """Of the language model, as of `blocks.dialogue_lm.DialogueShape`."""
    features: ClassVar[Mapping[str, Any]] = {"layer": 12}
    """Of HuBERT, as of `blocks.units.Features`."""
    vocoder_shape: ClassVar[Mapping[str, Any]] = {"speakers": 200}
    """Of the vocoder on random weights, as of `blocks.unit_vocoder.UnitVocoderShape`."""
    use_cache = True
    """False computes all steps anew for each: the same, and slower."""

    def __init__(
        self, lm: DialogueLM, tokeniser: Tokeniser, vocoder: UnitVocoder, ids: Sequence[int], device: str
    ) -> None:
        import torch

        from codecbench.models.blocks.inference import ready

        self._parameters = sum(p.numel() for part in (lm, tokeniser, vocoder) for p in part.parameters())
        self.lm = lm.requires_grad_(False).eval().to(device)
        self._tokeniser = tokeniser.requires_grad_(False).eval().to(device)
        self._vocoder, self._device = ready(vocoder, device), device
        self._ids = torch.tensor(ids, device=device)
        self._unit_of = torch.zeros(lm.shape.vocabulary, dtype=torch.long, device=device)
        self._unit_of[self._ids] = torch.arange(UNITS, device=device)
        self._allowed = torch.zeros(lm.shape.vocabulary, dtype=torch.bool, device=device)
        self._allowed[self._ids] = True

    @classmethod
    def load(cls, options: LoadOptions) -> DGSLM:
        """Load the released files, a folder with them, or random weights."""
        import torch

        from codecbench.models.blocks.dialogue_lm import DialogueLM, DialogueShape
        from codecbench.models.blocks.unit_lm import enliven

        if (seed := options.random_seed) is not None:
            parts = unit_files.random_parts(cls.features, UNITS, cls.vocoder_shape, seed)
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)
                lm = DialogueLM(DialogueShape(SPECIAL + UNITS, **cls.size))
            enliven(lm)
            return cls(lm, *parts, range(SPECIAL, SPECIAL + UNITS), options.device)
        given = options.weights
        paths = [weights.resolve(cls.card.name, f, given / f.name if given else None) for f in cls.card.weights]
        return cls.read(paths, options.device)

    @classmethod
    def read(cls, paths: Sequence[Path], device: str) -> DGSLM:
        """The model of the released files, in the order of the card.

        Raises:
            InvalidSystem: A file is damaged, or is another model's.
        """
        from codecbench.models.blocks import dialogue_lm
        from codecbench.models.blocks.units import Features
        from codecbench.models.inert import read_fairseq

        checkpoint, dictionary, hubert, codebook, vocoder, config = paths
        state, _ = read_fairseq(checkpoint)
        try:
            lines = [line.split()[0] for line in dictionary.read_text(encoding="utf-8").splitlines() if line.strip()]
            ids = symbols(lines, UNITS).units
        except (OSError, ValueError) as error:
            raise InvalidSystem(f"{dictionary}: {error}") from error
        lm = dialogue_lm.DialogueLM(dialogue_lm.DialogueShape(SPECIAL + len(lines), **cls.size))
        weights.load_state(lm, dialogue_lm.own_names(state), checkpoint)
        tokeniser = unit_files.read_tokeniser(Features(**cls.features), hubert, codebook, UNITS)
        return cls(lm, tokeniser, unit_files.read_vocoder(vocoder, config), ids, device)

    def parameters(self) -> int:
        """Number of learnt parameters of all three networks, without the k-means codebook."""
        return self._parameters

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        """Dialogue that goes on from each request's audio."""
        check_sampling(sampling)
        for request in requests:
            check_request(self.card, request, frame=self._tokeniser.net.reach)
        if not requests:
            return []
        from codecbench.models.blocks.dialogue_lm import generate
        from codecbench.models.blocks.sampling import drawer

        frames = int(sampling.max_seconds * RATE + 1e-6)
        prompts = [self.tokens(self.encode(request.audio)) for request in requests if request.audio]
        longest = max(prompt.shape[1] for prompt in prompts)
        if longest + frames > LONGEST:
            raise ValueError(f"{longest} frames of audio and {frames} more; {self.card.name} has room for {LONGEST}")
        draw = drawer(requests, sampling)
        found = generate(self.lm, prompts, frames, allowed=self._allowed, draw=draw, use_cache=self.use_cache)
        return [Response(self.decode(self._unit_of[own]), tokens=own.numel()) for own in found]

    def loglikelihood(self, items: Sequence[Clip]) -> list[Likelihood]:
        """Log-likelihood of the units that begin in each clip, of both channels."""
        for clip in items:
            check_clip(self.card, clip, self._tokeniser.net.reach)
        return [self._score(clip) for clip in items]

    def encode(self, clip: Clip) -> Tensor:
        """Units ``[2, F]`` of a clip."""
        import torch

        with torch.inference_mode():
            return torch.stack([self._tokeniser(torch.tensor(own, device=self._device)) for own in clip.samples])

    def tokens(self, units: Tensor) -> Tensor:
        """`units` ``[2, F]`` as tokens ``[2, 1 + F]``, after the end of what was before."""
        import torch

        return torch.cat([torch.full_like(units[:, :1], END), self._ids[units]], dim=1)

    def decode(self, units: Tensor) -> Clip:
        """What `units` ``[2, F]`` sound like."""
        import torch

        with torch.inference_mode():
            if not units.shape[1]:
                return Clip(np.zeros((2, 0), np.float32), self.card.sample_rate or 0)
            spoken = [self._vocoder(own, speaker=voice) for own, voice in zip(units, VOICES, strict=True)]
            return Clip(torch.stack(spoken).cpu().numpy(), self.card.sample_rate or 0)

    def _score(self, clip: Clip) -> Likelihood:
        import torch

        tokens = self.tokens(self.encode(clip))
        with torch.inference_mode():
            starts = range(0, tokens.shape[1] - 1, LONGEST - 1)
            nats = sum(float(self.lm.loglikelihood(tokens[:, s : s + LONGEST]).double().sum()) for s in starts)
        return Likelihood(nats, int((tokens[:, 1:] != tokens[:, :-1]).sum()), clip.duration)


SYSTEMS = (DGSLM,)
