# /// script
# requires-python = ">=3.11"
# dependencies = ["einops", "numpy", "speechtokenizer==1.0.1", "torch"]
# ///
# Its libraries are not installed beside the benchmark, so:
# mypy: ignore-errors
"""Write the golden values of SpeechTokenizer from the package that its authors publish.

Run with ``uv run tests/golden/regenerate_speechtokenizer.py``. Nothing here imports the benchmark. For each of the two
models, ``speechtokenizer.json`` has the names and shapes of its checkpoint, and ``speechtokenizer_*.npz`` the
statistics that fill the codebooks, the codes of some clips, and excerpts of what they are decoded to.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from checkpoints import clip, codebook, content, excerpt

FOLDER = Path(__file__).parent
LENGTHS = (1, 2, 3, 319, 320, 321, 7_777, 24_001, 160_000)
PREFIXES_OF = 7_777
GAINS = {"hubert_avg": 1.0, "snake": 0.82}
ACTIVATIONS = {"hubert_avg": "ELU", "snake": "Snake"}
SEED = 1
CONFIG = {
    "n_filters": 64, "strides": [8, 5, 4, 2], "dimension": 1024, "semantic_dimension": 768, "bidirectional": True,
    "dilation_base": 2, "residual_kernel_size": 3, "n_residual_layers": 1, "lstm_layers": 2, "codebook_size": 1024,
    "n_q": 8, "sample_rate": 16_000,
}  # fmt: skip


def model_class() -> type[torch.nn.Module]:
    """The package's model, without the trainer that the package itself imports."""
    package = ModuleType("speechtokenizer")
    package.__path__ = list(importlib.util.find_spec("speechtokenizer").submodule_search_locations)
    sys.modules["speechtokenizer"] = package
    from speechtokenizer.model import SpeechTokenizer

    return SpeechTokenizer


def fill(model: torch.nn.Module, shapes: dict[str, list[int]], gain: float) -> dict[str, np.ndarray]:
    """Load the seeded weights, and return the statistics that the codebooks were filled with."""
    weights = content(shapes, SEED, gain)
    model.load_state_dict({name: torch.from_numpy(values) for name, values in weights.items()}, strict=True)
    means, deviations = [], []
    residual = model.encoder(torch.from_numpy(clip(48_000))[None, None])
    for k, layer in enumerate(model.quantizer.vq.layers):
        means.append(residual[0].mean(1).numpy().astype(np.float16))
        deviations.append(np.float32(residual[0].std(1).mean()))
        layer._codebook.embed.copy_(torch.from_numpy(codebook(means[-1], deviations[-1], 1024, k)))
        residual = residual - layer.decode(layer.encode(residual))
    return {"means": np.stack(means), "deviations": np.array(deviations)}


@torch.inference_mode()
def main() -> None:
    models, golden = {}, model_class()
    for name, activation in ACTIVATIONS.items():
        model = golden({**CONFIG, "activation": activation}).eval()
        shapes = {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
        arrays = fill(model, shapes, GAINS[name])
        for length in LENGTHS:
            codes = model.encode(torch.from_numpy(clip(length))[None, None])
            arrays[f"codes_{length}"] = codes[:, 0].numpy().astype(np.int16)
            for count in range(1, 9) if length == PREFIXES_OF else (8,):
                samples = model.decode(codes[:count])[0, 0, :length].numpy()
                arrays[f"samples_{length}_{count}"] = excerpt(samples)
                print(name, length, count, [len(set(k.tolist())) for k in codes[:, 0]], samples.std())
        np.savez_compressed(FOLDER / f"speechtokenizer_{name}.npz", **arrays)
        models[name] = {"seed": SEED, "gain": GAINS[name], "shapes": shapes}
    lines = (f'"{name}": {json.dumps(entry)}' for name, entry in models.items())
    (FOLDER / "speechtokenizer.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
