"""The arithmetic coder: exact for any symbols, near the entropy, and equal to the released EnCodec's."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from codecbench.models.arithmetic import FLOOR, TOTAL, Decoder, Encoder, quantised_cdf

FOLDER = Path(__file__).parents[1] / "golden"
GOLDEN = np.load(FOLDER / "encodec_lm.npz")
RECIPE = runpy.run_path(str(FOLDER / "checkpoints.py"))


def code(pushed: list[int], cdfs: list[NDArray[np.int64]]) -> bytes:
    coder = Encoder()
    for symbol, cdf in zip(pushed, cdfs, strict=True):
        coder.push(symbol, cdf)
    return coder.finish()


@st.composite
def messages(draw: st.DrawFn) -> list[tuple[int, list[int]]]:
    """Symbols with their distributions, of shares from the least that is allowed to nearly all."""
    message = []
    for _ in range(draw(st.integers(0, 60))):
        size = draw(st.integers(1, 40))
        rest = TOTAL - FLOOR * size
        cuts = sorted(draw(st.lists(st.integers(0, rest), min_size=size, max_size=size)))
        edges = [cut + FLOOR * (k + 1) for k, cut in enumerate(cuts)]
        message.append((draw(st.integers(0, size - 1)), edges))
    return message


@given(messages(), st.binary(max_size=3))
def test_any_symbols_come_back_from_their_own_bytes(message: list[tuple[int, list[int]]], after: bytes) -> None:
    coder = Encoder()
    for symbol, cdf in message:
        coder.push(symbol, cdf)
    data = coder.finish()
    decoder = Decoder(data + after)
    assert [decoder.pull(cdf) for _, cdf in message] == [symbol for symbol, _ in message]
    assert decoder.consumed == len(data)


@given(st.integers(0, 2**32 - 1), st.integers(2, 1500), st.floats(0, 40))
def test_distributions_are_made_of_shares_within_the_whole(seed: int, size: int, steepness: float) -> None:
    logits = steepness * np.random.RandomState(seed).standard_normal(size)
    weight = np.exp(logits - logits.max())
    cdf = quantised_cdf((weight / weight.sum()).astype(np.float32))
    shares = np.diff(cdf, prepend=0)
    assert cdf[-1] <= TOTAL
    assert (shares[cdf < TOTAL] >= FLOOR).all()
    likeliest = int(weight.argmax())
    assert Decoder(code([likeliest], [cdf])).pull(cdf) == likeliest


def test_the_length_is_the_entropy() -> None:
    rng = np.random.RandomState(0)
    probabilities = np.array([0.9, 0.05, 0.03, 0.02], np.float32)
    cdf = quantised_cdf(probabilities)
    pushed = rng.choice(4, size=5_000, p=[0.9, 0.05, 0.03, 0.02]).tolist()
    data = code(pushed, [cdf] * len(pushed))
    ideal = -np.log2(np.diff(cdf, prepend=0)[pushed] / TOTAL).sum()
    assert ideal <= 8 * len(data) <= ideal + 40
    decoder = Decoder(data)
    assert [decoder.pull(cdf) for _ in pushed] == pushed


def test_equal_to_the_release() -> None:
    pushed = RECIPE["symbols"]()
    cdfs = [quantised_cdf(RECIPE["distribution"](k)) for k in range(len(pushed))]
    np.testing.assert_array_equal(np.stack(cdfs)[:, ::100], GOLDEN["coder/cdf"])
    data = code(pushed, cdfs)
    assert data == GOLDEN["coder/bytes"].tobytes()
    assert len(data) > 200
    decoder = Decoder(data)
    assert [decoder.pull(cdf) for cdf in cdfs] == pushed


def test_a_certain_symbol_costs_nothing_and_the_impossible_can_be_said() -> None:
    certain = quantised_cdf(np.eye(1024, dtype=np.float32)[7])
    assert len(code([7] * 10_000, [certain] * 10_000)) < 200
    data = code([7, 0, 7, 900, 7], [certain] * 5)
    decoder = Decoder(data)
    assert [decoder.pull(certain) for _ in range(5)] == [7, 0, 7, 900, 7]


def test_a_symbol_without_a_share_is_refused() -> None:
    crowded = np.array([TOTAL - 1, TOTAL, TOTAL], np.int64)
    with pytest.raises(ValueError, match=f"a share from {TOTAL} to {TOTAL} of {TOTAL} is too small"):
        Encoder().push(2, crowded)
    with pytest.raises(ValueError, match="symbol 3 is none of 3"):
        Encoder().push(3, crowded)


def test_damaged_bytes_are_noticed() -> None:
    cdf = quantised_cdf(np.full(1024, 1 / 1024, np.float32))
    data = code(list(range(100)), [cdf] * 100)
    decoder = Decoder(data[:-1])
    assert [decoder.pull(cdf) for _ in range(97)] == list(range(97))
    with pytest.raises(ValueError, match=f"truncated: the {len(data) - 1} bytes end before the symbols do"):
        _ = [decoder.pull(cdf) for _ in range(3)]
    with pytest.raises(ValueError, match="corrupt: no symbol's share holds what byte 2 ends in"):
        Decoder(b"\xff\xff\xff").pull([2, 4])
