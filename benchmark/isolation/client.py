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
        """See `Codec`; all clips have one sample rate."""
        facts = {"sample_rate": clips[0].sample_rate, "point": to_plain(point)}
        samples = tuple(clip.samples for clip in clips)
        cap = _SMALL * len(clips) + 64 * sum(array.size for array in samples)
        answer = self._ask(self._encoder, Message("encode", facts, samples), cap)
        try:
            codes = unwire_many(answer.facts.get("codes"), answer.arrays)
        except ProtocolError as error:
            raise SystemFailure(f"contract(protocol: {error})") from error
        except ValueError as error:
            raise SystemFailure(f"codes({shown(str(error))})") from error
        if len(codes) != len(clips):
            raise SystemFailure("contract(protocol: codes of another number of clips)")
        return codes

    def decode(self, codes: Sequence[Codes]) -> list[Audio]:
        """See `Codec`."""
        facts, arrays = wire_many(codes)
        cap = sum(_SMALL + 32 * item.length * item.channels for item in codes)
        answer = self._ask(self._decoder, Message("decode", {"codes": facts}, arrays), cap)
        if len(answer.arrays) != len(codes):
            raise SystemFailure("contract(protocol: another number of outputs)")
        return list(answer.arrays)
