import json
import tracemalloc
from math import comb, log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from codecbench.metrics.tokens import (
    Histogram,
    decode_histograms,
    describe,
    encode_histograms,
    entropy,
    entropy_bias,
    expected_distinct,
    merge,
)

stream = st.lists(st.integers(0, 40) | st.integers(0, 2**40), max_size=60)
utterance = st.lists(stream, max_size=4)
counts = st.lists(st.integers(1, 12), min_size=1, max_size=8)


def histogram(*of: int) -> Histogram:
    return Histogram(np.arange(len(of), dtype=np.int64), np.array(of, np.int64))


def arrays(streams: list[list[int]]) -> list[NDArray[np.int64]]:
    return [np.array(codes, np.int64) for codes in streams]


@given(streams=utterance)
def test_histograms_survive_their_text(streams: list[list[int]]) -> None:
    text = encode_histograms(arrays(streams))
    assert json.loads(json.dumps(text)) == text
    assert text.isascii()
    decoded = decode_histograms(text)
    assert len(decoded) == len(streams)
    for back, codes in zip(decoded, streams, strict=True):
        assert dict(zip(back.codes.tolist(), back.counts.tolist(), strict=True)) == {c: codes.count(c) for c in codes}
        assert back.tokens == len(codes)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.uint16, np.int64])
def test_any_integer_type_gives_the_same_text(dtype: type) -> None:
    codes = [200, 3, 3, 0] if dtype is np.uint8 else [20_000, 3, 3, 0]
    assert encode_histograms([np.array(codes, dtype)]) == encode_histograms([np.array(codes, np.int64)])


@given(utterances=st.lists(st.tuples(stream, stream), min_size=1, max_size=5))
def test_merged_is_the_histogram_of_all_utterances_in_a_row(utterances: list[tuple[list[int], list[int]]]) -> None:
    merged = merge(encode_histograms(arrays(list(streams))) for streams in utterances)
    whole = decode_histograms(
        encode_histograms(arrays([[c for streams in utterances for c in streams[k]] for k in range(2)]))
    )
    for one, other in zip(merged, whole, strict=True):
        np.testing.assert_array_equal(one.codes, other.codes)
        np.testing.assert_array_equal(one.counts, other.counts)


def test_merge_refuses_streams_that_do_not_match() -> None:
    texts = [encode_histograms(arrays([[1], [2]])), encode_histograms(arrays([[1]]))]
    with pytest.raises(ValueError, match="1 streams, those before it have 2"):
        merge(texts)


@pytest.mark.parametrize("text", ["", "not base85 \x00", "VPRom", encode_histograms([])[:-1]])
def test_foreign_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not the text of token histograms"):
        decode_histograms(text)


def test_text_is_smaller_than_the_codes_it_counts() -> None:
    codes = np.random.default_rng(0).integers(0, 1024, (8, 225))
    assert len(encode_histograms(list(codes))) < 8 * 225 * log2(1024) / 8


@given(size=st.integers(1, 64), each=st.integers(1, 50))
def test_entropy_of_equally_frequent_codes_is_log2_of_their_number(size: int, each: int) -> None:
    assert entropy(histogram(*[each] * size)) == pytest.approx(log2(size), abs=1e-12)


@pytest.mark.parametrize("of", [[1], [3, 1], [5, 4, 3, 2, 1], list(range(1, 200))])
def test_entropy_matches_scipy(of: list[int]) -> None:
    from scipy.stats import entropy as oracle

    assert entropy(histogram(*of)) == pytest.approx(oracle(of, base=2), abs=1e-12)


def test_the_bias_term_removes_most_of_the_bias() -> None:
    rng = np.random.default_rng(1)
    plug_in, bias = [], []
    for _ in range(300):
        drawn = np.bincount(rng.integers(0, 64, 400))
        sample = histogram(*drawn[drawn > 0])
        plug_in.append(entropy(sample) or 0.0)
        bias.append(entropy_bias(sample))
    error = 6 - np.mean(plug_in)
    assert 0.1 < error < 0.13
    assert abs(error - np.mean(bias)) < 0.1 * error


@given(of=counts, data=st.data())
def test_rarefaction_matches_exact_binomials(of: list[int], data: st.DataObject) -> None:
    total = sum(of)
    budget = data.draw(st.integers(1, total))
    exact = sum(1 - comb(total - n, budget) / comb(total, budget) for n in of)
    assert expected_distinct(histogram(*of), budget) == pytest.approx(exact, rel=1e-12)


@given(of=counts, data=st.data())
def test_rarefaction_grows_with_the_budget_to_the_number_of_codes(of: list[int], data: st.DataObject) -> None:
    sample = histogram(*of)
    few, many = sorted(data.draw(st.tuples(*[st.integers(1, sample.tokens)] * 2)))
    low, high = expected_distinct(sample, few), expected_distinct(sample, many)
    assert low is not None
    assert high is not None
    assert low <= high + 1e-9
    assert expected_distinct(sample, 1) == pytest.approx(1)
    assert expected_distinct(sample, sample.tokens) == pytest.approx(len(of))


def test_rarefaction_keeps_its_digits_on_large_corpora() -> None:
    rare = histogram(10**9, *[1] * 1000)  # a thousand codes met once each in a billion tokens
    tracemalloc.start()
    distinct = expected_distinct(rare, 10_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert distinct == pytest.approx(1 + 1000 * 10_000 / rare.tokens, rel=1e-12)
    assert peak < 200e6
    even = histogram(*[10**6] * 1024)
    assert expected_distinct(even, 10_000) == pytest.approx(1024 * (1 - (1 - 1 / 1024) ** 10_000), rel=1e-6)


def test_rarefaction_is_the_mean_of_real_draws() -> None:
    rng = np.random.default_rng(2)
    of = [400, 300, 50, 20, 5, 3, 1, 1]
    tokens = np.repeat(np.arange(len(of)), of)
    drawn = [len(np.unique(rng.choice(tokens, 60, replace=False))) for _ in range(4000)]
    assert expected_distinct(histogram(*of), 60) == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / 4000**0.5)


def test_description_of_a_corpus() -> None:
    uniform, constant, short = histogram(*[40] * 8), Histogram(np.array([5]), np.array([320])), histogram(2, 1)
    first, second, third = describe([uniform, constant, short], [8, 1024, 4], seconds=4.0, budget=100)
    assert (first.tokens, first.distinct, first.token_rate) == (320, 8, 80.0)
    assert first.entropy == pytest.approx(3)
    assert first.entropy_kbps == pytest.approx(0.24)
    assert first.perplexity == pytest.approx(8)
    assert first.utilisation == pytest.approx(1, abs=1e-4)
    assert (second.entropy, second.perplexity, second.utilisation) == (0.0, 1.0, 1 / 1024)
    assert third.entropy is not None
    assert third.utilisation is None


def test_a_stream_without_tokens_has_no_entropy() -> None:
    (empty,) = describe([histogram()], [8], seconds=1.0)
    assert (empty.tokens, empty.token_rate) == (0, 0.0)
    assert {empty.entropy, empty.entropy_corrected, empty.entropy_kbps, empty.perplexity, empty.utilisation} == {None}


def test_wrong_facts_are_refused() -> None:
    with pytest.raises(ValueError, match="code 7 in a codebook of 4"):
        describe([histogram(*[1] * 8)], [4], seconds=1.0)
    with pytest.raises(ValueError, match="lasts longer than 0"):
        describe([histogram(1)], [4], seconds=0.0)
    with pytest.raises(ValueError, match="at least 1 token"):
        expected_distinct(histogram(1), 0)
