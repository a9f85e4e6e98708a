"""``python -m codecbench.models.training.digit_units``: training of the units of spoken digits.

The network (`models.blocks.digit_units`) learns which part of which digit a frame is, from single digits between two
pauses. Nobody marked the parts: at first each digit is cut evenly, and then anew, twice, where the network itself finds
its parts most likely. What it hears in its last layer is clustered by k-means.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from codecbench.models.blocks.digit_units import DigitUnits, DigitUnitsShape, build
from codecbench.models.blocks.learning import kmeans
from codecbench.models.training import state
from codecbench.models.training.digits import DigitStrings, Take, spoken
from codecbench.models.training.learning import Learner, course, seeded
from codecbench.recording import read

NAME = "digit-units"
EDGE = 7
"""Frames of a pause, for the first cut."""
DIGITS = 10


@dataclass(frozen=True)
class UnitsRecipe:
    """A training.

    Attributes:
        rounds: How often the digits are cut and the network learns.
        epochs: Passes over all takes in each round.
        versions: Of each take, with other pauses and another gain.
        gain: Lowest and highest gain in dB.
        batch, frames: Rows a batch, and units a row.
        learning_rate: Of AdamW.
        clustered: Batches whose features are clustered.
        silence: One of so many frames of silence is among them.
        iterations: Of k-means.
        licence: Of the weights.
    """

    rounds: int = 3
    epochs: int = 4
    versions: int = 2
    gain: tuple[float, float] = (-9.0, 6.0)
    batch: int = 16
    frames: int = 160
    learning_rate: float = 2e-3
    clustered: int = 20
    silence: int = 10
    iterations: int = 50
    licence: str = "CC-BY-SA-4.0"


@dataclass(frozen=True, eq=False)
class Heard:
    """One digit between pauses: its spectra ``[2 F, N]``, and which it is."""

    spectra: Tensor
    digit: int


def train(
    folder: Path, path: Path, recipe: UnitsRecipe = UnitsRecipe(), net: DigitUnitsShape = DigitUnitsShape(),  # noqa: B008 - frozen
    *, seed: int = 0,
) -> DigitUnits:  # fmt: skip
    """Train on the recordings in `folder`, as of `digits.takes`; write the weights to `path`, with their card."""
    started = time.process_time()
    network = build(net, seed).train()
    takes = DigitStrings(folder, "train").takes
    heard = hear(network, takes, recipe, seed)
    parts = (net.labels - 1) // DIGITS
    labels = [even(len(own.spectra) // 2, own.digit, parts) for own in heard]
    learner, step = Learner(list(network.parameters()), recipe.learning_rate, (0.9, 0.98), 1.0), 0
    length = sum(len(own.spectra) for own in heard) // (2 * recipe.frames) // recipe.batch * recipe.epochs
    for turn in range(recipe.rounds):
        for _ in range(length // recipe.epochs * recipe.epochs):
            x, wanted = batch(heard, labels, recipe, seed, step)
            loss = functional.cross_entropy(network.last(network.hear(x)).mT, wanted)
            loss.backward()  # type: ignore[no-untyped-call]
            learner.step(course(step, length * recipe.rounds, 50))
            step += 1
        if turn + 1 < recipe.rounds:
            labels = cut(network, heard, parts)
        print(f"round {turn + 1} of {recipe.rounds}, step {step}: loss {float(loss.detach()):.3f}", flush=True)
    cluster(network.eval(), heard, labels, recipe, seed)
    facts = {
        "model": NAME, "steps": str(step), "data": "spoken digits", "recordings": str(len(takes)),
        "data_seconds": f"{sum(read(take.path).clip.duration for take in takes):.1f}",
        "seconds": f"{time.process_time() - started:.1f}", "hardware": state.hardware(torch.device("cpu")),
        "seed": str(seed), "licence": recipe.licence, "torch": version("torch"),
        "recipe": json.dumps(asdict(recipe) | asdict(net)),
    }  # fmt: skip
    state.export(network, path, facts)
    return network


@torch.no_grad()
def hear(network: DigitUnits, takes: Sequence[Take], recipe: UnitsRecipe, seed: int) -> list[Heard]:
    """The spectra of all `takes`, each in several versions."""
    rng = np.random.default_rng(seed)
    found = []
    for take in [*takes] * recipe.versions:
        gain = 10 ** (rng.uniform(*recipe.gain) / 20)
        samples = torch.from_numpy(spoken([take], rng).samples * np.float32(gain))
        found.append(Heard(network.spectra(samples), take.digit))
    return found


def even(frames: int, digit: int, parts: int) -> Tensor:
    """Labels ``[F]``: silence (0) at both edges, and between them the `parts` of `digit`, all as long."""
    labels = torch.zeros(frames, dtype=torch.long)
    inner = min(frames, max(parts, frames - 2 * EDGE))
    start = (frames - inner) // 2
    labels[start : start + inner] = 1 + digit * parts + torch.arange(inner) * parts // inner
    return labels


def batch(
    heard: Sequence[Heard], labels: Sequence[Tensor], recipe: UnitsRecipe, seed: int, step: int
) -> tuple[Tensor, Tensor]:
    """Spectra ``[B, 2 F, N]`` of random digits, one after another, and their labels ``[B, F]``."""
    rows, wanted = [], []
    with seeded(seed, step) as random:
        for _ in range(recipe.batch):
            chosen, frames = list[int](), 0
            while frames < recipe.frames:
                chosen.append(int(torch.randint(len(heard), (), generator=random)))
                frames += len(labels[chosen[-1]])
            rows.append(torch.cat([heard[n].spectra for n in chosen])[: 2 * recipe.frames])
            wanted.append(torch.cat([labels[n] for n in chosen])[: recipe.frames])
    return torch.stack(rows), torch.stack(wanted)


@torch.no_grad()
def cut(network: DigitUnits, heard: Sequence[Heard], parts: int) -> list[Tensor]:
    """Labels ``[F]`` of each digit: silence, its parts in their order, silence, where they are likeliest."""
    found = []
    for own in heard:
        states = torch.tensor([0, *range(1 + own.digit * parts, 1 + (own.digit + 1) * parts), 0])
        nats = functional.log_softmax(network.last(network.hear(own.spectra[None])[0]), dim=-1)[:, states]
        found.append(states[likeliest(nats)])
    return found


def likeliest(nats: Tensor) -> Tensor:
    """The likeliest states ``[F]`` of log-probabilities ``[F, S]``: from the first to the last, each once or longer."""
    frames, states = nats.shape
    best = torch.full((states,), -torch.inf)
    best[0] = nats[0, 0]
    moved = torch.zeros(frames, states, dtype=torch.long)
    for f in range(1, frames):
        before = torch.cat([torch.tensor([-torch.inf]), best[:-1]])
        moved[f] = before > best
        best = torch.maximum(best, before) + nats[f]
    path = [states - 1]
    for f in range(frames - 1, 0, -1):
        path.append(path[-1] - int(moved[f, path[-1]]))
    return torch.tensor(path[::-1])


@torch.no_grad()
def cluster(
    network: DigitUnits, heard: Sequence[Heard], labels: Sequence[Tensor], recipe: UnitsRecipe, seed: int
) -> None:  # fmt: skip
    """Set the network's centroids to those of features of strings, of which most of the silence is left out."""
    features = []
    for step in range(recipe.clustered):
        x, wanted = batch(heard, labels, recipe, seed, -2 - step)
        kept = (wanted > 0) | (torch.arange(recipe.frames) % recipe.silence == 0)
        features.append(network.hear(x)[kept])
    with seeded(seed, -1):
        network.centroids.copy_(kmeans(torch.cat(features), network.entries, recipe.iterations)[0])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the units of spoken digits.")
    parser.add_argument("--data", type=Path, required=True, help="Folder of the Free Spoken Digit Dataset.")
    parser.add_argument("--out", type=Path, required=True, help="Folder for the weights and their card.")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    train(options.data, options.out / f"{NAME}.safetensors")


if __name__ == "__main__":
    main()
