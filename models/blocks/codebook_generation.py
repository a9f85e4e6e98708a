"""Generating with a `CodebookLM`, and scoring what there is: codebooks delayed, as in MusicGen (arXiv:2306.05284)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbench.models.blocks import patterns
from codecbench.models.blocks.codebook_lm import CodebookLM
from codecbench.models.blocks.sampling import guide

UNKNOWN = -1
"""In the place of a code that is yet to come."""


@torch.inference_mode()
def generate(
    network: CodebookLM, prompts: Sequence[Tensor], texts: Sequence[Tensor | None], frames: int, *,
    delays: Sequence[int], draw: Callable[[int, Tensor], Tensor], guidance: float = 1.0, use_cache: bool = True,
) -> list[Tensor]:  # fmt: skip
    """Codes ``[K, frames]`` that follow each prompt.

    Args:
        network: The language model.
        prompts: Codes ``[K, P]`` of each request, ``P`` 0 for none.
        texts: Vectors ``[M, C]`` of each request's text, or None.
        frames: How many follow.
        delays: In steps, of each codebook.
        draw: Takes the number of a request and logits ``[K, N]``, and returns codes ``[K]``.
        guidance: How far the logits go from those without text towards, and beyond, those with it; 1 takes them with.
        use_cache: Keep keys and values; else compute all steps anew each time, which gives the same.
    """
    layouts = [patterns.delay(len(delays), past.shape[1] + frames, delays) for past in prompts]
    wanted = [functional.pad(past, (0, frames), value=UNKNOWN) for past in prompts]
    nothing = network.shape.codebook_size
    known = [layout.pack(codes, nothing) for layout, codes in zip(layouts, wanted, strict=True)]
    starts = torch.tensor([1 + past.shape[1] for past in prompts], device=known[0].device)
    steps = [whole[:, :start] for whole, start in zip(known, starts.tolist(), strict=True)]
    count = frames + max(delays)
    guided = guidance != 1 and any(text is not None for text in texts)
    copies = 2 if guided else 1
    memory = network.listen([*texts, *[None] * (len(texts) * (copies - 1))])
    cache = network.backbone.cache(copies * len(prompts), int(starts.max()) + count) if use_cache else None
    for step in range(count):
        whole = cache is None or step == 0
        lengths = (starts + step if whole else torch.ones_like(starts)).repeat(copies)
        columns = [own.T if whole else own.T[-1:] for own in steps]
        padded = nn.utils.rnn.pad_sequence(columns, batch_first=True).mT.repeat(copies, 1, 1)
        logits = network(padded, cache=cache, counts=lengths if whole else None, memory=memory)
        last = logits[torch.arange(len(logits), device=logits.device), :, lengths - 1]
        if guided:
            told, untold = last.chunk(2)
            last = guide(told, untold, guidance)
        for b, own in enumerate(known):
            column = own[:, steps[b].shape[1]]
            column = torch.where(column == UNKNOWN, draw(b, last[b]), column)
            steps[b] = torch.cat([steps[b], column[:, None]], dim=1)
    return [layout.unpack(own)[:, -frames:] for layout, own in zip(layouts, steps, strict=True)]


@torch.inference_mode()
def loglikelihood(network: CodebookLM, codes: Tensor, delays: Sequence[int]) -> Tensor:
    """Log-probability in nats ``[K, F]`` of each of `codes` ``[K, F]``, without text."""
    layout = patterns.delay(len(delays), codes.shape[1], delays)
    steps = layout.pack(codes, network.shape.codebook_size)
    nats = functional.log_softmax(network(steps[None, :, :-1], memory=network.listen([None]))[0], dim=-1)
    targets = layout.pack(codes, 0)[:, 1:, None]  # where there is no code, what is found is not unpacked
    return layout.unpack(functional.pad(nats.gather(-1, targets)[..., 0], (1, 0)))
