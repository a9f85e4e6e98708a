# It runs next to a package that is not installed beside the benchmark, so:
# mypy: ignore-errors
"""Write ``soundstream.npz``: what the package ``soundstream`` makes of our random weights.

Run with ``python tests/golden/regenerate_soundstream.py`` where the benchmark and torchaudio are installed, and without
their dependencies soundstream 0.0.1 and vector-quantize-pytorch 1.32.0 (with einx, loguru and torch-einops-utils).

The package's network is filled with our random weights of seed 0, under its own names. The file holds, for every
length: ``LENGTH/codes`` ``[K, F]``, and the first and last samples of the decoded waveform, ``LENGTH/audio``; ``names``
is the hash of its parameters' names.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from signals import noise
from soundstream.soundstream import SoundStream

from codecbench import weights
from codecbench.models.soundstream import PACKAGE_NAMES, TRAINING_STATE, SoundStream16

LENGTHS = (2_200, 2_201, 24_001, 160_000)
HOP = 200
EDGE = 200
"""Samples that are kept of either end of a waveform."""


def package() -> SoundStream:
    """Its network as its published weights need it, with ours."""
    network = SoundStream(n_q=16, codebook_size=1024, D=256, C=58, strides=(2, 4, 5, 5)).eval()
    ours, state = SoundStream16.network(0).state_dict(), network.state_dict()
    for name in state:
        if name.endswith(".initted"):
            state[name] = torch.ones_like(state[name])
        for renamed in weights.rename_keys({name: None}, PACKAGE_NAMES, drop=TRAINING_STATE):
            tensor = ours.pop(renamed)
            state[name] = (tensor[None] if name.endswith(".embed") else tensor).clone()
    assert not ours, f"{list(ours)} have no counterpart"
    network.load_state_dict(state)
    return network


def main() -> None:
    torch.set_num_threads(1)
    network = package()
    names = "\n".join(sorted(network.state_dict()))
    found = {"names": np.array(hashlib.sha256(names.encode()).hexdigest())}
    for length in LENGTHS:
        # The package drops what is beyond the last whole frame; ours extends a clip with zeros.
        audio = np.pad(np.float32(0.1) * noise(length, seed=length), (0, -length % HOP))
        with torch.inference_mode():
            entries, codes, _ = network.quantizer(network.encoder(torch.from_numpy(audio)[None, None]).mT)
            decoded = network(entries, mode="decode")[0, 0, :length].numpy()
        if length > 10_000:
            assert min(len(set(stream.tolist())) for stream in codes[0].T) >= 90, "too few different codes"
            assert 0.01 < decoded.std() < 1
        found[f"{length}/codes"] = codes[0].T.numpy().astype(np.int16)
        found[f"{length}/audio"] = np.r_[decoded[:EDGE], decoded[-EDGE:]]
    np.savez_compressed(Path(__file__).with_name("soundstream.npz"), **found)


if __name__ == "__main__":
    main()
