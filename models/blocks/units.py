"""Units: speech as the entries of a k-means codebook that are nearest to a self-supervised model's features.

HuBERT (arXiv:2106.07447), wav2vec 2.0 (arXiv:2006.11477), WavLM (arXiv:2110.13900) or W2v-BERT 2.0 (`w2v_bert`), up to
one of their layers. The networks of the first three are torchaudio's; files are read as ``transformers`` writes them.
Units carry what is said more than who says it, so that models of spoken language are models of units
(arXiv:2102.01192).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbench import tolerant_torchaudio, weights
from codecbench.models.blocks import w2v_bert

Conv = tuple[int, int, int]
"""Channels, kernel size and stride of a convolution."""

HEAD: tuple[Conv, ...] = ((512, 10, 5), *[(512, 3, 2)] * 4, *[(512, 2, 2)] * 2)
"""The convolutions of all released models: 50 frames a second at 16 kHz. Those for 25 have one more."""


@dataclass(frozen=True)
class Features:
    """A self-supervised model, up to the layer that is used.

    Attributes:
        layer: How many Transformer layers are passed; the last one's output is the feature.
        dimension, heads, hidden: Of the Transformer.
        convs: Of the feature extractor.
        kind: ``wavlm`` has relative positions with gates; HuBERT and wav2vec 2.0 are one network; ``w2v-bert`` has
            `convs` in name only, and what is said of convolutions and positions below means nothing to it.
        large: Normalise every convolution, and what goes into each part of a layer, as the larger models do.
        conv_bias: The convolutions add a bias.
        normalise: A clip is brought to mean 0 and variance 1 first.
        position_kernel, position_groups: Of the convolution that tells steps where they are.
    """

    layer: int
    dimension: int = 768
    heads: int = 12
    hidden: int = 3072
    convs: tuple[Conv, ...] = HEAD
    kind: Literal["hubert", "wavlm", "w2v-bert"] = "hubert"
    large: bool = False
    conv_bias: bool = False
    normalise: bool = False
    position_kernel: int = 128
    position_groups: int = 16

    @property
    def hop(self) -> int:
        """Samples a frame."""
        return prod(stride for _, _, stride in self.convs)

    @property
    def reach(self) -> int:
        """Samples that the convolutions of one frame hear: the shortest clip."""
        reach = 1
        for _, size, stride in reversed(self.convs):
            reach = (reach - 1) * stride + size
        return reach


def from_config(config: Mapping[str, Any], layer: int, *, normalise: bool = False) -> Features:
    """The model that ``config.json`` of a ``transformers`` folder describes, up to `layer`."""
    if config.get("model_type") == "wav2vec2-bert":
        return Features(**w2v_bert.features(config, layer))
    sizes = zip(config["conv_dim"], config["conv_kernel"], config["conv_stride"], strict=True)
    return Features(
        layer, config["hidden_size"], config["num_attention_heads"], config["intermediate_size"], tuple(sizes),
        kind="wavlm" if config.get("model_type") == "wavlm" else "hubert", large=config["do_stable_layer_norm"],
        conv_bias=config["conv_bias"], normalise=normalise, position_kernel=config["num_conv_pos_embeddings"],
        position_groups=config["num_conv_pos_embedding_groups"],
    )  # fmt: skip


class Tokeniser(nn.Module):
    """Samples to units."""

    centroids: Tensor

    def __init__(self, net: Features, entries: int) -> None:
        super().__init__()
        self.net = net
        self.network: Any = w2v_bert.W2vBert(net) if net.kind == "w2v-bert" else _of_torchaudio(net)
        self.register_buffer("centroids", torch.zeros(entries, net.dimension))

    @property
    def entries(self) -> int:
        """``K``, the number of units."""
        return len(self.centroids)

    def features(self, samples: Tensor) -> Tensor:
        """Features ``[F, C]`` of `samples` ``[T]`` at 16 kHz, `Features.reach` of them at least."""
        if self.net.normalise:
            samples = functional.layer_norm(samples, samples.shape)
        found, _ = self.network.extract_features(samples[None], num_layers=self.net.layer)
        return cast("Tensor", found[-1][0])

    def forward(self, samples: Tensor) -> Tensor:
        """Units ``[F]`` of `samples` ``[T]``: frame ``f`` starts at sample ``f * hop``, and must fit in."""
        return self.nearest(self.features(samples))

    def nearest(self, features: Tensor) -> Tensor:
        """The nearest centroid ``[F]`` to each of `features` ``[F, C]``; of equally near ones, the first."""
        cross = features @ self.centroids.mT
        distance: Tensor = self.centroids.square().sum(dim=1) - 2 * cross
        return distance.argmin(dim=1)

    def whole(self, samples: Tensor) -> Tensor:
        """Units ``[ceil(T / hop)]`` of `samples` ``[T]``, which are extended with zeros until the last frame fits."""
        frames = -(-len(samples) // self.net.hop)
        needed = (frames - 1) * self.net.hop + self.net.reach
        return cast("Tensor", self(functional.pad(samples, (0, needed - len(samples)))))


def _of_torchaudio(net: Features) -> Any:
    models = tolerant_torchaudio.load().models
    shared: dict[str, Any] = {
        "extractor_mode": "layer_norm" if net.large else "group_norm",
        "extractor_conv_layer_config": list(net.convs), "extractor_conv_bias": net.conv_bias,
        "encoder_embed_dim": net.dimension, "encoder_projection_dropout": 0.0,
        "encoder_pos_conv_kernel": net.position_kernel, "encoder_pos_conv_groups": net.position_groups,
        "encoder_num_layers": net.layer, "encoder_num_heads": net.heads, "encoder_attention_dropout": 0.0,
        "encoder_ff_interm_features": net.hidden, "encoder_ff_interm_dropout": 0.0, "encoder_dropout": 0.0,
        "encoder_layer_norm_first": net.large, "encoder_layer_drop": 0.0, "aux_num_out": None,
    }  # fmt: skip
    if net.kind == "wavlm":
        return models.wavlm_model(**shared, encoder_num_buckets=320, encoder_max_distance=800)
    return models.wav2vec2_model(**shared)


def deduplicate(units: Tensor) -> tuple[Tensor, Tensor]:
    """`units` ``[F]`` without repetitions ``[N]``, and for how many frames each lasts ``[N]``."""
    found, counts = torch.unique_consecutive(units, return_counts=True)
    return found, counts


def own_names(state: Mapping[str, Tensor], net: Features) -> dict[str, Tensor]:
    """`state` of a model of ``transformers``, whole or with a head, as that of a `Tokeniser` without its centroids."""
    if net.kind == "w2v-bert":
        return {f"network.{name}": tensor for name, tensor in w2v_bert.own_names(state, _beyond(net)).items()}
    rules = (
        (r"^(hubert|wav2vec2|wavlm)\.", ""),
        (r"^feature_projection\.", "encoder.feature_projection."),
        (r"^encoder\.(pos_conv_embed|layer_norm|layers)\.", r"encoder.transformer.\1."),
        (r"\.weight_g$", ".parametrizations.weight.original0"),
        (r"\.weight_v$", ".parametrizations.weight.original1"),
    )
    unused = (
        rf"masked_spec_embed|^(quantizer|project_|lm_head|classifier|projector)|encoder\.layers\.({_beyond(net)})\."
    )
    found = weights.rename_keys(state, rules, drop=unused)
    if net.kind == "wavlm":
        found = _packed(found)
    return {f"network.{name}": tensor for name, tensor in found.items()}


FAIRSEQ_NAMES = (
    (r"^layer_norm\.", "encoder.feature_projection.layer_norm."),
    (r"^post_extract_proj\.", "encoder.feature_projection.projection."),
    (r"^(feature_extractor\.conv_layers\.\d+)\.0\.", r"\1.conv."),
    (r"^(feature_extractor\.conv_layers\.\d+)\.2\.(1\.)?", r"\1.layer_norm."),
    (r"^encoder\.pos_conv\.0\.weight_g$", "encoder.transformer.pos_conv_embed.conv.parametrizations.weight.original0"),
    (r"^encoder\.pos_conv\.0\.weight_v$", "encoder.transformer.pos_conv_embed.conv.parametrizations.weight.original1"),
    (r"^encoder\.pos_conv\.0\.bias$", "encoder.transformer.pos_conv_embed.conv.bias"),
    (r"^encoder\.(layer_norm|layers)\.", r"encoder.transformer.\1."),
    (r"\.self_attn\.", ".attention."),
    (r"\.self_attn_layer_norm\.", ".layer_norm."),
    (r"\.fc1\.", ".feed_forward.intermediate_dense."),
    (r"\.fc2\.", ".feed_forward.output_dense."),
)
"""Rules from the parameter names of HuBERT and wav2vec 2.0 in fairseq to torchaudio's."""


