"""A language model over the units of two speakers at once, as of dGSLM (arXiv:2203.16502, section 3.3).

One Transformer runs on both channels. Its later layers also attend to the other channel, at the same steps and before.
Each step predicts the unit that comes next where units change, and how long its own unit lasts if it began here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbench import weights
from codecbench.models.blocks.attention import Attention, KeyValueCache
from codecbench.models.blocks.backbone import BackboneShape, FeedForward
from codecbench.models.blocks.positions import waves
from codecbench.models.blocks.sampling import NEVER

CHANNELS = 2

RELEASED_NAMES = (
    (r"^decoder\.", ""),
    (r"^embed_tokens\.", "embedding."),
    (r"^layer_norm\.", "norm."),
    (r"^output_projection\.0\.", "head."),
    (r"^output_duration_prediction\.0\.", "duration."),
    (r"\.self_attn\.q_proj\.", ".attention.query."),
    (r"\.self_attn\.k_proj\.", ".attention.key."),
    (r"\.self_attn\.v_proj\.", ".attention.value."),
    (r"\.self_attn\.out_proj\.", ".attention.output."),
    (r"\.cross_channel_attn\.q_proj\.", ".cross.query."),
    (r"\.cross_channel_attn\.k_proj\.", ".cross.key."),
    (r"\.cross_channel_attn\.v_proj\.", ".cross.value."),
    (r"\.cross_channel_attn\.out_proj\.", ".cross.output."),
    (r"\.self_attn_layer_norm\.", ".attention_norm."),
    (r"\.cross_channel_attn_layer_norm\.", ".cross_norm."),
    (r"\.final_layer_norm\.", ".feed_norm."),
    (r"\.fc1\.", ".feed.inner."),
    (r"\.fc2\.", ".feed.outer."),
)
"""Rules from the parameter names of the release to those here."""


@dataclass(frozen=True)
class DialogueShape:
    """The shape of a `DialogueLM`; the default is that of the release.

    Attributes:
        vocabulary: Entries of the embedding and the output.
        dimension, layers, heads, hidden: As of `backbone.BackboneShape`.
        cross: How many layers, the last ones, attend to the other channel.
    """

    vocabulary: int = 504
    dimension: int = 512
    layers: int = 6
    heads: int = 8
    hidden: int = 2048
    cross: int = 4


class DialogueLayer(nn.Module):
    """Self-attention, attention to the other channel, and feed-forward; each is added to its input."""

    def __init__(self, net: DialogueShape, index: int) -> None:
        super().__init__()
        size = net.dimension
        self.index = index
        self.attention = Attention(size, net.heads, net.heads, size, bias=True)
        self.attention_norm = nn.LayerNorm(size)
        self.crosses = index >= net.layers - net.cross
        if self.crosses:
            self.cross = Attention(size, net.heads, net.heads, size, bias=True)
            self.cross_norm = nn.LayerNorm(size)
        self.feed = FeedForward(BackboneShape(size, net.layers, net.heads, net.hidden, activation="relu"))
        self.feed_norm = nn.LayerNorm(size)

    def forward(self, x: Tensor, places: Tensor, mask: Tensor, cache: KeyValueCache | None) -> Tensor:
        """Run over `x` ``[2 * B, F, C]``, all requests of the first channel before those of the second."""
        normed = self.attention_norm(x)
        x = x + self._attend(self.attention, normed, normed, 2 * self.index, places, mask, cache)
        if self.crosses:
            other = torch.cat(x.chunk(CHANNELS)[::-1])
            x = x + self._attend(self.cross, self.cross_norm(x), other, 2 * self.index + 1, places, mask, cache)
        return cast("Tensor", x + self.feed(self.feed_norm(x)))

    @staticmethod
    def _attend(
        attention: Attention, x: Tensor, memory: Tensor, row: int, places: Tensor, mask: Tensor,
        cache: KeyValueCache | None,
    ) -> Tensor:  # fmt: skip
        keys, values = attention.project(memory)
        if cache is not None:
            keys, values = cache.append(row, keys, values, places)
        return cast("Tensor", attention(x, keys, values, mask))


class DialogueLM(nn.Module):
    """An embedding, `DialogueLayer` in a row, a linear layer over the vocabulary, and one for durations."""

    def __init__(self, net: DialogueShape) -> None:
        super().__init__()
        self.shape = net
        self.embedding = nn.Embedding(net.vocabulary, net.dimension)
        self.layers = nn.ModuleList(DialogueLayer(net, index) for index in range(net.layers))
        self.norm = nn.LayerNorm(net.dimension)
        self.head = nn.Linear(net.dimension, net.vocabulary, bias=False)
        self.head.weight = self.embedding.weight
        self.duration = nn.Linear(net.dimension, 1)

    def cache(self, batch: int, capacity: int) -> KeyValueCache:
        """An empty cache for `batch` requests of up to `capacity` steps."""
        net, like = self.shape, self.duration.weight
        return KeyValueCache(
            CHANNELS * batch, capacity, layers=2 * net.layers, heads=net.heads, size=net.dimension // net.heads,
            device=like.device, dtype=like.dtype,
        )  # fmt: skip

    def forward(
        self, tokens: Tensor, cache: KeyValueCache | None = None, counts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What follows each step, and how long each step's own unit lasts if it began there.

        Args:
            tokens: ``[2, B, F]``, padded at their end.
            cache: Takes these steps too, after those that it has.
            counts: How many of a request's ``F`` steps are not padding ``[B]``; None for all.

        Returns:
            Logits ``[2, B, F, N]``, and durations in frames ``[2, B, F]``.
        """
        _, batch, steps = tokens.shape
        rows = tokens.flatten(0, 1)
        start = torch.zeros(len(rows), dtype=torch.long, device=rows.device) if cache is None else cache.lengths
        filled = steps if cache is None else cache.reach(steps)
        places = start[:, None] + torch.arange(steps, device=rows.device)
        mask = (torch.arange(filled, device=rows.device) <= places[..., None])[:, None]
        x = self.embedding(rows) * self.shape.dimension**0.5
        x = x + waves(places + 2, self.shape.dimension, cosines_first=False).to(x.dtype)
        for layer in self.layers:
            x = layer(x, places, mask, cache)
        if cache is not None:
            cache.advance(None if counts is None else counts.repeat(CHANNELS), steps)
        x = self.norm(x)
        logits, durations = self.head(x), self.duration(x)[..., 0]
        return logits.view(CHANNELS, batch, steps, -1), durations.view(CHANNELS, batch, steps)

    def loglikelihood(self, tokens: Tensor) -> Tensor:
        """Log-probabilities in nats ``[2, F - 1]`` of `tokens` ``[2, F]`` but the first: 0 where a unit goes on.

        The model is trained to predict a unit where it begins, given that one begins.
        """
        logits, _ = self(tokens[:, None, :-1])
        nats = functional.log_softmax(logits[:, 0], dim=-1).gather(-1, tokens[:, 1:, None])[..., 0]
        return nats.masked_fill(tokens[:, 1:] == tokens[:, :-1], 0.0)


