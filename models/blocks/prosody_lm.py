"""A language model over units, how long they last and how high they are, as of pGSLM (arXiv:2109.03264, section 3.2).

The three streams of a step are embedded and added, and one linear layer predicts all three. Durations and heights are a
step late, so that they are drawn knowing their unit. Both are codes, or both are numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbench import weights
from codecbench.models.blocks.attention import KeyValueCache
from codecbench.models.blocks.backbone import Backbone, BackboneShape
from codecbench.models.blocks.sampling import NEVER
from codecbench.models.blocks.unit_lm import TRANSFORMERS_NAMES

SPECIAL = 4
"""Tokens after the units, durations or heights: the start, the padding, the end, the unknown."""
START, PADDING, ENDING = 0, 1, 2
ABSENT = -5.0
"""In the place of a height that is no code, where there is none yet."""


@dataclass(frozen=True)
class ProsodyShape:
    """The shape of a `ProsodyLM`.

    Attributes:
        backbone: Of the Transformer, but for the first step's place.
        units: How many there are.
        durations: Codes of durations, that of 0 included; longer ones are cut.
        heights: Codes of heights.
        discrete: Durations and heights are codes, else numbers.
        deaf: The model predicts prosody but does not hear it: both streams are zero at its input.
    """

    backbone: BackboneShape
    units: int = 100
    durations: int = 21
    heights: int = 32
    discrete: bool = True
    deaf: bool = False

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Outputs for units, durations and heights."""
        prosody = (self.durations + SPECIAL, self.heights + SPECIAL) if self.discrete else (1, 1)
        return (self.units + SPECIAL, *prosody)


