"""AudioDec (arXiv:2305.16608): a speech codec in two stages, our implementation.

The first stage is a symmetric autoencoder, `symAD`, or `symAAD` with more activations. The second keeps its encoder
and codebooks, and puts in the decoder's place either that decoder after adversarial training (``_sym``) or a vocoder,
AD v0 to v2 (``_v0``, ``_v1``, ``_v2``; ``_univ`` is v1 trained against UnivNet's discriminators, called v3 in the
release). Each pair that the release recommends is a system:

================================  ====================  ======  ============
system                            name in the release   kbps    encoder
================================  ====================  ======  ============
``audiodec_24khz_v1``             ``libritts_v1``       6.4     symAD
``audiodec_24khz_sym``            ``libritts_sym``      6.4     symAD
``audiodec_48khz_v0``             ``vctk_v0``           12.8    symAD
``audiodec_48khz_v1``             ``vctk_v1``           12.8    symAD
``audiodec_48khz_v2``             ``vctk_v2``           12.8    symAD
``audiodec_48khz_sym``            ``vctk_sym``          12.8    symAD
``audiodec_48khz_univ``           ``vctk_univ``         12.8    symAD univ
``audiodec_48khz_univ_sym``       ``vctk_univ_sym``     12.8    symAD univ
``audiodec_48khz_activate_sym``   ``vctk_activate_sym`` 12.8    symAAD
``audiodec_48khz_c16_sym``        ``vctk_c16h320_sym``  24      symAD c16
================================  ====================  ======  ============

``audiodec_24khz_v1`` is the survey's ``audiodec_24k_320d`` (arXiv:2402.13236), whose hop length is 300 all the same.
The release's denoising encoder is left out, for it is to change what it hears.

The release, code and weights, is under CC-BY-NC 4.0: not for commercial use. This code was written anew.

A clip is coded as the release's offline test does it, from a silent past, in one or as a stream. The release's
streaming demo differs in the first frames: it starts from the state that 8192 zeros leave behind, and its decoder takes
zeros for the frame before the first, where offline it repeats the first.

A frame hears no sample after its first: its token is known 299 samples (319) before its samples end.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from codecbench import weights
from codecbench.models.base import Card, LoadOptions, OperatingPoint, Stream
from codecbench.models.whole_clip import WholeClipCodec
from codecbench.weights import WeightFile

if TYPE_CHECKING:
    from torch import Tensor

    from codecbench.models.blocks.soundstream import SoundStreamCodec

LICENCE = "CC-BY-NC-4.0"
RELEASE = WeightFile(
    "audiodec-pretrain_models_v02.zip",
    "https://github.com/facebookresearch/AudioDec/releases/download/pretrain_models_v02/exp.zip",
    licence=LICENCE,
)
"""One archive with all models."""

AUTOENCODER_NAMES = (
    (r"^quantizer\.codebook\.", "quantiser."),
    (r"^projector\.project\.", "encoder.last."),
    (r"^encoder\.conv\.", "encoder.first."),
    (r"^decoder\.conv1\.", "decoder.first."),
    (r"^decoder\.conv2\.", "decoder.last."),
    (r"^(encoder|decoder)\.conv_blocks\.(\d+)\.(?:1\.)?", r"\1.blocks.\2."),
    (r"\.res_units\.(\d+)\.conv1\.", r".units.\1.convs.0."),
    (r"\.res_units\.(\d+)\.conv2\.", r".units.\1.convs.1.conv."),
    (r"\.deconv\.", ".conv."),
)
VOCODER_NAMES = (
    (r"^(mean|scale)$", r"normalise.\1"),
    (r"^input_conv\.", "decoder.first."),
    (r"^output_conv\.", "decoder.last."),
    (r"^upsamples\.(\d+)\.deconv\.", r"decoder.ups.\1.conv."),
    (r"^blocks\.(\d+)\.blocks\.", r"decoder.blocks.\1.branches."),
    (r"^blocks\.", "decoder.blocks."),
    (r"\.convs1\.(\d+)\.", r".dilated.\1."),
    (r"\.convs2\.(\d+)\.", r".plain.\1."),
    (r"\.conv_out\.", ".mix.conv."),
)
"""Rules from the release's parameter names to those here."""

