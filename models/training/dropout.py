"""Quantiser dropout: how many codebooks each example of a batch is quantised by in training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class QuantiserDropout:
    """A rule. As it stands, all examples use all codebooks.

    Attributes:
        share: Part of the batch whose numbers are drawn; the rest uses all codebooks. 1 is SoundStream's rule
            (arXiv:2107.03312, section III-C), 0.5 is DAC's (arXiv:2306.06546, section 3.2).
        choices: Numbers to draw from; empty for any from 1 to all. EnCodec and FunCodec have those of their bitrates.
        together: One number is drawn for all examples, as EnCodec and FunCodec do.
    """

    share: float = 0.0
    choices: tuple[int, ...] = ()
    together: bool = False

    def draw(self, batch: int, codebooks: int, generator: torch.Generator) -> Tensor:
        """Numbers of codebooks ``[B]``, each from 1 to `codebooks`."""
        options = torch.tensor(self.choices or range(1, codebooks + 1)).clamp(max=codebooks)
        drawn = options[torch.randint(len(options), (1 if self.together else batch,), generator=generator)]
        numbers = torch.full((batch,), codebooks)
        count = int(batch * self.share)
        numbers[:count] = drawn.expand(batch)[:count]
        return numbers
