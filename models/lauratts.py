"""LauraTTS, FunCodec's text to speech (arXiv:2310.04673, section 3.4): what is published of LauraGPT.

A language model predicts the first two codebooks of each frame of FunCodec at 25 Hz; a predictor hears the text and
those, and gives the sum of all 32 codebooks' entries, which the codec's decoder makes audible. With audio and its
transcript, it goes on in that voice. The release draws with `Sampling.top_k` 25; there is no guidance.

Its phonemes are those of the package ``g2p_en``. It is as loud as the release, whatever the voice. Likelihoods are of a
clip's first two codebooks, without a text. On random weights the text is read as its bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from codecbench import weights
from codecbench.audio import Clip
from codecbench.errors import InvalidSystem
from codecbench.models import funcodec, funcodec_config
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
from codecbench.weights import WeightFile

if TYPE_CHECKING:
    from torch import Tensor

    from codecbench.models.blocks.laura import LauraShape, LauraTTS

RELEASE = "https://huggingface.co/alibaba-damo/speech_synthesizer-laura-en-libritts-16k-codec_nq2-pytorch/resolve/main"
HOP = 640
"""Samples a frame."""
LONGEST = 30.0
"""Seconds that the model was trained on, with the voice's."""
PEAK, LEVEL = 0.99, 0.6
"""The release lowers its output to the first at most, then by the second."""


class Codec(funcodec.FunCodecZhEn640):
    """FunCodec for Mandarin and English at 25 Hz, as language models use it."""

    def codes(self, clip: Clip) -> Tensor:
        """Codes ``[N, F]`` of a clip, of all codebooks."""
        import torch

        (found,) = self.encode([clip], self.card.points[-1])
        return torch.tensor(np.stack(found.streams), dtype=torch.long, device=self._device)

    def entries(self) -> Tensor:
        """The entries ``[N, S, C]`` of all codebooks."""
        import torch

        return torch.stack([layer.embed for layer in cast("Any", self._network).quantiser.layers])

    def synthesise(self, vectors: Tensor) -> Clip:
        """Audio of frames ``[F, C]``, as loud as the release has it."""
        import torch

        rate = self.card.sample_rate or 0
        if not len(vectors):
            return Clip(np.zeros((1, 0), np.float32), rate)
        with torch.inference_mode():
            audio = cast("Any", self._network).decoder(vectors.T[None])[0]
            audio = audio * (PEAK / audio.abs().max().clamp(min=PEAK)) * LEVEL
        return Clip(np.ascontiguousarray(audio.cpu().numpy()), rate)


@dataclass(frozen=True)
class Size:
    """What tells a tiny model from the released one; see `blocks.laura.LauraShape`."""

    dimension: int = 512
    heads: int = 8
    hidden: int = 2048
    layers: tuple[int, int, int] = (6, 12, 6)
    input: int = 1536
    channels: int = 128


