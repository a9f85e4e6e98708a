# /// script
# requires-python = ">=3.11"
# dependencies = ["matplotlib", "numpy", "pyyaml", "torch"]
# ///
# Its libraries are not installed beside the benchmark, so:
# mypy: ignore-errors
"""Write the golden values of HiFi-Codec from its authors' code.

Run with ``uv run tests/golden/regenerate_hificodec.py PATH``, where ``PATH`` is a checkout of
https://github.com/yangdongchao/AcademiCodec at b6ac134; it is no package. Nothing here imports the benchmark. For each
hop length, ``hificodec.json`` has the names and shapes of its checkpoints' three parts, and ``hificodec_*.npz`` the
statistics that fill the codebooks, the codes of some clips, and excerpts of what they are decoded to.

The released encoder drops what lies beyond the last whole frame, so zeros extend every clip to whole frames.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from checkpoints import clip, codebook, content, excerpt

FOLDER = Path(__file__).parent
LENGTHS = (1, 2, 239, 240, 241, 319, 320, 321, 7_777, 24_001, 160_000)
CONFIGS = {320: "HiFi-Codec-16k-320d/config_16k_320d.json", 240: "HiFi-Codec-24k-240d/config_24k_240d.json"}
SEED, GAIN = 1, 1.1


def fill(parts: dict[str, torch.nn.Module], shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """Load the seeded weights, and return the statistics that the codebooks were filled with."""
    weights = content(shapes, SEED, GAIN)
    for part, module in parts.items():
        own = {key: torch.from_numpy(weights[f"{part}.{key}"]) for key in module.state_dict()}
        module.load_state_dict(own, strict=True)
    means, deviations = [], []
    residual = parts["encoder"](torch.from_numpy(clip(48_000))[None, None])[0].T
    quantiser = parts["quantizer"]
    for layer in (quantiser.quantizer_modules, quantiser.quantizer_modules2):
        entries = []
        for book, vectors in zip(layer, residual.split(256, dim=1), strict=True):
            means.append(vectors.mean(0).numpy().astype(np.float16))
            deviations.append(np.float32(vectors.std(0).mean()))
            values = codebook(means[-1], deviations[-1], 1024, len(means) - 1)
            book.embedding.weight.copy_(torch.from_numpy(values))
            entries.append(book(vectors)[0])
        residual = residual - torch.cat(entries, dim=1)
    return {"means": np.stack(means), "deviations": np.array(deviations)}


@torch.inference_mode()
def main(academicodec: str) -> None:
    sys.path.insert(0, academicodec)
    from academicodec.models.hificodec.env import AttrDict
    from academicodec.models.hificodec.models import Encoder, Generator, Quantizer

    models = {}
    for hop, config in CONFIGS.items():
        settings = AttrDict(json.loads((Path(academicodec) / "egs" / config).read_text()))
        parts = {"encoder": Encoder(settings), "generator": Generator(settings), "quantizer": Quantizer(settings)}
        shapes = {f"{p}.{key}": list(t.shape) for p, module in parts.items() for key, t in module.state_dict().items()}
        arrays = fill(parts, shapes)
        for length in LENGTHS:
            padded = torch.nn.functional.pad(torch.from_numpy(clip(length))[None, None], (0, -length % hop))
            _, _, found = parts["quantizer"](parts["encoder"](padded))
            codes = torch.stack([stream.reshape(1, -1) for stream in found], dim=-1)
            samples = parts["generator"](parts["quantizer"].embed(codes))[0, 0, :length].numpy()
            arrays[f"codes_{length}"] = codes[0].T.numpy().astype(np.int16)
            arrays[f"samples_{length}"] = excerpt(samples)
            print(hop, length, [len(set(k.tolist())) for k in codes[0].T], samples.std())
        np.savez_compressed(FOLDER / f"hificodec_{hop}.npz", **arrays)
        models[hop] = {"seed": SEED, "gain": GAIN, "shapes": shapes}
    lines = (f'"{hop}": {json.dumps(entry)}' for hop, entry in models.items())
    (FOLDER / "hificodec.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(sys.argv[1])
