# /// script
# requires-python = ">=3.11"
# dependencies = ["bitarray", "hydra-core", "numpy", "omegaconf", "sacrebleu", "scikit-learn", "torch", "torchaudio"]
# ///
# Its libraries are not installed beside the benchmark, so:
# mypy: ignore-errors
"""Write the golden values of unit vocoders and unit language models from their authors' code.

Run with ``uv run tests/golden/regenerate_units.py TEXTLESSLIB FAIRSEQ PROMPT``, checkouts of
https://github.com/facebookresearch/textlesslib at ba33d66, https://github.com/facebookresearch/fairseq at 3d262bb and
https://github.com/ga642381/SpeechPrompt-v2 at 401e91d. Nothing here imports the benchmark. ``units.json`` has the names
and shapes of tiny checkpoints, ``units.npz`` what the models gave with them filled by ``checkpoints.py``.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from checkpoints import content

FOLDER = Path(__file__).parent
SEED, GAIN = 5, 1.0
VOCODER = {
    "resblock": "1", "upsample_rates": [5, 4, 2], "upsample_kernel_sizes": [11, 8, 4], "upsample_initial_channel": 16,
    "resblock_kernel_sizes": [3, 7, 11], "resblock_dilation_sizes": [[1, 3, 5]] * 3, "num_embeddings": 20,
    "embedding_dim": 8, "model_in_dim": 8, "code_hop_size": 40, "sampling_rate": 16000,
}  # fmt: skip
DURATION = {
    "encoder_embed_dim": 8, "var_pred_hidden_dim": 12, "var_pred_kernel_size": 3, "var_pred_dropout": 0.5,
}  # fmt: skip
VOCODERS = {
    "plain": VOCODER | {"dur_predictor_params": DURATION},
    "voices": VOCODER | {
        "model_in_dim": 24, "multispkr": "from_input", "num_speakers": 4, "multistyle": "from_input", "num_styles": 3,
    },
    "pitch": VOCODER | {"model_in_dim": 16, "f0": True, "f0_quant_num_bin": 6},
    "continuous": VOCODER | {"model_in_dim": 9, "f0": True},
}  # fmt: skip


def filled(model: torch.nn.Module, shapes: dict, name: str) -> torch.nn.Module:
    """`model` with the weights that the tests will have, and its names and shapes put down."""
    own = {key: list(value.shape) for key, value in model.state_dict().items() if value.is_floating_point()}
    shapes[name] = own
    weights = {key: torch.from_numpy(value) for key, value in content(own, SEED, GAIN).items()}
    model.load_state_dict(weights, strict=False)
    return model.eval().requires_grad_(False)


def load(name: str, path: Path, package: str | None = None) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    if package:
        module.__package__ = package
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def vocoders(textlesslib: Path, shapes: dict, found: dict) -> None:
    folder = textlesslib / "textless/vocoders/hifigan"
    package = ModuleType("hifigan")
    package.__path__ = [str(folder)]
    sys.modules["hifigan"] = package
    load("hifigan.resblock", folder / "resblock.py")
    generator = load("hifigan.generator", folder / "generator.py").CodeGenerator
    random = np.random.RandomState(SEED)
    units = torch.from_numpy(random.randint(0, 20, 12))
    found["units"] = units
    for name, config in VOCODERS.items():
        model = filled(generator(config), shapes, name)
        inputs = {"code": units[None]}
        if config.get("multispkr"):
            inputs |= {"spkr": torch.tensor([[2]]), "style": torch.tensor([[1]])}
        if name == "pitch":
            inputs["f0"] = torch.from_numpy(random.randint(0, 6, (1, 24)))
        if name == "continuous":
            inputs["f0"] = torch.from_numpy(random.standard_normal((1, 12)).astype(np.float32))
        if "f0" in inputs:
            found[f"{name}_f0"] = inputs["f0"][0]
        found[name] = model(**inputs)[0, 0]
        if name == "plain":
            log = model.dur_predictor(model.dict(units[None]))
            found["durations"] = torch.clamp(torch.round(torch.exp(log) - 1).long(), min=1)[0]
            found["spoken"] = model(code=units[None], dur_prediction=True)[0, 0]


def main() -> None:
    textlesslib, fairseq, prompt = map(Path, sys.argv[1:4])
    torch.set_num_threads(1)
    shapes, found = {}, {}
    vocoders(textlesslib, shapes, found)
    shapes["vocoders"] = VOCODERS
    shapes["seed"] = SEED
    (FOLDER / "units.json").write_text(json.dumps(shapes) + "\n")
    np.savez_compressed(FOLDER / "units.npz", **{key: np.asarray(value) for key, value in found.items()})


if __name__ == "__main__":
    main()
