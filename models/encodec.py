"""EnCodec at 24 kHz (mono, causal) and 48 kHz (stereo), our implementation of arXiv:2210.13438.

Equal to the released code on equal weights. The 24 kHz model is causal but for the first frames of a clip: the release
mirrors the signal at its start, so the first 7 depend on each other, and a stream gives them together.

The 48 kHz model cuts a clip into segments of 1 s that overlap by 1 %, scales each to unit power, and codes each on its
own. The scale of every segment is sent as a 32-bit float. A stream of its codes is the segments' frames one after
another; the decoder works out the segments from the clip's length. Where a clip ends 161 to 320 samples after its last
full stride, the released overlap-add stops with an error; this one decodes such clips too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from codecbench import weights
from codecbench.audio import Audio, Clip
from codecbench.models.base import Card, Codes, LoadOptions, OperatingPoint, SideInfo, Stream
from codecbench.models.whole_clip import WholeClipCodec
from codecbench.weights import WeightFile

if TYPE_CHECKING:
    from torch import Tensor

    from codecbench.models.blocks.seanet import SEANetCodec

HOP = 320
CODEBOOK_SIZE = 1024


def _card(
    name: str, sample_rate: int, channels: int, kbps: Sequence[float], *, file: WeightFile,
    causal: bool, data: tuple[str, ...], side: tuple[SideInfo, ...] = (), **facts: Any,
) -> Card:  # fmt: skip
    frame_rate = sample_rate / HOP
    bits = CODEBOOK_SIZE.bit_length() - 1
    points = tuple(OperatingPoint(f"{rate:g}kbps", rate, round(1000 * rate / (bits * frame_rate))) for rate in kbps)
    return Card(
        name=name, kind="codec", family="EnCodec", track="official", sample_rate=sample_rate, channels=channels,
        points=points, streams=(Stream(CODEBOOK_SIZE, frame_rate),) * (points[-1].streams or 0), nested=True,
        side=side, causal=causal, weights=(file,), weights_licence=file.licence, training_data=data,
        paper="arXiv:2210.13438", **facts,
    )  # fmt: skip


def release_file(name: str) -> WeightFile:
    """The released file; its name ends in the first digits of its hash. Only the code's licence is stated (MIT)."""
    digest = name.removesuffix(".th").rpartition("-")[2]
    return WeightFile(name, f"https://dl.fbaipublicfiles.com/encodec/v0/{name}", digest, licence="not stated")


class Encodec(WholeClipCodec):
    """What both models share."""

    _network: SEANetCodec
    zero_padded = False
    norm: ClassVar[Literal["weight", "group"]]
    """How the convolutions are normalised."""
    segment: ClassVar[tuple[int, int] | None] = None
    """Size and stride of the segments in samples, each scaled to unit power; None to code a clip in one."""

    @classmethod
    def load(cls, options: LoadOptions) -> Encodec:
        """Load the released weights, a file in their format or that of ``transformers``, or random weights."""
        from codecbench.models.blocks.conv import ConvStyle
        from codecbench.models.blocks.seanet import RELEASED_NAMES, TRAINING_STATE, SEANet, build, enliven

        net = SEANet(channels=cls.card.channels or 1, style=ConvStyle(cls.norm, causal=bool(cls.card.causal)))
        seed = options.random_seed
        network = build(net, len(cls.card.streams), CODEBOOK_SIZE, seed=seed or 0)
        if seed is not None:
            # The network hears segments at unit power, and whole clips as they are.
            enliven(network, seed, level=1.0 if cls.segment else 0.1)
        else:
            path = weights.resolve(cls.card.name, cls.card.weights[0], options.weights)
            state = weights.rename_keys(weights.read_state_dict(path), RELEASED_NAMES, drop=TRAINING_STATE)
            weights.load_state(network, state, path)
        return cls(network, options.device, compiled=options.compile)

    @classmethod
    def frames(cls, length: int) -> list[int]:
        """Frames of each segment of a clip of `length` samples."""
        return [-(-(end - start) // HOP) for start, end in cls.spans(length)]

    @classmethod
    def spans(cls, length: int) -> list[tuple[int, int]]:
        """Start and end of each segment of a clip of `length` samples."""
        from codecbench.models.blocks.segment import layout

        return layout(length, *(cls.segment or (length, length)))


def _scale(part: Tensor) -> Tensor:
    """Root mean square of the channels' mean of `part` ``[1, C, T]``; never zero."""
    return part.mean(dim=1).pow(2).mean().sqrt() + 1e-8


class Encodec24(Encodec):
    """EnCodec, 24 kHz, mono, causal."""

    card = _card(
        "encodec_24khz", 24_000, 1, (1.5, 3, 6, 12, 24), file=release_file("encodec_24khz-d7cc33bc.th"),
        data=("DNS Challenge 4", "Common Voice", "AudioSet", "FSD50K", "MTG-Jamendo"),
        causal=True, lookahead=0, warm_up=7 * HOP, streaming=True,
    )  # fmt: skip
    norm = "weight"


class Encodec48(Encodec):
    """EnCodec, 48 kHz, stereo, in segments of 1 s."""

    card = _card(
        "encodec_48khz", 48_000, 2, (3, 6, 12, 24), file=release_file("encodec_48khz-7e698e3e.th"),
        data=("MTG-Jamendo",), causal=False, lookahead=48_000 - HOP, side=(SideInfo("scale", "float32"),),
    )  # fmt: skip
    norm = "group"
    segment = (48_000, 47_520)

    def _encode(self, clips: Sequence[Clip], codebooks: int | None) -> list[Codes]:
        return [self._encode_segments(clip, codebooks) for clip in clips]

    def _decode(self, items: Sequence[Codes]) -> list[Audio]:
        return [self._decode_segments(item) for item in items]

    def _encode_segments(self, clip: Clip, codebooks: int | None) -> Codes:
        import torch

        with torch.inference_mode():
            audio = torch.tensor(clip.samples, device=self._device)[None]
            parts = [audio[..., start:end] for start, end in self.spans(clip.length)]
            scales = [_scale(part) for part in parts]
            found = [self._network.encode(part / scale, codebooks) for part, scale in zip(parts, scales, strict=True)]
            codes = torch.cat(found, dim=-1)[0].to(torch.int32).cpu().numpy()
            side = {"scale": torch.stack(scales).cpu().numpy()}
        return Codes(clip.length, clip.sample_rate, clip.channels, tuple(codes), (CODEBOOK_SIZE,) * len(codes), side)

    def _decode_segments(self, item: Codes) -> Audio:
        import torch

        from codecbench.models.blocks.segment import overlap_add

        with torch.inference_mode():
            codes = torch.tensor(np.stack(item.streams), device=self._device, dtype=torch.long)[None]
            parts = torch.split(codes, self.frames(item.length), dim=-1)
            scales = item.side["scale"].tolist()
            decoded = [self._network.decode(part) * scale for part, scale in zip(parts, scales, strict=True)]
            return np.ascontiguousarray(overlap_add(decoded, self.spans(item.length))[0].cpu().numpy())


SYSTEMS = (Encodec24, Encodec48)
