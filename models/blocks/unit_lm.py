"""A language model over one stream of units, as of GSLM (arXiv:2102.01192) and TWIST (arXiv:2305.13009)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbench import weights
from codecbench.models.blocks.attention import KeyValueCache
from codecbench.models.blocks.backbone import Backbone, BackboneShape

TRANSFORMERS_NAMES = (
    (r"^model\.(decoder\.)?", ""),
    (r"^embed_tokens\.", "embedding."),
    (r"^lm_head\.", "head."),
    (r"^embed_positions\.", "backbone.places."),
    (r"^project_(in|out)\.", r"project_\1."),
    (r"^(final_layer_norm|layer_norm|norm)\.", "backbone.norm."),
    (r"^layers\.", "backbone.layers."),
    (r"\.self_attn\.([qkvo])(?:ut)?_proj\.", r".attention.\1."),
    (r"\.attention\.q\.", ".attention.query."),
    (r"\.attention\.k\.", ".attention.key."),
    (r"\.attention\.v\.", ".attention.value."),
    (r"\.attention\.o\.", ".attention.output."),
    (r"\.(self_attn_layer_norm|input_layernorm)\.", ".attention_norm."),
    (r"\.(final_layer_norm|post_attention_layernorm)\.", ".feed_norm."),
    (r"\.(fc1|mlp\.up_proj)\.", ".feed.inner."),
    (r"\.(fc2|mlp\.down_proj)\.", ".feed.outer."),
    (r"\.mlp\.gate_proj\.", ".feed.gate."),
)
"""Rules from the parameter names of OPT, Llama and XGLM in ``transformers`` to those here."""


def from_fairseq(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` of a ``transformer_lm`` of fairseq as that of a `UnitLM`."""
    rules = ((r"^decoder\.", ""), (r"^output_projection\.", "head."), *TRANSFORMERS_NAMES)
    found = weights.rename_keys(state, rules, drop=r"decoder\.(version|embed_positions\._float_tensor)$")
    return found if "head.weight" in found else found | {"head.weight": found["embedding.weight"]}


@dataclass(frozen=True)
class UnitLMShape:
    """The shape of a `UnitLM`.

    Attributes:
        backbone: Of the Transformer.
        vocabulary: Entries of the embedding and the output.
        narrow: Channels of an embedding, where a linear layer each leads to the Transformer and back; None for as many
            as the Transformer has.
        scaled: Embeddings are multiplied by the square root of their channels.
        tied: The output layer is the embedding.
    """

    backbone: BackboneShape
    vocabulary: int
    narrow: int | None = None
    scaled: bool = False
    tied: bool = True


class UnitLM(nn.Module):
    """An embedding, a `Backbone`, and one linear layer over the vocabulary."""

    def __init__(self, shape: UnitLMShape) -> None:
        super().__init__()
        self.shape = shape
        channels = shape.narrow or shape.backbone.dimension
        self.embedding = nn.Embedding(shape.vocabulary, channels)
        self.backbone = Backbone(shape.backbone)
        if shape.narrow:
            self.project_in = nn.Linear(channels, shape.backbone.dimension, bias=False)
            self.project_out = nn.Linear(shape.backbone.dimension, channels, bias=False)
        self.head = nn.Linear(channels, shape.vocabulary, bias=False)
        if shape.tied:
            self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor, cache: KeyValueCache | None = None, counts: Tensor | None = None) -> Tensor:
        """Logits ``[B, F, N]`` of what follows each of `tokens` ``[B, F]``; the rest as of `Backbone.forward`."""
        return cast("Tensor", self.head(self.hidden(tokens, cache, counts)))

    def hidden(self, tokens: Tensor, cache: KeyValueCache | None = None, counts: Tensor | None = None) -> Tensor:
        """What the output layer takes ``[B, F, C]``, as of `forward`."""
        x = self.embedding(tokens)
        if self.shape.scaled:
            x = x * x.shape[-1] ** 0.5
        if self.shape.narrow:
            x = self.project_in(x)
        x = self.backbone(x, cache=cache, counts=counts)
        if self.shape.narrow:
            x = self.project_out(x)
        return cast("Tensor", x)

    def loglikelihood(self, tokens: Tensor) -> Tensor:
        """Log-probabilities in nats ``[B, F - 1]`` of `tokens` ``[B, F]`` but the first, given those before."""
        logits = functional.log_softmax(self(tokens[:, :-1]), dim=-1)
        return torch.gather(logits, -1, tokens[:, 1:, None])[..., 0]


def loss(network: UnitLM, tokens: Sequence[Tensor]) -> Tensor:
    """What training makes small: the mean negative log-probability, in nats, of all but the first of `tokens`.

    Args:
        network: The language model.
        tokens: ``[F]`` of each example, 2 at least.
    """
    counts = torch.tensor([len(own) - 1 for own in tokens], device=tokens[0].device)
    logits = network(nn.utils.rnn.pad_sequence([own[:-1] for own in tokens], batch_first=True), counts=counts)
    found = torch.cat([own[:count] for own, count in zip(logits, counts.tolist(), strict=True)])
    return functional.cross_entropy(found, torch.cat([own[1:] for own in tokens]))


def opt(
    dimension: int, layers: int, heads: int, hidden: int, longest: int, *, norm_first: bool = True
) -> BackboneShape:
    """The Transformer of OPT (arXiv:2205.01068); that of 350 M parameters normalises last."""
    return BackboneShape(
        dimension, layers, heads, hidden, activation="relu", positions="learned", first_place=2, longest=longest,
        norm_first=norm_first, final_norm=norm_first,
    )  # fmt: skip


def llama(dimension: int, layers: int, heads: int, hidden: int, key_heads: int | None = None) -> BackboneShape:
    """The Transformer of Llama (arXiv:2302.13971)."""
    return BackboneShape(
        dimension, layers, heads, hidden, key_heads=key_heads, norm="rms", epsilon=1e-6, activation="swiglu",
        attention_bias=False, hidden_bias=False, positions="rotary",
    )  # fmt: skip


def gslm(dimension: int = 1024, layers: int = 12, heads: int = 16, hidden: int = 4096) -> BackboneShape:
    """The Transformer of GSLM's unit language model, fairseq's ``transformer_lm_big``: positions start at 2."""
    return BackboneShape(dimension, layers, heads, hidden, activation="relu", positions="sin_cos", first_place=2)


@torch.no_grad()
def enliven(network: nn.Module) -> None:
    """Make an untrained language model vary: embeddings so small that a tied output does not tell what went in.

    As torch builds them, of variance 1, each token predicts itself with certainty, the more so in wide networks.
    """
    for part in network.modules():
        if isinstance(part, nn.Embedding):
            part.weight.mul_(4 / part.embedding_dim)
