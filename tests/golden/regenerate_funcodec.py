# It runs next to the released code, so:
# mypy: ignore-errors
"""Write ``funcodec.npz``: what the released FunCodec makes of our random weights.

Run with ``python tests/golden/regenerate_funcodec.py`` in an environment with the benchmark, einops and librosa, and
with funcodec 0.2.0, typeguard 2.13.3, humanfriendly, kaldiio, pytorch-wpe and torch-complex, installed without their
dependencies (``pip install --no-deps``).

Each of the release's models is built from its published recipe, with the settings of ours in place of the recipe's
where they differ, and gets our random weights of seed 0. The file holds, for every system and length:
``SYSTEM/LENGTH/codes`` ``[K, F]`` (of long clips, every tenth frame), ``SYSTEM/LENGTH/scale``, and of the waveform that
the release decodes its length, ``SYSTEM/LENGTH/samples``, and the samples at `kept`, ``SYSTEM/LENGTH/audio``. For one
length, ``SYSTEM/LENGTH/audio/COUNT`` is decoded from fewer codebooks. ``SYSTEM/names`` is the hash of the names of the
weights' tensors, ``SYSTEM/parameters`` the number of parameters.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from signals import noise

from codecbench import tolerant_torchaudio
from codecbench.models import funcodec
from codecbench.models.base import LoadOptions

LENGTHS = {
    funcodec.FunCodecEn320: (1, 2, 319, 320, 321, 7_777, 160_000),
    funcodec.FunCodecEn640: (1, 639, 640, 641, 7_777),
    funcodec.FreqCodecGr1: (257, 320, 7_777, 7_850),
    funcodec.FreqCodecGr8: (257, 319, 320, 321, 480, 7_777, 7_850, 160_000),
}
COUNTS_AT = 7_777
LONG = 100_000


def released(system: type[funcodec.FunCodec]) -> torch.nn.Module:
    """The release's model, with its own random weights."""
    tolerant_torchaudio.load()
    # The time-domain model puts the filters of its training loss on a GPU, whether there is one or not.
    torch.Tensor.cuda = lambda tensor: tensor
    hann = torch.hann_window
    torch.hann_window = lambda size, device=None, **kwargs: hann(size, **kwargs)  # noqa: ARG005
    from funcodec.models.codec_basic import Encodec
    from funcodec.models.codec_freq import FreqCodec
    from funcodec.models.decoder.seanet_decoder import SEANetDecoder, SEANetDecoder2d
    from funcodec.models.encoder.seanet_encoder import SEANetEncoder, SEANetEncoder2d
    from funcodec.models.quantizer.costume_quantizer import CostumeQuantizer

    config = system.config
    spectral = config["model"] == "freq_codec"
    encoder = (SEANetEncoder2d if spectral else SEANetEncoder)(config["input_size"], **config["encoder_conf"])
    decoder = (SEANetDecoder2d if spectral else SEANetDecoder)(encoder.output_size(), **config["decoder_conf"])
    hop = round(16_000 / system.card.streams[0].frame_rate)
    quantiser = CostumeQuantizer(
        encoder.output_size(), 1024, 32, kmeans_init=True, sampling_rate=16_000, encoder_hop_length=hop
    )
    make = FreqCodec if spectral else Encodec
    parts = {"encoder": encoder, "quantizer": quantiser, "decoder": decoder}
    return make(input_size=config["input_size"], odim=128, **parts, **config["model_conf"]).eval()


def load(model: torch.nn.Module, codec: funcodec.FunCodec) -> list[str]:
    """Give `model` the weights of `codec`; return the names of all its tensors that ours stand for."""
    ours = codec._network.state_dict()
    state = model.state_dict()
    used = []
    for name in state:
        if name.startswith(("encoder.", "decoder.")):
            here = name.replace(".model.", ".layers.").replace("convtr.convtr.", "conv.").replace("convtr.norm", "norm")
            state[name] = ours[here.replace("conv.conv.", "conv.").replace("conv.norm.", "norm.")]
            used.append(name)
    books = [f"quantiser.layers.{k}.embed" for k in range(32)]
    state["quantizer.rq.model.embed"] = torch.stack([ours[book] for book in books])
    state["quantizer.rq.model.inited"].fill_(1)
    assert len(used) + len(books) == len(ours)
    model.load_state_dict(state)
    return sorted(name for name in state if not name.startswith(("mel_spec_transforms", "discriminator")))


def kept(samples: int) -> np.ndarray:
    """Positions at the start, after one spectrum, in the middle and at the end; all of a short waveform."""
    starts = (0, 160, samples // 2, samples - 32) if samples > 400 else ()
    return np.concatenate([np.arange(start, start + 32) for start in starts]) if starts else np.arange(samples)


def run(system: type[funcodec.FunCodec]) -> dict[str, Any]:
    torch.manual_seed(1)  # of what is replaced: a tensor that is left as it was would show
    model = released(system)
    names = load(model, system.load(LoadOptions(random_seed=0)))
    count = sum(p.numel() for part in (model.encoder, model.decoder) for p in part.parameters())
    found = {"names": hashlib.sha256("\n".join(names).encode()).hexdigest(), "parameters": count}
    for length in LENGTHS[system]:
        audio = torch.from_numpy(0.1 * noise(length, seed=length))[None]
        audio[:, 2_000:5_000] = 0
        with torch.inference_mode():
            whole = model.inference(audio)
        codes, decoded = whole["code_indices"][0][:, 0].numpy().astype(np.int16), whole["recon_speech"][0, 0].numpy()
        if length > 10_000:
            assert min(len(set(stream.tolist())) for stream in codes) >= 250, "too few different codes"
            assert decoded.std() > 0.004
        found[f"{length}/codes"] = codes[:, :: 10 if length > LONG else 1]
        found[f"{length}/scale"] = whole["code_embeddings"][0][1].numpy()[0]
        found[f"{length}/samples"], found[f"{length}/audio"] = len(decoded), decoded[kept(len(decoded))]
        for point in system.card.points[:-1] if length == COUNTS_AT else ():
            with torch.inference_mode():
                some = model.inference(audio, bit_width=round(1000 * point.kbps))
            assert np.array_equal(some["code_indices"][0][:, 0], codes[: point.streams]), "not nested"
            found[f"{length}/audio/{point.streams}"] = some["recon_speech"][0, 0].numpy()[kept(len(decoded))]
    return {f"{system.card.name}/{key}": np.asarray(value) for key, value in found.items()}


def main() -> None:
    torch.set_num_threads(1)
    found = {}
    for system in LENGTHS:
        found |= run(system)
    np.savez_compressed(Path(__file__).with_name("funcodec.npz"), **found)


if __name__ == "__main__":
    main()
