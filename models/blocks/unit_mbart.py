"""mBART over units (arXiv:2204.02967), made to do a task by prompts as in SpeechGen (arXiv:2306.02207).

An encoder hears units, and a decoder tells units. Prompts stand before what each of them takes, and in every layer of
both in the place of what keys and values are made of, as in `prompts`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbench import weights
from codecbench.models.blocks.attention import KeyValueCache, Memory
from codecbench.models.blocks.backbone import Backbone, BackboneShape
from codecbench.models.blocks.sampling import NEVER

FIRST = 2
"""Place of the first step in fairseq's tables of positions."""


@dataclass(frozen=True)
class MBartShape:
    """The shape of a `UnitMBart`; the default is that of the release, but for its vocabulary.

    Attributes:
        vocabulary: Entries of the one embedding.
        dimension, layers, heads, hidden: Of encoder and decoder, as of `backbone.BackboneShape`.
        longest: Steps that there are positions for.
    """

    vocabulary: int
    dimension: int = 1024
    layers: int = 12
    heads: int = 16
    hidden: int = 4096
    longest: int = 1024

    def backbone(self, *, causal: bool) -> BackboneShape:
        """Of the decoder if `causal`, else of the encoder."""
        return BackboneShape(self.dimension, self.layers, self.heads, self.hidden, causal=causal, cross=causal)


class SidePrompt(nn.Module):
    """The prompt of the encoder or the decoder: `length` steps at the input, and in each of `layers`."""

    def __init__(self, length: int, dimension: int, layers: int) -> None:
        super().__init__()
        self.inputs = nn.Parameter(torch.randn(length, dimension))
        self.keys = nn.Parameter(torch.randn(layers, length, dimension))
        self.values = nn.Parameter(torch.randn(layers, length, dimension))


