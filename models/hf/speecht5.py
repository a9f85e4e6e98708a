"""SpeechT5 (arXiv:2110.07205) of ``transformers``: speech read aloud, recognised, or said by another speaker.

Speech comes out as a mel spectrogram, two frames a step, and through a vocoder: there are no tokens, and the likelihood
of audio is none. Its decoder drops activations at random also when it speaks, so that seeds differ; `Sampling` has no
other part in speech. A speaker is the x-vector of a recording: of `Request.audio` to read aloud, of `Request.reference`
to convert.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from codecbench import weights
from codecbench.audio import Clip
from codecbench.models.base import Card, OperatingPoint, Request, Response, Sampling, Task
from codecbench.models.hf.base import Pretrained, bytes_tokenizer, decoding, read_model, repository, sound

if TYPE_CHECKING:
    from torch import Tensor

RATE, HOP = 16_000, 256
XVECTOR = "embedding_model.ckpt"
"""The file of the x-vector network."""


class SpeechT5(Pretrained):
    """What the three models share."""

    shortest = RATE // 10

    @classmethod
    def tiny(cls) -> tuple[Any, Any]:
        """Of one layer each."""
        import transformers

        tokenizer = bytes_tokenizer()
        config = transformers.SpeechT5Config(
            vocab_size=len(tokenizer), hidden_size=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=32,
            decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=32, conv_dim=(16,) * 7,
            num_conv_pos_embedding_groups=2, num_conv_pos_embeddings=16, speech_decoder_prenet_units=16,
            speech_decoder_postnet_units=16, initializer_range=0.2, pad_token_id=0, bos_token_id=1, eos_token_id=2,
            decoder_start_token_id=2, max_text_positions=24,
        )  # fmt: skip
        processor = transformers.SpeechT5Processor(transformers.SpeechT5FeatureExtractor(), tokenizer)
        return getattr(transformers, cls.network)(config), processor


class SpeechT5ASR(SpeechT5):
    """Speech to text."""

    network = "SpeechT5ForSpeechToText"

    def answer(self, request: Request, sampling: Sampling) -> Response:
        """What is said."""
        audio = sound(request.audio).samples[0]
        inputs = self.take(self.processor(audio=audio, sampling_rate=RATE, return_tensors="pt"))
        found = self.model.generate(
            **inputs, **decoding(sampling), max_new_tokens=self.model.config.max_text_positions
        )[0]
        ended = bool((found[1:] == self.model.config.eos_token_id).any())
        text = self.processor.tokenizer.decode(found, skip_special_tokens=True)
        return Response(text=text, tokens=len(found) - 1, ended=ended)


class SpeechT5Speaker(SpeechT5):
    """What speaks: with a vocoder, and a network that hears who speaks."""

    @classmethod
    def tiny(cls) -> tuple[Any, Any]:
        """With a vocoder of the released rates, and an x-vector network of the released size."""
        from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

        from codecbench.models.blocks.xvector import XVector

        model, processor = super().tiny()
        model.vocoder = SpeechT5HifiGan(SpeechT5HifiGanConfig(
            upsample_initial_channel=32, resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1]],
            initializer_range=0.1,
        ))  # fmt: skip
        model.speech_decoder_postnet.prob_out.bias.fill_(-3)  # else it stops at once
        model.speaker = XVector()
        return model, processor

    @classmethod
    def read(cls, folders: Sequence[Path]) -> tuple[Any, Any]:
        """The vocoder and the x-vectors are repositories of their own."""
        from codecbench.models.blocks.xvector import XVector

        model, processor = super().read(folders[:1])
        model.vocoder = read_model("SpeechT5HifiGan", folders[1])
        model.speaker = XVector()
        weights.load_state(model.speaker.network, weights.read_state_dict(folders[2] / XVECTOR), folders[2])
        return model, processor

    def answer(self, request: Request, sampling: Sampling) -> Response:
        """The text, or what is said in the audio, in the voice of the recording."""
        config = self.model.config
        steps = int(sampling.max_seconds * RATE / HOP / config.reduction_factor + 1e-6)
        if not steps:
            return Response(self.nothing, ended=False)
        inputs, heard, voice = self.hear(request)
        found = self.model.generate_speech(
            inputs, voice, maxlenratio=min(20.0, (steps + 0.5) * config.reduction_factor / heard)
        )
        limit = min(steps, int(heard * 20 / config.reduction_factor))
        said = len(found) // config.reduction_factor
        return Response(self.clip(self.model.vocoder(found), sampling), tokens=said, ended=said < limit)

    def hear(self, request: Request) -> tuple[Tensor, int, Tensor]:
        """The model's input, how many vectors its encoder makes of it, and the x-vector of the speaker."""
        raise NotImplementedError

    def voice(self, clip: Clip) -> Tensor:
        """The x-vector ``[1, 512]`` of a recording."""
        import torch

        return cast("Tensor", self.model.speaker(torch.tensor(clip.samples, device=self.device)))


class SpeechT5TTS(SpeechT5Speaker):
    """Text to speech."""

    network = "SpeechT5ForTextToSpeech"

    def check(self, request: Request) -> None:
        """It has no voice of its own."""
        super().check(request)
        if request.audio is None:
            raise ValueError(f"{self.card.name} needs audio, a recording of the voice to speak in")

    def hear(self, request: Request) -> tuple[Tensor, int, Tensor]:
        """The text."""
        ids = self.take(self.processor(text=request.text, return_tensors="pt"))["input_ids"]
        return ids, ids.shape[1], self.voice(sound(request.audio))


class SpeechT5VC(SpeechT5Speaker):
    """Voice conversion."""

    network = "SpeechT5ForSpeechToSpeech"

    def hear(self, request: Request) -> tuple[Tensor, int, Tensor]:
        """The recording to convert."""
        audio = sound(request.audio).samples[0]
        values = self.take(self.processor(audio=audio, sampling_rate=RATE, return_tensors="pt"))["input_values"]
        prenet = self.model.speecht5.encoder.prenet
        heard = int(prenet._get_feat_extract_output_lengths(values.shape[1]))
        return values, heard, self.voice(sound(request.reference))


def _card(name: str, task: Task, *others: str) -> Card:
    parts = [repository(f"microsoft/speecht5_{name}", "MIT")]
    parts += [repository(other, licence) for other, licence in zip(others, ("MIT", "Apache-2.0"), strict=False)]
    return Card(
        name=f"speecht5_{name}_hf", kind="lm", family="SpeechT5", track="official", sample_rate=RATE, channels=1,
        points=(OperatingPoint("continuous"),), tasks=(task,), likelihood=False, weights=tuple(parts),
        weights_licence="MIT and Apache-2.0" if others else "MIT",
        training_data=("LibriSpeech", {"asr": "LibriSpeech 100 h", "tts": "LibriTTS", "vc": "CMU ARCTIC"}[name]),
        contamination="trained on the training parts of LibriSpeech", paper="arXiv:2110.07205",
        requires="hf",
    )  # fmt: skip


SPEAKS = ("microsoft/speecht5_hifigan", "speechbrain/spkrec-xvect-voxceleb")
SpeechT5ASR.card = _card("asr", "asr")
SpeechT5TTS.card = _card("tts", "tts", *SPEAKS)
SpeechT5VC.card = _card("vc", "conversion", *SPEAKS)
SYSTEMS = (SpeechT5ASR, SpeechT5TTS, SpeechT5VC)
