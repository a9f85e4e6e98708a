"""VioLA (arXiv:2305.16107): one causal Transformer that writes text and the first codebook of speech, as a task says.

The other codebooks come from the second network of VALL-E.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from codecbench.models.blocks import autoregressive
from codecbench.models.blocks.autoregressive import Opening
from codecbench.models.blocks.backbone import Backbone, BackboneShape
from codecbench.models.blocks.valle import FineLM, Places, Prompt, ValleLM, ValleShape


@dataclass(frozen=True)
class ViolaShape:
    """The shape of a `ViolaLM`.

    Attributes:
        dimension, layers, heads: Of the causal Transformer.
        tasks: How many there are.
        languages: How many there are.
        fine: Of the second network, with the vocabulary of text and the codebooks of both.
    """

    dimension: int
    layers: int
    heads: int
    tasks: int
    languages: int
    fine: ValleShape

    @property
    def text(self) -> int:
        """Entries of the text's vocabulary, the first of all tokens; the codes of the first codebook follow."""
        return self.fine.text

    @property
    def end(self) -> int:
        """The token of the end, after all others."""
        return self.fine.text + self.fine.codebook_size


@dataclass(frozen=True, eq=False)
class Question:
    """What text or speech is to follow.

    Attributes:
        task: Its number.
        language: Of what follows.
        text: Ids ``[M]``, of what is to be translated, or of a voice's words and those to say; ``M`` may be 0.
        text_languages: Of each of them ``[M]``.
        speech: Codes ``[K, F]`` of what is to be understood; ``F`` may be 0.
        speech_language: Of it.
        voice: Codes ``[K, P]`` that the speech to come goes on from; ``P`` may be 0.
        voice_language: Of it; None for that of what follows.
    """

    task: int
    language: int
    text: Tensor
    text_languages: Tensor
    speech: Tensor
    speech_language: int
    voice: Tensor
    voice_language: int | None = None


class ViolaCausal(nn.Module):
    """The causal network: speech, text, a step for task and language, and what follows, token by token.

    Speech that is to be understood is heard in all its codebooks, whose vectors are summed.
    """

    def __init__(self, shape: ViolaShape) -> None:
        super().__init__()
        channels, size = shape.dimension, shape.fine.codebook_size
        self.shape = shape
        self.text = nn.Embedding(shape.text, channels)
        self.codes = nn.ModuleList(nn.Embedding(size, channels) for _ in range(shape.fine.codebooks))
        self.tasks, self.languages = nn.Embedding(shape.tasks, channels), nn.Embedding(shape.languages, channels)
        self.text_places, self.code_places = Places(learnt=True), Places(learnt=True)
        self.backbone = Backbone(BackboneShape(channels, shape.layers, shape.heads, 4 * channels, activation="relu"))
        self.head = nn.Linear(channels, shape.end + 1, bias=False)

    def embed(self, tokens: Tensor, places: Tensor, manner: Tensor) -> Tensor:
        """As of `autoregressive.Speaker`; tokens of text and of codes may stand side by side."""
        is_text = (tokens < self.shape.text)[..., None]
        text = self.text(tokens.clamp(max=self.shape.text - 1))
        codes = self.codes[0]((tokens - self.shape.text).clamp(min=0))
        added = manner[:, None]
        return torch.where(is_text, self.text_places(text + added, places), self.code_places(codes + added, places))

    def open(self, question: Question) -> Opening:
        """What the answer to `question` follows."""
        heard = question.speech
        speech = torch.stack([table(own) for table, own in zip(self.codes, heard, strict=True)]).sum(dim=0)
        speech = speech + self.languages.weight[question.speech_language]
        text = self.text(question.text) + self.languages(question.text_languages)
        manner = self.languages.weight[question.language]
        asked = self.tasks.weight[question.task] + manner
        voice = self.shape.text + question.voice[0]
        own = question.language if question.voice_language is None else question.voice_language
        voice_manner = self.languages.weight[own]
        parts = [
            self.code_places(speech, self._places(heard[0])), self.text_places(text, self._places(question.text)),
            asked[None], self.embed(voice[None], self._places(voice)[None], voice_manner[None])[0],
        ]  # fmt: skip
        return Opening(torch.cat(parts), 0, len(voice), manner)

    @staticmethod
    def _places(ids: Tensor) -> Tensor:
        return torch.arange(len(ids), device=ids.device)


class ViolaLM(nn.Module):
    """Both networks."""

    def __init__(self, shape: ViolaShape) -> None:
        super().__init__()
        self.shape, self.causal, self.fine = shape, ViolaCausal(shape), FineLM(shape.fine)

    def prompt(self, question: Question) -> Prompt:
        """What the second network hears of `question`."""
        told = None if question.voice_language is None else (question.voice_language, question.language)
        return Prompt(question.text, question.voice, text_languages=question.text_languages, code_languages=told)

    @torch.inference_mode()
    def refine(self, question: Question, first: Sequence[int]) -> Tensor:
        """The likeliest codes ``[K, F]`` for the tokens of the `first` codebook ``[F]``, as `causal` writes them."""
        codes = torch.tensor(first, dtype=torch.long, device=question.voice.device)[None] - self.shape.text
        return self.fine.refine(self.prompt(question), codes)

    @torch.inference_mode()
    def loglikelihood(self, question: Question, codes: Tensor) -> Tensor:
        """Log-probabilities in nats ``[K, F]`` of `codes` ``[K, F]``, as of `ValleLM.loglikelihood`."""
        first = autoregressive.loglikelihood(self.causal, self.causal.open(question), self.shape.text + codes[0])
        return torch.cat([first[None], self.fine.loglikelihood(self.prompt(question), codes)])

    def loss(
        self, questions: Sequence[Question], answers: Sequence[Tensor], random: torch.Generator | None = None
    ) -> Tensor:  # fmt: skip
        """What training makes less: cross-entropy in nats a token, of text and codes alike.

        Args:
            questions: Of each example.
            answers: Of each example, text ``[M]`` or codes ``[K, F]``. Where there are codes, the loss is the mean of
                that of the first codebook and all text, and that of one random other codebook.
            random: What is random here; None for torch's own.
        """
        tokens = [own if own.ndim == 1 else self.shape.text + own[0] for own in answers]
        openings = [self.causal.open(question) for question in questions]
        coarse = autoregressive.loss(self.causal, openings, tokens, self.shape.end)
        spoken = [
            (self.prompt(question), own) for question, own in zip(questions, answers, strict=True) if own.ndim == 2
        ]
        if not spoken:
            return coarse
        prompts, codes = zip(*spoken, strict=True)
        return (coarse + self.fine.loss(prompts, codes, random)) / 2


class TranslatingLM(ValleLM):
    """The networks of VALL-E, and a causal one that writes what was said, and what that is in another language.

    The paper of VALL-E X (arXiv:2303.03926) has another network, which was not published, in its place.
    """

    def __init__(self, shape: ValleShape, translator: ViolaShape) -> None:
        super().__init__(shape)
        self.translator = ViolaCausal(translator)
