"""The two networks of VALL-E (arXiv:2301.02111): first codebook token by token, the others a codebook at a time.

VALL-E X (arXiv:2303.03926) adds languages, SpeechX (arXiv:2308.06873) tokens for tasks among the codes.

The text is before the codes, and all of it is seen from everywhere, as in the open implementations; codes see those
before them in the first network, all others in the second. Text and codes have places of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbench import weights
from codecbench.models.blocks import autoregressive
from codecbench.models.blocks.autoregressive import Draw, Opening
from codecbench.models.blocks.backbone import Backbone, BackboneShape, split_packed
from codecbench.models.blocks.positions import interleaved

LONGEST_ENROLMENT = 225
"""Frames of an utterance that training takes as the voice: 3 s."""

RELEASED_NAMES = (
    (r"\.word_embeddings\.", "."),
    (r"^ar_", "coarse."),
    (r"^nar_", "fine."),
    (r"\.decoder\.norm\.", ".backbone.norm."),
    (r"\.decoder\.", ".backbone."),
    (r"\.(predict_layer|predict_layers)\.", ".head."),
    (r"\.text_embedding\.", ".text."),
    (r"\.audio_embeddings?\.", ".codes."),
    (r"\.language_embedding\.", ".languages."),
    (r"\.stage_embeddings\.", ".stages."),
    (r"\.text_position\.", ".text_places."),
    (r"\.audio_position\.", ".code_places."),
    (r"\.self_attn\.out_proj\.", ".attention.output."),
    (r"\.self_attn\.", ".attention."),
    (r"\.linear1\.", ".feed.inner."),
    (r"\.linear2\.", ".feed.outer."),
    (r"\.norm1\.", ".attention_norm."),
    (r"\.norm2\.", ".feed_norm."),
    (r"\.project_layer\.", ".project."),
)
"""Rules from the parameter names of lifeiteng/vall-e and VALL-E-X to those here, after packed projections are split."""


@dataclass(frozen=True)
class ValleShape:
    """The shape of a `ValleLM`; the default is the paper's.

    Attributes:
        dimension, layers, heads: Of each of the two Transformers.
        text: Entries of the text's vocabulary.
        codebooks: ``K``, at least 2.
        codebook_size: ``N``.
        tasks: Tokens for tasks, which may stand among the codes of the first codebook as N + 1, N + 2, ...
        starts: The codes begin with a token of their own, which the second network does not see.
        languages: How many there are; 0 for a model that has no languages.
        prefix_mode: What the second network hears of the prompt, by the number that lifeiteng/vall-e gives it. 0: its
            text, and the codebooks before the one that is predicted; 1: its text and all codebooks; 2 and 4: all
            codebooks, but not its text.
        norm_first: As of `BackboneShape`.
        tied: The head that predicts codebook k, from 0, is the embedding of codebook k + 1, as in the released code;
            the last is its own.
    """

    dimension: int = 1024
    layers: int = 12
    heads: int = 16
    text: int = 512
    codebooks: int = 8
    codebook_size: int = 1024
    tasks: int = 0
    starts: bool = False
    languages: int = 0
    prefix_mode: Literal[0, 1, 2, 4] = 1
    norm_first: bool = True
    tied: bool = True

    @property
    def end(self) -> int:
        """The token of the end, after the codes."""
        return self.codebook_size

    @property
    def start(self) -> int:
        """The token of the start, if there is one: the last."""
        return self.codebook_size + 1 + self.tasks

    def backbone(self, *, causal: bool) -> BackboneShape:
        """The Transformer of the first network, which is causal, or of the second."""
        return BackboneShape(
            self.dimension, self.layers, self.heads, 4 * self.dimension, norm="layer" if causal else "adaptive",
            norm_first=self.norm_first, final_norm=self.norm_first, activation="relu", causal=causal,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Prompt:
    """What codes follow.

    Attributes:
        text: Ids ``[M]``; 1 at least, unless the codes begin with a token of their own.
        codes: ``[K, P]``, ``P`` may be 0; where the first row has the token of a task, the other rows mean nothing.
        said: Of `text`, the indices of what the second network hears where `ValleShape.prefix_mode` is 2 or 4.
        text_languages: Of each entry of `text` ``[M]``; None if that is not told.
        code_languages: Of `codes` and of what follows them; None if that is not told.
    """

    text: Tensor
    codes: Tensor
    said: Tensor | None = None
    text_languages: Tensor | None = None
    code_languages: tuple[int, int] | None = None


class Places(nn.Module):
    """Adds waves to vectors, as strong as a learnt number says."""

    def __init__(self, *, learnt: bool) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1), requires_grad=learnt)

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        """`x` ``[..., C]`` at `places` ``[...]``."""
        return x + self.alpha * interleaved(places, x.shape[-1]).to(x.dtype)


class _Reader(nn.Module):
    """What both networks have."""

    def __init__(self, shape: ValleShape, *, first: bool) -> None:
        super().__init__()
        self.shape = shape
        self.text = nn.Embedding(shape.text, shape.dimension)
        self.text_places, self.code_places = Places(learnt=first), Places(learnt=first)
        self.backbone = Backbone(shape.backbone(causal=first))
        if shape.languages:
            self.languages = nn.Embedding(shape.languages, shape.dimension)

    def read(self, text: Tensor, languages: Tensor | None) -> Tensor:
        """Vectors ``[M, C]`` of a `text` ``[M]``."""
        x = self.text(text)
        if languages is not None:
            x = x + self.languages(languages)
        found: Tensor = self.text_places(x, torch.arange(len(text), device=text.device))
        return found

    def language(self, number: int | None) -> Tensor:
        """The vector ``[C]`` of a language; zeros for none."""
        if number is None:
            return self.text.weight.new_zeros(self.shape.dimension)
        return self.languages.weight[number]


class CoarseLM(_Reader):
    """The first network: the codes of the first codebook, one after another."""

    def __init__(self, shape: ValleShape) -> None:
        super().__init__(shape, first=True)
        self.codes = nn.Embedding(shape.start + shape.starts, shape.dimension)
        self.head = nn.Linear(shape.dimension, shape.codebook_size + 1, bias=False)

    def embed(self, tokens: Tensor, places: Tensor, manner: Tensor) -> Tensor:
        """As of `autoregressive.Speaker`."""
        return cast("Tensor", self.code_places(self.codes(tokens) + manner[:, None], places))

    def open(self, prompt: Prompt) -> Opening:
        """What the codes after `prompt` follow."""
        voice, new = prompt.code_languages or (None, None)
        known = prompt.codes[0]
        if self.shape.starts:
            known = functional.pad(known, (1, 0), value=self.shape.start)
        places = torch.arange(len(known), device=known.device)
        text = self.read(prompt.text, prompt.text_languages)
        codes = self.embed(known[None], places[None], self.language(voice)[None])[0]
        return Opening(torch.cat([text, codes]), len(text), len(known), self.language(new))


class FineLM(_Reader):
    """The second network: all codes of another codebook at once, from those of the codebooks before it."""

    def __init__(self, shape: ValleShape) -> None:
        super().__init__(shape, first=False)
        size, count, channels = shape.codebook_size, shape.codebooks, shape.dimension
        rows = [size + 1 + shape.tasks, *[size] * (count - 1)]
        self.codes = nn.ModuleList(nn.Embedding(number, channels) for number in rows)
        self.head = nn.ModuleList(nn.Linear(channels, size, bias=False) for _ in range(count - 1))
        self.stages = nn.ModuleList(nn.Embedding(1, channels) for _ in range(count - 1))
        if shape.tied:
            for head, table in zip(self.head[:-1], self.codes[2:], strict=True):
                cast("nn.Linear", head).weight = cast("nn.Embedding", table).weight

    def forward(self, prompts: Sequence[Prompt], codes: Sequence[Tensor], level: int) -> list[Tensor]:
        """Logits ``[F, N]`` of the codebook `level`, from 1, of each request.

        Args:
            prompts: What the codes follow.
            codes: Of each request ``[level or more, F]``.
            level: Which codebook; only those before it are looked at.
        """
        steps = [self._steps(prompt, own[:level]) for prompt, own in zip(prompts, codes, strict=True)]
        counts = torch.tensor([len(own) for own in steps], device=steps[0].device)
        stage = cast("nn.Embedding", self.stages[level - 1]).weight
        padded = nn.utils.rnn.pad_sequence(steps, batch_first=True)
        hidden = self.backbone(padded, counts=counts, condition=stage[None])
        parts = zip(hidden, counts.tolist(), codes, strict=True)
        return [self.head[level - 1](x[count - own.shape[1] : count]) for x, count, own in parts]

    @torch.inference_mode()
    def refine(self, prompt: Prompt, codes: Tensor) -> Tensor:
        """The likeliest codes ``[K, F]`` for `codes` ``[1, F]`` of the first codebook."""
        return self.refine_all([prompt], [codes])[0]

    @torch.inference_mode()
    def refine_all(self, prompts: Sequence[Prompt], codes: Sequence[Tensor]) -> list[Tensor]:
        """As of `refine`, of several requests in one batch."""
        found = list(codes)
        for level in range(1, self.shape.codebooks):
            more = self(prompts, found, level)
            found = [torch.cat([own, logits.argmax(dim=-1)[None]]) for own, logits in zip(found, more, strict=True)]
        return found

    @torch.inference_mode()
    def loglikelihood(self, prompt: Prompt, codes: Tensor) -> Tensor:
        """Log-probabilities in nats ``[K - 1, F]`` of `codes` ``[K, F]`` but the first codebook's."""
        rows = []
        for level in range(1, self.shape.codebooks):
            nats = functional.log_softmax(self([prompt], [codes], level)[0], dim=-1)
            rows.append(nats.gather(-1, codes[level][:, None])[:, 0])
        return torch.stack(rows)

    def loss(self, prompts: Sequence[Prompt], codes: Sequence[Tensor], random: torch.Generator | None = None) -> Tensor:
        """Cross-entropy in nats a code of one random codebook, as of `ValleLM.loss`."""
        level = int(torch.randint(1, self.shape.codebooks, (), generator=random))
        pairs = [_enrol(prompt, own, random) for prompt, own in zip(prompts, codes, strict=True)]
        found = self([prompt for prompt, _ in pairs], [own for _, own in pairs], level)
        return functional.cross_entropy(torch.cat(found), torch.cat([own[level] for _, own in pairs]))

    def _steps(self, prompt: Prompt, codes: Tensor) -> Tensor:
        mode, voice = self.shape.prefix_mode, prompt.codes
        said = prompt.said if mode in (2, 4) and prompt.said is not None else slice(None)
        languages = None if prompt.text_languages is None else prompt.text_languages[said]
        parts = [voice[: len(codes)] if mode == 0 else voice, codes]
        spoken = prompt.code_languages or (None, None)
        x = torch.cat([self._sum(part) + self.language(own) for part, own in zip(parts, spoken, strict=True)])
        x = self.code_places(x, torch.arange(len(x), device=x.device))
        return torch.cat([self.read(prompt.text[said], languages), x])

    def _sum(self, codes: Tensor) -> Tensor:
        is_code = codes[0] < self.shape.codebook_size
        x = self.codes[0](codes[0])
        for table, own in zip(self.codes[1:], codes[1:], strict=False):
            x = x + table(own * is_code) * is_code[:, None]
        return cast("Tensor", x)


