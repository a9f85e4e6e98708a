"""Small codecs of all seven families, trained by ``codecbench train`` on one recipe's budget, to be held side by side.

16 kHz, a hop length of 320 samples (50 frames a second), 8 codebooks of 1024 entries (0.5 kbps each), about 1.6 M
parameters. What tells the families apart is kept: where the network is causal, what its blocks are, how it quantises,
what it learns from. They are no match for the released models, and do not mean to be.

===========================  =======================================================================================
``soundstream-small``        causal convolutions of width 7, three dilations
``encodec-small``            causal SEANet with an LSTM
``audiodec-small``           as SoundStream, its frames known early, all codebooks always used; two stages of training
``hificodec-small``          HiFi-GAN both ways; two residual layers of four groups, all always used
``speechtokenizer-small``    SEANet, an LSTM in both directions; the first codebook also follows MFCCs
``dac-small``                Snake, a wide decoder, factorised codebooks that are compared by direction
``funcodec-small``           the frequency domain: magnitude and phase, two-dimensional SEANet (FreqCodec)
===========================  =======================================================================================

``funcodec-small-digits`` is the last of them, trained on with spoken digits: the codec that small language models speak
(docs/small-language-models.md).

The weights lie in this package, ``small/NAME.safetensors``, in half precision. Their metadata says what they were
trained on and for how long, and so does the card. Until a system's file is there, it says how to make it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from codecbench import weights
from codecbench.errors import InvalidSystem
from codecbench.models.base import Card, LoadOptions, OperatingPoint, Stream
from codecbench.models.whole_clip import WholeClipCodec

if TYPE_CHECKING:
    from torch import nn

SAMPLE_RATE, HOP, CODEBOOKS, CODEBOOK_SIZE = 16_000, 320, 8, 1024
STRIDES = (8, 5, 4, 2)
"""From the waveform inwards: the papers' in reverse. It costs a third, for less is computed at the highest rates."""
DIMENSION = 64
"""Channels of the latent frames."""
FOLDER = Path(__file__).with_name("small")


def soundstream() -> nn.Module:
    """SoundStream's network."""
    from codecbench.models.blocks.soundstream import SoundStream, SoundStreamCodec

    return SoundStreamCodec(SoundStream(DIMENSION, width=16, strides=STRIDES), CODEBOOKS, CODEBOOK_SIZE)


def encodec() -> nn.Module:
    """EnCodec's network."""
    from codecbench.models.blocks.conv import ConvStyle
    from codecbench.models.blocks.seanet import SEANet, SEANetCodec

    net = SEANet(dimension=DIMENSION, width=12, strides=STRIDES, style=ConvStyle("weight", causal=True))
    return SEANetCodec(net, CODEBOOKS, CODEBOOK_SIZE)


def audiodec() -> nn.Module:
    """The network of AudioDec's symAD."""
    from codecbench.models.blocks.causal import EarlyConv1d, HeldConvTranspose1d
    from codecbench.models.blocks.soundstream import SoundStream, SoundStreamCodec

    net = SoundStream(
        DIMENSION, width=16, strides=STRIDES, elu_before=(), bias=False, conv=EarlyConv1d,
        transpose=HeldConvTranspose1d,
    )  # fmt: skip
    codec = SoundStreamCodec(net, CODEBOOKS, CODEBOOK_SIZE, straight_through=True)
    codec.late = HOP
    return codec


def hificodec() -> nn.Module:
    """HiFi-Codec's network with twice the groups; fewer residual stacks, so that it can be wide enough."""
    from codecbench.models.blocks.hificodec import HiFiCodecNetwork, HiFiGAN

    net = HiFiGAN(STRIDES, (16, 11, 8, 4), width=9, normalised_group=9, field_sizes=(3, 7), dilations=(1, 3))
    return HiFiCodecNetwork(net, CODEBOOK_SIZE, groups=4)


def speechtokenizer() -> nn.Module:
    """SpeechTokenizer's network."""
    from codecbench.models.blocks.conv import ConvStyle
    from codecbench.models.blocks.seanet import SEANet, SEANetCodec

    net = SEANet(dimension=DIMENSION, width=9, strides=STRIDES, bidirectional=True, style=ConvStyle("weight"))
    return SEANetCodec(net, CODEBOOKS, CODEBOOK_SIZE)


