"""Speech resynthesis (arXiv:2104.00355): codecs whose codes are units of speech, and whose decoder is a vocoder.

The lowest bitrates here, for little but the words is sent: the voice and much of the intonation are the vocoder's own,
and metrics that compare waveforms or speakers say so. Each system is a pair of released parts:

======================================  ==========================================  ======  =======================
system                                  units                                       Hz      voice
======================================  ==========================================  ======  =======================
``speech_resynthesis_hubert100``        100 of HuBERT Base, layer 6                 50      LJSpeech
``speech_resynthesis_hubert100_pitch``  the same, and 20 codes of pitch at 12.5 Hz   50      LJSpeech
``speech_resynthesis_hubert500``        500 of HuBERT Base, layer 9 (Expresso)      50      the first of Expresso's
``speech_resynthesis_mhubert1000``      1000 of the multilingual HuBERT, layer 11   50      LJSpeech
``speech_resynthesis_mhubert500_25hz``  500 of TWIST's multilingual HuBERT          25      LJSpeech
======================================  ==========================================  ======  =======================

Every frame's unit is sent, repetitions too, so that durations are the clip's. ``…_hubert100_pitch`` is the paper's own
codec, which was not published: ``--weights FOLDER`` names a folder with its ``generator.pt`` and ``config.json``; the
files of HuBERT are taken from there or from the cache. Its pitch tracker is ours, where the paper has YAAPT, and a
voice's mean and deviation are the clip's, where the paper has those of all recordings.

Frame ``f`` of HuBERT hears 400 samples from sample ``320 f`` on (720 from ``640 f`` at 25 Hz) through convolutions, and
all others through attention. A clip is extended with zeros until its last frame fits, and cut to its length again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from codecbench import weights
from codecbench.audio import Audio, Clip
from codecbench.errors import InvalidSystem
from codecbench.models import unit_files
from codecbench.models.base import Card, Codec, Codes, LoadOptions, OperatingPoint, Stream
from codecbench.models.twist import HEARS, SPEAKS
from codecbench.weights import WeightFile

if TYPE_CHECKING:
    from codecbench.models.blocks.pitch_codes import PitchQuantiser
    from codecbench.models.blocks.unit_vocoder import UnitVocoder
    from codecbench.models.blocks.units import Tokeniser

EXPRESSO = f"{unit_files.TEXTLESS}/expresso/checkpoints/hifigan_expresso_lj_vctk_hubert_base_ls960_L9_km500"
HUBERT_500 = (
    WeightFile(
        "hubert-base-ls960-L9-km500.bin", f"{unit_files.FAIR}/hubert/hubert_base_ls960_L9_km500.bin",
        "4450dcbc90aa7d0553306a4b0fafef35c9b3c840468f02969273dfbb9db89a23", unit_files.MIT,
    ),
    WeightFile(
        "expresso-hubert-L9-km500.pt", f"{EXPRESSO}/generator.pt",
        "d50f4704e961c29cb386924ef32cd0c3a4d1089a3f9be856f8a3b6dcfdd6147a", "not stated",
    ),
    WeightFile(
        "expresso-hubert-L9-km500.json", f"{EXPRESSO}/config.json",
        "31e65ef5e100cb43de08f2c8d225496ace1ed87a49fcb8ee44bd6805f079b1f0", "not stated",
    ),
)  # fmt: skip
"""Codebook and vocoder."""
PITCH = Stream(20, 12.5)

MHUBERT = f"{unit_files.S2ST}/mhubert_vp_en_es_fr_it3_400k_layer11_km1000_lj"
MHUBERT_1000 = (
    WeightFile(
        "mhubert-base-vp_en_es_fr.pt", f"{unit_files.FAIR}/hubert/mhubert_base_vp_en_es_fr_it3.pt",
        "23527cd6311a6617bfa199f574e2eed478cd6a58a634f4007165c10ec0019832", unit_files.MIT,
    ),
    WeightFile(
        "mhubert-base-vp_en_es_fr-L11-km1000.bin",
        f"{unit_files.FAIR}/hubert/mhubert_base_vp_en_es_fr_it3_L11_km1000.bin",
        "c70f5416c38044d0c20e33fdeedf4533974a8ac4029985cdef3b755038381a0b", unit_files.MIT,
    ),
    WeightFile("mhubert-L11-km1000-lj.pt", f"{MHUBERT}/g_00500000", licence=unit_files.MIT),
    WeightFile("mhubert-L11-km1000-lj.json", f"{MHUBERT}/config.json", licence=unit_files.MIT),
)  # fmt: skip
"""Features, codebook and vocoder."""


class SpeechResynthesis(Codec):
    """What all systems share."""

    features: ClassVar[Mapping[str, Any]] = {"layer": 6}
    """Of HuBERT, as of `blocks.units.Features`."""
    vocoder_shape: ClassVar[Mapping[str, Any]] = {"duration": (128, 3)}
    """Of the vocoder on random weights, as of `blocks.unit_vocoder.UnitVocoderShape`."""

    def __init__(self, tokeniser: Tokeniser, vocoder: UnitVocoder, device: str) -> None:
        from codecbench.models.blocks.inference import ready

        self._parameters = sum(p.numel() for part in (tokeniser, vocoder) for p in part.parameters())
        self._tokeniser = tokeniser.requires_grad_(False).eval().to(device)
        self._vocoder, self._device = ready(vocoder, device), device

    @classmethod
    def load(cls, options: LoadOptions) -> SpeechResynthesis:
        """Load the released files, a folder with them, or random weights."""
        entries = cls.card.streams[0].codebook_size
        if options.random_seed is not None:
            parts = unit_files.random_parts(cls.features, entries, cls.vocoder_shape, options.random_seed)
            return cls(*parts, options.device)
        given = options.weights
        paths = [weights.resolve(cls.card.name, f, given / f.name if given else None) for f in cls.card.weights]
        return cls(*cls.read(paths), options.device)

    @classmethod
    def read(cls, paths: Sequence[Path]) -> tuple[Tokeniser, UnitVocoder]:
        """The parts of a release, whose files are those of the card in their order.

        Raises:
            InvalidSystem: A file is damaged, or is another model's.
        """
        from codecbench.models.blocks.units import Features

        hubert, codebook, vocoder, config = paths
        entries = cls.card.streams[0].codebook_size
        tokeniser = unit_files.read_tokeniser(Features(**cls.features), hubert, codebook, entries)
        return tokeniser, unit_files.read_vocoder(vocoder, config)

    def encode(self, clips: Sequence[Clip], point: OperatingPoint) -> list[Codes]:  # noqa: ARG002 - there is one
        """Encode one clip after another: what else is in the list cannot change a clip's codes."""
        return [self._encode(clip) for clip in clips]

    def decode(self, codes: Sequence[Codes]) -> list[Audio]:
        """Decode each item."""
        return [self._decode(item) for item in codes]

    def parameters(self) -> int:
        """Number of learnt parameters, without the k-means codebook."""
        return self._parameters

    def _encode(self, clip: Clip) -> Codes:
        import torch

        with torch.inference_mode():
            units = self._tokeniser.whole(torch.tensor(clip.samples[0], device=self._device))
        stream = units.to(torch.int32).cpu().numpy()
        return Codes(clip.length, clip.sample_rate, clip.channels, (stream,), (self._tokeniser.entries,))

    def _decode(self, item: Codes) -> Audio:
        import torch

        with torch.inference_mode():
            units = torch.tensor(item.streams[0], device=self._device, dtype=torch.long)
            samples = self._vocoder(units)[None, : item.length]
        return np.ascontiguousarray(samples.cpu().numpy())


