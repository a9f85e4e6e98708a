"""AudioPaLM (arXiv:2306.12925): a text model whose words now include speech. Its weights are not published.

PaLM with 8 G parameters, whose embedding gains 1024 rows for semantic tokens of speech at 25 Hz. What to do is said in
words, such as ``[S2ST English French]``, before the speech or text. Speech that comes out is made audible by
SoundStorm, in the voice that went in; any other stage with `SpeechOut`'s call may take its place. The paper also tried
one answer of several steps, ``[ASR AST S2ST English French]``: `chained` asks for it, and the text is given too.

Where the paper is silent, or its parts are closed: the Transformer is that of PaLM (arXiv:2204.02311), for PaLM-2's is
not published. Semantic tokens are a random projection of spectra (`blocks.random_units`), which USM's encoder was
trained to predict; a trained one may take its place in `AudioPaLM.tokeniser`. It runs on random weights, or on a folder
of the user's: ``model.safetensors`` with the names here, and ``tokenizer.json``. A file whose embedding has the words
alone is that of the text model, and gains rows of zeros, as at the beginning of training. Words are read as bytes on
random weights. Likelihoods are of a clip's semantic tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

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
    Task,
)  # fmt: skip
from codecbench.models.limits import GIVES_TEXT, check_clip, check_request, check_sampling

if TYPE_CHECKING:
    from torch import Tensor, nn

    from codecbench.models.blocks.text_audio_lm import TextAudioLM
    from codecbench.models.blocks.vocabulary import Vocabulary
    from codecbench.models.codec_tokens import CodecTokens

LANGUAGES = {
    "ar": "Arabic", "ca": "Catalan", "cy": "Welsh", "de": "German", "en": "English", "es": "Spanish", "et": "Estonian",
    "fa": "Persian", "fr": "French", "id": "Indonesian", "it": "Italian", "ja": "Japanese", "lv": "Latvian",
    "mn": "Mongolian", "nl": "Dutch", "pt": "Portuguese", "ru": "Russian", "sl": "Slovenian", "sv": "Swedish",
    "ta": "Tamil", "tr": "Turkish", "zh": "Chinese",
}  # fmt: skip
"""The languages of CoVoST 2."""
TAGS: dict[Task, str] = {"asr": "ASR", "s2tt": "AST", "s2st": "S2ST", "mt": "MT", "tts": "TTS"}
UNITS, UNIT_RATE = 1024, 25
LONGEST_ANSWER = 200
"""Words, or parts of words, of a text."""
VOICE_SECONDS = 3
WINDOW = 30
"""Seconds of a clip that are scored at once."""


class SpeechOut(Protocol):
    """A stage that makes semantic tokens audible."""

    def __call__(self, units: Tensor, voice: Clip | None, draw: Callable[[Tensor], Tensor]) -> Clip:
        """The clip of `units` ``[F]``, in a `voice`; `draw` takes logits ``[..., N]`` and returns tokens ``[...]``."""


@dataclass(frozen=True)
class Size:
    """What tells a tiny model from the paper's.

    Attributes:
        words: Of the text model's vocabulary.
        dimension, layers, heads: Of the text model.
        acoustic: Of SoundStorm's Conformer, as of `soundstorm.Conformer`; empty for the paper's.
    """

    words: int = 256_000
    dimension: int = 4096
    layers: int = 32
    heads: int = 16
    acoustic: Mapping[str, int] = field(default_factory=dict)


class AudioPaLM(SpeechLM):
    """The paper's model, with 8 G parameters."""

    card = Card(
        name="audiopalm_8b", kind="lm", family="AudioPaLM", track="official", sample_rate=16_000, channels=1,
        points=(OperatingPoint("6kbps", 6.0, 12),), streams=(Stream(1024, 50.0),) * 12,
        tasks=("asr", "s2tt", "s2st", "mt", "tts"), unpublished=True,
        training_data=("CoVoST 2", "CVSS", "VoxPopuli", "Common Voice 11", "YouTube", "WMT and TED", "text of PaLM-2"),
        contamination="trained on the training parts of CoVoST 2, CVSS, VoxPopuli and Common Voice",
        paper="arXiv:2306.12925",
    )  # fmt: skip
    size: ClassVar[Size] = Size()
    chained = False
    """Speech is recognised, translated and spoken in one answer."""
    use_cache = True
    """False computes all steps anew for each: the same, and slower."""

    def __init__(self, networks: nn.ModuleDict, device: str, tokenizer: Any = None) -> None:
        from codecbench.models.blocks.inference import ready
        from codecbench.models.codec_tokens import CodecTokens

        self._parameters: int = sum(p.numel() for p in networks.parameters())
        networks.requires_grad_(False).eval().to(device)
        self.lm = cast("TextAudioLM", networks["lm"])
        self._units, codec = networks["units"], cast("Any", ready(networks["codec"], device))
        tokens = CodecTokens(codec, len(self.card.streams), codec.net.hop, self.card.sample_rate or 0, device)
        self.speech_out: SpeechOut = SoundStormStage(networks["acoustic"], tokens, self.units)
        self.vocabulary = self.ids()
        self._tokenizer, self._device = tokenizer, device

    @classmethod
    def load(cls, options: LoadOptions) -> AudioPaLM:
        """Load a folder of the user's, or random weights."""
        from codecbench.models.blocks.text_audio_lm import grown
        from codecbench.models.musicgen_files import read_tokenizer

        if options.random_seed is not None:
            return cls(cls.build(options.random_seed), options.device)
        folder = weights.unpublished(cls.card.name, options.weights)
        networks, state = cls.build(0), weights.read_state_dict(folder)
        own = {name: tensor for name, tensor in state.items() if not name.startswith("lm.")}
        lm = {name.removeprefix("lm."): tensor for name, tensor in state.items() if name.startswith("lm.")}
        if len(lm.get("embedding.weight", ())) == cls.size.words:
            lm = grown(lm, cls.ids().size)
        weights.load_state(networks, own | {f"lm.{name}": tensor for name, tensor in lm.items()}, folder)
        return cls(networks, options.device, read_tokenizer(folder / "tokenizer.json"))

    @classmethod
    def ids(cls) -> Vocabulary:
        """Words, of which the last is the end; then semantic tokens."""
        from codecbench.models.blocks.vocabulary import Range, Vocabulary

        return Vocabulary((Range("words", cls.size.words - 1), Range("end", 1), Range("audio", UNITS)))

    @classmethod
    def build(cls, seed: int) -> nn.ModuleDict:
        """The networks with random weights from `seed`; torch's own random state is left as it was."""
        import torch

        from codecbench.models.blocks.text_audio_lm import TextAudioLM, TextAudioLMShape, palm
        from codecbench.models.soundstorm import Conformer

        size, streams = cls.size, cls.card.streams
        backbone = palm(size.dimension, size.layers, size.heads)
        shape = TextAudioLMShape(backbone, cls.ids().size, logit_scale=size.dimension**-0.5)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            lm = TextAudioLM(shape)
            torch.nn.init.normal_(lm.embedding.weight)
        acoustic = Conformer(**size.acoustic).network(UNITS, len(streams), streams[0].codebook_size, seed)
        parts = {"lm": lm, "units": cls.tokeniser(seed), "acoustic": acoustic, "codec": cls.build_codec(seed)}
        return torch.nn.ModuleDict(parts)

    @classmethod
    def tokeniser(cls, seed: int) -> nn.Module:
        """Semantic tokens: takes samples ``[T]``, gives units ``[F]`` at 25 Hz."""
        from codecbench.models.blocks.random_units import RandomProjectionUnits

        rate = cls.card.sample_rate or 0
        return RandomProjectionUnits(UNITS, rate, rate // UNIT_RATE, seed)

    @classmethod
    def build_codec(cls, seed: int) -> nn.Module:
        """The codec, SoundStream."""
        from codecbench.models.soundstorm import SoundStorm

        return SoundStorm.acoustic(seed)

    def parameters(self) -> int:
        """Number of learnt parameters of all networks."""
        return self._parameters

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        """Words or speech for each request; speech in the voice of its audio, if there is any."""
        check_sampling(sampling)
        for request in requests:
            frame = (self.card.sample_rate or 0) // UNIT_RATE
            check_request(self.card, request, frame=frame, languages=tuple(LANGUAGES))
        from codecbench.models.blocks.sampling import drawer

        draw = drawer(requests, sampling)
        return [self._answer(request, sampling.max_seconds, partial(draw, b)) for b, request in enumerate(requests)]

    def loglikelihood(self, items: Sequence[Clip]) -> list[Likelihood]:
        """Log-likelihood of each clip's semantic tokens, in windows of 30 s, as what ``[TTS]`` gives without words."""
        for clip in items:
            check_clip(self.card, clip, (self.card.sample_rate or 0) // UNIT_RATE)
        return [self._score(clip) for clip in items]

    def loss(self, examples: Sequence[tuple[Request, Clip | str]]) -> Tensor:
        """The training loss of requests and their answers: mean nats of an answer's token, a mean over examples.

        Gradients flow into `lm` where its parameters ask for them.
        """
        import torch

        found = []
        for request, answer in examples:
            ids = self._words(answer) if isinstance(answer, str) else self._spoken(answer)
            found.append(-self.lm.nats(self._asked(request), torch.cat([ids, self._end()])).mean())
        return torch.stack(found).mean()

    def units(self, clip: Clip) -> Tensor:
        """Semantic tokens ``[F]`` of a clip."""
        import torch

        return cast("Tensor", self._units(torch.tensor(clip.samples[0], device=self._device)).clone())

    def prompt(self, request: Request) -> str:
        """What a request is in words, before the speech or text."""
        tag, given = TAGS[request.task], (request.source_language, request.language)
        languages = [LANGUAGES.get(code, code) for code in given if code]
        if self.chained and request.task in ("s2tt", "s2st"):
            tag = {"s2tt": "ASR AST", "s2st": "ASR AST S2ST"}[request.task]
        return f"[{' '.join([tag, *languages])}]"

    def _answer(self, request: Request, seconds: float, draw: Callable[[Tensor], Tensor]) -> Response:
        import torch

        with torch.inference_mode():
            before = self._asked(request)
        if request.task in GIVES_TEXT:
            ids, ended = self._say("words", before, LONGEST_ANSWER, draw)
            return Response(text=self._written(ids), tokens=len(ids) + ended, ended=ended)
        text, spent = None, 0
        if self.chained and request.task == "s2st":
            words, _ = self._say("words", before, LONGEST_ANSWER, draw)
            text, spent = self._written(words), len(words) + 1
            with torch.inference_mode():
                before = torch.cat([before, self.lm.embed(torch.cat([words, self._end()]))])
        ids, ended = self._say("audio", before, int(seconds * UNIT_RATE + 1e-6), draw)
        audio = Clip(np.zeros((1, 0), np.float32), self.card.sample_rate or 0)
        if len(ids):
            with torch.inference_mode():
                audio = self.speech_out(self.vocabulary.codes("audio", ids[None])[0], request.audio, draw)
        return Response(audio, text, spent + len(ids) + ended, ended)

    def _say(
        self, kind: str, before: Tensor, limit: int, draw: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, bool]:  # fmt: skip
        """Ids of a `kind` that follow the vectors `before`, and whether the end came."""
        from codecbench.models.blocks.text_audio_lm import generate

        allowed = (self.vocabulary.mask(kind) | self.vocabulary.mask("end")).to(self._device)
        return generate(
            self.lm, before, limit, allowed=allowed, end=int(self._end()), draw=draw, use_cache=self.use_cache
        )

    def _asked(self, request: Request) -> Tensor:
        """Vectors ``[P, C]`` of a request."""
        import torch

        words = self.prompt(request)
        if request.task in ("mt", "tts"):
            return self.lm.embed(self._words(f"{words} {request.text}"))
        return self.lm.embed(torch.cat([self._words(words), self._spoken(cast("Clip", request.audio))]))

    def _spoken(self, clip: Clip) -> Tensor:
        """Ids ``[F]`` of a clip's semantic tokens."""
        return self.vocabulary.ids("audio", self.units(clip)[None])[0]

    def _words(self, text: str) -> Tensor:
        import torch

        ids = list(text.encode()) if self._tokenizer is None else self._tokenizer.encode(text).ids
        return torch.tensor(ids, dtype=torch.long, device=self._device)

    def _written(self, ids: Tensor) -> str:
        if self._tokenizer is None:
            return bytes(token for token in ids.tolist() if token < 256).decode(errors="replace")
        return str(self._tokenizer.decode(ids.tolist()))

    def _end(self) -> Tensor:
        """The id ``[1]`` of the end."""
        import torch

        return torch.tensor([self.size.words - 1], device=self._device)

    def _score(self, clip: Clip) -> Likelihood:
        import torch

        ids = self._spoken(clip)
        with torch.inference_mode():
            before = self.lm.embed(self._words("[TTS]"))
            parts = torch.split(ids, WINDOW * UNIT_RATE)
            nats = sum(float(self.lm.nats(before, part).double().sum()) for part in parts)
        return Likelihood(nats, len(ids), clip.duration)


class SoundStormStage:
    """SoundStorm as a `SpeechOut`, prompted by the first 3 s of the voice.

    Args:
        network: The Conformer of `blocks.masked_lm`.
        codec: Of its codes.
        units: Semantic tokens of a clip.
    """

    def __init__(self, network: nn.Module, codec: CodecTokens, units: Callable[[Clip], Tensor]) -> None:
        self._network, self._codec, self._units = network, codec, units

    def __call__(self, units: Tensor, voice: Clip | None, draw: Callable[[Tensor], Tensor]) -> Clip:
        """As of `SpeechOut`."""
        import torch
        from torch.nn import functional

        from codecbench.models.blocks import masked_lm
        from codecbench.models.soundstorm import FIRST_PASSES

        heard = voice and replace(voice, samples=voice.samples[:, : VOICE_SECONDS * voice.sample_rate].copy())
        prompt = self._codec.encode(heard)
        frames = self._codec.sample_rate // UNIT_RATE // self._codec.hop
        spread = units.repeat_interleave(frames)
        if heard is not None:
            spread = torch.cat([self._units(heard).repeat_interleave(frames)[: prompt.shape[1]], spread])
        wanted = functional.pad(prompt, (0, frames * len(units)), value=masked_lm.UNKNOWN)
        passes = [FIRST_PASSES] + [1] * (len(prompt) - 1)
        network = cast("masked_lm.MaskedLM", self._network)
        return self._codec.decode(masked_lm.fill(network, spread, wanted, passes, draw)[:, prompt.shape[1] :])


SYSTEMS = (AudioPaLM,)