def dac() -> nn.Module:
    """DAC's network."""
    from codecbench.models.blocks.dac import DACNetwork, DACShape

    return DACNetwork(DACShape(STRIDES, DIMENSION, CODEBOOKS, CODEBOOK_SIZE, 16, width=16, decoder_width=240))


def funcodec() -> nn.Module:
    """The network of FunCodec's FreqCodec, with an LSTM."""
    from codecbench.models.blocks.conv import ConvStyle
    from codecbench.models.blocks.seanet2d import SEANet2d
    from codecbench.models.blocks.spectral import AlignedSpectralCodec, SpectralNet

    net = SEANet2d(
        dimension=DIMENSION, width=10, kernel_size=3, last_kernel_size=3, dilation_base=1, style=ConvStyle("group")
    )
    return AlignedSpectralCodec(SpectralNet(net, net), CODEBOOKS, CODEBOOK_SIZE)


class Small(WholeClipCodec):
    """What all of them share."""

    build: ClassVar[Callable[[], nn.Module]]
    """Makes the network, with random weights."""
    paths: ClassVar[int] = 32
    """Of the search for codes, of which all families have the same."""
    late: ClassVar[int] = 0
    """Frames by which latent frames come after the part of the waveform that they code."""

    @classmethod
    def network(cls, seed: int) -> nn.Module:
        """The network with random weights from `seed`; torch's own random state is left as it was."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            network = cls.build()
            for name, buffer in network.named_buffers():
                if name.endswith(".embed"):
                    buffer.normal_()
        return network

    @classmethod
    def load(cls, options: LoadOptions) -> Small:
        """Load this package's weights, a file that ``codecbench train`` wrote, or random weights.

        Raises:
            InvalidSystem: The weights are not there, or are another network's.
        """
        network: Any = cls.filled(options)
        network.quantiser.paths = cls.paths
        return cls(network, options.device, compiled=options.compile)

    @classmethod
    def filled(cls, options: LoadOptions) -> nn.Module:
        """The network with the weights that `load` takes."""
        network = cls.network(options.random_seed or 0)
        if options.random_seed is None:
            read(network, cls.card.name, options.weights or FOLDER / f"{cls.card.name}.safetensors")
        else:
            enliven(network, options.random_seed)
        return network


def enliven(network: Any, seed: int) -> None:
    """Make an untrained `network` behave like a codec, as its family does."""
    from codecbench.models.blocks import dac, hificodec, seanet, soundstream

    if isinstance(network, soundstream.SoundStreamCodec):
        soundstream.enliven(network, seed)
    elif isinstance(network, hificodec.HiFiCodecNetwork):
        hificodec.enliven(network, seed, level=0.1)
    elif not isinstance(network, dac.DACNetwork):  # which is lively as it is built
        seanet.enliven(network, seed, level=0.1, output_level=0.1)


def read(network: nn.Module, name: str, path: Path) -> None:
    """Fill `network` of the system `name` with the weights in `path`, its weight norms folded.

    Raises:
        InvalidSystem: The weights are not there, or are another network's.
    """
    from codecbench.models.blocks.conv import fold_weight_norm

    if not path.is_file():
        where = "this package has no weights for it yet" if path.parent == FOLDER else f"no such file: {path}"
        raise InvalidSystem(
            f"{name}: {where}; `codecbench train {name} --data DIR --out DIR` makes them, then name the file with "
            "`--weights PATH`, or try the system out with `--random-weights SEED`"
        )
    facts = metadata(path)
    if (made := facts.get("model", facts.get("codec", name))) != name:
        raise InvalidSystem(f"{path} holds the weights of {made}, not of {name}")
    fold_weight_norm(network)
    weights.load_state(network, {key: value.float() for key, value in weights.read_state_dict(path).items()}, path)


def metadata(path: Path) -> dict[str, str]:
    """What a ``.safetensors`` file says of itself; nothing if it is not there or damaged."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(size, 1 << 22)))
    except (OSError, ValueError):
        return {}
    facts = header.get("__metadata__", {})
    return facts if isinstance(facts, dict) else {}


