"""GSLM, small: spoken digits that go on, by a language model of units without repetitions.

The units are those of `semantic_small`, the language model is that of `codecbench.models.gslm` in small. The vocoder is
another: it fills in codes of the codec (`blocks.code_vocoder`), and hears the prompt, so that the answer has its voice.
GSLM's own has one voice, whoever spoke before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from codecbench.audio import Audio, Clip
from codecbench.models import gslm, semantic_small, small, small_lm
from codecbench.models.base import LoadOptions
from codecbench.models.soundstorm import Conformer
from codecbench.models.training.student import LMRecipe
from codecbench.models.unit_speech import Networks, UnitSpeechLM

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from codecbench.models.codec_tokens import CodecTokens
    from codecbench.models.semantic_small import Item

SYMBOLS = gslm.symbols([str(unit) for unit in range(semantic_small.UNITS)], semantic_small.UNITS)
PASSES = (8, *[1] * (small_lm.CODEBOOKS - 1))
"""Of the vocoder, for each codebook."""


class SmallGSLM(semantic_small.Student, UnitSpeechLM):
    """GSLM with 1 M parameters, and a vocoder of 2 M."""

    card = small_lm.card(
        "gslm-small", "GSLM", ("continuation",), "arXiv:2102.01192", expected_failures=semantic_small.NOISE_IS_LIKELY
    )
    longest = 512
    size: ClassVar[tuple[int, int, int, int]] = (128, 4, 4, 512)
    """Of the language model, as of `gslm.GSLM.size`."""
    conformer: ClassVar[Conformer] = Conformer(128, 3, 4, 32)
    """Of the vocoder."""
    recipe = LMRecipe(steps=800, strings=2_000, digits=(2, 8))

    def __init__(self, networks: Networks, codec: CodecTokens, device: str) -> None:
        super().__init__(networks, device)
        self.codec = codec

    @classmethod
    def load(cls, options: LoadOptions) -> SmallGSLM:
        """Load this package's weights, a file that ``codecbench train`` wrote, or random weights."""
        network = cls.filled(options)
        parts = Networks(semantic_small.tokeniser(options), network["lm"], network["vocoder"], SYMBOLS)
        return cls(parts, small_lm.codec_tokens(options), options.device)

    @classmethod
    def acquainted(cls, network: Any) -> None:
        """As of `small_lm.Student`."""
        semantic_small.acquaint_masked(network["vocoder"].acoustic)

    @classmethod
    def blank(cls, seed: int) -> nn.ModuleDict:
        """Language model and vocoder with random weights."""
        import torch

        from codecbench.models.blocks import code_vocoder, masked_lm, unit_lm
        from codecbench.models.blocks.conformer import ConformerShape

        units, conformer = semantic_small.UNITS, ConformerShape(**vars(cls.conformer))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            lm = unit_lm.UnitLM(unit_lm.UnitLMShape(unit_lm.gslm(*cls.size), gslm.SPECIAL + units, scaled=True))
            shape = masked_lm.MaskedLMShape(conformer, units, small_lm.CODEBOOKS, small.CODEBOOK_SIZE)
            vocoder = code_vocoder.CodeVocoder(shape)
        unit_lm.enliven(lm)
        return torch.nn.ModuleDict({"lm": lm, "vocoder": vocoder})

    @classmethod
    def loss(cls, network: Any, examples: Sequence[Item], random: torch.Generator) -> dict[str, Tensor]:
        """The loss of the language model, of durations, and of codes."""
        import torch

        from codecbench.models.blocks import unit_lm

        units = [own.units for own in examples]
        ids, end = (torch.tensor(own, device=units[0].device) for own in (SYMBOLS.units, [SYMBOLS.end]))
        tokens = [torch.cat([end, ids[torch.unique_consecutive(own)], end]) for own in units]
        spoken: dict[str, Tensor] = network["vocoder"].losses(units, [own.codes for own in examples], random)
        return {"units": unit_lm.loss(network["lm"], tokens), **spoken}

    def decode(self, prompt: Tensor, units: Tensor, clip: Clip | None = None) -> Audio:
        """What `units` ``[N]`` sound like after `clip`, whose units are `prompt`, in its voice: samples ``[1, T]``."""
        import torch

        if not len(units):
            return np.zeros((1, 0), np.float32)
        with torch.inference_mode():
            lengths = self.vocoder.durations(torch.cat([prompt, units]))[len(prompt) :]
            codes = self.codec.encode(clip)
            heard = self.tokeniser(torch.tensor(clip.samples[0], device=units.device)) if clip else prompt[:0]
            new = torch.repeat_interleave(units, lengths)
            samples = self.codec.decode(self.vocoder(heard, codes, new, PASSES)).samples
        return np.ascontiguousarray(samples[:, samples.shape[1] - len(new) * self.hop :])

    def parameters(self) -> int:
        """Number of learnt parameters of all networks, the codec's too."""
        return super().parameters() + self.codec.parameters()


SYSTEMS = (SmallGSLM,)
