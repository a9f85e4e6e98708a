"""A small VioLA: digits spoken in the voice of a recording, and digits written down, by one network; see `small_lm`.

The words of the voice are not read. Where VioLA tells languages, this tells what is given from what is new.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from codecbench.models import small_lm, word_marks
from codecbench.models.base import LoadOptions, Request, Response, Sampling
from codecbench.models.phonemes import BYTES, FIRST_BYTE
from codecbench.models.training.student import LMRecipe
from codecbench.models.viola import TASKS, Viola

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from codecbench.models.blocks.autoregressive import Opening
    from codecbench.models.blocks.viola import Question, ViolaLM

GIVEN, NEW = 0, 1
"""In the place of languages: of speech that is given, and of what is new."""
HEARD, WRONG = 1 / 3, 0.2
"""Probability that an example is recognised instead of spoken, and that a code to be heard is another in training."""
TEMPO = 0.85, 1.2
"""Slowest and fastest tempo at which speech is heard in training."""


class SmallViola(small_lm.Student, Viola):
    """VioLA."""

    card = small_lm.card(
        "viola-small", "VioLA", ("tts", "asr"), "arXiv:2305.16107", sampling=(*small_lm.SAMPLING, ("guidance", 2.0))
    )
    recipe = LMRecipe(steps=4_000, batch=12)
    script = small_lm.SCRIPT
    longest = 30
    settings: ClassVar[dict[str, Any]] = {
        "dimension": 128, "layers": 5, "heads": 4,
        "fine": {"dimension": 128, "layers": 4, "heads": 4, "codebooks": small_lm.CODEBOOKS, "tied": False},
    }  # fmt: skip

    @classmethod
    def load(cls, options: LoadOptions) -> Viola:
        """Load this package's weights, a file that ``codecbench train`` wrote, or random weights."""
        return cls(cls.filled(options), small_lm.codec_tokens(options), options.device)

    @classmethod
    def blank(cls, seed: int) -> ViolaLM:
        """Both networks with random weights."""
        return cls.build(seed)

    @classmethod
    def acquainted(cls, network: ViolaLM) -> None:
        """As of `small_lm.Student`."""
        tables: list[Any] = list(network.causal.codes)
        for k, table in enumerate(tables):
            small_lm.acquaint(k, table.weight)
        small_lm.acquaint(0, network.causal.head.weight[network.shape.text : network.shape.end])
        small_lm.acquaint_fine(network.fine)

    @classmethod
    def loss(cls, network: ViolaLM, examples: Sequence[small_lm.Example], random: torch.Generator) -> dict[str, Tensor]:
        """Of the words where speech is heard; else of the first codebook, and of another one."""
        import torch

        heard, spoken = list[small_lm.Example](), list[small_lm.Example]()
        for example in examples:
            written = example.text and float(torch.rand((), generator=random)) < HEARD
            if written:
                heard.append(hastened(example, random) if network.training else example)
            else:
                spoken.append(example)
        found: dict[str, Tensor] = {}
        if heard:
            asked = [_question(network, "asr", heard=_blurred(network, own.codes, random)) for own in heard]
            openings = [network.causal.open(question) for question in asked]
            found |= _text_losses(network, openings, heard)
        if spoken:
            asked = [_question(network, "tts", text=own.text, voice=own.voice) for own in spoken]
            openings = [network.causal.open(question) for question in asked]
            codes = [_ids(network, own.codes) for own in spoken]
            found["codebook 1"] = word_marks.loss(
                network.causal, openings, spoken, code=network.shape.text, mark=_mark, end=network.shape.end
            )  # fmt: skip
            prompts = [network.prompt(question) for question in asked]
            found |= small_lm.fine_losses(network.fine, prompts, codes, random)
        return found

    def _write(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        """The likeliest words; `sampling` is of speech."""
        return super()._write(requests, replace(sampling, temperature=0.0))

    def _speak(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        import torch

        if not requests:
            return []
        network, end, frames = self.lm.causal, self.lm.shape.end, self.codec.frames(sampling.max_seconds)
        questions = [self.question(request) for request in requests]
        words, manner = _words(self.lm, "")
        untold = [network.open(replace(asked, text=words, text_languages=manner)) for asked in questions]
        allowed = torch.arange(end + 1, device=self._device) >= self.lm.shape.text
        found = word_marks.generate(
            network, [network.open(asked) for asked in questions], untold, requests,
            word_marks.careful(requests, sampling, allowed), frames, mark=_mark, end=end, guidance=sampling.guidance,
            use_cache=self.use_cache,
        )  # fmt: skip
        responses = []
        for asked, (tokens, ended) in zip(questions, found, strict=True):
            codes = self.lm.refine(asked, [token for token in tokens if token >= self.lm.shape.text][:frames])
            responses.append(Response(self.codec.decode(codes), tokens=codes.numel(), ended=ended))
        return responses

    def question(self, request: Request) -> Question:
        """What `request` asks of the model; the words of a voice are not read."""
        if request.task == "asr":
            return _question(self.lm, "asr", heard=self.codec.encode(request.audio))
        voice = self.codec.encode(small_lm.first_of(request.audio))
        return _question(self.lm, "tts", text=request.text or "", voice=voice)


def _text_losses(
    network: ViolaLM, openings: Sequence[Opening], heard: Sequence[small_lm.Example]
) -> dict[str, Tensor]:  # fmt: skip
    """Cross-entropies of the words, and of what each frame that is heard knows of its word, as of `_known`."""
    import torch
    from torch.nn import functional, utils

    causal, steps, texts, wanted = network.causal, [], [], []
    for opening, example in zip(openings, heard, strict=True):
        words = _ids(network, small_lm.symbols(example.text))
        places = torch.arange(len(words), device=words.device)
        said = causal.embed(words[None], places[None], opening.manner[None])[0]
        steps.append(torch.cat([opening.steps, said]))
        texts.append(functional.pad(words, (0, 1), value=network.shape.end))
        wanted.append(_known(example).to(words.device))
    counts = torch.tensor([len(own) for own in steps], device=steps[0].device)
    hidden = causal.backbone(utils.rnn.pad_sequence(steps, batch_first=True), counts=counts)
    rows = zip(hidden, counts.tolist(), texts, strict=True)
    ends = torch.cat([own[count - len(text) : count] for own, count, text in rows])
    frames = torch.cat([own[: len(known)] for own, known in zip(hidden, wanted, strict=True)])
    return {
        "text": functional.cross_entropy(causal.head(ends), torch.cat(texts)),
        "frames": functional.cross_entropy(causal.head(frames), torch.cat(wanted)),
    }


def _known(example: small_lm.Example) -> Tensor:
    """For every frame ``[F]`` the symbol of its word's number, and from the middle of the word on that of its digit.

    Where the network must know as much, it finds out which word is the next to be written: it would take far longer
    to learn that from the words alone.
    """
    import torch

    ends = [*example.starts[1:], example.codes.shape[1]]
    parts = []
    for number, (digit, start, end) in enumerate(
        zip(small_lm.symbols(example.text), example.starts, ends, strict=True)
    ):
        middle = (start + end) // 2
        parts += [torch.full((middle - start,), FIRST_BYTE + number), torch.full((end - middle,), digit)]
    return torch.cat(parts)


def _mark(digit: int) -> int:
    """The token of a digit: that which the model writes."""
    return BYTES + digit


def hastened(example: small_lm.Example, random: torch.Generator) -> small_lm.Example:
    """`example` at another tempo: frames are left out, or stand twice. Few takes alone would be learnt by heart."""
    import torch

    slowest, fastest = TEMPO
    tempo = slowest + (fastest - slowest) * float(torch.rand((), generator=random))
    frames = example.codes.shape[1]
    kept = (torch.arange(round(frames / tempo)) * tempo).long().clamp(max=frames - 1)
    starts = torch.searchsorted(kept, torch.tensor(example.starts, dtype=torch.long)).tolist()
    return replace(example, codes=example.codes[:, kept], starts=tuple(starts))


def _blurred(network: ViolaLM, codes: Tensor, random: torch.Generator) -> Tensor:
    """In training, some of `codes` ``[K, F]`` are others, so that none alone tells a recording."""
    import torch

    if not network.training:
        return codes
    others = torch.randint(network.shape.fine.codebook_size, codes.shape, generator=random)
    return torch.where(torch.rand(codes.shape, generator=random) < WRONG, others, codes)


def _question(
    network: ViolaLM, task: str, *, text: str = "", heard: Tensor | None = None, voice: Tensor | None = None
) -> Question:  # fmt: skip
    """A question whose voice, if it has one, is told from the answer by its language."""
    import torch

    from codecbench.models.blocks.viola import Question

    none = torch.zeros(network.shape.fine.codebooks, 0, dtype=torch.long)
    speech, known = (_ids(network, none if codes is None else codes) for codes in (heard, voice))
    return Question(TASKS.index(task), NEW, *_words(network, text), speech, GIVEN, known, GIVEN)


def _words(network: ViolaLM, text: str) -> tuple[Tensor, Tensor]:
    """The ids of a question's words ``[M]``, and that each is new ``[M]``."""
    import torch

    ids = _ids(network, small_lm.read_digits("", text).ids)
    return ids, torch.full_like(ids, NEW)


def _ids(network: ViolaLM, ids: Any) -> Tensor:
    import torch

    return torch.as_tensor(ids, device=network.causal.head.weight.device)


SYSTEMS = (SmallViola,)
