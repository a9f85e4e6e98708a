# It runs beside packages that are not installed with the benchmark, so:
# mypy: ignore-errors
"""The released implementations of our codecs, on the same weights as ours.

Each release is built from its own code, filled with our random weights under its own names, and written to a file in
its own format, from which our codec is then loaded: both hold the same numbers, and ours reads what the release writes.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from codecbench import tolerant_torchaudio, weights
from codecbench.models import audiodec, dac, hificodec, soundstream
from codecbench.models.base import Codec, LoadOptions
from codecbench.models.blocks.hificodec import RELEASED_NAMES as HIFICODEC_NAMES
from codecbench.models.blocks.seanet import RELEASED_NAMES as SEANET_NAMES
from codecbench.models.registry import find

Rules = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Release:
    """A release's codec: `encode` gives codes ``[K, F]`` of a waveform ``[1, C, T]``, and what `decode` needs."""

    encode: Callable[[Tensor], tuple[Tensor, Any]]
    decode: Callable[[Any], Tensor]
    """The waveform ``[C, T']``."""
    weights: Path
    """The file, or folder, that our codec is loaded from."""
    early: int = 0
    """Samples by which its output is early; see the codec's docstring."""


def random_weights(system: str) -> Mapping[str, Tensor]:
    """Our random weights, folded, by our names."""
    codec: Any = find(system).load(LoadOptions(random_seed=0))
    return {name: tensor.contiguous() for name, tensor in codec._network.state_dict().items()}


