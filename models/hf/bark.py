"""Bark of ``transformers``: a text becomes semantic tokens, these two codebooks of EnCodec, and these all eight.

It speaks in a voice of its own and takes no recording of another: a `Request.audio` is not heard. It says at most 15 s.
At a temperature of 1, ``transformers`` draws the last six codebooks greedily.

The likelihood is that of the second and third stage: the first two codebooks without semantic tokens (none are known
of a recording), the others given those before them, in windows of 1024 frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codecbench.audio import Clip
from codecbench.models.base import Card, Likelihood, OperatingPoint, Request, Response, Sampling, Stream
from codecbench.models.hf.base import Pretrained, bytes_tokenizer, decoding, greedy, repository

if TYPE_CHECKING:
    from torch import Tensor

CODEBOOKS, CODEBOOK_SIZE, FRAME_RATE, RATE = 8, 1024, 75, 24_000
LONGEST = 768
"""Semantic tokens that it was trained on."""


class BarkHF(Pretrained):
    """Both sizes."""

    network = "BarkModel"
    shortest = RATE // FRAME_RATE

    @classmethod
    def tiny(cls) -> tuple[Any, Any]:
        """Of one layer a stage, with the released vocabularies."""
        from transformers import BarkConfig, BarkModel, BarkProcessor, EncodecConfig, GenerationConfig
        from transformers.models.bark import generation_configuration_bark as stages

        size = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "initializer_range": 0.5}
        codec = EncodecConfig(num_filters=2, hidden_size=16, codebook_dim=16, target_bandwidths=[6.0])
        config = BarkConfig(
            semantic_config={**size, "input_vocab_size": 129_600, "output_vocab_size": 10_048},
            coarse_acoustics_config={**size, "input_vocab_size": 12_096, "output_vocab_size": 12_096},
            fine_acoustics_config={**size, "input_vocab_size": 1056, "output_vocab_size": 1056},
            codec_config=codec.to_dict(),
        )
        model = BarkModel(config)
        model.generation_config = GenerationConfig(
            semantic_config=stages.BarkSemanticGenerationConfig().to_dict(),
            coarse_acoustics_config=stages.BarkCoarseGenerationConfig().to_dict(),
            fine_acoustics_config=stages.BarkFineGenerationConfig().to_dict(), codebook_size=CODEBOOK_SIZE,
        )  # fmt: skip
        for layer in model.codec_model.quantizer.layers:
            layer.codebook.embed.normal_()
        return model, BarkProcessor(bytes_tokenizer())

    def answer(self, request: Request, sampling: Sampling) -> Response:
        """The text, read aloud."""
        stages, choice = self._stages(), decoding(sampling)
        first, fine = stages["semantic_generation_config"], stages.pop("fine_generation_config")
        limit = min(LONGEST, int(sampling.max_seconds * first.semantic_rate_hz + 1e-6))
        if not limit:
            return Response(self.nothing, ended=False)
        inputs = self.take(self.processor(request.text))
        meant = self.model.semantic.generate(**inputs, semantic_generation_config=first, max_new_tokens=limit, **choice)
        end = meant == first.semantic_pad_token
        count = int((~end).sum())
        if not count:
            return Response(self.nothing)
        sizes = {"codebook_size": self.model.generation_config.codebook_size}
        coarse = self.model.coarse_acoustics.generate(meant, **stages, **sizes, **choice)
        codes = self.model.fine_acoustics.generate(
            coarse, **stages, **sizes, fine_generation_config=fine,
            temperature=1.0 if greedy(sampling) else sampling.temperature,
        )  # fmt: skip
        samples = self.model.codec_decode(codes)
        return Response(self.clip(samples[0], sampling), tokens=count + codes.numel(), ended=bool(end.any()))

    def score(self, clip: Clip) -> Likelihood:
        """Of the second and third stage."""
        import torch

        samples = torch.tensor(clip.samples, device=self.device)
        codes = self.model.codec_model.encode(samples[None], bandwidth=6.0).audio_codes[0, 0]
        nats = float(self._coarse(codes[:2]).sum() + self._fine(codes).sum())
        return Likelihood(nats, codes.numel(), clip.duration)

    def _coarse(self, codes: Tensor) -> Tensor:
        """Log-probability ``[2 F]`` of each of `codes` ``[2, F]``, frame by frame, in the windows of generation."""
        import torch
        from torch.nn import functional

        stages = self._stages()
        config, first = stages["coarse_generation_config"], stages["semantic_generation_config"].semantic_vocab_size
        offsets = first + CODEBOOK_SIZE * torch.arange(2, device=codes.device)
        tokens = (codes + offsets[:, None]).T.flatten()
        head = [config.coarse_semantic_pad_token] * config.max_coarse_input_length + [config.coarse_infer_token]
        found = []
        for start in range(0, len(tokens), config.sliding_window_len):
            new = tokens[start : start + config.sliding_window_len]
            past = tokens[max(0, start - config.max_coarse_history) : start]
            fed = torch.cat([torch.tensor(head, device=codes.device), past, new])
            logits = self.model.coarse_acoustics(fed[None, :-1]).logits[0, -len(new) :]
            owners = offsets[(start + torch.arange(len(new), device=codes.device)) % 2]
            allowed = logits.gather(1, owners[:, None] + torch.arange(CODEBOOK_SIZE, device=codes.device))
            found.append(functional.log_softmax(allowed, dim=-1).gather(1, (new - owners)[:, None])[:, 0])
        return torch.cat(found)

    def _fine(self, codes: Tensor) -> Tensor:
        """Log-probability ``[6, F]`` of each of the last six of `codes` ``[8, F]``, given all codebooks before it."""
        import torch
        from torch.nn import functional

        found = []
        for window in torch.split(codes, self._stages()["fine_generation_config"].max_fine_input_length, dim=1):
            padded = functional.pad(window, (0, 1024 - window.shape[1]), value=CODEBOOK_SIZE).T[None]
            rows = []
            for k in range(2, CODEBOOKS):
                known = padded.clone()
                known[..., k:] = CODEBOOK_SIZE
                logits = self.model.fine_acoustics(k, known).logits[0, : window.shape[1], :CODEBOOK_SIZE]
                rows.append(functional.log_softmax(logits, dim=-1).gather(1, window[k][:, None])[:, 0])
            found.append(torch.stack(rows))
        return torch.cat(found, dim=1)

    def _stages(self) -> dict[str, Any]:
        """What `BarkModel.generate` tells its stages."""
        from transformers.models.bark import generation_configuration_bark as stages

        config = self.model.generation_config
        return {
            "semantic_generation_config": stages.BarkSemanticGenerationConfig(**config.semantic_config),
            "coarse_generation_config": stages.BarkCoarseGenerationConfig(**config.coarse_acoustics_config),
            "fine_generation_config": stages.BarkFineGenerationConfig(**config.fine_acoustics_config),
        }


def _card(name: str) -> Card:
    return Card(
        name=f"{name.replace('-', '_')}_hf", kind="lm", family="Bark", track="official", sample_rate=RATE, channels=1,
        points=(OperatingPoint("6kbps", 6.0, CODEBOOKS),), streams=(Stream(CODEBOOK_SIZE, FRAME_RATE),) * CODEBOOKS,
        tasks=("tts",), weights=(repository(f"suno/{name}", "MIT"),), weights_licence="MIT",
        training_data=("not published",), paper="https://github.com/suno-ai/bark", requires="hf",
    )  # fmt: skip


class BarkLarge(BarkHF):
    """With 24 layers a stage."""

    card = _card("bark")


class BarkSmall(BarkHF):
    """With 12 layers a stage."""

    card = _card("bark-small")


SYSTEMS = (BarkLarge, BarkSmall)
