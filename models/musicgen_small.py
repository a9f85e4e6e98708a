"""A small MusicGen that is told digits: codebooks with MusicGen's delay, in a voice or another; see `small_lm`.

What differs from MusicGen: an encoder of digits that learns with it stands in T5's place, and there is an end, a code
more in every codebook, which the first one decides. An end also parts a voice, whose words are not read, from what it
is to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from codecbench.audio import Clip
from codecbench.models import small, small_lm
from codecbench.models.base import LoadOptions, Request, Response, Sampling
from codecbench.models.limits import check_request, check_sampling
from codecbench.models.musicgen import MusicGen, Size
from codecbench.models.musicgen_files import Networks
from codecbench.models.training.student import LMRecipe

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from codecbench.models.blocks.codebook_lm import CodebookLMShape
    from codecbench.models.blocks.patterns import Pattern

END = small.CODEBOOK_SIZE
"""The code of the end."""


class SmallMusicGen(small_lm.Student, MusicGen):
    """MusicGen."""

    card = small_lm.card("musicgen-small-digits", "MusicGen", ("tts", "continuation"), "arXiv:2306.05284")
    recipe = LMRecipe()
    size = Size(128, 5, 4, text=(128, 1, 4))

    def __init__(self, network: Any, tokens: Any, device: str) -> None:
        super().__init__(Networks(network["lm"], tokens.network, network["text"]), None, device)
        self._tokens = tokens

    @classmethod
    def load(cls, options: LoadOptions) -> SmallMusicGen:
        """Load this package's weights, a file that ``codecbench train`` wrote, or random weights."""
        return cls(cls.filled(options), small_lm.codec_tokens(options), options.device)

    @classmethod
    def shape(cls) -> CodebookLMShape:
        """The language model's shape, with room for the end."""
        from codecbench.models.blocks import codebook_lm

        size = cls.size
        backbone = codebook_lm.musicgen(size.dimension, size.layers, size.heads)
        return codebook_lm.CodebookLMShape(backbone, len(cls.card.streams), END + 1, size.text[0])

    @classmethod
    def blank(cls, seed: int) -> nn.ModuleDict:
        """The language model and the encoder of digits with random weights."""
        import torch
        from torch import nn

        from codecbench.models.blocks.codebook_lm import CodebookLM
        from codecbench.models.blocks.learnt_text import LearntText

        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            text = LearntText(small_lm.SYMBOLS, *cls.size.text)
            return nn.ModuleDict({"lm": CodebookLM(cls.shape()), "text": text})

    @classmethod
    def acquainted(cls, network: Any) -> None:
        """As of `small_lm.Student`."""
        for k, (table, head) in enumerate(zip(network["lm"].embeddings, network["lm"].heads, strict=True)):
            small_lm.acquaint(k, table.weight[:END], head.weight[:END])

    @classmethod
    def loss(
        cls, network: Any, examples: Sequence[small_lm.Example], random: torch.Generator  # noqa: ARG003
    ) -> dict[str, Tensor]:  # fmt: skip
        """Codebook by codebook, of what follows the voice and the end that parts the two."""
        import torch
        from torch.nn import functional, utils

        lm, device = network["lm"], network["text"].symbols.weight.device
        told: list[Tensor | None] = []
        packed: list[Tensor] = []
        counted: list[Tensor] = []
        for example in examples:
            ids = torch.tensor(small_lm.read_digits("", example.text).ids, device=device)
            told.append(network["text"](ids) if example.text else None)
            codes = torch.cat([_parted(example.voice), _parted(example.codes)], dim=1)
            pattern = _delayed(codes.shape[1])
            known = torch.ones_like(codes)
            known[:, : _parted(example.voice).shape[1]] = 0
            packed.append(pattern.pack(codes, lm.shape.codebook_size).T)
            counted.append(pattern.pack(known, 0).T)
        steps = utils.rnn.pad_sequence(packed, batch_first=True).mT.to(device)
        new = utils.rnn.pad_sequence(counted, batch_first=True).mT.to(device)[..., 1:] > 0
        counts = torch.tensor([len(own) - 1 for own in packed], device=device)
        logits, targets = lm(steps[..., :-1], counts=counts, memory=lm.listen(told)), steps[..., 1:]
        return {
            f"codebook {k + 1}": functional.cross_entropy(logits[:, k][new[:, k]], targets[:, k][new[:, k]])
            for k in range(len(cls.card.streams))
        }

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        """Digits, in the voice of a recording if there is one; or audio continued."""
        check_sampling(sampling)
        for request in requests:
            check_request(self.card, request, frame=self.hop)
        return [self._spoken(request, sampling) for request in requests]

    def encode(self, clip: Clip | None) -> Tensor:
        """Codes ``[K, F]`` of a clip, none for none."""
        return cast("Tensor", self._tokens.encode(clip))

    def read(self, text: str | None) -> Tensor | None:
        """Vectors ``[M, C]`` of the text; None without one."""
        import torch

        if not text or not text.strip():
            return None
        ids = torch.tensor(small_lm.read_digits("", text).ids, device=self._device)
        with torch.inference_mode():
            return cast("Tensor", self._text(ids))

    def _spoken(self, request: Request, sampling: Sampling) -> Response:
        import torch

        from codecbench.models.blocks.codebook_generation import stream
        from codecbench.models.blocks.sampling import NEVER, drawer

        limit, own = self._tokens.frames(sampling.max_seconds), request.task == "continuation"
        prompt = self.encode(request.audio) if own else _parted(self.encode(small_lm.first_of(request.audio)))
        draw = drawer([request], sampling)
        others = torch.arange(prompt.shape[0], device=prompt.device) > 0

        def choose(logits: Tensor) -> Tensor:
            ends = others[:, None] & (torch.arange(END + 1, device=logits.device) == END)
            return draw(0, logits.masked_fill(ends, NEVER))

        codes, ended = prompt, False
        told = self.read(request.text)
        for new in stream(
            self.lm, prompt, told, limit, layout=self.layout, draw=choose, guidance=sampling.guidance,
            use_cache=self.use_cache,
        ):  # fmt: skip
            stop = (new[0] == END).nonzero()
            ended = bool(len(stop))
            codes = torch.cat([codes, new[:, : int(stop[0])] if ended else new], dim=1)
            if ended:
                break
        frames = codes.shape[1] - prompt.shape[1]
        heard = codes if own else codes[:, prompt.shape[1] :]
        return Response(self.decode(heard, frames), tokens=frames * len(codes), ended=ended)


def _parted(codes: Tensor) -> Tensor:
    """`codes` ``[K, F]`` and an end, if there are any."""
    from torch.nn import functional

    return functional.pad(codes, (0, 1), value=END) if codes.shape[1] else codes


def _delayed(frames: int) -> Pattern:
    from codecbench.models.blocks import patterns

    return patterns.delay(small_lm.CODEBOOKS, frames, range(small_lm.CODEBOOKS))


SYSTEMS = (SmallMusicGen,)
