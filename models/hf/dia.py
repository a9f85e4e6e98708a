"""Dia of ``transformers``: text to dialogue, in the nine codebooks of DAC at 44.1 kHz, each with a delay of its own.

Texts are of one speaker unless they say ``[S1]`` and ``[S2]`` themselves. A voice is the `Request.audio` with its
`Request.transcript`, which stand before what is new. The release decodes with a guidance of 3, `top_k` 45, `top_p` 0.95
and a temperature of 1.8; below 1 it takes no temperature but 0. The likelihood is that of all codebooks, with the text
that guidance takes for none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codecbench.audio import Clip
from codecbench.models.base import Card, Likelihood, OperatingPoint, Request, Response, Sampling, Stream
from codecbench.models.hf.base import Pretrained, decoding, greedy, read_model, read_processor, repository

CODEBOOKS, CODEBOOK_SIZE, RATE, HOP = 9, 1024, 44_100, 512
FRAME_RATE = RATE / HOP


class Dia1B6(Pretrained):
    """With 1.6 G parameters."""

    card = Card(
        name="dia_1_6b_hf", kind="lm", family="Dia", track="official", sample_rate=RATE, channels=1,
        points=(OperatingPoint("7.75kbps", 7.75, CODEBOOKS),), streams=(Stream(CODEBOOK_SIZE, FRAME_RATE),) * CODEBOOKS,
        tasks=("tts",),
        weights=(repository("nari-labs/Dia-1.6B-0626", "Apache-2.0"), repository("descript/dac_44khz", "MIT")),
        weights_licence="Apache-2.0 and MIT", training_data=("not published",), requires="hf",
        paper="https://github.com/nari-labs/dia",
    )  # fmt: skip
    network = "DiaForConditionalGeneration"
    shortest = HOP
    guided = True

    @classmethod
    def tiny(cls) -> tuple[Any, Any]:
        """Of one layer each; its tokeniser reads bytes, as released."""
        from transformers import (
            DacConfig,
            DacModel,
            DiaConfig,
            DiaFeatureExtractor,
            DiaForConditionalGeneration,
            DiaProcessor,
            DiaTokenizer,
        )  # fmt: skip

        heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 32}
        cross = {"cross_num_attention_heads": 2, "cross_num_key_value_heads": 2, "cross_head_dim": 8}
        model = DiaForConditionalGeneration(DiaConfig(
            encoder_config={"num_hidden_layers": 1, "hidden_size": 16, **heads},
            decoder_config={
                "num_hidden_layers": 1, "hidden_size": 16, "cross_hidden_size": 16, **heads, **cross,
            },
            initializer_range=0.5,
        ))  # fmt: skip
        codec = DacModel(DacConfig(
            encoder_hidden_size=4, decoder_hidden_size=32, n_codebooks=CODEBOOKS, sampling_rate=RATE, hidden_size=64,
        ))  # fmt: skip
        return model, DiaProcessor(DiaFeatureExtractor(sampling_rate=RATE), DiaTokenizer(), codec)

    @classmethod
    def read(cls, folders: Sequence[Path]) -> tuple[Any, Any]:
        """The release names its codec, which is a repository of its own."""
        from transformers import DiaProcessor

        hearing = read_processor(folders[0], "DiaFeatureExtractor")
        tokenizer, codec = read_processor(folders[0], "DiaTokenizer"), read_model("DacModel", folders[1])
        return read_model(cls.network, folders[0]), DiaProcessor(hearing, tokenizer, codec)

    def __init__(self, model: Any, processor: Any, device: str) -> None:
        super().__init__(model, processor, device)
        processor.audio_tokenizer.requires_grad_(False).eval().to(device)

    def parameters(self) -> int:
        """Of the language model and the codec."""
        codec: int = sum(p.numel() for p in self.processor.audio_tokenizer.parameters())
        return super().parameters() + codec

    def answer(self, request: Request, sampling: Sampling) -> Response:
        """The text, read aloud."""
        if not greedy(sampling) and sampling.temperature < 1:
            raise ValueError(f"a temperature of {sampling.temperature}: {self.card.name} takes 0, or 1 and more")
        frames = int(sampling.max_seconds * FRAME_RATE + 1e-6)
        if not frames:
            return Response(self.nothing, ended=False)
        inputs = self.read_aloud(request)
        prompt = int(inputs["decoder_attention_mask"].sum()) - max(self.model.config.delay_pattern)
        choice = {**decoding(sampling), "guidance_scale": sampling.guidance}
        if sampling.guidance > 1 and not greedy(sampling):
            choice["top_k"] = sampling.top_k or CODEBOOK_SIZE
        found = self.model.generate(
            **inputs, **choice, max_new_tokens=frames + max(self.model.config.delay_pattern) + 1
        )
        said = int((found[0, prompt:, 0] < CODEBOOK_SIZE).sum())
        if not said:
            return Response(self.nothing)
        (samples,) = self.processor.batch_decode(found, audio_prompt_len=prompt)
        return Response(self.clip(samples, sampling), tokens=said * CODEBOOKS, ended=said < frames)

    def read_aloud(self, request: Request) -> dict[str, Any]:
        """The inputs that make the model say the text of `request`."""
        text, audio = _spoken(request.text or ""), None
        if request.audio is not None and request.transcript:
            text, audio = f"{_spoken(request.transcript)} {text}", request.audio.samples[0]
        return self.take(self.processor(text=[text], audio=audio, sampling_rate=RATE, text_kwargs={"padding": False}))

    def score(self, clip: Clip) -> Likelihood:
        """Without a text."""
        from torch.nn import functional

        inputs = self.take(self.processor(
            text=["\0"], audio=clip.samples[0], sampling_rate=RATE, text_kwargs={"padding": False}, generation=False,
            output_labels=True,
        ))  # fmt: skip
        targets = inputs.pop("labels")
        logits = self.model(**inputs, use_cache=False).logits
        codes = (targets >= 0) & (targets < CODEBOOK_SIZE)
        nats = functional.log_softmax(logits[codes].double(), dim=-1).gather(-1, targets[codes][:, None])
        return Likelihood(float(nats.sum()), int(codes.sum()), clip.duration)


def _spoken(text: str) -> str:
    return text if text.startswith("[S") else f"[S1] {text}"


SYSTEMS = (Dia1B6,)
