"""A tiny Mimi (arXiv:2410.00037) for the stand-ins of models that speak in its tokens, at its released rates."""

from __future__ import annotations

from typing import Any

RATE, FRAME_RATE, CODEBOOK_SIZE = 24_000, 12.5, 2048
HOP = int(RATE / FRAME_RATE)


def tiny(codebooks: int) -> dict[str, Any]:
    """Its configuration."""
    return {
        "model_type": "mimi", "hidden_size": 16, "num_filters": 2, "codebook_size": CODEBOOK_SIZE, "codebook_dim": 16,
        "num_quantizers": codebooks, "vector_quantization_hidden_dimension": 16, "upsample_groups": 16,
        "num_hidden_layers": 1, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2,
        "upsampling_ratios": [8, 6, 5, 4],
    }  # fmt: skip


def spread(codec: Any) -> None:
    """Draw the entries of its codebooks, which are built as zeros."""
    quantizer = codec.quantizer
    for part in (quantizer.semantic_residual_vector_quantizer, quantizer.acoustic_residual_vector_quantizer):
        for layer in part.layers:
            layer.codebook.embed_sum.normal_()
            layer.codebook.cluster_usage.fill_(1)
