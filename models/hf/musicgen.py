"""MusicGen (arXiv:2306.05284) of ``transformers``, its stereo and its melody variants.

There is no token for the end: a response is as long as `Sampling.max_seconds` allows, in whole frames. Likelihoods are
those without a text, in windows of 30 s, summed over all codebooks. A melody is the `Request.reference`, of which the
model hears the chroma of the whole mix (the paper separates the voice and the other instruments first).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from codecbench.audio import Clip
from codecbench.models.base import Card, Likelihood, OperatingPoint, Request, Response, Sampling, Stream
from codecbench.models.hf.base import Pretrained, bytes_tokenizer, decoding, repository

if TYPE_CHECKING:
    from torch import Tensor

CODEBOOKS, CODEBOOK_SIZE, FRAME_RATE, RATE = 4, 2048, 50, 32_000
HOP = RATE // FRAME_RATE
WINDOW = 30 * FRAME_RATE


class MusicGenHF(Pretrained):
    """What all variants share."""

    network = "MusicgenForConditionalGeneration"
    shortest = HOP
    guided = True

    @classmethod
    def tiny(cls) -> tuple[Any, Any]:
        """Of two layers, with the released codec's frame rate."""
        from transformers import (
            EncodecFeatureExtractor,
            MusicgenConfig,
            MusicgenForConditionalGeneration,
            MusicgenProcessor,
        )  # fmt: skip

        tokenizer = bytes_tokenizer()
        model = MusicgenForConditionalGeneration(MusicgenConfig(**parts(cls.card, len(tokenizer))))
        start(model)
        return model, MusicgenProcessor(EncodecFeatureExtractor(cls.card.channels, RATE), tokenizer)

    def answer(self, request: Request, sampling: Sampling) -> Response:
        """Music for a text, which may go on from audio; or audio continued, with or without a text."""
        frames, said = int(sampling.max_seconds * FRAME_RATE + 1e-6), bool((request.text or "").strip())
        inputs, prompt = self.hear(request, said), self.encode(request.audio) if request.audio else None
        if prompt is not None:
            inputs["decoder_input_ids"] = prompt
        if not frames:
            return Response(self.nothing)
        guidance = sampling.guidance if said and sampling.guidance > 1 else None
        samples = self.model.generate(
            **inputs, **decoding(sampling), guidance_scale=guidance, max_new_tokens=frames + CODEBOOKS - 1
        )[0]
        return Response(self.clip(samples[:, -frames * HOP :], sampling), tokens=frames * len(self.card.streams))

    def hear(self, request: Request, said: bool) -> dict[str, Any]:
        """What the model is told, besides the beginning of the music."""
        if said:
            return self.take(self.processor(text=[request.text], return_tensors="pt", padding=True))
        return self.silence()

    def silence(self) -> dict[str, Any]:
        """What stands for no text."""
        inputs = dict(self.model.get_unconditional_inputs(1))
        del inputs["guidance_scale"]
        return inputs

    def encode(self, clip: Clip) -> Tensor:
        """Codes ``[K, F]`` of a clip; in stereo, each codebook's left and right in turn."""
        import torch

        samples = torch.tensor(clip.samples, device=self.device)
        codec = self.model.audio_encoder
        parts = [codec.encode(channel[None, None]).audio_codes[0, 0] for channel in samples]
        return torch.stack(parts, dim=1).flatten(0, 1)

    def score(self, clip: Clip) -> Likelihood:
        """Without a text."""
        import torch

        codes = self.encode(clip)
        nats = sum(float(self._nats(part).sum()) for part in torch.split(codes, WINDOW, dim=1))
        return Likelihood(nats, codes.numel(), clip.duration)

    def _nats(self, codes: Tensor) -> Tensor:
        """Log-probability ``[K, F]`` of each of `codes`, which must be at most a window."""
        from torch.nn import functional

        from codecbench.models.blocks import patterns

        layout = patterns.delay(len(codes), codes.shape[1], [k // (self.card.channels or 1) for k in range(len(codes))])
        logits = self.logits(layout.pack(codes, CODEBOOK_SIZE)[:, :-1])
        nats = functional.log_softmax(logits, dim=-1).gather(-1, layout.pack(codes, 0)[:, 1:, None])[..., 0]
        return layout.unpack(functional.pad(nats, (1, 0)))

    def logits(self, steps: Tensor) -> Tensor:
        """Logits ``[K, S, N]`` after each of the delayed `steps` ``[K, S]``, without a text."""
        return cast("Tensor", self.model(**self.silence(), decoder_input_ids=steps, use_cache=False).logits)


class MusicGenMelodyHF(MusicGenHF):
    """With vectors before the codes in place of cross-attention, and a melody."""

    network = "MusicgenMelodyForConditionalGeneration"

    @classmethod
    def tiny(cls) -> tuple[Any, Any]:
        """As of MusicGen."""
        from transformers import (
            MusicgenMelodyConfig,
            MusicgenMelodyFeatureExtractor,
            MusicgenMelodyForConditionalGeneration,
            MusicgenMelodyProcessor,
        )  # fmt: skip

        tokenizer = bytes_tokenizer()
        config = MusicgenMelodyConfig(**parts(cls.card, len(tokenizer)), num_chroma=12, chroma_length=20)
        model = MusicgenMelodyForConditionalGeneration(config)
        start(model)
        return model, MusicgenMelodyProcessor(MusicgenMelodyFeatureExtractor(), tokenizer)

    def hear(self, request: Request, said: bool) -> dict[str, Any]:
        """The text, if any, and the melody."""
        if request.reference is None:
            return super().hear(request, said)
        told = super().hear(request, said)
        chroma = self.processor(audio=request.reference.samples[0], sampling_rate=RATE, return_tensors="pt")
        return {**told, **self.take(chroma)}

    def silence(self) -> dict[str, Any]:
        """A token that is masked: a vector of zeros, and no melody."""
        import torch

        nothing = torch.zeros(1, 1, dtype=torch.long, device=self.device)
        return {"input_ids": nothing, "attention_mask": nothing}

    def logits(self, steps: Tensor) -> Tensor:
        """As of MusicGen, without the vectors that stand before the codes."""
        return super().logits(steps)[:, -steps.shape[1] :]


def parts(card: Card, texts: int) -> dict[str, dict[str, Any]]:
    """The configurations of a tiny model's parts, for a tokeniser of so many `texts`."""
    channels = card.channels or 1
    return {
        "text_encoder": {
            "model_type": "t5", "d_model": 16, "d_kv": 8, "num_heads": 2, "num_layers": 1, "d_ff": 32,
            "vocab_size": texts,
        },
        "audio_encoder": {
            "model_type": "encodec", "sampling_rate": RATE, "num_filters": 4, "upsampling_ratios": [8, 5, 4, 4],
            "codebook_size": CODEBOOK_SIZE, "codebook_dim": 16, "hidden_size": 16, "use_causal_conv": False,
            "use_conv_shortcut": False, "target_bandwidths": [2.2], "normalize": False,
        },
        "decoder": {
            "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 32,
            "num_codebooks": channels * CODEBOOKS, "audio_channels": channels, "initializer_factor": 0.2,
        },
    }  # fmt: skip


def start(model: Any) -> None:
    """Tell `model` the tokens that a released `generation_config` names, and spread its codec's entries."""
    config = model.generation_config
    config.decoder_start_token_id = config.pad_token_id = config.bos_token_id = CODEBOOK_SIZE
    for layer in model.audio_encoder.quantizer.layers:
        layer.codebook.embed.normal_()


def _card(name: str, channels: int = 1) -> Card:
    codebooks = channels * CODEBOOKS
    kbps = codebooks * FRAME_RATE * 11 / 1000
    return Card(
        name=f"{name.replace('-', '_')}_hf", kind="lm", family="MusicGen", track="official", sample_rate=RATE,
        channels=channels, points=(OperatingPoint(f"{kbps:g}kbps", kbps, codebooks),),
        streams=(Stream(CODEBOOK_SIZE, FRAME_RATE),) * codebooks, tasks=("music", "continuation"),
        weights=(repository(f"facebook/{name}", "CC-BY-NC-4.0"),), weights_licence="CC-BY-NC-4.0",
        training_data=("20 000 h of licensed music (Meta, Shutterstock, Pond5)",), paper="arXiv:2306.05284",
        requires="hf",
    )  # fmt: skip


class MusicGenSmallHF(MusicGenHF):
    """With 300 M parameters."""

    card = _card("musicgen-small")


class MusicGenMediumHF(MusicGenHF):
    """With 1.5 G parameters."""

    card = _card("musicgen-medium")


class MusicGenLargeHF(MusicGenHF):
    """With 3.3 G parameters."""

    card = _card("musicgen-large")


class MusicGenStereoSmallHF(MusicGenHF):
    """With 300 M parameters, in stereo."""

    card = _card("musicgen-stereo-small", 2)


class MusicGenMelody1HF(MusicGenMelodyHF):
    """With 1.5 G parameters."""

    card = _card("musicgen-melody")


class MusicGenMelodyLargeHF(MusicGenMelodyHF):
    """With 3.3 G parameters."""

    card = _card("musicgen-melody-large")


SYSTEMS = (
    MusicGenSmallHF, MusicGenMediumHF, MusicGenLargeHF, MusicGenStereoSmallHF, MusicGenMelody1HF, MusicGenMelodyLargeHF,
)  # fmt: skip
