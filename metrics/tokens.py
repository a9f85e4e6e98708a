"""Token statistics of a codec over a corpus: how much of its codebooks and of its bitrate it really uses.

Not metrics of one recording: they are computed once per stream, from the histogram of all tokens of a corpus.

Entropy
    of a stream's tokens without regard to order (zeroth order), in bits a token: what an ideal entropy coder without
    memory would spend, at most log2 of the codebook size. Times the token rate it is a bitrate in kbps; the sum over
    streams bounds from above what any coder needs. The estimate from counts ("plug-in") is too low, by about
    ``(m - 1) / (2 N ln 2)`` bits for ``m`` distinct codes among ``N`` tokens; `Stream.entropy_corrected` adds that
    term. Miller, "Note on the bias of information estimates", 1955.

Perplexity
    ``2 ** entropy``: the size of a codebook whose equally likely codes would carry as much.

Utilisation
    share of a codebook met in a fixed number of tokens. The share met in a whole corpus grows with the corpus, so
    it compares nothing; here the expected number of distinct codes in `BUDGET` tokens drawn from the corpus without
    replacement is exact (rarefaction; Hurlbert, Ecology 52(4), 1971). None where there are fewer tokens.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, log

import numpy as np
from numpy.typing import NDArray

BUDGET = 10_000
"""Tokens of a stream on which utilisation is measured: 2.2 minutes of a stream at 75 Hz, 13 at 12.5 Hz."""

Codes = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Histogram:
    """How often each code occurs in one stream: ascending `codes` ``[m]`` with their positive `counts` ``[m]``."""

    codes: NDArray[np.int64]
    counts: NDArray[np.int64]

    @property
    def tokens(self) -> int:
        """Number of tokens, ``N``."""
        return int(self.counts.sum())


@dataclass(frozen=True)
class Stream:
    """The statistics of one stream; entropies are in bits a token, rates a second. None: too few tokens."""

    codebook_size: int
    tokens: int
    distinct: int
    token_rate: float
    entropy: float | None
    entropy_corrected: float | None
    entropy_kbps: float | None
    perplexity: float | None
    utilisation: float | None


def encode_histograms(streams: Sequence[Codes]) -> str:
    """The histograms of one utterance as short ASCII text.

    Args:
        streams: ``K`` integer arrays ``[F_k]``, not negative.
    """
    pairs = []
    for stream in streams:
        codes, counts = np.unique(stream.astype(np.int64), return_counts=True)
        pairs.append([np.diff(codes, prepend=0).tolist(), counts.tolist()])  # small steps compress to half
    return base64.b85encode(zlib.compress(json.dumps(pairs, separators=(",", ":")).encode())).decode("ascii")


def decode_histograms(text: str) -> tuple[Histogram, ...]:
    """The ``K`` histograms in `text`; ValueError if `encode_histograms` did not write it."""
    try:
        pairs = json.loads(zlib.decompress(base64.b85decode(text)))
        return tuple(
            Histogram(np.cumsum(np.asarray(steps, np.int64)), np.asarray(counts, np.int64)) for steps, counts in pairs
        )
    except (ValueError, TypeError, zlib.error) as error:
        raise ValueError(f"not the text of token histograms: {text[:40]!r}") from error


def merge(texts: Iterable[str]) -> tuple[Histogram, ...]:
    """The histograms of a corpus from those of its utterances, all with the same number of streams.

    Raises:
        ValueError: No texts, numbers of streams that differ, or a text that `encode_histograms` did not write.
    """
    totals: list[dict[int, int]] = []
    for position, text in enumerate(texts):
        histograms = decode_histograms(text)
        if position == 0:
            totals = [{} for _ in histograms]
        if len(histograms) != len(totals):
            raise ValueError(f"an utterance has {len(histograms)} streams, those before it have {len(totals)}")
        for total, histogram in zip(totals, histograms, strict=True):
            for code, count in zip(histogram.codes.tolist(), histogram.counts.tolist(), strict=True):
                total[code] = total.get(code, 0) + count
    return tuple(
        Histogram(np.array(sorted(total), np.int64), np.array([total[code] for code in sorted(total)], np.int64))
        for total in totals
    )


def describe(
    histograms: Sequence[Histogram], codebook_sizes: Sequence[int], seconds: float, budget: int = BUDGET
) -> list[Stream]:
    """The statistics of each stream.

    Args:
        histograms: ``K`` histograms of a corpus.
        codebook_sizes: ``K`` sizes.
        seconds: Duration of the corpus.
        budget: Tokens on which utilisation is measured.
    """
    if seconds <= 0:
        raise ValueError(f"a corpus lasts longer than {seconds} s")
    return [_describe(*pair, seconds, budget) for pair in zip(histograms, codebook_sizes, strict=True)]


def _describe(histogram: Histogram, codebook_size: int, seconds: float, budget: int) -> Stream:
    if len(histogram.codes) and int(histogram.codes[-1]) >= codebook_size:
        raise ValueError(f"code {histogram.codes[-1]} in a codebook of {codebook_size}")
    bits = entropy(histogram)
    rate = histogram.tokens / seconds
    met = expected_distinct(histogram, budget)
    return Stream(
        codebook_size=codebook_size,
        tokens=histogram.tokens,
        distinct=len(histogram.codes),
        token_rate=rate,
        entropy=bits,
        entropy_corrected=None if bits is None else bits + entropy_bias(histogram),
        entropy_kbps=None if bits is None else bits * rate / 1000,
        perplexity=None if bits is None else 2**bits,
        utilisation=None if met is None else met / codebook_size,
    )


def entropy(histogram: Histogram) -> float | None:
    """Plug-in entropy in bits a token, in [0, log2 of the number of distinct codes]; None without tokens."""
    if not histogram.tokens:
        return None
    share = histogram.counts / histogram.tokens
    return float(np.sum(share * -np.log2(share))) + 0.0  # no minus zero


def entropy_bias(histogram: Histogram) -> float:
    """The bits a token by which the plug-in entropy is too low, to first order (Miller and Madow)."""
    return (len(histogram.codes) - 1) / (2 * histogram.tokens * log(2))


def expected_distinct(histogram: Histogram, budget: int) -> float | None:
    """Expected number of distinct codes among `budget` tokens drawn without replacement; None if there are fewer.

    A code that occurs ``n`` times among ``N`` tokens is missed by ``b`` draws with probability
    ``C(N - n, b) / C(N, b)``, the product over ``j < n`` of ``1 - b / (N - j)``.
    """
    total = histogram.tokens
    if budget < 1:
        raise ValueError(f"a budget is at least 1 token, got {budget}")
    if total < budget:
        return None
    # A sum of log1p keeps every digit where differences of log-gammas of large counts lose them. Each term is below
    # -budget / total, so that codes with more than 40 * total / budget tokens are missed less than once in 1e17.
    terms = min(int(histogram.counts.max()), total - budget, ceil(40 * total / budget))
    log_miss = np.concatenate([[0.0], np.cumsum(np.log1p(-budget / (total - np.arange(terms))))])
    missable = histogram.counts[histogram.counts <= terms]
    return float(len(histogram.counts) - len(missable) - np.expm1(log_miss[missable]).sum())