class LauraTTSModel(SpeechLM):
    """The released model."""

    card = Card(
        name="lauratts", kind="lm", family="LauraGPT", track="official", sample_rate=16_000, channels=1,
        points=(OperatingPoint("0.5kbps", 0.5, 2),), streams=(Stream(1024, 25.0),) * 2, tasks=("tts",),
        weights=(
            WeightFile("lauratts.pth", f"{RELEASE}/model.pth", licence="MIT"),
            WeightFile("lauratts.yaml", f"{RELEASE}/config.yaml", licence="MIT"),
            *funcodec.FunCodecZhEn640.card.weights,
        ),
        weights_licence="MIT", training_data=("LibriTTS",), contamination="none of the test sets",
        paper="arXiv:2310.04673",
    )  # fmt: skip
    size: ClassVar[Size] = Size()
    use_cache = True
    """False computes all steps anew for each: the same, and slower."""

    def __init__(self, network: LauraTTS, codec: Codec, read: Callable[[str], list[int]], device: str) -> None:
        self._parameters: int = sum(p.numel() for p in network.parameters()) + codec.parameters()
        self.lm = network.requires_grad_(False).eval().to(device)
        self.codec, self._read, self._device = codec, read, device

    @classmethod
    def load(cls, options: LoadOptions) -> LauraTTSModel:
        """Load the released files, a folder with them and the codec's in its folder ``codec``, or random weights."""
        from codecbench.models.blocks.laura import from_release

        if options.random_seed is not None:
            codec = cls.build_codec(LoadOptions(options.device, random_seed=options.random_seed))
            network = cls.build(cls.shape(), options.random_seed)
            network.predictor.entries.copy_(codec.entries())
            return cls(
                network,
                codec,
                lambda text: [byte % network.shape.vocabulary for byte in text.strip().encode()],
                options.device,
            )
        given, name = options.weights, cls.card.name
        if given is not None and not given.is_dir():
            raise InvalidSystem(f"{name}: {given} is no folder with model.pth, config.yaml, and the codec's in codec/")
        files = ("model.pth", "config.yaml", "codec/model.pth", "codec/config.yaml")
        paths = [
            weights.resolve(name, file, given / own if given else None)
            for file, own in zip(cls.card.weights, files, strict=True)
        ]
        described = funcodec_config.read(paths[1])
        try:
            phones = phones_of(described)
            network = cls.build(shape_of(described, len(phones)), 0)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidSystem(f"{paths[1]} describes no model that can be built here: {error}") from error
        weights.load_state(network, from_release(weights.read_state_dict(paths[0])), paths[0])
        codec = cls.build_codec(LoadOptions(options.device, given / "codec" if given else None))
        return cls(network, codec, phonemiser(phones), options.device)

    @classmethod
    def build_codec(cls, options: LoadOptions) -> Codec:
        """The codec, from its released files or on random weights."""
        return cast("Codec", Codec.load(options))

    @classmethod
    def shape(cls) -> LauraShape:
        """The shape of the released model, in this `size`."""
        from codecbench.models.blocks.laura import LauraShape

        size = cls.size
        return LauraShape(
            input=size.input, layers=size.layers, dimension=size.dimension, heads=size.heads, hidden=size.hidden,
            channels=size.channels,
        )  # fmt: skip

    @classmethod
    def build(cls, shape: LauraShape, seed: int) -> LauraTTS:
        """The networks with random weights from `seed`; torch's own random state is left as it was."""
        import torch

        from codecbench.models.blocks.laura import LauraTTS

        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return LauraTTS(shape)

    def parameters(self) -> int:
        """Number of learnt parameters, without the codebooks."""
        return self._parameters

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        """Speech for each request, in the voice of its audio, if there is any and its transcript."""
        check_sampling(sampling)
        for request in requests:
            check_request(self.card, request, frame=HOP)
            if request.audio is not None and not request.transcript:
                raise ValueError(f"{self.card.name} speaks in the voice of audio only with its transcript")
        from codecbench.models.blocks.sampling import drawer

        draw = drawer(requests, sampling)
        return [self._speak(request, sampling.max_seconds, partial(draw, b)) for b, request in enumerate(requests)]

    def loglikelihood(self, items: Sequence[Clip]) -> list[Likelihood]:
        """Log-likelihood of each clip's codes of the first two codebooks, in windows of 30 s."""
        for clip in items:
            check_clip(self.card, clip, HOP)
        return [self._score(clip) for clip in items]

    def loss(self, examples: Sequence[tuple[Request, Clip]]) -> Tensor:
        """The training loss of texts and the speech that says them: a mean over examples.

        Gradients flow into `lm` where its parameters ask for them.
        """
        import torch

        found = [self.lm.loss(self._phones(request.text or ""), self.codec.codes(clip)) for request, clip in examples]
        return torch.stack(found).mean()

    def _speak(self, request: Request, seconds: float, draw: Callable[[Tensor], Tensor]) -> Response:
        import torch

        from codecbench.models.blocks.laura import generate

        rate, wanted = self.card.streams[0].frame_rate or 0, self.lm.shape.predicted
        past = torch.zeros(wanted, 0, dtype=torch.long, device=self._device)
        if request.audio is not None:
            past = self.codec.codes(request.audio)[:wanted]
        words = f"{request.transcript} {request.text}" if request.audio is not None else request.text or ""
        limit = min(int(seconds * rate + 1e-6), int(LONGEST * rate) - past.shape[1])
        if limit < 1:
            raise ValueError(f"the voice and {seconds} s leave no frame of the {LONGEST:g} s that the model knows")
        with torch.inference_mode():
            text = self.lm.read(self._phones(words))
            codes, ended = generate(self.lm, text, past, limit, draw, use_cache=self.use_cache)
            frames = self.lm.predictor.embed(torch.cat([past, codes], dim=1))
            vectors = self.lm.predictor(text, frames)[past.shape[1] :]
        return Response(self.codec.synthesise(vectors), tokens=codes.numel() + wanted * ended, ended=ended)

    def _phones(self, text: str) -> Tensor:
        import torch

        return torch.tensor(self._read(text), dtype=torch.long, device=self._device)

    def _score(self, clip: Clip) -> Likelihood:
        import torch

        codes = self.codec.codes(clip)[: self.lm.shape.predicted]
        nats = 0.0
        with torch.inference_mode():
            nothing = self.lm.marks.weight[:0]
            for part in torch.split(codes, int(LONGEST * (self.card.streams[0].frame_rate or 0)), dim=1):
                found = self.lm.logits(nothing, part)[:, :-1].double().log_softmax(dim=-1)
                nats += float(found.gather(-1, part[..., None]).sum())
        return Likelihood(nats, codes.numel(), clip.duration)


