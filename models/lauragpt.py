"""LauraGPT (arXiv:2310.04673): one text model that understands and generates audio. Its weights are not published.

Qwen with 1.8 G parameters reads words, or hears a Conformer's vectors of a log-mel spectrum, one every 60 ms. A task's
own token follows, then the answer: words, or the first codebook of FunCodec at 25 Hz. A predictor gives the sum of all
32 codebooks' entries of each frame at once, given what was asked.

It runs on random weights, or on a folder of the user's: ``model.safetensors`` with the names of `blocks.lauragpt`,
``tokenizer.json``, and FunCodec's files in ``codec``. What the paper does not tell is taken to be as in LauraTTS: the
predictor's size, and how audio sounds that goes on in a voice. Words are read as bytes on random weights. Likelihoods
are of a clip's first codebook, as speech without words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, cast

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
from codecbench.models.lauratts import HOP, LONGEST, Codec
from codecbench.models.limits import GIVES_TEXT, TRANSLATES, check_clip, check_request, check_sampling

if TYPE_CHECKING:
    from torch import Tensor

    from codecbench.models.blocks.lauragpt import LauraGPT
    from codecbench.models.blocks.vocabulary import Vocabulary

LANGUAGES = ("en", "zh")
TASKS = ("asr", "slu", "captioning", "enhancement", "tts", "s2tt en", "s2tt zh", "mt en", "mt zh")
"""Tokens of tasks, in the order of their ids; a translation has one for each language."""
FRAME_RATE = 25
LONGEST_ANSWER = 200
"""Words, or parts of words, of a text."""


@dataclass(frozen=True)
class Size:
    """What tells a tiny model from the paper's; `more` is as of `blocks.lauragpt.LauraGPTShape`."""

    words: int = 151_936
    more: dict[str, Any] = field(default_factory=dict)


