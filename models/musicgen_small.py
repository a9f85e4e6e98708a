"""A small MusicGen that is told digits: codebooks with MusicGen's delay, in a voice or another; see `small_lm`.

What differs from MusicGen: an encoder of digits that learns with it stands in T5's place, and there is an end, a code
more in every codebook, which the first one decides. Words are marked among the codes, as in `word_marks`; those of a
voice are not read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from codecbench.audio import Clip
from codecbench.models import small, small_lm, word_marks
from codecbench.models.base import LoadOptions, Request, Response, Sampling, SpeechLM
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
"""The code of the end; those of the digits' marks follow."""
UNHEARD = -100
"""In the place of what is not to be predicted."""


class SmallMusicGen(small_lm.Student, MusicGen):
    """MusicGen."""

    card = small_lm.card(
        "musicgen-small-digits", "MusicGen", ("tts", "continuation"), "arXiv:2306.05284",
        sampling=(*small_lm.SAMPLING, ("guidance", 2.0)),
    )  # fmt: skip
    recipe = LMRecipe(steps=4_000, strings=4_000, speed=(0.93, 1.07))
    size = Size(128, 5, 4, text=(128, 1, 4))
    stream, samples = SpeechLM.stream, SpeechLM.samples  # the codec does not stream, and answers have an end

    def __init__(self, network: Any, tokens: Any, device: str) -> None:
        super().__init__(Networks(network["lm"], tokens.network, network["text"]), None, device)
        self._tokens = tokens

    @classmethod
    def load(cls, options: LoadOptions) -> SmallMusicGen:
        """Load this package's weights, a file that ``codecbench train`` wrote, or random weights."""
        return cls(cls.filled(options), small_lm.codec_tokens(options), options.device)

    @classmethod
    def shape(cls) -> CodebookLMShape:
        """The language model's shape, with room for the end and the marks."""
        from codecbench.models.blocks import codebook_lm

        size = cls.size
        backbone = codebook_lm.musicgen(size.dimension, size.layers, size.heads)
        return codebook_lm.CodebookLMShape(backbone, len(cls.card.streams), END + 11, size.text[0])

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
        """Codebook by codebook, of what follows the voice and the first mark."""
        import torch
        from torch.nn import functional, utils

        lm, device = network["lm"], network["text"].symbols.weight.device
        told: list[Tensor | None] = []
        packed: list[Tensor] = []
        targets: list[Tensor] = []
        for example in examples:
            ids = torch.tensor(small_lm.read_digits("", example.text).ids, device=device)
            told.append(network["text"](ids) if example.text else None)
            marks = [_mark(digit) for digit in word_marks.digits(example.text)]
            new = functional.pad(word_marks.insert(example.codes, example.starts, marks), (0, 1), value=END)
            codes = torch.cat([example.voice, new], dim=1)
            wanted = torch.where(new < END, new, UNHEARD)
            wanted[0] = new[0].clamp(max=END)  # where a word begins, the one before ends
            wanted[:, : bool(marks)] = UNHEARD
            wanted = functional.pad(wanted, (codes.shape[1] - new.shape[1], 0), value=UNHEARD)
            pattern = _delayed(codes.shape[1])
            packed.append(pattern.pack(codes, lm.shape.codebook_size).T)
            targets.append(pattern.pack(wanted, UNHEARD).T)
        steps = utils.rnn.pad_sequence(packed, batch_first=True).mT.to(device)
        after = utils.rnn.pad_sequence(targets, batch_first=True, padding_value=UNHEARD).mT.to(device)[..., 1:]
        counts = torch.tensor([len(own) - 1 for own in packed], device=device)
        logits = lm(steps[..., :-1], counts=counts, memory=lm.listen(told))
        return {
            f"codebook {k + 1}": functional.cross_entropy(logits[:, k].mT, after[:, k], ignore_index=UNHEARD)
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
        from torch.nn import functional

        from codecbench.models.blocks.codebook_generation import stream

        own = request.task == "continuation"
        marks = [_mark(digit) for digit in word_marks.digits(request.text or "")]
        voice = self.encode(request.audio if own else small_lm.first_of(request.audio))
        prompt = functional.pad(voice, (0, 1), value=marks[0]) if marks else voice
        frames = self._tokens.frames(sampling.max_seconds)
        found, ended = [voice[:, :0]], False
        for new in stream(
            self.lm, prompt, self.read(request.text), frames + max(0, len(marks) - 1), layout=self.layout,
            draw=_drawer(request, sampling, marks), guidance=sampling.guidance, use_cache=self.use_cache,
            unheard=range(_mark(0), _mark(9) + 1),
        ):  # fmt: skip
            stop = (new[0] == END).nonzero()
            ended = bool(len(stop))
            found.append(new[:, : int(stop[0])] if ended else new)
            if ended:
                break
        whole = torch.cat(found, dim=1)
        codes = whole[:, whole[0] < END][:, :frames]
        heard = torch.cat([voice, codes], dim=1) if own else codes
        return Response(self.decode(heard, codes.shape[1]), tokens=codes.numel(), ended=ended)


def _drawer(request: Request, sampling: Sampling, marks: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """Draws codes ``[K]`` of one step of the delay from logits ``[K, N]``; a mark is one in every codebook, in turn."""
    import torch

    from codecbench.models.blocks import sampling as blocks

    state, first = blocks.generator(sampling.seed, request), list[int]()
    choose = word_marks.drawer(word_marks.careful([request], sampling), [marks], END)

    def draw(logits: Tensor) -> Tensor:
        first.append(choose(0, logits[0].masked_fill(torch.arange(logits.shape[1]) > END, blocks.NEVER), first))
        others = blocks.draw(logits[1:, :END], sampling, state)
        heads = torch.tensor([first[-1 - k] if len(first) > k else 0 for k in range(len(logits))])
        return torch.where(heads > END, heads, torch.cat([heads[:1], others]))

    return draw


def _mark(digit: int) -> int:
    return END + 1 + digit


def _delayed(frames: int) -> Pattern:
    from codecbench.models.blocks import patterns

    return patterns.delay(small_lm.CODEBOOKS, frames, range(small_lm.CODEBOOKS))


SYSTEMS = (SmallMusicGen,)
