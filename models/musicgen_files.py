"""The files of MusicGen and AudioGen: as audiocraft publishes them, and as ``transformers`` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codecbench import weights
from codecbench.errors import InvalidSystem
from codecbench.weights import WeightFile

if TYPE_CHECKING:
    from torch import Tensor

    from codecbench.models.blocks.codebook_lm import CodebookLM
    from codecbench.models.blocks.seanet import SEANetCodec
    from codecbench.models.blocks.t5 import T5Encoder

HUB = "https://huggingface.co"
TOKENIZER = "tokenizer.json"
LICENCE = "CC-BY-NC-4.0"


@dataclass(frozen=True)
class Networks:
    """The three networks of a model."""

    lm: CodebookLM
    codec: SEANetCodec
    text: T5Encoder


def released(name: str, text: str, codec: WeightFile | None = None) -> tuple[WeightFile, ...]:
    """The files of the release `name`: language model, codec (None: its own), T5 called `text`, and T5's tokeniser."""
    own, t5 = f"{HUB}/facebook/{name}/resolve/main", f"{HUB}/google-t5/{text}/resolve/main"
    return (
        WeightFile(f"{name}.state_dict.bin", f"{own}/state_dict.bin", licence=LICENCE),
        codec or WeightFile(
            f"{name}.compression_state_dict.bin", f"{own}/compression_state_dict.bin",
            licence=LICENCE,
        ),
        WeightFile(f"{text}.safetensors", f"{t5}/model.safetensors", licence="Apache-2.0"),
        WeightFile(f"{text}.{TOKENIZER}", f"{t5}/{TOKENIZER}", licence="Apache-2.0"),
    )  # fmt: skip


ENCODEC_32 = WeightFile(
    "encodec_32khz.safetensors", f"{HUB}/facebook/encodec_32khz/resolve/main/model.safetensors", licence=LICENCE
)


def read_released(networks: Networks, paths: Sequence[Path]) -> Any:
    """Fill `networks` from the files of a release, in the order of `released`; returns the tokeniser.

    Raises:
        InvalidSystem: A file is damaged, or is another model's.
    """
    from codecbench.models.blocks.codebook_lm import from_audiocraft

    lm, codec, text, tokenizer = paths
    weights.load_state(networks.lm, from_audiocraft(weights.read_state_dict(lm, within=("best_state",))), lm)
    within = () if codec.suffix == ".safetensors" else ("best_state",)
    _fill_codec(networks, weights.read_state_dict(codec, within=within), codec)
    _fill_text(networks, weights.read_state_dict(text), text)
    return read_tokenizer(tokenizer)


def read_transformers(networks: Networks, folder: Path) -> Any:
    """Fill `networks` from a `folder` that ``transformers`` wrote, in one file or several; returns the tokeniser.

    Raises:
        InvalidSystem: A file is damaged, or is another model's.
    """
    from codecbench.models.blocks.codebook_lm import from_transformers

    state: dict[str, Tensor] = {}
    for path in sorted(folder.glob("model*.safetensors")):
        state.update(weights.read_state_dict(path))
    parts: dict[str, dict[str, Tensor]] = {"text_encoder.": {}, "audio_encoder.": {}, "": {}}
    for name, tensor in state.items():
        prefix = next(prefix for prefix in parts if name.startswith(prefix))
        parts[prefix][name.removeprefix(prefix)] = tensor
    weights.load_state(networks.lm, from_transformers(parts[""]), folder)
    _fill_codec(networks, parts["audio_encoder."], folder)
    _fill_text(networks, parts["text_encoder."], folder)
    return read_tokenizer(folder / TOKENIZER)


def read_tokenizer(path: Path) -> Any:
    """The tokeniser in the file at `path`.

    Raises:
        InvalidSystem: It is not there or damaged.
    """
    from tokenizers import Tokenizer

    if not path.is_file():
        raise InvalidSystem(f"no such file: {path}; the text encoder's tokeniser belongs beside the weights")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise InvalidSystem(f"{path} cannot be read as a tokeniser: {str(error).splitlines()[0]}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _fill_codec(networks: Networks, state: dict[str, Tensor], path: Path) -> None:
    from codecbench.models.blocks.seanet import RELEASED_NAMES, TRAINING_STATE

    weights.load_state(networks.codec, weights.rename_keys(state, RELEASED_NAMES, drop=TRAINING_STATE), path)


def _fill_text(networks: Networks, state: dict[str, Tensor], path: Path) -> None:
    from codecbench.models.blocks.t5 import own_names

    text = networks.text
    weights.load_state(text, own_names(state, text.backbone.shape), path)
