"""The configuration files of FunCodec's models, and the network that each describes.

A setting that changes what is computed, and that no released model is known to use, is refused and never ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codecbench.errors import InvalidSystem

if TYPE_CHECKING:
    from codecbench.models.base import Card
    from codecbench.models.blocks.conv import Norm
    from codecbench.models.blocks.seanet import SEANetCodec
    from codecbench.models.blocks.spectral import SpectralCodec

Config = Mapping[str, Any]
"""What a configuration file says, or the part of it that matters."""

_NORMS: dict[str, Norm] = {"time_group_norm": "group", "weight_norm": "weight", "none": "none"}
_SHAPE = {
    "dimension": "dimension", "n_filters": "width", "n_residual_layers": "units", "dilation_base": "dilation_base",
    "kernel_size": "kernel_size", "last_kernel_size": "last_kernel_size",
    "residual_kernel_size": "residual_kernel_size", "compress": "compress",
}  # fmt: skip
"""Settings of encoder and decoder by their names there and here."""
_ONLY: dict[str, tuple[Any, ...]] = {
    "causal": (False,), "pad_mode": ("reflect",), "activation": ("ELU",), "activation_params": ({"alpha": 1.0},),
    "norm_params": ({}, {"num_groups": 1}), "res_seq": (True,), "trim_right_ratio": (1.0,),
    "final_activation": (None,), "final_activation_params": (None,), "add_snake_activation": (False,),
    "double_filters": (True,), "half_filters": (True,), "last_out_padding": ([[0, 1], [0, 0]],),
    "seq_model": ("lstm", "none", None),
}  # fmt: skip
"""Other settings of encoder and decoder, and the values that they may have."""
_TRAINING = ("ema_decay", "kmeans_init", "sampling_rate", "quantize_dropout", "rand_num_quant")
_MODEL = {"target_sample_hz": 16_000, "audio_normalize": True, "segment_dur": None}


def time_domain(*ratios: int) -> Config:
    """What the file of a model in the time domain says, given the strides of its decoder."""
    conf = {"ratios": list(ratios), "norm": "time_group_norm"}
    return {"input_size": 1, "model": "encodec", "model_conf": _MODEL, "encoder_conf": conf, "decoder_conf": conf}


def magnitude_phase(*, tr_conv_group_ratio: int, **common: int) -> Config:
    """What the file of a model in the frequency domain says, given what is not the same in all of them."""
    conf = {
        "ratios": [[4, 1], [4, 1], [4, 2], [4, 1]], "norm": "time_group_norm", "dilation_base": 1, "kernel_size": 3,
        "last_kernel_size": 3, "seq_model": "none", **common,
    }  # fmt: skip
    return {
        "input_size": 3, "model": "freq_codec", "model_conf": {**_MODEL, "codec_domain": ["mag_phase", "mag_phase"]},
        "encoder_conf": conf, "decoder_conf": {**conf, "channels": 3, "tr_conv_group_ratio": tr_conv_group_ratio},
    }  # fmt: skip


def read(path: Path) -> Config:
    """The configuration in the file `path`; InvalidSystem if it is none."""
    import yaml

    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InvalidSystem(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(config, Mapping):
        raise InvalidSystem(f"{path} is no configuration of a model")
    return config


def network(config: Config, card: Card, source: str) -> SEANetCodec | SpectralCodec:
    """The network that `config`, read from `source`, describes; its weights are drawn at random.

    Raises:
        InvalidSystem: It is not the one that `card` declares, or has a setting that is not known here.
    """
    try:
        codec = _network(config, card)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidSystem(f"{source} describes no model that can be built here: {error}") from error
    hop = (card.sample_rate or 0) / (card.streams[0].frame_rate or 1)
    if codec.net.hop != hop:
        raise InvalidSystem(f"{source} describes frames of {codec.net.hop} samples, but {card.name} has {hop:g}")
    return codec


def _network(config: Config, card: Card) -> SEANetCodec | SpectralCodec:
    from codecbench.models.blocks.seanet import SEANet, SEANetCodec
    from codecbench.models.blocks.seanet2d import SEANet2d
    from codecbench.models.blocks.spectral import SpectralCodec, SpectralNet

    spectral = {"encodec": False, "freq_codec": True}[config["model"]]
    codebooks, size = len(card.streams), card.streams[0].codebook_size
    _check_quantiser(dict(config.get("quantizer_conf") or {}), codebooks, size)
    model = config["model_conf"]
    _check("target_sample_hz", model.get("target_sample_hz", 24_000), card.sample_rate)
    _check("audio_normalize", model.get("audio_normalize", not spectral), True)
    _check("segment_dur", model.get("segment_dur", 1.0), None)
    _check("bypass_quantizer", model.get("bypass_quantizer", False), False)
    if not spectral:
        _check("codec_domain", model.get("codec_domain", "time"), "time")
        nets = [SEANet(**_side(config, side, spectral)) for side in ("encoder", "decoder")]
        _check("shape of the decoder", nets[1], nets[0])
        return SEANetCodec(nets[0], codebooks, size)
    _check("codec_domain", model.get("codec_domain"), ["mag_phase", "mag_phase"])
    transform = {"n_fft": 512, "hop_length": 160} | dict(model.get("domain_conf") or {})
    encoder, decoder = (SEANet2d(**_side(config, side, spectral)) for side in ("encoder", "decoder"))
    _check("ratios of the decoder", decoder.strides, encoder.strides)
    net = SpectralNet(encoder, decoder, transform["n_fft"], transform["hop_length"])
    return SpectralCodec(net, codebooks, size)


def _side(config: Config, side: str, spectral: bool) -> dict[str, Any]:
    """The shape of the encoder or decoder, in the names of `SEANet` and `SEANet2d`."""
    from codecbench.models.blocks.conv import ConvStyle

    given = dict(config[f"{side}_conf"])
    for name, values in _ONLY.items():
        _check(name, given.get(name, values[0]), *values)
    shape = {here: given.pop(there) for there, here in _SHAPE.items() if there in given}
    shape["lstm_layers"] = given.pop("seq_layer_num", 2) if given.get("seq_model", "lstm") == "lstm" else 0
    shape["conv_skip"] = not given.pop("true_skip", False)
    shape["style"] = ConvStyle(_NORMS[given.pop("norm", "weight_norm")])
    shape["channels"] = config["input_size"] if side == "encoder" else given.pop("channels", 1)
    if spectral:
        # A group has twice the released ratio of channels, but for transposed convolutions.
        shape["group"] = 2 * max(0, given.pop("conv_group_ratio", -1))
        shape["up_group"] = max(0, given.pop("tr_conv_group_ratio", -1))
    if ratios := given.pop("ratios", None):
        shape["strides"] = tuple(tuple(ratio) if spectral else ratio for ratio in reversed(ratios))
    if unknown := given.keys() - _ONLY.keys():
        raise ValueError(f"{side}_conf has the unknown settings {', '.join(sorted(unknown))}")
    return shape


def _check_quantiser(given: dict[str, Any], codebooks: int, size: int) -> None:
    only = {"num_quantizers": codebooks, "codebook_size": size, "use_ddp": True, "codec_dim": None,
            "codec_range": None, "q0_ds_ratio": 1}  # fmt: skip
    for name, value in only.items():
        _check(name, given.pop(name, value), value)
    if unknown := given.keys() - {*_TRAINING, "encoder_hop_length"}:
        raise ValueError(f"quantizer_conf has the unknown settings {', '.join(sorted(unknown))}")


def _check(name: str, value: object, *expected: object) -> None:
    if value not in expected:
        raise ValueError(f"{name} is {value}, not {' or '.join(map(str, expected))}")
