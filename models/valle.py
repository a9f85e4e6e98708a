"""VALL-E (arXiv:2301.02111) and VALL-E X (arXiv:2303.03926): speech in a voice of which there is a recording.

One network predicts the first of eight codebooks of EnCodec at 24 kHz code by code, another the others at once. The
text is phonemes; the words and the sound of the voice come first. Microsoft published neither code nor weights.

- ``valle`` loads what lifeiteng/vall-e trains: a folder with one checkpoint (``*.pt``), its
  ``unique_text_tokens.k2symbols``, and EnCodec's file unless that is in the cache. Text is read by eSpeak NG as
  American English, with the extra ``phonemes``.
- ``valle_x`` is the published model of VALL-E-X. Its text is an IPA of its own, a letter a token, made of English (the
  extra ``phonemes``), Chinese or Japanese (the extra ``cjk``); voice and text may differ in language. The language of a
  text is told by a vector that is added to it.

Equal to the open code on equal weights, but for two things: that stops after 16 codes a phoneme, this at
`Sampling.max_seconds`; and VALL-E-X now decodes with Vocos, this with EnCodec, as it did before. Codes of the first
codebook are drawn, of the others the likeliest are taken. On random weights, the text is read as its bytes.

A ``continuation`` may be told the words of its audio and those to come. Likelihoods are those without a text: of the
first codebook given the past, and of each other one given all of those before it.

Nothing is streamed: the second network hears all codes of a codebook before it says the first of the next, so no audio
is certain before the last code of the first codebook is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from codecbench import weights
from codecbench.audio import Clip
from codecbench.models import valle_files
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
    Task,
)  # fmt: skip
from codecbench.models.codec_tokens import CodecTokens, encodec_24khz
from codecbench.models.limits import check_clip, check_request, check_sampling, seconds_of
from codecbench.models.phonemes import EspeakReader, Reader, VallexReader, read_bytes

if TYPE_CHECKING:
    from torch import Tensor

    from codecbench.models.blocks.valle import Prompt, ValleLM, ValleShape

SAMPLE_RATE, FRAME_RATE, CODEBOOKS, CODEBOOK_SIZE = 24_000, 75, 8, 1024
LIBRILIGHT = "Libri-Light"


def card(name: str, family: str, tasks: tuple[Task, ...], paper: str, **facts: Any) -> Card:
    """The card of a language model over EnCodec at 24 kHz and 6 kbps."""
    return Card(
        name=name, kind="lm", family=family, track="official", sample_rate=SAMPLE_RATE, channels=1,
        points=(OperatingPoint("6kbps", 6.0, CODEBOOKS),), streams=(Stream(CODEBOOK_SIZE, FRAME_RATE),) * CODEBOOKS,
        tasks=tasks, paper=paper, **facts,
    )  # fmt: skip


class ValleSystem(SpeechLM):
    """What all models of the family share.

    Attributes:
        settings: Of `ValleShape`, where they are not its own.
        codec_width: Of EnCodec; another only in tests.
        languages: Those that it speaks, and their numbers if the model is told: their places here.
        use_cache: False computes all steps anew for each: the same, and slower.
        repetition_aware: Draw as VALL-E 2 does (arXiv:2406.05370), which leaves loops.
        stops_early: The end comes as soon as it is the likeliest, even if another code was drawn.
    """

    settings: ClassVar[dict[str, Any]] = {}
    codec_width: ClassVar[int] = 32
    languages: ClassVar[tuple[str, ...]] = ("en",)
    use_cache = True
    repetition_aware = False
    stops_early = False

    def __init__(
        self, network: ValleLM, codec: CodecTokens, read: Reader, device: str, *, compiled: bool = False
    ) -> None:
        from codecbench.models.blocks.inference_lm import ready_lm

        self._parameters = sum(parameter.numel() for parameter in network.parameters()) + codec.parameters()
        self.lm = ready_lm(network, device, compiled=compiled)
        self.codec, self._read, self._device = codec, read, device

    @classmethod
    def load(cls, options: LoadOptions) -> ValleSystem:
        """Load the files that the module's docstring names, or random weights."""
        if options.random_seed is None:
            return cls.from_files(options)
        codec = encodec_24khz(options.device, seed=options.random_seed, width=cls.codec_width)
        return cls(cls.build(options.random_seed), codec, read_bytes, options.device, compiled=options.compile)

    @classmethod
    def from_files(cls, options: LoadOptions) -> ValleSystem:
        """Load a folder with a model that was trained for this implementation, and reads bytes."""
        folder = weights.unpublished(cls.card.name, options.weights)
        network = cls.build(0)
        valle_files.fill_own(network, network.shape, folder)
        codec = encodec_24khz(options.device, path=valle_files.encodec_file(folder), width=cls.codec_width)
        return cls(network, codec, read_bytes, options.device, compiled=options.compile)

    @classmethod
    def build(cls, seed: int, shape: ValleShape | None = None) -> ValleLM:
        """The networks with random weights from `seed`; torch's own random state is left as it was."""
        import torch

        from codecbench.models.blocks.valle import ValleLM, ValleShape

        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return ValleLM(shape or ValleShape(**cls.settings))

    def parameters(self) -> int:
        """Number of learnt parameters, with the codec's but without its codebooks."""
        return self._parameters

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        """Speech: a text in a voice, or the continuation of a recording."""
        check_sampling(sampling)
        for request in requests:
            self.check(request)
        return self._speak(requests, sampling) if requests else []

    def _speak(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        """The answers to requests that are checked."""
        limits = [self.codec.frames(seconds_of(request, sampling)) for request in requests]
        prompts = [self.prompt(request) for request in requests]
        draw = self.drawer(requests, sampling)
        found = self.lm.generate(prompts, limits, draw, use_cache=self.use_cache)
        return [
            Response(self.speak(request, prompt, codes), tokens=codes.numel(), ended=ended)
            for request, prompt, (codes, ended) in zip(requests, prompts, found, strict=True)
        ]

    def loglikelihood(self, items: Sequence[Clip]) -> list[Likelihood]:
        """Log-likelihood of each clip's codes, of all codebooks."""
        for clip in items:
            check_clip(self.card, clip, self.codec.hop)
        return [self._score(clip) for clip in items]

    def check(self, request: Request) -> None:
        """ValueError for a request that the model cannot take."""
        check_request(self.card, request, frame=self.codec.hop, languages=self.languages)
        for language in (request.language, request.source_language):
            if language is not None and language not in self.languages:
                raise ValueError(f"{self.card.name} knows {', '.join(self.languages)}, not '{language}'")
        if request.task == "tts" and request.audio is not None and not (request.transcript or "").strip():
            raise ValueError(f"{self.card.name} needs the words of the voice: the request's transcript")

    def prompt(self, request: Request) -> Prompt:
        """What the codes that `request` asks for follow."""
        from codecbench.models.blocks.valle import Prompt

        language = request.language or self.languages[0]
        source = request.source_language or language
        transcript = (request.transcript or "") if request.audio is not None else ""
        reading = self._read(transcript, request.text or "", language=language, source_language=source)
        numbers = [self.languages.index(name) for name in (source, language)]
        spoken = None
        if self.lm.shape.languages:
            spoken = [numbers[index >= reading.voice] for index in range(len(reading.ids))]
        return Prompt(
            self._ids(reading.ids), self.codec.encode(request.audio), said=self._ids(reading.said),
            text_languages=None if spoken is None else self._ids(spoken),
        )  # fmt: skip

    def speak(self, request: Request, prompt: Prompt, codes: Tensor) -> Clip:
        """The clip of the new `codes` ``[K, F]``; of a continuation, the decoder hears what was before."""
        import torch

        if request.task != "continuation":
            return self.codec.decode(codes)
        whole = self.codec.decode(torch.cat([prompt.codes, codes], dim=1))
        return Clip(whole.samples[:, prompt.codes.shape[1] * self.codec.hop :].copy(), whole.sample_rate)

    def drawer(
        self, requests: Sequence[Request], sampling: Sampling
    ) -> Callable[[int, Tensor, Sequence[int]], int]:  # fmt: skip
        """A function that draws the codes of the first codebook, with a random state for each request."""
        from codecbench.models.blocks import sampling as blocks

        states = [blocks.generator(sampling.seed, request) for request in requests]

        def draw(number: int, logits: Tensor, found: Sequence[int]) -> int:
            end = self.lm.shape.end
            if self.stops_early and int(logits.argmax()) == end:
                return end
            if self.repetition_aware and sampling.temperature and sampling.top_k != 1:  # greedy stays greedy
                return blocks.draw_repetition_aware(logits, found, sampling, states[number])
            return int(blocks.draw(logits, sampling, states[number]))

        return draw

    def _ids(self, ids: Sequence[int]) -> Tensor:
        import torch

        return torch.tensor(list(ids), dtype=torch.long, device=self._device)

    def _score(self, clip: Clip) -> Likelihood:
        codes = self.codec.encode(clip)
        nats = float(self.lm.loglikelihood(self.prompt(Request("tts")), codes).sum())
        return Likelihood(nats, codes.numel(), clip.duration)


class Valle(ValleSystem):
    """VALL-E, for checkpoints of lifeiteng/vall-e."""

    card = card(
        "valle", "VALL-E", ("tts", "continuation"), "arXiv:2301.02111", unpublished=True, batches=True,
        training_data=(LIBRILIGHT,),
    )  # fmt: skip
    stops_early = True

    @classmethod
    def from_files(cls, options: LoadOptions) -> ValleSystem:
        """Load the folder of a training run."""
        folder = weights.unpublished(cls.card.name, options.weights)
        path = valle_files.checkpoint_file(cls.card.name, folder)
        state, settings = valle_files.read_checkpoint(path)
        network = cls.build(0, valle_files.shape_of(state, settings, path))
        _fill(network, state, path)
        codec = encodec_24khz(options.device, path=valle_files.encodec_file(folder), width=cls.codec_width)
        return cls(network, codec, EspeakReader(folder / valle_files.SYMBOLS), options.device, compiled=options.compile)


class ValleX(ValleSystem):
    """VALL-E X as Plachtaa/VALL-E-X trained it."""

    card = card(
        "valle_x", "VALL-E X", ("tts", "continuation"), "arXiv:2303.03926", weights=(*valle_files.VALLEX,
        valle_files.ENCODEC), weights_licence="MIT", training_data=("not stated",), batches=True,
    )  # fmt: skip
    settings: ClassVar[dict[str, Any]] = {"text": 2048, "starts": True, "languages": 3}
    languages = ("en", "zh", "ja")

    @classmethod
    def from_files(cls, options: LoadOptions) -> ValleSystem:
        """Load the released files, or a folder with them."""
        given = options.weights
        files = cls.card.weights
        model, text, codec = (weights.resolve(cls.card.name, f, given / f.name if given else None) for f in files)
        network = cls.build(0)
        _fill(network, valle_files.read_checkpoint(model)[0], model)
        tokens = encodec_24khz(options.device, path=codec, width=cls.codec_width)
        return cls(network, tokens, VallexReader(text), options.device, compiled=options.compile)


def _fill(network: ValleLM, state: dict[str, Tensor], path: Path) -> None:
    from codecbench.models.blocks.valle import from_released

    weights.load_state(network, from_released(state), path)


SYSTEMS = (Valle, ValleX)
