"""SpeechTokenizer, 16 kHz, 8 codebooks at 50 Hz, our implementation of arXiv:2308.16692.

Equal to the released code on equal weights. The network is EnCodec's, wider and not causal. The encoder's LSTM runs
both ways, so every frame depends on the whole clip. In training, the first codebook follows HuBERT; at inference
nothing of that remains but what the codebook learnt. Any number of codebooks, from the first on, can be decoded.

The release has two models: one with ELU, and one with Snake, trained on more data. Its code is under Apache-2.0;
nothing is stated about the weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from codecbench import weights
from codecbench.models.base import Card, LoadOptions, OperatingPoint, Stream
from codecbench.models.whole_clip import WholeClipCodec
from codecbench.weights import WeightFile

if TYPE_CHECKING:
    from codecbench.models.blocks.seanet import SEANet

CODEBOOKS = 8
CODEBOOK_SIZE = 1024
FRAME_RATE = 50.0


def _card(name: str, file: WeightFile, data: tuple[str, ...]) -> Card:
    bits = CODEBOOK_SIZE.bit_length() - 1
    rates = [(count, count * bits * FRAME_RATE / 1000) for count in range(1, CODEBOOKS + 1)]
    return Card(
        name=name, kind="codec", family="SpeechTokenizer", track="official", sample_rate=16_000, channels=1,
        points=tuple(OperatingPoint(f"{kbps:g}kbps", kbps, count) for count, kbps in rates),
        streams=(Stream(CODEBOOK_SIZE, FRAME_RATE),) * CODEBOOKS, nested=True, causal=False, weights=(file,),
        weights_licence=file.licence, training_data=data, paper="arXiv:2308.16692",
    )  # fmt: skip


class SpeechTokenizer(WholeClipCodec):
    """What both models share."""

    activation: ClassVar[Literal["elu", "snake"]]
    """Of the network."""
    zero_padded = False

    @classmethod
    def load(cls, options: LoadOptions) -> SpeechTokenizer:
        """Load the released weights, a file in their format, or random weights."""
        from codecbench.models.blocks.seanet import RELEASED_NAMES, TRAINING_STATE, build, enliven

        seed = options.random_seed
        network = build(cls._net(), CODEBOOKS, CODEBOOK_SIZE, seed=seed or 0)
        if seed is not None:
            enliven(network, seed, level=0.1, output_level=0.1)
        else:
            path = weights.resolve(cls.card.name, cls.card.weights[0], options.weights)
            # `transform` projects the first codebook onto HuBERT's dimension, for the loss alone.
            unused = rf"{TRAINING_STATE}|^transform\.(weight|bias)$"
            state = weights.rename_keys(weights.read_state_dict(path), RELEASED_NAMES, drop=unused)
            weights.load_state(network, state, path)
        return cls(network, options.device, compiled=options.compile)

    @classmethod
    def _net(cls) -> SEANet:
        from torch import nn

        from codecbench.models.blocks.activations import Snake
        from codecbench.models.blocks.conv import ConvStyle
        from codecbench.models.blocks.seanet import SEANet

        activation = Snake if cls.activation == "snake" else lambda _channels: nn.ELU()
        style = ConvStyle("weight", causal=False)
        return SEANet(dimension=1024, width=64, bidirectional=True, activation=activation, style=style)


class SpeechTokenizerHubertAvg(SpeechTokenizer):
    """SpeechTokenizer with ELU, taught by the average of all of HuBERT's layers."""

    card = _card(
        "speechtokenizer_hubert_avg",
        WeightFile(
            "SpeechTokenizer.pt",
            "https://huggingface.co/fnlp/SpeechTokenizer/resolve/4d54939beef00572fa7bfe41ee35a335c3732f51/"
            "speechtokenizer_hubert_avg/SpeechTokenizer.pt",
            "d04593b6c9a4b475f91ca481141a6ef5b23e6ac112f347dd2b2717f193c1c728",
            licence="not stated",
        ),
        ("LibriSpeech",),
    )
    activation = "elu"


class SpeechTokenizerSnake(SpeechTokenizer):
    """SpeechTokenizer with Snake, taught by the average of all of HuBERT's layers."""

    card = _card(
        "speechtokenizer_snake",
        WeightFile(
            "speechtokenizer_snake.pt",
            "https://huggingface.co/fnlp/AnyGPT-speech-modules/resolve/47320f954f02f108d0359fb80cd481038bba6be9/"
            "speechtokenizer/ckpt.dev",
            licence="not stated",
        ),
        ("LibriSpeech", "Common Voice"),
    )
    activation = "snake"


SYSTEMS = (SpeechTokenizerHubertAvg, SpeechTokenizerSnake)
