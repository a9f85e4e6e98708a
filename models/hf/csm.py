"""CSM of ``transformers``: a Transformer reads text and speech, and a smaller one speaks each frame of 32 codebooks.

A voice is the `Request.audio` with its `Request.transcript`, which together stand before the text as an earlier turn of
the same speaker. Without a transcript the recording stands alone. The likelihood is that of all codebooks, as the first
turn of a speaker who has no text.
"""

from __future__ import annotations

from typing import Any

from codecbench.audio import Clip
from codecbench.models.base import Card, Likelihood, OperatingPoint, Request, Response, Sampling, Stream
from codecbench.models.hf import mimi
from codecbench.models.hf.base import Pretrained, bytes_tokenizer, decoding, repository

CODEBOOKS, SPEAKER = 32, "0"
UNSPOKEN = [2048, 2049, 2050]
"""Entries of its vocabulary that its codec has none for."""
TEMPLATE = (
    "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'text' %}<s>[{{ m['role'] }}]{{ c['text'] }}"
    "</s>{% else %}<|AUDIO|><|audio_eos|>{% endif %}{% endfor %}{% endfor %}"
)
"""How the stand-in's tokeniser writes a conversation."""


class CSM1B(Pretrained):
    """With 1 G parameters."""

    card = Card(
        name="csm_1b_hf", kind="lm", family="CSM", track="official", sample_rate=mimi.RATE, channels=1,
        points=(OperatingPoint("4.4kbps", 4.4, CODEBOOKS),),
        streams=(Stream(mimi.CODEBOOK_SIZE, mimi.FRAME_RATE),) * CODEBOOKS, tasks=("tts",),
        weights=(repository("sesame/csm-1b", "Apache-2.0"),), weights_licence="Apache-2.0",
        training_data=("1 M h of mostly English speech, not published",), requires="hf",
        paper="https://github.com/SesameAILabs/csm",
    )  # fmt: skip
    network = "CsmForConditionalGeneration"
    shortest = mimi.HOP

    @classmethod
    def tiny(cls) -> tuple[Any, Any]:
        """Of one layer each."""
        from transformers import CsmConfig, CsmForConditionalGeneration, CsmProcessor, EncodecFeatureExtractor

        tokenizer = bytes_tokenizer("<|AUDIO|>", "<|audio_eos|>")
        size = {
            "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
            "num_key_value_heads": 1, "initializer_range": 0.5,
        }  # fmt: skip
        audio, end = tokenizer.convert_tokens_to_ids(["<|AUDIO|>", "<|audio_eos|>"])
        config = CsmConfig(
            **size, text_vocab_size=len(tokenizer), audio_token_id=audio, audio_eos_token_id=end, bos_token_id=1,
            pad_token_id=0, codec_config=mimi.tiny(CODEBOOKS),
            depth_decoder_config={**size, "backbone_hidden_size": 16},
        )  # fmt: skip
        model = CsmForConditionalGeneration(config)
        mimi.spread(model.codec_model)
        hearing = EncodecFeatureExtractor(sampling_rate=mimi.RATE)
        return model, CsmProcessor(hearing, tokenizer, chat_template=TEMPLATE)

    def answer(self, request: Request, sampling: Sampling) -> Response:
        """The text, read aloud."""
        frames = int(sampling.max_seconds * mimi.FRAME_RATE + 1e-6)
        if not frames:
            return Response(self.nothing, ended=False)
        choice = {**decoding(sampling), "suppress_tokens": UNSPOKEN}
        found = self.model.generate(
            **self.read_aloud(request), **choice, **{f"depth_decoder_{name}": value for name, value in choice.items()},
            max_new_tokens=frames, output_audio=True, return_dict_in_generate=True,
        )  # fmt: skip
        end = (found.sequences[0, :, :-1] == self.model.config.codebook_eos_token_id).all(dim=-1)
        return Response(self.clip(found.audio[0], sampling), tokens=found.sequences.numel(), ended=bool(end.any()))

    def read_aloud(self, request: Request) -> dict[str, Any]:
        """The inputs that make the model say the text of `request`."""
        told: list[dict[str, Any]] = []
        if request.audio is not None:
            if request.transcript:
                told.append({"type": "text", "text": request.transcript})
            told.append({"type": "audio", "audio": request.audio.samples[0]})
        turns = [
            {"role": SPEAKER, "content": part} for part in (told, [{"type": "text", "text": request.text}]) if part
        ]
        return self.take(self.processor.apply_chat_template(turns, tokenize=True, return_dict=True))

    def score(self, clip: Clip) -> Likelihood:
        """As the first turn."""
        import torch
        from torch.nn import functional

        model = self.model
        samples = torch.tensor(clip.samples[None], device=self.device)
        codes = model.codec_model.encode(samples, num_quantizers=CODEBOOKS).audio_codes[0].T
        text = self.processor.tokenizer(f"{self.processor.tokenizer.bos_token}[{SPEAKER}]", add_special_tokens=False)
        ids = torch.tensor([text["input_ids"]], device=self.device)
        fed = torch.cat([model.embed_text_tokens(ids), model.backbone_model.embed_tokens(codes[None, :-1])], dim=1)
        hidden = model.backbone_model(inputs_embeds=fed, use_cache=False).last_hidden_state[0, -len(codes) :]
        finer = model.depth_decoder(
            input_ids=functional.pad(codes[:, :-1], (1, 0)), backbone_last_hidden_state=hidden, use_cache=False
        ).logits
        logits = torch.cat([model.lm_head(hidden)[:, None], finer], dim=1)
        nats = functional.log_softmax(logits.double(), dim=-1).gather(-1, codes[..., None])
        return Likelihood(float(nats.sum()), codes.numel(), clip.duration)


SYSTEMS = (CSM1B,)