TRAINING_STATE = r"\.pad_buffer$|^quantizer\..*\.(cluster_size|embed_avg)$"
"""Released tensors that only streaming and training need."""


def _card(name: str, sample_rate: int, data: str, *, codebooks: int = 8, hop: int = 300) -> Card:
    frame_rate = sample_rate / hop
    kbps = codebooks * frame_rate * 10 / 1000
    return Card(
        name=f"audiodec_{name}", kind="codec", family="AudioDec", track="official", sample_rate=sample_rate, channels=1,
        points=(OperatingPoint(f"{kbps:g}kbps", kbps, codebooks),), streams=(Stream(1024, frame_rate),) * codebooks,
        causal=True, lookahead=1 - hop, streaming=True, weights=(RELEASE,), weights_licence=LICENCE,
        training_data=(data,), paper="arXiv:2305.16608",
    )  # fmt: skip


class AudioDec(WholeClipCodec):
    """What all the systems share."""

    encoder: ClassVar[str] = "autoencoder/symAD_vctk_48000_hop300/checkpoint-200000steps.pkl"
    """The file in the release with the encoder and the codebooks."""
    decoder: ClassVar[str]
    """The file with the decoder or the vocoder."""
    strides: ClassVar[tuple[int, ...]] = (3, 4, 5, 5)
    activate: ClassVar[bool] = False
    """Whether the autoencoder is symAAD."""
    vocoder: ClassVar[tuple[int, ...]] = ()
    """Kernel sizes of the vocoder's residual blocks: several are averaged, a single one runs in three groups."""

    @classmethod
    def load(cls, options: LoadOptions) -> AudioDec:
        """Load the release's archive (or a folder that holds its ``exp``, or is it), or random weights."""
        network = cls.network(options.random_seed)
        if options.random_seed is None:
            path = weights.resolve(cls.card.name, RELEASE, options.weights)
            encoder = _read(path, cls.encoder, AUTOENCODER_NAMES)
            decoder = _read(path, cls.decoder, VOCODER_NAMES if cls.vocoder else AUTOENCODER_NAMES)
            state = {name: tensor for name, tensor in encoder.items() if not name.startswith("decoder.")}
            state |= {name: tensor for name, tensor in decoder.items() if name.startswith(("decoder.", "normalise."))}
            weights.load_state(network, state, path)
        return cls(network, options.device, compiled=options.compile)

    @classmethod
    def network(cls, seed: int | None) -> SoundStreamCodec:
        """The network with random weights from `seed`; as it is built, to be filled, if that is None."""
        from codecbench.models.blocks.causal import EarlyConv1d, HeldConvTranspose1d
        from codecbench.models.blocks.conv import ConvStyle
        from codecbench.models.blocks.soundstream import SoundStream, SoundStreamCodec, build, enliven
        from codecbench.models.blocks.vocoder import Generator, Vocoder

        net = SoundStream(
            dimension=64, strides=cls.strides, elu_before=("up", "last") if cls.activate else (), bias=False,
            tanh=cls.activate, conv=EarlyConv1d, transpose=HeldConvTranspose1d,
            style=ConvStyle("weight" if cls.activate else "none", causal=True, padding="constant"),
        )  # fmt: skip
        vocoder = Vocoder(kernel_sizes=cls.vocoder, groups=3 if len(cls.vocoder) == 1 else 1)
        network = build(
            lambda: SoundStreamCodec(
                net, len(cls.card.streams), 1024, straight_through=True,
                decoder=(lambda: Generator(vocoder)) if cls.vocoder else None,
            ),
            seed or 0,
        )  # fmt: skip
        if seed is not None:
            enliven(network, seed)
        return network


def _read(path: Path, name: str, rules: tuple[tuple[str, str], ...]) -> dict[str, Tensor]:
    unpacked = path.is_dir() and not (path / "exp").is_dir()
    file = weights.member(path, name if unpacked else f"exp/{name}")
    state = weights.read_state_dict(file, within=("model", "generator"))
    renamed = weights.rename_keys(state, rules, drop=TRAINING_STATE)
    return {key: tensor.t() if key.endswith(".embed") else tensor for key, tensor in renamed.items()}


