"""SoundStream (arXiv:2107.03312), our implementation: the paper's model, and a smaller one with published weights.

``soundstream_24khz`` is the model of the paper, which Google never published. What the paper leaves open is as in the
SoundStream that Google did publish, Lyra V2 (``lyra_v2`` here): ELU before every convolution but the first, zeros for
what is before the first sample, 64 latent channels. It has the 24 codebooks of the paper's scalable model, 0.75 kbps
each, and no denoising condition.

``soundstream_16khz`` has the layout of NaturalSpeech 2 (arXiv:2304.09116) and the weights that the package
``soundstream`` (MIT licence, version 0.0.1) loads. Equal to the package on clips of whole frames of 200 samples; others
are extended with zeros, where the package drops what is beyond. It mirrors the start of a signal, for which clips
under 2200 samples are too short; the package refuses those, and here they are first extended with zeros. A stream
gives its first tokens, 11 frames of them, after as many samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from codecbench import weights
from codecbench.models.base import Card, LoadOptions, OperatingPoint, Stream
from codecbench.models.whole_clip import WholeClipCodec
from codecbench.weights import WeightFile

if TYPE_CHECKING:
    from codecbench.models.blocks.soundstream import SoundStream, SoundStreamCodec

CODEBOOK_SIZE = 1024

PACKAGE_NAMES = (
    (r"^quantizer\.layers\.(\d+)\._codebook\.", r"quantiser.layers.\1."),
    (r"^(encoder|decoder)\.layers\.0\.", r"\1.first."),
    (r"^(encoder|decoder)\.layers\.5\.", r"\1.last."),
    *((rf"^(encoder|decoder)\.layers\.{block + 1}\.layers\.", rf"\1.blocks.{block}.") for block in range(4)),
    (r"^(encoder\.blocks\.\d)\.3\.conv\.", r"\1.conv.conv."),
    (r"^(decoder\.blocks\.\d)\.0\.conv\.", r"\1.conv.conv."),
    (r"^(encoder\.blocks\.\d)\.(\d)\.layers\.", r"\1.units.\2.convs."),
    *((rf"^(decoder\.blocks\.\d)\.{unit + 1}\.layers\.", rf"\1.units.{unit}.convs.") for unit in range(3)),
    (r"\.convs\.2\.", ".convs.1."),
)
"""Rules from the package's parameter names to those here."""

TRAINING_STATE = r"^quantizer\..*\.(initted|cluster_size|embed_avg)$"
"""Published tensors that only training needs."""


def _card(
    name: str, sample_rate: int, hop: int, codebooks: Sequence[int], *, file: WeightFile | None = None,
    warm_up: int = 0, data: tuple[str, ...] = (),
) -> Card:  # fmt: skip
    frame_rate = sample_rate / hop
    rates = [(count, count * frame_rate * 10 / 1000) for count in codebooks]
    return Card(
        name=name, kind="codec", family="SoundStream", track="official", sample_rate=sample_rate, channels=1,
        points=tuple(OperatingPoint(f"{kbps:g}kbps", kbps, count) for count, kbps in rates),
        streams=(Stream(CODEBOOK_SIZE, frame_rate),) * codebooks[-1], nested=True, causal=True,
        lookahead=0, warm_up=warm_up, streaming=True, weights=(file,) if file else (), unpublished=file is None,
        weights_licence=file.licence if file else "", training_data=data, paper="arXiv:2107.03312",
    )  # fmt: skip


class SoundStreamSystem(WholeClipCodec):
    """What both models share."""

    @classmethod
    def shape(cls) -> SoundStream:
        """The network's shape."""
        raise NotImplementedError

    @classmethod
    def network(cls, seed: int | None) -> SoundStreamCodec:
        """The network with random weights from `seed`; as it is built, to be filled, if that is None."""
        from codecbench.models.blocks.soundstream import SoundStreamCodec, build, enliven

        network = build(lambda: SoundStreamCodec(cls.shape(), len(cls.card.streams), CODEBOOK_SIZE), seed or 0)
        if seed is not None:
            enliven(network, seed)
        return network


class SoundStream24(SoundStreamSystem):
    """The paper's SoundStream, 24 kHz, 3 to 18 kbps."""

    card: ClassVar[Card] = _card("soundstream_24khz", 24_000, 320, (4, 8, 12, 16, 24))

    @classmethod
    def shape(cls) -> SoundStream:
        """The paper's: 32 channels at first, strides 2, 4, 5 and 8."""
        from codecbench.models.blocks.soundstream import SoundStream

        return SoundStream(dimension=64)

    @classmethod
    def load(cls, options: LoadOptions) -> SoundStream24:
        """Load random weights, or a file of weights that somebody trained for this implementation."""
        network = cls.network(options.random_seed)
        if options.random_seed is None:
            path = weights.unpublished(cls.card.name, options.weights)
            weights.load_state(network, weights.read_state_dict(path), path)
        return cls(network, options.device, compiled=options.compile)


class SoundStream16(SoundStreamSystem):
    """The SoundStream of the package ``soundstream``, 16 kHz."""

    card: ClassVar[Card] = _card(
        "soundstream_16khz", 16_000, 200, (16,), warm_up=2_200, data=("Multilingual LibriSpeech (English)",),
        file=WeightFile(
            "soundstream_variant_naturalspeech2.pt",
            "https://huggingface.co/haydenshively/SoundStream/resolve/main/soundstream_variant_naturalspeech2.pt",
            licence="MIT",
        ),
    )  # fmt: skip

    @classmethod
    def shape(cls) -> SoundStream:
        """NaturalSpeech 2's; ELU stands after the convolutions of a unit, and nowhere else."""
        from codecbench.models.blocks.conv import ConvStyle
        from codecbench.models.blocks.soundstream import SoundStream

        return SoundStream(
            dimension=256, width=58, strides=(2, 4, 5, 5), elu_after=True, elu_before=(), style=ConvStyle(causal=True)
        )

    @classmethod
    def load(cls, options: LoadOptions) -> SoundStream16:
        """Load the published weights, a file in their format, or random weights."""
        network = cls.network(options.random_seed)
        if options.random_seed is None:
            path = weights.resolve(cls.card.name, cls.card.weights[0], options.weights)
            state = weights.rename_keys(weights.read_state_dict(path), PACKAGE_NAMES, drop=TRAINING_STATE)
            # The package keeps a dimension of one codebook head.
            state = {name: tensor[0] if name.endswith(".embed") else tensor for name, tensor in state.items()}
            weights.load_state(network, state, path)
        return cls(network, options.device, compiled=options.compile)


SYSTEMS = (SoundStream24, SoundStream16)