class ProsodyLM(nn.Module):
    """Three embeddings, a `Backbone`, and one linear layer for all that follows."""

    def __init__(self, net: ProsodyShape) -> None:
        super().__init__()
        self.shape = net
        size = net.backbone.dimension
        self.embedding = nn.Embedding(net.units + SPECIAL, size)
        _, durations, heights = net.sizes
        self.prosody = nn.ModuleList(
            nn.Embedding(count, size) if net.discrete else nn.Linear(1, size) for count in (durations, heights)
        )
        # fairseq counts positions from after the padding's token, which stands behind the units here.
        self.backbone = Backbone(replace(net.backbone, first_place=net.units + PADDING + 1))
        self.head = nn.Linear(size, sum(net.sizes), bias=False)

    def forward(
        self, units: Tensor, durations: Tensor, heights: Tensor, cache: KeyValueCache | None = None,
        counts: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Logits of the next unit ``[B, F, N]``, and logits or means of its late companions, after each step.

        Args:
            units: ``[B, F]``, padded at their end.
            durations: As `units`, codes or numbers.
            heights: As `durations`.
            cache: As of `Backbone.forward`.
            counts: As of `Backbone.forward`.
        """
        x = self.embedding(units) * self.shape.backbone.dimension**0.5
        for embed, stream in zip(self.prosody, (durations, heights), strict=True):
            heard = torch.zeros_like(stream) if self.shape.deaf else stream
            x = x + embed(heard if self.shape.discrete else heard[..., None].to(x.dtype))
        out = self.head(self.backbone(x, cache=cache, counts=counts))
        return cast("tuple[Tensor, Tensor, Tensor]", out.split(list(self.shape.sizes), dim=-1))

    def steps(self, units: Tensor, durations: Tensor, heights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Streams ``[N]`` as steps ``[1 + N]`` of the model, the start first, durations and heights a step late."""
        net = self.shape
        late, before = (net.heights + PADDING, net.heights + START) if net.discrete else (ABSENT, 0.0)
        unit = torch.cat([units.new_tensor([net.units + START]), units])
        duration = torch.cat([durations.new_zeros(2), durations])[: len(unit)]
        height = torch.cat([heights.new_tensor([late, before]), heights])[: len(unit)]
        return unit, duration, height


Streams = tuple[Tensor, Tensor, Tensor]
"""Units, durations and heights, ``[N]`` each."""
Draw = Callable[[int, Tensor, Tensor, Tensor], Streams]
"""Takes the number of a request, logits of a unit ``[N]``, and logits or means of a duration and a height."""


@torch.inference_mode()
def generate(
    network: ProsodyLM, prompts: Sequence[Streams], count: int, *, draw: Draw, use_cache: bool = True,
) -> list[Streams]:  # fmt: skip
    """What follows each prompt: up to `count` units, and the duration and height of each.

    Args:
        network: The language model.
        prompts: Of each request, one unit at least.
        count: The most units; a request is done where the end comes, which is not among them.
        draw: As of `Draw`. What cannot be drawn is at `NEVER`.
        use_cache: Keep keys and values; else compute all steps anew each time, which gives the same.
    """
    net = network.shape
    found = [list(prompt) for prompt in prompts]
    last = [(prompt[1][-1:], prompt[2][-1:]) for prompt in prompts]  # known already, so not drawn
    steps = [network.steps(*prompt) for prompt in prompts]
    starts = torch.tensor([len(own[0]) for own in steps], device=steps[0][0].device)
    cache = network.backbone.cache(len(prompts), int(starts.max()) + count + 1) if use_cache else None
    allowed = torch.ones(net.sizes[0], dtype=torch.bool, device=starts.device)
    allowed[net.units :] = False
    allowed[net.units + ENDING] = True
    running = set(range(len(prompts)))
    rows = torch.arange(len(prompts), device=starts.device)
    for step in range(count + 1):
        whole = cache is None or step == 0
        lengths = starts + step if whole else torch.ones_like(starts)
        parts = [tuple(stream if whole else stream[-1:] for stream in own) for own in steps]
        padded = [nn.utils.rnn.pad_sequence(list(each), batch_first=True) for each in zip(*parts, strict=True)]
        logits = network(*padded, cache=cache, counts=lengths if whole else None)
        unit, duration, height = (own[rows, lengths - 1] for own in logits)
        for b, own in enumerate(steps):
            drawn = (own[0][-1:], own[1][-1:], own[2][-1:])
            if b in running:
                drawn = draw(b, unit[b].masked_fill(~allowed, NEVER), _possible(duration[b], net.durations, net),
                             _possible(height[b], net.heights, net))  # fmt: skip
                drawn = (drawn[0].view(1), *(last[b] if step == 0 else (drawn[1].view(1), drawn[2].view(1))))
                found[b] = _append(found[b], drawn, late=step > 0)
                if int(drawn[0]) == net.units + ENDING:
                    running.discard(b)
            steps[b] = tuple(torch.cat([stream, new]) for stream, new in zip(own, drawn, strict=True))  # type: ignore[assignment]
        if not running:
            break
    return [_new(own, len(prompt[0]), count, net) for own, prompt in zip(found, prompts, strict=True)]


def _possible(logits: Tensor, codes: int, net: ProsodyShape) -> Tensor:
    """`logits` of the `codes` alone, without the special ones after them."""
    if not net.discrete:
        return logits
    return logits.masked_fill(torch.arange(len(logits), device=logits.device) >= codes, NEVER)


def _append(own: list[Tensor], drawn: Streams, *, late: bool) -> list[Tensor]:
    """`own` with the unit that was drawn, and with the prosody of the one before if that was drawn too."""
    unit, duration, height = own
    if not late:
        return [torch.cat([unit, drawn[0]]), duration, height]
    return [torch.cat([unit, drawn[0]]), torch.cat([duration, drawn[1]]), torch.cat([height, drawn[2]])]


def _new(own: list[Tensor], prompt: int, count: int, net: ProsodyShape) -> Streams:
    """What came after the `prompt`, up to the end; the last unit has no prosody yet and is left out."""
    unit, duration, height = own
    more = min(count, len(duration) - prompt)
    ends = (unit[prompt:] == net.units + ENDING).nonzero()
    more = min(more, int(ends[0])) if len(ends) else more
    return unit[prompt : prompt + more], duration[prompt : prompt + more], height[prompt : prompt + more]


def laplace(mean: Tensor, scale: float, level: Tensor, *, positive: bool) -> Tensor:
    """A number from the Laplace distribution around `mean` at the uniform `level`; of its part above 0 if `positive`.

    The prosody of models whose durations and heights are numbers is drawn so.
    """
    if positive:
        mean = mean.clamp(min=0)
        below = 0.5 * torch.exp(-mean / scale)
        level = level * (1 - below) + below
    return mean - scale * torch.sign(level - 0.5) * torch.log1p(-2 * (level - 0.5).abs())


def own_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` of the release as that of a `ProsodyLM`."""
    rules = (
        (r"^decoder\.", ""),
        (r"^project_out_dim\.", "head."),
        (r"^(embed_other_list|proj_other_list)\.", "prosody."),
        *TRANSFORMERS_NAMES,
    )
    unused = r"^decoder\.(version|embed_positions\._float_tensor|output_projection\.weight)$"
    return weights.rename_keys(state, rules, drop=unused)


def loglikelihood(network: ProsodyLM, streams: Streams) -> Tensor:
    """Log-probability in nats ``[N]`` of each unit, given those before and their prosody."""
    steps = network.steps(*streams)
    logits, _, _ = network(*(stream[None, :-1] for stream in steps))
    nats = functional.log_softmax(logits[0], dim=-1)
    return nats.gather(-1, steps[0][1:, None])[:, 0]