def _card(name: str, units: int, rate: float, files: tuple[WeightFile, ...], data: tuple[str, ...]) -> Card:
    stream = Stream(units, rate)
    return Card(
        name=f"speech_resynthesis_{name}", kind="codec", family="Speech resynthesis", track="official",
        sample_rate=16_000, channels=1, points=(unit_files.point(stream),), streams=(stream,), causal=False,
        weights=files, weights_licence=files[-1].licence if files else "", training_data=data,
        contamination=f"HuBERT is trained on the training parts of {data[0]}", paper="arXiv:2104.00355",
    )  # fmt: skip


class Hubert100(SpeechResynthesis):
    """100 units of HuBERT Base, 50 Hz, spoken by LJSpeech's voice."""

    card = _card(
        "hubert100", 100, 50, (unit_files.HUBERT, unit_files.HUBERT_100, *unit_files.HUBERT_100_VOCODER),
        ("LibriSpeech", "LJSpeech"),
    )  # fmt: skip


class Hubert500(SpeechResynthesis):
    """500 units of HuBERT Base, 50 Hz, spoken by the first voice of Expresso in its first style."""

    card = _card(
        "hubert500", 500, 50, (unit_files.HUBERT, *HUBERT_500), ("LibriSpeech", "Expresso", "LJSpeech", "VCTK")
    )
    features: ClassVar[Mapping[str, Any]] = {"layer": 9}
    vocoder_shape: ClassVar[Mapping[str, Any]] = {"speakers": 200, "styles": 100}


