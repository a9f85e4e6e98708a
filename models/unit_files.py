"""The files of models of units: self-supervised features, k-means codebooks and vocoders, as they are published.

A file of features (``facebook/hubert-base-ls960`` and its like) may also be a folder with a model of ``transformers``.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from math import log2
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from codecbench import weights
from codecbench.errors import InvalidSystem
from codecbench.models.base import OperatingPoint, Stream
from codecbench.models.inert import read_centroids, read_fairseq
from codecbench.weights import WeightFile

if TYPE_CHECKING:
    from torch import Tensor

    from codecbench.models.blocks.unit_vocoder import UnitVocoder
    from codecbench.models.blocks.units import Features, Tokeniser

HUB, FAIR = "https://huggingface.co", "https://dl.fbaipublicfiles.com"
S2ST = f"{FAIR}/fairseq/speech_to_speech/vocoder/code_hifigan"
TEXTLESS = f"{FAIR}/textless_nlp"
MIT = "MIT"

HUBERT = WeightFile(
    "hubert-base-ls960.bin", f"{HUB}/facebook/hubert-base-ls960/resolve/main/pytorch_model.bin", licence="Apache-2.0"
)
HUBERT_100 = WeightFile(
    "hubert-base-ls960-km100.bin", f"{TEXTLESS}/gslm/hubert/km100/km.bin",
    "f14a3104615485381fc489701d6761c9abbdbb0d43607cf55518a1e2891023fe", MIT,
)  # fmt: skip
HUBERT_100_VOCODER = (
    WeightFile("hubert-base-100-lj.pt", f"{S2ST}/hubert_base_100_lj/g_00500000", licence=MIT),
    WeightFile("hubert-base-100-lj.json", f"{S2ST}/hubert_base_100_lj/config.json", licence=MIT),
)
MHUBERT_25 = WeightFile(
    "mhubert-base-25hz.safetensors",
    f"{HUB}/slprl/mhubert-base-25hz/resolve/a319086e1d343190047d02b7f81133fb310c1b90/model.safetensors", licence=MIT,
)  # fmt: skip
MHUBERT_25_500 = WeightFile(
    "mhubert-base-25hz-km500.bin",
    f"{TEXTLESS}/twist/speech_tokenizer/mhubert_base_25hz_cp_mls_cv_sp_fisher_L11_km500.bin",
    "03cc04a9c24fec4285e73e709c485756d8f116aa8e724eac555de6a7cf8d28ad", MIT,
)  # fmt: skip
MHUBERT_25_VOCODER = (
    WeightFile(
        "mhubert-base-25hz-lj.pt", f"{TEXTLESS}/twist/speech_tokenizer/hifigan_lj_mhubert_base_25hz.pt",
        "d88224e95c501e2cd59a6e4014753169cfe060fb7ade3cc0da03c809fef73b79", MIT,
    ),
    WeightFile(
        "mhubert-base-25hz-lj.json", f"{TEXTLESS}/twist/speech_tokenizer/hifigan_lj_mhubert_base_25hz_config.json",
        "116dc39be4970cd393e562acd0a0ec70a86aaba7e9ca469b8b836cb3fe46afc7", MIT,
    ),
)  # fmt: skip


def point(*streams: Stream) -> OperatingPoint:
    """The operating point of one token a frame of each of `streams`."""
    kbps = sum((stream.frame_rate or 0) * log2(stream.codebook_size) for stream in streams) / 1000
    return OperatingPoint(f"{kbps:.3g}kbps", kbps, len(streams))


def random_parts(
    features: Mapping[str, Any], entries: int, vocoder: Mapping[str, Any], seed: int
) -> tuple[Tokeniser, UnitVocoder]:
    """A tokeniser and a vocoder of `entries` units with random weights from `seed`.

    Torch's own random state is left as it was.

    Args:
        features: Arguments of `blocks.units.Features`.
        entries: Of the codebook.
        vocoder: Arguments of `blocks.unit_vocoder.UnitVocoderShape`.
        seed: Of the weights.
    """
    import torch

    from codecbench.models.blocks import unit_vocoder, units

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        tokeniser = units.Tokeniser(units.Features(**features), entries).eval()
        spoken = unit_vocoder.UnitVocoder(unit_vocoder.UnitVocoderShape(entries, **vocoder))
    units.fill(tokeniser, torch.Generator().manual_seed(seed))
    unit_vocoder.enliven(spoken, seed)
    return tokeniser, spoken


def read_tokeniser(net: Features, path: Path, codebook: Path, entries: int) -> Tokeniser:
    """The tokeniser of the features at `path` and the k-means codebook at `codebook`.

    Args:
        net: What the features are, where `path` is a file; a folder says so itself, but for the layer.
        path: A file of ``transformers``, or a folder with one; or, as ``.pt``, a checkpoint of fairseq.
        codebook: As of `inert.read_centroids`.
        entries: How many the codebook must have.

    Raises:
        InvalidSystem: A file is damaged, or is another model's.
    """
    import torch

    from codecbench.models.blocks import units

    if path.is_dir():
        config, heard = read_json(path / "config.json"), path / "preprocessor_config.json"
        normalise = heard.is_file() and bool(read_json(heard).get("do_normalize"))
        net = units.from_config(config, net.layer, normalise=normalise)
    centroids = torch.from_numpy(read_centroids(codebook))
    if centroids.shape != (entries, net.dimension):
        raise InvalidSystem(f"{codebook} has centroids {list(centroids.shape)}, not {[entries, net.dimension]}")
    tokeniser = units.Tokeniser(net, entries)
    if path.suffix == ".pt":
        state = units.from_fairseq(read_fairseq(path)[0], net)
    else:
        state = units.own_names(read_transformers(path), net)
    weights.load_state(tokeniser, state | {"centroids": centroids}, path)
    return tokeniser


def read_transformers(path: Path) -> dict[str, Tensor]:
    """All tensors of a model of ``transformers``: a file, or a folder with one or several.

    Raises:
        InvalidSystem: There is none, or it is damaged.
    """
    parts = [path]
    if path.is_dir():
        parts = sorted(path.glob("*.safetensors")) or sorted(path.glob("pytorch_model*.bin"))
    if not parts:
        raise InvalidSystem(f"{path} holds no model.safetensors and no pytorch_model.bin")
    state: dict[str, Tensor] = {}
    for part in parts:
        state.update(weights.read_state_dict(part))
    return state


def read_vocoder(path: Path, config: Path) -> UnitVocoder:
    """The unit vocoder of a released checkpoint and its ``config.json``.

    Raises:
        InvalidSystem: A file is damaged, or of a kind that is not known.
    """
    from codecbench.models.blocks import unit_vocoder

    try:
        net = unit_vocoder.from_config(read_json(config))
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidSystem(f"{config} describes no vocoder that is known here: {error}") from error
    vocoder = unit_vocoder.UnitVocoder(net)
    state = weights.read_state_dict(path, within=("generator",))
    weights.load_state(vocoder, unit_vocoder.own_names(state, net), path)
    return vocoder


def read_json(path: Path | zipfile.Path) -> Mapping[str, Any]:
    """The object in a JSON file.

    Raises:
        InvalidSystem: It is not there, or no object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidSystem(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidSystem(f"{path} holds no JSON object")
    return cast("Mapping[str, Any]", found)