def fill(module: nn.Module, rules: Rules, ours: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """Give `module` the weights `ours`, where it has them; return its state."""
    state = module.state_dict()
    for name in state:
        (here,) = weights.rename_keys({prefix + name: state[name]}, rules)
        base = re.sub(r"(weight_[gv]|parametrizations\.weight\.original[01])$", "weight", here)
        if base not in ours:
            if name.endswith(("inited", "initted")):
                state[name] = torch.ones_like(state[name])
            continue
        tensor = ours[base]
        if here.endswith(("weight_g", "original0")):
            tensor = torch.linalg.vector_norm(tensor, dim=tuple(range(1, tensor.ndim)), keepdim=True)
        state[name] = tensor.reshape(state[name].shape) if tensor.ndim != 2 else _codebook(tensor, state[name])
    module.load_state_dict(state)
    return state


def _codebook(ours: Tensor, theirs: Tensor) -> Tensor:
    return ours.t().contiguous() if ours.shape != theirs.shape[-2:] else ours.reshape(theirs.shape)


def _encodec(system: str, folder: Path) -> Release:
    from encodec.model import EncodecModel

    rate = {"encodec_24khz": "24khz", "encodec_48khz": "48khz"}[system]
    model = getattr(EncodecModel, f"encodec_model_{rate}")(pretrained=False).eval()
    model.set_target_bandwidth(24)
    state = fill(model, SEANET_NAMES, random_weights(system))
    torch.save(state, folder / "weights.th")

    def encode(x: Tensor) -> tuple[Tensor, Any]:
        frames = model.encode(x)
        return torch.cat([codes for codes, _ in frames], dim=-1)[0], frames

    return Release(encode, lambda frames: model.decode(frames)[0], folder / "weights.th")


def _encodec_transformers(system: str, folder: Path) -> Release:
    from transformers import EncodecConfig, EncodecModel

    model = EncodecModel(EncodecConfig()).eval()
    fill(model, SEANET_NAMES, random_weights(system))
    model.save_pretrained(folder)

    def encode(x: Tensor) -> tuple[Tensor, Any]:
        codes = model.encode(x, bandwidth=24.0).audio_codes
        return codes[0, 0], codes

    return Release(encode, lambda codes: model.decode(codes, [None]).audio_values[0], folder)


def _dac(system: str, folder: Path) -> Release:
    from dac import DAC

    ours: Any = find(system)
    shape = ours.shape()
    model = DAC(
        encoder_rates=list(shape.strides), decoder_rates=list(shape.strides[::-1]), latent_dim=shape.dimension,
        n_codebooks=shape.codebooks, sample_rate=ours.card.sample_rate,
    ).eval()  # fmt: skip
    state = fill(model, dac.RELEASED_NAMES, random_weights(system))
    torch.save({"state_dict": state, "metadata": {}}, folder / "weights.pth")

    def encode(x: Tensor) -> tuple[Tensor, Any]:
        codes = model.encode(model.preprocess(x, ours.card.sample_rate))[1]
        return codes[0], codes

    def decode(codes: Tensor) -> Tensor:
        return model.decode(model.quantizer.from_codes(codes)[0])[0]

    return Release(encode, decode, folder / "weights.pth", early=-ours.card.delay)


def _dac_transformers(system: str, folder: Path) -> Release:
    from transformers import DacConfig, DacModel

    ours: Any = find(system)
    shape = ours.shape()
    config = DacConfig(
        downsampling_ratios=list(shape.strides), upsampling_ratios=list(shape.strides[::-1]),
        hidden_size=shape.dimension, n_codebooks=shape.codebooks, sampling_rate=ours.card.sample_rate,
    )  # fmt: skip
    model = DacModel(config).eval()
    fill(model, dac.TRANSFORMERS_NAMES, random_weights(system))
    model.save_pretrained(folder)
    hop = shape.hop

    def encode(x: Tensor) -> tuple[Tensor, Any]:
        codes = model.encode(torch.nn.functional.pad(x, (0, -x.shape[-1] % hop))).audio_codes
        return codes[0], codes

    return Release(encode, lambda codes: model.decode(audio_codes=codes).audio_values, folder, early=-ours.card.delay)


def _speechtokenizer(system: str, folder: Path) -> Release:
    # The package itself imports its trainer, which we have no use for.
    if "speechtokenizer" not in sys.modules:
        spec: Any = importlib.util.find_spec("speechtokenizer")
        package = ModuleType("speechtokenizer")
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules["speechtokenizer"] = package
    from speechtokenizer.model import SpeechTokenizer

    model = SpeechTokenizer({
        "n_filters": 64, "strides": [8, 5, 4, 2], "dimension": 1024, "semantic_dimension": 768, "bidirectional": True,
        "dilation_base": 2, "residual_kernel_size": 3, "n_residual_layers": 1, "lstm_layers": 2, "codebook_size": 1024,
        "n_q": 8, "sample_rate": 16_000, "activation": "Snake" if system.endswith("snake") else "ELU",
    }).eval()  # fmt: skip
    torch.save(fill(model, SEANET_NAMES, random_weights(system)), folder / "weights.pt")

    def encode(x: Tensor) -> tuple[Tensor, Any]:
        codes = model.encode(x)
        return codes[:, 0], codes

    return Release(encode, lambda codes: model.decode(codes)[0], folder / "weights.pt")


def _hificodec(system: str, folder: Path, clone: Path) -> Release:
    sys.path.insert(0, str(clone))
    from academicodec.models.hificodec.env import AttrDict
    from academicodec.models.hificodec.models import Encoder, Generator, Quantizer

    name = find(system).card.weights[0].name.removeprefix("HiFi-Codec-")
    name = name.removesuffix("-large-universal")
    file = clone / "egs" / f"HiFi-Codec-{name}" / f"config_{name.replace('-', '_')}.json"
    settings = AttrDict(json.loads(file.read_text()))
    makers = zip(hificodec.PARTS, (Encoder, Generator, Quantizer), strict=True)
    parts = {part: make(settings).eval() for part, make in makers}
    ours = random_weights(system)
    states = {part: fill(module, HIFICODEC_NAMES, ours, f"{part}.") for part, module in parts.items()}
    torch.save(states, folder / "weights")

    def encode(x: Tensor) -> tuple[Tensor, Any]:
        codes = torch.stack([stream.reshape(1, -1) for stream in parts["quantizer"](parts["encoder"](x))[2]], dim=-1)
        return codes[0].T, codes

    return Release(encode, lambda codes: parts["generator"](parts["quantizer"].embed(codes))[0], folder / "weights")


def _audiodec(system: str, folder: Path, clone: Path) -> Release:
    sys.path.insert(0, str(clone))
    from models.autoencoder.AudioDec import Generator as Autoencoder  # noqa: TID251 - the clone's
    from models.vocoder.HiFiGAN import Generator as Vocoder  # noqa: TID251

    ours: Any = find(system)
    state = random_weights(system)

    def part(file: str, *, vocoder: bool) -> Any:
        back = Path.cwd()
        os.chdir(clone)  # the configurations name their files from there
        try:
            config = yaml.safe_load(Path("exp", Path(file).parent, "config.yml").read_text())
            model = (Vocoder if vocoder else Autoencoder)(**config["generator_params"]).eval()
        finally:
            os.chdir(back)
        names = audiodec.VOCODER_NAMES if vocoder else audiodec.AUTOENCODER_NAMES
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"model": {"generator": fill(model, names, state)}}, target)
        return model

    encoder = part(ours.encoder, vocoder=False)
    decoder = part(ours.decoder, vocoder=bool(ours.vocoder))
    encoder.quantizer.initial()

    def encode(x: Tensor) -> tuple[Tensor, Any]:
        codes = encoder.quantizer.encode(encoder.projector(encoder.encoder(x)))[1]
        return codes.reshape(len(ours.card.streams), -1) % 1024, codes.reshape(len(ours.card.streams), -1)

    def decode(codes: Tensor) -> Tensor:
        return (decoder if ours.vocoder else decoder.decoder)(encoder.quantizer.decode(codes).transpose(1, 2))[0]

    return Release(encode, decode, folder)


