# /// script
# requires-python = ">=3.11"
# dependencies = ["beartype==0.16.4", "einops", "numpy", "torch"]
# ///
# Its libraries are not installed beside the benchmark, so:
# mypy: ignore-errors
"""Write the golden values of SoundStorm's network from an open implementation with published weights.

Run with ``uv run tests/golden/regenerate_soundstorm.py PATH``, where ``PATH`` is a checkout of
https://github.com/ZhangXInFD/soundstorm-speechtokenizer at 4ac468a. Nothing here imports the benchmark. Only the file
with the network is loaded. ``soundstorm.json`` has the names and shapes of a tiny model's checkpoint, and those of the
released size; ``soundstorm.npz`` the tiny model's logits.
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
SEED, SIZE, CODEBOOKS, FRAMES = 3, 20, 3, 13
TINY = {"dim": 16, "depth": 2, "heads": 2, "dim_head": 12, "attn_flash": False}
RELEASED = {"dim": 1024, "depth": 12, "heads": 8, "dim_head": 128, "attn_flash": False}


def load(path: str) -> ModuleType:
    package = ModuleType("soundstorm_speechtokenizer")
    package.__path__ = [str(Path(path, "soundstorm_speechtokenizer"))]
    sys.modules["soundstorm_speechtokenizer"] = package
    spec = importlib.util.spec_from_file_location(
        "soundstorm_speechtokenizer.soundstorm", Path(path, "soundstorm_speechtokenizer", "soundstorm.py")
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def build(code: ModuleType, size: int, codebooks: int, conformer: dict) -> torch.nn.Module:
    net = code.ConformerWrapper(codebook_size=size, num_quantizers=codebooks, conformer=conformer)
    return code.SoundStorm(
        net=net, num_semantic_token_ids=size, semantic_pad_id=size, pad_id=size, schedule="cosine"
    ).eval()  # fmt: skip


@torch.inference_mode()
def main(path: str) -> None:
    code = load(path)
    model = build(code, SIZE, CODEBOOKS, TINY)
    shapes = {"tiny": {name: list(tensor.shape) for name, tensor in model.state_dict().items()}}
    state = content(shapes["tiny"], SEED, 1.0)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    rng = np.random.RandomState(SEED)
    codes = torch.from_numpy(rng.randint(0, SIZE + 1, (2, FRAMES, CODEBOOKS)))  # the last one is the mask
    units = torch.from_numpy(rng.randint(0, SIZE, (2, FRAMES)))
    logits = model.net(codes.flatten(1), cond=model.get_condition(units))
    with torch.device("meta"):
        released = build(code, 1024, 7, RELEASED)
    shapes["released"] = {name: list(tensor.shape) for name, tensor in released.state_dict().items()}
    np.savez_compressed(
        FOLDER / "soundstorm.npz", codes=codes.mT.numpy(), units=units.numpy(),
        logits=logits.unflatten(1, (FRAMES, CODEBOOKS)).transpose(1, 2).numpy(),
    )  # fmt: skip
    lines = (f'"{name}": {json.dumps(entry)}' for name, entry in shapes.items())
    (FOLDER / "soundstorm.json").write_text(f'{{"seed": {SEED},\n' + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(sys.argv[1])
