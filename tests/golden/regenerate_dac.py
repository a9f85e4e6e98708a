# /// script
# requires-python = ">=3.11"
# dependencies = ["descript-audio-codec==1.0.0", "numpy", "torch"]
# ///
# Its libraries are not installed beside the benchmark, so:
# mypy: ignore-errors
"""Write the golden values of DAC from the package that its authors publish.

Run with ``uv run tests/golden/regenerate_dac.py``. Nothing here imports the benchmark. There are two networks, an
eighth as wide as the released ones: ``dac_16khz.npz`` codes clips at once, ``dac_44khz_chunked.npz`` has what
``compress`` and ``decompress`` make of them. Both hold the codes of some clips, and excerpts of what these decode to.
"""

from __future__ import annotations

import json
from pathlib import Path

import dac
import numpy as np
import torch
from audiotools import AudioSignal
from checkpoints import clip, content, excerpt

SEED, GAIN = 1, 0.65
NARROW = {"encoder_dim": 8, "latent_dim": 128, "decoder_dim": 48}
LENGTHS_16 = (1, 8, 9, 319, 321, 7_777, 16_017)
LENGTHS_44 = (1, 20_000, 44_100, 44_101, 57_044, 57_045, 100_000)


def model(arrays: dict[str, np.ndarray], **shape: object) -> dac.DAC:
    """A network with seeded weights; the names and shapes of its tensors are added to `arrays`."""
    network = dac.DAC(**NARROW, **shape).eval()
    shapes = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    weights = {name: torch.from_numpy(values) for name, values in content(shapes, SEED, GAIN).items()}
    network.load_state_dict(weights, strict=True)
    arrays["shapes"] = np.array(json.dumps(shapes))
    return network


def at_once() -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    strides = [2, 4, 5, 8]
    network = model(arrays, encoder_rates=strides, decoder_rates=strides[::-1], n_codebooks=12, sample_rate=16_000)
    for length in LENGTHS_16:
        x = network.preprocess(torch.from_numpy(clip(length))[None, None], 16_000)
        codes = network.encode(x)[1]
        arrays[f"codes_{length}"] = codes[0].numpy().astype(np.int16)
        for count in (1, 12):
            samples = network.decode(network.quantizer.from_codes(codes[:, :count])[0])[0, 0].numpy()
            arrays[f"samples_{length}_{count}"] = excerpt(samples)
        print(length, len(samples), [len(set(k.tolist())) for k in codes[0]], samples.std())
    return arrays


def chunked() -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    network = model(arrays)
    for length in LENGTHS_44:
        file = network.compress(AudioSignal(torch.from_numpy(clip(length))[None, None], 44_100))
        samples = network.decompress(file).audio_data[0, 0].numpy()
        arrays[f"codes_{length}"] = file.codes[0].numpy().astype(np.int16)
        arrays[f"loudness_{length}"] = file.input_db.numpy()
        arrays[f"samples_{length}_9"] = excerpt(samples)
        print(length, len(samples), [len(set(k.tolist())) for k in file.codes[0]], samples.std(), file.input_db)
    return arrays


if __name__ == "__main__":
    with torch.inference_mode():
        for name, arrays in (("dac_16khz", at_once()), ("dac_44khz_chunked", chunked())):
            np.savez_compressed(Path(__file__).parent / f"{name}.npz", **arrays)
