"""Words marked among the codes that say them, as in ELLA-V (arXiv:2401.07333), for small language models.

Before the codes of a word stands its mark. Where a word ends, a model gives the token of the end; if more is to be
said, the next mark takes its place. So nothing is left out or said twice. And little speech is enough to learn from: a
model need not find out by itself where in a text it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from codecbench.models.phonemes import BYTES
from codecbench.models.small_lm import SHORTEST, symbols

if TYPE_CHECKING:
    from torch import Tensor

    from codecbench.models.base import Request, Sampling
    from codecbench.models.blocks.autoregressive import Draw, Opening, Speaker
    from codecbench.models.blocks.sampling import Given, Guidance
    from codecbench.models.small_lm import Example


def digits(text: str) -> list[int]:
    """The digits in a text, which are the words that have marks."""
    return [number - BYTES for number in symbols(text) if number >= BYTES]


def insert(codes: Tensor, starts: Sequence[int], marks: Sequence[int]) -> Tensor:
    """`codes` ``[..., F]`` with the column ``marks[n]`` before the frame ``starts[n]``."""
    import torch

    ends = [*starts, codes.shape[-1]]
    parts = [codes[..., : ends[0]]]
    for start, end, mark in zip(starts, ends[1:], marks, strict=True):
        parts += [torch.full_like(codes[..., :1], mark), codes[..., start:end]]
    return torch.cat(parts, dim=-1)


def opened(network: Speaker, opening: Opening, marks: Sequence[int]) -> Opening:
    """What follows `opening` and the first of `marks`, if there are any."""
    import torch

    from codecbench.models.blocks.autoregressive import Opening

    if not marks:
        return opening
    device = opening.steps.device
    token, place = (torch.tensor([[number]], device=device) for number in (marks[0], opening.place))
    first = network.embed(token, place, opening.manner[None])[0]
    return Opening(torch.cat([opening.steps, first]), opening.prefix, opening.place + 1, opening.manner)


def loss(
    network: Speaker, openings: Sequence[Opening], examples: Sequence[Example], *, code: int,
    mark: Callable[[int], int], end: int,
) -> Tensor:  # fmt: skip
    """Mean cross-entropy in nats of the first codebook's codes, and of an end after each word.

    Args:
        network: The language model.
        openings: Of each example, without its marks.
        examples: What follows.
        code: The token of code 0.
        mark: Gives the token of a digit.
        end: The token of the end.
    """
    import torch
    from torch.nn import functional

    from codecbench.models.blocks import autoregressive

    begun: list[Opening] = []
    tokens: list[Tensor] = []
    wanted: list[Tensor] = []
    for opening, example in zip(openings, examples, strict=True):
        marks = [mark(digit) for digit in digits(example.text)]
        begun.append(opened(network, opening, marks))
        own = insert(code + example.codes[0].to(opening.steps.device), example.starts, marks)[bool(marks) :]
        tokens.append(own)
        is_mark = torch.isin(own, own.new_tensor(marks))
        wanted.append(functional.pad(own.masked_fill(is_mark, end), (0, 1), value=end))
    found = autoregressive.logits(network, begun, tokens)
    return functional.cross_entropy(torch.cat(found), torch.cat(wanted))


def generate(
    network: Speaker, openings: Sequence[Opening], untold: Sequence[Opening], requests: Sequence[Request], draw: Draw,
    frames: int, *, mark: Callable[[int], int], end: int, guidance: float, use_cache: bool,
) -> list[tuple[list[int], bool]]:  # fmt: skip
    """The tokens that answer each request, at most `frames` of them beside its marks, and whether an end came.

    Args:
        network: The language model.
        openings: Of each request, without its marks.
        untold: The same without its text.
        requests: Their texts have the words.
        draw: Draws tokens.
        frames: The longest answer.
        mark: Gives the token of a digit.
        end: The token of the end.
        guidance: Away from the answer to no text at all: neither text nor marks are heard there.
        use_cache: False computes all steps anew for each.
    """
    from codecbench.models.blocks import autoregressive

    marks = [[mark(digit) for digit in digits(request.text or "")] for request in requests]
    begun = [opened(network, opening, own) for opening, own in zip(openings, marks, strict=True)]
    limits = [frames + max(0, len(own) - 1) for own in marks]
    return autoregressive.generate(
        network, begun, limits, drawer(draw, marks, end), end, use_cache=use_cache,
        guidance=guided(guidance, untold, marks, mark),
    )  # fmt: skip


def guided(
    scale: float, untold: Sequence[Given], marks: Sequence[Sequence[int]], mark: Callable[[int], int]
) -> Guidance[Given] | None:
    """Guidance to the `scale` of requests with such `marks`, away from what is `untold`; none where nothing is told."""
    from codecbench.models.blocks.sampling import Guidance

    return Guidance(scale, untold, range(mark(0), mark(9) + 1)) if scale != 1 and any(marks) else None


def careful(requests: Sequence[Request], sampling: Sampling, among: Tensor | None = None) -> Draw:
    """Draws as VALL-E 2 does (arXiv:2406.05370), which leaves silence; greedily where `sampling` asks for that.

    Args:
        requests: Each has a random state of its own.
        sampling: How.
        among: Booleans ``[N]``: the tokens that may be drawn; None for all.
    """
    from codecbench.models.blocks import sampling as blocks

    states = [blocks.generator(sampling.seed, request) for request in requests]

    def draw(number: int, logits: Tensor, found: Sequence[int]) -> int:
        if among is not None:
            logits = logits.masked_fill(~among, blocks.NEVER)
        if sampling.temperature and sampling.top_k != 1:
            return blocks.draw_repetition_aware(logits, found, sampling, states[number])
        return int(blocks.draw(logits, sampling, states[number]))

    return draw


def drawer(draw: Draw, marks: Sequence[Sequence[int]], end: int) -> Draw:
    """`draw`, but that a word has `SHORTEST` codes, and that after its end comes the next of each request's `marks`."""
    import torch

    def choose(number: int, logits: Tensor, found: Sequence[int]) -> int:
        own = set(marks[number])
        spoken = next((n for n, token in enumerate(reversed(found)) if token in own), len(found))
        if own and spoken < SHORTEST:
            logits = logits.masked_fill(torch.arange(len(logits), device=logits.device) == end, float("-inf"))
        token = draw(number, logits, found)
        done = 1 + sum(one in own for one in found)
        return marks[number][done] if token == end and done < len(marks[number]) else token

    return choose
