"""A text model whose vocabulary also has audio and tasks, as of AudioPaLM (arXiv:2306.12925) and LauraGPT."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbench.models.blocks.attention import KeyValueCache
from codecbench.models.blocks.backbone import Backbone, BackboneShape
from codecbench.models.blocks.sampling import NEVER


def palm(dimension: int, layers: int, heads: int, hidden: int | None = None) -> BackboneShape:
    """The Transformer of PaLM (arXiv:2204.02311, section 2): one key for all heads, attention beside what feeds on."""
    return BackboneShape(
        dimension, layers, heads, hidden or 4 * dimension, key_heads=1, norm_bias=False, parallel=True,
        epsilon=1e-6, activation="swiglu", attention_bias=False, hidden_bias=False, positions="rotary",
    )  # fmt: skip


def qwen(dimension: int, layers: int, heads: int, hidden: int) -> BackboneShape:
    """The Transformer of Qwen (arXiv:2309.16609, section 2.3)."""
    return BackboneShape(
        dimension, layers, heads, hidden, norm="rms", epsilon=1e-6, activation="swiglu", unbiased=("output",),
        hidden_bias=False, positions="rotary",
    )  # fmt: skip


@dataclass(frozen=True)
class TextAudioLMShape:
    """The shape of a `TextAudioLM`.

    Attributes:
        backbone: Of the Transformer.
        vocabulary: ``N``: words, then what was added.
        tied: The output layer is the embedding.
        logit_scale: Of the output.
    """

    backbone: BackboneShape
    vocabulary: int
    tied: bool = True
    logit_scale: float = 1.0


class TextAudioLM(nn.Module):
    """An embedding, a `Backbone`, and one linear layer over the vocabulary; it may hear vectors in place of ids."""

    def __init__(self, shape: TextAudioLMShape) -> None:
        super().__init__()
        self.shape, channels = shape, shape.backbone.dimension
        self.embedding = nn.Embedding(shape.vocabulary, channels)
        self.backbone = Backbone(shape.backbone)
        self.head = nn.Linear(channels, shape.vocabulary, bias=False)
        nn.init.normal_(self.embedding.weight, std=channels**-0.5)
        if shape.tied:
            self.head.weight = self.embedding.weight

    def forward(self, vectors: Tensor, cache: KeyValueCache | None = None, counts: Tensor | None = None) -> Tensor:
        """Logits ``[B, F, N]`` of what follows each of `vectors` ``[B, F, C]``; the rest as of `Backbone.forward`."""
        found = self.head(self.backbone(vectors, cache=cache, counts=counts))
        return cast("Tensor", found * self.shape.logit_scale)

    def embed(self, ids: Tensor) -> Tensor:
        """Vectors ``[..., C]`` of `ids` ``[...]``."""
        return cast("Tensor", self.embedding(ids))

    def nats(self, before: Tensor, ids: Tensor) -> Tensor:
        """Log-probability in nats ``[F]`` of each of `ids` ``[F]``, after vectors `before` ``[P, C]``."""
        x = torch.cat([before, self.embed(ids[:-1])])
        found = functional.log_softmax(self(x[None])[0, len(before) - 1 :], dim=-1)
        return found.gather(-1, ids[:, None])[:, 0]


@torch.inference_mode()
def generate(
    network: TextAudioLM, before: Tensor, limit: int, *, allowed: Tensor, end: int, draw: Callable[[Tensor], Tensor],
    use_cache: bool = True,
) -> tuple[Tensor, bool]:  # fmt: skip
    """Ids ``[F]`` that follow the vectors `before` ``[P, C]``, up to an `end`; and whether it came.

    Args:
        network: The language model.
        before: The prompt.
        limit: Ids at most.
        allowed: Booleans ``[N]``: the ids that may be drawn.
        end: The id of the end, if it is allowed.
        draw: Takes logits ``[N]``, and returns an id.
        use_cache: Keep keys and values; else compute all steps anew each time, which gives the same.
    """
    cache = network.backbone.cache(1, len(before) + limit) if use_cache else None
    found: list[Tensor] = []
    x = new = before[None]
    for _ in range(limit):
        logits = network(new if cache else x, cache)[0, -1].masked_fill(~allowed, NEVER)
        token = draw(logits)
        if int(token) == end:
            return _stacked(found, before), True
        found.append(token)
        new = network.embed(token)[None, None]
        x = torch.cat([x, new], dim=1)
    return _stacked(found, before), False


def _stacked(found: list[Tensor], like: Tensor) -> Tensor:
    return torch.stack(found) if found else torch.zeros(0, dtype=torch.long, device=like.device)


def grown(state: Mapping[str, Tensor], vocabulary: int) -> dict[str, Tensor]:
    """`state` of a text model with rows of zeros for what its `vocabulary` gains, as AudioPaLM begins its training."""
    found = dict(state)
    for name in ("embedding.weight", "head.weight"):
        if name in found:
            found[name] = functional.pad(found[name], (0, 0, 0, vocabulary - len(found[name])))
    return found
