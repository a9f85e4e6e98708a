"""SeamlessM4T (arXiv:2308.11596) and its second version (arXiv:2312.05187) of ``transformers``.

Speech or text is translated to text, and the text to units and on to speech; to recognise is to translate to the
language that is spoken (`Request.language`, English if not said), and to read aloud is to translate a text to its own.
It speaks in one voice of its own. `Sampling` acts on the text and, in the first version, on the units. A text may have
256 tokens; speech beyond `Sampling.max_seconds` is cut. Translation has no likelihood of audio.
"""

from __future__ import annotations

from typing import Any

from codecbench.models.base import Card, OperatingPoint, Request, Response, Sampling
from codecbench.models.hf.base import Pretrained, decoding, greedy, repository, sound
from codecbench.models.limits import GIVES_TEXT

RATE = 16_000
SPOKEN = {
    "ar": "arb", "bn": "ben", "ca": "cat", "cs": "ces", "cy": "cym", "da": "dan", "de": "deu", "en": "eng", "es": "spa",
    "et": "est", "fa": "pes", "fi": "fin", "fr": "fra", "hi": "hin", "id": "ind", "it": "ita", "ja": "jpn", "ko": "kor",
    "mt": "mlt", "nl": "nld", "pl": "pol", "pt": "por", "ro": "ron", "ru": "rus", "sk": "slk", "sv": "swe", "sw": "swh",
    "te": "tel", "th": "tha", "tl": "tgl", "tr": "tur", "uk": "ukr", "ur": "urd", "uz": "uzn", "vi": "vie", "zh": "cmn",
}  # fmt: skip
"""The languages that it speaks, by ISO 639-1 code: its own code."""
WRITTEN = {
    **SPOKEN, "af": "afr", "am": "amh", "be": "bel", "bg": "bul", "bs": "bos", "el": "ell", "eu": "eus", "ga": "gle",
    "gl": "glg", "gu": "guj", "he": "heb", "hr": "hrv", "hu": "hun", "hy": "hye", "is": "isl", "jv": "jav", "ka": "kat",
    "kk": "kaz", "km": "khm", "kn": "kan", "ky": "kir", "lo": "lao", "lt": "lit", "lv": "lvs", "mk": "mkd", "ml": "mal",
    "mr": "mar", "my": "mya", "ne": "npi", "pa": "pan", "sl": "slv", "so": "som", "sr": "srp", "ta": "tam", "tg": "tgk",
    "yo": "yor", "zu": "zul",
}  # fmt: skip
"""The languages that it writes."""
SPEAKS = frozenset({"s2st", "tts"})


class Seamless(Pretrained):
    """The first version."""

    network = "SeamlessM4TModel"
    shortest = RATE // 10
    languages = tuple(WRITTEN)

    @classmethod
    def tiny(cls) -> tuple[Any, Any]:
        """Of one layer each; its tokeniser reads single characters."""
        import transformers

        codes = [f"__{code}__" for code in WRITTEN.values()]
        letters = ["▁", *map(chr, range(33, 127))]
        vocabulary = {token: i for i, token in enumerate(["<pad>", "<unk>", "<s>", "</s>", *letters, *codes])}
        tokenizer = transformers.SeamlessM4TTokenizer(vocabulary, additional_special_tokens=codes)
        kind = getattr(transformers, cls.network)
        model = kind(kind.config_class(**SIZE, vocab_size=len(tokenizer)))
        ids = {code: tokenizer.convert_tokens_to_ids(f"__{code}__") for code in WRITTEN.values()}
        config = model.generation_config
        config._from_model_config = False  # else it is not read again
        config.text_decoder_lang_to_code_id, config.max_new_tokens = ids, 12
        config.t2u_lang_code_to_id = config.vocoder_lang_code_to_id = {c: i for i, c in enumerate(SPOKEN.values())}
        config.id_to_text = {str(i): token for token, i in vocabulary.items()}
        config.char_to_id = {letter: 4 + i for i, letter in enumerate(letters)}
        extractor = transformers.SeamlessM4TFeatureExtractor()
        return model, transformers.SeamlessM4TProcessor(extractor, tokenizer)

    def check(self, request: Request) -> None:
        """It writes more languages than it speaks."""
        super().check(request)
        known = SPOKEN if request.task in SPEAKS else WRITTEN
        for language, names in ((request.language or "en", known), (request.source_language or "en", WRITTEN)):
            if language not in names:
                raise ValueError(f"{self.card.name} does not know the language '{language}' for '{request.task}'")

    def answer(self, request: Request, sampling: Sampling) -> Response:
        """Text or speech in the language of the request."""
        target = WRITTEN[request.language or "en"]
        if request.task in {"mt", "tts"}:
            source = target if request.task == "tts" else WRITTEN[request.source_language or "en"]
            inputs = self.processor(text=request.text, src_lang=source, return_tensors="pt")
        else:
            clip = sound(request.audio)
            inputs = self.processor(audio=clip.samples[0], sampling_rate=RATE, return_tensors="pt")
        choice = {f"text_{name}": value for name, value in decoding(sampling).items()}
        inputs = self.take(inputs)
        if request.task in GIVES_TEXT:  # by its token: by its name, the first version takes what it speaks alone
            start = self.model.generation_config.text_decoder_lang_to_code_id[target]
            start = inputs["attention_mask"].new_tensor([[start]])
            choice["text_decoder_input_ids"] = start
            return self._told(self.model.generate(**inputs, **choice, generate_speech=False).sequences)
        speech = self.model.generate(
            **inputs, **choice, **self.speaking(sampling), tgt_lang=target, return_intermediate_token_ids=True
        )
        written, length = self._told(speech.sequences), int(speech.waveform_lengths)
        ended = written.ended and length <= int(sampling.max_seconds * RATE + 1e-6)
        clip = self.clip(speech.waveform.reshape(-1)[:length], sampling)
        return Response(clip, written.text, written.tokens + speech.unit_sequences.numel(), ended)

    def speaking(self, sampling: Sampling) -> dict[str, Any]:
        """How units are drawn."""
        return {f"speech_{name}": value for name, value in decoding(sampling).items()}

    def _told(self, found: Any) -> Response:
        text = self.processor.tokenizer.decode(found[0], skip_special_tokens=True)
        ended = bool((found[0, 2:] == self.model.generation_config.eos_token_id).any())
        return Response(text=text, tokens=found.shape[1] - 2, ended=ended)


