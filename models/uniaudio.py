"""UniAudio (arXiv:2310.00704): eleven tasks of generating audio in one language model.

A request becomes one sequence: the task, what is given (phones, text, audio, semantic units, notes), and the audio to
be generated, in frames of three codes. Everything that is not audio fills a frame with one id three times; vectors of
T5 stand in the place of frames. One Transformer goes over frames, another within a frame.

``tts`` with audio speaks in that voice, of which the first 3 s are heard. A text that begins with an instruction in
square brackets, such as ``[a low, sad voice] Hello.``, is spoken as it says. ``editing`` follows an instruction, such
as ``drop the dog``; to edit words needs an alignment of phones, which is not made here. ``singing`` is Mandarin in
pinyin; without a score, the phones are spread evenly over the melody. What ``enhancement``, ``extraction`` and
``dereverberation`` give is as long as what they work on. The release recommends `Sampling.top_k` 30; there is no
guidance.

The released model (July 2024) is smaller than the paper's, which is not published. The folder or archive with its
configuration decides the shape. Likelihoods are of a clip as a sound with an empty description.

On random weights, phones are the bytes of the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from codecbench import weights
from codecbench.audio import Clip
from codecbench.errors import InvalidSystem
from codecbench.models import uniaudio_files as files
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
from codecbench.models.limits import check_clip, check_request, check_sampling

if TYPE_CHECKING:
    from torch import Tensor, nn

    from codecbench.models.blocks.multiscale import MultiScaleLM, Patches
    from codecbench.models.blocks.units import Tokeniser
    from codecbench.models.uniaudio_text import Phones

PROMPT_SECONDS = 3
LONGEST_DESCRIPTION = 100
"""Tokens of T5 that are heard."""
KEEPS_LENGTH: frozenset[Task] = frozenset({"enhancement", "extraction", "dereverberation"})
NAMES: Mapping[Task, str] = {
    "conversion": "VC", "enhancement": "SE", "dereverberation": "Speech_RIR", "extraction": "Spex", "singing": "sing",
    "sound": "TSS", "music": "TTM", "editing": "Audit",
}  # fmt: skip
"""The release's names of tasks; that of ``tts`` depends on the request."""


@dataclass(frozen=True)
class Size:
    """What models differ in.

    Attributes:
        dimension, layers, heads: Of the global Transformer.
        longest: Frames of a sequence.
        text: Channels, layers, heads and inner channels of T5.
        codec: Channels of the codec's frames, and of its first convolution.
        codec_codebooks: Of the codec; the language model has the first ones.
        features: Of what semantic units are clusters, as of `blocks.units.Features`.
    """

    dimension: int
    layers: int
    heads: int
    longest: int = 8000
    text: tuple[int, int, int, int] = (768, 12, 12, 2048)
    codec: tuple[int, int] = (128, 32)
    codec_codebooks: int = 12
    features: Mapping[str, Any] = field(default_factory=lambda: {"layer": 9})


@dataclass
class Networks:
    """All that is learnt."""

    lm: MultiScaleLM
    codec: Any
    text: nn.Module
    units: Tokeniser


def _card(name: str, **facts: Any) -> Card:
    return Card(
        name=name, kind="lm", family="UniAudio", track="official", sample_rate=16_000, channels=1,
        points=(OperatingPoint("1.5kbps", 1.5, 3),), streams=(Stream(1024, 50.0),) * 3,
        tasks=(
            "tts", "conversion", "enhancement", "dereverberation", "extraction", "singing", "sound", "music", "editing",
        ),
        paper="arXiv:2310.00704", **facts,
    )  # fmt: skip