class LauraGPTModel(SpeechLM):
    """The paper's model, with 2 G parameters."""

    card = Card(
        name="lauragpt", kind="lm", family="LauraGPT", track="official", sample_rate=16_000, channels=1,
        points=(OperatingPoint("0.25kbps", 0.25, 1),), streams=(Stream(1024, float(FRAME_RATE)),),
        tasks=("asr", "s2tt", "mt", "slu", "captioning", "enhancement", "tts"), unpublished=True,
        training_data=("public and in-house sets of each of its tasks",),
        contamination="unknown: nobody has its weights",
        paper="arXiv:2310.04673",
    )  # fmt: skip
    size: ClassVar[Size] = Size()
    use_cache = True
    """False computes all steps anew for each: the same, and slower."""

    def __init__(self, network: LauraGPT, codec: Codec, device: str, tokenizer: Any = None) -> None:
        self._parameters: int = sum(p.numel() for p in network.parameters()) + codec.parameters()
        self.network = network.requires_grad_(False).eval().to(device)
        self.codec, self._tokenizer, self._device = codec, tokenizer, device
        self.vocabulary = self.ids()

    @classmethod
    def load(cls, options: LoadOptions) -> LauraGPTModel:
        """Load a folder of the user's, or random weights."""
        from codecbench.models.musicgen_files import read_tokenizer

        if options.random_seed is not None:
            codec = cls.build_codec(LoadOptions(options.device, random_seed=options.random_seed))
            network = cls.build(options.random_seed)
            network.predictor.entries.copy_(codec.entries())
            return cls(network, codec, options.device)
        folder = weights.unpublished(cls.card.name, options.weights)
        network = cls.build(0)
        weights.load_state(network, weights.read_state_dict(folder), folder)
        codec = cls.build_codec(LoadOptions(options.device, folder / "codec"))
        return cls(network, codec, options.device, read_tokenizer(folder / "tokenizer.json"))

    @classmethod
    def build_codec(cls, options: LoadOptions) -> Codec:
        """The codec, from its files or on random weights."""
        return cast("Codec", Codec.load(options))

    @classmethod
    def ids(cls) -> Vocabulary:
        """Words, codes, tasks, and the end."""
        from codecbench.models.blocks.vocabulary import Range, Vocabulary

        ranges = (Range("words", cls.size.words), Range("audio", 1024), Range("task", len(TASKS)), Range("end", 1))
        return Vocabulary(ranges)

    @classmethod
    def build(cls, seed: int) -> LauraGPT:
        """The networks with random weights from `seed`; torch's own random state is left as it was."""
        import torch

        from codecbench.models.blocks.lauragpt import LauraGPT, LauraGPTShape

        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return LauraGPT(LauraGPTShape(cls.ids().size, **cls.size.more))

    def parameters(self) -> int:
        """Number of learnt parameters, without the codebooks."""
        return self._parameters

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        """Words or audio for each request; ``tts`` goes on in the voice of its audio, if there is any."""
        check_sampling(sampling)
        for request in requests:
            check_request(self.card, request, frame=HOP, languages=LANGUAGES)
        from codecbench.models.blocks.sampling import drawer

        draw = drawer(requests, sampling)
        return [self._answer(request, sampling.max_seconds, partial(draw, b)) for b, request in enumerate(requests)]

    def loglikelihood(self, items: Sequence[Clip]) -> list[Likelihood]:
        """Log-likelihood of each clip's first codebook, in windows of 30 s."""
        for clip in items:
            check_clip(self.card, clip, HOP)
        return [self._score(clip) for clip in items]

    def loss(self, examples: Sequence[tuple[Request, Clip | str]]) -> Tensor:
        """The training loss of requests and their answers: a mean over examples.

        Gradients flow into `network` where its parameters ask for them.
        """
        import torch

        found = []
        for request, answer in examples:
            codes = self.codec.codes(answer) if isinstance(answer, Clip) else None
            ids = self._words(cast("str", answer)) if codes is None else self.vocabulary.ids("audio", codes[:1])[0]
            ids = torch.cat([ids, self._one("end")])
            found.append(self.network.loss(self._asked(request), ids, codes))
        return torch.stack(found).mean()

    def _answer(self, request: Request, seconds: float, draw: Callable[[Tensor], Tensor]) -> Response:
        import torch

        from codecbench.models.blocks.text_audio_lm import generate

        text = request.task in GIVES_TEXT
        allowed = self.vocabulary.mask("words" if text else "audio") | self.vocabulary.mask("end")
        limit = LONGEST_ANSWER if text else int(min(seconds, LONGEST) * FRAME_RATE + 1e-6)
        with torch.inference_mode():
            asked = before = self._asked(request)
            past = self._voice(request)
            if past is not None:
                before = torch.cat([before, self.network.lm.embed(self.vocabulary.ids("audio", past)[0])])
            ids, ended = generate(
                self.network.lm, before, limit, allowed=allowed.to(self._device), end=int(self._one("end")), draw=draw,
                use_cache=self.use_cache,
            )  # fmt: skip
            if text:
                return Response(text=self._written(ids.tolist()), tokens=len(ids) + ended, ended=ended)
            codes = self.vocabulary.codes("audio", ids[None])
            whole = codes if past is None else torch.cat([past, codes], dim=1)
            vectors = self.network.vectors(asked, whole)[whole.shape[1] - codes.shape[1] :]
        return Response(self.codec.synthesise(vectors), tokens=len(ids) + ended, ended=ended)

    def _asked(self, request: Request) -> Tensor:
        """Vectors ``[P, C]`` of a request: words or audio, and the task."""
        import torch

        task = f"{request.task} {request.language}" if request.task in TRANSLATES else request.task
        last = self.network.lm.embed(self._one("task", TASKS.index(task)))
        if request.task in ("mt", "tts"):
            words = " ".join(part for part in (request.transcript, request.text) if part)
            return torch.cat([self.network.lm.embed(self._words(words)), last])
        clip = cast("Clip", request.audio)
        return torch.cat([self.network.hear(torch.tensor(clip.samples[0], device=self._device)), last])

    def _voice(self, request: Request) -> Tensor | None:
        """Codes ``[1, F]`` of the voice to go on in."""
        if request.task != "tts" or request.audio is None:
            return None
        return self.codec.codes(request.audio)[:1]

    def _words(self, text: str) -> Tensor:
        import torch

        ids = list(text.encode()) if self._tokenizer is None else self._tokenizer.encode(text).ids
        return torch.tensor(ids, dtype=torch.long, device=self._device)

    def _written(self, ids: list[int]) -> str:
        if self._tokenizer is None:
            return bytes(token for token in ids if token < 256).decode(errors="replace")
        return str(self._tokenizer.decode(ids))

    def _one(self, name: str, number: int = 0) -> Tensor:
        """One id ``[1]`` of a range."""
        import torch

        return torch.tensor([self.vocabulary.part(name)[1] + number], device=self._device)

    def _score(self, clip: Clip) -> Likelihood:
        import torch

        codes = self.codec.codes(clip)[:1]
        with torch.inference_mode():
            before = self.network.lm.embed(self._one("task", TASKS.index("tts")))
            parts = torch.split(self.vocabulary.ids("audio", codes)[0], int(LONGEST * FRAME_RATE))
            nats = sum(float(self.network.lm.nats(before, part).double().sum()) for part in parts)
        return Likelihood(nats, codes.numel(), clip.duration)


SYSTEMS = (LauraGPTModel,)
