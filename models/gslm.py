"""GSLM (arXiv:2102.01192): speech that goes on from speech, by a language model of HuBERT's units.

The language model is fairseq's, on 100 units of the sixth layer of HuBERT Base, and equal to it on equal weights. It
has a token for the end. The release's samples were drawn at temperature 0.7.

The paper speaks with Tacotron 2 and WaveGlow at 22.05 kHz. Here a HiFi-GAN vocoder of the same units, also trained on
LJSpeech, speaks at 16 kHz (arXiv:2107.05604): comparisons of sound with the paper do not hold, those of likelihood do.
Only units and the end are drawn, where fairseq may also draw the unknown word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from codecbench import weights
from codecbench.errors import InvalidSystem
from codecbench.models import unit_files
from codecbench.models.base import Card, LoadOptions, Stream
from codecbench.models.unit_speech import Networks, Symbols, UnitSpeechLM
from codecbench.weights import WeightFile

UNITS, SPECIAL = 100, 4
STREAM = Stream(UNITS, 50)
LM = WeightFile("hubert100_lm.tgz", f"{unit_files.TEXTLESS}/gslm/hubert/lm_km100/hubert100_lm.tgz", licence="MIT")
END = 2
"""Of fairseq's dictionaries: ``<s> <pad> </s> <unk>`` come first, and ``</s>`` also stands before every sequence."""


def symbols(lines: Sequence[str], units: int = UNITS) -> Symbols:
    """The tokens of a fairseq dictionary, whose `units` stand in any order.

    Raises:
        ValueError: A unit is missing.
    """
    places = {symbol: SPECIAL + place for place, symbol in enumerate(lines)}
    missing = [unit for unit in range(units) if str(unit) not in places]
    if missing:
        raise ValueError(f"the dictionary lacks {len(missing)} of {units} units, such as {missing[0]}")
    return Symbols(tuple(places[str(unit)] for unit in range(units)), start=END, end=END)


class GSLM(UnitSpeechLM):
    """GSLM on 100 units of HuBERT."""

    card = Card(
        name="gslm_hubert100", kind="lm", family="GSLM", track="official", sample_rate=16_000, channels=1,
        points=(unit_files.point(STREAM),), streams=(STREAM,), tasks=("continuation",),
        streaming=True, batches=True,
        weights=(
            LM, unit_files.HUBERT, unit_files.HUBERT_100, *unit_files.HUBERT_100_VOCODER,
        ), weights_licence="MIT",
        training_data=("Libri-Light (clean, 6 000 h)", "LibriSpeech", "LJSpeech"),
        contamination="HuBERT is trained on the training parts of LibriSpeech", paper="arXiv:2102.01192",
    )  # fmt: skip
    longest = 3072
    size: ClassVar[tuple[int, int, int, int]] = (1024, 12, 16, 4096)
    """Channels, layers and heads of the language model, and channels inside its feed-forward parts."""
    features: ClassVar[Mapping[str, Any]] = {"layer": 6}
    """Of HuBERT, as of `blocks.units.Features`."""
    vocoder_shape: ClassVar[Mapping[str, Any]] = {"duration": (128, 3)}
    """Of the vocoder on random weights, as of `blocks.unit_vocoder.UnitVocoderShape`."""

    @classmethod
    def load(cls, options: LoadOptions) -> GSLM:
        """Load the released files, a folder with them, or random weights."""
        if options.random_seed is not None:
            return cls(cls.build(options.random_seed), options.device, compiled=options.compile)
        given = options.weights
        lm, *rest = (weights.resolve(cls.card.name, f, given / f.name if given else None) for f in cls.card.weights)
        return cls(cls.read(lm, *rest), options.device, compiled=options.compile)

    @classmethod
    def build(cls, seed: int) -> Networks:
        """The networks with random weights from `seed`; torch's own random state is left as it was."""
        import torch

        from codecbench.models.blocks import unit_lm

        tokeniser, vocoder = unit_files.random_parts(cls.features, UNITS, cls.vocoder_shape, seed)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            lm = unit_lm.UnitLM(unit_lm.UnitLMShape(unit_lm.gslm(*cls.size), SPECIAL + UNITS, scaled=True))
        unit_lm.enliven(lm)
        return Networks(tokeniser, lm, vocoder, symbols([str(unit) for unit in range(UNITS)]))

    @classmethod
    def read(cls, *files: Path) -> Networks:
        """The networks of a release, its files in the order of the card.

        Raises:
            InvalidSystem: A file is damaged, or is another model's.
        """
        from codecbench.models.blocks import unit_lm, units
        from codecbench.models.inert import read_fairseq

        archive, hubert, codebook, vocoder, config = files
        state, lines = read_fairseq(archive)
        try:
            found = symbols(lines)
        except ValueError as error:
            raise InvalidSystem(f"{archive}: {error}") from error
        backbone = unit_lm.gslm(*cls.size)
        lm = unit_lm.UnitLM(unit_lm.UnitLMShape(backbone, SPECIAL + len(lines), scaled=True))
        weights.load_state(lm, unit_lm.from_fairseq(state), archive)
        tokeniser = unit_files.read_tokeniser(units.Features(**cls.features), hubert, codebook, UNITS)
        return Networks(tokeniser, lm, unit_files.read_vocoder(vocoder, config), found)


SYSTEMS = (GSLM,)
