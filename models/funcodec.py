"""FunCodec and FreqCodec, 16 kHz, 32 codebooks, our implementation of arXiv:2309.07405.

Equal to the released code on equal weights. FunCodec is EnCodec's network, not causal, over a whole clip. FreqCodec
is its counterpart in two dimensions, over spectra in log magnitude and phase. Both divide a clip by its RMS; this scale
is sent as a 32-bit float. Through it and the group normalisation every output sample depends on the whole clip.

The release decodes a FreqCodec clip late by one spectrum (160 samples) where the clip has an odd number of spectra,
and up to 159 samples short where it has an even one. Here the delay is removed, and the samples after the centre of
the last spectrum come from that spectrum alone. The release fails on clips of 256 samples or fewer; here they are
mirrored as if zeros followed.

The configuration file that lies beside a model's weights decides its shape. Without it, the shape is what follows.

- In the time domain: the published recipes. They give the published numbers of parameters and of multiply-adds a
  second, and the sizes of the released files.
- FreqCodec's recipe gives model M3 of the paper's table 4 (16.21 M parameters, 6.47 G multiply-adds), which is not
  released. ``gr8`` is M5, ``gr1`` is M6. Both are taken to be the recipe without LSTMs and with kernels of 3 in place
  of 7. ``gr8`` has 8 channels a group in the decoder's transposed convolutions; ``gr1`` has 1 there and 2 in the units
  and strides, and 3 units a stride. This gives all that is published of them, 4.50 M and 2.18 G, 0.52 M and 0.34 G,
  and the sizes of their files; the variants M4 and M7 fit as well. What leaves no trace there is the recipe's: above
  all, that units are not dilated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from codecbench import weights
from codecbench.audio import Audio, Clip
from codecbench.errors import InvalidSystem
from codecbench.models import funcodec_config
from codecbench.models.base import Card, Codes, LoadOptions, OperatingPoint, SideInfo, Stream
from codecbench.models.funcodec_config import Config, magnitude_phase, time_domain
from codecbench.models.whole_clip import WholeClipCodec
from codecbench.weights import WeightFile

if TYPE_CHECKING:
    from torch import Tensor

    from codecbench.models.blocks.seanet import SEANetCodec
    from codecbench.models.blocks.spectral import SpectralCodec

CODEBOOKS = 32
CODEBOOK_SIZE = 1024
TRAINING_ONLY = (
    r"^(discriminator|mel_spec_transforms)\.|^(enc|dec)_trans_func\.window$"
    r"|^quantizer\.rq\.model\.(inited|cluster_size|embed_avg)$"
)
"""Released tensors that are not needed: of training, and the window, which is a plain Hann window."""


def _card(name: str, family: str, release: str, revision: str, hop: int, data: tuple[str, ...]) -> Card:
    rate, bits = 16_000 / hop, CODEBOOK_SIZE.bit_length() - 1
    rates = [(count, count * bits * rate / 1000) for count in (1, 2, 4, 8, 16, 32)]
    url = f"https://huggingface.co/alibaba-damo/audio_codec-{release}-pytorch/resolve/{revision}"
    files = (f"{name}.pth", f"{url}/model.pth"), (f"{name}.yaml", f"{url}/config.yaml")
    return Card(
        name=name, kind="codec", family=family, track="official", sample_rate=16_000, channels=1,
        points=tuple(OperatingPoint(f"{kbps:g}kbps", kbps, count) for count, kbps in rates),
        streams=(Stream(CODEBOOK_SIZE, rate),) * CODEBOOKS, nested=True, side=(SideInfo("scale", "float32"),),
        causal=False, weights=tuple(WeightFile(*file, licence="MIT") for file in files), weights_licence="MIT",
        training_data=data, paper="arXiv:2309.07405",
    )  # fmt: skip


class FunCodec(WholeClipCodec):
    """What all models share."""

    _network: SEANetCodec | SpectralCodec
    zero_padded = False
    config: ClassVar[Config]
    """What is known of the model without its configuration file."""

    @classmethod
    def load(cls, options: LoadOptions) -> FunCodec:
        """Load the released files, such files from elsewhere, or random weights.

        Local weights are a folder with ``model.pth``, or a file; a ``config.yaml`` beside them is followed.
        """
        if options.random_seed is not None:
            from codecbench.models.blocks.seanet import enliven

            network = cls._build(cls.config, cls.card.name, options.random_seed)
            enliven(network, options.random_seed, level=1.0)
            return cls(network, options.device, compiled=options.compile)
        model, config = cls._files(options.weights)
        network = cls._build(funcodec_config.read(config) if config else cls.config, str(config or cls.card.name))
        try:
            weights.load_state(network, _state(model), model)
        except InvalidSystem as error:
            hint = "" if config else "; put the config.yaml that belongs to it beside it"
            raise InvalidSystem(f"{error}{hint}") from error
        return cls(network, options.device, compiled=options.compile)

    @classmethod
    def _files(cls, given: Path | None) -> tuple[Path, Path | None]:
        """The weights, and their configuration file if there is one."""
        if given is None:
            model, config = (weights.resolve(cls.card.name, file) for file in cls.card.weights)
            return model, config
        model = weights.resolve(cls.card.name, cls.card.weights[0], given)
        if model.is_dir() and (model / "model.pth").is_file():
            model = model / "model.pth"
        config = (model if model.is_dir() else model.parent) / "config.yaml"
        return model, config if config.is_file() else None

    @classmethod
    def _build(cls, config: Config, source: str, seed: int = 0) -> SEANetCodec | SpectralCodec:
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return funcodec_config.network(config, cls.card, source)

    def _encode(self, clips: Sequence[Clip], codebooks: int | None) -> list[Codes]:
        import torch

        audio = [torch.tensor(clip.samples) for clip in clips]
        scales = [1e-8 + samples.pow(2).mean(dim=1).sqrt() for samples in audio]
        scaled = [
            Clip((samples / scale[:, None]).numpy(), clip.sample_rate)
            for clip, samples, scale in zip(clips, audio, scales, strict=True)
        ]
        coded = super()._encode(scaled, codebooks)
        return [replace(codes, side={"scale": scale.numpy()}) for codes, scale in zip(coded, scales, strict=True)]

    def _decode(self, items: Sequence[Codes]) -> list[Audio]:
        from codecbench.models.blocks.spectral import SpectralCodec

        network = self._network
        delays = [network.delay(item.length) if isinstance(network, SpectralCodec) else 0 for item in items]
        late = super()._decode(
            [replace(item, length=item.length + delay) for item, delay in zip(items, delays, strict=True)]
        )
        return [
            np.ascontiguousarray(samples[:, delay:] * item.side["scale"][:, None])
            for samples, delay, item in zip(late, delays, items, strict=True)
        ]


def _state(path: Path) -> dict[str, Tensor]:
    """The tensors of a released file in the names of our networks; the codebooks lie stacked in it."""
    from codecbench.models.blocks.seanet import RELEASED_NAMES

    state = weights.rename_keys(weights.read_state_dict(path), RELEASED_NAMES, drop=TRAINING_ONLY)
    for k, codebook in enumerate(state.pop("quantizer.rq.model.embed", ())):
        state[f"quantiser.layers.{k}.embed"] = codebook
    return state


class FunCodecEn320(FunCodec):
    """FunCodec for English, at 50 Hz."""

    card = _card("funcodec_en_ds320", "FunCodec", "encodec-en-libritts-16k-nq32ds320", "main", 320, ("LibriTTS",))
    config = time_domain(8, 5, 4, 2)


class FunCodecEn640(FunCodec):
    """FunCodec for English, at 25 Hz."""

    card = _card(
        "funcodec_en_ds640", "FunCodec", "encodec-en-libritts-16k-nq32ds640",
        "02f860a594ca2ce763d0e305d38daae1a02d82ec", 640, ("LibriTTS",),
    )  # fmt: skip
    config = time_domain(8, 5, 4, 2, 2)


class FunCodecZhEn320(FunCodec):
    """FunCodec for Mandarin and English, at 50 Hz."""

    card = _card(
        "funcodec_zh_en_ds320", "FunCodec", "encodec-zh_en-general-16k-nq32ds320",
        "ef9fbae4943cb272b8803e8a0f3c974fa1003b1f", 320, ("in-house",),
    )  # fmt: skip
    config = time_domain(8, 5, 4, 2)


class FunCodecZhEn640(FunCodec):
    """FunCodec for Mandarin and English, at 25 Hz."""

    card = _card(
        "funcodec_zh_en_ds640", "FunCodec", "encodec-zh_en-general-16k-nq32ds640",
        "3b5353698314cd6a2b79f608b1448da49115cc11", 640, ("LibriTTS", "AISHELL", "3D-Speaker", "in-house"),
    )  # fmt: skip
    config = time_domain(8, 5, 4, 2, 2)


class FreqCodecGr1(FunCodec):
    """FreqCodec for English, with groups in all convolutions between the first and the last."""

    card = _card(
        "freqcodec_en_gr1", "FreqCodec", "freqcodec_magphase-en-libritts-16k-gr1nq32ds320",
        "6620dd1fdbe379569a0c3b3a870f58ceab472a1d", 320, ("LibriTTS",),
    )  # fmt: skip
    config = magnitude_phase(conv_group_ratio=1, tr_conv_group_ratio=1, n_residual_layers=3)


class FreqCodecGr8(FunCodec):
    """FreqCodec for English with groups in the decoder's transposed convolutions."""

    card = _card(
        "freqcodec_en_gr8", "FreqCodec", "freqcodec_magphase-en-libritts-16k-gr8nq32ds320",
        "4b3fc9494a14537edbc108388d2a4c3e3f272b5e", 320, ("LibriTTS",),
    )  # fmt: skip
    config = magnitude_phase(conv_group_ratio=-1, tr_conv_group_ratio=8, n_residual_layers=1)


SYSTEMS = (FunCodecEn320, FunCodecEn640, FunCodecZhEn320, FunCodecZhEn640, FreqCodecGr1, FreqCodecGr8)