class Side(nn.Module):
    """What encoder and decoder share: positions, a normalisation of what comes in, and a `Backbone`."""

    def __init__(self, net: MBartShape, *, causal: bool) -> None:
        super().__init__()
        self.places = nn.Embedding(FIRST + net.longest, net.dimension)
        self.first_norm = nn.LayerNorm(net.dimension)
        self.backbone = Backbone(net.backbone(causal=causal))
        self.causal = causal

    def forward(
        self, x: Tensor, prompt: SidePrompt | None = None, memory: Memory | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:  # fmt: skip
        """Run over embedded steps `x` ``[B, F, C]``, none of them padding; those of the prompt are not in the result.

        Args:
            x: What follows the steps in `cache`.
            prompt: Stands before the first step.
            memory: What cross-attention looks at.
            cache: Takes these steps, and with the first ones the prompt's.
        """
        length = 0 if prompt is None else len(prompt.inputs)
        started, steps = (0 if cache is None else cache.longest), x.shape[1]
        first = max(started - length, 0)
        places = torch.arange(first, first + steps, device=x.device)
        x = self.first_norm(x + self.places(FIRST + places))
        if prompt is not None and not started:
            x = torch.cat([prompt.inputs.expand(len(x), -1, -1), x], dim=1)
        rows = (started + torch.arange(x.shape[1], device=x.device)).expand(len(x), -1)
        keys = torch.arange(started + x.shape[1], device=x.device)
        mask = ((keys <= rows[..., None]) | (not self.causal))[:, None]
        for index, layer in enumerate(self.backbone.layers):
            own = prompt if not started else None
            x = _layer(cast("Any", layer), index, x, own, rows, mask, memory, cache)
        if cache is not None:
            cache.advance(None, x.shape[1])
        return cast("Tensor", self.backbone.norm(x[:, -steps:]))


def _layer(
    layer: Any, index: int, x: Tensor, prompt: SidePrompt | None, rows: Tensor, mask: Tensor, memory: Memory | None,
    cache: KeyValueCache | None,
) -> Tensor:  # fmt: skip
    normed = layer.attention_norm(x)
    keys, values = layer.attention.project(normed)
    if prompt is not None:
        length = len(prompt.inputs)
        own = (
            layer.attention.project(prompt.keys[index][None])[0],
            layer.attention.project(prompt.values[index][None])[1],
        )
        keys, values = (
            torch.cat([each.expand(len(x), -1, -1, -1), rest[:, :, length:]], dim=2)
            for each, rest in zip(own, (keys, values), strict=True)
        )
    if cache is not None:
        keys, values = cache.append(index, keys, values, rows)
    x = x + layer.attention(normed, keys, values, mask)
    if memory is not None:
        x = x + layer.cross(layer.cross_norm(x), *memory.layers[index], memory.visible)
    return cast("Tensor", x + layer.feed(layer.feed_norm(x)))


class UnitMBart(nn.Module):
    """One embedding for all that goes in and comes out, an encoder and a decoder."""

    def __init__(self, net: MBartShape) -> None:
        super().__init__()
        self.shape = net
        self.embedding = nn.Embedding(net.vocabulary, net.dimension)
        self.encoder, self.decoder = Side(net, causal=False), Side(net, causal=True)

    def hear(self, tokens: Tensor, prompt: SidePrompt | None = None) -> Memory:
        """What the decoder looks at of `tokens` ``[B, F]``."""
        return self.decoder.backbone.memory(self.encoder(self._embedded(tokens), prompt))

    def forward(
        self, tokens: Tensor, memory: Memory, prompt: SidePrompt | None = None, cache: KeyValueCache | None = None
    ) -> Tensor:
        """Logits ``[B, F, N]`` of what follows each of `tokens` ``[B, F]`` of the decoder."""
        logits: Tensor = functional.linear(
            self.decoder(self._embedded(tokens), prompt, memory, cache), self.embedding.weight
        )
        return logits

    def _embedded(self, tokens: Tensor) -> Tensor:
        return cast("Tensor", self.embedding(tokens) * self.shape.dimension**0.5)


@torch.inference_mode()
def tell(
    network: UnitMBart, heard: Tensor, count: int, prompts: Sequence[SidePrompt], *, end: int, allowed: Tensor,
    draw: Callable[[Tensor], Tensor], use_cache: bool = True,
) -> list[int]:  # fmt: skip
    """Tokens that the decoder tells of those `heard` ``[F]``: up to `count`, the last `end` where it came.

    Args:
        network: The model.
        heard: What the encoder takes.
        count: The most.
        prompts: Of encoder and decoder.
        end: Also the decoder's first token.
        allowed: Which tokens may be drawn ``[N]``.
        draw: Takes logits ``[N]``, and returns a token.
        use_cache: Keep keys and values; else compute all steps anew each time, which gives the same.
    """
    memory = network.hear(heard[None], prompts[0])
    capacity = len(prompts[1].inputs) + count
    cache = network.decoder.backbone.cache(1, capacity) if use_cache else None
    own = heard.new_tensor([end])
    found: list[int] = []
    while len(found) < count and found[-1:] != [end]:
        steps = own if cache is None else own[-1:]
        logits = network(steps[None], memory, prompts[1], cache)[0, -1].masked_fill(~allowed, NEVER)
        found.append(int(draw(logits)))
        own = torch.cat([own, own.new_tensor(found[-1:])])
    return found


def own_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` of mBART, of fairseq or of ``transformers``, as that of a `UnitMBart`."""
    rules = (
        (r"^model\.", ""),
        (r"^(encoder\.embed_tokens|shared)\.", "embedding."),
        (r"\.embed_positions\.", ".places."),
        (r"\.layernorm_embedding\.", ".first_norm."),
        (r"^(encoder|decoder)\.layer_norm\.", r"\1.backbone.norm."),
        (r"^(encoder|decoder)\.layers\.", r"\1.backbone.layers."),
        (r"\.self_attn_layer_norm\.", ".attention_norm."),
        (r"\.encoder_attn_layer_norm\.", ".cross_norm."),
        (r"\.final_layer_norm\.", ".feed_norm."),
        (r"\.self_attn\.", ".attention."),
        (r"\.encoder_attn\.", ".cross."),
        (r"\.q_proj\.", ".query."),
        (r"\.k_proj\.", ".key."),
        (r"\.v_proj\.", ".value."),
        (r"\.out_proj\.", ".output."),
        (r"\.fc1\.", ".feed.inner."),
        (r"\.fc2\.", ".feed.outer."),
    )
    again = r"version$|^(model\.)?decoder\.(embed_tokens|output_projection)\.|lm_head|final_logits_bias"
    if any(name.endswith("shared.weight") for name in state):
        again += r"|encoder\.embed_tokens\."
    return weights.rename_keys(state, rules, drop=again)
