"""Token after token from a `Backbone`: generation for requests of unequal lengths, with a token for the end.

A network here embeds its own tokens. What its tokens follow, text or audio, comes as vectors: an `Opening`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbench.models.blocks.attention import KeyValueCache
from codecbench.models.blocks.backbone import Backbone
from codecbench.models.blocks.prefill import alike
from codecbench.models.blocks.sampling import Guidance, guide

Draw = Callable[[int, Tensor, Sequence[int]], int]
"""Takes the number of a request, logits ``[N]`` and the tokens so far, and returns a token."""


@dataclass(frozen=True, eq=False)
class Opening:
    """What a request's tokens follow.

    Attributes:
        steps: Vectors ``[S, C]``, 1 at least.
        prefix: How many of them, from the first on, see each other whatever their order.
        place: The number of the first token among its kind.
        manner: A vector ``[C]`` that the network adds to each token.
    """

    steps: Tensor
    prefix: int
    place: int
    manner: Tensor


class Speaker(Protocol):
    """A network that `generate` can run."""

    backbone: Backbone
    head: nn.Linear

    def embed(self, tokens: Tensor, places: Tensor, manner: Tensor) -> Tensor:
        """Vectors ``[B, F, C]`` of `tokens` ``[B, F]`` at `places` ``[B, F]``, in a `manner` ``[B, C]``."""


@torch.inference_mode()
def generate(
    network: Speaker, openings: Sequence[Opening], limit: int | Sequence[int], draw: Draw, end: int, *,
    use_cache: bool = True, guidance: Guidance[Opening] | None = None,
) -> list[tuple[list[int], bool]]:  # fmt: skip
    """The tokens that follow each opening, at most `limit`, and whether they came to the `end` (which is not returned).

    Requests that begin alike are run through the network once up to their first token.

    Args:
        network: The language model.
        openings: Of each request.
        limit: Tokens that may come: of all requests, or of each.
        draw: Draws a token.
        end: The token of the end.
        use_cache: Keep keys and values; else compute all steps anew each time, which gives the same.
        guidance: Goes beyond what the openings say; None for none.
    """
    found: list[list[int]] = [[] for _ in openings]
    ended = [False] * len(openings)
    limits = [limit] * len(openings) if isinstance(limit, int) else limit
    begun = [*openings, *(guidance.untold if guidance else ())]
    steps, _, prefix = _batch(begun)
    places = torch.tensor([opening.place for opening in begun], device=steps[0].device)[:, None]
    manner = torch.stack([opening.manner for opening in begun])
    cache: KeyValueCache | None = None
    new = manner  # until there are tokens
    for step in range(max(limits)):
        if cache is not None:
            hidden = network.backbone(new[:, None], cache=cache, prefix=prefix)[:, 0]
        elif use_cache:
            hidden, cache = _begin(network, steps, prefix, max(limits))
        else:
            hidden = _last(network, steps, prefix, None)
        logits = network.head(hidden)
        if guidance:
            told, untold = logits.chunk(2)
            logits = guide(told, untold, guidance.scale)
        for b, own in enumerate(found):
            if not ended[b] and step < limits[b]:
                own.append(draw(b, logits[b], own))
                ended[b] = own[-1] == end
        if all(over or step + 1 >= most for over, most in zip(ended, limits, strict=True)):
            break
        tokens = torch.tensor([_latest(found, ended), *([_latest(found, ended, guidance.unheard)] if guidance else [])])
        tokens = tokens.view(-1, 1)
        new = network.embed(tokens.to(places.device), places + step, manner)[:, 0]
        if cache is None:
            steps = [torch.cat([own, more[None]]) for own, more in zip(steps, new, strict=True)]
    return [(own[:-1] if over else own, over) for own, over in zip(found, ended, strict=True)]


def _latest(found: Sequence[Sequence[int]], ended: Sequence[bool], unheard: range = range(0)) -> list[int]:
    """The last of the tokens of each request that is none of `unheard`; 0 where there is none, or that is over."""
    heard = ((token for token in reversed(own) if token not in unheard) for own in found)
    return [0 if over else next(own, 0) for own, over in zip(heard, ended, strict=True)]


def _begin(
    network: Speaker, steps: Sequence[Tensor], prefix: Tensor, room: int
) -> tuple[Tensor, KeyValueCache]:  # fmt: skip
    """What `_last` gives, and a cache of all steps with `room` for more; equal requests are run once."""
    kinds, rows = alike(list(zip(steps, prefix, strict=True)))
    longest = max(len(own) for own in steps)
    cache = network.backbone.cache(len(kinds), longest + room * (len(kinds) == len(steps)))
    hidden = _last(network, [own for own, _ in kinds], torch.stack([own for _, own in kinds]), cache)
    if len(kinds) == len(steps):
        return hidden, cache
    every = torch.tensor(rows, device=hidden.device)
    return hidden[every], network.backbone.cache(len(steps), longest + room).repeat(cache, every)


def _last(network: Speaker, steps: Sequence[Tensor], prefix: Tensor, cache: KeyValueCache | None) -> Tensor:
    """The output ``[B, C]`` at the last of `steps` ``[S, C]`` of each request, none of which are in the `cache`."""
    counts = torch.tensor([len(own) for own in steps], device=steps[0].device)
    level = len({len(own) for own in steps}) == 1
    padded = nn.utils.rnn.pad_sequence(list(steps), batch_first=True)
    hidden = network.backbone(padded, cache=cache, counts=None if level else counts, prefix=prefix)
    found: Tensor = hidden[torch.arange(len(steps), device=counts.device), counts - 1]
    return found


def logits(network: Speaker, openings: Sequence[Opening], tokens: Sequence[Tensor]) -> list[Tensor]:
    """Logits ``[F + 1, N]`` of each of a request's `tokens` ``[F]`` and of what follows the last."""
    steps, lengths, prefix = _batch(openings)
    for b, (opening, own) in enumerate(zip(openings, tokens, strict=True)):
        places = opening.place + torch.arange(len(own), device=own.device)
        steps[b] = torch.cat([steps[b], network.embed(own[None], places[None], opening.manner[None])[0]])
    counts = torch.tensor([len(own) for own in steps], device=lengths.device)
    hidden = network.backbone(nn.utils.rnn.pad_sequence(steps, batch_first=True), counts=counts, prefix=prefix)
    starts = (lengths - 1).tolist()
    parts = zip(hidden, starts, counts.tolist(), strict=True)
    return [network.head(own[start:count]) for own, start, count in parts]


def loss(network: Speaker, openings: Sequence[Opening], tokens: Sequence[Tensor], end: int) -> Tensor:
    """Mean cross-entropy in nats of all `tokens` ``[F]`` of all requests, and of the `end` after each."""
    found = logits(network, openings, tokens)
    wanted = [functional.pad(own, (0, 1), value=end) for own in tokens]
    return functional.cross_entropy(torch.cat(found), torch.cat(wanted))


def loglikelihood(network: Speaker, opening: Opening, tokens: Tensor) -> Tensor:
    """Log-probabilities in nats ``[F]`` of `tokens` ``[F]`` after `opening`."""
    (found,) = logits(network, [opening], [tokens])
    return functional.log_softmax(found[:-1], dim=-1).gather(-1, tokens[:, None])[:, 0]


def _batch(openings: Sequence[Opening]) -> tuple[list[Tensor], Tensor, Tensor]:
    steps = [opening.steps for opening in openings]
    device = steps[0].device
    lengths = torch.tensor([len(own) for own in steps], device=device)
    return steps, lengths, torch.tensor([opening.prefix for opening in openings], device=device)
