# /// script
# requires-python = ">=3.11"
# dependencies = ["einops", "numpy", "torch"]
# ///
# Its libraries are not installed beside the benchmark, so:
# mypy: ignore-errors
"""Write the golden values of UniAudio from its authors' code.

Run with ``uv run tests/golden/regenerate_uniaudio.py PATH``, where ``PATH`` is a checkout of
https://github.com/yangdongchao/UniAudio at c1146a8. Nothing here imports the benchmark. Tokenisers are stubbed: what
they would give is given. ``uniaudio.json`` has the special ids, the names and shapes of a tiny model's checkpoint and
codec, and the sequences of all tasks; ``uniaudio.npz`` logits, losses, greedy tokens, and the codec's codes and output.
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import numpy as np
import torch
from checkpoints import clip, content

FOLDER = Path(__file__).parent
SEED, CODEBOOKS, SIZE = 5, 3, 64
SHAPE = {"n_ctx": 128, "n_state": 24, "n_head": 2, "n_layer": 4}
STUBBED = (
    "tools.tokenizer.soundstream.AudioTokenizer", "tools.tokenizer.soundstream.EncodecTokenizer",
    "tools.tokenizer.Text2Phone.Text2PhoneTokenizer", "tools.tokenizer.Prompt.audio_prompt_tokenizer",
    "tools.tokenizer.BPE.SPTokenizer", "tools.tokenizer.Semantic.Semantic_tokenizer",
    "tools.tokenizer.phone.phone_tokenizer", "tools.tokenizer.T5.T5Tokenizer",
    "tools.tokenizer.classifier.SV_bool_tokenizer", "tools.tokenizer.Sing.sing_midi_tokenizer",
    "tools.tokenizer.Sing.sing_phone_tokenizer", "utils.train_utils", "torchaudio", "omegaconf",
)  # fmt: skip
KINDS = {"audio": CODEBOOKS * SIZE + 1, "phone": 306, "semantic": 500, "sing_phone": 68, "sing_midi": 138}
TASKS = ("tts", "plain_tts", "InstructTTS", "VC", "SE", "Speech_RIR", "Spex", "sing", "TSS", "TTM", "Audit")


class Given:
    """A tokeniser of what is there already."""

    def __init__(self, is_discrete: bool = True) -> None:
        self.is_discrete = is_discrete

    def tokenize(self, data: torch.Tensor, *_: object) -> torch.Tensor:
        return data


def special_tokens(path: Path) -> list[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Assign) and node.targets[0].__dict__.get("id") == "token_list":
            return ast.literal_eval(node.value)
    raise SystemExit("no list of tokens")


def example(kind: str, rng: np.random.RandomState) -> torch.Tensor:
    """Data of a `kind`: audio and prompts flat, codebook by codebook within a frame."""
    frames = rng.randint(2, 6)
    if kind == "text_t5":
        return torch.from_numpy(rng.standard_normal((frames, 768)).astype(np.float32))
    if kind.startswith("audio"):
        codes = rng.randint(0, SIZE, (frames, CODEBOOKS)) + SIZE * np.arange(CODEBOOKS)
        return torch.from_numpy(codes.reshape(-1))
    return torch.from_numpy(rng.randint(0, KINDS[kind], frames))


@torch.inference_mode()
def main(checkout: str) -> None:
    sys.path.insert(0, str(Path(checkout, "UniAudio")))
    for name in STUBBED:
        sys.modules[name] = MagicMock()
    module = ModuleType("tools.tokenizer.abs_tokenizer")
    module.AbsTokenizer = type("AbsTokenizer", (), {})
    sys.modules["tools.tokenizer.abs_tokenizer"] = module
    import model as uniaudio

    uniaudio.DecoderOnlyModel = None
    import infer
    from utils.dataloader import Collate_Fn_Factory
    from utils.task_definition import task_formats

    special = special_tokens(Path(checkout, "UniAudio/utils/dataloader.py"))
    tokens = special + ["<unused_special_token>"] * (128 - len(special))
    bias = {}
    for kind, size in KINDS.items():
        bias[kind] = len(tokens)
        tokens += [f"<{kind}_{number}>" for number in range(size)]
    bias |= {"audio_prompt": bias["audio"], "text_t5": 0}
    tokenizers = {kind: Given(kind != "text_t5") for kind in bias}
    collate = Collate_Fn_Factory(tokenizers, tokens, bias, CODEBOOKS)
    rng, entries, sequences, arrays = np.random.RandomState(SEED), [], {}, {}
    for task in TASKS:
        layout = task_formats[task]
        entry = {"task": task}
        for key, kind in zip(layout["keys"], layout["type"], strict=True):
            data = example(kind, rng)
            if kind == "text_t5":  # which the loader repeats, and the model takes every third of
                arrays[f"t5_{task}"] = data.numpy()
            entry[key] = data
        entries.append((task, entry))
    for task, entry in entries:
        ids, mask, _, _, _, _ = collate([[(task, entry)]])
        types = task_formats[task]["type"]
        given = [[] if kind == "text_t5" else entry[key].tolist() for key, kind in zip(
            task_formats[task]["keys"], types, strict=True,
        )]  # fmt: skip
        sequences[task] = {
            "types": types, "given": given, "ids": ids[0].view(-1, CODEBOOKS)[:, :].tolist(),
            "answer": mask[0].view(-1, CODEBOOKS)[:, 0].int().tolist(),
        }  # fmt: skip

    shapes = {}
    chosen = [entry for entry in entries if entry[0] in ("tts", "SE", "TSS")]
    ids, mask, _, vectors, _, _ = collate([chosen])
    for name, prefix in (("causal", False), ("prefix", True)):
        lm = uniaudio.MegaByteModel(
            len(tokens), **SHAPE, prefix_lm=prefix, na_repeat=CODEBOOKS,
            local_sos=tokens.index("<mega_local>"), global_sos=tokens.index("<mega_global>"),
        ).eval()  # fmt: skip
        shapes = {key: list(tensor.shape) for key, tensor in lm.state_dict().items()}
        state = content(shapes, SEED, 1.0)
        lm.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
        logits = lm(ids, mask, conti_segs=vectors)
        _, loss, _ = uniaudio.CrossEntropyAndAccuracy(logits, ids, mask, prefix_lm=prefix)
        wanted = logits.log_softmax(-1).gather(-1, ids[..., None])[..., 0]
        arrays[f"{name}_nats"], arrays[f"{name}_loss"] = wanted.numpy(), loss.numpy()
        arrays[f"{name}_logits"] = logits[:, :: 2 * CODEBOOKS, ::37].numpy()
        if prefix:
            continue
        search = infer.InferenceImp(lm, tokens, mode="greedy", target="audio", maxlen_ratio=3, minlen_ratio=0, topk=1)
        for number, task in enumerate(("tts", "SE", "TSS")):
            found = search(ids[number], mask[number], vectors[number : number + 1])
            arrays[f"greedy_{task}"] = found[0]["tokens"].view(-1, CODEBOOKS).numpy()
            print(task, arrays[f"greedy_{task}"].shape, len(set(found[0]["tokens"].tolist())))

    from tools.tokenizer.soundstream.models.soundstream import SoundStream

    codec = SoundStream(n_filters=2, D=8, target_bandwidths=[0.5, 1, 1.5, 2], ratios=[8, 5, 4, 2]).eval()
    codec_shapes = {key: list(tensor.shape) for key, tensor in codec.state_dict().items()}
    state = content(codec_shapes, SEED, 1.7)
    codec.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    codes = codec.encode(torch.from_numpy(clip(6000))[None, None], target_bw=1.5)
    arrays["codes"] = codes[:, 0].numpy()
    arrays["audio"] = codec.decode(codes)[0, 0].numpy()
    print("codes", codes.shape, len(codes.unique()))
    np.savez_compressed(FOLDER / "uniaudio.npz", **arrays)
    parts = {"seed": SEED, "special": special, "lm": shapes, "codec": codec_shapes, "sequences": sequences}
    lines = (f'"{name}": {json.dumps(entry)}' for name, entry in parts.items())
    (FOLDER / "uniaudio.json").write_text("{" + ",\n".join(lines) + "}\n")


if __name__ == "__main__":
    main(sys.argv[1])
