"""A codec in training: everything that a step changes, and the step.

All that is random in a step depends on the seed and on the number of the step. So a training that goes on from a
checkpoint makes the steps of one that was never stopped: on a CPU with as many threads, bit for bit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from codecbench import weights
from codecbench.errors import CodecbenchError, UsageError
from codecbench.models.blocks import learning
from codecbench.models.small import FOLDER, HOP, SAMPLE_RATE, SYSTEMS, Small, enliven, metadata
from codecbench.models.training import muon, pictures, state, transform
from codecbench.models.training.balancer import Balancer
from codecbench.models.training.data import Corpus, load
from codecbench.models.training.dropout import QuantiserDropout
from codecbench.models.training.learning import Averages, Learner, course, seeded
from codecbench.models.training.losses import tell_apart
from codecbench.models.training.objective import Objective, Pass, jury, reconstruct
from codecbench.models.training.recipe import Recipe

BEGINNINGS = ("transform", "noise")
"""What a recipe's `start` may be besides trained weights."""
ITSELF = "itself"
"""The `start` of a codec that is trained for longer: its own weights in this package."""
HELD_OUT_CLIPS, HELD_OUT_SAMPLES = 4, 4 * SAMPLE_RATE


def piece_length(recipe: Recipe) -> int:
    """Samples of a piece: whole frames."""
    return max(1, round(recipe.seconds * SAMPLE_RATE / HOP)) * HOP


