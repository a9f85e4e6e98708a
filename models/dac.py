"""Descript Audio Codec (DAC) at 16, 24 and 44.1 kHz, mono, our implementation of arXiv:2306.06546.

Equal to the released code on equal weights: its ``preprocess``, ``encode`` and ``decode``, which code a clip at once. A
clip is extended with zeros to whole frames, and cut back at the end. Any number of codebooks from the first on can be
decoded; the points are powers of two and all.

At 16 and 24 kHz the released decoders give 8 samples less than their frames have, and what they give is 8 samples
early: the samples that are missing are the first. Here 8 zeros stand in their place, so the output is aligned.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, ClassVar

from codecbench import weights
from codecbench.models.base import Card, LoadOptions, OperatingPoint, Stream
from codecbench.models.whole_clip import WholeClipCodec
from codecbench.weights import WeightFile

if TYPE_CHECKING:
    from codecbench.models.blocks.dac import DACShape

CODEBOOK_SIZE = 1024
RELEASES = "https://github.com/descriptinc/descript-audio-codec/releases/download"
TRAINING_DATA = (
    "DAPS", "DNS Challenge 4", "Common Voice", "VCTK", "VocalSet", "MUSDB18", "MTG-Jamendo", "AudioSet",
)  # fmt: skip

RELEASED_NAMES = ((r"\.(block|model)\.", "."), (r"^quantizer\.quantizers\.", "quantiser.layers."))
"""Rules from the release's parameter names to those here."""


def _numbered(parent: str, *names: str) -> tuple[tuple[str, str], ...]:
    return tuple((rf"^({parent})\.{name}\.", rf"\1.{i}.") for i, name in enumerate(names))


TRANSFORMERS_NAMES = (
    *_numbered(r".*\.res_unit\d", "snake1", "conv1", "snake2", "conv2"),
    *_numbered(r"encoder\.block\.\d", "res_unit1", "res_unit2", "res_unit3", "snake1", "conv1"),
    *_numbered(r"decoder\.block\.\d", "snake1", "conv_t1", "res_unit1", "res_unit2", "res_unit3"),
    *_numbered("encoder|decoder", "conv1", r"block\.0", r"block\.1", r"block\.2", r"block\.3", "snake1", "conv2"),
    *RELEASED_NAMES[1:],
)
"""Rules from the parameter names of ``transformers``, whose weights are not normalised."""


