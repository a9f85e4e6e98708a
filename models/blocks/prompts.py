"""Soft prompts: vectors before a frozen language model's input, and in every layer's attention, that make it do a task.

As of SpeechPrompt (arXiv:2203.16773) and its second version (arXiv:2303.00733). What a model hears is the prompt, the
start, units, and a separator; it answers with tokens, which a verbaliser maps to labels.

In the released code a deep prompt takes the place of what keys and values are made of at the prompt's own steps, before
their projections; it does not come beside them. The prompt has no positions: those of the units start anew after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbench.models.blocks.attention import KeyValueCache
from codecbench.models.blocks.sampling import NEVER
from codecbench.models.blocks.unit_lm import UnitLM

SEPARATOR, PADDING, END = 0, 1, 2
"""Of fairseq's dictionaries: ``<s>`` stands between the units and the answer."""
SPECIAL = 4


class SoftPrompt(nn.Module):
    """What is learnt for a task.

    Args:
        length: Steps of the prompt.
        dimension: Channels of the language model.
        layers: Of the language model, where the prompt is deep; 0 for one at the input alone.
        classes: Outputs of the verbaliser, a linear layer over the vocabulary; 0 for none.
        vocabulary: Of the language model, where there is a verbaliser.
    """

    def __init__(self, length: int, dimension: int, layers: int, classes: int = 0, vocabulary: int = 0) -> None:
        super().__init__()
        self.inputs = nn.Parameter(torch.randn(length, dimension))
        self.keys = nn.Parameter(torch.randn(layers, length, dimension))
        self.values = nn.Parameter(torch.randn(layers, length, dimension))
        self.separator = nn.Parameter(torch.randn(dimension))
        if classes:
            self.verbaliser = nn.Linear(vocabulary, SPECIAL + classes, bias=False)

    @property
    def classes(self) -> int:
        """Outputs of the verbaliser, 0 for none."""
        return self.verbaliser.out_features - SPECIAL if hasattr(self, "verbaliser") else 0


def from_released(state: Mapping[str, Tensor]) -> SoftPrompt:
    """The prompt in a checkpoint of SpeechPrompt's second version, whatever else is in it.

    Raises:
        KeyError: There is none, or no separator.
    """
    own = {name.removeprefix("decoder."): tensor for name, tensor in state.items()}
    inputs, separator = own["prefix_embed_prompts.weight"], own["sep_embed.weight"]
    layers = sum(name.startswith("deep_key_embed_prompts.") for name in own)
    verbaliser = own.get("prompt_linear_verbalizer.weight")
    sizes = (len(verbaliser) - SPECIAL, verbaliser.shape[1]) if verbaliser is not None else (0, 0)
    length, dimension = inputs.shape
    prompt = SoftPrompt(length, dimension, layers, *sizes)
    with torch.no_grad():
        prompt.inputs.copy_(inputs)
        prompt.separator.copy_(separator[0])
        for index in range(layers):
            prompt.keys[index] = own[f"deep_key_embed_prompts.{index}.weight"]
            prompt.values[index] = own[f"deep_value_embed_prompts.{index}.weight"]
        if verbaliser is not None:
            prompt.verbaliser.weight.copy_(verbaliser)
    return prompt


