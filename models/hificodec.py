"""HiFi-Codec at 16 and 24 kHz, mono, our implementation of arXiv:2305.02765; released as part of AcademiCodec.

Equal to the released code on equal weights. Four codebooks, two of them for each half of the latent channels, and no
poorer operating point: the quantiser was never trained to do without the second pair. The encoder normalises over
the whole clip, so every frame depends on all of it.

The first three are the survey's ``academicodec_hifi_16k_320d``, ``…_large_uni`` and ``…_24k_320d`` (arXiv:2402.13236).

The released encoder drops what a clip has beyond its last whole frame. This one extends the clip with zeros to a
whole frame, and the decoder cuts it to its length again. The release's code is under MIT; nothing is stated about the
weights.
"""

from __future__ import annotations

from math import prod
from typing import ClassVar

from codecbench import weights
from codecbench.models.base import Card, LoadOptions, OperatingPoint, Stream
from codecbench.models.whole_clip import WholeClipCodec
from codecbench.weights import WeightFile

CODEBOOKS = 4
CODEBOOK_SIZE = 1024
PARTS = ("encoder", "generator", "quantizer")
"""The state dicts that a released file holds."""

RELEASE = "https://huggingface.co/Dongchao/AcademiCodec/resolve/827e793904fe43cac45157efc26d0b6920cfda14"
SPEECH = ("LibriTTS", "VCTK", "AISHELL", "others (unnamed)")

Scales = tuple[tuple[int, int], ...]
HOP_320: Scales = ((4, 2), (8, 4), (11, 5), (16, 8))
HOP_240: Scales = ((4, 2), (7, 3), (11, 5), (16, 8))
"""Kernel size and stride of each strided convolution of the encoder."""


def _card(sample_rate: int, scales: Scales, released: str, sha256: str, data: tuple[str, ...] = SPEECH) -> Card:
    frame_rate = sample_rate / prod(stride for _, stride in scales)
    bits = CODEBOOK_SIZE.bit_length() - 1
    kbps = CODEBOOKS * bits * frame_rate / 1000
    file = WeightFile(released, f"{RELEASE}/{released}", sha256, licence="not stated")
    name = released.replace("HiFi-Codec", "hificodec").replace("-", "_")
    return Card(
        name=name, kind="codec", family="HiFi-Codec", track="official", sample_rate=sample_rate, channels=1,
        points=(OperatingPoint(f"{kbps:g}kbps", kbps, CODEBOOKS),),
        streams=(Stream(CODEBOOK_SIZE, frame_rate),) * CODEBOOKS, causal=False, weights=(file,),
        weights_licence=file.licence, training_data=data, paper="arXiv:2305.02765",
    )  # fmt: skip


class HiFiCodec(WholeClipCodec):
    """What all models share."""

    scales: ClassVar[Scales] = HOP_320

    @classmethod
    def load(cls, options: LoadOptions) -> HiFiCodec:
        """Load the released weights, a file in their format, or random weights."""
        from codecbench.models.blocks.hificodec import RELEASED_NAMES, HiFiGAN, build, enliven

        kernel_sizes, strides = zip(*cls.scales, strict=True)
        seed = options.random_seed
        network = build(HiFiGAN(strides, kernel_sizes), CODEBOOK_SIZE, seed=seed or 0)
        if seed is not None:
            enliven(network, seed, level=0.1)
        else:
            path = weights.resolve(cls.card.name, cls.card.weights[0], options.weights)
            state = weights.rename_keys(weights.read_state_dict(path, PARTS), RELEASED_NAMES)
            weights.load_state(network, state, path)
        return cls(network, options.device, compiled=options.compile)


class HiFiCodec16(HiFiCodec):
    """HiFi-Codec, 16 kHz, 50 Hz."""

    card = _card(
        16_000, HOP_320, "HiFi-Codec-16k-320d", "6026d5327ef76bd31a01e64e00ccab355b37cc7b434938f018b9ec2b69bd62e4"
    )


class HiFiCodec16Universal(HiFiCodec):
    """HiFi-Codec, 16 kHz, 50 Hz, for all kinds of sound."""

    card = _card(
        16_000, HOP_320, "HiFi-Codec-16k-320d-large-universal",
        "6496a7b7b8ab18bc5d5c866ca66a61c2ea15b8c21e6b5f9662a9a68622a8cbde", ("Libri-Light", "AudioSet"),
    )  # fmt: skip


class HiFiCodec24(HiFiCodec):
    """HiFi-Codec, 24 kHz, 75 Hz."""

    card = _card(
        24_000, HOP_320, "HiFi-Codec-24k-320d", "0b8fd01085946ecfa00a801a64a2e4c919c307265aceabe6a406b75cfbe77efa"
    )


class HiFiCodec24Fast(HiFiCodec):
    """HiFi-Codec, 24 kHz, 100 Hz."""

    card = _card(
        24_000, HOP_240, "HiFi-Codec-24k-240d", "20d3d71f3351062001871f81a66b1129211d899756b1b6965e4cac77395c38e0"
    )
    scales = HOP_240


SYSTEMS = (HiFiCodec16, HiFiCodec16Universal, HiFiCodec24, HiFiCodec24Fast)
