"""Speaker similarity: whether the output still sounds like the same person.

The cosine of two embeddings, one of the original and one of the output, from a network trained to tell speakers apart:

- ``spk_sim``: GE2E (Wan et al., ICASSP 2018), with the weights of the package Resemblyzer. From 0 to 1. Two different
  utterances have about 0.88 if one speaker said both and 0.55 if two did (45 utterances of LibriSpeech test-other)
- ``spk_sim_ecapa``: ECAPA-TDNN (Desplanques et al., Interspeech 2020), SpeechBrain's spkrec-ecapa-voxceleb. From -1 to
  1. SpeechBrain's threshold for "the same speaker" is 0.25

How to read it: 1 is identical, higher is better. Values of different networks do not compare, and no scale is even:
what matters is where a codec lies between a pair of different speakers and a pair of utterances of one.

Both hear the whole clip at 16 kHz. Resemblyzer's own trimming of silence is left out: it would cut the original and the
output differently. Resemblyzer raises quiet clips to -30 dBFS and leaves loud ones; here every clip is brought to
-30 dBFS, so that a codec's gain is no change of speaker.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from codecbench.audio import Audio, resampler_signature
from codecbench.errors import InfrastructureError, UsageError
from codecbench.metrics.base import SPEECH, Metric, Output, Reference, Signal, require_sound
from codecbench.metrics.melscale import mel_power
from codecbench.paths import sha256_of
from codecbench.tolerant_torchaudio import import_speechbrain
from codecbench.weights import WeightFile, load_state, local_path, read_state_dict, verify

if TYPE_CHECKING:
    from torch import Tensor

RATE = 16_000
LEVEL = 10 ** (-30 / 20)

ECAPA_WEIGHTS = WeightFile(
    "spkrec-ecapa-voxceleb.ckpt",
    "https://huggingface.co/speechbrain/spkrec-ecapa-voxceleb/resolve/"
    "0f99f2d0ebe89ac095bcc5903c4dd8f72b367286/embedding_model.ckpt",
    "0575cb64845e6b9a10db9bcb74d5ac32b326b8dc90352671d345e2ee3d0126a2",
    "Apache-2.0",
)


@dataclass(frozen=True)
class Encoder:
    """A speaker encoder: its name, its software, how its input is made, its weights, and how they become a function.

    `weights` raises if they are not there. `load` maps them to a function from samples ``[T]`` at 16 kHz to an
    embedding ``[D]``.
    """

    name: str
    package: str
    features: str
    weights: Callable[[], Path]
    load: Callable[[Path], Callable[[Audio], Tensor]]


def similarity(reference: Reference, output: Output, encoder: Encoder) -> float:
    """Cosine of the embeddings of both signals, from -1 (GE2E: 0) to 1.

    Raises:
        Undefined: ``ref_silent``.
        Failed: ``output_silent``.
    """
    require_sound(reference, output)
    one, other = (embedding(signal, encoder) for signal in (reference, output))
    cosine = float(np.dot(one, other) / np.sqrt(np.dot(one, one) * np.dot(other, other)))
    return round(cosine, 12)  # an identical output is 1, not 1 + 2e-16


def embedding(signal: Signal, encoder: Encoder) -> NDArray[np.float64]:
    """The embedding ``[D]`` of `signal`, kept between runs."""
    key = {"what": "speaker", **_parts(encoder), "rs": resampler_signature(), "v": "1"}

    def compute() -> str:
        import torch

        with torch.inference_mode():
            values = _loaded(encoder)(signal.at(RATE)).numpy()
        return base64.b64encode(values.astype("<f4").tobytes()).decode("ascii")

    return np.frombuffer(base64.b64decode(signal.remember(key, compute)), "<f4").astype(np.float64)


@cache
def _parts(encoder: Encoder) -> Mapping[str, str]:
    release = version(encoder.package).partition("+")[0]  # a build for CPU or CUDA is one release
    return {
        "impl": f"{encoder.package}-{release}",
        "model": f"{encoder.name}-{sha256_of(encoder.weights())[:8]}",
        "feat": encoder.features,
        "rate": "16k",
    }


@cache
def _loaded(encoder: Encoder) -> Callable[[Audio], Tensor]:
    return encoder.load(encoder.weights())


def _ge2e_weights() -> Path:
    package = find_spec("resemblyzer")  # found and never imported: all that is wanted is the file in it
    folders = package.submodule_search_locations if package else None
    path = Path(folders[0], "pretrained.pt") if folders else None
    if path is None or not path.is_file():
        raise UsageError("spk_sim needs the weights in a package: pip install --no-deps Resemblyzer==0.1.4")
    return path


def _load_ge2e(path: Path) -> Callable[[Audio], Tensor]:
    """Three LSTM layers over 40 mel bands; the last state, projected, rectified, and scaled to length 1."""
    import torch

    lstm, linear = torch.nn.LSTM(40, 256, 3, batch_first=True), torch.nn.Linear(256, 256)
    state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
    kept = {name: state[name] for name in state if not name.startswith("similarity_")}  # those are of the training
    load_state(torch.nn.ModuleDict({"lstm": lstm, "linear": linear}), kept, path)
    unit = partial(torch.nn.functional.normalize, dim=-1)

    def embed(samples: Audio) -> Tensor:
        _, (hidden, _) = lstm(torch.from_numpy(ge2e_windows(samples)))
        return unit(unit(torch.relu(linear(hidden[-1]))).mean(0))

    return embed


def ge2e_windows(samples: Audio) -> Audio:
    """Mel power ``[W, 160, 40]`` of windows of 1.6 s, 0.77 s apart, of `samples` ``[T]`` at 16 kHz, set to -30 dBFS.

    The last window is filled up with zeros, and left out if less than 75 % of it would be samples, unless it is the
    only one.
    """
    hop, frames, step = 160, 160, 77
    starts = range(0, max(1, ceil((len(samples) + 1) / hop) - frames + step + 1), step)
    if len(starts) > 1 and len(samples) / hop - starts[-1] < 0.75 * frames:
        starts = starts[:-1]
    level = np.float32(LEVEL / np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    missing = (starts[-1] + frames) * hop - len(samples)
    mel = mel_power(np.pad(samples * level, (0, max(0, missing))), RATE, 400, hop, 40)
    return np.stack([mel[start : start + frames] for start in starts])


def _ecapa_weights() -> Path:
    path = local_path(ECAPA_WEIGHTS)
    if path is None:
        raise InfrastructureError("spk_sim_ecapa: its weights are not here: codecbench weights get spk_sim_ecapa")
    return path


def _load_ecapa(path: Path) -> Callable[[Audio], Tensor]:
    """SpeechBrain's verification recipe: 80 log-mel bands less their mean over the clip, ECAPA-TDNN, 192 values."""
    import torch

    import_speechbrain()
    from speechbrain.lobes.features import Fbank
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN

    network = ECAPA_TDNN(80, lin_neurons=192, channels=[1024, 1024, 1024, 1024, 3072])
    load_state(network, read_state_dict(path), path)
    network.eval()
    features = Fbank(n_mels=80)

    def embed(samples: Audio) -> Tensor:
        bands = features(torch.from_numpy(samples)[None])
        return network(bands - bands.mean(1, keepdim=True))[0, 0]  # type: ignore[no-any-return]

    return embed


GE2E = Encoder("resemblyzer", "torch", "mel40-30dBFS", _ge2e_weights, _load_ge2e)
ECAPA = Encoder("spkrec-ecapa-voxceleb", "speechbrain", "fbank80-cmn", _ecapa_weights, _load_ecapa)


def _metric(name: str, title: str, encoder: Encoder, floor: float, weights: tuple[WeightFile, ...] = ()) -> Metric:
    return Metric(
        name, title, "", "higher", partial(similarity, encoder=encoder), partial(_parts, encoder), floor=floor,
        perfect=1.0, domains=SPEECH, min_seconds=1.0, weights=weights, prepare=partial(_prepare, encoder, weights),
        compares="sounds",
    )  # fmt: skip


def _prepare(encoder: Encoder, published: tuple[WeightFile, ...]) -> None:
    encoder.weights()
    for file in published:
        verify(file)


METRICS = (
    _metric("spk_sim", "Speaker similarity (GE2E)", GE2E, floor=0.0),
    _metric("spk_sim_ecapa", "Speaker similarity (ECAPA-TDNN)", ECAPA, floor=-1.0, weights=(ECAPA_WEIGHTS,)),
)
