"""Units to a waveform: HiFi-GAN on embeddings of units, pitch, speaker and style (arXiv:2104.00355).

The vocoders of textless speech: `from_config` reads the ``config.json`` that stands beside each released one. Where
units come without repetitions, a predictor says for how many frames each lasts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from codecbench.models.blocks.conv import symmetric_padding
from codecbench.models.blocks.mrf import SLOPE, MultiReceptiveField, same_conv

DILATIONS = (1, 3, 5)

RELEASED_NAMES = (
    (r"^dict\.", "unit."),
    (r"^spkr\.", "speaker."),
    (r"^(f0_quant_embed|f0_dict)\.", "pitch."),
    (r"^conv_pre\.", "first."),
    (r"^conv_post\.", "last."),
    (r"^ups\.", "resample."),
    (r"^dur_predictor\.conv1\.0\.", "duration.convs.0."),
    (r"^dur_predictor\.conv2\.0\.", "duration.convs.1."),
    (r"^dur_predictor\.ln1\.", "duration.norms.0."),
    (r"^dur_predictor\.ln2\.", "duration.norms.1."),
    (r"^dur_predictor\.proj\.", "duration.last."),
    (r"\.convs1\.", ".dilated."),
    (r"\.convs2\.", ".plain."),
)
"""Rules from the names of the releases to those here; `own_names` adds those of the residual stacks."""


@dataclass(frozen=True)
class UnitVocoderShape:
    """The shape of a `UnitVocoder`; the default is that of the paper, without pitch.

    Attributes:
        units: Entries of the codebook.
        channels: Of every embedding.
        strides, kernel_sizes: Of the transposed convolutions, from the units outwards.
        width: Channels after the first convolution; halved at every stride.
        fields: Kernel sizes of the residual stacks, whose outputs are averaged.
        pitch: Entries of the embedding of pitch: 0 for none; -1 for pitch as a number that is put in as it is.
        speakers, styles: Entries of their embeddings, 0 for none.
        duration: Channels and kernel size of the predictor of durations; None for a vocoder without.
    """

    units: int = 100
    channels: int = 128
    strides: tuple[int, ...] = (5, 4, 4, 2, 2)
    kernel_sizes: tuple[int, ...] = (11, 8, 8, 4, 4)
    width: int = 512
    fields: tuple[int, ...] = (3, 7, 11)
    pitch: int = 0
    speakers: int = 0
    styles: int = 0
    duration: tuple[int, int] | None = None

    @property
    def inputs(self) -> int:
        """Channels of all that is put in."""
        pitch = 1 if self.pitch < 0 else self.channels * (self.pitch > 0)
        return self.channels * (1 + (self.speakers > 0) + (self.styles > 0)) + pitch

    @property
    def hop(self) -> int:
        """Samples a step of the input: of a unit, or of the pitch where that has more steps."""
        return prod(self.strides)


def from_config(config: Mapping[str, Any]) -> UnitVocoderShape:
    """The vocoder of a released ``config.json``.

    Raises:
        ValueError: It is of a kind that is not among the released ones.
    """
    dilations = {tuple(each) for each in config["resblock_dilation_sizes"]}
    if str(config.get("resblock", "1")) != "1" or dilations != {DILATIONS}:
        raise ValueError("residual stacks of another kind than HiFi-GAN V1's")
    if config.get("embedder_params") or config.get("code_vq_params") or config.get("lambda_commit"):
        raise ValueError("an embedder of speakers or a quantiser that is trained along")
    pitch = 0
    if config.get("f0"):
        quantiser = config.get("f0_quantizer", {}).get("f0_vq_params", {})
        pitch = quantiser.get("l_bins") or config.get("f0_quant_num_bin") or -1
    predictor = config.get("dur_predictor_params")
    return UnitVocoderShape(
        config["num_embeddings"], config["embedding_dim"], tuple(config["upsample_rates"]),
        tuple(config["upsample_kernel_sizes"]), config["upsample_initial_channel"],
        tuple(config["resblock_kernel_sizes"]), pitch,
        speakers=config.get("num_speakers", 200) if config.get("multispkr") else 0,
        styles=config.get("num_styles", 100) if config.get("multistyle") else 0,
        duration=(predictor["var_pred_hidden_dim"], predictor["var_pred_kernel_size"]) if predictor else None,
    )  # fmt: skip


class DurationPredictor(nn.Module):
    """Embeddings ``[B, N, C]`` to the logarithm of one more than the frames that each unit lasts ``[B, N]``."""

    def __init__(self, channels: int, hidden: int, kernel_size: int) -> None:
        super().__init__()
        # The second padding is 1 in the releases, whatever the kernel; theirs is 3, where that is the same.
        paddings = symmetric_padding(kernel_size), 1
        self.convs = nn.ModuleList(
            nn.Conv1d(inputs, hidden, kernel_size, padding=padding)
            for inputs, padding in zip((channels, hidden), paddings, strict=True)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in paddings)
        self.last = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Predict for `x` ``[B, N, C]``."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(functional.relu(conv(x.mT)).mT)
        return cast("Tensor", self.last(x)[..., 0])


class UnitVocoder(nn.Module):
    """Units, and what else they are spoken with, to a waveform in (-1, 1)."""

    def __init__(self, net: UnitVocoderShape) -> None:
        super().__init__()
        self.net = net
        self.unit = nn.Embedding(net.units, net.channels)
        for name, entries in (("pitch", net.pitch), ("speaker", net.speakers), ("style", net.styles)):
            if entries > 0:
                self.add_module(name, nn.Embedding(entries, net.channels))
        if net.duration:
            self.duration = DurationPredictor(net.channels, *net.duration)
        self.first = same_conv(net.inputs, net.width, 7)
        self.resample, self.fields = nn.ModuleList(), nn.ModuleList()
        width = net.width
        for size, stride in zip(net.kernel_sizes, net.strides, strict=True):
            up = nn.ConvTranspose1d(width, width // 2, size, stride, padding=symmetric_padding(size, stride))
            self.resample.append(parametrizations.weight_norm(up))
            width //= 2
            self.fields.append(MultiReceptiveField(width, net.fields, DILATIONS))
        self.last = same_conv(width, 1, 7)

    def durations(self, units: Tensor) -> Tensor:
        """For how many frames each of `units` ``[N]`` lasts ``[N]``, 1 at least.

        Raises:
            ValueError: The vocoder has no predictor.
        """
        if not self.net.duration:
            raise ValueError("this vocoder predicts no durations")
        found: Tensor = self.duration(self.unit(units)[None])[0]
        return (found.exp() - 1).round().long().clamp(min=1)

    def forward(self, units: Tensor, pitch: Tensor | None = None, speaker: int = 0, style: int = 0) -> Tensor:
        """Waveform ``[max(F, P) * hop]``.

        Args:
            units: ``[F]``, one a frame.
            pitch: ``[P]``, codes or numbers as the vocoder has it; ``P`` is a multiple of ``F`` or a divisor.
            speaker: The number of one, for a vocoder that has several.
            style: Likewise.
        """
        x = self.unit(units).mT
        if self.net.pitch:
            if pitch is None:
                raise ValueError("this vocoder needs a pitch")
            own = pitch[None].to(x.dtype) if self.net.pitch < 0 else cast("nn.Module", self.pitch)(pitch).mT
            steps = max(x.shape[1], own.shape[1])
            x = torch.cat([_stretch(x, steps), _stretch(own, steps)])
        for name, chosen in (("speaker", speaker), ("style", style)):
            if hasattr(self, name):
                row = getattr(self, name).weight[chosen]
                x = torch.cat([x, row[:, None].expand(-1, x.shape[1])])
        return self._synthesise(x[None])[0, 0]

    def _synthesise(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for resample, field in zip(self.resample, self.fields, strict=True):
            x = field(resample(functional.leaky_relu(x, SLOPE)))
        return torch.tanh(self.last(functional.leaky_relu(x, 0.01)))


def _stretch(x: Tensor, steps: int) -> Tensor:
    """Repeat each step of `x` ``[C, F]``, as often as makes `steps`."""
    if steps % x.shape[1]:
        raise ValueError(f"{x.shape[1]} steps do not fit into {steps}")
    return x.repeat_interleave(steps // x.shape[1], dim=1)


def own_names(state: Mapping[str, Tensor], net: UnitVocoderShape) -> dict[str, Tensor]:
    """`state` of a released vocoder as that of a `UnitVocoder`, without the quantiser of pitch that may be in it."""
    from codecbench import weights

    count = len(net.fields)
    stacks = tuple(
        (rf"^resblocks\.{n}\.", f"fields.{n // count}.branches.{n % count}.") for n in range(count * len(net.strides))
    )
    return weights.rename_keys(state, (*RELEASED_NAMES, *stacks), drop=r"^quantizer\.")


@torch.no_grad()
def enliven(vocoder: UnitVocoder, seed: int, level: float = 0.1) -> None:
    """Make an untrained `vocoder` audible: every step keeps the variance, and the output has `level` (RMS).

    In double precision: the number of threads does not change the result.
    """
    for name, parameter in vocoder.named_parameters():
        if name.endswith(".bias") and not name.startswith("duration."):
            parameter.zero_()
        elif name.endswith(".original0") and ".branches." not in name:
            parameter.mul_(3**0.5)
    generator = torch.Generator().manual_seed(seed)
    units = torch.randint(vocoder.net.units, (16,), generator=generator)
    pitch = torch.randint(max(vocoder.net.pitch, 1), (16,), generator=generator)
    vocoder.double()
    factor = level / vocoder(units, pitch).std()
    vocoder.float()
    for name, parameter in vocoder.last.named_parameters():
        if not name.endswith(".original1"):
            parameter.mul_(factor.float())
