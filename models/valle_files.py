"""The files of VALL-E and VALL-E X as their open implementations write them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, cast
from zipfile import is_zipfile

from codecbench import weights
from codecbench.errors import InvalidSystem
from codecbench.models.encodec import Encodec24
from codecbench.weights import WeightFile

if TYPE_CHECKING:
    from torch import Tensor, nn

    from codecbench.models.blocks.valle import ValleShape

ENCODEC = Encodec24.card.weights[0]
CODEBOOKS = 8
SYMBOLS = "unique_text_tokens.k2symbols"
VALLEX = (
    WeightFile(
        "vallex-checkpoint.pt", "https://huggingface.co/Plachta/VALL-E-X/resolve/main/vallex-checkpoint.pt",
        licence="MIT",
    ),
    WeightFile(
        "bpe_69.json",
        "https://raw.githubusercontent.com/Plachtaa/VALL-E-X/3faaf8ccadb154d63b38070caf518ce9309ea0f4/utils/g2p/bpe_69.json",
        "db43a20175019e43b58ae9de4324cbc0e7cc78040baff2617da171479bc301e0", "MIT",
    ),
)  # fmt: skip
OWN = "model.safetensors"
"""The file of a model that somebody trained for this implementation."""


def fill_own(network: nn.Module, shape: ValleShape, folder: Path) -> None:
    """Fill a `network`, whose second one is of `shape`, from `OWN` in `folder`.

    Raises:
        InvalidSystem: The file is not there or damaged, or does not fit.
    """
    from codecbench.models.blocks.valle import with_tied

    path = folder / OWN
    weights.load_state(network, with_tied(weights.read_state_dict(path), shape), path)


def encodec_file(folder: Path) -> Path:
    """EnCodec's released file, in `folder` or in the cache; InvalidSystem if it is in neither."""
    own = folder / ENCODEC.name
    return own if own.is_file() else weights.resolve(Encodec24.card.name, ENCODEC)


def checkpoint_file(name: str, folder: Path) -> Path:
    """The one checkpoint in `folder`, which a user gave for the system `name`; InvalidSystem if there is not one."""
    found = sorted(folder.glob("*.pt"))
    if len(found) != 1:
        raise InvalidSystem(f"{name}: {folder} is no folder with one checkpoint (*.pt); it has {len(found)}")
    return found[0]


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """Tensors, and the settings beside them, of a checkpoint of lifeiteng/vall-e or VALL-E-X.

    Its paths are read as plain values; whatever else could run code is refused.

    Raises:
        InvalidSystem: The file is damaged, or holds more than tensors, plain values and paths.
    """
    import torch

    kinds = {"PosixPath": PurePosixPath, "WindowsPath": PureWindowsPath}
    modules = ("pathlib", "pathlib._local")
    allowed: Any = [(kind, f"{module}.{name}") for module in modules for name, kind in kinds.items()]
    with torch.serialization.safe_globals(allowed):
        state = weights.read_state_dict(path, within=("model",))
        # Optimisers are large: where the format allows it, only what is looked at is read again.
        settings = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    return state, cast("Mapping[str, Any]", {name: value for name, value in settings.items() if name != "model"})


def shape_of(state: Mapping[str, Tensor], settings: Mapping[str, Any], path: Path) -> ValleShape:
    """The shape of the networks in a checkpoint.

    Raises:
        InvalidSystem: It is another network, or `settings` lacks what tensors do not tell.
    """
    from codecbench.models.blocks.valle import ValleShape

    odd = {"model_name": ("valle", "vall-e"), "add_prenet": ("false",), "scale_factor": ("1.0", "1")}
    for name, known in odd.items():
        if str(settings.get(name, known[0])).lower() not in known:
            raise InvalidSystem(f"{path} has {name} {settings[name]}; only {' or '.join(known)} can be loaded")
    try:
        text, dimension = state["ar_text_embedding.word_embeddings.weight"].shape
        size = len(state["ar_predict_layer.weight"]) - 1
        starts = len(state["ar_audio_embedding.word_embeddings.weight"]) - size - 1
        languages = state.get("ar_language_embedding.word_embeddings.weight", ())
        heads, mode = int(settings["nhead"]), settings["prefix_mode"]
    except KeyError as error:
        raise InvalidSystem(f"{path} is no checkpoint of VALL-E: it lacks {error}") from error
    layers = {name.split(".")[2] for name in state if name.startswith("ar_decoder.layers.")}
    codebooks = sum(name.startswith("nar_audio_embeddings.") for name in state)
    if codebooks != CODEBOOKS:
        raise InvalidSystem(f"{path} has {codebooks} codebooks, not {CODEBOOKS}")
    return ValleShape(
        dimension, len(layers), heads, text, codebooks, size, starts=bool(starts), languages=len(languages),
        prefix_mode=mode, norm_first=bool(settings.get("norm_first", True)), tied=_tied(state, codebooks),
    )  # fmt: skip


def _tied(state: Mapping[str, Tensor], codebooks: int) -> bool:
    import torch

    pairs = (
        (state.get(f"nar_predict_layers.{k}.weight"), state.get(f"nar_audio_embeddings.{k + 2}.word_embeddings.weight"))
        for k in range(codebooks - 2)
    )
    return all(head is not None and table is not None and torch.equal(head, table) for head, table in pairs)
