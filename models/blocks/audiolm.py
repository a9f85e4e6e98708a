"""The three stages of AudioLM (arXiv:2209.03143) and MusicLM (arXiv:2301.11325): semantic, coarse and fine tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from codecbench.models.blocks.backbone import BackboneShape
from codecbench.models.blocks.stage_lm import Draw, Stage
from codecbench.models.blocks.vocabulary import Range


@dataclass(frozen=True)
class AudioLMShape:
    """The shape of `AudioLMStages`.

    Attributes:
        backbone: The Transformer of each stage.
        units: Semantic tokens.
        codebooks, codebook_size: Of the codec.
        coarse: How many of the codebooks the second stage generates; the third, the rest, if any are left.
        chunk: Frames that the third stage sees at once: 3 s.
        given: Kinds of tokens that tell the first two stages what to do, before all others.
        deduplicated: The first two stages see a semantic token once where it comes several times in a row.
    """

    backbone: BackboneShape
    units: int = 1024
    codebooks: int = 12
    codebook_size: int = 1024
    coarse: int = 4
    chunk: int = 150
    given: tuple[Range, ...] = ()
    deduplicated: bool = True


class AudioLMStages(nn.Module):
    """A `Stage` each for semantic, coarse and fine tokens."""

    def __init__(self, shape: AudioLMShape) -> None:
        super().__init__()
        self.shape = shape
        semantic, fine = Range("semantic", shape.units), shape.codebooks - shape.coarse
        coarse = Range("coarse", shape.codebook_size, shape.coarse)
        self.semantic = Stage(shape.backbone, shape.given, semantic, ends=True)
        self.coarse = Stage(shape.backbone, (*shape.given, semantic), coarse, ends=True)
        if fine:
            self.fine = Stage(shape.backbone, (coarse,), Range("fine", shape.codebook_size, fine), ends=False)

    def simplified(self, units: Tensor) -> Tensor:
        """Semantic tokens ``[1, N]`` as the first two stages see `units` ``[F]``."""
        return (torch.unique_consecutive(units) if self.shape.deduplicated else units)[None]

    def loss(
        self, units: Sequence[Tensor], codes: Sequence[Tensor], given: Sequence[Mapping[str, Tensor]] | None = None
    ) -> Tensor:  # fmt: skip
        """What training makes small: the sum of the `losses` of all stages."""
        return torch.stack(list(self.losses(units, codes, given).values())).sum()

    def losses(
        self, units: Sequence[Tensor], codes: Sequence[Tensor], given: Sequence[Mapping[str, Tensor]] | None = None
    ) -> dict[str, Tensor]:  # fmt: skip
        """The loss of each stage by name; they share no parameters.

        Args:
            units: Semantic tokens ``[F]`` of each example.
            codes: Codes ``[K, F]`` of each.
            given: What tells the first two stages what to do, codes ``[K, F]`` by kind; None for nothing.
        """
        told = [{} for _ in units] if given is None else given
        said = [self.simplified(own) for own in units]
        coarse = [own[: self.shape.coarse] for own in codes]
        heard = [{**own, "semantic": tokens} for own, tokens in zip(told, said, strict=True)]
        found = {
            "semantic": self.semantic.loss([self.semantic.prefix(own) for own in told], said),
            "coarse": self.coarse.loss([self.coarse.prefix(own) for own in heard], coarse),
        }
        if self.shape.coarse == self.shape.codebooks:
            return found
        chunks = [part for own in codes for part in torch.split(own, self.shape.chunk, dim=1)]
        prefixes = [self.fine.prefix({"coarse": part[: self.shape.coarse]}) for part in chunks]
        return found | {"fine": self.fine.loss(prefixes, [part[self.shape.coarse :] for part in chunks])}

    def refine(self, coarse: Sequence[Tensor], known: Sequence[Tensor], draw: Draw, *, use_cache: bool) -> list[Tensor]:
        """All codes ``[K, F]`` of each request's `coarse` ones ``[C, F]``; of its first frames all are `known`.

        In chunks that begin at the first frame, each on its own.
        """
        if self.shape.coarse == self.shape.codebooks:
            return list(coarse)
        found = [own[self.shape.coarse :] for own in known]
        while rows := [b for b, own in enumerate(found) if own.shape[1] < coarse[b].shape[1]]:
            for b in rows:
                start = found[b].shape[1] // self.shape.chunk * self.shape.chunk
                chunk = coarse[b][:, start : start + self.shape.chunk]
                past = found[b][:, start:]
                ((more, _),) = self.fine.extend(
                    [self.fine.prefix({"coarse": chunk})], [past], chunk.shape[1] - past.shape[1],
                    partial(_draw_for, draw, b), use_cache=use_cache,
                )  # fmt: skip
                found[b] = torch.cat([found[b], more], dim=1)
        return [torch.cat(pair) for pair in zip(coarse, found, strict=True)]


def _draw_for(draw: Draw, request: int, _alone: int, logits: Tensor) -> Tensor:
    """Draw for `request`, which is alone in its batch."""
    return draw(request, logits)
