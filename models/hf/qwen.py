"""Qwen2-Audio (arXiv:2407.10759) and Qwen2.5-Omni (arXiv:2503.20215) of ``transformers``: a language model that hears.

`Request.text` is the instruction; without one, a task has an ordinary one, which is not the one of any benchmark. Both
hear the first 30 s or so of a recording (Qwen2.5-Omni 300 s). Qwen2.5-Omni answers in text and, where the task asks
for audio, says its answer too, in a voice of its own. A text may have 256 tokens. They give no likelihood of audio.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from codecbench.audio import resample
from codecbench.models.base import Card, OperatingPoint, Request, Response, Sampling, Task
from codecbench.models.hf.base import (
    Pretrained,
    bytes_tokenizer,
    decoding,
    read_model,
    read_processor,
    repository,
)  # fmt: skip
from codecbench.models.limits import GIVES_TEXT

HEARS_AT = 16_000
LONGEST_ANSWER = 256
LANGUAGES = {
    "en": "English", "zh": "Chinese", "de": "German", "fr": "French", "it": "Italian", "es": "Spanish",
    "ja": "Japanese", "ko": "Korean", "ru": "Russian", "pt": "Portuguese",
}  # fmt: skip
INSTRUCTIONS: dict[Task, str] = {
    "asr": "Write down what is said, word for word, and nothing else.",
    "captioning": "Describe the audio in one sentence.",
    "slu": "What does the speaker want? Answer in a few words.",
    "s2tt": "Translate what is said to {language}, and write nothing else.",
    "s2st": "Translate what is said to {language}, and say nothing else.",
    "tts": "Say the following, word for word, and nothing else: {text}",
}
HEARD = "<|audio_bos|><|AUDIO|><|audio_eos|>"
AUDIO_TOKENS = ("<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>", "<|im_start|>", "<|im_end|>")


class Qwen(Pretrained):
    """What both share."""

    shortest = HEARS_AT // 10
    languages = tuple(LANGUAGES)
    system: ClassVar[str]
    heard: ClassVar[str]

    def inputs(self, request: Request) -> dict[str, Any]:
        """A conversation in which the user asks what `request` asks."""
        asked = INSTRUCTIONS[request.task].format(
            language=LANGUAGES.get(request.language or "en", "English"), text=request.text
        )
        if request.task != "tts" and request.text:
            asked = request.text
        audio = request.audio if request.task != "tts" else None
        said = f"{self.heard if audio else ''}{asked}"
        turns = f"system\n{self.system}", f"user\n{said}"
        text = "".join(f"<|im_start|>{turn}<|im_end|>\n" for turn in turns) + "<|im_start|>assistant\n"
        if audio is None:
            return self.take(self.processor(text=[text], return_tensors="pt"))
        samples = resample(audio.samples[0], audio.sample_rate, HEARS_AT)
        return self.take(self.processor(text=[text], audio=[samples], sampling_rate=HEARS_AT, return_tensors="pt"))

    @property
    def longest(self) -> int:
        """Tokens that an answer may have."""
        return min(LONGEST_ANSWER, self.model.generation_config.max_new_tokens or LONGEST_ANSWER)

    def told(self, found: Any, asked: int) -> Response:
        """The answer in the tokens ``[1, N]``, of which the first `asked` are the question."""
        new = found[0, asked:]
        ended = bool((new == self.processor.tokenizer.eos_token_id).any()) or len(new) < self.longest
        return Response(
            text=self.processor.tokenizer.decode(new, skip_special_tokens=True), tokens=len(new), ended=ended
        )


class Qwen2Audio(Qwen):
    """Qwen2-Audio, which writes."""

    network = "Qwen2AudioForConditionalGeneration"
    system = "You are a helpful assistant."
    heard = f"Audio 1: {HEARD}\n"

    @classmethod
    def tiny(cls) -> tuple[Any, Any]:
        """Of one layer each; it writes 12 tokens at most."""
        import transformers

        tokenizer = bytes_tokenizer(*AUDIO_TOKENS)
        audio = tokenizer.convert_tokens_to_ids("<|AUDIO|>")
        model = transformers.Qwen2AudioForConditionalGeneration(transformers.Qwen2AudioConfig(
            audio_config=HEARING, text_config={"model_type": "qwen2", **WRITING, "vocab_size": len(tokenizer)},
            audio_token_index=audio,
        ))  # fmt: skip
        model.generation_config.max_new_tokens = 12
        extractor = transformers.WhisperFeatureExtractor(feature_size=8)
        return model, transformers.Qwen2AudioProcessor(extractor, tokenizer)

    def answer(self, request: Request, sampling: Sampling) -> Response:
        """The written answer."""
        inputs = self.inputs(request)
        found = self.model.generate(**inputs, **decoding(sampling), max_new_tokens=self.longest)
        return self.told(found, inputs["input_ids"].shape[1])


class QwenOmni(Qwen):
    """Qwen2.5-Omni, which writes and speaks."""

    network = "Qwen2_5OmniForConditionalGeneration"
    system = (
        "You are Qwen, a virtual human developed by the Qwen Team, Alibaba Group, capable of perceiving auditory and "
        "visual inputs, as well as generating text and speech."
    )
    heard = HEARD
    shortest = 24_000 // 10
    frame_rate = 50

    @classmethod
    def tiny(cls) -> tuple[Any, Any]:
        """Of one layer each."""
        import torch
        import transformers

        tokenizer = bytes_tokenizer(*AUDIO_TOKENS, "<|IMAGE|>", "<|VIDEO|>")
        ids = {
            f"{kind.lower()}_token_index": tokenizer.convert_tokens_to_ids(f"<|{kind}|>")
            for kind in ("AUDIO", "IMAGE", "VIDEO")
        }
        text = {**WRITING, "vocab_size": len(tokenizer), "rope_parameters": {
            "rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2],
        }}  # fmt: skip
        model = transformers.Qwen2_5OmniForConditionalGeneration(transformers.Qwen2_5OmniConfig(
            thinker_config={
                "audio_config": {**HEARING, "n_window": 100, "output_dim": 16}, "text_config": text, **ids,
                "vision_start_token_id": 3, "vision_end_token_id": 3, "vision_config": {
                    "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
                },
            },
            talker_config={
                **text, **ids, "vocab_size": 64, "embedding_size": 16, "head_dim": 8, "tts_text_start_token_id": 1,
                "tts_text_end_token_id": 2, "tts_text_pad_token_id": 0, "tts_codec_start_token_id": 60,
                "tts_codec_end_token_id": 61, "tts_codec_pad_token_id": 62, "tts_codec_mask_token_id": 63,
            },
            token2wav_config={
                "dit_config": {
                    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8, "emb_dim": 16,
                    "num_embeds": 64, "enc_emb_dim": 8, "enc_dim": 8, "enc_channels": [16, 16, 16, 16, 48],
                    "enc_attention_channels": 8, "enc_se_channels": 8,
                },
                "bigvgan_config": {
                    "upsample_initial_channel": 64, "resblock_kernel_sizes": [3],
                    "resblock_dilation_sizes": [[1, 3, 5]],
                },
            },
        ))  # fmt: skip
        vocoder = model.token2wav.code2wav_bigvgan_model
        for weight in (weight for weight in vocoder.parameters() if weight.ndim == 3):
            weight.normal_(0, 0.2)  # as built, it is all but silent
        model.generation_config.max_new_tokens = 12
        model.speaker_map["Chelsie"] = {
            "bos_token": 1, "cond": torch.randn(1, 8), "ref_mel": torch.randn(1, 30, 80),
        }  # fmt: skip
        return model, Hearing(transformers.WhisperFeatureExtractor(feature_size=8), tokenizer)

    @classmethod
    def read(cls, folders: Sequence[Path]) -> tuple[Any, Any]:
        """Without what it needs for pictures."""
        model = read_model(cls.network, folders[0], plain=True)
        model.load_speakers(folders[0] / "spk_dict.pt")
        extractor = read_processor(folders[0], "WhisperFeatureExtractor")
        return model, Hearing(extractor, read_processor(folders[0], "AutoTokenizer"))

    def answer(self, request: Request, sampling: Sampling) -> Response:
        """The answer, written and said."""
        inputs, choice = self.inputs(request), decoding(sampling)
        asked = inputs["input_ids"].shape[1]
        choices = {f"{part}_{name}": value for part in ("thinker", "talker") for name, value in choice.items()}
        if request.task in GIVES_TEXT:
            found = self.model.generate(
                **inputs, **choices, generation_mode="text", thinker_max_new_tokens=self.longest
            )
            return self.told(found, asked)
        frames = int(sampling.max_seconds * self.frame_rate + 1e-6)
        if not frames:
            return Response(self.nothing, ended=False)
        found, samples = self.model.generate(
            **inputs, **choices, thinker_max_new_tokens=self.longest, thinker_min_new_tokens=2,
            talker_max_new_tokens=frames, talker_min_new_tokens=1,
        )  # fmt: skip
        written, said = self.told(found, asked), round(len(samples) * self.frame_rate / self.rate)
        return Response(
            self.clip(samples, sampling), written.text, written.tokens + said, written.ended and said < frames
        )


class Hearing:
    """The part of `Qwen2_5OmniProcessor` that needs nothing for pictures: text, and one recording in it."""

    def __init__(self, extractor: Any, tokenizer: Any) -> None:
        self.extractor, self.tokenizer = extractor, tokenizer

    def __call__(
        self,
        text: Sequence[str],
        audio: Sequence[Any] = (),
        *,
        sampling_rate: int = HEARS_AT,
        return_tensors: str = "pt",
    ) -> Any:
        """Inputs as of `Qwen2_5OmniProcessor`."""
        from transformers import BatchFeature

        inputs, (told,) = BatchFeature(), text
        if audio:
            inputs = self.extractor(
                audio, sampling_rate=sampling_rate, padding="max_length", return_attention_mask=True,
                return_tensors=return_tensors,
            )  # fmt: skip
            inputs["feature_attention_mask"] = inputs.pop("attention_mask")
            frames = int(inputs["feature_attention_mask"].sum())
            told = told.replace("<|AUDIO|>", "<|AUDIO|>" * ((((frames - 1) // 2 + 1) - 2) // 2 + 1))
        inputs.update(self.tokenizer([told], return_tensors=return_tensors))
        return inputs


HEARING = {
    "num_mel_bins": 8, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32, "d_model": 16,
    "initializer_range": 0.3,
}  # fmt: skip
WRITING = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1, "initializer_range": 0.3,
}  # fmt: skip


def _card(name: str, rate: int, paper: str, tasks: tuple[Task, ...], licence: str = "Apache-2.0") -> Card:
    return Card(
        name=f"{name.lower().replace('-', '_').replace('.', '_')}_hf", kind="lm", family=name.rpartition("-")[0],
        track="official", sample_rate=rate, channels=1, points=(OperatingPoint("full"),), tasks=tasks, likelihood=False,
        weights=(repository(f"Qwen/{name}", licence),), weights_licence=licence, training_data=("not published",),
        contamination="not published", paper=paper, requires="hf",
    )  # fmt: skip


UNDERSTANDS: tuple[Task, ...] = ("asr", "captioning", "slu", "s2tt")


class Qwen2Audio7BInstruct(Qwen2Audio):
    """With 8 G parameters."""

    card = _card("Qwen2-Audio-7B-Instruct", HEARS_AT, "arXiv:2407.10759", UNDERSTANDS)


class QwenOmni7B(QwenOmni):
    """With 7 G parameters, and those of hearing and speaking."""

    card = _card("Qwen2.5-Omni-7B", 24_000, "arXiv:2503.20215", (*UNDERSTANDS, "s2st", "tts"))


SYSTEMS = (Qwen2Audio7BInstruct, QwenOmni7B)
