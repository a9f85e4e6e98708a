"""A language model over the frames of several codebooks, told what to say by vectors: the network of MusicGen.

arXiv:2306.05284. AudioGen's second version is another configuration of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from codecbench import weights
from codecbench.models.blocks.attention import KeyValueCache, Memory
from codecbench.models.blocks.backbone import Arrangement, Backbone, BackboneShape, split_packed

_SHARED = ((r"\.self_attn\.", ".attention."), (r"\.out_proj\.", ".output."))
TRANSFORMERS_NAMES = (
    (r"^lm_heads\.", "heads."),
    (r"^model\.decoder\.embed_tokens\.", "embeddings."),
    (r"^model\.decoder\.layer_norm\.", "backbone.norm."),
    (r"^model\.decoder\.", "backbone."),
    (r"\.self_attn_layer_norm\.", ".attention_norm."),
    (r"\.encoder_attn_layer_norm\.", ".cross_norm."),
    (r"\.final_layer_norm\.", ".feed_norm."),
    (r"\.encoder_attn\.", ".cross."),
    (r"\.q_proj\.", ".query."),
    (r"\.k_proj\.", ".key."),
    (r"\.v_proj\.", ".value."),
    (r"\.fc1\.", ".feed.inner."),
    (r"\.fc2\.", ".feed.outer."),
    (r"^enc_to_dec_proj\.", "text."),
    (r"^audio_enc_to_dec_proj\.", "melody."),
    *_SHARED,
)
"""Rules from the parameter names of ``transformers`` (of the decoder, without its prefix) to those here."""

AUDIOCRAFT_NAMES = (
    (r"^emb\.", "embeddings."),
    (r"^linears\.", "heads."),
    (r"^out_norm\.", "backbone.norm."),
    (r"^transformer\.", "backbone."),
    (r"\.norm1\.", ".attention_norm."),
    (r"\.norm_cross\.", ".cross_norm."),
    (r"\.norm2\.", ".feed_norm."),
    (r"\.cross_attention\.", ".cross."),
    (r"\.linear1\.", ".feed.inner."),
    (r"\.linear2\.", ".feed.outer."),
    (r"^condition_provider\.conditioners\.description\.output_proj\.", "text."),
    (r"^condition_provider\.conditioners\.self_wav\.output_proj\.", "melody."),
    *_SHARED,
)
"""Rules from the parameter names of audiocraft to those here, after its packed projections are split."""


@dataclass(frozen=True)
class CodebookLMShape:
    """The shape of a `CodebookLM`.

    Attributes:
        backbone: Of the Transformer; with cross-attention the text is its memory, else it comes before the frames.
        codebooks: ``K``.
        codebook_size: Entries of each.
        text: Channels of the text's vectors.
        melody: Channels of the melody's vectors, which come before the text; 0 for a model without.
        melody_frames: How many they are.
    """

    backbone: BackboneShape
    codebooks: int
    codebook_size: int
    text: int
    melody: int = 0
    melody_frames: int = 235


def musicgen(dimension: int, layers: int, heads: int, *, cross: bool = True) -> BackboneShape:
    """The Transformer of MusicGen."""
    return BackboneShape(
        dimension, layers, heads, 4 * dimension, attention_bias=False, hidden_bias=False, cross=cross,
        positions="cos_sin",
    )  # fmt: skip


class CodebookLM(nn.Module):
    """The sum of one embedding a codebook, a `Backbone`, and one linear layer a codebook.

    Each embedding has an entry more than its codebook: for a place that has no code.
    """

    def __init__(self, shape: CodebookLMShape) -> None:
        super().__init__()
        self.shape = shape
        channels, size = shape.backbone.dimension, shape.codebook_size
        self.embeddings = nn.ModuleList(nn.Embedding(size + 1, channels) for _ in range(shape.codebooks))
        self.backbone = Backbone(shape.backbone)
        self.heads = nn.ModuleList(nn.Linear(channels, size, bias=False) for _ in range(shape.codebooks))
        self.text = nn.Linear(shape.text, channels)
        if shape.melody:
            self.melody = nn.Linear(shape.melody, channels)

    def forward(
        self, codes: Tensor, *, cache: KeyValueCache | None = None, counts: Tensor | None = None,
        memory: Memory | None = None, prefix: Tensor | None = None, arrangement: Arrangement | None = None,
    ) -> Tensor:  # fmt: skip
        """Logits of what follows.

        Args:
            codes: Steps ``[B, K, F]``, each code in ``[0, codebook_size]``; the rest is as of `Backbone.forward`.
            cache: Takes these steps too.
            counts: How many of a request's steps are not padding.
            memory: What `listen` returned.
            prefix: Vectors ``[B, P, C]`` before the first step; in the first call only.
            arrangement: As of `Backbone.forward`; without a `prefix`.

        Returns:
            ``[B, K, F, N]``.
        """
        x = torch.stack([table(codes[:, k]) for k, table in enumerate(self.embeddings)]).sum(dim=0)
        if prefix is not None:
            x = torch.cat([prefix, x], dim=1)
            counts = None if counts is None else counts + prefix.shape[1]
        x = self.backbone(x, cache=cache, counts=counts, memory=memory, arrangement=arrangement)
        x = x[:, -codes.shape[-1] :]
        return torch.stack([head(x) for head in self.heads], dim=1)

    def listen(self, texts: Sequence[Tensor | None]) -> Memory:
        """The memory of requests with the text's vectors ``[M, C]``, or none, which is heard as one vector of zeros."""
        found = [self._nothing() if text is None else self.text(text) for text in texts]
        counts = torch.tensor([len(vectors) for vectors in found], device=found[0].device)
        return self.backbone.memory(nn.utils.rnn.pad_sequence(found, batch_first=True), counts)

    def precede(
        self, melodies: Sequence[Tensor | None], texts: Sequence[Tensor | None], *, told: bool = True
    ) -> Tensor:  # fmt: skip
        """The vectors ``[B, P, C]`` before the steps of a model without cross-attention: the melody, then the text.

        Args:
            melodies: Chroma ``[M, 12]`` of each request, repeated or cut to the model's number of frames, or None.
            texts: Vectors of each request's text, or None; as many of each.
            told: False for what stands there when neither is told: no melody, and as many zeros as the text has.
        """
        spoken = torch.stack([self._nothing() if text is None else self.text(text) for text in texts])
        heard = torch.stack([self._chroma(melody if told else None) for melody in melodies])
        return torch.cat([self.melody(heard), spoken if told else torch.zeros_like(spoken)], dim=1)

    def _chroma(self, melody: Tensor | None) -> Tensor:
        frames, channels = self.shape.melody_frames, self.shape.melody
        if melody is None:  # what the chroma of silence is
            melody = torch.eye(channels, device=self.melody.weight.device)[:1]
        return melody.repeat(-(-frames // len(melody)), 1)[:frames]

    def _nothing(self) -> Tensor:
        return self.text.weight.new_zeros(1, self.shape.backbone.dimension)


def from_audiocraft(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """`state` of audiocraft's language model as that of a `CodebookLM`."""
    names = [f"{part}.weight" for part in ("query", "key", "value")]
    return weights.rename_keys(split_packed(state, "in_proj_weight", names), AUDIOCRAFT_NAMES, drop=r"\.chroma\.")


def from_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """`state` of MusicGen's decoder and projections in ``transformers`` as that of a `CodebookLM`."""
    bare = {name.removeprefix("decoder."): tensor for name, tensor in state.items()}
    return weights.rename_keys(bare, TRANSFORMERS_NAMES, drop=r"embed_positions")