def from_fairseq(state: Mapping[str, Tensor], net: Features) -> dict[str, Tensor]:
    """`state` of HuBERT or wav2vec 2.0 in fairseq as that of a `Tokeniser` without its centroids."""
    unused = rf"^(mask_emb|label_embs_concat|final_proj|quantizer|project_q)|encoder\.layers\.({_beyond(net)})\."
    return {f"network.{name}": tensor for name, tensor in weights.rename_keys(state, FAIRSEQ_NAMES, unused).items()}


def _beyond(net: Features) -> str:
    """A pattern of the numbers of layers that are not used."""
    return "|".join(str(n) for n in range(net.layer, net.layer + 100))


def _packed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` with queries, keys and values in one, as torchaudio's WavLM has them."""
    found = {}
    for name, tensor in state.items():
        stem, _, part = name.rpartition(".attention.")
        if part.startswith(("k_proj", "v_proj")):
            continue
        if part.startswith("q_proj"):
            kind = part.removeprefix("q_proj.")
            parts = [state[f"{stem}.attention.{letter}_proj.{kind}"] for letter in "qkv"]
            found[f"{stem}.attention.attention.in_proj_{kind}"] = torch.cat(parts)
        else:
            found[name.replace(".attention.out_proj.", ".attention.attention.out_proj.")] = tensor
    return found


def fill(tokeniser: Tokeniser, generator: torch.Generator) -> None:
    """Give an untrained `tokeniser` centroids that its features come near to."""
    net = tokeniser.net
    with torch.no_grad():
        frames = tokeniser.entries
        noise = torch.randn((frames + 4) * net.hop + net.reach, generator=generator)
        swell = torch.rand(frames + 8, generator=generator).repeat_interleave(net.hop)[: len(noise)]
        found = tokeniser.features(0.1 * noise[: len(swell)] * swell)
        tokeniser.centroids.copy_(found[:frames])
