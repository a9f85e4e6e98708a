"""Stack-and-Delay (arXiv:2309.08804): MusicGen with other orders of its codes.

Four models of one network and one codec, those of MusicGen's small size; what differs is in which step each code is
generated, and what the cache of keys and values keeps (`blocks.patterns`):

==========================  =====  =================================================================================
``musicgen_flat``           K F    one code a step, each after all before it
``musicgen_parallel``       F      a frame a step
``musicgen_stack``          K F    as flat, but only a row a frame stays in the cache
``musicgen_stack_delay``    F+K-1  K frames at once, in another order than time's; a row a frame stays
==========================  =====  =================================================================================

The weights were never published. A folder with a model of MusicGen in the layout of ``transformers`` will do, if it was
trained in the same pattern. The order of frames in ``musicgen_stack_delay`` and what its steps see are our reading
(see `blocks.patterns` and `blocks.stacked_generation`): results are not the paper's. All else is as in MusicGen.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from codecbench import weights
from codecbench.models.base import Card, LoadOptions
from codecbench.models.musicgen import SMALL, MusicGen, MusicGenSmall
from codecbench.models.musicgen_files import read_transformers

if TYPE_CHECKING:
    from codecbench.models.blocks.patterns import Pattern


def _card(pattern: str) -> Card:
    return replace(
        MusicGenSmall.card, name=f"musicgen_{pattern}", family="Stack-and-Delay", weights=(), weights_licence="",
        unpublished=True, training_data=(), paper="arXiv:2309.08804",
    )  # fmt: skip


class PatternMusicGen(MusicGen):
    """What all four share."""

    size = SMALL
    pattern: ClassVar[Literal["flat", "parallel", "stack", "stack_delay"]]

    @classmethod
    def load(cls, options: LoadOptions) -> MusicGen:
        """Load a folder that ``transformers`` wrote, or random weights."""
        if options.random_seed is not None:
            return super().load(options)
        folder = weights.unpublished(cls.card.name, options.weights)
        networks = cls.build(0)
        return cls(networks, read_transformers(networks, folder), options.device, compiled=options.compile)

    def layout(self, frames: int) -> Pattern:
        """In which step each code of so many frames is generated."""
        from codecbench.models.blocks import patterns

        build = getattr(patterns, self.pattern)
        pattern: Pattern = build(len(self.card.streams), frames)
        return pattern


class MusicGenFlat(PatternMusicGen):
    """One code a step."""

    card, pattern = _card("flat"), "flat"


class MusicGenParallel(PatternMusicGen):
    """A frame a step."""

    card, pattern = _card("parallel"), "parallel"


class MusicGenStack(PatternMusicGen):
    """One code a step, and one row of the cache a frame."""

    card, pattern = _card("stack"), "stack"


class MusicGenStackDelay(PatternMusicGen):
    """Several frames at once, and one row of the cache a frame."""

    card, pattern = _card("stack_delay"), "stack_delay"


SYSTEMS = (MusicGenFlat, MusicGenParallel, MusicGenStack, MusicGenStackDelay)