@dataclass
class _Clock:
    """For how many steps each channel's unit goes on, ``[2]``: at 1 the next unit is drawn."""

    left: Tensor

    def tick(self, last: Tensor, before: Tensor | None, predicted: Tensor) -> Tensor:
        """Whether each channel's `last` token ``[2]`` goes on, after the one `before` it and as `predicted`."""
        new = predicted.round().long().clamp(min=1)
        if before is not None:
            same = last == before
            new = torch.where(same, 1, new)
            self.left = (self.left - ((self.left == 1) | same).long()).clamp(min=0)
        self.left = torch.where(self.left == 0, new, self.left)
        return self.left != 1


@torch.inference_mode()
def generate(
    network: DialogueLM, prompts: Sequence[Tensor], frames: int, *, allowed: Tensor,
    draw: Callable[[int, Tensor], Tensor], use_cache: bool = True,
) -> list[Tensor]:  # fmt: skip
    """Tokens ``[2, frames]`` that follow each prompt.

    Args:
        network: The language model.
        prompts: Tokens ``[2, P]`` of each request, ``P`` 1 at least.
        frames: How many follow.
        allowed: Which tokens may be drawn ``[N]``.
        draw: Takes the number of a request and logits ``[2, N]``, and returns tokens ``[2]``.
        use_cache: Keep keys and values; else compute all steps anew each time, which gives the same.
    """
    steps = list(prompts)
    starts = torch.tensor([own.shape[1] for own in prompts], device=prompts[0].device)
    cache = network.cache(len(prompts), int(starts.max()) + frames) if use_cache else None
    clocks = [_Clock(torch.ones_like(own[:, 0])) for own in prompts]
    for step in range(frames):
        whole = cache is None or step == 0
        lengths = starts + step if whole else torch.ones_like(starts)
        columns = [(own if whole else own[:, -1:]).mT for own in steps]
        padded = nn.utils.rnn.pad_sequence(columns, batch_first=True).permute(2, 0, 1)
        logits, durations = network(padded, cache=cache, counts=lengths if whole else None)
        for b, own in enumerate(steps):
            last = int(lengths[b]) - 1
            first = 0 if step == 0 else last
            for at in range(first, last + 1):
                place = own.shape[1] - 1 - last + at
                before = own[:, place - 1] if place else None
                goes_on = clocks[b].tick(own[:, place], before, durations[:, b, at])
            drawn = draw(b, logits[:, b, last].masked_fill(~allowed, NEVER))
            steps[b] = torch.cat([own, torch.where(goes_on, own[:, -1], drawn)[:, None]], dim=1)
    return [own[:, -frames:] for own in steps]


def own_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` of the release as that of a `DialogueLM`."""
    unused = r"^decoder\.(version|embed_positions\._float_tensor)$"
    return weights.rename_keys(state, RELEASED_NAMES, drop=unused)
