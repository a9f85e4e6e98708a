"""SoundStorm's network (arXiv:2305.09636): all codes of all frames at once, from semantic tokens and the codes known.

And how it generates, codebook by codebook, the frames of which it is surest first; and the loss that it learns from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import cos, pi

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbench import weights
from codecbench.models.blocks.conformer import Conformer, ConformerShape
from codecbench.models.blocks.patterns import cosine_counts
from codecbench.models.blocks.sampling import unmask
from codecbench.models.blocks.stage_lm import Stage

UNKNOWN = -1
"""In the place of a code that is yet to come, or is hidden."""

RELEASED_NAMES = (
    (r"^semantic_token_emb\.", "semantic."),
    (r"^net\.code_embeds\.", "codes."),
    (r"^net\.heads\.0\.", "split."),
    (r"^net\.to_logits\.0\.", "norm."),
    (r"^net\.to_logits\.2\.weight$", "weight"),
    (r"^net\.to_logits\.2\.bias$", "bias"),
    (r"^net\.conformer\.", "conformer."),
    (r"\.ff1\.fn\.norm\.", ".first_norm."),
    (r"\.ff2\.fn\.norm\.", ".last_norm."),
    (r"\.ff1\.fn\.fn\.net\.0\.", ".first.0."),
    (r"\.ff1\.fn\.fn\.net\.3\.", ".first.2."),
    (r"\.ff2\.fn\.fn\.net\.0\.", ".last.0."),
    (r"\.ff2\.fn\.fn\.net\.3\.", ".last.2."),
    (r"\.attn\.norm\.", ".attention_norm."),
    (r"\.attn\.fn\.to_q\.", ".attention.query."),
    (r"\.attn\.fn\.to_kv\.", ".attention.key_value."),
    (r"\.attn\.fn\.to_out\.", ".attention.output."),
    (r"\.conv\.net\.0\.", ".convolution_norm."),
    (r"\.conv\.net\.2\.", ".convolution.gated."),
    (r"\.conv\.net\.4\.conv\.", ".convolution.depthwise."),
    (r"\.conv\.net\.6\.gamma$", ".convolution.gain"),
    (r"\.conv\.net\.7\.", ".convolution.output."),
    (r"\.post_norm\.", ".norm."),
)
"""Rules from the parameter names of soundstorm-speechtokenizer to those here."""


@dataclass(frozen=True)
class MaskedLMShape:
    """The shape of a `MaskedLM`.

    Attributes:
        conformer: Of its frames.
        units: Semantic tokens.
        codebooks: ``K``.
        codebook_size: Entries of each.
    """

    conformer: ConformerShape
    units: int
    codebooks: int
    codebook_size: int


class MaskedLM(nn.Module):
    """The sum of one embedding a codebook and one of the semantic token, a `Conformer`, and one head a codebook.

    Each codebook's embedding has an entry more, for a code that is not known.
    """

    def __init__(self, shape: MaskedLMShape) -> None:
        super().__init__()
        self.shape = shape
        channels, count, size = shape.conformer.dimension, shape.codebooks, shape.codebook_size
        self.semantic = nn.Embedding(shape.units, channels)
        self.codes = nn.Embedding(count * (size + 1), channels)
        self.conformer = Conformer(shape.conformer)
        self.split = nn.Linear(channels, count * channels)
        self.norm = nn.LayerNorm(channels)
        self.weight = nn.Parameter(torch.empty(count, channels, size).uniform_(-(channels**-0.5), channels**-0.5))
        self.bias = nn.Parameter(torch.zeros(count, size))

    def forward(self, units: Tensor, codes: Tensor, visible: Tensor | None = None) -> Tensor:
        """Logits ``[B, K, F, N]``.

        Args:
            units: Semantic tokens ``[B, F]``, one a frame.
            codes: ``[B, K, F]``, with `UNKNOWN` for those that are not known.
            visible: Which frames are no padding ``[B, F]``; None for all.
        """
        size, count = self.shape.codebook_size, self.shape.codebooks
        rows = torch.where(codes == UNKNOWN, size, codes)
        rows = rows + (size + 1) * torch.arange(count, device=codes.device)[:, None]
        x = self.conformer(self.codes(rows).sum(dim=1) + self.semantic(units), visible)
        split = self.norm(self.split(x).unflatten(-1, (count, -1)))
        return torch.einsum("bfkc,kcn->bkfn", split, self.weight) + self.bias[:, None]

    def loss(self, units: Sequence[Tensor], codes: Sequence[Tensor], random: torch.Generator) -> Tensor:
        """What training makes small: the mean negative log-probability, in nats, of hidden codes (section 3.2).

        Of each example a prompt, as long as chance has it, is known, and so are all codebooks before one that is drawn
        too. Of that one, the cosine of an even random part of a right angle is hidden; of the later ones, all.

        Args:
            units: Semantic tokens ``[F]`` of each example.
            codes: Codes ``[K, F]`` of each, at least one frame.
            random: What draws.
        """
        parts = [hide(own.cpu(), random) for own in codes]
        known = [part[0].to(own.device) for part, own in zip(parts, codes, strict=True)]
        asked = [part[1].to(own.device) for part, own in zip(parts, codes, strict=True)]
        pad = nn.utils.rnn.pad_sequence
        visible = pad([torch.ones_like(own, dtype=torch.bool) for own in units], batch_first=True)
        logits = self(pad(list(units), batch_first=True), pad([own.T for own in known], batch_first=True).mT, visible)
        found = [own[:, : part.shape[1]][part] for own, part in zip(logits, asked, strict=True)]
        wanted = [own[part] for own, part in zip(codes, asked, strict=True)]
        return functional.cross_entropy(torch.cat(found), torch.cat(wanted))


def hide(codes: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """`codes` ``[K, F]`` with some `UNKNOWN`, as training shows them, and booleans ``[K, F]``: which it asks for."""
    codebooks, frames = codes.shape
    prompt, level = (int(torch.randint(0, most, (), generator=random)) for most in (frames, codebooks))
    part = cos(pi / 2 * float(torch.rand((), generator=random)))
    count = max(1, int(part * (frames - prompt)))
    asked = torch.zeros_like(codes, dtype=torch.bool)
    asked[level, prompt + torch.randperm(frames - prompt, generator=random)[:count]] = True
    hidden = asked.clone()
    hidden[level + 1 :, prompt:] = True
    return codes.masked_fill(hidden, UNKNOWN), asked


@torch.inference_mode()
def fill(
    network: MaskedLM, units: Tensor, codes: Tensor, iterations: Sequence[int], draw: Callable[[Tensor], Tensor],
    watch: Callable[[Tensor], None] = lambda _: None,
) -> Tensor:  # fmt: skip
    """`codes` ``[K, F]`` with all that are `UNKNOWN` generated; no other changes (section 3.3).

    Codebook by codebook. In each iteration but the last, codes are drawn for all frames that are not known, and the
    surest stay, as many as `patterns.cosine_counts` says; in the last, the likeliest stays for all that are left.

    Args:
        network: The language model.
        units: Semantic tokens ``[F]``, one a frame.
        codes: What is known.
        iterations: Of each codebook; the paper has 16 for the first, and 1 for the others.
        draw: Takes logits ``[F, N]``, and returns codes ``[F]``.
        watch: Is shown the codes ``[K, F]`` that the network sees, each time.
    """
    codes = codes.clone()
    for k, count in enumerate(iterations):
        counts = cosine_counts(int((codes[k] == UNKNOWN).sum()), count)
        for i, accepted in enumerate(counts):
            if not accepted:
                continue
            watch(codes)
            masked = codes[k] == UNKNOWN
            logits = network(units[None], codes[None])[0, k]
            tokens = logits.argmax(dim=-1) if i == count - 1 else draw(logits)
            sureness = functional.log_softmax(logits, dim=-1).gather(-1, tokens[:, None])[:, 0]
            codes[k] = torch.where(unmask(sureness, masked, accepted), tokens, codes[k])
    return codes


@torch.inference_mode()
def loglikelihood(network: MaskedLM, units: Tensor, codes: Tensor) -> Tensor:
    """Log-probabilities in nats ``[K, F]`` of `codes` ``[K, F]`` where each codebook comes in one iteration."""
    nats = []
    for k in range(len(codes)):
        known = codes.clone()
        known[k:] = UNKNOWN
        logits = functional.log_softmax(network(units[None], known[None])[0, k], dim=-1)
        nats.append(logits.gather(-1, codes[k, :, None])[:, 0])
    return torch.stack(nats)


def from_released(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` of soundstorm-speechtokenizer as that of a `MaskedLM`: convolutions over one frame are linear here."""
    found = weights.rename_keys(state, RELEASED_NAMES)
    for name, tensor in found.items():
        if name.endswith((".gated.weight", ".convolution.output.weight")):
            found[name] = tensor[..., 0]
        elif name.endswith(".gain"):
            found[name] = tensor.flatten()
        elif name == "bias":
            found[name] = tensor.view(tensor.shape[-2:])
    return found


