"""Generating with a `UnitLM`, token by token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from codecbench.models.blocks.attention import KeyValueCache
from codecbench.models.blocks.prefill import alike
from codecbench.models.blocks.sampling import NEVER
from codecbench.models.blocks.unit_lm import UnitLM


@torch.inference_mode()
def generate(
    network: UnitLM, prompts: Sequence[Tensor], count: int | Sequence[int], *, allowed: Tensor, end: int | None,
    draw: Callable[[int, Tensor], Tensor], use_cache: bool = True,
) -> list[Tensor]:  # fmt: skip
    """Tokens that follow each prompt: up to `count`, the last of which is `end` where it came.

    A prompt that several requests share is run through the network once.

    Args:
        network: The language model.
        prompts: Tokens ``[P]`` of each request, 1 at least.
        count: The most tokens: of all requests, or of each.
        allowed: Which tokens may be drawn ``[N]``.
        end: The token after which a request is done; None for a model that has none.
        draw: Takes the number of a request and logits ``[N]``, and returns a token.
        use_cache: Keep keys and values; else compute all steps anew each time, which gives the same.
    """
    steps, counts = list(prompts), [count] * len(prompts) if isinstance(count, int) else count
    for _ in _grow(network, steps, counts, allowed, end, draw, use_cache=use_cache):
        pass
    parts = zip(steps, prompts, counts, strict=True)
    return [_to_end(own[len(prompt) : len(prompt) + most], end) for own, prompt, most in parts]


@torch.inference_mode()
def stream(
    network: UnitLM, prompt: Tensor, count: int, *, allowed: Tensor, end: int | None, draw: Callable[[Tensor], Tensor],
    use_cache: bool = True,
) -> Iterator[Tensor]:  # fmt: skip
    """As of `generate`, for one request: token by token ``[1]``."""
    steps = [prompt]
    for _ in _grow(network, steps, [count], allowed, end, lambda _, logits: draw(logits), use_cache=use_cache):
        yield steps[0][-1:]


def _grow(
    network: UnitLM, steps: list[Tensor], counts: Sequence[int], allowed: Tensor, end: int | None,
    draw: Callable[[int, Tensor], Tensor], *, use_cache: bool,
) -> Iterator[None]:  # fmt: skip
    """Add a token to each of `steps` at a time; to one that has ended, any."""
    cache: KeyValueCache | None = None
    running, hidden = {b for b, count in enumerate(counts) if count}, ~allowed
    for step in range(max(counts)):
        if cache is not None:
            logits = network(torch.stack([own[-1:] for own in steps]), cache=cache)[:, 0]
        elif use_cache:
            logits, cache = _begin(network, steps, max(counts))
        else:
            logits = _last(network, steps, None)
        logits = logits.masked_fill(hidden, NEVER)
        for b, own in enumerate(steps):
            token = draw(b, logits[b]) if b in running else own[-1]
            steps[b] = torch.cat([own, token.view(1)])
            if step + 1 == counts[b] or (end is not None and int(token) == end):
                running.discard(b)
        yield
        if not running:
            break


def _begin(network: UnitLM, prompts: Sequence[Tensor], room: int) -> tuple[Tensor, KeyValueCache]:
    """Logits ``[B, N]`` of what follows each prompt, and a cache with `room` for more; equal ones are run once."""
    kinds, rows = alike([(own,) for own in prompts])
    longest = max(len(own) for own in prompts)
    cache = network.backbone.cache(len(kinds), longest + room * (len(kinds) == len(prompts)))
    logits = _last(network, [own for (own,) in kinds], cache)
    if len(kinds) == len(prompts):
        return logits, cache
    every = torch.tensor(rows, device=logits.device)
    return logits[every], network.backbone.cache(len(prompts), longest + room).repeat(cache, every)


def _last(network: UnitLM, steps: Sequence[Tensor], cache: KeyValueCache | None) -> Tensor:
    """Logits ``[B, N]`` of what follows `steps` ``[F]`` of each request, none of which are in the `cache`."""
    counts = torch.tensor([len(own) for own in steps], device=steps[0].device)
    level = len({len(own) for own in steps}) == 1
    logits = network(nn.utils.rnn.pad_sequence(list(steps), batch_first=True), cache, None if level else counts)
    found: Tensor = logits[torch.arange(len(steps), device=counts.device), counts - 1]
    return found


def _to_end(tokens: Tensor, end: int | None) -> Tensor:
    """`tokens` up to the first `end`, with it."""
    found = (tokens == end).nonzero() if end is not None else tokens.new_zeros(0)
    return tokens[: int(found[0]) + 1] if len(found) else tokens


@torch.inference_mode()
def loglikelihood(network: UnitLM, tokens: Tensor, longest: int) -> Tensor:
    """Log-probability in nats ``[F - 1]`` of `tokens` ``[F]`` but the first, given those before.

    Of more than `longest` tokens, each window of so many begins with the last of the one before.
    """
    starts = range(0, len(tokens) - 1, longest - 1)
    parts = [network.loglikelihood(tokens[None, start : start + longest])[0] for start in starts]
    return torch.cat(parts) if parts else torch.zeros(0)
