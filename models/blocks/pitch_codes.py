"""Pitch as codes: the quantiser of speech resynthesis (arXiv:2104.00355, section 3.2), after Jukebox's encoder.

Pitch in 5 ms frames, normalised to the voice, becomes one of a few codes every 80 ms.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from codecbench import weights

STRIDE, STAGES, WIDTH, DEPTH, GROWTH = 2, 4, 32, 4, 3
FRAMES = STRIDE**STAGES
"""Frames of pitch a code."""


class _Residual(nn.Module):
    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.dilated = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
        self.plain = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", x + self.plain(self.dilated(x.relu()).relu()))


class PitchQuantiser(nn.Module):
    """Pitch ``[P]``, a multiple of `FRAMES`, to codes ``[P / 16]``."""

    centroids: Tensor

    def __init__(self, entries: int = 20, channels: int = 128) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(1 if index == 0 else WIDTH, WIDTH, 2 * STRIDE, STRIDE, STRIDE // 2),
                *(_Residual(WIDTH, GROWTH**depth) for depth in range(DEPTH)),
            )
            for index in range(STAGES)
        )
        self.last = nn.Conv1d(WIDTH, channels, 3, padding=1)
        self.register_buffer("centroids", torch.randn(entries, channels))

    def forward(self, pitch: Tensor) -> Tensor:
        """The nearest centroids to what is made of `pitch` ``[P]``."""
        features = self.features(pitch)
        distance: Tensor = self.centroids.square().sum(dim=1) - 2 * features @ self.centroids.mT
        return distance.argmin(dim=1)

    def features(self, pitch: Tensor) -> Tensor:
        """Vectors ``[P / 16, C]`` of `pitch` ``[P]``."""
        x = pitch[None, None]
        for stage in self.stages:
            x = stage(x)
        found: Tensor = self.last(x)[0].mT
        return found


def standardised(pitch: Tensor) -> Tensor:
    """`pitch` ``[P]`` in Hz less the mean of the voiced, over their deviation; 0 stays where nothing is voiced."""
    voiced = pitch > 0
    if int(voiced.sum()) < 2:
        return torch.zeros_like(pitch)
    spoken = pitch[voiced]
    return torch.where(voiced, (pitch - spoken.mean()) / spoken.std().clamp(min=1e-3), 0.0)


def own_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The quantiser in the `state` of a released vocoder, whatever else is in it."""
    own = {name.removeprefix("quantizer."): tensor for name, tensor in state.items() if name.startswith("quantizer.")}
    stage = r"^encoder\.level_blocks\.0\.model\.(\d)\."
    parts = ((1, "dilated"), (3, "plain"))
    rules = (
        (r"^vq\.level_blocks\.0\.k$", "centroids"),
        (rf"^encoder\.level_blocks\.0\.model\.{STAGES}\.", "last."),
        (rf"{stage}0\.", r"stages.\1.0."),
        *(
            (rf"{stage}1\.model\.{depth}\.model\.{part}\.", rf"stages.\1.{depth + 1}.{name}.")
            for depth in range(DEPTH)
            for part, name in parts
        ),
    )
    return weights.rename_keys(own, rules, drop=r"^decoder\.")


@torch.no_grad()
def fill(quantiser: PitchQuantiser, generator: torch.Generator) -> None:
    """Give an untrained `quantiser` centroids that its features come near to."""
    count = len(quantiser.centroids)
    pitch = torch.randn(FRAMES * count, generator=generator)
    quantiser.centroids.copy_(quantiser.features(pitch))
