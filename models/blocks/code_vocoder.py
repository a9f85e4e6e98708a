"""Units to a codec's codes, in the voice of a prompt: a vocoder that leaves the waveform to a codec.

For how many frames each unit lasts, HiFi-GAN's predictor of unit vocoders says (arXiv:2107.05604); what it then sounds
like, SoundStorm's network does (arXiv:2305.09636), which hears the prompt's units and codes before those that it fills.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbench.models.blocks import masked_lm
from codecbench.models.blocks.unit_vocoder import DurationPredictor
from codecbench.models.blocks.units import deduplicate


class CodeVocoder(nn.Module):
    """An embedding and a predictor for durations, and a `MaskedLM` for codes.

    Args:
        shape: Of the network that fills in codes.
        duration: Channels and kernel size of the predictor.
    """

    def __init__(self, shape: masked_lm.MaskedLMShape, duration: tuple[int, int] = (64, 3)) -> None:
        super().__init__()
        self.unit = nn.Embedding(shape.units, duration[0])
        self.duration = DurationPredictor(duration[0], *duration)
        self.acoustic = masked_lm.MaskedLM(shape)

    def durations(self, units: Tensor) -> Tensor:
        """For how many frames each of `units` ``[N]``, without repetitions, lasts ``[N]``: 1 at least."""
        return (self._logarithms(units).exp() - 1).round().long().clamp(min=1)

    def _logarithms(self, units: Tensor) -> Tensor:
        return cast("Tensor", self.duration(self.unit(units)[None])[0])

    def forward(self, heard: Tensor, codes: Tensor, units: Tensor, passes: Sequence[int]) -> Tensor:
        """Codes ``[K, P + F]`` of a prompt and of what follows, the likeliest each time; none changes of the prompt.

        Args:
            heard: The prompt's units, one a frame; the last stands for all frames that are left of ``P``.
            codes: Its codes ``[K, P]``.
            units: Those that follow ``[F]``, one a frame.
            passes: Of each codebook, as of `masked_lm.fill`.
        """
        wanted = functional.pad(codes, (0, len(units)), value=masked_lm.UNKNOWN)
        whole = torch.cat([masked_lm.spread(heard, codes.shape[1]), units])
        return masked_lm.fill(self.acoustic, whole, wanted, passes, lambda x: x.argmax(dim=-1))

    def losses(self, units: Sequence[Tensor], codes: Sequence[Tensor], random: torch.Generator) -> dict[str, Tensor]:
        """What training makes small: ``duration``, a mean squared error of logarithms, and ``acoustic``, in nats.

        Args:
            units: One a frame, of each example; see `forward`.
            codes: Codes ``[K, F]`` of each.
            random: As of `MaskedLM.loss`.
        """
        told = [masked_lm.spread(own, part.shape[1]) for own, part in zip(units, codes, strict=True)]
        errors = []
        for own in units:
            single, lengths = deduplicate(own)
            errors.append(self._logarithms(single) - (lengths + 1).log())
        return {"duration": torch.cat(errors).square().mean(), "acoustic": self.acoustic.loss(told, codes, random)}
