# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy", "torch"]
# ///
# Its libraries are not installed beside the benchmark, so:
# mypy: ignore-errors
"""Write the golden values of VALL-E and VALL-E X from their open implementations.

Run with ``uv run tests/golden/regenerate_valle.py VALLE VALLEX``, where ``VALLE`` is a checkout of
https://github.com/lifeiteng/vall-e at 9c69096 and ``VALLEX`` one of https://github.com/Plachtaa/VALL-E-X at 3faaf8c.
Nothing here imports the benchmark. Libraries that the networks do not need are stubbed. ``valle.json`` has the names
and shapes of tiny models' checkpoints, and those of the released one of VALL-E X; ``valle.npz`` what the models gave:
logits, greedy codes, and losses.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import numpy as np
import torch
from checkpoints import content

FOLDER = Path(__file__).parent
STUBS = ("icefall", "icefall.utils", "torchmetrics", "torchmetrics.classification", "lhotse", "lhotse.utils")
LAZY = (
    "valle", "valle.data", "valle.models", "models", "data", "valle.data.input_strategies", "valle.models.visualizer",
    "data.input_strategies", "models.visualizer",
)  # fmt: skip
TEXT, SIZE, CODEBOOKS, SEED, LAST = 20, 64, 4, 5, 12
CASES = {
    "mode0": {"prefix_mode": 0}, "mode1": {"prefix_mode": 1, "prepend_bos": True}, "mode2": {"prefix_mode": 2},
    "apart": {"prefix_mode": 1, "prepend_bos": True, "share_embedding": False, "norm_first": False},
    "languages": {"prefix_mode": 1, "prepend_bos": True},
}  # fmt: skip
LANGUAGES = ["zh", "en", "zh", "en", "en", "zh"]


def stub(valle: str, vallex: str) -> None:
    for name in STUBS:
        sys.modules[name] = MagicMock()
    sys.modules["icefall.utils"].make_pad_mask = lambda lengths: torch.arange(int(lengths.max())) >= lengths[:, None]
    for name in LAZY:
        sys.modules[name] = ModuleType(name)
        root = valle if name.startswith("valle") else vallex
        sys.modules[name].__path__ = [str(Path(root, *name.split(".")))]
        sys.modules[name].PromptedFeatures = type("PromptedFeatures", (), {})
        sys.modules[name].visualize = None
    sys.path[:0] = [valle, vallex]


def module(name: str, text: int, size: int) -> ModuleType:
    """The module of the networks, for vocabularies of these sizes."""
    package = name.rpartition(".")[0]
    macros = import_module(f"{package}.macros")
    macros.NUM_TEXT_TOKENS, macros.NUM_AUDIO_TOKENS = text, size
    sys.modules.pop(name, None)
    return import_module(name)


def build(case: str, dim: int, heads: int, layers: int, text: int, size: int, codebooks: int) -> torch.nn.Module:
    name = "models.vallex" if case == "languages" else "valle.models.valle"
    return module(name, text, size).VALLE(dim, heads, layers, num_quantizers=codebooks, **CASES[case]).eval()


def listen(part: torch.nn.Module, heard: list) -> None:
    part.register_forward_hook(lambda _part, _inputs, output: heard.append(output.detach().clone()))


@torch.inference_mode()
def values(case: str, model: torch.nn.Module) -> dict[str, np.ndarray]:
    """Greedy codes after a prompt, the first and last logits of the first codebook, the last ones of the others."""
    rng = np.random.RandomState(SEED)
    text = torch.from_numpy(rng.randint(0, TEXT, (1, 6)))
    prompt = torch.from_numpy(rng.randint(0, SIZE, (1, 7, CODEBOOKS)))
    coarse, fine = [], []
    listen(model.ar_predict_layer, coarse)
    for layer in model.nar_predict_layers:
        listen(layer, fine)
    said = {"enroll_x_lens": torch.tensor([4])}
    if case == "languages":
        said = {"enroll_x_lens": 2, "prompt_language": "ja", "text_language": LANGUAGES[2:]}
    codes = model.inference(text, torch.tensor([6]), prompt, top_k=1, **said)[0]
    print(case, tuple(codes.shape), len(codes[:, 0].unique()))
    return {
        "text": text[0].numpy(), "prompt": prompt[0].T.numpy(), "codes": codes.T.numpy(),
        "coarse": torch.cat([coarse[0], coarse[-1]]).numpy(), "fine": torch.cat(fine)[:, -LAST:].numpy(),
    }  # fmt: skip


@torch.inference_mode()
def losses(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """The losses of one utterance: of the first codebook, and of a codebook that is drawn."""
    rng = np.random.RandomState(SEED + 1)
    text = torch.from_numpy(rng.randint(0, TEXT, (1, 6)))
    codes = torch.from_numpy(rng.randint(0, SIZE, (1, 20, CODEBOOKS)))
    model.rng.seed(SEED)
    level = model.rng.choices(list(range(1, CODEBOOKS)), weights=[1.0] * (CODEBOOKS - 1), k=1)[0]
    model.rng.seed(SEED)
    found = []
    for stage in (1, 2):
        out = model(text, torch.tensor([6]), codes, torch.tensor([20]), reduction="mean", train_stage=stage)
        found.append(float(out[1]))
    return {"loss_text": text[0].numpy(), "loss_codes": codes[0].T.numpy(), "losses": np.array([*found, level])}


def main(valle: str, vallex: str) -> None:
    stub(valle, vallex)
    arrays, shapes = {}, {}
    for case in CASES:
        model = build(case, 32, 4, 2, TEXT, SIZE, CODEBOOKS)
        shapes[case] = {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
        state = content(shapes[case], SEED, 1.0)
        if CASES[case].get("share_embedding", True):
            for k in range(CODEBOOKS - 2):
                state[f"nar_predict_layers.{k}.weight"] = state[f"nar_audio_embeddings.{k + 2}.word_embeddings.weight"]
        model.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
        found = values(case, model) | (losses(model) if case == "mode0" else {})
        arrays |= {f"{case}_{name}": array for name, array in found.items()}
    with torch.device("meta"):
        released = build("languages", 1024, 16, 12, 2048, 1024, 8)
    shapes["vallex-checkpoint"] = {key: list(tensor.shape) for key, tensor in released.state_dict().items()}
    np.savez_compressed(FOLDER / "valle.npz", **arrays)
    lines = (f'"{name}": {json.dumps(entry)}' for name, entry in shapes.items())
    (FOLDER / "valle.json").write_text(f'{{"seed": {SEED},\n' + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