def _funcodec(system: str, folder: Path) -> Release:
    # The time-domain model puts the filters of its training loss on a GPU, whether there is one or not.
    torch.Tensor.cuda = lambda tensor: tensor
    hann = torch.hann_window
    torch.hann_window = lambda size, device=None, **kwargs: hann(size, **kwargs)  # noqa: ARG005
    from funcodec.models.codec_basic import Encodec
    from funcodec.models.codec_freq import FreqCodec
    from funcodec.models.decoder.seanet_decoder import SEANetDecoder, SEANetDecoder2d
    from funcodec.models.encoder.seanet_encoder import SEANetEncoder, SEANetEncoder2d
    from funcodec.models.quantizer.costume_quantizer import CostumeQuantizer

    ours: Any = find(system)
    config, spectral = ours.config, ours.config["model"] == "freq_codec"
    encoder = (SEANetEncoder2d if spectral else SEANetEncoder)(config["input_size"], **config["encoder_conf"])
    decoder = (SEANetDecoder2d if spectral else SEANetDecoder)(encoder.output_size(), **config["decoder_conf"])
    hop = round(16_000 / ours.card.streams[0].frame_rate)
    quantiser = CostumeQuantizer(
        encoder.output_size(), 1024, 32, kmeans_init=True, sampling_rate=16_000, encoder_hop_length=hop
    )
    make = FreqCodec if spectral else Encodec
    parts = {"encoder": encoder, "quantizer": quantiser, "decoder": decoder}
    model = make(input_size=config["input_size"], odim=128, **parts, **config["model_conf"]).eval()
    state = random_weights(system)
    model.quantizer.rq.model.embed.copy_(torch.stack([state[f"quantiser.layers.{k}.embed"] for k in range(32)]))
    torch.save(fill(model, SEANET_NAMES, state), folder / "model.pth")

    def encode(x: Tensor) -> tuple[Tensor, Any]:
        found = model.inference_encoding(x[:, 0])
        codes = found["code_indices"][0]
        return codes[:, 0], (codes.permute(1, 2, 0), found["code_embeddings"][0][1])

    def decode(found: Any) -> Tensor:
        return (model.inference_decoding(found[0])["recon_speech"] * found[1][..., None])[0]

    late = round(16_000 / 100) if spectral else 0  # clips of whole tenths of a second have odd numbers of spectra
    return Release(encode, decode, folder / "model.pth", early=-late)


def _soundstream(system: str, folder: Path) -> Release:
    from soundstream.soundstream import SoundStream

    model = SoundStream(n_q=16, codebook_size=1024, D=256, C=58, strides=(2, 4, 5, 5)).eval()
    torch.save(fill(model, soundstream.PACKAGE_NAMES, random_weights(system)), folder / "weights.pt")

    def encode(x: Tensor) -> tuple[Tensor, Any]:
        codes = model.quantizer(model.encoder(x).mT)[1]
        return codes[0].T, codes

    return Release(
        encode, lambda c: model(model.quantizer.get_output_from_indices(c), "decode")[0], folder / "weights.pt"
    )


RELEASES: Mapping[str, tuple[Callable[..., Release], tuple[str, ...]]] = {
    "encodec": (_encodec, ("encodec_24khz", "encodec_48khz")),
    "transformers (EnCodec)": (_encodec_transformers, ("encodec_24khz",)),
    "descript-audio-codec": (_dac, ("dac_16khz", "dac_24khz", "dac_44khz", "dac_44khz_16kbps")),
    "transformers (DAC)": (_dac_transformers, ("dac_44khz",)),
    "speechtokenizer": (_speechtokenizer, ("speechtokenizer_hubert_avg", "speechtokenizer_snake")),
    "AcademiCodec": (_hificodec, ("hificodec_16k_320d", "hificodec_24k_320d", "hificodec_24k_240d")),
    "AudioDec": (
        _audiodec,
        (
            "audiodec_24khz_sym", "audiodec_24khz_v1", "audiodec_48khz_v0", "audiodec_48khz_v2",
            "audiodec_48khz_activate_sym", "audiodec_48khz_c16_sym",
        ),
    ),
    "funcodec": (_funcodec, ("funcodec_en_ds320", "funcodec_en_ds640", "freqcodec_en_gr1", "freqcodec_en_gr8")),
    "soundstream": (_soundstream, ("soundstream_16khz",)),
}  # fmt: skip
"""By the names of the packages or repositories: what builds each, and the systems that it is built for."""


def both(
    system: str, release: str, folder: Path, clones: Mapping[str, Path], *, compiled: bool = False
) -> tuple[Codec, Release]:
    """Our codec, `compiled` or not, and the release's on the same weights, which are written to `folder`."""
    tolerant_torchaudio.load()  # several releases import it
    extra = (clones[release].resolve(),) if release in ("AcademiCodec", "AudioDec") else ()
    with torch.no_grad():
        theirs = RELEASES[release][0](system, folder, *extra)
    return find(system).load(LoadOptions(weights=theirs.weights, compile=compiled)), theirs


def compare(theirs: Tensor, ours: np.ndarray[Any, Any], early: int) -> float:
    """Largest difference of two waveforms ``[C, T]``, the first of which is `early` samples early."""
    mine = ours[:, max(early, 0) :]
    other = theirs.numpy()[:, max(-early, 0) :]
    samples = min(mine.shape[-1], other.shape[-1])
    return float(np.abs(mine[:, :samples] - other[:, :samples]).max())
