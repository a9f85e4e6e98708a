"""The bitstream: lossless, as small as promised, and clear about damage."""

from math import ceil, log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecbench.models.base import Codes
from codecbench.models.bitstream import BLOCK, BitstreamError, pack, stream_bits, unpack

SIZES = st.one_of(st.integers(1, 5000), st.sampled_from([2, 16, 1000, 1024, 4096, 65536, 2**31, 2**40]))


@st.composite
def any_codes(draw: st.DrawFn) -> Codes:
    sizes = draw(st.lists(SIZES, max_size=4))
    streams = []
    for size in sizes:
        frames = draw(st.integers(0, 40) | st.just(BLOCK + 3))
        seed = draw(st.integers(0, 2**32 - 1))
        streams.append(np.random.default_rng(seed).integers(0, size, frames))
    side = {}
    if draw(st.booleans()):
        side["scale"] = np.array(draw(st.lists(st.floats(width=32, allow_nan=False), max_size=4)), dtype=np.float32)
    packets = () if streams else tuple(draw(st.lists(st.binary(max_size=300), max_size=5)))
    return Codes(
        length=draw(st.integers(0, 2**40)),
        sample_rate=draw(st.sampled_from([8000, 16000, 44100])),
        channels=draw(st.integers(1, 8)),
        streams=tuple(streams),
        codebook_sizes=tuple(sizes),
        side=side,
        packets=packets,
    )


def assert_equal(a: Codes, b: Codes) -> None:
    assert (a.length, a.sample_rate, a.channels, a.codebook_sizes) == (
        b.length, b.sample_rate, b.channels, b.codebook_sizes)  # fmt: skip
    assert a.packets == b.packets
    assert len(a.streams) == len(b.streams)
    assert all(np.array_equal(x, y) for x, y in zip(a.streams, b.streams, strict=True))
    assert a.side.keys() == b.side.keys()
    assert all(a.side[k].dtype == b.side[k].dtype and np.array_equal(a.side[k], b.side[k]) for k in a.side)


@given(any_codes())
def test_any_codes_survive_the_round_trip(codes: Codes) -> None:
    assert_equal(unpack(pack(codes).to_bytes()), codes)


@given(any_codes())
def test_bits_are_the_fewest_that_hold_the_tokens(codes: Codes) -> None:
    ideal = sum(len(s) * log2(n) for s, n in zip(codes.streams, codes.codebook_sizes, strict=True))
    blocks = sum(ceil(len(s) / BLOCK) for s in codes.streams)
    side = sum(array.nbytes * 8 for array in codes.side.values())
    if codes.streams:
        assert ideal - 1e-6 <= pack(codes).bits - side <= ideal + blocks + 7


@given(any_codes(), st.data())
def test_every_truncation_is_a_clear_error(codes: Codes, data: st.DataObject) -> None:
    packed = pack(codes).to_bytes()
    cut = data.draw(st.integers(0, len(packed) - 1))
    with pytest.raises(BitstreamError):
        unpack(packed[:cut])


@given(any_codes(), st.data())
def test_every_flipped_bit_is_a_clear_error(codes: Codes, data: st.DataObject) -> None:
    packed = bytearray(pack(codes).to_bytes())
    bit = data.draw(st.integers(0, 8 * len(packed) - 1))
    packed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BitstreamError):
        unpack(bytes(packed))


def test_messages_name_the_damage() -> None:
    packed = pack(Codes(10, 16000, packets=(b"abcdef", b"ghi"))).to_bytes()
    with pytest.raises(BitstreamError, match=r"truncated: the payload needs 11 bytes at byte \d+, got 10"):
        unpack(packed[:-1])
    with pytest.raises(BitstreamError, match="checksum differs"):
        unpack(packed[:-1] + b"x")
    with pytest.raises(BitstreamError, match="1 bytes follow"):
        unpack(packed + b"x")
    with pytest.raises(BitstreamError, match="does not start with the expected mark"):
        unpack(b"RIFF" + packed)


@pytest.mark.parametrize(
    ("size", "frames", "bits"),
    [(1024, 75, 750), (1, 500, 0), (3, 5, 8), (1000, 100, 997), (2, 9, 9), (4096, 1, 12)],
)
def test_bits_derived_by_hand(size: int, frames: int, bits: int) -> None:
    # 3**5 = 243 fits 8 bits; 1000**100 = 10**300 fits 997 bits (300 * log2(10) = 996.58).
    assert stream_bits(size, frames) == bits


def test_encodec_at_6_kbps_is_6_kbps() -> None:
    streams = tuple(np.zeros(750, dtype=np.int64) for _ in range(8))
    assert pack(Codes(240_000, 24_000, 1, streams, (1024,) * 8)).bits / 10 == 6000


def test_sizes_of_uneven_packets_are_charged_and_of_even_ones_are_not() -> None:
    assert pack(Codes(1, 8000, packets=(b"ab", b"cd"))).bits == 32
    assert pack(Codes(1, 8000, packets=(b"abc", b"d"))).bits == 32 + 16


@pytest.mark.parametrize(
    ("streams", "sizes", "message"),
    [
        ((np.zeros(3),), (4,), "not integers"),
        ((np.zeros((1, 3), dtype=int),), (4,), "not integers"),
        ((np.array([0, 4]),), (4,), r"outside \[0, 4\)"),
        ((np.array([-1]),), (4,), r"outside \[0, 4\)"),
        ((np.array([0]),), (), "1 streams but 0 codebook sizes"),
    ],
)
def test_impossible_codes_are_refused(streams: tuple[np.ndarray, ...], sizes: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Codes(10, 8000, 1, streams, sizes)
