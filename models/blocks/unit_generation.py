"""Generating with a `UnitLM`, token by token."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from codecbench.models.blocks.sampling import NEVER
from codecbench.models.blocks.unit_lm import UnitLM


@torch.inference_mode()
def generate(
    network: UnitLM, prompts: Sequence[Tensor], count: int, *, allowed: Tensor, end: int | None,
    draw: Callable[[int, Tensor], Tensor], use_cache: bool = True,
) -> list[Tensor]:  # fmt: skip
    """Tokens that follow each prompt: up to `count`, the last of which is `end` where it came.

    Args:
        network: The language model.
        prompts: Tokens ``[P]`` of each request, 1 at least.
        count: The most tokens.
        allowed: Which tokens may be drawn ``[N]``.
        end: The token after which a request is done; None for a model that has none.
        draw: Takes the number of a request and logits ``[N]``, and returns a token.
        use_cache: Keep keys and values; else compute all steps anew each time, which gives the same.
    """
    steps = list(prompts)
    starts = torch.tensor([len(own) for own in prompts], device=prompts[0].device)
    rows = torch.arange(len(prompts), device=starts.device)
    cache = network.backbone.cache(len(prompts), int(starts.max()) + count) if use_cache else None
    running = set(range(len(prompts)))
    for step in range(count):
        whole = cache is None or step == 0
        lengths = starts + step if whole else torch.ones_like(starts)
        padded = nn.utils.rnn.pad_sequence([own if whole else own[-1:] for own in steps], batch_first=True)
        logits = network(padded, cache=cache, counts=lengths if whole else None)[rows, lengths - 1]
        logits = logits.masked_fill(~allowed, NEVER)
        for b, own in enumerate(steps):
            token = draw(b, logits[b]) if b in running else own[-1]
            steps[b] = torch.cat([own, token.view(1)])
            if end is not None and int(token) == end:
                running.discard(b)
        if not running:
            break
    return [_to_end(own[len(prompt) :], end) for own, prompt in zip(steps, prompts, strict=True)]


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
