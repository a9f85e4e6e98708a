"""TWIST (arXiv:2305.13009): speech language models that began as text models, on 25 units a second.

OPT or Llama with its words exchanged for 500 units of a multilingual HuBERT, and equal to ``transformers`` on equal
weights. The release draws at temperature 0.8, up to the smaller of 250 units and three times the prompt, which is
`Sampling.max_seconds` here. There is no token for the end: a response is as long as that allows.

A release is a zip archive in the layout of ``transformers``; its ``config.json`` has the sizes, and as ``offset`` the
id of the first unit. An unpacked folder is read as well, and with less memory. The paper's model of 13 G parameters was
not published. Likelihoods begin with the second unit: nothing stands before the first.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from codecbench import weights
from codecbench.errors import InvalidSystem
from codecbench.models import unit_files
from codecbench.models.base import Card, LoadOptions, Stream
from codecbench.models.unit_speech import Networks, Symbols, UnitSpeechLM
from codecbench.weights import WeightFile

if TYPE_CHECKING:
    from torch import Tensor

    from codecbench.models.blocks.unit_lm import UnitLMShape

UNITS = 500
STREAM = Stream(UNITS, 25)
HEARS = {"layer": 11, "convs": ((512, 10, 5), *[(512, 3, 2)] * 4, *[(512, 2, 2)] * 3)}
"""HuBERT at 25 frames a second: one convolution more than usual."""
SPEAKS = {"strides": (5, 4, 4, 4, 2), "kernel_sizes": (11, 8, 8, 8, 4), "duration": (128, 3)}
"""The vocoder of its units."""


def shape(config: Mapping[str, Any]) -> UnitLMShape:
    """The language model of a ``config.json`` of OPT or Llama.

    Raises:
        ValueError: It is of another kind.
    """
    from dataclasses import replace

    from codecbench.models.blocks import unit_lm

    size, layers, heads = (config[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads"))
    vocabulary, kind = config["vocab_size"], config["model_type"]
    if kind == "opt":
        narrow, first = config.get("word_embed_proj_dim", size), config.get("do_layer_norm_before", True)
        longest = config["max_position_embeddings"]
        backbone = unit_lm.opt(size, layers, heads, config["ffn_dim"], longest, norm_first=first)
        return unit_lm.UnitLMShape(backbone, vocabulary, None if narrow == size else narrow, tied=_tied(config, True))
    if kind != "llama":
        raise ValueError(f"a model of the type {kind}, not opt or llama")
    backbone = unit_lm.llama(size, layers, heads, config["intermediate_size"], config.get("num_key_value_heads"))
    backbone = replace(backbone, epsilon=config["rms_norm_eps"], period=config.get("rope_theta", 10_000.0))
    return unit_lm.UnitLMShape(backbone, vocabulary, tied=_tied(config, False))


def _tied(config: Mapping[str, Any], unless_told: bool) -> bool:
    return bool(config.get("tie_word_embeddings", unless_told))


class Twist(UnitSpeechLM):
    """What all sizes share."""

    config: ClassVar[Mapping[str, Any]]
    """Of the language model on random weights."""
    longest = 2048
    features: ClassVar[Mapping[str, Any]] = HEARS
    """Of HuBERT, as of `blocks.units.Features`."""
    vocoder_shape: ClassVar[Mapping[str, Any]] = SPEAKS
    """Of the vocoder on random weights, as of `blocks.unit_vocoder.UnitVocoderShape`."""

    @classmethod
    def load(cls, options: LoadOptions) -> Twist:
        """Load the released files, a folder with them, or random weights."""
        if options.random_seed is not None:
            return cls(cls.build(options.random_seed), options.device, compiled=options.compile)
        given, name = options.weights, cls.card.name
        paths = []
        for file in cls.card.weights:
            chosen = given / file.name if given else None
            if chosen and chosen.suffix == ".zip" and chosen.with_suffix("").is_dir():
                chosen = chosen.with_suffix("")
            paths.append(weights.resolve(name, file, chosen))
        return cls(cls.read(*paths), options.device, compiled=options.compile)

    @classmethod
    def build(cls, seed: int) -> Networks:
        """The networks with random weights from `seed`; torch's own random state is left as it was."""
        import torch

        from codecbench.models.blocks.unit_lm import UnitLM, enliven

        tokeniser, vocoder = unit_files.random_parts(cls.features, UNITS, cls.vocoder_shape, seed)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            lm = UnitLM(shape(cls.config))
        enliven(lm)
        return Networks(tokeniser, lm, vocoder, symbols(cls.config))

    @classmethod
    def read(cls, *files: Path) -> Networks:
        """The networks of a release, its files in the order of the card.

        Raises:
            InvalidSystem: A file is damaged, or is another model's.
        """
        from codecbench.models.blocks import units
        from codecbench.models.blocks.unit_lm import TRANSFORMERS_NAMES, UnitLM

        release, hubert, codebook, vocoder, config = files
        facts = unit_files.read_json(weights.member(release, "config.json"))
        try:
            net, found = shape(facts), symbols(facts)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidSystem(f"{release} holds no language model of units: {error}") from error
        lm = UnitLM(net)
        state = weights.rename_keys(_read(release), TRANSFORMERS_NAMES, drop=r"rotary_emb\.inv_freq$")
        if net.tied:
            state["head.weight"] = state["embedding.weight"]
        weights.load_state(lm, state, release)
        tokeniser = unit_files.read_tokeniser(units.Features(**cls.features), hubert, codebook, UNITS)
        return Networks(tokeniser, lm, unit_files.read_vocoder(vocoder, config), found)


