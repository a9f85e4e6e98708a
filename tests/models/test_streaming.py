"""Streaming: a clip in any pieces is coded as in one, without delay and with a memory that does not grow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from codecbench.audio import Audio, Clip
from codecbench.models.audiodec import SYSTEMS as AUDIODEC
from codecbench.models.base import Codec, Codes, LoadOptions, OperatingPoint
from codecbench.models.blocks.causal import EarlyConv1d, HeldConvTranspose1d
from codecbench.models.blocks.conv import Conv1d, ConvStyle, ConvTranspose1d
from codecbench.models.blocks.lstm import SkipLSTM
from codecbench.models.blocks.streaming import Streamed
from codecbench.models.controls import Identity
from codecbench.models.registry import all_systems
from codecbench.models.streaming import join_codes

STREAMING = {name: system for name, system in all_systems().items() if system.card.streaming}
DISTINCT = ("encodec_24khz", "soundstream_24khz", "audiodec_24khz_v1")
"""Systems that between them have every kind of block."""
OTHERS = ("soundstream_16khz", "audiodec_48khz_v0", "audiodec_48khz_c16_sym")
"""Slow tests; the conformance checks stream all that are left, with fewer sizes."""
TIE = 1e-5
"""Relative margin between the best and the second-best entry below which rounding may choose either."""
REFLECT, ZEROS = ConvStyle(causal=True), ConvStyle(causal=True, padding="constant")


def named(names: Sequence[str]) -> list[Any]:
    assert names
    return [pytest.param(name, marks=[] if name in DISTINCT else [pytest.mark.slow], id=name) for name in names]


@pytest.fixture(scope="module", params=named(DISTINCT + OTHERS))
def codec(request: pytest.FixtureRequest) -> Codec:
    codec = STREAMING[request.param].load(LoadOptions(random_seed=0))
    assert isinstance(codec, Codec)
    return codec


def clip(codec: Codec, length: int, seed: int = 0) -> Clip:
    """Noise under an envelope that swings between loud and nearly silent."""
    rate = codec.card.sample_rate or 0
    noise = np.random.default_rng(seed).standard_normal((1, length)) * 0.2
    return Clip((noise * (0.501 + 0.5 * np.sin(2 * np.pi * 3 * np.arange(length) / rate))).astype(np.float32), rate)


def hop(codec: Codec) -> int:
    return round((codec.card.sample_rate or 0) / (codec.card.streams[0].frame_rate or 1))


def richest(codec: Codec) -> OperatingPoint:
    return codec.card.points[-1]


def cut(length: int, sizes: Sequence[int]) -> list[slice]:
    """Pieces of `sizes`, over and over, up to `length`."""
    assert any(sizes)
    pieces: list[slice] = []
    start = 0
    while start < length:
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(slice(start, min(start + size, length)))
        start += size
    return pieces


def streamed_codes(codec: Codec, audio: Clip, sizes: Sequence[int]) -> Codes:
    stream = codec.encode_stream(richest(codec))
    parts = [stream.push(audio.samples[:, piece]) for piece in cut(audio.length, sizes)]
    return join_codes([*parts, stream.finish()])


def frames_of(codes: Codes, piece: slice) -> Codes:
    return replace(codes, streams=tuple(stream[piece] for stream in codes.streams), length=0)


def streamed_audio(codec: Codec, codes: Codes, sizes: Sequence[int]) -> Audio:
    stream = codec.decode_stream(richest(codec))
    parts = [stream.push(frames_of(codes, piece)) for piece in cut(len(codes.streams[0]), sizes)]
    return np.concatenate([*parts, stream.finish(codes.length)], axis=1)[:, : codes.length]


def ties(codec: Any, audio: Clip, whole: int) -> NDArray[np.bool_]:
    """Where ``[K, F]`` rounding may decide, in this codebook or in one before it."""
    network, found = codec._network, []
    with torch.inference_mode():
        padded = np.pad(audio.samples, [(0, 0), (0, -audio.length % whole)])
        residual = network.encoder(torch.tensor(padded)[None]).transpose(1, 2)[0]
        for layer in network.quantiser.layers:
            best, second = layer.scores(residual).topk(2).values.unbind(-1)
            found.append(((best - second) / second.abs()).numpy() < TIE)
            residual = residual - layer.decode(layer.encode(residual))
    return np.logical_or.accumulate(np.stack(found), axis=0)


def check(codec: Codec, audio: Clip, sizes: Sequence[int], frame_sizes: Sequence[int]) -> None:
    (expected,) = codec.encode([audio], richest(codec))
    codes = streamed_codes(codec, audio, sizes)
    assert (codes.length, codes.sample_rate, codes.channels) == (audio.length, audio.sample_rate, 1)
    assert codes.codebook_sizes == expected.codebook_sizes
    differ = np.stack(codes.streams) != np.stack(expected.streams)
    if differ.any():
        tied = ties(codec, audio, hop(codec) if cast("Any", codec).zero_padded else 1)
        assert tied.mean() < 0.02, "this many ties prove nothing"
        assert not (differ & ~tied).any()
    (decoded,) = codec.decode([expected])
    np.testing.assert_allclose(streamed_audio(codec, expected, frame_sizes), decoded, rtol=0, atol=1e-5)


def test_what_streams() -> None:
    assert {*DISTINCT, *OTHERS} < set(STREAMING)
    assert {system.card.name for system in AUDIODEC} < set(STREAMING)
    assert "lyra_v2" in STREAMING


def test_a_codec_that_does_not_stream_says_so() -> None:
    codec = Identity.load(LoadOptions())
    for stream in (codec.encode_stream, codec.decode_stream):
        with pytest.raises(NotImplementedError, match="identity does not stream"):
            stream(richest(codec))


@pytest.mark.parametrize("seconds", [0.5, pytest.param(3.0, marks=pytest.mark.slow)])
def test_pieces_of_all_sizes(codec: Codec, seconds: float) -> None:
    length = round(seconds * (codec.card.sample_rate or 0)) + 1
    step = hop(codec)
    audio = clip(codec, length)
    check(codec, audio, [step, 0, step - 1, 7, step + 1, 3 * step, 1], [1, 0, 3, 8])
    (codes,) = codec.encode([audio], richest(codec))
    assert min(len(set(stream.tolist())) for stream in codes.streams) >= 10, "one code for all would be no test"


@pytest.mark.parametrize("frames", [1, 2, 12])
def test_pieces_of_equal_size(codec: Codec, frames: int) -> None:
    check(codec, clip(codec, 20 * hop(codec)), [frames * hop(codec)], [frames])


def test_one_sample_at_a_time(codec: Codec) -> None:
    length = codec.card.warm_up + 2 * hop(codec) + 3
    check(codec, clip(codec, length), [length - hop(codec) - 2, *[1] * length], [1])


def test_any_clip_in_any_pieces(codec: Codec) -> None:
    step = hop(codec)
    around = st.sampled_from([0, 1, step - 1, step, step + 1, codec.card.warm_up])
    sizes = st.lists(around | st.integers(0, 4_000), min_size=1, max_size=6).filter(lambda sizes: max(sizes) > 30)
    lengths = st.sampled_from([1, 2, step - 1, step, step + 1]) | st.integers(1, 16 * step)
    frames = st.lists(st.integers(0, 12), min_size=1, max_size=4).filter(any)

    @settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(lengths, sizes, frames, st.integers(0, 99))
    def any_pieces(length: int, sizes: list[int], frames: list[int], seed: int) -> None:
        check(codec, clip(codec, length, seed), sizes, frames)

    any_pieces()


def test_tokens_come_as_soon_as_they_can(codec: Codec) -> None:
    """Exactly the frames that the card's look-ahead and warm-up promise: one sample earlier, they are not there."""
    card, step = codec.card, hop(codec)
    assert card.lookahead is not None
    stream, audio, returned, first = codec.encode_stream(richest(codec)), clip(codec, 20 * step), 0, 0
    for piece in cut(audio.length, [1, 30, step - 31]):
        codes = stream.push(audio.samples[:, piece])
        returned += len(codes.streams[0])
        first = first or (returned and piece.stop)
        due = max(0, (piece.stop - card.lookahead) // step) if piece.stop >= card.warm_up else 0
        assert returned == due
        assert codes.length == piece.stop - piece.start
        assert len({len(stream) for stream in codes.streams}) == 1
    assert 0 < first <= max(card.warm_up, step)


def test_samples_come_with_their_frame(codec: Codec) -> None:
    (codes,) = codec.encode([clip(codec, 20 * hop(codec))], richest(codec))
    stream, returned = codec.decode_stream(richest(codec)), 0
    for piece in cut(20, [1]):
        returned += stream.push(frames_of(codes, piece)).shape[1]
        samples = piece.stop * hop(codec)
        assert returned == (samples if samples >= codec.card.warm_up else 0)
    assert stream.finish(codes.length).shape == (1, 0)


def test_memory_does_not_grow(codec: Any) -> None:
    encoder, decoder = codec.encode_stream(richest(codec)), codec.decode_stream(richest(codec))
    audio = clip(codec, 16 * hop(codec))
    sizes = []
    for _ in range(8):
        decoder.push(encoder.push(audio.samples))
        sizes.append(encoder._encoder.state_size() + decoder._decoder.state_size())
    for piece in cut(audio.length, [1, 500]):
        decoder.push(encoder.push(audio.samples[:, piece]))
    sizes.append(encoder._encoder.state_size() + decoder._decoder.state_size())
    assert len(set(sizes)) == 1
    assert 0 < sizes[0] < 400_000


def test_streams_share_weights_and_nothing_else(codec: Any) -> None:
    audio, other = (clip(codec, 12 * hop(codec), seed) for seed in (1, 2))
    alone = streamed_codes(codec, audio, [500])
    one, two = (codec.encode_stream(richest(codec)) for _ in range(2))
    parts = []
    for piece in cut(audio.length, [500]):
        parts.append(one.push(audio.samples[:, piece]))
        two.push(other.samples[:, piece])
    joined = join_codes([*parts, one.finish()])
    assert np.array_equal(np.stack(joined.streams), np.stack(alone.streams))
    ours = {parameter.data_ptr() for parameter in codec._network.encoder.parameters()}
    assert ours
    assert {parameter.data_ptr() for parameter in one._encoder._network.parameters()} == ours


def test_a_poorer_point_streams_its_codebooks(codec: Codec) -> None:
    poorest, audio = codec.card.points[0], clip(codec, 3_000)
    stream = codec.encode_stream(poorest)
    codes = join_codes([stream.push(audio.samples), stream.finish()])
    assert len(codes.streams) == poorest.streams
    decoder = codec.decode_stream(poorest)
    samples = np.concatenate([decoder.push(codes), decoder.finish(3_000)], axis=1)[:, :3_000]
    np.testing.assert_allclose(samples, codec.decode([codes])[0], rtol=0, atol=1e-5)


def test_a_stream_is_for_one_clip() -> None:
    stream = Streamed(Conv1d(1, 1, 7, style=REFLECT))
    stream.finish(torch.zeros(1, 1, 3))
    with pytest.raises(RuntimeError, match="this stream has ended"):
        stream.push(torch.zeros(1, 1, 5))


def test_join_codes() -> None:
    def part(*tokens: int, **changes: Any) -> Codes:
        codes = Codes(3, 8_000, 1, (np.array(tokens, np.int32),), (16,), {"scale": np.ones(2, np.float32)})
        return replace(codes, **changes)

    joined = join_codes([part(1, 2), part(), part(3, length=0)])
    assert (joined.length, joined.sample_rate, joined.codebook_sizes) == (6, 8_000, (16,))
    assert joined.streams[0].tolist() == [1, 2, 3]
    assert joined.side["scale"].tolist() == [1.0] * 6
    assert join_codes([Codes(1, 8_000, packets=(b"a",)), Codes(1, 8_000, packets=(b"b", b"c"))]).packets == (
        b"a", b"b", b"c",
    )  # fmt: skip
    with pytest.raises(ValueError, match="no codes"):
        join_codes([])
    changes: list[dict[str, Any]] = [{"sample_rate": 16_000}, {"codebook_sizes": (32,)}, {"side": {}}]
    for change in changes:
        with pytest.raises(ValueError, match="not of one clip"):
            join_codes([part(1), part(2, **change)])


def blocks() -> dict[str, tuple[nn.Module, int]]:
    """Single blocks of all shapes, each with its input channels."""
    found: dict[str, tuple[nn.Module, int]] = {"lstm": (SkipLSTM(3, 2), 3)}
    for style in (REFLECT, ZEROS):
        found[f"dilated-{style.padding}"] = Conv1d(2, 3, 3, dilation=4, style=style), 2
        found[f"grouped-{style.padding}"] = Conv1d(4, 4, 5, groups=2, bias=False, style=style), 4
        found |= {f"down-{s}-{style.padding}": (Conv1d(2, 3, 2 * s, stride=s, style=style), 2) for s in (2, 5)}
    found["weight-norm"] = Conv1d(2, 3, 8, stride=4, style=ConvStyle("weight", causal=True)), 2
    found["wide"] = Conv1d(2, 3, 11, stride=3, style=ZEROS), 2
    found["early"] = EarlyConv1d(2, 3, 10, stride=5, style=ZEROS), 2
    found |= {f"up-{k}": (ConvTranspose1d(2, 3, k, stride=3, style=ZEROS), 2) for k in (3, 4, 6, 8)}
    found["held"] = HeldConvTranspose1d(2, 3, 6, stride=3, style=ZEROS), 2
    return found


@pytest.mark.parametrize("name", blocks())
@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_block(name: str, data: st.DataObject) -> None:
    block, channels = blocks()[name]
    block.double()
    length = data.draw(st.integers(1, 40))
    x = torch.randn(2, channels, length, dtype=torch.float64)
    edges = sorted([0, *data.draw(st.lists(st.integers(0, length), max_size=6)), length])
    stream = Streamed(block)
    with torch.inference_mode():
        parts = [stream.push(x[..., start:end]) for start, end in pairwise(edges)]
        streamed = torch.cat([*parts, stream.finish(x[..., :0])], dim=-1)
        torch.testing.assert_close(streamed, block(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (Conv1d(1, 1, 3, style=ConvStyle()), "looks ahead"),
        (ConvTranspose1d(1, 1, 4, stride=2, style=ConvStyle()), "looks ahead"),
        (SkipLSTM(1, 1, bidirectional=True), "both ways"),
        (Conv1d(1, 1, 4, stride=4, style=REFLECT), "too little of the past"),
        (HeldConvTranspose1d(1, 1, 9, stride=3, style=ZEROS), "kernels of two strides"),
        (nn.Sequential(nn.ELU(), nn.Conv1d(1, 1, 3)), "'Conv1d' has no counterpart"),
        (nn.GroupNorm(1, 1), "'GroupNorm' has no counterpart"),
    ],
)
def test_what_cannot_be_streamed_is_refused(block: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Streamed(block)
