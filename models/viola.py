"""VioLA (arXiv:2305.16107): recognition, translation and synthesis of speech by one causal codec language model.

A task is told by a number, and so is the language of every part. Speech that comes in is heard in all codebooks, what
comes out is written in the first; VALL-E's second network adds the others. Speech is translated as the paper does it,
by the model's own tasks one after another: what was said, what that is in the other language, and that text in the
voice.

Neither code nor weights were published. It runs on random weights, or on a folder of one's own with
``model.safetensors`` and EnCodec's file, unless that is in the cache. What the paper's summaries leave open is decided
here: text is bytes, not phonemes; task and language of what is to come are one step before it; the language of a part
is added to each of its steps; and the size is that of VALL-E with 18 causal layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from codecbench import weights
from codecbench.audio import Clip
from codecbench.models import valle_files
from codecbench.models.base import Likelihood, LoadOptions, Request, Response, Sampling, SpeechLM
from codecbench.models.codec_tokens import CodecTokens, encodec_24khz
from codecbench.models.limits import GIVES_TEXT, TRANSLATES, check_clip, check_request, check_sampling
from codecbench.models.phonemes import IN_BYTES, Script
from codecbench.models.valle import LIBRILIGHT, card

if TYPE_CHECKING:
    from torch import Tensor

    from codecbench.models.blocks.autoregressive import Draw
    from codecbench.models.blocks.viola import Question, ViolaCausal, ViolaLM

TASKS = ("asr", "mt", "s2tt", "tts")
"""What the model is told; speech-to-speech translation is made of them."""
LANGUAGES = ("en", "zh")


class Viola(SpeechLM):
    """VioLA.

    Attributes:
        settings: Dimension, layers, heads, and of `ValleShape` for the second network.
        script: How text is read and written.
        codec_width: Of EnCodec; another only in tests.
        longest: Ids of text that it writes.
        use_cache: False computes all steps anew for each: the same, and slower.
    """

    card = card(
        "viola", "VioLA", ("asr", "mt", "s2tt", "tts", "s2st"), "arXiv:2305.16107", unpublished=True,
        training_data=("WenetSpeech", LIBRILIGHT, "AI Challenger", "WMT 2020"),
    )  # fmt: skip
    settings: ClassVar[dict[str, Any]] = {"dimension": 1024, "layers": 18, "heads": 16, "fine": {}}
    script: ClassVar[Script] = IN_BYTES
    codec_width: ClassVar[int] = 32
    longest: ClassVar[int] = 500
    use_cache = True

    def __init__(self, network: ViolaLM, codec: CodecTokens, device: str) -> None:
        self._parameters = sum(parameter.numel() for parameter in network.parameters()) + codec.parameters()
        self.lm = network.requires_grad_(False).eval().to(device)
        self.codec, self._device = codec, device

    @classmethod
    def load(cls, options: LoadOptions) -> Viola:
        """Load a folder of one's own, or random weights."""
        seed = options.random_seed
        if seed is not None:
            return cls(cls.build(seed), encodec_24khz(options.device, seed=seed, width=cls.codec_width), options.device)
        folder = weights.unpublished(cls.card.name, options.weights)
        network = cls.build(0)
        valle_files.fill_own(network, network.shape.fine, folder)
        codec = encodec_24khz(options.device, path=valle_files.encodec_file(folder), width=cls.codec_width)
        return cls(network, codec, options.device)

    @classmethod
    def build(cls, seed: int) -> ViolaLM:
        """The networks with random weights from `seed`; torch's own random state is left as it was."""
        import torch

        from codecbench.models.blocks.valle import ValleShape
        from codecbench.models.blocks.viola import ViolaLM, ViolaShape

        own = dict(cls.settings)
        fine = ValleShape(text=cls.script.size, languages=len(LANGUAGES), **own.pop("fine"))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return ViolaLM(ViolaShape(tasks=len(TASKS), languages=len(LANGUAGES), fine=fine, **own))

    def parameters(self) -> int:
        """Number of learnt parameters, with the codec's but without its codebooks."""
        return self._parameters

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        """Text or speech, as the tasks ask for."""
        check_sampling(sampling)
        for request in requests:
            self._check(request)
        found: dict[int, Response] = {}
        texts = {b: own for b, own in enumerate(requests) if own.task in GIVES_TEXT}
        found |= dict(zip(texts, self._write(list(texts.values()), sampling), strict=True))
        speech = {b: own for b, own in enumerate(requests) if own.task not in GIVES_TEXT}
        found |= dict(zip(speech, self._speak(list(speech.values()), sampling), strict=True))
        return [found[b] for b in range(len(requests))]

    def loglikelihood(self, items: Sequence[Clip]) -> list[Likelihood]:
        """Log-likelihood of each clip's codes, of all codebooks, as speech without a text."""
        for clip in items:
            check_clip(self.card, clip, self.codec.hop)
        return [self._score(clip) for clip in items]

    def question(self, request: Request) -> Question:
        """What `request`, of one of `TASKS`, asks of the model."""
        from codecbench.models.blocks.viola import Question

        target, source = _languages(request)
        speaks = request.task == "tts"
        words = ((request.transcript or "") if request.audio else "", request.text or "") if speaks else ("", "")
        if request.task == "mt":
            words = ("", request.text or "")
        reading = self.script.read(*words, language="", source_language="")
        said = [source if index < reading.voice or not speaks else target for index in range(len(reading.ids))]
        heard, voice = self.codec.encode(request.audio), self.codec.encode(None)
        return Question(
            TASKS.index(request.task), target, self._ids(reading.ids), self._ids(said),
            *((voice, source, heard) if speaks else (heard, source, voice)),
        )  # fmt: skip

    def _check(self, request: Request) -> None:
        check_request(self.card, request, frame=self.codec.hop, languages=LANGUAGES)
        for language in (request.language, request.source_language):
            if language is not None and language not in LANGUAGES:
                raise ValueError(f"{self.card.name} knows {', '.join(LANGUAGES)}, not '{language}'")
        if request.task == "tts" and request.audio is not None and not (request.transcript or "").strip():
            raise ValueError(f"{self.card.name} needs the words of the voice: the request's transcript")

    def _write(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        """The texts that `requests` ask for."""
        questions = [self.question(request) for request in requests]
        return write(
            self.lm.causal, questions, requests, sampling, self.longest, use_cache=self.use_cache, script=self.script
        )  # fmt: skip

    def _speak(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        """The speech that `requests` ask for; of translations, the words are found first."""
        import torch

        known = [replace(own, source_language=LANGUAGES[_languages(own)[1]]) for own in requests]
        translated = [own for own in known if own.task == "s2st"]
        heard = iter(self._write([replace(own, task="asr", language=own.source_language) for own in translated
                                  if not own.transcript], sampling))  # fmt: skip
        said = iter(self._write([replace(own, task="s2tt") for own in translated], sampling))
        asked, spent = [], []
        for own in known:
            before = []
            if own.task == "s2st":
                before = [next(said)] if own.transcript else [next(said), next(heard)]
                own = replace(own, task="tts", text=before[0].text, transcript=own.transcript or before[1].text)
            asked.append(own)
            spent.append(sum(response.tokens for response in before))
        questions = [self.question(own) for own in asked]
        allowed = torch.arange(self.lm.shape.end + 1, device=self._device) >= self.lm.shape.text
        limit, draw = self.codec.frames(sampling.max_seconds), _drawer(asked, sampling, allowed)
        found = _tokens(self.lm.causal, questions, limit, draw, use_cache=self.use_cache)
        responses = []
        for question, (tokens, ended), more in zip(questions, found, spent, strict=True):
            codes = self.lm.refine(question, tokens)
            responses.append(Response(self.codec.decode(codes), tokens=more + codes.numel(), ended=ended))
        return responses

    def _ids(self, ids: Sequence[int]) -> Tensor:
        import torch

        return torch.tensor(list(ids), dtype=torch.long, device=self._device)

    def _score(self, clip: Clip) -> Likelihood:
        codes = self.codec.encode(clip)
        nats = float(self.lm.loglikelihood(self.question(Request("tts")), codes).sum())
        return Likelihood(nats, codes.numel(), clip.duration)


def write(
    network: ViolaCausal, questions: Sequence[Question], requests: Sequence[Request], sampling: Sampling, longest: int,
    *, use_cache: bool, script: Script = IN_BYTES,
) -> list[Response]:  # fmt: skip
    """The texts, of up to `longest` ids of the `script`, that answer `questions`, which `requests` ask for."""
    import torch

    allowed = torch.zeros(network.shape.end + 1, dtype=torch.bool, device=network.head.weight.device)
    allowed[list(script.written)] = allowed[-1] = True
    found = _tokens(network, questions, longest, _drawer(requests, sampling, allowed), use_cache=use_cache)
    return [Response(text=script.spell(tokens), tokens=len(tokens), ended=ended) for tokens, ended in found]


def _tokens(
    network: ViolaCausal, questions: Sequence[Question], limit: int, draw: Draw, *, use_cache: bool
) -> list[tuple[list[int], bool]]:  # fmt: skip
    from codecbench.models.blocks import autoregressive

    if not questions:
        return []
    openings = [network.open(question) for question in questions]
    return autoregressive.generate(network, openings, limit, draw, network.shape.end, use_cache=use_cache)


def _drawer(requests: Sequence[Request], sampling: Sampling, allowed: Tensor) -> Draw:
    """A function that draws tokens, of those `allowed` ``[N]``, with a random state for each request."""
    from codecbench.models.blocks.sampling import NEVER, drawer

    draw = drawer(requests, sampling)
    return lambda number, logits, _found: int(draw(number, logits.masked_fill(~allowed, NEVER)))


def _languages(request: Request) -> tuple[int, int]:
    """The numbers of the language of what is to come, and of what there is: the other one in a translation."""
    target = LANGUAGES.index(request.language or LANGUAGES[0])
    if request.source_language is not None:
        return target, LANGUAGES.index(request.source_language)
    return target, (1 - target if request.task in TRANSLATES else target)


SYSTEMS = (Viola,)
