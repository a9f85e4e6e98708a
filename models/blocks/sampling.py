"""Drawing tokens from logits: restrictions, repetition control, guidance, and a random state for every request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Generic, TypeVar

import torch
from torch import Tensor

from codecbench.models.base import Request, Sampling

NEVER = float("-inf")
"""The logit of a token that cannot be drawn."""
Given = TypeVar("Given")
"""What comes before an answer, as a network takes it."""


def top_k(logits: Tensor, k: int) -> Tensor:
    """`logits` ``[..., N]`` with all below the `k` highest at `NEVER`; all equal to the last of them stay. 0: as is."""
    if k <= 0 or k >= logits.shape[-1]:
        return logits
    least = logits.topk(k, dim=-1).values[..., -1:]
    return logits.masked_fill(logits < least, NEVER)


def top_p(logits: Tensor, p: float) -> Tensor:
    """`logits` ``[..., N]`` without the tail: only the fewest most likely tokens stay that together reach `p`.

    Nucleus sampling (arXiv:1904.09751). Of tokens that are equally likely, the one with the lower id counts first.
    """
    if p >= 1:
        return logits
    ranked, ids = logits.sort(dim=-1, descending=True, stable=True)
    probabilities = ranked.softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities
    dropped = before >= p
    dropped[..., 0] = False
    return logits.masked_fill(torch.zeros_like(dropped).scatter(-1, ids, dropped), NEVER)


def guide(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance: from the unconditional logits, `scale` times the way to the conditional ones.

    1 is the conditional logits, and more goes beyond them; MusicGen (arXiv:2306.05284) takes 3.
    """
    return conditional if scale == 1 else unconditional + scale * (conditional - unconditional)


@dataclass(frozen=True, eq=False)
class Guidance(Generic[Given]):
    """Classifier-free guidance of answers whose tokens tell of the text too.

    Attributes:
        scale: As of `guide`.
        untold: Of each request, what comes before the answer if there is no text.
        unheard: The tokens that tell of the text: where there is none, the token before each is heard again.
    """

    scale: float
    untold: Sequence[Given]
    unheard: range


def unmarked(tokens: Tensor, unheard: range) -> Tensor:
    """`tokens` ``[..., F]``, those of `unheard` replaced by the last before them that is none, if there is any."""
    told = (tokens >= unheard.start) & (tokens < unheard.stop)
    places = torch.arange(tokens.shape[-1], device=tokens.device).expand_as(tokens).masked_fill(told, 0)
    return tokens.gather(-1, places.cummax(dim=-1).values)


def penalise_repetition(logits: Tensor, history: Tensor, penalty: float) -> Tensor:
    """Make tokens of `history` less likely: a positive logit is divided by `penalty`, a negative one multiplied.

    CTRL (arXiv:1909.05858, section 4.1).

    Args:
        logits: ``[..., N]``.
        history: Tokens ``[..., H]``, each at least once; how often does not matter.
        penalty: 1 for none, more to avoid repetition.
    """
    if history.shape[-1] == 0 or penalty == 1:
        return logits
    found = logits.gather(-1, history)
    return logits.scatter(-1, history, torch.where(found > 0, found / penalty, found * penalty))


def restrict(logits: Tensor, sampling: Sampling) -> Tensor:
    """`logits` ``[..., N]`` over the temperature, then within top-k, then within top-p; not for temperature 0."""
    return top_p(top_k(logits / sampling.temperature, sampling.top_k), sampling.top_p)


def generator(seed: int, request: Request | None = None) -> torch.Generator:
    """A random state that depends on `seed` and on what `request` asks, not on its place or company in a batch.

    It is a CPU's wherever the logits are, so that the numbers drawn do not depend on the device.
    """
    digest = blake2b(repr(seed).encode(), digest_size=8)
    if request is not None:
        words = (request.text, request.transcript, request.language, request.source_language)
        digest.update(repr((request.task, *words)).encode())
        for clip in (request.audio, request.reference):
            digest.update(repr(clip and (clip.sample_rate, clip.samples.shape)).encode())
            digest.update(clip.samples.tobytes() if clip else b"")
    return torch.Generator().manual_seed(int.from_bytes(digest.digest(), "big") >> 1)


