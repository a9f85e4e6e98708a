# /// script
# requires-python = ">=3.11"
# dependencies = ["encodec==0.1.1", "numpy", "torch", "torchaudio"]
# ///
# Its libraries are not installed beside the benchmark, so:
# mypy: ignore-errors
"""Write the golden values of EnCodec's language model and files from the package that its authors publish.

Run with ``uv run tests/golden/regenerate_encodec_lm.py``. Nothing here imports the benchmark. ``encodec_lm.json`` has
the names and shapes of the tensors of both language models, as the release makes them; ``encodec_lm.npz``:

- ``RATE/codes`` ``[K, F]``, and ``RATE/probabilities`` ``[P, K, 8]``: of the first entries, at the frames
  ``RATE/frames``, with the tensors filled from a seed;
- ``coder/cdf``, edges of the integer distributions of `distribution`, and ``coder/bytes``, the `symbols` coded;
- ``RATE/ecdc``, a file without a language model of the codes' first frames, ``RATE/scales`` the scales in it.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from checkpoints import content, distribution, symbols

sys.modules["torchaudio"] = ModuleType("torchaudio")  # only the release's resampling needs it

from encodec import EncodecModel  # noqa: E402
from encodec.compress import compress  # noqa: E402
from encodec.model import LMModel  # noqa: E402
from encodec.quantization.ac import ArithmeticCoder, build_stable_quantized_cdf  # noqa: E402

FOLDER = Path(__file__).parent
SEED, GAIN, FRAMES = 1, 1.0, 300
MODELS = {"24khz": (EncodecModel.encodec_model_24khz, 24_000), "48khz": (EncodecModel.encodec_model_48khz, 60_000)}


def language_model(model: EncodecModel) -> tuple[LMModel, dict[str, list[int]]]:
    network = LMModel(model.quantizer.n_q, 1024, num_layers=5, dim=200, past_context=int(3.5 * model.frame_rate)).eval()
    shapes = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    state = {name: torch.from_numpy(values) for name, values in content(shapes, SEED, GAIN).items()}
    network.load_state_dict(state)
    return network, shapes


def probabilities(network: LMModel, codes: np.ndarray, frames: list[int]) -> np.ndarray:
    """What the release's steps say of each of `frames`, of the first eight entries ``[P, K, 8]``."""
    found, state, offset = [], None, 0
    inputs = torch.zeros(1, len(codes), 1, dtype=torch.long)
    for f in range(codes.shape[1]):
        given, state, offset = network(inputs, state, offset)
        inputs = 1 + torch.from_numpy(codes[:, f].astype(np.int64)).view(1, -1, 1)
        found += [given[0, :8, :, 0].T.numpy()] if f in frames else []
    return np.stack(found)


def file(name: str, model: EncodecModel, codes: np.ndarray, length: int) -> tuple[bytes, np.ndarray]:
    """The release's file of a clip of `length` samples, encoded as `codes`."""
    stride, size = model.segment_stride or length, model.segment_length or length
    counts = [-(-min(size, length - start) // 320) for start in range(0, length, stride)]
    parts = torch.from_numpy(codes[:, : sum(counts)].astype(np.int64))[None].split(counts, dim=-1)
    scales = [torch.tensor([[0.1 + 0.3 * k]]) for k in range(len(counts))] if model.normalize else [None] * len(counts)
    model.name = name
    model.encode = lambda _: list(zip(parts, scales, strict=True))
    data = compress(model, torch.zeros(model.channels, length), use_lm=False)
    return data, np.array([scale.item() for scale in scales if scale is not None], np.float32)


@torch.inference_mode()
def main() -> None:
    models, arrays = {}, {}
    for rate, (make, length) in MODELS.items():
        model = make(pretrained=False)
        network, models[rate] = language_model(model)
        codebooks = model.quantizer.n_q
        codes = np.random.RandomState(codebooks).randint(1024, size=(codebooks, FRAMES)).astype(np.int16)
        context = int(3.5 * model.frame_rate)
        frames = [0, 1, 2, context - 1, context, context + 1, FRAMES - 1]
        frames = [frame for frame in frames if frame < FRAMES]
        arrays[f"{rate}/codes"], arrays[f"{rate}/frames"] = codes, np.array(frames)
        arrays[f"{rate}/probabilities"] = probabilities(network, codes, frames)
        data, arrays[f"{rate}/scales"] = file(f"encodec_{rate}", model, codes[:5], length)
        arrays[f"{rate}/ecdc"] = np.frombuffer(data, np.uint8)
    stream = io.BytesIO()
    coder = ArithmeticCoder(stream)
    edges = []
    for k, symbol in enumerate(symbols()):
        cdf = build_stable_quantized_cdf(torch.from_numpy(distribution(k)), coder.total_range_bits)
        coder.push(symbol, cdf)
        edges.append(cdf.numpy()[::100])
    coder.flush()
    arrays["coder/cdf"], arrays["coder/bytes"] = np.stack(edges), np.frombuffer(stream.getvalue(), np.uint8)
    np.savez_compressed(FOLDER / "encodec_lm.npz", **arrays)
    lines = (
        f'"{rate}": {json.dumps({"seed": SEED, "gain": GAIN, "shapes": shapes})}' for rate, shapes in models.items()
    )
    (FOLDER / "encodec_lm.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
