"""Latency: codecs whose latency is known by construction, and every registered codec against its card."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf
from typing import Any, ClassVar
from zlib import crc32

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from codecbench.audio import Audio
from codecbench.benchmark.cli import app
from codecbench.errors import CodecbenchError, InvalidSystem
from codecbench.models import dac
from codecbench.models.base import Card, Codec, Codes, LoadOptions, OperatingPoint, Stream
from codecbench.models.blocks.dac import DACNetwork, DACShape
from codecbench.models.latency import Latency, measure_latency
from codecbench.models.registry import all_systems

HOP = 160
SIZE = 2**16


class Known(Codec):
    """Tokens that change with any sample that they may hear, and samples that show one token each."""

    card: ClassVar[Card] = Card(
        "known", "codec", "Known", "control", 8_000, 1, (OperatingPoint("a", streams=1),), (Stream(SIZE, 50.0),)
    )
    ahead = 0
    back = 0
    whole = False
    deaf = False

    def encode(self, clips: Any, point: OperatingPoint) -> list[Codes]:  # noqa: ARG002
        found = []
        for clip in clips:
            x, frames = clip.samples[0], -(-clip.length // HOP)
            heard = [x if self.whole else x[f * HOP : max(f * HOP, (f + 1) * HOP + self.ahead)] for f in range(frames)]
            tokens = np.array([0 if self.deaf else crc32(part.tobytes()) % SIZE for part in heard])
            found.append(Codes(clip.length, 8_000, 1, (tokens,), (SIZE,)))
        return found

    def decode(self, codes: Any) -> list[Audio]:
        outputs = []
        for item in codes:
            frame = np.minimum((np.arange(item.length) + self.back) // HOP, len(item.streams[0]) - 1)
            outputs.append((item.streams[0][frame] / SIZE).astype(np.float32)[None])
        return outputs


def known(**facts: Any) -> Latency:
    codec = type("Variant", (Known,), facts)()
    return measure_latency(codec, codec.card.points[0])


@pytest.mark.parametrize("ahead", [0, HOP, 3 * HOP, 1 - HOP])
@pytest.mark.parametrize("back", [0, 40, HOP, 500])
def test_look_ahead_of_encoder_and_decoder(ahead: int, back: int) -> None:
    found = known(ahead=ahead, back=back)
    assert (found.frame, found.encoder, found.decoder) == (HOP, ahead, back)
    assert found.wait == found.samples == HOP + ahead + back
    assert found.delay is None
    assert found.milliseconds == found.wait / 8


def test_a_nested_codec_is_encoded_at_its_richest_point() -> None:
    points = (OperatingPoint("poor", streams=1), OperatingPoint("rich", streams=2))

    class Nested(Known):
        card = replace(Known.card, points=points, streams=(Stream(SIZE, 50.0),) * 2, nested=True)

        def encode(self, clips: Any, point: OperatingPoint) -> list[Codes]:
            assert point.name == "rich"
            return [replace(codes, streams=codes.streams * 2, codebook_sizes=(SIZE,) * 2)
                    for codes in super().encode(clips, point)]  # fmt: skip

        def decode(self, codes: Any) -> list[Audio]:
            assert {len(item.streams) for item in codes} == {1}
            return super().decode(codes)

    assert measure_latency(Nested(), points[0]).wait == HOP


def test_look_ahead_of_any_length_is_a_lower_bound() -> None:
    found = known(ahead=100)
    assert found.encoder is not None
    assert 0 < found.encoder <= 100
    assert HOP < found.wait <= HOP + 100


def test_a_codec_that_uses_the_whole_clip() -> None:
    found = known(whole=True)
    assert found.encoder == found.wait == inf
    assert found.decoder == 0
    assert found.to_json()["milliseconds"] == "unbounded"


def test_a_codec_that_hears_nothing() -> None:
    with pytest.raises(ValueError, match="the same whatever comes in"):
        known(deaf=True)


@pytest.mark.parametrize("late", [0, 7, -7])
def test_packets_and_delay(late: int) -> None:
    """An output that is late by more than the codec waits for, and one that is early at the cost of waiting."""

    class Shifted(Known):
        card = Card("shifted", "codec", "Known", "control", None, None, (OperatingPoint("a"),))

        def encode(self, clips: Any, point: OperatingPoint) -> list[Codes]:  # noqa: ARG002
            shifted = [-np.pad(clip.samples, [(0, 0), (9, 9)])[:, 9 - late :][:, : clip.length] for clip in clips]
            return [Codes(x.shape[1], 16_000, packets=(x.tobytes(),)) for x in shifted]

        def decode(self, codes: Any) -> list[Audio]:
            return [np.frombuffer(item.packets[0], np.float32)[None] for item in codes]

    codec = Shifted()
    found = measure_latency(codec, codec.card.points[0])
    assert (found.sample_rate, found.frame, found.encoder, found.decoder) == (16_000, None, None, None)
    assert (found.delay, found.wait, found.samples) == (late, 1 - late, 1)


def marking(network: nn.Module) -> nn.Module:
    """`network`, made to give 1 at every time step that anything in its input can reach, and 0 elsewhere."""

    def mark(_module: nn.Module, _given: object, output: torch.Tensor) -> torch.Tensor:
        return (output > 0.5).float()

    for part in network.modules():
        if isinstance(part, nn.Conv1d | nn.ConvTranspose1d):
            nn.utils.parametrize.remove_parametrizations(part, "weight")
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)  # type: ignore[arg-type]
            part.register_forward_hook(mark)
    return network


@torch.inference_mode()
@pytest.mark.parametrize("strides", [(2, 4), (4, 3), (2, 5, 2)])
def test_the_look_ahead_of_dac_is_that_of_its_windows(strides: tuple[int, ...]) -> None:
    network = DACNetwork(DACShape(strides, 1, 1, width=1, decoder_width=16))
    encoder, decoder, hop, frames = marking(network.encoder), marking(network.decoder), network.net.hop, 96
    samples = 48 * hop + torch.arange(hop)
    x = torch.nn.functional.one_hot(samples, frames * hop)[:, None].float()
    first = encoder(x)[:, 0].argmax(dim=1)  # argmax is the first of equals
    needed = int((samples + 1 - (first + 1) * hop).max())
    z = torch.zeros(1, 1, frames)
    z[..., 48] = 1
    decoded = decoder(z)[0, 0]
    early = 48 * hop - (int(decoded.nonzero()[0]) + frames * hop - len(decoded))
    assert early > 3 * hop
    assert dac.lookahead(strides) == needed + (hop - 1 + early) // hop * hop


FRAMES = {"opus": 960, "amr_nb": 160, "g722": 2, "g726": 1, "codec2": 320, "identity": 1, "encodec_24khz_lm": 320}
"""Of codecs that send packets and are causal, in samples."""
UNBOUNDED = {"noise", "dac_44khz_chunked", "funcodec_en_ds320", "freqcodec_en_gr1", "hificodec_16k_320d"}
"""Codecs that measure the whole clip, or normalise over it."""
FAMILIES = (
    "encodec_24khz", "encodec_48khz", "speechtokenizer_hubert_avg", "dac_16khz", "soundstream_24khz",
    "audiodec_24khz_sym", "funcodec_en_ds320", "hificodec_16k_320d",
)  # fmt: skip
"""Slow tests; the conformance checks measure all that are left."""
FAST = {"identity", "resample", "lowpass", "pcm", "mulaw", "noise", "opus", "amr_nb", "g722", "g726"}
CODECS = {
    name: system
    for name, system in all_systems().items()
    if system.card.kind != "lm" and system.card.track != "small"  # whose random weights give all frames one code
}


def test_what_is_measured() -> None:
    assert set(CODECS) > FAST
    assert set(CODECS) > UNBOUNDED
    causal = {name for name, system in CODECS.items() if system.card.causal}
    assert {name for name in causal if not CODECS[name].card.streams} == set(FRAMES)
    assert all(CODECS[name].card.lookahead is not None for name in causal - {"encodec_24khz_lm"})


@pytest.mark.parametrize("name", [*sorted(FAST), *(pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES)])
def test_no_codec_waits_longer_than_its_card_says(name: str) -> None:
    card = CODECS[name].card
    try:
        codec = CODECS[name].load(LoadOptions(random_seed=0))
    except CodecbenchError as error:
        pytest.skip(str(error))
    assert isinstance(codec, Codec)
    found = measure_latency(codec, card.points[-1])
    assert (found.wait == inf) == (name in UNBOUNDED)
    if card.lookahead is not None or card.causal:
        assert found.wait <= (found.frame or FRAMES[name]) + (card.lookahead or 0)
        assert found.encoder is None or found.encoder <= (card.lookahead or 0)
    if card.causal and card.streams:
        assert found.encoder is not None
        assert found.encoder <= 0
        assert found.decoder == 0
    if card.track in {"classical", "control"}:
        assert found.delay in {0, None}


@pytest.mark.parametrize("point", [None, "1.5kbps"])
def test_command(point: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def measure(codec: Codec, point: OperatingPoint) -> Latency:
        seen.extend([codec.card.name, point.name])
        return Latency(24_000, 320, 0, 0, 320, None)

    monkeypatch.setattr("codecbench.models.latency.measure_latency", measure)
    options = ["--point", point] if point else []
    result = CliRunner().invoke(app, ["latency", "encodec_24khz", "--random-weights", "0", "--json", *options])
    assert result.exit_code == 0, result.output
    assert seen == ["encodec_24khz", point or "24kbps"]
    shown = json.loads(result.output)
    assert (shown["milliseconds"], shown["declared_lookahead"], shown["declared_warm_up"]) == (13.333, 0, 2_240)


def test_command_without_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path))
    result = CliRunner().invoke(app, ["latency", "encodec_24khz"])
    assert isinstance(result.exception, InvalidSystem)
    result = CliRunner().invoke(app, ["latency", "encodec_24khz", "--point", "7kbps"])
    assert "has no point '7kbps'; it has 1.5kbps, 3kbps" in str(result.exception)
