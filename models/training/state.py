"""What a training leaves behind: checkpoints to go on from, and weights with their card."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from codecbench import weights
from codecbench.errors import InvalidSystem, UsageError
from codecbench.models.blocks.conv import fold_weight_norm

CHECKPOINT = "checkpoint.pt"


def save(folder: Path, state: Mapping[str, Any]) -> None:
    """Write `state` as the checkpoint in `folder`; a crash leaves the one before, or this one."""
    part = folder / f"{CHECKPOINT}.part"
    torch.save(dict(state), part)
    part.replace(folder / CHECKPOINT)


def load(folder: Path, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """The checkpoint in `folder`, on the CPU; None if there is none.

    Args:
        folder: Where `save` wrote it.
        asked: What the training that goes on from it is: the checkpoint holds the same under these names.

    Raises:
        UsageError: It is damaged, or of another training.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes its reader raise anything
        reason = str(error).split("\n")[0]
        raise UsageError(f"{path} cannot be read ({reason}): delete it to start anew") from error
    for name, value in asked.items():
        if state.get(name) != value:
            what = _difference(state.get(name), value)
            raise UsageError(f"{path} is of a training with another {name} ({what}): choose another --out")
    return dict(state)


def _difference(one: object, other: object) -> str:
    if isinstance(one, dict) and isinstance(other, dict):
        return ", ".join(f"{key}: {one.get(key)}, not {value}" for key, value in other.items() if one.get(key) != value)
    return f"{one}, not {other}"


def export(network: nn.Module, path: Path, facts: Mapping[str, str]) -> None:
    """Write `network` to `path` as its system loads it: without weight norms, which it loses, in half precision.

    A card in Markdown is written beside the file.
    """
    from safetensors.torch import save_file

    fold_weight_norm(network)
    part = path.with_suffix(".part")
    save_file({name: tensor.half().contiguous() for name, tensor in network.state_dict().items()}, part, dict(facts))
    os.replace(part, path)  # noqa: PTH105
    lines = "".join(f"| {name.replace('_', ' ')} | {value} |\n" for name, value in facts.items() if name != "recipe")
    recipe = json.dumps(json.loads(facts["recipe"]), indent=1)
    card = f"# {path.stem}\n\n| | |\n|---|---|\n{lines}\nThe recipe:\n\n```json\n{recipe}\n```\n"
    path.with_suffix(".md").write_text(card, encoding="utf-8")


def fill(network: nn.Module, exported: Mapping[str, Tensor], source: Path) -> None:
    """Put tensors that `export` wrote into a `network` that is to be trained on, with its weight norms.

    Raises:
        InvalidSystem: They are another network's; `source` says where they are from.
    """
    folded = {name: value.float() for name, value in exported.items()}
    for place, module in network.named_modules():
        if parametrize.is_parametrized(module, "weight"):
            whole = folded.pop(f"{place}.weight", None)
            if whole is None or whole.shape != module.weight.shape:
                raise InvalidSystem(f"{source} does not fit the model: {place}.weight is missing or of another shape")
            with torch.no_grad():
                module.weight = whole  # the norm and the direction that make it up
    normalised = {name: value for name, value in network.state_dict().items() if ".parametrizations." in name}
    weights.load_state(network, {**normalised, **folded}, source)


def hardware(device: torch.device) -> str:
    """What the training runs on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{platform.machine()} CPU, {threads} thread{'s' if threads > 1 else ''}"
