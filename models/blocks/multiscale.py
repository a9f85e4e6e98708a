"""The multi-scale Transformer of UniAudio (arXiv:2310.00704, section 2.3): one over frames, one within a frame.

A frame is a patch of K ids. The global Transformer sees the frames so far, each as the concatenation of its ids'
embeddings. It gives a slice of its output to each id of the next frame, which the local Transformer predicts one after
another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbench import weights
from codecbench.models.blocks.attention import KeyValueCache
from codecbench.models.blocks.backbone import Backbone, BackboneShape
from codecbench.models.blocks.sampling import NEVER, Guidance, guide, unmarked

RELEASED_NAMES = (
    (r"^module\.", ""),
    (r"^g_emb\.", "frames."),
    (r"^l_emb\.", "tokens."),
    (r"^g_(pos\.|ln\.|layers\.)", r"outer.\1"),
    (r"^l_(pos\.|ln\.|layers\.)", r"inner.\1"),
    (r"^(outer|inner)\.pos\.", r"\1.places."),
    (r"^(outer|inner)\.ln\.", r"\1.norm."),
    (r"^g2l_linear\.", "slices."),
    (r"^lm_head\.", "head."),
    (r"^continuous_mappings\.text_t5\.", "vectors."),
    (r"\.attn\.", ".attention."),
    (r"\.attention\.out\.", ".attention.output."),
    (r"\.attn_ln\.", ".attention_norm."),
    (r"\.mlp_ln\.", ".feed_norm."),
    (r"\.mlp\.0\.", ".feed.inner."),
    (r"\.mlp\.2\.", ".feed.outer."),
)
"""Rules from the parameter names of UniAudio's release to those here."""