class SeamlessV2(Seamless):
    """The second version, whose units are not drawn one after another."""

    network = "SeamlessM4Tv2Model"

    def speaking(self, sampling: Sampling) -> dict[str, Any]:
        """All units at once; at a temperature of 1, ``transformers`` takes the likeliest."""
        if greedy(sampling):
            return {}
        return {"speech_do_sample": True, "speech_temperature": sampling.temperature}


SIZE = {
    "hidden_size": 16, "encoder_layers": 1, "encoder_ffn_dim": 32, "encoder_attention_heads": 2, "decoder_layers": 1,
    "decoder_ffn_dim": 32, "decoder_attention_heads": 2, "speech_encoder_layers": 1,
    "speech_encoder_attention_heads": 2, "speech_encoder_intermediate_size": 32,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2,
    "t2u_encoder_layers": 1, "t2u_encoder_ffn_dim": 32, "t2u_encoder_attention_heads": 2, "t2u_decoder_layers": 1,
    "t2u_decoder_ffn_dim": 32, "t2u_decoder_attention_heads": 2, "t2u_max_new_tokens": 20, "t2u_vocab_size": 64,
    "unit_hifi_gan_vocab_size": 64, "vocoder_offset": 0, "unit_embed_dim": 16,
    "upsample_initial_channel": 32, "resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1]],
    "lang_embed_dim": 8, "spkr_embed_dim": 8, "t2u_variance_predictor_embed_dim": 16,
    "t2u_variance_predictor_hidden_dim": 8, "initializer_range": 0.3,
}  # fmt: skip
"""Of a tiny model of either version."""


def _card(name: str, paper: str) -> Card:
    return Card(
        name=f"{name.removeprefix('hf-').replace('-', '_')}_hf", kind="lm", family="SeamlessM4T", track="official",
        sample_rate=RATE, channels=1, points=(OperatingPoint("units"),), tasks=("s2st", "s2tt", "asr", "mt", "tts"),
        likelihood=False, weights=(repository(f"facebook/{name}", "CC-BY-NC-4.0"),), weights_licence="CC-BY-NC-4.0",
        training_data=("SeamlessAlign", "pseudo-labelled and public speech translation and recognition data"),
        paper=paper, requires="hf",
    )  # fmt: skip


class SeamlessMedium(Seamless):
    """With 1.2 G parameters."""

    card = _card("hf-seamless-m4t-medium", "arXiv:2308.11596")


class SeamlessLarge(Seamless):
    """With 2.3 G parameters."""

    card = _card("hf-seamless-m4t-large", "arXiv:2308.11596")


class SeamlessLargeV2(SeamlessV2):
    """With 2.3 G parameters."""

    card = _card("seamless-m4t-v2-large", "arXiv:2312.05187")


SYSTEMS = (SeamlessMedium, SeamlessLarge, SeamlessLargeV2)
