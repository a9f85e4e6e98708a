"""UniAudio's vocabulary and tasks, and the files of its release."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from codecbench import weights
from codecbench.errors import InvalidSystem
from codecbench.models.speech_resynthesis import HUBERT_500
from codecbench.models.unit_files import HUBERT
from codecbench.weights import WeightFile

if TYPE_CHECKING:
    from torch import Tensor

    from codecbench.models.blocks.multiscale import MultiScaleLM
    from codecbench.models.blocks.seanet import SEANetCodec
    from codecbench.models.blocks.vocabulary import Vocabulary

HUB = "https://huggingface.co"
SOURCE = "https://raw.githubusercontent.com/yangdongchao/UniAudio/c1146a8cecf84f1c2e877170d84998393b7e1e78"
RELEASED = (
    WeightFile("uniaudio_v1.zip", f"{HUB}/Dongchao/UniAudio/resolve/main/uniaudio_v1.zip", licence="not stated"),
    WeightFile(
        "universal_model.zip", f"{HUB}/Dongchao/UniAudio/resolve/main/universal_model.zip", licence="not stated"
    ),
    WeightFile("lang_nosp.zip", f"{HUB}/Dongchao/UniAudio/resolve/main/lang_nosp.zip", licence="not stated"),
    WeightFile("uniaudio.phone_dict", f"{SOURCE}/UniAudio/tools/tokenizer/phone/phone_dict", licence="MIT"),
    WeightFile("t5-v1_1-base.bin", f"{HUB}/google/t5-v1_1-base/resolve/main/pytorch_model.bin", licence="Apache-2.0"),
    WeightFile("t5-base.tokenizer.json", f"{HUB}/google-t5/t5-base/resolve/main/tokenizer.json", licence="Apache-2.0"),
    HUBERT,
    HUBERT_500[0],
)
"""Language model, codec, lexicon, phones, T5, its tokeniser, which versions 1.0 and 1.1 share, and semantic units."""

SPECIAL = (  # noqa: SIM905 - a list is three times as long
    "pad continuous_token start end phone_start phone_end text_start text_end audio_start audio_end image_start "
    "image_end audio_prompt_start audio_prompt_end text_prompt_start text_prompt_end semantic_start semantic_end "
    "tts_task plain_tts_task lm_task phone_to_semantic_task semantic_to_acoustic_task mega_global mega_local "
    "text_emb_start text_emb_end asr_task VC_task AT_task class_event_start class_event_end Spex_task TTA_task "
    "rvq_start rvq_end TSS_task text_t5_start text_t5_end SV_task sv_bool_start sv_bool_end SE_task sing_task "
    "sing_phone_start sing_phone_end sing_midi_start sing_midi_end TTM_task Audit_task InstructTTS_task "
    "Speech_RIR_task speech_edit_task"
).split()
"""The special ids of the release, in the order of their ids."""
SPECIAL_IDS = 128
"""Ids that the release keeps for them."""
PHONES, SEMANTIC, SING_PHONES, SING_NOTES = 306, 500, 68, 138

FORMATS = {
    "tts": ("phone", "audio_prompt"),
    "plain_tts": ("phone",),
    "InstructTTS": ("phone", "text_t5"),
    "VC": ("semantic", "audio_prompt"),
    "SE": ("audio",),
    "Speech_RIR": ("audio",),
    "Spex": ("audio", "audio_prompt"),
    "sing": ("sing_phone", "sing_midi", "audio_prompt"),
    "TSS": ("text_t5",),
    "TTM": ("text_t5",),
    "Audit": ("text_t5", "audio"),
}
"""By the release's name of a task: what comes before the audio that answers, in order."""


@dataclass(frozen=True)
class Ids:
    """The ids of a model.

    Attributes:
        special: By name, such as ``tts_task``.
        vocabulary: All of them: ``special``, ``audio`` with its codebooks, ``mask`` (the id of a hidden code), and the
            others, such as ``phone`` and ``semantic``, as far as the model has them.
    """

    special: Mapping[str, int]
    vocabulary: Vocabulary

    def __getitem__(self, name: str) -> int:
        return self.special[name]

    def of(self, kind: str, numbers: Tensor) -> Tensor:
        """Ids ``[F]`` of the `numbers` ``[F]`` of a `kind` that has one a frame."""
        return self.vocabulary.ids(kind, numbers[None])[0]


