"""A codec in a process of its own, as the rest of the worker sees it: an ordinary `Codec`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from codecbench.audio import Audio, Clip
from codecbench.benchmark.coding import SystemFailure
from codecbench.benchmark.isolation.hosts import Hosts, HostSettings, Slot, shown
from codecbench.benchmark.isolation.plain import to_plain
from codecbench.benchmark.isolation.protocol import Message, ProtocolError, unwire_many, wire_many
from codecbench.models.base import Card, Codec, Codes, OperatingPoint

_SMALL = 16 << 20


class IsolatedCodec(Hosts, Codec):
    """A codec whose adapter runs in a host; in an audit, encoder and decoder have one each. See `Hosts`."""

    def __init__(self, card: Card, settings: HostSettings) -> None:
        self._encoder = Slot()
        self._decoder = Slot() if settings.audit else self._encoder
        super().__init__(card, settings, (self._encoder, self._decoder) if settings.audit else (self._encoder,))

    def process(self, verb: Literal["encode", "decode"]) -> int | None:
        """See `codecbench.benchmark.coding.Hosted`."""
        slot = self._encoder if verb == "encode" else self._decoder
        self._running(slot)
        return slot.process.process() if slot.process else None

    def encode(self, clips: Sequence[Clip], point: OperatingPoint) -> list[Codes]:
        """See `Codec`; one clip at a time."""
        return [self._encode(clip, point) for clip in clips]

    def _encode(self, clip: Clip, point: OperatingPoint) -> Codes:
        facts = {"sample_rate": clip.sample_rate, "point": to_plain(point)}
        answer = self._ask(self._encoder, Message("encode", facts, (clip.samples,)), _SMALL + 64 * clip.samples.size)
        try:
            codes = unwire_many(answer.facts.get("codes"), answer.arrays)
        except ProtocolError as error:
            raise SystemFailure(f"contract(protocol: {error})") from error
        except ValueError as error:
            raise SystemFailure(f"codes({shown(str(error))})") from error
        if len(codes) != 1:
            raise SystemFailure("contract(protocol: codes of another number of clips)")
        return codes[0]

    def decode(self, codes: Sequence[Codes]) -> list[Audio]:
        """See `Codec`; one item at a time."""
        return [self._decode(item) for item in codes]

    def _decode(self, item: Codes) -> Audio:
        facts, arrays = wire_many([item])
        cap = _SMALL + 32 * item.length * item.channels
        answer = self._ask(self._decoder, Message("decode", {"codes": facts}, arrays), cap)
        if len(answer.arrays) != 1:
            raise SystemFailure("contract(protocol: another number of outputs)")
        return answer.arrays[0]