def lookahead(strides: Sequence[int]) -> int:
    """Samples beyond a frame that its samples depend on, from the windows of all convolutions."""
    hop, units = prod(strides), 3 * (1 + 3 + 9)  # of the residual units: half a window of 7, at their dilations
    # At the outer end of each stride, how far its units and its kernel of two strides, padded by half of one, reach.
    scales = [(prod(strides[:i]), stride) for i, stride in enumerate(strides)]
    encoder = 3 + sum(step * (units + stride // 2) for step, stride in scales) + hop
    decoder = 3 + sum(step * (units + (stride + 1) // 2) for step, stride in scales) + 3 * hop
    decoder -= sum(step for step, stride in scales if stride % 2)  # by the samples that are put before the first
    return encoder + (hop - 1 + decoder) // hop * hop


def make_card(
    name: str, sample_rate: int, hop: float, codebooks: int, file: WeightFile, ahead: int | None, delay: int = 0
) -> Card:
    """The card of a model with `hop` samples a frame, and a look-ahead of `ahead` samples."""
    frame_rate = sample_rate / hop
    counts = sorted({codebooks} | {2**n for n in range(codebooks.bit_length())})
    rates = [(count, count * (CODEBOOK_SIZE.bit_length() - 1) * frame_rate / 1000) for count in counts]
    return Card(
        name=name, kind="codec", family="DAC", track="official", sample_rate=sample_rate, channels=1,
        points=tuple(OperatingPoint(f"{kbps:.3g}kbps", kbps, count) for count, kbps in rates),
        streams=(Stream(CODEBOOK_SIZE, frame_rate),) * codebooks, nested=True, causal=False, delay=delay,
        lookahead=ahead, weights=(file,), weights_licence=file.licence, training_data=TRAINING_DATA,
        paper="arXiv:2306.06546",
    )  # fmt: skip


def _file(name: str, path: str, sha256: str = "") -> WeightFile:
    return WeightFile(name, f"{RELEASES}/{path}", sha256, licence="MIT")


class DAC(WholeClipCodec):
    """What all models share."""

    strides: ClassVar[tuple[int, ...]]
    """Of the encoder."""
    dimension: ClassVar[int] = 1024
    """Channels of the latent frames."""

    @classmethod
    def load(cls, options: LoadOptions) -> DAC:
        """Load the released weights, a file in their format or that of ``transformers``, or random weights."""
        from codecbench.models.blocks.conv import fold_weight_norm
        from codecbench.models.blocks.dac import build

        if options.random_seed is not None:
            return cls(build(cls.shape(), options.random_seed), options.device, compiled=options.compile)
        path = weights.resolve(cls.card.name, cls.card.weights[0], options.weights)
        flat = path.is_dir() or path.suffix == ".safetensors"
        state = weights.read_state_dict(path, within=() if flat else ("state_dict",))
        folded = "encoder.conv1.weight" in state
        network = build(cls.shape())
        if folded:
            fold_weight_norm(network)
        names = TRANSFORMERS_NAMES if folded else RELEASED_NAMES
        weights.load_state(network, weights.rename_keys(state, names), path)
        return cls(network, options.device, compiled=options.compile)

    @classmethod
    def shape(cls) -> DACShape:
        """The shape of the network."""
        from codecbench.models.blocks.dac import DACShape

        return DACShape(cls.strides, cls.dimension, len(cls.card.streams), CODEBOOK_SIZE)


class DAC16(DAC):
    """DAC, 16 kHz, 12 codebooks at 50 Hz."""

    strides = (2, 4, 5, 8)
    card = make_card(
        "dac_16khz", 16_000, prod(strides), 12, ahead=lookahead(strides), delay=-8,
        file=_file("dac_16khz_0.0.5.pth", "0.0.5/weights_16khz.pth",
                   "95ab7176b67137d4d4c6c54b8d6ef3cea797faec228cb03ad084badcad570b4d"),
    )  # fmt: skip


class DAC24(DAC):
    """DAC, 24 kHz, 32 codebooks at 75 Hz."""

    strides = (2, 4, 5, 8)
    card = make_card(
        "dac_24khz", 24_000, prod(strides), 32, ahead=lookahead(strides), delay=-8,
        file=_file("dac_24khz_0.0.4.pth", "0.0.4/weights_24khz.pth",
                   "44bad592fc393e03eb0be7a5120b7d487fe9612fa41269dc03fca3d4b87e20ad"),
    )  # fmt: skip


class DAC44(DAC):
    """DAC, 44.1 kHz, 9 codebooks at 86 Hz."""

    strides = (2, 4, 8, 8)
    card = make_card(
        "dac_44khz", 44_100, prod(strides), 9, ahead=lookahead(strides),
        file=_file("dac_44khz_8kbps_0.0.1.pth", "0.0.1/weights.pth",
                   "a88eed82a7024ccc1facdb1e605c4c2f99281c8118c22c9895ffa846d8fb61aa"),
    )  # fmt: skip


class DAC44At16(DAC44):
    """DAC, 44.1 kHz, 18 codebooks at 86 Hz of latent frames with an eighth of the channels."""

    dimension = 128
    card = make_card(
        "dac_44khz_16kbps", 44_100, prod(DAC44.strides), 18, ahead=lookahead(DAC44.strides),
        file=_file("dac_44khz_16kbps_1.0.0.pth", "1.0.0/weights_44khz_16kbps.pth"),
    )  # fmt: skip


SYSTEMS = (DAC16, DAC24, DAC44, DAC44At16)