def label(facts: dict[str, str]) -> str:
    """What weights with such metadata are called wherever they are shown."""
    if not facts:
        return "small, not trained yet"
    minutes = float(facts.get("data_seconds", 0)) / 60
    return f"small, trained here, {facts.get('steps', '?')} steps on {minutes:.0f} min of {facts.get('data', 'audio')}"


def carried(name: str) -> dict[str, Any]:
    """What the card of a small system says of the weights that this package has for it, if it has any."""
    facts = metadata(FOLDER / f"{name}.safetensors")
    return {
        "unpublished": True, "package_weights": f"small/{name}.safetensors" if facts else "", "label": label(facts),
        "weights_licence": facts.get("licence", ""), "training_data": (facts["data"],) if facts.get("data") else (),
    }  # fmt: skip


def _card(name: str, family: str, paper: str, *, causal: bool = False, lookahead: int | None = None) -> Card:
    shipped, rate = carried(name), SAMPLE_RATE / HOP
    rates = [(count, count * 10 * rate / 1000) for count in (1, 2, 4, 8)]
    return Card(
        name=name, kind="codec", family=family, track="small", sample_rate=SAMPLE_RATE, channels=1,
        points=tuple(OperatingPoint(f"{kbps:g}kbps", kbps, count) for count, kbps in rates),
        streams=(Stream(CODEBOOK_SIZE, rate),) * CODEBOOKS, nested=True, causal=causal, lookahead=lookahead,
        streaming=causal, paper=paper, **shipped,
    )  # fmt: skip


class SmallSoundStream(Small):
    """SoundStream."""

    card = _card("soundstream-small", "SoundStream", "arXiv:2107.03312", causal=True, lookahead=0)
    build = soundstream


class SmallEncodec(Small):
    """EnCodec. It mirrors the signal at its start, so the first 7 frames depend on each other."""

    card = replace(_card("encodec-small", "EnCodec", "arXiv:2210.13438", causal=True, lookahead=0), warm_up=7 * HOP)
    build = encodec


class SmallAudioDec(Small):
    """AudioDec, the autoencoder symAD."""

    card = _card("audiodec-small", "AudioDec", "arXiv:2305.16608", causal=True, lookahead=1)
    # Its frames are known before their part of the waveform is: one more says what the last one could not.
    card = replace(card, points=card.points[-1:], nested=False, delay=HOP)
    build = audiodec
    late = 1


class SmallHiFiCodec(Small):
    """HiFi-Codec."""

    card = _card("hificodec-small", "HiFi-Codec", "arXiv:2305.02765")
    card = replace(card, points=card.points[-1:], nested=False)
    build = hificodec


class SmallSpeechTokenizer(Small):
    """SpeechTokenizer."""

    card = _card("speechtokenizer-small", "SpeechTokenizer", "arXiv:2308.16692")
    build = speechtokenizer


class SmallDAC(Small):
    """DAC, with 16 values an entry where the release has 8: those leave a third more of frames of 64 channels over."""

    card = _card("dac-small", "DAC", "arXiv:2306.06546")
    build = dac


class SmallFunCodec(Small):
    """FunCodec in the frequency domain."""

    card = _card("funcodec-small", "FunCodec", "arXiv:2309.07405")
    build = funcodec
    late = 1  # one more spectrum than twice the frames: a stride of two takes it at the start


class SmallFunCodecDigits(SmallFunCodec):
    """FunCodec in the frequency domain, trained on with spoken digits; language models have learnt its greedy codes."""

    paths = 1

    card = _card("funcodec-small-digits", "FunCodec", "arXiv:2309.07405")


FAMILIES = (
    SmallSoundStream, SmallEncodec, SmallAudioDec, SmallHiFiCodec, SmallSpeechTokenizer, SmallDAC, SmallFunCodec,
)  # fmt: skip
"""One of each, all trained alike."""
SYSTEMS = (*FAMILIES, SmallFunCodecDigits)
