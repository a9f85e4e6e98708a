"""A small UniAudio: digits in the voice of a recording, by the multi-scale Transformer; see `small_lm`.

Its vocabulary has the ids of the release for tasks and their parts, digits in place of phones, and the codec's codes.
What comes before the answer sees all of itself, as the configuration of the release allows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, cast

from codecbench.audio import Clip
from codecbench.models import small, small_lm, word_marks
from codecbench.models import uniaudio_files as files
from codecbench.models.base import LoadOptions, Request, Response, Sampling
from codecbench.models.phonemes import BYTES
from codecbench.models.training.student import LMRecipe
from codecbench.models.uniaudio import Networks, Size, UniAudio

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from codecbench.models.blocks.multiscale import MultiScaleLM, Patches
    from codecbench.models.codec_tokens import CodecTokens


@cache
def ids() -> files.Ids:
    """The model's ids."""
    special = files.tokens_of()[: files.SPECIAL_IDS]
    kinds = {"audio": small_lm.CODEBOOKS * small.CODEBOOK_SIZE + 1, "phone": small_lm.SYMBOLS}
    tokens = special + [f"<{kind}_{number}>" for kind, size in kinds.items() for number in range(size)]
    return files.ids_of(tokens, small_lm.CODEBOOKS, small.CODEBOOK_SIZE)


@cache
def places() -> Tensor:
    """Booleans ``[K, N]``: the ids that may stand in each place of an answer's frame, codes and the end."""
    import torch

    own = ids()
    found = torch.stack([own.vocabulary.mask("audio", k) for k in range(small_lm.CODEBOOKS)])
    found[:, own["audio_end"]] = True
    return found


