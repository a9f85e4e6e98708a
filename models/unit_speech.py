"""What language models of units share: speech to units, more units, and those to speech.

Prompts are units without repetitions; so are the answers, whose durations the vocoder predicts. Prompt and answer are
vocoded in one, and the answer is cut out. `Sampling.max_seconds` allows one unit a frame; what lasts longer is cut.

The log-likelihood is a sum over units. Published zero-shot results divide it by their number (Slam, and SALMon for
TWIST), or do not (SALMon otherwise): `Likelihood` has both. Repetitions are not scored, so that durations do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from codecbench.audio import Audio, Clip
from codecbench.models.base import Likelihood, Request, Response, Sampling, SpeechLM
from codecbench.models.limits import check_clip, check_request, check_sampling, seconds_of

if TYPE_CHECKING:
    from torch import Tensor

    from codecbench.models.blocks.code_vocoder import CodeVocoder
    from codecbench.models.blocks.digit_units import DigitUnits
    from codecbench.models.blocks.unit_lm import UnitLM
    from codecbench.models.blocks.unit_vocoder import UnitVocoder
    from codecbench.models.blocks.units import Tokeniser


@dataclass(frozen=True)
class Symbols:
    """Ids of a language model's vocabulary.

    Attributes:
        units: Of each unit.
        start: Of what precedes every sequence; None for nothing.
        end: Of the end; None for a model that has none.
    """

    units: Sequence[int]
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True)
class Networks:
    """The three networks of a model, and what its tokens mean."""

    tokeniser: Tokeniser | DigitUnits
    lm: UnitLM
    vocoder: UnitVocoder | CodeVocoder
    symbols: Symbols


class UnitSpeechLM(SpeechLM):
    """A language model over one stream of units. A subclass has a `card` and loads its `Networks`."""

    longest: ClassVar[int]
    """Tokens that the language model was trained on: more are not generated, and scored in windows."""
    use_cache = True
    """False computes all steps anew for each: the same, and slower."""

    def __init__(self, networks: Networks, device: str, *, compiled: bool = False) -> None:
        import torch

        from codecbench.models.blocks.inference import ready
        from codecbench.models.blocks.inference_lm import ready_lm

        parts = networks.tokeniser, networks.lm, networks.vocoder
        self._parameters = sum(p.numel() for part in parts for p in part.parameters())
        self.tokeniser = networks.tokeniser.requires_grad_(False).eval().to(device)
        self.lm = ready_lm(networks.lm, device, compiled=compiled)
        self.vocoder: Any = ready(networks.vocoder, device)
        self.symbols, self._device = networks.symbols, device
        self._ids = torch.tensor(networks.symbols.units, device=device)
        vocabulary = self.lm.shape.vocabulary
        self._unit_of = torch.zeros(vocabulary, dtype=torch.long, device=device)
        self._unit_of[self._ids] = torch.arange(len(self._ids), device=device)
        self._allowed = torch.zeros(vocabulary, dtype=torch.bool, device=device)
        self._allowed[self._ids] = True
        if networks.symbols.end is not None:
            self._allowed[networks.symbols.end] = True

    def parameters(self) -> int:
        """Number of learnt parameters of all three networks, without the k-means codebook."""
        return self._parameters

    @property
    def hop(self) -> int:
        """Samples a frame."""
        return self.tokeniser.net.hop

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        """Speech that goes on from each request's audio."""
        check_sampling(sampling)
        for request in requests:
            check_request(self.card, request, frame=self.tokeniser.net.reach)
        if not requests:
            return []
        from codecbench.models.blocks.sampling import drawer

        return self._answer(requests, sampling, drawer(requests, sampling))

    def samples(self, request: Request, sampling: Sampling, count: int) -> list[Response]:
        """`count` answers to one request, which is heard once; see `SpeechLM.samples`."""
        check_sampling(sampling)
        check_request(self.card, request, frame=self.tokeniser.net.reach)
        from codecbench.models.blocks.sampling import sampler

        return self._answer([request] * count, sampling, sampler(request, sampling, count)) if count else []

    def _answer(
        self, requests: Sequence[Request], sampling: Sampling, draw: Callable[[int, Tensor], Tensor]
    ) -> list[Response]:
        frames = [self._frames(request, sampling) for request in requests]
        different = {id(request): request for request in requests}
        heard = {name: self.encode(request.audio) for name, request in different.items() if request.audio}
        prompts = [heard[id(request)] for request in requests]
        found = self.extend(prompts, frames, draw)
        parts = zip(requests, prompts, found, frames, strict=True)
        return [self._respond(*part) for part in parts]

    def _frames(self, request: Request, sampling: Sampling) -> int:
        return int(seconds_of(request, sampling) * (self.card.sample_rate or 0) / self.hop + 1e-6)

    def stream(self, request: Request, sampling: Sampling) -> Iterator[Clip]:
        """The audio of `generate` for one request, as soon as the vocoder has heard enough of what follows."""
        if not self.card.streaming or request.audio is None:
            yield from super().stream(request, sampling)
            return
        check_sampling(sampling)
        check_request(self.card, request, frame=self.tokeniser.net.reach)
        from codecbench.models.blocks.ahead import UnitsAhead, in_pieces
        from codecbench.models.blocks.sampling import drawer

        rate = self.card.sample_rate or 0
        prompt, left = self.encode(request.audio), self._frames(request, sampling) * self.hop
        new = self._new_units(prompt, left // self.hop, partial(drawer([request], sampling), 0))
        speaker = UnitsAhead(self.vocoder, prompt)
        for units, last in in_pieces(new, prompt[None, :0], rate // self.hop):
            audio = speaker.push(units[0], last=last)
            if audio is not None and len(audio) and left:
                samples = audio[None, :left].cpu().numpy()
                left -= samples.shape[1]
                yield Clip(np.ascontiguousarray(samples), rate)

    def _new_units(self, prompt: Tensor, count: int, draw: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
        """The units ``[1, 1]`` that follow those of `prompt`, one by one, up to the end."""
        from codecbench.models.blocks.unit_generation import stream

        tokens = self.tokens(prompt)
        room = min(count, self.longest - len(tokens))
        if room < count and len(tokens) >= self.longest:
            raise ValueError(f"the audio has {len(tokens)} units; {self.card.name} hears {self.longest - 1}")
        more = stream(
            self.lm, tokens, room, allowed=self._allowed, end=self.symbols.end, draw=draw, use_cache=self.use_cache
        )  # fmt: skip
        for token in more:
            if int(token) == self.symbols.end:
                return
            yield self._unit_of[token][None]

    def loglikelihood(self, items: Sequence[Clip]) -> list[Likelihood]:
        """Log-likelihood of each clip's units without repetitions."""
        for clip in items:
            check_clip(self.card, clip, self.tokeniser.net.reach)
        return [self._score(clip) for clip in items]

    def encode(self, clip: Clip) -> Tensor:
        """Units ``[N]`` of a clip, without repetitions."""
        import torch

        from codecbench.models.blocks.units import deduplicate

        with torch.inference_mode():
            return deduplicate(self.tokeniser(torch.tensor(clip.samples[0], device=self._device)))[0]

    def extend(
        self, prompts: Sequence[Tensor], count: int | Sequence[int], draw: Callable[[int, Tensor], Tensor]
    ) -> list[Tensor]:
        """Up to `count` tokens, of all or of each, that follow `prompts`, units ``[N]``; the end last, where it came.

        Raises:
            ValueError: A prompt fills the language model's context.
        """
        from codecbench.models.blocks.unit_generation import generate

        tokens = [self.tokens(prompt) for prompt in prompts]
        longest = max(len(own) for own in tokens)
        if longest >= self.longest:
            raise ValueError(f"the audio has {longest} units; {self.card.name} hears {self.longest - 1}")
        counts = [count] * len(tokens) if isinstance(count, int) else count
        rooms = [min(most, self.longest - len(own)) for own, most in zip(tokens, counts, strict=True)]
        return generate(
            self.lm, tokens, rooms, allowed=self._allowed, end=self.symbols.end, draw=draw, use_cache=self.use_cache
        )

    def tokens(self, units: Tensor) -> Tensor:
        """`units` ``[N]`` as the language model's tokens, after its start."""
        import torch

        start = [] if self.symbols.start is None else [self.symbols.start]
        return torch.cat([torch.tensor(start, dtype=torch.long, device=units.device), self._ids[units]])

    def decode(self, prompt: Tensor, units: Tensor, clip: Clip | None = None) -> Audio:  # noqa: ARG002 - for subclasses
        """What `units` ``[N]`` sound like after those of `prompt`: samples ``[1, T]``.

        Those of `prompt` are the units of `clip`, for a vocoder that takes its voice from there; this one's is its own.
        """
        import torch

        with torch.inference_mode():
            whole = torch.cat([prompt, units])
            durations = self.vocoder.durations(whole)
            start = int(durations[: len(prompt)].sum()) * self.hop
            samples = self.vocoder(torch.repeat_interleave(whole, durations))[None, start:]
        return np.ascontiguousarray(samples.cpu().numpy())

    def _respond(self, request: Request, prompt: Tensor, tokens: Tensor, frames: int) -> Response:
        end = self.symbols.end
        ended = len(tokens) > 0 and int(tokens[-1]) == end
        units = self._unit_of[tokens[:-1] if ended else tokens]
        samples = self.decode(prompt, units, request.audio)[:, : frames * self.hop]
        clip = Clip(np.ascontiguousarray(samples), self.card.sample_rate or 0)
        return Response(clip, tokens=len(tokens), ended=ended or end is None)

    def _score(self, clip: Clip) -> Likelihood:
        from codecbench.models.blocks.unit_generation import loglikelihood

        nats = loglikelihood(self.lm, self.tokens(self.encode(clip)), self.longest)
        return Likelihood(float(nats.double().sum()), len(nats), clip.duration)


def draw_for(draw: Callable[..., Any], rows: Sequence[int], row: int, *logits: Tensor) -> Any:
    """Draw for the request whose number stands in `rows` at `row`."""
    return draw(rows[row], *logits)
