"""Generating with a `CodebookLM` in any pattern, scoring what there is, and the loss that it learns from.

`patterns` says in which step each code is generated. Here are the patterns whose cache keeps a row a step, such as the
delay of MusicGen (arXiv:2306.05284); those that keep a row a frame are in `stacked_generation`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbench.models.blocks import stacked_generation
from codecbench.models.blocks.attention import Memory
from codecbench.models.blocks.codebook_lm import CodebookLM
from codecbench.models.blocks.patterns import Pattern
from codecbench.models.blocks.sampling import guide

UNKNOWN = -1
"""In the place of a code that is yet to come."""

Layout = Callable[[int], Pattern]
"""The pattern of so many frames."""


@torch.inference_mode()
def generate(
    network: CodebookLM, prompts: Sequence[Tensor], texts: Sequence[Tensor | None], frames: int, *,
    layout: Layout, draw: Callable[[int, Tensor], Tensor], guidance: float = 1.0, use_cache: bool = True,
    melodies: Sequence[Tensor | None] | None = None,
) -> list[Tensor]:  # fmt: skip
    """Codes ``[K, frames]`` that follow each prompt; where the cache has a row a frame, one request after another.

    Args:
        network: The language model.
        prompts: Codes ``[K, P]`` of each request, ``P`` 0 for none.
        texts: Vectors ``[M, C]`` of each request's text, or None; of a model without cross-attention, as many of each.
        frames: How many follow.
        layout: Gives the pattern. What is known of it stays as it is.
        draw: Takes the number of a request and logits ``[K, N]``, and returns codes ``[K]``.
        guidance: How far the logits go from those without text towards, and beyond, those with it; 1 takes them with.
        use_cache: Keep keys and values; else compute all steps anew each time, which gives the same.
        melodies: Of a model that hears one: chroma ``[M, 12]`` of each request, or None.

    Raises:
        ValueError: The pattern asks for other numbers of steps of prompts of other lengths.
    """
    if frames < 1:
        return [past[:, :0] for past in prompts]
    wanted = [functional.pad(past, (0, frames), value=UNKNOWN) for past in prompts]
    layouts = [layout(codes.shape[1]) for codes in wanted]
    told = any(heard is not None for heard in (*texts, *(melodies or ())))
    scale = guidance if told else 1.0
    if layouts[0].cache.rows == "frame":
        found = []
        for b, (pattern, codes) in enumerate(zip(layouts, wanted, strict=True)):
            memory, _ = _listen(network, texts[b : b + 1], None, guided=scale != 1)
            choose = lambda logits, b=b: draw(b, logits)  # noqa: E731
            found.append(stacked_generation.fill(network, codes, pattern, memory, choose, scale, use_cache=use_cache))
        return [codes[:, -frames:] for codes in found]
    heard = _listen(network, texts, melodies, guided=scale != 1)
    return [codes[:, -frames:] for codes in _fill(network, wanted, layouts, heard, draw, scale, use_cache=use_cache)]


def _listen(
    network: CodebookLM, texts: Sequence[Tensor | None], melodies: Sequence[Tensor | None] | None, *, guided: bool
) -> tuple[Memory | None, Tensor | None]:
    """Memory or prefix of each request; of those that hear nothing too, after them, if it is `guided`."""
    if network.shape.backbone.cross:
        return network.listen([*texts, *[None] * (len(texts) * guided)]), None
    tunes = [None] * len(texts) if melodies is None else melodies
    return None, torch.cat([network.precede(tunes, texts, told=told) for told in (True, False)[: 1 + guided]])


def _fill(
    network: CodebookLM, wanted: Sequence[Tensor], layouts: Sequence[Pattern],
    heard: tuple[Memory | None, Tensor | None], draw: Callable[[int, Tensor], Tensor], guidance: float, *,
    use_cache: bool,
) -> list[Tensor]:  # fmt: skip
    """Each of `wanted` with a code in place of all that are unknown."""
    known = [pattern.pack(codes, network.shape.codebook_size) for pattern, codes in zip(layouts, wanted, strict=True)]
    first = [int((own == UNKNOWN).any(dim=0).nonzero()[0]) for own in known]
    (count, *others) = {own.shape[1] - start for own, start in zip(known, first, strict=True)}
    if others:
        raise ValueError(f"'{layouts[0].name}' has other numbers of steps for prompts of other lengths")
    memory, prefix = heard
    copies = 1 if guidance == 1 else 2
    starts = torch.tensor(first, device=known[0].device)
    steps = [whole[:, :start] for whole, start in zip(known, first, strict=True)]
    before = 0 if prefix is None else prefix.shape[1]
    capacity = before + max(first) + count
    cache = network.backbone.cache(copies * len(known), capacity) if use_cache else None
    for step in range(count):
        whole = cache is None or step == 0
        lengths = (starts + step if whole else torch.ones_like(starts)).repeat(copies)
        columns = [own.T if whole else own.T[-1:] for own in steps]
        padded = nn.utils.rnn.pad_sequence(columns, batch_first=True).mT.repeat(copies, 1, 1)
        logits = network(
            padded, cache=cache, counts=lengths if whole else None, memory=memory, prefix=prefix if whole else None
        )  # fmt: skip
        last = logits[torch.arange(len(logits), device=logits.device), :, lengths - 1]
        if copies == 2:
            told, untold = last.chunk(2)
            last = guide(told, untold, guidance)
        for b, own in enumerate(known):
            column = own[:, steps[b].shape[1]]
            column = torch.where(column == UNKNOWN, draw(b, last[b]), column)
            steps[b] = torch.cat([steps[b], column[:, None]], dim=1)
    return [pattern.unpack(own) for pattern, own in zip(layouts, steps, strict=True)]


def log_probabilities(
    network: CodebookLM, codes: Tensor, text: Tensor | None, layout: Layout, melody: Tensor | None = None
) -> Tensor:  # fmt: skip
    """Log-probability in nats ``[K, F]`` of each of `codes` ``[K, F]``, given `text` and `melody` as of `generate`."""
    pattern = layout(codes.shape[1])
    memory, prefix = _listen(network, [text], [melody], guided=False)
    if pattern.cache.rows == "frame":
        logits = stacked_generation.logits(network, codes, pattern, memory)
        return functional.log_softmax(logits, dim=-1).gather(-1, codes[..., None])[..., 0]
    steps = pattern.pack(codes, network.shape.codebook_size)
    nats = functional.log_softmax(network(steps[None, :, :-1], memory=memory, prefix=prefix)[0], dim=-1)
    targets = pattern.pack(codes, 0)[:, 1:, None]  # where there is no code, what is found is not unpacked
    return pattern.unpack(functional.pad(nats.gather(-1, targets)[..., 0], (1, 0)))


@torch.inference_mode()
def loglikelihood(network: CodebookLM, codes: Tensor, layout: Layout) -> Tensor:
    """Log-probability in nats ``[K, F]`` of each of `codes` ``[K, F]``, without text."""
    return log_probabilities(network, codes, None, layout)


def loss(
    network: CodebookLM, codes: Sequence[Tensor], texts: Sequence[Tensor | None], layout: Layout,
    melodies: Sequence[Tensor | None] | None = None,
) -> Tensor:  # fmt: skip
    """What training makes small: the mean negative log-probability of a code, in nats (section 2.4 of the paper).

    Args:
        network: The language model, in training.
        codes: ``[K, F]`` of each example.
        texts: Vectors of each example's text, or None; for guidance, some examples must have none.
        layout: The pattern to learn.
        melodies: As of `generate`.
    """
    tunes = [None] * len(codes) if melodies is None else melodies
    parts = zip(codes, texts, tunes, strict=True)
    return -torch.cat(
        [log_probabilities(network, own, text, layout, tune).flatten() for own, text, tune in parts]
    ).mean()
