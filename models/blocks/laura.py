"""The networks of LauraTTS (arXiv:2310.04673, section 3.4, and FunCodec's release): text to vectors of a codec.

A language model reads and predicts the first codebooks of each frame; each frame is read as the sum of its codebooks'
entries. A predictor then hears the text and those frames, and gives the sum of all codebooks' entries at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbench import weights
from codecbench.models.blocks.relative import RELEASED_NAMES, RelativeShape, RelativeTransformer, interleaved_waves

_PARTS = {
    "text_encoder.": "text.",
    "codec_lm.encoder.": "lm.",
    "codec_encoder.": "predictor.encoder.",
}
_OTHERS = (
    (r"^token_embedding\.", "tokens."),
    (r"^text_enc_out_layer\.", "text_out."),
    (r"^lm_embedding\.", "marks."),
    (r"^codec_lm\.decoder\.", "head."),
    (r"^codec_encoder_out_layer\.", "predictor.out."),
    (r"^quantizer_codebook\.embed$", "predictor.entries"),
)
TRAINING_ONLY = r"^quantizer\.|^quantizer_codebook\.codec_index_shift$"
START, TASK = 0, 1


@dataclass(frozen=True)
class LauraShape:
    """The shape of a `LauraTTS`.

    Attributes:
        vocabulary: Phones.
        input: Channels of a phone.
        layers: Of the encoder of text, the language model and the predictor.
        dimension, heads, hidden: Of all three.
        channels: Of the codec's frames.
        codebooks: ``N``, of the codec.
        predicted: ``K``, those that the language model predicts.
        codebook_size: Of each.
    """

    vocabulary: int = 72
    input: int = 1536
    layers: tuple[int, int, int] = (6, 12, 6)
    dimension: int = 512
    heads: int = 8
    hidden: int = 2048
    channels: int = 128
    codebooks: int = 32
    predicted: int = 2
    codebook_size: int = 1024

    def transformer(self, part: int, channels: int) -> RelativeShape:
        """The shape of one of the three."""
        return RelativeShape(channels, self.dimension, self.layers[part], self.heads, self.hidden)


class CodecPredictor(nn.Module):
    """From the first codebooks of each frame to the sum of all codebooks' entries, given what it is about."""

    entries: Tensor

    def __init__(self, shape: RelativeShape, channels: int, codebooks: int, codebook_size: int) -> None:
        super().__init__()
        self.encoder = RelativeTransformer(shape)
        self.out = nn.Linear(shape.dimension, channels)
        self.register_buffer("entries", torch.zeros(codebooks, codebook_size, channels))

    def embed(self, codes: Tensor) -> Tensor:
        """The sum of the entries ``[F, C]`` of `codes` ``[K, F]``."""
        found = [table[own] for table, own in zip(self.entries, codes, strict=False)]
        return torch.stack(found).sum(dim=0)

    def forward(self, about: Tensor, frames: Tensor) -> Tensor:
        """All of each frame ``[F, C]``, from what is known of it, `frames` ``[F, C]``, after `about` ``[M, C]``."""
        found = self.encoder(torch.cat([_placed(about), _placed(frames)])[None])[0, len(about) :]
        return cast("Tensor", self.out(found))

    def loss(self, about: Tensor, frames: Tensor, codes: Tensor) -> Tensor:
        """Half of the distances and a quarter of the squared distances to the frames of `codes` ``[N, F]``: a mean."""
        target = self.embed(codes)
        apart = self(about, frames) - target
        return cast("Tensor", (0.5 * apart.abs() + 0.25 * apart.square()).mean())


def _placed(x: Tensor) -> Tensor:
    """`x` ``[F, C]``, scaled, with waves that begin at its first step."""
    places = torch.arange(len(x), device=x.device)
    waves = interleaved_waves(places, x.shape[-1]).to(x.dtype)
    return cast("Tensor", x * x.shape[-1] ** 0.5 + waves)