class SoundStormStages(nn.Module):
    """The two networks of SoundStorm: semantic tokens from text or from those before, and codes from these.

    Args:
        semantic: The first, a `Stage` that may be given ``text``, as bytes.
        acoustic: The second.
        ratio: Frames for which a semantic token stands.
    """

    def __init__(self, semantic: Stage, acoustic: MaskedLM, ratio: int) -> None:
        super().__init__()
        self.semantic, self.acoustic, self.ratio = semantic, acoustic, ratio

    def simplified(self, units: Tensor) -> Tensor:
        """Semantic tokens ``[1, F]`` as the first network sees `units` ``[F]``: all of them."""
        return units[None]

    def loss(
        self, units: Sequence[Tensor], codes: Sequence[Tensor], random: torch.Generator,
        given: Sequence[Mapping[str, Tensor]] | None = None,
    ) -> Tensor:  # fmt: skip
        """What training makes small: the sum of both `losses`."""
        return torch.stack(list(self.losses(units, codes, random, given).values())).sum()

    def losses(
        self, units: Sequence[Tensor], codes: Sequence[Tensor], random: torch.Generator,
        given: Sequence[Mapping[str, Tensor]] | None = None,
    ) -> dict[str, Tensor]:  # fmt: skip
        """The loss of each network by name; they share no parameters.

        Args:
            units: Semantic tokens ``[U]`` of each example.
            codes: Codes ``[K, F]`` of each.
            random: As of `MaskedLM.loss`.
            given: ``text`` ``[1, T]`` of each example, as bytes; None for none.
        """
        told = [{} for _ in units] if given is None else given
        semantic = self.semantic.loss([self.semantic.prefix(own) for own in told], [own[None] for own in units])
        spread = [self.spread(own, part.shape[1]) for own, part in zip(units, codes, strict=True)]
        return {"semantic": semantic, "acoustic": self.acoustic.loss(spread, codes, random)}

    def spread(self, units: Tensor, frames: int) -> Tensor:
        """As of `spread`, with the ratio of this model."""
        return spread(units, frames, self.ratio)


def spread(units: Tensor, frames: int, ratio: int = 1) -> Tensor:
    """`units` ``[U]``, one at least, each for `ratio` of `frames` ``[F]``; the last stands for all that are left."""
    places = torch.arange(frames, device=units.device) // ratio
    return units[places.clamp(max=len(units) - 1)]