class UniAudio(SpeechLM):
    """The released model."""

    card = _card(
        "uniaudio", weights=files.RELEASED, weights_licence="not stated",
        training_data=("speech, sound and music", "Million Song Dataset", "DISCO"),
        contamination="unknown: not all of its sets are named",
    )  # fmt: skip
    size: ClassVar[Size] = Size(768, 16, 12)
    use_cache = True
    """False computes all steps anew for each: the same, and slower."""
    scored: ClassVar[tuple[str, ...]] = ("start", "TSS_task", "text_t5_start", "text_t5_end", "audio_start")
    """The ids before a clip whose likelihood is asked for."""
    among: Tensor | None = None
    """Booleans ``[K, N]``: the ids that share all likelihood in each place of a frame; None for all ids."""

    def __init__(
        self, networks: Networks, ids: files.Ids, device: str, *, phones: Phones | None = None, tokenizer: Any = None
    ) -> None:
        from codecbench.models.blocks.inference import ready

        self._parameters: int = sum(p.numel() for part in vars(networks).values() for p in part.parameters())
        self.lm = networks.lm.requires_grad_(False).eval().to(device)
        self.codec: Any = ready(networks.codec, device)
        self._text = networks.text.requires_grad_(False).eval().to(device)
        self._units = networks.units.requires_grad_(False).eval().to(device)
        self.ids, self._phones, self._tokenizer, self._device = ids, phones, tokenizer, device

    @classmethod
    def load(cls, options: LoadOptions) -> UniAudio:
        """Load the released files, a folder with them (the archives may be unpacked), or random weights."""
        if options.random_seed is not None:
            from codecbench.models.blocks.seanet import enliven

            ids = files.ids_of(files.tokens_of(*cls._codes()), *cls._codes())
            networks = cls.build(options.random_seed, cls.size, ids)
            enliven(networks.codec, options.random_seed, level=0.1, output_level=0.1)
            return cls(networks, ids, options.device)
        return cls._released(options)

    @classmethod
    def _released(cls, options: LoadOptions) -> UniAudio:
        from codecbench.models.blocks.t5 import own_names
        from codecbench.models.blocks.units import Features
        from codecbench.models.musicgen_files import read_tokenizer
        from codecbench.models.uniaudio_text import read_phones
        from codecbench.models.unit_files import read_tokeniser

        name = cls.card.name
        given = weights.unpublished(name, options.weights) if cls.card.unpublished else options.weights
        found = [_file(name, file, given) for file in files.RELEASED]
        lm, codec, lexicon, table, text, tokenizer, hubert, codebook = found
        config = files.read_config(lm)
        size = replace(
            cls.size, dimension=config["n_embd"], layers=config["n_layer"], heads=config["n_head"],
            longest=config["block_size"], codec=(files.codec_dimension(codec), cls.size.codec[1]),
        )  # fmt: skip
        try:
            ids = files.ids_of(config["token_list"], *cls._codes())
            networks = cls.build(0, size, ids, prefix=bool(config.get("prefix_lm")))
        except ValueError as error:
            raise InvalidSystem(f"{lm} describes no model that can be built here: {error}") from error
        files.fill_lm(networks.lm, lm)
        files.fill_codec(networks.codec, codec)
        t5 = cast("Any", networks.text)
        weights.load_state(t5, own_names(weights.read_state_dict(text), t5.backbone.shape), text)
        networks.units = read_tokeniser(Features(**size.features), hubert, codebook, files.SEMANTIC)
        phones, reader = read_phones(lexicon, table), read_tokenizer(tokenizer)
        return cls(networks, ids, options.device, phones=phones, tokenizer=reader)

    @classmethod
    def build(cls, seed: int, size: Size, ids: files.Ids, *, prefix: bool = False) -> Networks:
        """The networks with random weights from `seed`; torch's own random state is left as it was."""
        import torch

        from codecbench.models.blocks import t5
        from codecbench.models.blocks.multiscale import MultiScaleLM, MultiScaleShape
        from codecbench.models.blocks.units import Features, Tokeniser, fill

        shape = MultiScaleShape(
            size.dimension, size.layers, size.heads, ids.vocabulary.size, size.longest, cls._codes()[0], size.text[0],
            ids["mega_global"], ids["mega_local"], prefix,
        )  # fmt: skip
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            units = Tokeniser(Features(**size.features), files.SEMANTIC).eval()
            text = t5.T5Encoder(t5.shape(*size.text))
            networks = Networks(MultiScaleLM(shape), cls.build_codec(size), text, units)
        fill(units, torch.Generator().manual_seed(seed))
        return networks

    @classmethod
    def build_codec(cls, size: Size) -> nn.Module:
        """A codec with ``encode(x, codebooks)`` and ``decode(codes)``, as those of `blocks.seanet.SEANetCodec`."""
        from codecbench.models.blocks.conv import ConvStyle
        from codecbench.models.blocks.seanet import SEANet, SEANetCodec

        dimension, width = size.codec
        net = SEANet(dimension=dimension, width=width, style=ConvStyle("weight"))
        return SEANetCodec(net, size.codec_codebooks, cls._codes()[1])

    @classmethod
    def _codes(cls) -> tuple[int, int]:
        """Codebooks, and the size of each."""
        return len(cls.card.streams), cls.card.streams[0].codebook_size

    @classmethod
    def _hop(cls) -> int:
        """Samples a frame."""
        return int((cls.card.sample_rate or 0) / cast("float", cls.card.streams[0].frame_rate))

    def parameters(self) -> int:
        """Number of learnt parameters of all networks, without the codebooks."""
        return self._parameters

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        """Audio for each request; how they are understood is said at the top of the module."""
        check_sampling(sampling)
        for request in requests:
            check_request(self.card, request, frame=self._hop())
        return self._answer(requests, sampling) if requests else []

    def _answer(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        """The answers to requests that are checked."""
        import torch

        from codecbench.models.blocks import multiscale
        from codecbench.models.blocks.sampling import drawer

        prompts = [self.sequence(request) for request in requests]
        limits = [self._limit(*pair, sampling) for pair in zip(requests, prompts, strict=True)]
        found = multiscale.generate(
            self.lm, prompts, limits, allowed=torch.stack([self._allowed(request.task) for request in requests]),
            end=self.ids["audio_end"], draw=drawer(requests, sampling), use_cache=self.use_cache,
        )  # fmt: skip
        return [self._response(*each) for each in zip(requests, found, strict=True)]

    def loglikelihood(self, items: Sequence[Clip]) -> list[Likelihood]:
        """Log-likelihood of each clip's codes, in windows of as many frames as the model has positions for."""
        for clip in items:
            check_clip(self.card, clip, self._hop())
        return [self._score(clip) for clip in items]

    def loss(self, examples: Sequence[tuple[Request, Clip]]) -> Tensor:
        """The training loss of requests and the audio that answers each: mean nats of a token.

        Gradients flow into `lm` where its parameters ask for them.
        """
        return self.lm.loss([self.sequence(request, self.encode(clip)) for request, clip in examples])

    def sequence(self, request: Request, answer: Tensor | None = None) -> Patches:
        """The frames of a request, up to where the answer begins; with the codes of an `answer` ``[K, F]``, all.

        Raises:
            ValueError: There are more than the model has positions for.
        """
        import torch

        from codecbench.models.blocks.multiscale import Patches

        name, given = self._given(request)
        rows, vectors = [self._frame("start"), self._frame(f"{name}_task")], []
        for kind, data in zip(files.FORMATS[name], given, strict=True):
            ids = self._frames(kind, data)
            if kind == "text_t5":
                vectors.append((sum(map(len, rows)) + 1, data))
            rows += [self._frame(f"{kind}_start"), ids, self._frame(f"{kind}_end")]
        first = sum(map(len, rows))
        rows += [self._frame("audio_start")]
        if answer is not None:
            rows += [self._frames("audio", answer), self._frame("audio_end"), self._frame("end")]
        ids = torch.cat(rows)
        if len(ids) + 1 >= self.lm.shape.longest:
            raise ValueError(f"the request takes {len(ids)} frames; {self.card.name} has {self.lm.shape.longest}")
        return Patches(ids, tuple(vectors), (first, len(ids)))

    def _given(self, request: Request) -> tuple[str, list[Tensor]]:
        """The release's name of the task, and what its format asks for."""
        task, text = request.task, request.text or ""
        if task == "tts":
            told = re.fullmatch(r"\s*\[([^]]+)\](.*\S.*)", text, re.DOTALL)
            if told:
                return "InstructTTS", [self.read(told[2]), self.describe(told[1])]
            if request.audio is None:
                return "plain_tts", [self.read(text)]
            return "tts", [self.read(text), self._voice(request.audio)]
        if task == "singing":
            from codecbench.models.uniaudio_text import score

            song = score(text, request.reference, self.card.streams[0].frame_rate or 1)
            return "sing", [*map(self._tensor, song), self._voice(request.audio)]
        given = {
            "semantic": lambda: self.units(cast("Clip", request.audio)),
            "audio": lambda: self.encode(cast("Clip", request.audio)),
            "audio_prompt": lambda: self._voice(request.reference),
            "text_t5": lambda: self.describe(text),
        }
        name = NAMES[task]
        return name, [given[kind]() for kind in files.FORMATS[name]]

    def read(self, text: str) -> Tensor:
        """Phones ``[F]`` of a text."""
        if self._phones is not None:
            return self._tensor(self._phones.read(text))
        return self._tensor(list(text.strip().encode()))

    def describe(self, text: str) -> Tensor:
        """Vectors of T5 ``[M, C]`` of a text."""
        import torch

        ids = [3 + byte for byte in text.encode()] + [1]
        if self._tokenizer is not None:
            ids = self._tokenizer.encode(text).ids
        ids = [*ids[: LONGEST_DESCRIPTION - 1], ids[-1]] if len(ids) > LONGEST_DESCRIPTION else ids
        with torch.inference_mode():
            found = self._text(torch.tensor([ids], device=self._device))[0]
        return cast("Tensor", found.clone())

    def units(self, clip: Clip) -> Tensor:
        """Semantic units ``[F]`` of a clip, one a frame, as far as frames are whole."""
        import torch

        samples = torch.tensor(clip.samples[0], device=self._device)
        with torch.inference_mode():
            found = self._units(samples) if len(samples) >= self._units.net.reach else self._units.whole(samples)
        return found.clone()

    def encode(self, clip: Clip) -> Tensor:
        """Codes ``[K, F]`` of a clip."""
        import torch

        with torch.inference_mode():
            samples = torch.tensor(clip.samples[None], device=self._device)
            return cast("Tensor", self.codec.encode(samples, self._codes()[0])[0].clone())

    def decode(self, codes: Tensor) -> Clip:
        """Audio of codes ``[K, F]``."""
        import torch

        rate = self.card.sample_rate or 0
        if not codes.shape[1]:
            return Clip(np.zeros((1, 0), np.float32), rate)
        with torch.inference_mode():
            return Clip(np.ascontiguousarray(self.codec.decode(codes[None])[0].cpu().numpy()), rate)

    def _voice(self, clip: Clip | None) -> Tensor:
        """Codes ``[K, F]`` of the beginning of a recording; none of none."""
        import torch

        if clip is None:
            return torch.zeros(self._codes()[0], 0, dtype=torch.long, device=self._device)
        longest = PROMPT_SECONDS * clip.sample_rate
        return self.encode(replace(clip, samples=clip.samples[:, :longest].copy()))

    def _tensor(self, numbers: Sequence[int]) -> Tensor:
        import torch

        return torch.tensor(numbers, dtype=torch.long, device=self._device)

    def _frame(self, name: str) -> Tensor:
        """A frame ``[1, K]`` of one special id."""
        return self._tensor([self.ids[name]]).expand(self._codes()[0])[None]

    def _frames(self, kind: str, data: Tensor) -> Tensor:
        """Frames ``[F, K]`` of data of a `kind`: codes ``[K, F]``, vectors ``[F, C]`` or numbers ``[F]``."""
        if kind in ("audio", "audio_prompt"):
            return self.ids.vocabulary.ids("audio", data).T
        if kind == "text_t5":
            return self._frame("continuous_token").expand(len(data), -1)
        return self.ids.of(kind, data)[:, None].expand(-1, self._codes()[0])

    def _limit(self, request: Request, prompt: Patches, sampling: Sampling) -> int:
        """Frames that may come."""
        frames = int(sampling.max_seconds * (self.card.streams[0].frame_rate or 0) + 1e-6)
        if request.task in KEEPS_LENGTH:
            frames = min(frames, -(-cast("Clip", request.audio).length // self._hop()))
        return min(frames, self.lm.shape.longest - len(prompt.ids) - 1)

    def _allowed(self, task: Task) -> Tensor:
        """Booleans ``[K, N]``: what may stand in each place of a frame."""
        import torch

        vocabulary = self.ids.vocabulary
        allowed = torch.stack([vocabulary.mask("audio", k) for k in range(self._codes()[0])])
        allowed[:, self.ids["audio_end"]] = task not in KEEPS_LENGTH
        return allowed.to(self._device)

    def _response(self, request: Request, found: tuple[Tensor, bool]) -> Response:
        ids, ended = found
        audio = self.decode(self.ids.vocabulary.codes("audio", ids.T))
        if request.task in KEEPS_LENGTH:
            length = cast("Clip", request.audio).length
            ended = audio.length >= length
            audio = replace(audio, samples=np.ascontiguousarray(audio.samples[:, :length]))
        return Response(audio, tokens=ids.numel() + (self._codes()[0] if ended else 0), ended=ended)

    def _score(self, clip: Clip) -> Likelihood:
        import torch

        from codecbench.models.blocks.multiscale import Patches, loglikelihood

        codes = self.encode(clip)
        before = torch.cat([self._frame(name) for name in self.scored])
        nats = 0.0
        for part in torch.split(codes, self.lm.shape.longest - len(before) - 1, dim=1):
            ids = torch.cat([before, self._frames("audio", part)])
            answer = Patches(ids, answer=(len(before), len(ids)))
            nats += float(loglikelihood(self.lm, answer, self.among).double().sum())
        return Likelihood(nats, codes.numel(), clip.duration)


class UniAudioPaper(UniAudio):
    """The paper's model, with 1 G parameters."""

    card = _card(
        "uniaudio_1b", unpublished=True, training_data=("165 000 h of twelve public sets",),
        contamination="unknown: nobody has its weights",
    )  # fmt: skip
    size = Size(1536, 24, 12, longest=3000)


def _file(system: str, file: weights.WeightFile, given: Path | None) -> Path:
    """Where a file of the release lies: in the folder `given`, unpacked or as ``.npy`` if so, else in the cache."""
    if given is not None:
        bare = given / Path(file.name).stem
        for found in (bare, bare.with_name(f"{bare.name}.npy")):
            if found.exists():
                return found
    return weights.resolve(system, file, given / file.name if given else None)


SYSTEMS = (UniAudio, UniAudioPaper)