class AudioDec24V1(AudioDec):
    """24 kHz: symAD and AD v1, the survey's ``audiodec_24k_320d``."""

    card = _card("24khz_v1", 24_000, "LibriTTS")
    encoder = "autoencoder/symAD_libritts_24000_hop300/checkpoint-500000steps.pkl"
    decoder = "vocoder/AudioDec_v1_symAD_libritts_24000_hop300_clean/checkpoint-500000steps.pkl"
    vocoder = (11,)


class AudioDec24Sym(AudioDec):
    """24 kHz: symAD."""

    card = _card("24khz_sym", 24_000, "LibriTTS")
    encoder = AudioDec24V1.encoder
    decoder = "autoencoder/symAD_libritts_24000_hop300/checkpoint-1000000steps.pkl"


class AudioDec48V0(AudioDec):
    """48 kHz: symAD and AD v0, a HiFi-GAN."""

    card = _card("48khz_v0", 48_000, "VCTK")
    decoder = "vocoder/AudioDec_v0_symAD_vctk_48000_hop300_clean/checkpoint-500000steps.pkl"
    vocoder = (3, 7, 11)


class AudioDec48V1(AudioDec):
    """48 kHz: symAD and AD v1, whose residual blocks are grouped convolutions."""

    card = _card("48khz_v1", 48_000, "VCTK")
    decoder = "vocoder/AudioDec_v1_symAD_vctk_48000_hop300_clean/checkpoint-500000steps.pkl"
    vocoder = (11,)


class AudioDec48V2(AudioDec):
    """48 kHz: symAD and AD v2, v1 with shorter kernels."""

    card = _card("48khz_v2", 48_000, "VCTK")
    decoder = "vocoder/AudioDec_v2_symAD_vctk_48000_hop300_clean/checkpoint-500000steps.pkl"
    vocoder = (3,)


class AudioDec48Sym(AudioDec):
    """48 kHz: symAD."""

    card = _card("48khz_sym", 48_000, "VCTK")
    decoder = "autoencoder/symAD_vctk_48000_hop300/checkpoint-700000steps.pkl"


class AudioDec48Univ(AudioDec):
    """48 kHz: symAD and AD v1, both trained with UnivNet's discriminators (v3 in the release)."""

    card = _card("48khz_univ", 48_000, "VCTK")
    encoder = "autoencoder/symADuniv_vctk_48000_hop300/checkpoint-500000steps.pkl"
    decoder = "vocoder/AudioDec_v3_symADuniv_vctk_48000_hop300_clean/checkpoint-500000steps.pkl"
    vocoder = (11,)


class AudioDec48UnivSym(AudioDec):
    """48 kHz: symAD trained with UnivNet's discriminators."""

    card = _card("48khz_univ_sym", 48_000, "VCTK")
    encoder = AudioDec48Univ.encoder
    decoder = "autoencoder/symADuniv_vctk_48000_hop300/checkpoint-1000000steps.pkl"


class AudioDec48ActivateSym(AudioDec):
    """48 kHz: symAAD."""

    card = _card("48khz_activate_sym", 48_000, "VCTK")
    encoder = "autoencoder/symAAD_vctk_48000_hop300/checkpoint-200000steps.pkl"
    decoder = "autoencoder/symAAD_vctk_48000_hop300/checkpoint-700000steps.pkl"
    activate = True


class AudioDec48C16Sym(AudioDec):
    """48 kHz: symAD with 16 codebooks and a hop length of 320."""

    card = _card("48khz_c16_sym", 48_000, "VCTK", codebooks=16, hop=320)
    encoder = "autoencoder/symAD_c16_vctk_48000_hop320/checkpoint-500000steps.pkl"
    decoder = "autoencoder/symAD_c16_vctk_48000_hop320/checkpoint-1000000steps.pkl"
    strides = (2, 4, 5, 8)


SYSTEMS = (
    AudioDec24V1, AudioDec24Sym, AudioDec48V0, AudioDec48V1, AudioDec48V2, AudioDec48Sym, AudioDec48Univ,
    AudioDec48UnivSym, AudioDec48ActivateSym, AudioDec48C16Sym,
)  # fmt: skip