class Mhubert1000(SpeechResynthesis):
    """1000 units of a HuBERT of English, Spanish and French, 50 Hz, spoken by LJSpeech's voice."""

    card = _card("mhubert1000", 1000, 50, MHUBERT_1000, ("VoxPopuli", "LJSpeech"))
    features: ClassVar[Mapping[str, Any]] = {"layer": 11}


class Mhubert500(SpeechResynthesis):
    """500 units of the multilingual HuBERT of TWIST, 25 Hz, spoken by LJSpeech's voice."""

    card = _card(
        "mhubert500_25hz", 500, 25,
        (unit_files.MHUBERT_25, unit_files.MHUBERT_25_500, *unit_files.MHUBERT_25_VOCODER),
        ("Multilingual LibriSpeech", "Common Voice", "Spotify Podcasts", "Fisher", "LJSpeech"),
    )  # fmt: skip
    features: ClassVar[Mapping[str, Any]] = HEARS
    vocoder_shape: ClassVar[Mapping[str, Any]] = SPEAKS


class Hubert100Pitch(SpeechResynthesis):
    """The paper's codec of one voice: 100 units of HuBERT Base, and 20 codes of pitch every 80 ms."""

    card = replace(
        _card("hubert100_pitch", 100, 50, (), ("LibriSpeech", "LJSpeech")), streams=(Stream(100, 50), PITCH),
        points=(unit_files.point(Stream(100, 50), PITCH),), weights_licence="", unpublished=True,
    )  # fmt: skip
    vocoder_shape: ClassVar[Mapping[str, Any]] = {"pitch": 20}

    def __init__(self, tokeniser: Tokeniser, vocoder: UnitVocoder, quantiser: PitchQuantiser, device: str) -> None:
        super().__init__(tokeniser, vocoder, device)
        self._parameters += sum(p.numel() for p in quantiser.parameters())
        self._quantiser = quantiser.requires_grad_(False).eval().to(device)

    @classmethod
    def load(cls, options: LoadOptions) -> SpeechResynthesis:
        """Load a folder of the user's, or random weights."""
        import torch

        from codecbench.models.blocks import pitch_codes
        from codecbench.models.blocks.units import Features

        quantiser = pitch_codes.PitchQuantiser()
        if (seed := options.random_seed) is not None:
            parts = unit_files.random_parts(cls.features, 100, cls.vocoder_shape, seed)
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)
                quantiser = pitch_codes.PitchQuantiser()
            pitch_codes.fill(quantiser, torch.Generator().manual_seed(seed))
            return cls(*parts, quantiser, options.device)
        folder = weights.unpublished(cls.card.name, options.weights)
        hubert, codebook = (
            weights.resolve(Hubert100.card.name, f, folder / f.name if (folder / f.name).exists() else None)
            for f in Hubert100.card.weights[:2]
        )
        vocoder = unit_files.read_vocoder(folder / "generator.pt", folder / "config.json")
        if vocoder.net.pitch != PITCH.codebook_size:
            raise InvalidSystem(
                f"{folder / 'config.json'} is of a vocoder without {PITCH.codebook_size} codes of pitch"
            )
        state = weights.read_state_dict(folder / "generator.pt", within=("generator",))
        weights.load_state(quantiser, pitch_codes.own_names(state), folder / "generator.pt")
        tokeniser = unit_files.read_tokeniser(Features(**cls.features), hubert, codebook, 100)
        return cls(tokeniser, vocoder, quantiser, options.device)

    def _encode(self, clip: Clip) -> Codes:
        import torch

        from codecbench.models.blocks import pitch, pitch_codes

        # A code of pitch lasts four units, so that clips are extended to whole ones.
        missing = -clip.length % (pitch.HOP * pitch_codes.FRAMES)
        samples = torch.tensor(np.pad(clip.samples[0], (0, missing)), device=self._device)
        with torch.inference_mode():
            units = self._tokeniser.whole(samples)
            codes = self._quantiser(pitch_codes.standardised(pitch.track(samples)))
        streams = tuple(own.to(torch.int32).cpu().numpy() for own in (units, codes))
        return Codes(clip.length, clip.sample_rate, clip.channels, streams, (100, PITCH.codebook_size))

    def _decode(self, item: Codes) -> Audio:
        import torch

        with torch.inference_mode():
            units, codes = (torch.tensor(own, device=self._device, dtype=torch.long) for own in item.streams)
            samples = self._vocoder(units, codes)[None, : item.length]
        return np.ascontiguousarray(samples.cpu().numpy())


SYSTEMS = (Hubert100, Hubert100Pitch, Hubert500, Mhubert1000, Mhubert500)