class SmallUniAudio(small_lm.Student, UniAudio):
    """UniAudio."""

    card = small_lm.card(
        "uniaudio-small", "UniAudio", ("tts",), "arXiv:2310.00704", sampling=(*small_lm.SAMPLING, ("guidance", 2.5))
    )
    recipe = LMRecipe(steps=3_600, strings=4_000, speed=(0.93, 1.07))
    size = Size(144, 4, 4, longest=1000)
    scored: ClassVar[tuple[str, ...]] = ("start", "plain_tts_task", "phone_start", "phone_end", "audio_start")

    def __init__(self, network: MultiScaleLM, tokens: CodecTokens, device: str) -> None:
        from torch import nn

        nothing: Any = nn.Identity()  # it has no T5 and no semantic units
        super().__init__(Networks(network, tokens.network, nothing, nothing), ids(), device)
        self.among = places().to(device)
        self._codes_of = tokens

    @classmethod
    def load(cls, options: LoadOptions) -> SmallUniAudio:
        """Load this package's weights, a file that ``codecbench train`` wrote, or random weights."""
        return cls(cls.filled(options), small_lm.codec_tokens(options), options.device)

    @classmethod
    def blank(cls, seed: int) -> MultiScaleLM:
        """The multi-scale Transformer with random weights."""
        import torch

        from codecbench.models.blocks.multiscale import MultiScaleLM, MultiScaleShape

        size, own = cls.size, ids()
        shape = MultiScaleShape(
            size.dimension, size.layers, size.heads, own.vocabulary.size, size.longest, small_lm.CODEBOOKS, 1,
            own["mega_global"], own["mega_local"], prefix=True,
        )  # fmt: skip
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return MultiScaleLM(shape)

    @classmethod
    def acquainted(cls, network: MultiScaleLM) -> None:
        """As of `small_lm.Student`."""
        for k in range(small_lm.CODEBOOKS):
            first, last = (int(place) for place in ids().vocabulary.mask("audio", k).nonzero()[[0, -1], 0])
            for table in (network.frames, network.tokens, network.head):
                small_lm.acquaint(k, table.weight[first : last + 1])

    @classmethod
    def loss(  # type: ignore[override] # here of a network, there of a system
        cls, network: MultiScaleLM, examples: Sequence[small_lm.Example], random: torch.Generator  # noqa: ARG003
    ) -> dict[str, Tensor]:  # fmt: skip
        """Of the answers and their ends, codebook by codebook, each among the ids that may stand in its place."""
        import torch
        from torch.nn import functional

        weight = network.head.weight
        sequences = [_sequence(example, weight.device) for example in examples]
        wanted = [sequence.ids[slice(*sequence.answer)] for sequence in sequences]
        last = ids()["audio_end"]  # where a word begins, the one before ends
        hidden, targets = network.answers(sequences, [_with_ends(own, last) for own in wanted])
        found = {}
        for k, allowed in enumerate(places().to(weight.device)):
            logits = functional.linear(hidden[:, k], weight[allowed])
            among = torch.cumsum(allowed, dim=0) - 1
            found[f"codebook {k + 1}"] = functional.cross_entropy(logits, among[targets[:, k]])
        return found

    def _answer(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        import torch

        from codecbench.models.blocks import multiscale

        marks = [[_mark(digit) for digit in word_marks.digits(request.text or "")] for request in requests]
        untold = [self.sequence(request) for request in requests]
        prompts, limits, draws = [], [], []
        for request, prompt, own in zip(requests, untold, marks, strict=True):
            first = prompt.ids.new_tensor(own[:1])[:, None].expand(-1, small_lm.CODEBOOKS)
            whole = torch.cat([prompt.ids, first])
            prompts.append(replace(prompt, ids=whole, answer=(len(whole),) * 2))
            limits.append(self._limit(request, prompts[-1], sampling) + max(0, len(own) - 1))
            draws.append(_drawer(request, sampling, own))
        allowed = self._allowed("tts").expand(len(requests), -1, -1)
        found = multiscale.generate(
            self.lm, prompts, limits, allowed=allowed, end=self.ids["audio_end"], use_cache=self.use_cache,
            draw=lambda number, logits: draws[number](logits),
            guidance=word_marks.guided(sampling.guidance, [_wordless(prompt) for prompt in untold], marks, _mark),
        )  # fmt: skip
        return [self._spoken(*each, sampling) for each in zip(requests, found, strict=True)]

    def _spoken(self, request: Request, found: tuple[Tensor, bool], sampling: Sampling) -> Response:
        frames, ended = found
        audio = frames[self.ids.vocabulary.mask("audio").to(frames.device)[frames[:, 0]]]
        return self._response(request, (audio[: self._codes_of.frames(sampling.max_seconds)], ended))

    def encode(self, clip: Clip) -> Tensor:
        """Codes ``[K, F]`` of a clip."""
        return self._codes_of.encode(clip)

    def read(self, text: str) -> Tensor:
        """Symbols ``[F]`` of a text."""
        return self._tensor(small_lm.symbols(text))

    def _given(self, request: Request) -> tuple[str, list[Tensor]]:
        text = self.read(request.text or "")
        if request.audio is None:
            return "plain_tts", [text]
        return "tts", [text, self.encode(cast("Clip", small_lm.first_of(request.audio)))]


def _sequence(example: small_lm.Example, device: Any) -> Patches:
    """As of `UniAudio.sequence`, of codes."""
    import torch

    from codecbench.models.blocks.multiscale import Patches

    own = ids()

    def frame(name: str) -> Tensor:
        return torch.full((1, small_lm.CODEBOOKS), own[name])

    words = torch.tensor(small_lm.symbols(example.text), dtype=torch.long)
    voiced = bool(example.voice.shape[1])
    rows = [frame("start"), frame("tts_task" if voiced else "plain_tts_task"), frame("phone_start")]
    rows += [own.of("phone", words)[:, None].expand(-1, small_lm.CODEBOOKS), frame("phone_end")]
    if voiced:
        rows += [frame("audio_prompt_start"), own.vocabulary.ids("audio", example.voice).T, frame("audio_prompt_end")]
    marks = [_mark(digit) for digit in word_marks.digits(example.text)]
    said = word_marks.insert(own.vocabulary.ids("audio", example.codes), example.starts, marks).T
    rows += [frame("audio_start"), said[: bool(marks)]]
    first = sum(map(len, rows))
    whole = torch.cat([*rows, said[bool(marks) :], frame("audio_end")]).to(device)
    return Patches(whole, answer=(first, len(whole)))


def _wordless(prompt: Patches) -> Patches:
    """A prompt without its words; it sees all of itself."""
    kept = prompt.ids[~_is_word(prompt.ids[:, 0])]
    return replace(prompt, ids=kept, answer=(len(kept),) * 2)


def _is_word(found: Tensor) -> Tensor:
    """Whether ids are those of words, or of their marks."""
    part, start = ids().vocabulary.part("phone")
    return (found >= start) & (found < start + part.size)


def _mark(digit: int) -> int:
    """The id of a digit's symbol."""
    return ids().vocabulary.part("phone")[1] + BYTES + digit


def _with_ends(answer: Tensor, last: int) -> Tensor:
    """The frames ``[A, K]`` of an answer with the id of the end in place of marks."""
    return answer.masked_fill(_is_word(answer), last)


def _drawer(request: Request, sampling: Sampling, marks: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """Draws the ids of frames one after another; a mark, or the end, fills its frame."""
    import torch

    from codecbench.models.blocks import sampling as blocks

    state, drawn, end = blocks.generator(sampling.seed, request), list[int](), ids()["audio_end"]
    choose = word_marks.drawer(word_marks.careful([request], sampling), [marks], end)
    codes = ids().vocabulary.mask("audio")

    def draw(logits: Tensor) -> Tensor:
        place = len(drawn) % small_lm.CODEBOOKS
        firsts = drawn[:: small_lm.CODEBOOKS]
        if not place:
            token = choose(0, logits, firsts)
        elif codes[firsts[-1]]:
            token = int(
                blocks.draw(logits.masked_fill(torch.arange(len(logits)) == end, blocks.NEVER), sampling, state)
            )
        else:
            token = firsts[-1]
        drawn.append(token)
        return logits.new_tensor(token, dtype=torch.long)

    return draw


SYSTEMS = (SmallUniAudio,)
