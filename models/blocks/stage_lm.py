"""One stage of a cascade: a language model that is given tokens of some kinds, and goes on with those of another.

AudioLM (arXiv:2209.03143) has three, MusicLM (arXiv:2301.11325) the same with more that is given, and SoundStorm
(arXiv:2305.09636) its first. Frames of several codebooks are one token after another, those of a frame together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbench.models.blocks.backbone import BackboneShape
from codecbench.models.blocks.sampling import NEVER
from codecbench.models.blocks.unit_generation import generate
from codecbench.models.blocks.unit_lm import UnitLM, UnitLMShape
from codecbench.models.blocks.vocabulary import Range, Vocabulary

Draw = Callable[[int, Tensor], Tensor]
"""Takes the number of a request and logits ``[N]``, and returns a token."""


def t5_decoder(dimension: int, layers: int, heads: int, hidden: int | None = None) -> BackboneShape:
    """A causal Transformer with the parts of T5 (arXiv:1910.10683): relative positions, no biases, one RMS norm a part.

    Of AudioLM's Transformer the paper names the size and the positions. The rest is what T5's framework gives.
    """
    return BackboneShape(
        dimension, layers, heads, hidden or 4 * dimension, norm="rms", epsilon=1e-6, activation="relu",
        attention_bias=False, hidden_bias=False, positions="relative",
    )  # fmt: skip


class Stage(UnitLM):
    """A `UnitLM` over what is given, a token for the start, and what is to come.

    Args:
        backbone: Its Transformer.
        given: Kinds of tokens that come before the start.
        target: The kind that comes after it.
        ends: Whether a token for the end may come after a frame.
    """

    def __init__(self, backbone: BackboneShape, given: Sequence[Range], target: Range, *, ends: bool) -> None:
        self.vocabulary = Vocabulary((*given, target, Range("start", 1), Range("end", 1)))
        super().__init__(UnitLMShape(backbone, self.vocabulary.size, tied=False))
        self.target, self.ends = target, ends
        self.start, self.end = (self.vocabulary.part(name)[1] for name in ("start", "end"))

    def prefix(self, given: Mapping[str, Tensor]) -> Tensor:
        """Ids ``[P]`` of codes ``[K, F]`` of some kinds, in the order that they have here, and the start."""
        parts = [self.vocabulary.ids(name, codes).T.flatten() for name, codes in given.items()]
        device = self.embedding.weight.device
        return torch.cat([*parts, torch.tensor([self.start], device=device)])

    def ids(self, codes: Tensor) -> Tensor:
        """Ids ``[K·F]`` of codes ``[K, F]`` of the target."""
        return self.vocabulary.ids(self.target.name, codes).T.flatten()

    def codes(self, ids: Tensor) -> Tensor:
        """Codes ``[K, F]`` of `ids` ``[K·F]`` of the target."""
        return self.vocabulary.codes(self.target.name, ids.view(-1, self.target.codebooks).T)

    def extend(
        self, prefixes: Sequence[Tensor], known: Sequence[Tensor], frames: int, draw: Draw, *, use_cache: bool = True
    ) -> list[tuple[Tensor, bool]]:  # fmt: skip
        """Codes ``[K, F]`` that follow those `known`, ``F`` at most `frames`, and whether the end came.

        Args:
            prefixes: Of each request, as of `prefix`.
            known: Codes ``[K, P]`` of each request, ``P`` 0 for none.
            frames: The most frames.
            draw: Draws a token from logits in which only those that may come are above -inf.
            use_cache: Keep keys and values; else compute all steps anew each time, which gives the same.
        """
        prompts = [torch.cat([own, self.ids(codes)]) for own, codes in zip(prefixes, known, strict=True)]
        masks = self._masks(prompts[0].device)
        drawn = [0] * len(prompts)

        def choose(request: int, logits: Tensor) -> Tensor:
            mask = masks[drawn[request] % len(masks)]
            drawn[request] += 1
            return draw(request, logits.masked_fill(~mask, NEVER))

        found = generate(
            self, prompts, frames * len(masks), allowed=torch.ones_like(masks[0]), draw=choose, use_cache=use_cache,
            end=self.end if self.ends else None,
        )  # fmt: skip
        return [self._whole(ids) for ids in found]

    def _whole(self, ids: Tensor) -> tuple[Tensor, bool]:
        over = self.ends and len(ids) > 0 and int(ids[-1]) == self.end
        return self.codes(ids[:-1] if over else ids), over

    def _masks(self, device: torch.device) -> Tensor:
        """Booleans ``[K, N]``: what may come for each codebook."""
        masks = torch.stack([self.vocabulary.mask(self.target.name, k) for k in range(self.target.codebooks)])
        masks[0, self.end] = self.ends
        return masks.to(device)

    def nats(self, prefixes: Sequence[Tensor], codes: Sequence[Tensor], *, ended: bool = False) -> list[Tensor]:
        """Log-probabilities in nats of each code ``[K·F]`` of each request's `codes` ``[K, F]``, given its prefix.

        With `ended`, that of the end comes last, if the stage has one.
        """
        last = torch.tensor([self.end] if ended and self.ends else [], dtype=torch.long, device=prefixes[0].device)
        wanted = [torch.cat([self.ids(own), last]) for own in codes]
        whole = [torch.cat(pair) for pair in zip(prefixes, wanted, strict=True)]
        counts = torch.tensor([len(own) - 1 for own in whole], device=whole[0].device)
        hidden = self.hidden(nn.utils.rnn.pad_sequence([own[:-1] for own in whole], batch_first=True), counts=counts)
        sizes = [len(own) for own in wanted]
        starts = [len(prefix) - 1 for prefix in prefixes]
        spans = [own[start : start + size] for own, start, size in zip(hidden, starts, sizes, strict=True)]
        logits = self.head(torch.cat(spans))  # of nothing else: it is the larger part of a small network
        nats = -functional.cross_entropy(logits, torch.cat(wanted), reduction="none")
        return list(torch.split(nats, sizes))

    def loss(self, prefixes: Sequence[Tensor], codes: Sequence[Tensor], *, ended: bool = True) -> Tensor:
        """What training makes small: the mean negative log-probability, in nats, of a code of the target or the end."""
        return -torch.cat(self.nats(prefixes, codes, ended=ended)).mean()