def ids_of(tokens: Sequence[str], codebooks: int, codebook_size: int) -> Ids:
    """The ids of a model whose configuration lists `tokens`, such as ``<tts_task>`` or ``<audio_0>``.

    Raises:
        ValueError: It lacks special ids, or has other codebooks.
    """
    from codecbench.models.blocks.vocabulary import Range, Vocabulary

    special = {token.strip("<>"): number for number, token in reversed(list(enumerate(tokens[:SPECIAL_IDS])))}
    if missing := {"start", "end", "audio_start", "audio_end", "mega_global", "mega_local"} - set(special):
        raise ValueError(f"the list of tokens lacks {', '.join(sorted(missing))}")
    sizes: dict[str, int] = {}
    for token in tokens[SPECIAL_IDS:]:
        kind = token.strip("<>").rpartition("_")[0]
        sizes[kind] = sizes.get(kind, 0) + 1
    if sizes.get("audio") != codebooks * codebook_size + 1:
        raise ValueError(f"{sizes.get('audio', 0)} ids of audio, not {codebooks} x {codebook_size} and one")
    ranges = [Range("special", SPECIAL_IDS)]
    for kind, size in sizes.items():
        audio = kind == "audio"
        ranges += [Range("audio", codebook_size, codebooks), Range("mask", 1)] if audio else [Range(kind, size)]
    return Ids(special, Vocabulary(tuple(ranges)))


def tokens_of(codebooks: int = 3, codebook_size: int = 1024) -> list[str]:
    """The list of tokens of a model with all the tokenisers of the recipe: 4213 for the codec of the release."""
    sizes = {
        "audio": codebooks * codebook_size + 1, "phone": PHONES, "semantic": SEMANTIC, "sing_phone": SING_PHONES,
        "sing_midi": SING_NOTES,
    }  # fmt: skip
    special = [f"<{name}>" for name in SPECIAL] + ["<unused_special_token>"] * (SPECIAL_IDS - len(SPECIAL))
    return special + [f"<{kind}_{number}>" for kind, size in sizes.items() for number in range(size)]


def read_config(path: Path) -> dict[str, Any]:
    """The configuration of a language model, in a folder or archive of the release.

    Raises:
        InvalidSystem: There is none, or it is none of a multi-scale model.
    """
    import yaml

    found = one_file(path, "config.yaml")
    try:
        config = yaml.safe_load(found.read_text(encoding="utf-8"))
        names = ("n_embd", "n_head", "n_layer", "block_size", "non_acoustic_repeat", "token_list")
        if missing := [name for name in names if name not in config]:
            raise ValueError(f"it lacks {', '.join(missing)}")
        if not all(isinstance(token, str) for token in config["token_list"]):
            raise ValueError("its tokens are no list of names")
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise InvalidSystem(f"{found} is no configuration of UniAudio: {' '.join(str(error).split())}") from error
    return cast("dict[str, Any]", config)


def fill_lm(network: MultiScaleLM, path: Path) -> None:
    """Fill `network` from the checkpoint in a folder or archive of the release; InvalidSystem if it does not fit."""
    from codecbench.models.blocks.multiscale import from_release

    state = weights.read_state_dict(one_file(path, "*.checkpoint"), within=("model",))
    weights.load_state(network, from_release(state), path)


def fill_codec(codec: SEANetCodec, path: Path) -> None:
    """Fill `codec` from the folder or archive ``universal_model``; InvalidSystem if it does not fit."""
    from codecbench.models.blocks.seanet import RELEASED_NAMES, TRAINING_STATE

    state = weights.read_state_dict(one_file(path, "model.pth"), within=("codec_model",))
    weights.load_state(codec, weights.rename_keys(state, RELEASED_NAMES, drop=TRAINING_STATE), path)


def codec_dimension(path: Path) -> int:
    """Channels of the codec's frames, from its configuration beside its weights."""
    import yaml

    found = one_file(path, "config.yaml")
    try:
        return int(yaml.safe_load(found.read_text(encoding="utf-8"))["generator"]["config"]["D"])
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        raise InvalidSystem(f"{found} is no configuration of UniAudio's codec: {error}") from error


def one_file(path: Path, pattern: str) -> Path | zipfile.Path:
    """The one file of a folder or archive whose name matches `pattern`; InvalidSystem if there is not one."""
    try:
        if path.is_dir():
            found: list[Path | zipfile.Path] = list(path.rglob(pattern))
        else:
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if fnmatch(name.rpartition("/")[2], pattern)]
            found = [zipfile.Path(path, name) for name in names if not name.startswith("__MACOSX")]
    except (OSError, zipfile.BadZipFile) as error:
        raise InvalidSystem(f"{path} is neither a folder nor a zip archive: {error}") from error
    if len(found) != 1:
        raise InvalidSystem(f"{path} holds {len(found)} files {pattern}, not one")
    return found[0]
