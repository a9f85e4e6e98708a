r"""What an activation and a kind of codebook are worth to the small codecs, by training each variant alike.

Every variant is trained anew by the recipe of this package's weights, from several seeds, and codes recordings that it
never saw with all its codebooks. A row's difference to the first of its family is paired by recording and seed; its
interval is of the mean over recordings, and knows nothing of further seeds.

    python benchmarks/ablations.py --data TRAIN --recordings TEST --steps 1000 --seeds 2
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from codecbench.metrics import registry
from codecbench.metrics.base import Output, Reference, evaluate
from codecbench.models import small
from codecbench.models.blocks.activations import Snake
from codecbench.models.blocks.quantise import ResidualVQ
from codecbench.models.blocks.seanet import SEANetCodec
from codecbench.models.training.data import Corpus, load
from codecbench.models.training.objective import reconstruct
from codecbench.models.training.recipe import RECIPES, adapted
from codecbench.models.training.trainer import Trainer, piece_length
from codecbench.recording import SUFFIXES

SECONDS = 6
"""At most as many of a recording are coded."""


def with_elu() -> nn.Module:
    """DAC's network with ELU in place of Snake."""
    network = small.dac()
    for parent in list(network.modules()):
        for name, part in parent.named_children():
            if isinstance(part, Snake):
                setattr(parent, name, nn.ELU())
    return network


def with_averages() -> nn.Module:
    """DAC's network with the quantiser of the others: codebooks of full width that follow moving averages."""
    network = small.dac()
    network.quantiser = ResidualVQ(small.CODEBOOKS, small.CODEBOOK_SIZE, small.DIMENSION)
    return network


def with_snake() -> nn.Module:
    """EnCodec's network with Snake in place of ELU."""
    net: Any = small.encodec().net
    return SEANetCodec(replace(net, activation=Snake), small.CODEBOOKS, small.CODEBOOK_SIZE)


class DACWithELU(small.SmallDAC):
    """See `with_elu`."""

    build = with_elu


class DACWithAverages(small.SmallDAC):
    """See `with_averages`."""

    build = with_averages


class EnCodecWithSnake(small.SmallEncodec):
    """See `with_snake`."""

    build = with_snake


VARIANTS: tuple[tuple[str, type[small.Small]], ...] = (
    ("DAC: Snake, factorised codebooks", small.SmallDAC),
    ("DAC: ELU, factorised codebooks", DACWithELU),
    ("DAC: Snake, averaged codebooks", DACWithAverages),
    ("EnCodec: ELU", small.SmallEncodec),
    ("EnCodec: Snake", EnCodecWithSnake),
)


def trained(codec: type[small.Small], data: Path, steps: int, seed: int) -> Trainer:
    """A training of `codec` after all its steps."""
    recipe = adapted(RECIPES[codec.card.name], small.FOLDER / "recipe.yaml", codec.card.name, steps=steps)
    corpus = Corpus(data, small.SAMPLE_RATE, piece_length(recipe), recipe.augmentation, seed)
    trainer = Trainer(codec, recipe, corpus, torch.device("cpu"), seed)
    while trainer.step < steps:
        trainer.advance()
    return trainer


def heard(folder: Path) -> Iterator[NDArray[np.float32]]:
    """The beginning of each recording below `folder`, of whole frames, at the codecs' rate."""
    for path in sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES):
        samples = load(path, small.SAMPLE_RATE)
        yield samples[: min(len(samples), SECONDS * small.SAMPLE_RATE) // small.HOP * small.HOP]


@torch.no_grad()
def intelligibility(trainer: Trainer, recordings: list[NDArray[np.float32]]) -> list[float]:
    """STOI of each of `recordings`, by the averaged weights and all codebooks."""
    stoi, found = registry.find("stoi"), []
    with trainer.averages.applied():
        trainer.network.eval()
        for samples in recordings:
            output = reconstruct(trainer.network, torch.from_numpy(samples)[None, None], None).output[0, 0].numpy()
            own = evaluate(stoi, Reference(samples, small.SAMPLE_RATE), Output(output, small.SAMPLE_RATE))
            found.append(float("nan") if own.value is None else own.value)
    return found


def main() -> None:
    """Train, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="recordings to train on")
    parser.add_argument("--recordings", type=Path, required=True, help="recordings to code")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", default="", help="only variants whose name begins so")
    options = parser.parse_args()
    recordings, first = list(heard(options.recordings)), dict[str, NDArray[np.float64]]()
    print("| variant | parameters | STOI by seed | difference | seconds |\n|---|--:|--:|--:|--:|")
    for name, codec in VARIANTS:
        if not name.startswith(options.only):
            continue
        started, rows, size = time.process_time(), [], 0
        for seed in range(options.seeds):
            trainer = trained(codec, options.data, options.steps, seed)
            size = sum(parameter.numel() for parameter in trainer.network.parameters())
            rows.append(intelligibility(trainer, recordings))
        values = np.array(rows)
        gain = (values - first.setdefault(name.split(":")[0], values)).mean(axis=0)
        width = 1.96 * gain.std(ddof=1) / len(gain) ** 0.5
        print(
            f"| {name} | {size / 1e6:.2f} M | {', '.join(f'{value:.3f}' for value in values.mean(axis=1))} "
            f"| {gain.mean():+.3f} ±{width:.3f} | {time.process_time() - started:.0f} |", flush=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
