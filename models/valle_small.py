"""A small VALL-E: digits in the voice of a recording, by the networks of `blocks.valle`; see `small_lm`.

The words of the voice are not read. Which codes are the voice's and which are new is told as VALL-E X tells languages,
by a vector that is added to each. Words are marked among the codes, as in `word_marks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from codecbench.models import small, small_lm, word_marks
from codecbench.models.base import LoadOptions, Request, Response, Sampling
from codecbench.models.training.student import LMRecipe
from codecbench.models.valle import ValleSystem

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from codecbench.models.blocks.valle import Prompt, ValleLM


class SmallValle(small_lm.Student, ValleSystem):
    """VALL-E."""

    card = small_lm.card(
        "valle-small",
        "VALL-E",
        ("tts", "continuation"),
        "arXiv:2301.02111",
        sampling=(*small_lm.SAMPLING, ("guidance", 2.0)),
    )
    recipe = LMRecipe(steps=4_000)
    repetition_aware = True  # without it, it falls silent
    settings: ClassVar[dict[str, Any]] = {
        "dimension": 128, "layers": 5, "heads": 4, "text": small_lm.SYMBOLS, "codebooks": small_lm.CODEBOOKS,
        "tasks": 10, "languages": 2, "tied": False,
    }  # fmt: skip

    @classmethod
    def load(cls, options: LoadOptions) -> ValleSystem:
        """Load this package's weights, a file that ``codecbench train`` wrote, or random weights."""
        return cls(cls.filled(options), small_lm.codec_tokens(options), small_lm.read_digits, options.device)

    @classmethod
    def blank(cls, seed: int) -> ValleLM:
        """Both networks with random weights."""
        return cls.build(seed)

    @classmethod
    def acquainted(cls, network: ValleLM) -> None:
        """As of `small_lm.Student`."""
        size = network.shape.codebook_size
        small_lm.acquaint(0, network.coarse.codes.weight[:size], network.coarse.head.weight[:size])
        small_lm.acquaint_fine(network.fine)

    @classmethod
    def loss(cls, network: ValleLM, examples: Sequence[small_lm.Example], random: torch.Generator) -> dict[str, Tensor]:
        """Of the first codebook, and of another one: in training, a random one."""
        device = network.fine.text.weight.device
        prompts = [_prompt(example.text, example.voice.to(device)) for example in examples]
        codes = [example.codes.to(device) for example in examples]
        openings = [network.coarse.open(prompt) for prompt in prompts]
        coarse = word_marks.loss(network.coarse, openings, examples, code=0, mark=_mark, end=network.shape.end)
        return {"codebook 1": coarse} | small_lm.fine_losses(network.fine, prompts, codes, random)

    def _speak(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        network, frames = self.lm.coarse, self.codec.frames(sampling.max_seconds)
        prompts = [self.prompt(request) for request in requests]
        untold = [network.open(replace(prompt, text=_ids("", self._device))) for prompt in prompts]
        found = word_marks.generate(
            network, [network.open(prompt) for prompt in prompts], untold, requests, self.drawer(requests, sampling),
            frames, mark=_mark, end=self.lm.shape.end, guidance=sampling.guidance, use_cache=self.use_cache,
        )  # fmt: skip
        return [self._answered(*each, frames) for each in zip(requests, prompts, found, strict=True)]

    def _answered(self, request: Request, prompt: Prompt, found: tuple[list[int], bool], frames: int) -> Response:
        tokens, ended = found
        first = self._ids([token for token in tokens if token < self.lm.shape.end][:frames])
        codes = self.lm.fine.refine(prompt, first[None])
        return Response(self.speak(request, prompt, codes), tokens=codes.numel(), ended=ended)

    def prompt(self, request: Request) -> Prompt:
        """What the codes that `request` asks for follow; of a continuation, nothing is told but its codes."""
        if request.task == "continuation":
            return _prompt(request.text or "", self.codec.encode(request.audio), own=True)
        return _prompt(request.text or "", self.codec.encode(small_lm.first_of(request.audio)))


def _mark(digit: int) -> int:
    """The token of a digit, where VALL-E's descendants have those of tasks."""
    return small.CODEBOOK_SIZE + 1 + digit


def _prompt(text: str, voice: Tensor, *, own: bool = False) -> Prompt:
    """What codes follow: a text and a voice, which is not theirs but for their `own` past."""
    from codecbench.models.blocks.valle import Prompt

    return Prompt(_ids(text, voice.device), voice, code_languages=(1 if own else 0, 1))


def _ids(text: str, device: Any) -> Tensor:
    import torch

    return torch.tensor(small_lm.read_digits("", text).ids, device=device)


SYSTEMS = (SmallValle,)