def pick(logits: Tensor, random: torch.Generator) -> Tensor:
    """Draw a token from each row of `logits` ``[..., N]``: tokens ``[...]``.

    The draw inverts the distribution at one uniform number a row, in double precision.

    Raises:
        ValueError: Every token of a row is at `NEVER`, or a logit is not a number.
    """
    probabilities = logits.detach().to("cpu", torch.float64).softmax(dim=-1)
    if not bool(torch.isfinite(probabilities).all()):
        raise ValueError("nothing can be drawn: all logits of a row are -inf, or one is not a number")
    reached = probabilities.cumsum(dim=-1)
    whole = reached[..., -1:]
    level = torch.rand(whole.shape, generator=random, dtype=torch.float64) * whole
    level = torch.minimum(level, torch.nextafter(whole, torch.zeros_like(whole)))  # rounding must not reach the end
    return torch.searchsorted(reached, level, right=True)[..., 0].to(logits.device)


def draw(logits: Tensor, sampling: Sampling, random: torch.Generator) -> Tensor:
    """A token of each row of `logits` ``[..., N]``: the likeliest at temperature 0, else a random one.

    Of equally likely ones, greedy takes the lowest id.
    """
    if sampling.temperature == 0:
        return _likeliest(logits)
    return pick(restrict(logits, sampling), random)


def _likeliest(logits: Tensor) -> Tensor:
    return (logits == logits.amax(dim=-1, keepdim=True)).to(torch.uint8).argmax(dim=-1)


def drawer(requests: Sequence[Request], sampling: Sampling) -> Callable[[int, Tensor], Tensor]:
    """A function of the number of one of `requests` and its logits ``[..., N]`` that draws its tokens ``[...]``."""
    states = [generator(sampling.seed, request) for request in requests]
    return lambda number, logits: draw(logits, sampling, states[number])


def sampler(request: Request, sampling: Sampling, count: int) -> Callable[[int, Tensor], Tensor]:
    """As `drawer`, of `count` answers to one request: the seeds go up by one."""
    states = [generator(sampling.seed + number, request) for number in range(count)]
    return lambda number, logits: draw(logits, sampling, states[number])


def draw_repetition_aware(
    logits: Tensor, history: Sequence[int], sampling: Sampling, random: torch.Generator, *,
    window: int = 10, threshold: float = 0.1,
) -> int:  # fmt: skip
    """Repetition-aware sampling of VALL-E 2 (arXiv:2406.05370, section 3.3): nucleus sampling that leaves a loop.

    A token is drawn as by `draw`. If it makes up more than `threshold` of the last `window` tokens, one is drawn from
    the whole distribution instead.

    Args:
        logits: ``[N]``.
        history: Tokens so far, at any length.
        sampling: As of `draw`.
        random: Of the request.
        window: Tokens looked back at; the ratio is over `window` even where there are fewer.
        threshold: Ratio above which the token counts as repeated.
    """
    token = int(draw(logits, sampling, random))
    if list(history[-window:]).count(token) / window > threshold:
        whole = logits / sampling.temperature if sampling.temperature else logits
        return int(pick(whole, random))
    return token


def unmask(confidence: Tensor, masked: Tensor, count: int) -> Tensor:
    """Which frames ``[F]`` an iteration of masked decoding accepts: of those `masked`, the `count` most confident.

    What is accepted stays so; `patterns.cosine_counts` gives the counts. Of equally confident ones, the first count.
    """
    ranked = confidence.masked_fill(~masked, NEVER).argsort(descending=True, stable=True)
    ranked = ranked[masked[ranked]][:count]
    return torch.zeros_like(masked).scatter(0, ranked, value=True)
