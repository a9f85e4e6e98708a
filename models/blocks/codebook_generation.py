"""Generating with a `CodebookLM` in any pattern, scoring what there is, and the loss that it learns from.

`patterns` says in which step each code is generated. Here are the patterns whose cache keeps a row a step, such as the
delay of MusicGen (arXiv:2306.05284); those that keep a row a frame are in `stacked_generation`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbench.models.blocks import stacked_generation
from codecbench.models.blocks.attention import KeyValueCache, Memory
from codecbench.models.blocks.codebook_lm import CodebookLM
from codecbench.models.blocks.patterns import Pattern
from codecbench.models.blocks.prefill import alike
from codecbench.models.blocks.sampling import guide, unmarked

UNKNOWN = -1
"""In the place of a code that is yet to come."""

Layout = Callable[[int], Pattern]
"""The pattern of so many frames."""


@torch.inference_mode()
def generate(
    network: CodebookLM, prompts: Sequence[Tensor], texts: Sequence[Tensor | None], frames: int | Sequence[int], *,
    layout: Layout, draw: Callable[[int, Tensor], Tensor], guidance: float = 1.0, use_cache: bool = True,
    melodies: Sequence[Tensor | None] | None = None,
) -> list[Tensor]:  # fmt: skip
    """Codes ``[K, frames]`` that follow each prompt; where the cache has a row a frame, one request after another.

    What several requests begin with, codes and text and melody, is run through the network once for all of them.

    Args:
        network: The language model.
        prompts: Codes ``[K, P]`` of each request, ``P`` 0 for none.
        texts: Vectors ``[M, C]`` of each request's text, or None; of a model without cross-attention, as many of each.
        frames: How many follow: all prompts, or each; 1 at least where they differ.
        layout: Gives the pattern. What is known of it stays as it is.
        draw: Takes the number of a request and logits ``[K, N]``, and returns codes ``[K]``.
        guidance: How far the logits go from those without text towards, and beyond, those with it; 1 takes them with.
        use_cache: Keep keys and values; else compute all steps anew each time, which gives the same.
        melodies: Of a model that hears one: chroma ``[M, 12]`` of each request, or None.
    """
    counts = [frames] * len(prompts) if isinstance(frames, int) else frames
    if frames == 0:
        return [past[:, :0] for past in prompts]
    wanted = [functional.pad(past, (0, count), value=UNKNOWN) for past, count in zip(prompts, counts, strict=True)]
    layouts = [layout(codes.shape[1]) for codes in wanted]
    tunes = [None] * len(texts) if melodies is None else melodies
    scale = guidance if any(heard is not None for heard in (*texts, *tunes)) else 1.0
    if layouts[0].cache.rows == "frame":
        found = []
        for b, (pattern, codes) in enumerate(zip(layouts, wanted, strict=True)):
            memory, _ = _listen(network, texts[b : b + 1], tunes[:1], guided=scale != 1)
            choose = lambda logits, b=b: draw(b, logits)  # noqa: E731
            found.append(stacked_generation.fill(network, codes, pattern, memory, choose, scale, use_cache=use_cache))
        return [codes[:, -count:] for codes, count in zip(found, counts, strict=True)]
    known = [pattern.pack(codes, network.shape.codebook_size) for pattern, codes in zip(layouts, wanted, strict=True)]
    for _ in _fill(network, known, texts, tunes, draw, scale, use_cache):
        pass
    return [pattern.unpack(own)[:, -count:] for pattern, own, count in zip(layouts, known, counts, strict=True)]


@torch.inference_mode()
def stream(
    network: CodebookLM, prompt: Tensor, text: Tensor | None, frames: int, *, layout: Layout,
    draw: Callable[[Tensor], Tensor], guidance: float = 1.0, melody: Tensor | None = None, use_cache: bool = True,
    unheard: range = range(0),
) -> Iterator[Tensor]:  # fmt: skip
    """As of `generate`, for one request: frames ``[K, n]``, as soon as their codes and all before them are known.

    In a cache of a row a step, codes of `unheard` are no part of what is heard without text, as of `Guidance`.
    """
    if frames < 1:
        return
    codes = functional.pad(prompt, (0, frames), value=UNKNOWN)
    pattern, done = layout(codes.shape[1]), prompt.shape[1]
    scale = guidance if text is not None or melody is not None else 1.0
    if pattern.cache.rows == "frame":
        memory, _ = _listen(network, [text], [melody], guided=scale != 1)
        steps = stacked_generation.grow(network, codes, pattern, memory, draw, scale, use_cache=use_cache)
    else:
        known = pattern.pack(codes, network.shape.codebook_size)
        steps = _fill(network, [known], [text], [melody], lambda _, new: draw(new), scale, use_cache, unheard)
    for _ in steps:
        found = codes if pattern.cache.rows == "frame" else pattern.unpack(known)
        complete = int((found != UNKNOWN).all(dim=0).cumprod(dim=0).sum())
        if complete > done:
            yield found[:, done:complete].clone()
            done = complete


def _first(packed: Tensor) -> int:
    """The first step with a code that is yet to come."""
    return int((packed == UNKNOWN).any(dim=0).nonzero()[0])


def _listen(
    network: CodebookLM, texts: Sequence[Tensor | None], melodies: Sequence[Tensor | None], *, guided: bool
) -> tuple[Memory | None, Tensor | None]:  # fmt: skip
    """Memory or prefix of each request; of those that hear nothing too, after them, if it is `guided`."""
    if network.shape.backbone.cross:
        return network.listen([*texts, *[None] * (len(texts) * guided)]), None
    return None, torch.cat([network.precede(melodies, texts, told=told) for told in (True, False)[: 1 + guided]])


def _fill(
    network: CodebookLM, known: Sequence[Tensor], texts: Sequence[Tensor | None], melodies: Sequence[Tensor | None],
    draw: Callable[[int, Tensor], Tensor], guidance: float, use_cache: bool, unheard: range = range(0),
) -> Iterator[None]:  # fmt: skip
    """Put a code in place of all that are unknown in `known` ``[K, S]``, of each request another step at a time."""
    copies = 1 if guidance == 1 else 2
    first = [_first(own) for own in known]
    parts = [(own[:, :start], text, tune) for own, start, text, tune in zip(known, first, texts, melodies, strict=True)]
    kinds, rows = alike(parts) if use_cache else (parts, range(len(parts)))
    memory, prefix = _listen(network, [kind[1] for kind in kinds], [kind[2] for kind in kinds], guided=copies == 2)
    counts = [own.shape[1] - start for own, start in zip(known, first, strict=True)]
    count = max(counts)
    cache = None
    if use_cache:
        before = max(first) + (0 if prefix is None else prefix.shape[1])
        cache = network.backbone.cache(copies * len(kinds), before + count * (len(kinds) == len(parts)))
    logits = _begin(network, _copied([kind[0] for kind in kinds], copies, unheard), cache, memory, prefix)
    if cache is not None and len(kinds) < len(parts):
        every = torch.tensor([row + copy * len(kinds) for copy in range(copies) for row in rows], device=logits.device)
        cache = network.backbone.cache(len(every), before + count).repeat(cache, every)
        logits, memory = logits[every], None if memory is None else memory.repeat(every)
    for step in range(count):
        if step and cache is not None:
            ends = [min(start + step, own.shape[1]) - 1 for own, start in zip(known, first, strict=True)]
            begun = _copied([own[:, : end + 1] for own, end in zip(known, ends, strict=True)], copies, unheard)
            latest = torch.stack([own[:, -1:] for own in begun])
            logits = network(latest, cache=cache, memory=memory)[:, :, 0]
        elif step:
            begun = [own[:, : start + step] for own, start in zip(known, first, strict=True)]
            logits = _begin(network, _copied(begun, copies, unheard), None, memory, prefix)
        if copies == 2:
            told, untold = logits.chunk(2)
            logits = guide(told, untold, guidance)
        for b, own in enumerate(known):
            if step >= counts[b]:
                continue
            column = own[:, first[b] + step]
            own[:, first[b] + step] = torch.where(column == UNKNOWN, draw(b, logits[b]), column)
        yield


def _copied(steps: list[Tensor], copies: int, unheard: range) -> list[Tensor]:
    """`steps` ``[K, S]`` of each request; for guidance, then as they are without text."""
    return steps + (([unmarked(own, unheard) for own in steps] if unheard else steps) if copies == 2 else [])


def _begin(
    network: CodebookLM, steps: Sequence[Tensor], cache: KeyValueCache | None, memory: Memory | None,
    prefix: Tensor | None,
) -> Tensor:  # fmt: skip
    """Logits ``[B, K, N]`` of what follows `steps` ``[K, S]`` of each request."""
    counts = torch.tensor([own.shape[1] for own in steps], device=steps[0].device)
    level = len({own.shape[1] for own in steps}) == 1
    padded = nn.utils.rnn.pad_sequence([own.T for own in steps], batch_first=True).mT
    logits: Tensor = network(padded, cache=cache, counts=None if level else counts, memory=memory, prefix=prefix)
    return logits[torch.arange(len(logits), device=logits.device), :, counts - 1]


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