@dataclass(frozen=True)
class MultiScaleShape:
    """The shape of a `MultiScaleLM`.

    Attributes:
        dimension: Channels of both Transformers, a multiple of `codebooks`.
        layers: Of the global one; the local one has half of that, but at most 8.
        heads: Of both.
        vocabulary: ``N``, ids of all kinds.
        longest: Frames that there are positions for.
        codebooks: ``K``, ids a frame.
        vectors: Channels of vectors that stand in the place of frames.
        first_frame, first_token: The ids that stand before the first frame, and before the first token of a frame.
        prefix: What comes before the answer sees all of itself.
    """

    dimension: int
    layers: int
    heads: int
    vocabulary: int
    longest: int
    codebooks: int = 3
    vectors: int = 768
    first_frame: int = 23
    first_token: int = 24
    prefix: bool = False

    def backbone(self, layers: int, longest: int) -> BackboneShape:
        """The shape of one of the two Transformers."""
        return BackboneShape(
            self.dimension, layers, self.heads, 4 * self.dimension, unbiased=("key",), positions="learned",
            longest=longest,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Patches:
    """One sequence of frames.

    Attributes:
        ids: ``[F, K]``.
        vectors: What stands in place of frames: the number of the first, and vectors ``[M, C]``.
        answer: The frames that are to be predicted: from the first on, up to the second.
    """

    ids: Tensor
    vectors: tuple[tuple[int, Tensor], ...] = ()
    answer: tuple[int, int] = (0, 0)


class MultiScaleLM(nn.Module):
    """Two `Backbone` in one: `outer` over frames, `inner` over the ids of one."""

    def __init__(self, shape: MultiScaleShape) -> None:
        super().__init__()
        self.shape = shape
        channels, slots = shape.dimension, shape.codebooks
        self.frames = nn.Embedding(shape.vocabulary, channels // slots)
        self.outer = Backbone(shape.backbone(shape.layers, shape.longest))
        self.slices = nn.Linear(channels // slots, channels)
        self.tokens = nn.Embedding(shape.vocabulary, channels)
        self.inner = Backbone(shape.backbone(min(8, shape.layers // 2), slots))
        self.head = nn.Linear(channels, shape.vocabulary, bias=False)
        self.vectors = nn.Linear(shape.vectors, channels)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)

    def listen(
        self, sequences: Sequence[Patches], cache: KeyValueCache | None = None, *, shifted: bool = True
    ) -> Tensor:
        """What the local Transformer is told of each frame: ``[B, F, K, C]`` of the longest of `sequences`.

        Args:
            sequences: Frames.
            cache: Takes these frames too.
            shifted: A frame is told of those before it, the first of none; else of itself too, as if it were the one
                before the next.
        """
        shape, ids = self.shape, [own.ids for own in sequences]
        if shifted:
            start = ids[0].new_full((1, shape.codebooks), shape.first_frame)
            ids = [torch.cat([start, own[:-1]]) for own in ids]
        rows = []
        for own, sequence in zip(ids, sequences, strict=True):
            x = self.frames(own).flatten(1)
            for first, vectors in sequence.vectors:
                begin = first + shifted
                x = torch.cat([x[:begin], self.vectors(vectors), x[begin + len(vectors) :]])
            rows.append(x)
        counts = torch.tensor([len(own) for own in ids], device=rows[0].device)
        prefix = torch.tensor([own.answer[0] + 1 for own in sequences], device=rows[0].device)
        x = self.outer(
            nn.utils.rnn.pad_sequence(rows, batch_first=True), cache=cache, counts=counts,
            prefix=prefix if shape.prefix and shifted else None,
        )  # fmt: skip
        return cast("Tensor", self.slices(x.unflatten(-1, (shape.codebooks, -1))))

    def speak(self, told: Tensor, tokens: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """Logits ``[B, T, N]`` of each token of a frame.

        Args:
            told: What `listen` says of these tokens ``[B, T, C]``.
            tokens: The token before each ``[B, T]``; `MultiScaleShape.first_token` before the first.
            cache: Takes these tokens too.
        """
        return cast("Tensor", self.head(self.inner(self.tokens(tokens) + told, cache=cache)))

    def forward(self, sequences: Sequence[Patches]) -> Tensor:
        """Logits ``[B, F, K, N]`` of every id of `sequences`, given those before it; those of padding mean nothing."""
        told = self.listen(sequences)
        ids = nn.utils.rnn.pad_sequence([own.ids for own in sequences], batch_first=True)
        before = functional.pad(ids[..., :-1], (1, 0), value=self.shape.first_token)
        return self.speak(told.flatten(0, 1), before.flatten(0, 1)).view(*ids.shape, -1)

    def answers(self, sequences: Sequence[Patches], wanted: Sequence[Tensor] = ()) -> tuple[Tensor, Tensor]:
        """What `head` makes logits of ``[A, K, C]``, for the ids of answers given those before; the ids ``[A, K]``.

        With `wanted`, other ids stand in the place of the answers', though not before later ones.
        """
        parts = zip(self.listen(sequences), sequences, strict=True)
        told = torch.cat([own[slice(*sequence.answer)] for own, sequence in parts])
        ids = torch.cat(list(wanted) or [sequence.ids[slice(*sequence.answer)] for sequence in sequences])
        before = functional.pad(ids[:, :-1], (1, 0), value=self.shape.first_token)
        return self.inner(self.tokens(before) + told), ids

    def loss(self, sequences: Sequence[Patches], ignored: int = 0) -> Tensor:
        """The training loss: mean negative log-likelihood in nats of a token.

        As released: of the answers' tokens if the model sees the whole prefix, else of all but those `ignored`.
        """
        if self.shape.prefix:
            hidden, ids = self.answers(sequences)
            return functional.cross_entropy(self.head(hidden).flatten(0, 1), ids.flatten())
        ids = nn.utils.rnn.pad_sequence([own.ids for own in sequences], batch_first=True, padding_value=ignored)
        counted = ids != ignored
        return functional.cross_entropy(self(sequences)[counted], ids[counted])


@torch.inference_mode()
def generate(
    network: MultiScaleLM, prompts: Sequence[Patches], limits: Sequence[int], *, allowed: Tensor, end: int,
    draw: Callable[[int, Tensor], Tensor], use_cache: bool = True, guidance: Guidance[Patches] | None = None,
) -> list[tuple[Tensor, bool]]:  # fmt: skip
    """Ids ``[F, K]`` that follow each prompt, up to the first frame with an `end`; and whether there was one.

    Args:
        network: The language model.
        prompts: All that comes before.
        limits: Frames at most, of each.
        allowed: Booleans ``[B, K, N]``: the ids that may be drawn in each place of a frame.
        end: The id of the end, where it is allowed.
        draw: Takes the number of a request and logits ``[N]``, and returns an id.
        use_cache: Keep keys and values at both levels; else compute all anew each time, which gives the same.
        guidance: Goes beyond what the prompts say; None for none. What is not heard without text fills its frame.
    """
    begun = [*prompts, *(guidance.untold if guidance else ())]
    heard: list[list[Tensor]] = [[] for _ in begun]
    frames = heard[: len(prompts)]
    running, ended = [limit > 0 for limit in limits], [False] * len(prompts)
    size = max(len(own.ids) for own in prompts) + max(limits, default=0) + 1
    cache = network.outer.cache(len(begun), size) if use_cache else None
    nothing = network.frames.weight.new_zeros(network.shape.codebooks, dtype=torch.long)
    while any(running):
        if cache is None or not cache.longest:
            grown = [_grown(*each) for each in zip(begun, heard, strict=True)]
            told = network.listen(grown, cache)
            ends = torch.tensor([len(own.ids) for own in grown], device=told.device)
            now = told[torch.arange(len(told), device=told.device), ends - 1]
        else:
            latest = [Patches((own[-1] if own else nothing)[None]) for own in heard]
            now = network.listen(latest, cache, shifted=False)[:, 0]
        found = _frame(network, now, running, allowed, draw, guidance.scale if guidance else None, use_cache=use_cache)
        for b in [b for b, going in enumerate(running) if going]:
            ended[b] = bool((found[b] == end).any())
            if not ended[b]:
                frames[b].append(found[b])
                if guidance:
                    untold = heard[len(prompts) + b]
                    untold.append(unmarked(torch.stack([*untold[-1:], found[b]], dim=1), guidance.unheard)[:, -1])
            running[b] = not ended[b] and len(frames[b]) < limits[b]
    return [(torch.stack(own) if own else nothing[None][:0], over) for own, over in zip(frames, ended, strict=True)]


def _grown(prompt: Patches, more: Sequence[Tensor]) -> Patches:
    """The prompt and what follows, and a frame that is yet to come."""
    blank = prompt.ids.new_zeros(1, prompt.ids.shape[1])
    ids = torch.cat([prompt.ids, *(own[None] for own in more), blank])
    return Patches(ids, prompt.vectors, prompt.answer)


def _frame(
    network: MultiScaleLM, told: Tensor, running: Sequence[bool], allowed: Tensor,
    draw: Callable[[int, Tensor], Tensor], scale: float | None, *, use_cache: bool,
) -> Tensor:  # fmt: skip
    """The ids ``[B, K]`` of one frame, of which `told` ``[B, K, C]`` is known; two of each if there is guidance."""
    batch, slots = told.shape[:2]
    tokens = torch.full((batch, 1), network.shape.first_token, device=told.device)
    cache = network.inner.cache(batch, slots) if use_cache else None
    for k in range(slots):
        first = k if use_cache else 0
        logits = network.speak(told[:, first : k + 1], tokens[:, first:], cache)[:, -1]
        if scale is not None:
            conditional, unconditional = logits.chunk(2)
            logits = guide(conditional, unconditional, scale)
        logits = logits.masked_fill(~allowed[:, k], NEVER)
        drawn = [draw(b, logits[b]) if going else tokens[b, 0] for b, going in enumerate(running)]
        tokens = torch.cat([tokens, torch.stack(drawn).repeat(batch // len(drawn))[:, None]], dim=1)
    return tokens[: len(running), 1:]


@torch.inference_mode()
def loglikelihood(network: MultiScaleLM, sequence: Patches, allowed: Tensor | None = None) -> Tensor:
    """Log-probability in nats ``[A, K]`` of each id of the answer of `sequence`, of ``A`` frames.

    With booleans `allowed` ``[K, N]``, among the ids that may stand in each place of a frame.
    """
    first, last = sequence.answer
    logits = network([sequence])[0, first:last]
    nats = functional.log_softmax(logits if allowed is None else logits.masked_fill(~allowed, NEVER), dim=-1)
    return nats.gather(-1, sequence.ids[first:last, :, None])[..., 0]


def from_release(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """`state` of UniAudio's release as that of a `MultiScaleLM`."""
    return weights.rename_keys(state, RELEASED_NAMES)