class LauraTTS(nn.Module):
    """Encoder of text, language model and predictor."""

    def __init__(self, shape: LauraShape) -> None:
        super().__init__()
        self.shape, channels = shape, shape.channels
        self.tokens = nn.Embedding(shape.vocabulary, shape.input)
        self.text = RelativeTransformer(shape.transformer(0, shape.input))
        self.text_out = nn.Linear(shape.dimension, channels)
        self.marks = nn.Embedding(2, channels)
        own = replace(shape.transformer(1, channels), activation="relu", rectified=True, causal=True)
        self.lm = RelativeTransformer(own)
        self.head = nn.Linear(shape.dimension, shape.predicted * (shape.codebook_size + 1))
        last = shape.transformer(2, channels)
        self.predictor = CodecPredictor(last, channels, shape.codebooks, shape.codebook_size)

    def read(self, phones: Tensor) -> Tensor:
        """Vectors ``[M, C]`` of `phones` ``[M]``."""
        return cast("Tensor", self.text_out(self.text(self.tokens(phones)[None])[0]))

    def prompt(self, text: Tensor) -> Tensor:
        """What stands before the frames: ``[M + 2, C]``, of which all but the last see each other."""
        return torch.cat([self.marks.weight[START][None], text, self.marks.weight[TASK][None]])

    def logits(self, text: Tensor, codes: Tensor) -> Tensor:
        """Logits ``[K, F + 1, N + 1]`` of each of `codes` ``[K, F]``, and of what follows; the last entry is the end.

        Args:
            text: What `read` gave.
            codes: Of the predicted codebooks.
        """
        x = torch.cat([self.prompt(text), self.predictor.embed(codes)])[None]
        found = self.head(self.lm(x, prefix=self._prefix(text))[0, len(text) + 1 :])
        return self._by_codebook(found)

    def loss(self, phones: Tensor, codes: Tensor, *, truth: float = 0.5) -> Tensor:
        """The training loss of one example: of the language model, a mean in nats, and of the predictor.

        The predictor hears the language model's likeliest codes, through which gradients go as if it heard their
        probabilities; of those that are wrong, a part of `truth` is put right.

        Args:
            phones: ``[M]``.
            codes: Of all codebooks ``[N, F]``.
            truth: From 0 to 1.
        """
        shape, text = self.shape, self.read(phones)
        known = codes[: shape.predicted]
        logits = self.logits(text, known)
        targets = functional.pad(known, (0, 1), value=shape.codebook_size)
        nats = functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        soft = logits[:, :-1, :-1].softmax(dim=-1)
        likeliest = soft.argmax(dim=-1)
        right = functional.one_hot(known, shape.codebook_size).float()
        hard = functional.one_hot(likeliest, shape.codebook_size).float()
        told = (likeliest != known) & (torch.rand(known.shape, device=known.device) <= truth)
        heard = torch.where(told[..., None], right, soft + (hard - soft).detach())
        frames = (heard @ self.predictor.entries[: shape.predicted]).sum(dim=0)
        return nats + self.predictor.loss(text, frames, codes)

    def _prefix(self, text: Tensor) -> Tensor:
        return torch.tensor([len(text) + 1], device=text.device)

    def _by_codebook(self, found: Tensor) -> Tensor:
        """Logits ``[K, F, N]`` of what the head gives ``[F, K · N]``."""
        return found.view(len(found), self.shape.predicted, -1).transpose(0, 1)


@torch.inference_mode()
def generate(
    network: LauraTTS, text: Tensor, past: Tensor, limit: int, draw: Callable[[Tensor], Tensor], *,
    use_cache: bool = True,
) -> tuple[Tensor, bool]:  # fmt: skip
    """Codes ``[K, F]`` that follow `past` ``[K, P]``, and whether the end came: it did as soon as one codebook ended.

    Args:
        network: All networks.
        text: What `LauraTTS.read` gave.
        past: Codes of the voice's recording, whose words the text begins with.
        limit: Frames at most.
        draw: Takes logits ``[K, N + 1]``, and returns codes ``[K]``.
        use_cache: Keep keys and values; else compute all steps anew each time, which gives the same.
    """
    x = torch.cat([network.prompt(text), network.predictor.embed(past)])[None]
    cache = network.lm.cache(1, x.shape[1] + limit) if use_cache else None
    frames: list[Tensor] = []
    new = x
    for _ in range(limit):
        found = network.lm(new if cache else x, prefix=network._prefix(text), cache=cache)
        codes = draw(network._by_codebook(network.head(found[0, -1:]))[:, 0])
        if bool((codes == network.shape.codebook_size).any()):
            return _stacked(frames, past), True
        frames.append(codes)
        new = network.predictor.embed(codes[:, None])[None]
        x = torch.cat([x, new], dim=1)
    return _stacked(frames, past), False


def _stacked(frames: Sequence[Tensor], past: Tensor) -> Tensor:
    return torch.stack(list(frames), dim=1) if frames else past[:, :0]


def from_release(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """`state` of FunCodec's release as that of a `LauraTTS`."""
    found: dict[str, Tensor] = {}
    for prefix, part in _PARTS.items():
        own = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        found |= {part + name: tensor for name, tensor in weights.rename_keys(own, RELEASED_NAMES).items()}
    rest = {name: tensor for name, tensor in state.items() if not name.startswith(tuple(_PARTS))}
    return found | weights.rename_keys(rest, _OTHERS, drop=TRAINING_ONLY)
