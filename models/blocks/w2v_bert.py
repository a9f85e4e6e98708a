"""W2v-BERT 2.0 (arXiv:2312.05187), a Conformer over log-mel frames: the model of ``transformers``, up to a layer.

It takes the place of torchaudio's networks in `codecbench.models.blocks.units`. Needs the extra ``hf``.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from codecbench import tolerant_torchaudio, weights
from codecbench.errors import InvalidSystem

if TYPE_CHECKING:
    from codecbench.models.blocks.units import Conv, Features

RATE, BANDS, STACKED = 16_000, 80, 2
FRAMES: tuple[Conv, ...] = ((BANDS, 400, 160), (STACKED * BANDS, STACKED, STACKED))
"""Windows of 25 ms every 10 ms, two of them a frame: what `Features.convs` is for other models."""


class W2vBert(nn.Module):
    """The network, and the log-mel frames that it hears.

    Raises:
        InvalidSystem: ``transformers`` is not installed.
    """

    def __init__(self, net: Features) -> None:
        super().__init__()
        if not find_spec("transformers"):
            raise InvalidSystem("W2v-BERT 2.0 needs transformers: pip install 'codecbench[hf]'")
        tolerant_torchaudio.load()  # `transformers` imports it plainly
        from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2BertConfig, Wav2Vec2BertModel

        self.model: Any = Wav2Vec2BertModel(
            Wav2Vec2BertConfig(
                hidden_size=net.dimension, num_hidden_layers=net.layer, num_attention_heads=net.heads,
                intermediate_size=net.hidden, feature_projection_input_dim=STACKED * BANDS, mask_time_prob=0.0,
                layerdrop=0.0,
            )
        )  # fmt: skip
        self.hear: Any = SeamlessM4TFeatureExtractor(
            feature_size=BANDS, num_mel_bins=BANDS, sampling_rate=RATE, stride=STACKED, padding_value=1.0
        )

    def extract_features(self, samples: Tensor, num_layers: int) -> tuple[list[Tensor], None]:
        """The output ``[1, F, C]`` of the last layer, as torchaudio's networks give it, of `samples` ``[1, T]``.

        Raises:
            ValueError: `num_layers` is not how many there are.
        """
        if num_layers != self.model.config.num_hidden_layers:
            raise ValueError(f"{num_layers} layers of {self.model.config.num_hidden_layers}")
        frames = self.hear(samples[0].cpu().numpy(), sampling_rate=RATE, return_tensors="pt")
        mask = frames.attention_mask.to(samples.device)
        found = self.model(frames.input_features.to(samples.device), attention_mask=mask).last_hidden_state
        windows = (samples.shape[1] - FRAMES[0][1]) // FRAMES[0][2] + 1
        return [found[:, : windows // STACKED]], None  # a last window alone is no frame


def own_names(state: Mapping[str, Tensor], beyond: str) -> dict[str, Tensor]:
    """`state` of a model of ``transformers`` as that of `W2vBert`, without the layers whose numbers match `beyond`."""
    unused = (
        rf"masked_spec_embed|^(adapter|intermediate_ffn|lm_head|classifier|projector)|encoder\.layers\.({beyond})\."
    )
    renamed = weights.rename_keys(state, ((r"^wav2vec2_bert\.", ""),), drop=unused)
    return {f"model.{name}": tensor for name, tensor in renamed.items()}


def features(config: Mapping[str, Any], layer: int) -> dict[str, Any]:
    """What `Features` is told of the model that ``config.json`` describes, up to `layer`."""
    return {
        "layer": layer, "dimension": config["hidden_size"], "heads": config["num_attention_heads"],
        "hidden": config["intermediate_size"], "convs": FRAMES, "kind": "w2v-bert",
    }  # fmt: skip