class ValleLM(nn.Module):
    """Both networks."""

    def __init__(self, shape: ValleShape) -> None:
        super().__init__()
        self.shape, self.coarse, self.fine = shape, CoarseLM(shape), FineLM(shape)

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[Prompt], limit: int | Sequence[int], draw: Draw, *, use_cache: bool = True
    ) -> list[tuple[Tensor, bool]]:  # fmt: skip
        """The codes ``[K, F]`` that follow each prompt, up to `limit` frames (each), and whether they came to the end.

        The first codebook is drawn; of the others, the likeliest code is taken. The rest is as of
        `autoregressive.generate`.
        """
        openings = [self.coarse.open(prompt) for prompt in prompts]
        found = autoregressive.generate(self.coarse, openings, limit, draw, self.shape.end, use_cache=use_cache)
        first = [torch.tensor([own], dtype=torch.long, device=prompts[0].codes.device) for own, _ in found]
        whole = self.fine.refine_all(prompts, first)
        return [(codes, ended) for codes, (_, ended) in zip(whole, found, strict=True)]

    @torch.inference_mode()
    def loglikelihood(self, prompt: Prompt, codes: Tensor) -> Tensor:
        """Log-probabilities in nats ``[K, F]`` of `codes` ``[K, F]`` after `prompt`.

        Of the first codebook given the codes before, of each other one given all codes of the codebooks before it.
        """
        first = autoregressive.loglikelihood(self.coarse, self.coarse.open(prompt), codes[0])
        return torch.cat([first[None], self.fine.loglikelihood(prompt, codes)])

    def loss(
        self, prompts: Sequence[Prompt], codes: Sequence[Tensor], random: torch.Generator | None = None
    ) -> Tensor:  # fmt: skip
        """What training makes less: the mean of both networks' cross-entropies in nats a token.

        The first network's is that of the first codebook and the end; the second's, of one random other codebook
        (arXiv:2301.02111, sections 4.2.1 and 4.2.2). Where a prompt has no codes, the second network is given up to
        half of the utterance as the voice, at most 3 s, and is asked for the rest.

        Args:
            prompts: Of each example.
            codes: Of each example ``[K, F]``.
            random: What is random here; None for torch's own.
        """
        openings = [self.coarse.open(prompt) for prompt in prompts]
        coarse = autoregressive.loss(self.coarse, openings, [own[0] for own in codes], self.shape.end)
        return (coarse + self.fine.loss(prompts, codes, random)) / 2


def _enrol(prompt: Prompt, codes: Tensor, random: torch.Generator | None) -> tuple[Prompt, Tensor]:
    """The prompt with the beginning of the codes as its own, if it has none, and the rest."""
    if prompt.codes.shape[1]:
        return prompt, codes
    most = min(codes.shape[1] // 2, LONGEST_ENROLMENT)
    count = int(torch.randint(0, most + 1, (), generator=random))
    return replace(prompt, codes=codes[:, :count]), codes[:, count:]


def with_tied(state: dict[str, Tensor], shape: ValleShape) -> dict[str, Tensor]:
    """`state` with the heads that are embeddings, which a file without copies leaves out."""
    pairs = {f"fine.head.{k}.weight": f"fine.codes.{k + 2}.weight" for k in range(shape.codebooks - 2)}
    return {head: state[table] for head, table in pairs.items() if shape.tied and table in state} | state


def from_released(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """`state` of lifeiteng/vall-e or VALL-E-X as that of a `ValleLM`."""
    for kind in ("weight", "bias"):
        state = split_packed(state, f"in_proj_{kind}", [f"{part}.{kind}" for part in ("query", "key", "value")])
    return weights.rename_keys(state, RELEASED_NAMES)
