# /// script
# requires-python = ">=3.11"
# dependencies = ["einops", "numpy", "torch"]
# ///
# Its libraries are not installed beside the benchmark, so:
# mypy: ignore-errors
"""Write the golden values of MusicGen's language model from its authors' code.

Run with ``uv run tests/golden/regenerate_musicgen.py PATH``, where ``PATH`` is a checkout of
https://github.com/facebookresearch/audiocraft at 896ec7c. Nothing here imports the benchmark. Libraries that the
language model does not need are stubbed, and T5 is a table of vectors. ``musicgen.json`` has the names and shapes of a
tiny model's checkpoint, and those of the released size; ``musicgen.npz`` the tiny model's logits and greedy codes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import torch
from checkpoints import content

FOLDER = Path(__file__).parent
STUBS = (
    "xformers", "xformers.ops", "flashy", "flashy.distrib", "num2words", "spacy", "librosa", "torchaudio", "av",
    "julius", "omegaconf", "audiocraft.environment", "audiocraft.data.audio", "audiocraft.data.audio_dataset",
    "audiocraft.data.audio_utils", "audiocraft.utils.utils", "audiocraft.utils.cache",
    "audiocraft.modules.chroma",
)  # fmt: skip
SIZE, TEXT, SEED, GUIDANCE, FRAMES = 64, 12, 3, 3.0, 20
DELAYS = {"mono": [0, 1, 2, 3], "stereo": [0, 0, 1, 1, 2, 2, 3, 3]}


class Inputs(dict):
    def to(self, _device: str) -> Inputs:
        return self


def tokenize(entries: list[str], **_: object) -> Inputs:
    """Every letter is a token; an empty text has one, as T5's end."""
    rows = [[ord(letter) - 96 for letter in entry] or [0] for entry in entries]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return Inputs(input_ids=ids, attention_mask=mask)


def table() -> np.ndarray:
    """A vector of T5 for each token."""
    return np.random.RandomState(SEED).standard_normal((27, TEXT)).astype(np.float32)


def stub(audiocraft: str) -> None:
    for name in STUBS:
        sys.modules[name] = MagicMock()
    for name in ("audiocraft", "audiocraft.data", "audiocraft.models", "audiocraft.quantization"):
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__path__ = [str(Path(audiocraft, *name.split(".")))]
    sys.modules["audiocraft.quantization"].ResidualVectorQuantizer = MagicMock
    transformers = ModuleType("transformers")
    transformers.RobertaTokenizer = transformers.T5EncoderModel = transformers.T5Tokenizer = MagicMock()
    sys.modules["transformers"] = transformers
    sys.path.insert(0, audiocraft)


def build(dim: int, layers: int, heads: int, card: int, delays: list[int], t5: str) -> torch.nn.Module:
    from audiocraft.models.lm import LMModel
    from audiocraft.modules.codebooks_patterns import DelayedPatternProvider
    from audiocraft.modules.conditioners import ConditionFuser, ConditioningProvider, T5Conditioner

    text = T5Conditioner(t5, dim, finetune=False, device="cpu")
    fuser = ConditionFuser({"cross": ["description"], "sum": [], "prepend": [], "input_interpolate": []})
    model = LMModel(
        DelayedPatternProvider(len(delays), delays), ConditioningProvider({"description": text}), fuser,
        n_q=len(delays), card=card, dim=dim, num_heads=heads, num_layers=layers, hidden_scale=4, norm="layer_norm",
        norm_first=True, bias_proj=False, bias_ff=False, bias_attn=False, causal=True, custom=False,
        memory_efficient=True, cross_attention=True, activation="gelu", dropout=0.0, weight_init="gaussian",
        depthwise_init="current", zero_bias_init=True, cfg_coef=GUIDANCE,
    )  # fmt: skip
    vectors = torch.from_numpy(table())
    text.t5_tokenizer = tokenize
    text.__dict__["t5"] = lambda input_ids, **_: SimpleNamespace(last_hidden_state=vectors[input_ids])
    return model.eval()


@torch.inference_mode()
def main(audiocraft: str) -> None:
    stub(audiocraft)
    from audiocraft.modules.conditioners import ConditioningAttributes, T5Conditioner
    from xformers import ops

    ops.unbind = torch.unbind
    T5Conditioner.MODELS_DIMS["t5-small"] = TEXT
    arrays, shapes = {"t5": table()}, {}
    for name, delays in DELAYS.items():
        model = build(32, 2, 4, SIZE, delays, "t5-small")
        shapes[name] = {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
        state = content(shapes[name], SEED, 1.0)
        model.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
        texts = [
            ConditioningAttributes(text={"description": "rain"}),
            ConditioningAttributes(text={"description": None}),
        ]
        rng = np.random.RandomState(SEED)
        codes = torch.from_numpy(rng.randint(0, SIZE, (2, len(delays), FRAMES)))
        out = model.compute_predictions(codes, texts, keep_only_valid_steps=False)
        assert bool(out.mask.all())
        arrays[f"{name}_codes"], arrays[f"{name}_logits"] = codes.numpy(), out.logits.numpy()
        for prompt in (0, 5):
            found = model.generate(codes[:1, :, :prompt], texts[:1], max_gen_len=FRAMES, use_sampling=False)
            arrays[f"{name}_greedy_{prompt}"] = found[0].numpy()
            print(name, prompt, len(found.unique()))
    with torch.device("meta"):
        T5Conditioner.MODELS_DIMS["t5-small"] = 768
        small = build(1024, 24, 16, 2048, DELAYS["mono"], "t5-small")
        shapes["musicgen-small"] = {key: list(tensor.shape) for key, tensor in small.state_dict().items()}
    np.savez_compressed(FOLDER / "musicgen.npz", **arrays)
    lines = (f'"{name}": {json.dumps(entry)}' for name, entry in shapes.items())
    (FOLDER / "musicgen.json").write_text(f'{{"seed": {SEED},\n' + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(sys.argv[1])