class Trainer:
    """A codec in training.

    Args:
        codec: Its system.
        recipe: What to do.
        corpus: What to do it on.
        device: Where.
        seed: Of the random weights, and of every random choice.
    """

    def __init__(self, codec: type[Small], recipe: Recipe, corpus: Corpus, device: torch.device, seed: int) -> None:
        self.codec, self.recipe, self.corpus, self.device, self.seed = codec, recipe, corpus, device, seed
        self.name, self.step = codec.card.name, 0
        network: Any = codec.network(seed)
        enliven(network, seed)  # as built, a network gives little but its biases, and all frames take a few codes
        self.earlier = earlier_steps(self.name) if recipe.start == ITSELF else 0
        begin(network, self.name if recipe.start == ITSELF else recipe.start)
        _learn(network.quantiser, recipe, codec.card.streams[0].codebook_size)
        self.network: Any = network.to(device)
        with seeded(seed, -1):
            shape: dict[str, int] = {"groups": _groups(network.quantiser), "late": codec.late}
            self.objective = Objective(recipe, SAMPLE_RATE, HOP, _dimension(network), **shape).to(device)
            self.jury = jury(recipe).to(device)
        self.averages = Averages(network, recipe.averaging)
        self.balancer = Balancer(recipe.weights)
        self.dropout = QuantiserDropout(recipe.dropout_share, recipe.dropout_choices, recipe.dropout_together)
        self.player = Learner(
            [*network.parameters(), *self.objective.parameters()], recipe.learning_rate, recipe.betas, recipe.clip,
            matrices=muon.matrices(network.encoder, network.decoder) if recipe.optimiser == "muon" else (),
        )  # fmt: skip
        self.judges = Learner(
            list(self.jury.parameters()), recipe.discriminator_rate, recipe.betas, recipe.discriminator_clip
        )
        half = recipe.precision == "bfloat16" or (recipe.precision == "auto" and device.type == "cuda")
        self._precision = torch.bfloat16 if half else torch.float32

    def advance(self) -> dict[str, float]:
        """Make a step; return its losses.

        Raises:
            CodecbenchError: A loss or a gradient is no number. The codec's parameters are as before the step.
        """
        step, recipe = self.step, self.recipe
        batch, files = self.corpus.batch(step, recipe.batch)
        x = batch.to(self.device)
        with seeded(self.seed, step) as generator:
            numbers = self.dropout.draw(recipe.batch, len(self.codec.card.streams), generator).to(self.device)
            frozen = step >= recipe.frozen_from * recipe.steps
            self._set_modes(frozen)
            if step == recipe.quantised_step() and recipe.starting_batches:
                self._start_codebooks()
            if step >= recipe.quantised_step():
                self.network.quantiser.paths = recipe.paths
            made = reconstruct(
                self.network, x, numbers, precision=self._precision, frozen=frozen,
                quantised=step >= recipe.quantised_step(),
            )  # fmt: skip
            playing = step >= recipe.adversarial_step()
            found = {}
            if playing and float(torch.rand((), generator=generator)) < recipe.discriminator_share:
                found["discriminators"] = self._judge(made.output.detach(), x)
            values = found | self._play(made, x, playing=playing)
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if bad:
            names = ", ".join(sorted({path.name for path in files}))
            raise CodecbenchError(
                f"{' and '.join(bad)} became no number at step {step} on {names}: look at these recordings, or set "
                "`learning_rate` lower"
            )
        self.averages.follow(step)
        self.step += 1
        return values

    def _set_modes(self, frozen: bool) -> None:
        self.network.train()
        self.network.encoder.train(not frozen)
        self.network.quantiser.train(not frozen)

    @torch.no_grad()
    def _start_codebooks(self) -> None:
        """Show the codebooks more frames to start from than one batch has."""
        quantiser = self.network.quantiser
        steps = range(self.step, self.step + self.recipe.starting_batches)
        batches = (self.corpus.batch(step, self.recipe.batch)[0] for step in steps)
        frames = torch.cat([self.network.encoder(x.to(self.device)) for x in batches])
        quantiser.start(frames) if hasattr(quantiser, "start") else quantiser(frames, None)
        _divide(quantiser, len(steps))

    def _judge(self, output: Tensor, target: Tensor) -> float:
        """Let the discriminators learn; return their loss."""
        self.jury.requires_grad_(True)
        with torch.autocast(self.device.type, self._precision, enabled=self._precision != torch.float32):
            loss = tell_apart(self.jury(output), self.jury(target), self.recipe.game)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = self.judges.step(self._course(self.recipe.adversarial_step()))
        return float(loss.detach()) if math.isfinite(norm) else math.nan

    def _play(self, made: Pass, target: Tensor, *, playing: bool) -> dict[str, float]:
        """Let the codec learn; return its losses, and the gradient's norm."""
        signal = self.objective.signal(made.output, target)
        if playing:
            self.jury.requires_grad_(False)
            with torch.autocast(self.device.type, self._precision, enabled=self._precision != torch.float32):
                with torch.no_grad():
                    real = self.jury(target)
                signal |= self.objective.game(self.jury(made.output), real)
        inner = self.objective.inner(made, target)
        found = signal | inner
        values = {name: float(loss.detach()) for name, loss in found.items()}
        if not all(map(math.isfinite, values.values())):
            return values
        if self.recipe.balanced:
            gradient = self.balancer.gradient(signal, made.output)
            surrogate = (gradient.detach() * made.output).sum()  # its gradient at the output is that gradient
            (surrogate + self.objective.weighted(inner)).backward()  # type: ignore[no-untyped-call]
        else:
            self.objective.weighted(found).backward()  # type: ignore[no-untyped-call]
        return values | {"gradient": self.player.step(self._course(0))}

    def _course(self, start: int) -> float:
        """Part of the learning rate in this step, of a course that begins at the step `start`."""
        return course(self.step - start, self.recipe.steps - start, self.recipe.warm_up)

    @torch.no_grad()
    def examine(self, out: Path) -> dict[str, float]:
        """Hear what the codec makes of recordings that are held out, at its richest point; samples go into `out`."""
        pairs, distances = [], []
        with self.averages.applied():
            for path in self.corpus.held_out[:HELD_OUT_CLIPS]:
                samples = load(path, SAMPLE_RATE)[:HELD_OUT_SAMPLES]
                whole = torch.from_numpy(samples[: len(samples) // self.objective.hop * self.objective.hop])
                if not len(whole):
                    continue
                x = whole[None, None].to(self.device)
                output = reconstruct(self.network, x, None).output
                distances.append(float(self.objective.mel(output, x)))
                pairs.append((x[0, 0].cpu().numpy(), output[0, 0].cpu().numpy()))
        if not pairs:
            return {}
        pictures.samples(pairs, SAMPLE_RATE, out / "samples", self.step)
        return {"held-out mel": sum(distances) / len(distances)}

    def trained(self) -> nn.Module:
        """A network with the averaged parameters, and without what only training needs."""
        network = self.codec.network(0)
        kept = self.network.state_dict().items()
        network.load_state_dict({name: tensor for name, tensor in kept if ".averages." not in name})
        self.averages.put(network)
        return network

    def facts(self) -> dict[str, str]:
        """What a card says of the codec and its data."""
        files = self.corpus.files
        return {
            "codec": self.name, "data_seconds": f"{self.corpus.seconds:.1f}", "recordings": str(len(files)),
            "steps": str(self.earlier + self.step), "earlier_steps": str(self.earlier),
        }  # fmt: skip

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on from here."""
        return {
            "step": self.step, "earlier": self.earlier, "network": self.network.state_dict(),
            "objective": self.objective.state_dict(),
            "jury": self.jury.state_dict(), "player": self.player.optimiser.state_dict(),
            "judges": self.judges.optimiser.state_dict(), "averages": self.averages.values,
            "balancer": self.balancer.state(),
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        self.step, self.earlier = state["step"], state["earlier"]
        self.network.load_state_dict(state["network"])
        self.objective.load_state_dict(state["objective"])
        self.jury.load_state_dict(state["jury"])
        self.player.optimiser.load_state_dict(state["player"])
        self.judges.optimiser.load_state_dict(state["judges"])
        self.averages.restore(state["averages"])
        self.balancer.restore(state["balancer"])

    def identity(self) -> dict[str, Any]:
        """What makes two trainings the same one."""
        return {
            "codec": self.name, "recipe": json.loads(json.dumps(self.recipe.to_json())), "seed": self.seed,
            "data": f"{len(self.corpus.files)} recordings, {self.corpus.seconds:.2f} s",
        }  # fmt: skip


def begin(network: Any, start: str) -> None:
    """Give `network` its first weights, as a recipe's `start` says.

    Raises:
        UsageError: There are no such weights.
        InvalidSystem: They are another network's.
    """
    if start == "transform":
        transform.begin(network)
    elif start not in BEGINNINGS:
        path = FOLDER / f"{start}.safetensors" if start in {system.card.name for system in SYSTEMS} else Path(start)
        if not path.is_file():
            raise UsageError(f"start: '{start}' is neither transform, noise, a small codec with weights, nor a file")
        state.fill(network, weights.read_state_dict(path), path)


def earlier_steps(name: str) -> int:
    """Steps that this package's weights of the small codec `name` have behind them."""
    return int(metadata(FOLDER / f"{name}.safetensors").get("steps", 0))


def _learn(quantiser: Any, recipe: Recipe, size: int) -> None:
    """Let the codebooks of `quantiser`, of `size` entries, learn as `recipe` says; factorised ones always do."""
    if hasattr(quantiser, "learn"):
        frames = recipe.batch * piece_length(recipe) / HOP
        iterations = learning.KMEANS if recipe.starting_batches else 0
        rule = learning.MovingAverage(recipe.codebook_decay, iterations, dead_below=recipe.dead_below * frames / size)
        quantiser.learn(rule if recipe.codebooks == "averages" else None)
        if not iterations:
            _divide(quantiser, size / frames)  # each entry counts as one frame, which is its share of so many batches


def _divide(quantiser: nn.Module, batches: float) -> None:
    """Take what the averages of `quantiser` have counted for that of so many batches."""
    for module in quantiser.modules():
        if isinstance(module, learning.Averages):
            module.divide(batches)


def _dimension(network: Any) -> int:
    """Channels of the latent frames."""
    net = network.net
    return int(net.dimension if hasattr(net, "dimension") else net.encoder.dimension)


def _groups(quantiser: Any) -> int:
    """Groups of channels that `quantiser` takes one by one."""
    layer = quantiser.layers[0]
    return len(layer) if isinstance(layer, nn.ModuleList) else 1
