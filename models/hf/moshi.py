"""Moshi (arXiv:2410.00037) of ``transformers``, as a model that goes on speaking.

Moshi hears a user and speaks at the same time, with a text of what it says. Here the recording is its own speech, its
text so far is padding, and the user is silent. The likelihood is that of the eight codebooks of its speech, on the same
terms. It has no token for the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codecbench.audio import Clip
from codecbench.models.base import Card, Likelihood, OperatingPoint, Request, Response, Sampling, Stream
from codecbench.models.hf import mimi
from codecbench.models.hf.base import Pretrained, bytes_tokenizer, decoding, read_model, read_processor, repository

if TYPE_CHECKING:
    from torch import Tensor

CODEBOOKS = 8
DELAYS = (0, *[1] * (CODEBOOKS - 1))
SPECIAL = ("<unk>", "<s>", "</s>", "<pad>")
"""Of the released tokeniser; its first is also the end of a padding."""


class MoshiHF(Pretrained):
    """Both voices."""

    network = "MoshiForConditionalGeneration"
    shortest = mimi.HOP

    @classmethod
    def tiny(cls) -> tuple[Any, Any]:
        """Of one layer each."""
        from transformers import MoshiConfig, MoshiForConditionalGeneration

        tokenizer = bytes_tokenizer("<unk>")
        size = {
            "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 32,
            "vocab_size": len(tokenizer), "initializer_range": 0.1,
        }  # fmt: skip
        model = MoshiForConditionalGeneration(MoshiConfig(
            **size, audio_vocab_size=mimi.CODEBOOK_SIZE, num_codebooks=CODEBOOKS,
            audio_encoder_config=mimi.tiny(CODEBOOKS),
            depth_decoder_config={
                **size, "input_size": 16, "audio_vocab_size": mimi.CODEBOOK_SIZE, "num_codebooks": CODEBOOKS,
            },
        ))  # fmt: skip
        mimi.spread(model.audio_encoder)
        return model, tokenizer

    @classmethod
    def read(cls, folders: Sequence[Path]) -> tuple[Any, Any]:
        """The tokeniser is all that is used of its processor."""
        return read_model(cls.network, folders[0]), read_processor(folders[0], "AutoTokenizer")

    def answer(self, request: Request, sampling: Sampling) -> Response:
        """Speech that goes on from the recording, and its text."""
        frames = int(sampling.max_seconds * mimi.FRAME_RATE + 1e-6)
        if not frames or request.audio is None:
            return Response(self.nothing)
        own, silence = self.encode(request.audio)
        choice = decoding(sampling)
        found = self.model.generate(
            input_ids=own.new_full((1, own.shape[-1]), self.padding), moshi_audio_codes=own, user_audio_codes=silence,
            **choice, **{f"depth_decoder_{name}": value for name, value in choice.items()}, max_new_tokens=frames + 1,
        )  # fmt: skip
        words = [token for token in found.sequences[0, -frames:].tolist() if token not in self.unspoken]
        clip = self.clip(found.audio_sequences[0, :, -frames * mimi.HOP :], sampling)
        return Response(clip, self.processor.decode(words), tokens=frames * (CODEBOOKS + 1))

    def encode(self, clip: Clip) -> tuple[Tensor, Tensor]:
        """Codes ``[1, K, F]`` of a clip, and of as much silence."""
        import torch

        samples = torch.tensor(clip.samples[None], device=self.device)
        encode = self.model.audio_encoder.encode
        own, silence = (encode(x, num_quantizers=CODEBOOKS).audio_codes for x in (samples, torch.zeros_like(samples)))
        return own, silence

    def score(self, clip: Clip) -> Likelihood:
        """As its own speech, over silence."""
        import torch
        from torch.nn import functional

        from codecbench.models.blocks import patterns

        own, silence = self.encode(clip)
        layout = patterns.delay(CODEBOOKS, own.shape[-1], DELAYS)
        steps, heard = (layout.pack(codes, mimi.CODEBOOK_SIZE) for codes in (own, silence))
        text = own.new_full((1, steps.shape[-1]), self.padding)
        text[0, 0] = self.model.config.vocab_size
        hidden = self.model(
            input_ids=text[:, :-1], moshi_audio_codes=steps[..., :-1], user_audio_codes=heard[..., :-1], use_cache=False
        ).last_hidden_state
        finer = torch.cat([text[0, 1:, None], steps[0, :-1, 1:].T], dim=1)
        logits = self.model.depth_decoder(
            input_ids=finer, last_hidden_state=hidden.view(-1, 1, hidden.shape[-1]), use_cache=False
        ).logits.transpose(0, 1)
        targets = layout.pack(own[0], 0)[:, 1:, None]
        nats = functional.log_softmax(logits.double(), dim=-1).gather(-1, targets)[..., 0]
        return Likelihood(float(layout.unpack(functional.pad(nats, (1, 0))).sum()), own.numel(), clip.duration)

    @property
    def padding(self) -> int:
        """The token for no text."""
        return int(self.processor.convert_tokens_to_ids("<pad>"))

    @property
    def unspoken(self) -> set[int]:
        """The tokens that are no text."""
        return {*self.processor.convert_tokens_to_ids(SPECIAL), self.model.config.vocab_size}


def _card(name: str) -> Card:
    return Card(
        name=f"{name}_hf", kind="lm", family="Moshi", track="official", sample_rate=mimi.RATE, channels=1,
        points=(OperatingPoint("1.1kbps", 1.1, CODEBOOKS),),
        streams=(Stream(mimi.CODEBOOK_SIZE, mimi.FRAME_RATE),) * CODEBOOKS, tasks=("continuation",),
        weights=(repository(f"kmhf/hf-{name}", "CC-BY-4.0"),), weights_licence="CC-BY-4.0",
        training_data=("7 M h of mostly English speech, not published", "Fisher", "synthetic dialogues"),
        paper="arXiv:2410.00037", requires="hf",
    )  # fmt: skip


class Moshiko(MoshiHF):
    """The male voice."""

    card = _card("moshiko")


class Moshika(MoshiHF):
    """The female voice."""

    card = _card("moshika")


SYSTEMS = (Moshiko, Moshika)
