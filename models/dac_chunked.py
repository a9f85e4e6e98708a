"""DAC at 44.1 kHz as its release compresses files: in windows of a second, after loudness normalisation.

Equal to the released ``compress`` and ``decompress``, which the release's command line calls, on equal weights. A clip
is brought to -16 LUFS, or to a peak of 1 where that is quieter. Its own loudness is sent as a 32-bit float, and the
output is brought to it. Clips of up to a second are coded at once, longer ones in windows of 72 frames for 28 522
samples, the last of them whole however little of it is needed: 29 % more frames than in ``dac_44khz``, and more still
for short clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np

from codecbench.audio import Audio, Clip
from codecbench.models.base import Codes, SideInfo
from codecbench.models.dac import DAC44, make_card
from codecbench.models.loudness import loudness
from codecbench.models.whole_clip import Network

if TYPE_CHECKING:
    from torch import nn

    from codecbench.models.blocks.dac import DACNetwork

LEVEL = -16.0
"""Of what is coded, in LUFS."""
SAMPLES, FRAMES = 28_522, 72
"""Of a window: samples that it puts out, and its frames."""


class DAC44Chunked(DAC44):
    """DAC, 44.1 kHz, 9 codebooks at 111 Hz, in windows."""

    zero_padded = False
    card = replace(
        make_card("dac_44khz_chunked", 44_100, SAMPLES / FRAMES, 9, file=DAC44.card.weights[0], ahead=None),
        side=(SideInfo("loudness", "float32"),),
    )

    def __init__(self, network: nn.Module, device: str, *, compiled: bool = False) -> None:
        from codecbench.models.blocks.dac_windows import WindowedDAC

        super().__init__(network, device, compiled=compiled)
        windowed = WindowedDAC(cast("DACNetwork", network))
        self._network = cast("Network", windowed)
        if compiled:
            from codecbench.models.blocks.compiled import compile_network

            compile_network(windowed.inner, device)

    def _encode(self, clips: Sequence[Clip], codebooks: int | None) -> list[Codes]:
        levels = [np.float32(loudness(clip.samples[0], clip.sample_rate)) for clip in clips]
        coded = super()._encode([_levelled(clip, level) for clip, level in zip(clips, levels, strict=True)], codebooks)
        return [
            replace(codes, side={"loudness": np.array([level])}) for codes, level in zip(coded, levels, strict=True)
        ]

    def _decode(self, items: Sequence[Codes]) -> list[Audio]:
        # The release measures the loudness of all that comes out, also of what is then cut off.
        whole = super()._decode([replace(item, length=len(item.streams[0]) * self.shape().hop) for item in items])
        return [_restored(samples, item) for samples, item in zip(whole, items, strict=True)]


def _levelled(clip: Clip, level: np.float32) -> Clip:
    """`clip` of the loudness `level` at `LEVEL`, or as near to it as its peak allows."""
    samples = _amplify(clip.samples, LEVEL - level)
    peak = np.abs(samples).max()
    if peak > 1:
        samples *= 1 / peak
    return Clip(samples, clip.sample_rate)


def _restored(samples: Audio, item: Codes) -> Audio:
    """`samples` as long and as loud as `item` says that they were."""
    gain = item.side["loudness"][0] - np.float32(loudness(samples[0], item.sample_rate))
    return _amplify(samples[:, : item.length], gain)


def _amplify(samples: Audio, decibels: np.float32) -> Audio:
    return np.asarray(samples * np.exp(decibels * np.float32(np.log(10) / 20)), np.float32)


SYSTEMS = (DAC44Chunked,)