def shape_of(config: Mapping[str, Any], phones: int) -> LauraShape:
    """The shape that a configuration of the release describes.

    Raises:
        ValueError: It has a setting that changes what is computed, and that the release does not have.
    """
    from codecbench.models.blocks.laura import LauraShape

    model, parts = config["model_conf"], [dict(config[f"{name}_conf"]) for name in ("text_encoder", "codec_encoder")]
    lm, codec = dict(model["codec_lm_conf"]), model["codec_conf"]
    only = {
        "input_layer": "linear", "rel_pos_type": "latest", "pos_enc_layer_type": "rel_pos", "normalize_before": True,
        "selfattention_layer_type": "rel_selfattn", "use_cnn_module": False, "macaron_style": False,
    }  # fmt: skip
    for part in parts:
        _only({"use_cnn_module": True, "rel_pos_type": "legacy"} | part, only)
    wanted = {"name": "transformer", "pos_enc": "rel_pos", "selfattention_layer_type": "rel_selfattn", "pe_type": "uni",
              "bidirectional_inputs": True, "embed_unit": codec["codebook_dim"]}  # fmt: skip
    _only(lm, wanted)
    sizes = {(part["output_size"], part["attention_heads"], part["linear_units"]) for part in parts}
    sizes.add((lm["att_unit"], lm["head"], lm["unit"]))
    if len(sizes) != 1:
        raise ValueError(f"its three networks have the sizes {sorted(sizes)}, not one")
    ((dimension, heads, hidden),) = sizes
    layers = (parts[0]["num_blocks"], lm["layer"], parts[1]["num_blocks"])
    return LauraShape(
        phones, config["input_size"], layers, dimension, heads, hidden, codec["codebook_dim"],
        codec["num_quantizers"], model["predict_nq"], codec["codebook_size"],
    )  # fmt: skip


def _only(given: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for name, value in wanted.items():
        if given.get(name, value) != value:
            raise ValueError(f"{name} is {given[name]}, not {value}")


def phones_of(config: Mapping[str, Any]) -> list[str]:
    """The list of phones in a configuration; ValueError if there is none."""
    found = config.get("token_list")
    if not isinstance(found, list) or not all(isinstance(phone, str) for phone in found):
        raise ValueError("it has no list of phones under 'token_list'")
    return found


def phonemiser(phones: Sequence[str]) -> Callable[[str], list[int]]:
    """From a text to ids, by ``g2p_en``; what is not among `phones`, such as marks, is left out, as in the release.

    Raises:
        InvalidSystem: The package is not installed.
    """
    if find_spec("g2p_en") is None:
        raise InvalidSystem("its phonemiser is not installed; get it with `pip install g2p_en`")
    convert = import_module("g2p_en").G2p()
    ids = {phone: number for number, phone in reversed(list(enumerate(phones)))}
    return lambda text: [ids[phone] for phone in convert(text) if phone in ids]


SYSTEMS = (LauraTTSModel,)
