# It runs next to the released code, so:
# mypy: ignore-errors
"""Write ``audiodec.npz``: what the released AudioDec makes of our random weights.

Run with ``python tests/golden/regenerate_audiodec.py CLONE``, where CLONE is a clone of
https://github.com/facebookresearch/AudioDec (commit e451e62), in an environment with the benchmark and torchaudio.

Each of the release's networks is built as its ``config.yml`` says and filled with our random weights of seed 0, under
its own names. The file holds, for every system and length: ``SYSTEM/LENGTH/codes`` ``[K, F]``, and the first and last
samples of the decoded waveform, ``SYSTEM/LENGTH/audio``. ``SYSTEM/names`` is the hash of all the names in its files.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import yaml
from signals import noise

from codecbench import weights
from codecbench.models import audiodec
from codecbench.models.audiodec import AudioDec

LENGTHS = (1, 299, 300, 301, 320, 321, 24_007)
SYSTEMS = {
    audiodec.AudioDec24Sym: (*LENGTHS, 240_000),
    audiodec.AudioDec24V1: LENGTHS,
    audiodec.AudioDec48V0: LENGTHS,
    audiodec.AudioDec48V2: LENGTHS,
    audiodec.AudioDec48ActivateSym: LENGTHS,
    audiodec.AudioDec48C16Sym: LENGTHS,
}
EDGE = 200
"""Samples that are kept of either end of a waveform."""


def part(system: type[AudioDec], file: str, rules: Sequence[tuple[str, str]]) -> torch.nn.Module:
    """The release's network for `file`, with our weights."""
    from models.autoencoder.AudioDec import Generator as Autoencoder  # noqa: TID251 - the clone's
    from models.vocoder.HiFiGAN import Generator as Vocoder  # noqa: TID251

    config = yaml.safe_load(Path("exp", Path(file).parent, "config.yml").read_text())
    make = Vocoder if rules is audiodec.VOCODER_NAMES else Autoencoder
    network = make(**config["generator_params"]).eval()
    ours = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in system.network(0).state_dict().items()
    }
    state = network.state_dict()
    for name in state:
        for renamed in weights.rename_keys({name: None}, rules, drop=audiodec.TRAINING_STATE):
            if renamed in ours:
                tensor = ours[renamed]
                state[name] = (tensor.t() if name.endswith(".embed") else tensor).clone()
            else:
                assert renamed.startswith("decoder."), f"{name} has no counterpart"
    network.load_state_dict(state)
    return network


def run(system: type[AudioDec], lengths: Sequence[int]) -> dict[str, np.ndarray]:
    torch.manual_seed(1)  # of what is replaced: a tensor that is left as it was would show
    encoder = part(system, system.encoder, audiodec.AUTOENCODER_NAMES)
    decoder = part(system, system.decoder, audiodec.VOCODER_NAMES if system.vocoder else audiodec.AUTOENCODER_NAMES)
    names = sorted({*encoder.state_dict(), *decoder.state_dict()})
    found = {"names": np.array(hashlib.sha256("\n".join(names).encode()).hexdigest())}
    for length in lengths:
        audio = torch.from_numpy(0.1 * noise(length, seed=length))[None, None]
        with torch.inference_mode():
            latent = encoder.projector(encoder.encoder(audio))
            entries, codes = encoder.quantizer.inference(latent)
            decoded = (decoder if system.vocoder else decoder.decoder)(entries)[0, 0, :length].numpy()
        if length > 10_000:
            assert min(len(set(stream.tolist())) for stream in codes) >= 70, "too few different codes"
            assert 0.01 < decoded.std() < 1
        found[f"{length}/codes"] = codes.reshape(len(system.card.streams), -1).numpy().astype(np.int16)
        found[f"{length}/audio"] = decoded if length <= 2 * EDGE else np.r_[decoded[:EDGE], decoded[-EDGE:]]
    return {f"{system.card.name}/{key}": value for key, value in found.items()}


def main() -> None:
    target = Path(__file__).with_name("audiodec.npz").resolve()
    os.chdir(sys.argv[1])  # the configurations name their files from there
    sys.path.insert(0, ".")
    torch.set_num_threads(1)
    found = {}
    for system, lengths in SYSTEMS.items():
        found |= run(system, lengths)
    np.savez_compressed(target, **found)


if __name__ == "__main__":
    main()
