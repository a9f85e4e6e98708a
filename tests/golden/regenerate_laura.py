# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy", "scipy", "torch"]
# ///
# Its libraries are not installed beside the benchmark, so:
# mypy: ignore-errors
"""Write the golden values of LauraTTS from its authors' code.

Run with ``uv run tests/golden/regenerate_laura.py PATH``, where ``PATH`` is a checkout of
https://github.com/modelscope/FunCodec at 3435d87. Nothing here imports the benchmark. Libraries that the model does not
need are stubbed. ``laura.json`` has the names and shapes of a tiny model's checkpoint and those of the released size;
``laura.npz`` vectors of a text, log-likelihoods, losses, greedy codes and predicted frames.
"""

from __future__ import annotations

import json
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import torch
from checkpoints import content

FOLDER = Path(__file__).parent
SEED, PHONES, FRAMES, GAIN = 7, 72, 20, 40.0
"""The entries of the codebooks are multiplied by the last."""
ABSENT = (
    "kaldiio",
    "librosa",
    "torch_complex",
    "humanfriendly",
    "typeguard",
    "sentencepiece",
    "editdistance",
    "einops",
)
TINY = {"width": 16, "heads": 2, "units": 24, "blocks": (2, 3, 2), "input": 12, "dim": 8}
RELEASED = {"width": 512, "heads": 8, "units": 2048, "blocks": (6, 12, 6), "input": 1536, "dim": 128}


class Stubs(MetaPathFinder, Loader):
    """Anything of these names can be imported, and does nothing."""

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.partition(".")[0] in ABSENT else None

    def create_module(self, spec: ModuleSpec) -> MagicMock:
        return MagicMock(__spec__=spec, __path__=[], __name__=spec.name)

    def exec_module(self, _module: object) -> None:
        pass


def build(size: dict) -> torch.nn.Module:
    """The model of the recipe ``text2audio_codec_lm_nq2_uni_rel_pos.yaml``, in another size."""
    from funcodec.models.audio_generation.laura_model import LauraGenModel
    from funcodec.models.encoder.conformer_encoder import ConformerEncoder

    first, middle, last = size["blocks"]

    def encoder(channels: int, blocks: int) -> torch.nn.Module:
        return ConformerEncoder(
            channels, size["width"], size["heads"], size["units"], blocks, input_layer="linear",
            rel_pos_type="latest", pos_enc_layer_type="rel_pos", selfattention_layer_type="rel_selfattn",
            use_cnn_module=False,
        )  # fmt: skip

    return LauraGenModel(
        size["input"], encoder(size["input"], first), encoder(size["dim"], last), vocab_size=PHONES,
        token_list=[str(number) for number in range(PHONES)], lsm_weight=0.0, predict_nq=2,
        codec_conf={"num_quantizers": 32, "codebook_size": 1024, "codebook_dim": size["dim"]},
        codec_lm_conf={
            "name": "transformer", "pos_enc": "rel_pos", "selfattention_layer_type": "rel_selfattn",
            "embed_unit": size["dim"], "att_unit": size["width"], "head": size["heads"], "unit": size["units"],
            "layer": middle, "pe_type": "uni", "bidirectional_inputs": True, "codec_groups": 1,
        },
    )  # fmt: skip


@torch.inference_mode()
def main(checkout: str) -> None:
    sys.meta_path.insert(0, Stubs())
    sys.path.insert(0, checkout)
    model = build(TINY).eval()
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    state = {name: torch.from_numpy(value) for name, value in content(shapes, SEED, 1.0).items()}
    state["quantizer_codebook.codec_index_shift"] = model.quantizer_codebook.codec_index_shift
    state["quantizer_codebook.embed"] *= GAIN
    model.load_state_dict(state)
    rng, arrays = np.random.RandomState(SEED), {}
    phones = torch.from_numpy(rng.randint(0, PHONES, (1, 6)))
    codes = torch.from_numpy(rng.randint(0, 1024, (1, FRAMES, 32)))
    count, frames = torch.tensor([6]), torch.tensor([FRAMES])
    arrays["phones"], arrays["codes"] = phones[0].numpy(), codes[0].T.numpy()
    text, _ = model.encode(model.token_embedding(phones), count)
    arrays["text"] = text[0].numpy()
    nats, logits, _, _ = model.nll(text, count, codes[..., :2], frames)
    arrays["nats"], arrays["logits"] = -nats[0].T.numpy(), logits[0, :, :, ::41].transpose(0, 1).numpy()
    for prompt in (0, 5):
        found = model.decode_codec(
            text, count, max_length=12, sampling=1, continual=codes[0, :prompt, :2].tolist() or None
        )
        arrays[f"greedy_{prompt}"] = found[0].T.numpy()
        print(prompt, found.shape, len(found.unique()))
    prob = torch.nn.functional.one_hot(codes[..., :2], 1024).float()
    arrays["frames"] = model.cal_codec_emb(text, count, prob, frames)[0][0].numpy()
    for ratio in (0.0, 1.0):
        model.codec_sampling_ratio = ratio
        arrays[f"loss_{ratio:g}"] = model(phones, count, codes, frames)[0].numpy()
        print(arrays[f"loss_{ratio:g}"])
    with torch.device("meta"):
        released = {name: list(tensor.shape) for name, tensor in build(RELEASED).state_dict().items()}
    np.savez_compressed(FOLDER / "laura.npz", **arrays)
    parts = {"seed": SEED, "gain": GAIN, "tiny": shapes, "released": released}
    (FOLDER / "laura.json").write_text(
        "{" + ",\n".join(f'"{key}": {json.dumps(part)}' for key, part in parts.items()) + "}\n"
    )


if __name__ == "__main__":
    main(sys.argv[1])
