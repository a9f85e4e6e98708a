"""What all models of ``transformers`` share: loading, decoding and its random state, and how audio goes in and out.

A model is loaded from the folder that `save_pretrained` writes, or from the repository of the hub that
``codecbench weights get NAME`` downloads; nothing is fetched on the way. Requests are answered one by one, so that no
batch pads them. Tokens are drawn by ``transformers`` itself, from torch's own generator, which is seeded for each
request and left as it was. `Sampling` overrides what a release decodes with by default; what it has no field for, such
as a repetition penalty, stays as released.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from codecbench import tolerant_torchaudio, weights
from codecbench.audio import Clip
from codecbench.errors import InvalidSystem
from codecbench.models.base import Likelihood, LoadOptions, Request, Response, Sampling, SpeechLM
from codecbench.models.limits import check_clip, check_request, check_sampling
from codecbench.weights import WeightFile

if TYPE_CHECKING:
    from torch import Tensor

HUB = "https://huggingface.co"


class Pretrained(SpeechLM):
    """A model of ``transformers``.

    A subclass sets `card` (with ``requires="hf"`` and its repositories as `weights`) and `network`, and implements
    `tiny` and `answer`, and `score` if it gives likelihoods.
    """

    network: ClassVar[str]
    """Name of the model's class in ``transformers``."""
    shortest: ClassVar[int] = 1
    """Samples of the shortest audio that it can hear."""
    languages: ClassVar[tuple[str, ...]] = ()
    """Target languages of its translations."""
    guided: ClassVar[bool] = False
    """It takes `Sampling.guidance`; others ignore it."""

    def __init__(self, model: Any, processor: Any, device: str) -> None:
        self.model = model.requires_grad_(False).eval().to(device)
        self.processor = processor
        self.device = device

    @classmethod
    def load(cls, options: LoadOptions) -> Self:
        """Load a folder, the downloaded repositories, or a tiny model of the same kind with random weights."""
        name = cls.card.name
        if find_spec("transformers") is None:
            raise InvalidSystem(f"model '{name}' needs transformers: pip install 'codecbench[hf]'")
        tolerant_torchaudio.load()  # `transformers` imports it plainly
        if options.random_seed is not None:
            import torch

            with torch.no_grad(), seeded(options.random_seed):
                return cls(*cls.tiny(), options.device)
        first, *others = cls.card.weights
        folders = [weights.resolve(name, first, options.weights)]
        folders += [weights.resolve(name, o, options.weights and options.weights / o.name) for o in others]
        return cls(*cls.read(folders), options.device)

    @classmethod
    def read(cls, folders: Sequence[Path]) -> tuple[Any, Any]:
        """The model and its processor from the folders of the card's `weights`, in their order."""
        return read_model(cls.network, folders[0]), read_processor(folders[0])

    @classmethod
    @abstractmethod
    def tiny(cls) -> tuple[Any, Any]:
        """A small model with random weights and a processor that needs no files; torch's generator is seeded."""

    @abstractmethod
    def answer(self, request: Request, sampling: Sampling) -> Response:
        """Answer a request that was checked; torch's generator is seeded for it."""

    def check(self, request: Request) -> None:
        """Raise ValueError if the model cannot do what `request` asks."""
        check_request(self.card, request, frame=self.shortest, languages=self.languages)

    def score(self, clip: Clip) -> Likelihood:
        """The likelihood of a clip that was checked."""
        raise NotImplementedError

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        """Answer each request by itself."""
        import torch

        check_sampling(sampling)
        if self.guided and sampling.guidance < 1:
            raise ValueError(f"a guidance of {sampling.guidance}: {self.card.name} takes 1 (none) or more")
        for request in requests:
            self.check(request)
        responses = []
        for request in requests:
            with torch.no_grad(), seeded(seed_of(request, sampling), self.device):
                responses.append(self.answer(request, sampling))
        return responses

    def loglikelihood(self, items: Sequence[Clip]) -> list[Likelihood]:
        """Log-likelihood of each clip's tokens, if the card says that there is one."""
        import torch

        if items and not self.card.likelihood:
            raise ValueError(f"{self.card.name} gives no likelihood of audio")
        for clip in items:
            check_clip(self.card, clip, self.shortest)
        with torch.no_grad(), seeded(0, self.device):
            return [self.score(clip) for clip in items]

    def parameters(self) -> int:
        """Number of parameters of all parts."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def rate(self) -> int:
        """Sample rate of the card."""
        return self.card.sample_rate or 0

    @property
    def nothing(self) -> Clip:
        """A clip without samples."""
        return Clip(np.zeros((self.card.channels or 1, 0), np.float32), self.rate)

    def take(self, inputs: Any) -> dict[str, Any]:
        """A processor's `inputs` on the model's device."""
        return dict(inputs.to(self.device))

    def clip(self, samples: Tensor, sampling: Sampling) -> Clip:
        """Generated `samples` ``[T]`` or ``[C, T]`` as a clip, no longer than `sampling` allows."""
        channels = samples.detach().cpu().float().numpy().reshape(-1, samples.shape[-1])
        room = int(sampling.max_seconds * self.rate + 1e-6)
        return Clip(np.array(channels[:, :room], np.float32, order="C"), self.rate)


def repository(name: str, licence: str, revision: str = "main") -> WeightFile:
    """The repository ``owner/name`` of the hub, as a card lists it."""
    return WeightFile(name.partition("/")[2], f"{HUB}/{name}", licence=licence, revision=revision)


def sound(clip: Clip | None) -> Clip:
    """The clip of a request that was checked to have one."""
    if clip is None:
        raise ValueError("the request has no such recording")
    return clip


def greedy(sampling: Sampling) -> bool:
    """Whether only the likeliest token can be drawn."""
    return sampling.temperature == 0 or sampling.top_k == 1


def decoding(sampling: Sampling) -> dict[str, Any]:
    """What `generate` of ``transformers`` is told of `sampling`."""
    if greedy(sampling):
        return {"do_sample": False, "num_beams": 1}
    drawn = {"temperature": sampling.temperature, "top_k": sampling.top_k, "top_p": sampling.top_p}
    return {"do_sample": True, "num_beams": 1, **drawn}


def seed_of(request: Request, sampling: Sampling) -> int:
    """The seed of a request: one for all seeds if it is greedy, which leaves noise and dropout of vocoders alone."""
    from codecbench.models.blocks.sampling import generator

    return generator(0 if greedy(sampling) else sampling.seed, request).initial_seed()


@contextmanager
def seeded(seed: int, device: str = "cpu") -> Iterator[None]:
    """Run the body with torch's generators of the CPU and of `device` at `seed`; then they are as they were.

    So is Python's, which some decoders draw from to no effect.
    """
    import torch

    used = torch.device(device)
    places = [torch.cuda.current_device() if used.index is None else used.index] if used.type == "cuda" else []
    before = random.getstate()
    try:
        with torch.random.fork_rng(devices=places):
            torch.default_generator.manual_seed(seed)
            for place in places:
                torch.cuda.default_generators[place].manual_seed(seed)
            yield
    finally:
        random.setstate(before)


def read_model(name: str, folder: Path, *, plain: bool = False) -> Any:
    """The model of class `name` in `folder`, with every weight; `plain`, without what its own class reads besides.

    Raises:
        InvalidSystem: It is another model's, damaged, or not whole.
    """
    import torch
    import transformers

    try:
        kind = getattr(transformers, name)
        load = transformers.PreTrainedModel.from_pretrained.__func__.__get__(kind) if plain else kind.from_pretrained
        with seeded(0):  # which draws weights before it reads them
            model, found = load(str(folder), local_files_only=True, output_loading_info=True, dtype=torch.float32)
    except Exception as error:  # a damaged folder makes it raise anything
        raise InvalidSystem(f"{folder} cannot be read as a {name}: {_first_line(error)}") from error
    absent = sorted(map(str, [*found["missing_keys"], *found["mismatched_keys"]]))
    if absent:
        raise InvalidSystem(f"{folder} does not fit a {name}: {len(absent)} weights are missing, such as {absent[0]}")
    return model


def read_processor(folder: Path, name: str = "AutoProcessor") -> Any:
    """The processor in `folder`, of the class `name`.

    Raises:
        InvalidSystem: There is none, or it is damaged.
    """
    import transformers

    try:
        return getattr(transformers, name).from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # as above
        raise InvalidSystem(f"{folder} has no processor of the model: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def bytes_tokenizer(*special: str, **roles: str) -> Any:
    """A stand-in for a model's tokeniser, which needs no file: it reads a text as its bytes.

    Args:
        special: Tokens that stand for themselves, after ``<pad>``, ``<s>`` and ``</s>``.
        roles: Further tokens with a role, such as ``mask_token``.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    named = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", **roles}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys([*named.values(), *special, *alphabet]))}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, additional_special_tokens=list(special), **named)