class PromptedLM(nn.Module):
    """A language model of units that normalises first, with a prompt before what it hears."""

    def __init__(self, network: UnitLM, prompt: SoftPrompt) -> None:
        super().__init__()
        if not network.shape.backbone.norm_first or network.shape.backbone.positions != "sin_cos":
            raise ValueError("prompts are for models that normalise first and have waves for positions")
        self.network, self.prompt = network, prompt

    def cache(self, capacity: int) -> KeyValueCache:
        """An empty cache for one request of up to `capacity` tokens."""
        return self.network.backbone.cache(1, len(self.prompt.inputs) + capacity)

    def forward(self, tokens: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """Logits ``[B, F, N]`` of what follows each of `tokens` ``[B, F]``: of classes, if there is a verbaliser.

        Args:
            tokens: None of them padding.
            cache: Takes these steps too; where it is empty, those of the prompt before them.
        """
        backbone, prompt = self.network.backbone, self.prompt
        started = 0 if cache is None else cache.longest
        length = len(prompt.inputs)
        places = torch.arange(tokens.shape[1], device=tokens.device) + (started - length if started else 0)
        x = self.network.embedding(tokens)
        x = torch.where((tokens == SEPARATOR)[..., None], prompt.separator, x)
        if self.network.shape.scaled:
            x = x * x.shape[-1] ** 0.5
        x = backbone._placed(x, places.expand(len(tokens), -1))
        if not started:
            x = torch.cat([prompt.inputs.expand(len(tokens), -1, -1), x], dim=1)
        rows = (started + torch.arange(x.shape[1], device=x.device)).expand(len(x), -1)
        mask = (torch.arange(started + x.shape[1], device=x.device) <= rows[..., None])[:, None]
        for index, layer in enumerate(backbone.layers):
            x = self._layer(cast("Any", layer), index, x, rows, mask, cache, deep=not started)
        if cache is not None:
            cache.advance(None, x.shape[1])
        logits = self.network.head(backbone.norm(x[:, -tokens.shape[1] :]))
        return cast("Tensor", prompt.verbaliser(logits) if prompt.classes else logits)

    def _layer(
        self, layer: Any, index: int, x: Tensor, rows: Tensor, mask: Tensor, cache: KeyValueCache | None, *, deep: bool
    ) -> Tensor:
        normed = layer.attention_norm(x)
        made_of = [normed, normed]
        if deep and len(self.prompt.keys):
            rest = normed[:, len(self.prompt.inputs) :]
            places = self.prompt.keys[index], self.prompt.values[index]
            made_of = [torch.cat([own.expand(len(x), -1, -1), rest], dim=1) for own in places]
        keys, values = layer.attention.project(made_of[0])[0], layer.attention.project(made_of[1])[1]
        if cache is not None:
            keys, values = cache.append(index, keys, values, rows)
        x = x + layer.attention(normed, keys, values, mask)
        return cast("Tensor", x + layer.feed(layer.feed_norm(x)))


@torch.inference_mode()
def answer(
    model: PromptedLM, tokens: Tensor, count: int, *, allowed: Tensor, draw: Callable[[Tensor], Tensor],
    use_cache: bool = True,
) -> list[int]:  # fmt: skip
    """Tokens, or the verbaliser's outputs, after `tokens` ``[F]``: up to `count`, the last `END` where it came.

    What is answered is heard as the token of the same number, as in the release.

    Args:
        model: With the prompt of a task.
        tokens: The start, units and the separator.
        count: The most.
        allowed: Which may be drawn ``[N]``.
        draw: Takes logits ``[N]``, and returns one.
        use_cache: Keep keys and values; else compute all steps anew each time, which gives the same.
    """
    found: list[int] = []
    cache = model.cache(len(tokens) + count) if use_cache else None
    own = tokens
    while len(found) < count and found[-1:] != [END]:
        heard = own if cache is None or not found else own[-1:]
        logits = model(heard[None], cache)[0, -1].masked_fill(~allowed, NEVER)
        found.append(int(draw(logits)))
        own = torch.cat([own, own.new_tensor(found[-1:])])
    return found


def tune(
    model: PromptedLM, pairs: Sequence[tuple[Tensor, Tensor]], *, steps: int, rate: float = 5e-3, seed: int = 0
) -> list[float]:
    """Learn the prompt of `model`, and nothing else, from `pairs`; returns the loss of each step.

    Args:
        model: Its language model stays as it is.
        pairs: What is heard ``[F]``, with start and separator, and what is to be answered ``[M]``, without the end.
        steps: One pair each, in random order, again and again.
        rate: Of Adam.
        seed: Of the order.
    """
    random = torch.Generator().manual_seed(seed)
    frozen = {name: p.requires_grad for name, p in model.network.named_parameters()}
    model.network.requires_grad_(False)
    model.prompt.requires_grad_(True)
    optimiser = torch.optim.Adam(model.prompt.parameters(), lr=rate)
    losses = []
    for _ in range(steps):
        heard, answered = pairs[int(torch.randint(len(pairs), (), generator=random))]
        wanted = torch.cat([answered, answered.new_tensor([END])])
        logits = model(torch.cat([heard, answered])[None])[0, len(heard) - 1 :]
        loss = functional.cross_entropy(logits, wanted)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))
    for name, parameter in model.network.named_parameters():
        parameter.requires_grad_(frozen[name])
    return losses
