"""What a recipe asks of a codec: its discriminators, its losses, and one pass through the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbench.models.blocks.learning import as_they_are
from codecbench.models.training import losses, mel, outline
from codecbench.models.training.discriminators import Jury, Verdict
from codecbench.models.training.discriminators_spectral import (
    MultiBandSTFT,
    MultiResolution,
    MultiScaleSTFT,
    ResidualSTFT,
)
from codecbench.models.training.discriminators_wave import MultiPeriod, MultiScale, audiodec, hifigan, melgan

if TYPE_CHECKING:
    from codecbench.models.blocks.learning import Quantised
    from codecbench.models.training.recipe import Recipe

WINDOWS = (1024, 512, 256)
"""Of the discriminators of spectra; long ones see little of a piece."""
MEMBERS: dict[str, Callable[[int], nn.Module]] = {
    "periods": lambda width: MultiPeriod((2, 3, 5), width=width),
    "dac_periods": lambda width: MultiPeriod((2, 3, 5), width=width, always_padded=True),
    "audiodec_periods": lambda width: MultiPeriod((2, 3, 5), width=width, last_kernel_size=2),
    "hifigan_scales": lambda width: MultiScale(hifigan(width)),
    "melgan_scales": lambda width: MultiScale(melgan(width)),
    "audiodec_scales": lambda width: MultiScale(audiodec(width)),
    "stft": lambda width: MultiScaleSTFT(WINDOWS, width=width),
    "bands": lambda width: MultiBandSTFT(WINDOWS, width=width),
    "residual_stft": lambda width: ResidualSTFT(width=width),
    "resolutions": lambda width: MultiResolution(((512, 50, 240), (1024, 120, 600)), width=width),
}
"""The discriminators by the names that recipes have for them."""
FORMS = {"dac": mel.dac, "encodec": mel.encodec, "soundstream": mel.soundstream, "hifigan": mel.hifigan}
COEFFICIENTS = 20
"""Of the MFCCs that distillation aims at."""


def jury(recipe: Recipe) -> Jury:
    """The discriminators of `recipe`, with random weights."""
    members = (MEMBERS[name](width) for name, width in recipe.discriminators.items())
    return Jury(*members, levelled=recipe.levelled)


class Pass(NamedTuple):
    """One pass of a batch: the `output` ``[B, 1, T]``, the latent frames, and what the quantiser made of them."""

    output: Tensor
    latent: Tensor
    quantised: Quantised


def reconstruct(
    network: Any, x: Tensor, codebooks: Tensor | None, *, precision: torch.dtype = torch.float32, frozen: bool = False,
    quantised: bool = True,
) -> Pass:  # fmt: skip
    """Pass `x` ``[B, 1, T]`` of whole frames through `network`, each example by the first of `codebooks` ``[B]``.

    With `frozen`, encoder and quantiser stay as they are; without `quantised`, frames do. The quantiser works in single
    precision: nearest neighbours and moving averages are no place to save.
    """
    half = precision != torch.float32
    with torch.set_grad_enabled(not frozen and torch.is_grad_enabled()):
        with torch.autocast(x.device.type, precision, enabled=half):
            latent = network.encoder(x)
        made = network.quantiser(latent.float(), codebooks) if quantised else as_they_are(latent.float())
    with torch.autocast(x.device.type, precision, enabled=half):
        output = getattr(network, "synthesis", network.decoder)(made.frames)
    return Pass(_aligned(network, output.float(), x.shape[-1]), latent, made)


def _aligned(network: Any, output: Tensor, length: int) -> Tensor:
    """`output` without a delay, and of `length` samples; silent at the end, if the codec comes late."""
    if late := getattr(network, "late", 0):
        return functional.pad(output[..., late:length], (0, late))
    delay = network.delay(length) if hasattr(network, "delay") else 0
    output = output[..., delay : delay + length]
    return functional.pad(output, (length - output.shape[-1], 0))


class Objective(nn.Module):
    """The losses of a recipe for a codec at `rate` Hz with `dimension` latent channels and `hop` samples a frame.

    The codec's quantiser has `groups`, and its latent frames come so many frames `late`. The objective has parameters
    of its own where the first codebook is distilled: what predicts the targets from its entries.
    """

    def __init__(
        self, recipe: Recipe, rate: int, hop: int, dimension: int, *, groups: int = 1, late: int = 0
    ) -> None:  # fmt: skip
        super().__init__()
        self.recipe, self.hop, self.groups, self.late = recipe, hop, groups, late
        self.mel = mel.MelDistance(FORMS[recipe.mel](), rate)
        self.mfcc = mel.MelDistance(mel.hifigan(), rate)
        self.outline = outline.Outline(rate, hop)
        distils = "distillation" in recipe.weights
        self.predict = nn.Conv1d(dimension, COEFFICIENTS, 1) if distils else None

    def signal(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The losses between waveforms ``[B, 1, T]`` that have a weight."""
        measures: dict[str, Callable[[Tensor, Tensor], Tensor]]
        measures = {
            "waveform": losses.waveform, "mel": self.mel, "stft": losses.multi_scale_stft, "loudness": losses.loudness,
            "low": self.outline.difference,
        }  # fmt: skip
        return {name: loss(output, target) for name, loss in measures.items() if self.recipe.weights.get(name)}

    def game(self, fake: list[Verdict], real: list[Verdict]) -> dict[str, Tensor]:
        """The losses that the verdicts on output and target make."""
        features = losses.match_features(fake, real, relative=self.recipe.relative_features)
        return {"adversarial": losses.fool(fake, self.recipe.game), "features": features}

    def inner(self, made: Pass, target: Tensor) -> dict[str, Tensor]:
        """The losses of latent frames and of what was made of them, given the waveforms `target` ``[B, 1, T]``."""
        quantised = made.quantised
        found = {"commitment": quantised.commitment, "codebook": quantised.codebook}
        if self.recipe.weights.get("outline"):
            wanted = self.outline(target)
            found["outline"] = outline.distance(made.latent.float(), wanted, self.groups, self.late)
        if self.predict is not None:
            found["distillation"] = losses.distil(self.predict(quantised.first), self.coefficients(target))
        return {name: loss for name, loss in found.items() if self.recipe.weights.get(name)}

    def weighted(self, found: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of losses."""
        return torch.stack([self.recipe.weights.get(name, 0.0) * loss for name, loss in found.items()]).sum()

    @torch.no_grad()
    def coefficients(self, x: Tensor) -> Tensor:
        """MFCCs ``[B, D, F]`` of `x` ``[B, 1, T]``, one vector a frame, without their means over time."""
        from codecbench import tolerant_torchaudio

        spectrum = self.mfcc.spectrum(x, mel.Resolution(1024, self.hop, 80)).clamp(min=1e-5).log()
        cosines = tolerant_torchaudio.load().functional.create_dct(COEFFICIENTS, 80, "ortho").to(x.device)
        found: Tensor = (cosines.t() @ spectrum)[..., : x.shape[-1] // self.hop]
        return found - found.mean(dim=-1, keepdim=True)