def symbols(config: Mapping[str, Any]) -> Symbols:
    """The tokens of a ``config.json``: units from its ``offset`` on.

    Raises:
        ValueError: The vocabulary ends before the units do.
    """
    first: int = config["offset"]
    if first + UNITS > config["vocab_size"]:
        raise ValueError(f"{UNITS} units from id {first} on do not fit into a vocabulary of {config['vocab_size']}")
    return Symbols(range(first, first + UNITS))


def _read(release: Path) -> dict[str, Tensor]:
    if release.is_dir():
        return unit_files.read_transformers(release)
    names = [
        name
        for name in zipfile.Path(release).iterdir()
        if name.name.startswith("pytorch_model") and name.suffix == ".bin"
    ]
    if not names:
        raise InvalidSystem(f"{release} holds no pytorch_model.bin at its top; unpack it to {release.with_suffix('')}")
    state: dict[str, Tensor] = {}
    for name in names:
        state.update(weights.read_state_dict(name))
    return state


def _card(size: str, base: str) -> Card:
    release = WeightFile(f"TWIST-{size}.zip", f"{unit_files.TEXTLESS}/twist/lms/TWIST-{size}.zip", licence="MIT")
    return Card(
        name=f"twist_{size.lower()}", kind="lm", family="TWIST", track="official", sample_rate=16_000, channels=1,
        points=(unit_files.point(STREAM),), streams=(STREAM,), tasks=("continuation",),
        streaming=True, batches=True,
        weights=(release, unit_files.MHUBERT_25, unit_files.MHUBERT_25_500, *unit_files.MHUBERT_25_VOCODER),
        weights_licence="MIT", paper="arXiv:2305.13009",
        training_data=(
            base, "LibriSpeech", "Libri-Light", "The People's Speech", "TED-LIUM", "Spotify Podcasts", "VoxPopuli",
            "LJSpeech",
        ),
        contamination="trained on the training parts of LibriSpeech and VoxPopuli",
    )  # fmt: skip


OPT = {"model_type": "opt", "vocab_size": 502, "offset": 2, "max_position_embeddings": 2048}


class Twist350M(Twist):
    """TWIST with 350 M parameters, from OPT."""

    card = _card("350M", "the text that OPT read")
    config: ClassVar[Mapping[str, Any]] = OPT | {
        "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "ffn_dim": 4096,
        "word_embed_proj_dim": 512, "do_layer_norm_before": False,
    }  # fmt: skip


class Twist1B(Twist):
    """TWIST with 1.3 G parameters, from OPT."""

    card = _card("1.3B", "the text that OPT read")
    config: ClassVar[Mapping[str, Any]] = OPT | {
        "hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 32, "ffn_dim": 8192,
    }  # fmt: skip


class Twist7B(Twist):
    """TWIST with 7 G parameters, from Llama."""

    card = _card("7B", "the text that Llama read")
    config: ClassVar[Mapping[str, Any]] = {
        "model_type": "llama", "vocab_size": 502, "offset": 2, "hidden_size": 4096, "num_hidden_layers": 32,
        "num_attention_heads": 32, "intermediate_size": 11_008, "rms_norm_eps": 1e-6,
    }  # fmt: skip


SYSTEMS = (Twist350M, Twist1B, Twist7B)
