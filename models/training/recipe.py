"""What one training is: its length, its data's pieces, its losses and rules. Plain values, from a YAML file or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from codecbench.errors import UsageError
from codecbench.models.training.data import Augmentation
from codecbench.models.training.student import LMRecipe

MelName = Literal["dac", "encodec", "soundstream", "hifigan"]
DiscriminatorName = Literal[
    "periods", "dac_periods", "audiodec_periods", "hifigan_scales", "melgan_scales", "audiodec_scales", "stft", "bands",
    "residual_stft", "resolutions",
]  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """A training.

    Attributes:
        steps: Number of batches.
        batch: Pieces a batch.
        seconds: Length of a piece; cut to whole frames.
        optimiser: Of the codec: ``adamw``, or ``muon`` for the matrices of encoder and decoder and Adam, at a tenth of
            the learning rate, for the rest (see `codecbench.models.training.muon`).
        learning_rate: Of the codec, after `warm_up` steps of growth; it falls to a tenth along a cosine.
        discriminator_rate: Of the discriminators, which follow the same course from where they start.
        betas: Of AdamW.
        clip: Largest norm of the gradient of the codec's parameters.
        discriminator_clip: The same for the discriminators'.
        averaging: Decay of the moving average of the codec's parameters, which is what is kept in the end.
        precision: ``bfloat16`` where that does no harm (not in the quantiser, not in the losses); ``auto`` on a GPU.
        weights: Of the losses ``waveform``, ``mel``, ``stft``, ``loudness``, ``low``, ``adversarial``, ``features``,
            ``commitment``, ``codebook``, ``distillation`` and ``outline``; a loss without one is left out. Sums over
            discriminators and layers in the papers are means here.
        balanced: Weights are shares of the gradient (see `Balancer`), but for the quantiser's and distillation's.
        mel: Form of the mel distance.
        game: Form of the adversarial loss.
        relative_features: The features' loss is relative to the features.
        discriminators: Names and widths.
        levelled: Discriminators hear every piece at one peak.
        adversarial_from: Part of the steps after which discriminators join.
        discriminator_share: Probability that they learn in a step.
        frozen_from: Part of the steps after which encoder and codebooks stay as they are: AudioDec's second stage.
        quantised_from: Part of the steps before which frames pass as they are. A network that is quantised from the
            start may never find a use for its frames: codebooks do not keep up with an encoder that learns fast.
        start: What the network begins as: a ``transform`` (see `codecbench.models.training.transform`), ``noise``, or a
            trained one: ``itself`` (this package's weights of the codec), a small codec by its name, or the file of its
            weights. Codebooks start anew, from the new data, unless `starting_batches` is 0.
        codebooks: They learn by ``averages`` or by ``gradient`` (DAC's always do).
        codebook_decay: Of the averages.
        starting_batches: As many hold the frames that codebooks start from, by k-means; with 0 they begin as they are.
        paths: Of the search for codes, once codebooks have started; 1 for the nearest. See `search` in
            `codecbench.models.blocks.quantise`.
        dead_below: An entry is replaced when fewer frames take it than this part of an even share.
        dropout_share, dropout_choices, dropout_together: See `QuantiserDropout`.
        augmentation: See `Augmentation`.
        licence: Of the weights that come out, for their card.
        save_every, sample_every: Steps between checkpoints, and between samples (0: only at the end).
    """

    steps: int = 20_000
    batch: int = 8
    seconds: float = 1.0
    optimiser: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = 5e-4
    discriminator_rate: float = 3e-4
    warm_up: int = 200
    betas: tuple[float, float] = (0.8, 0.99)
    clip: float = 10.0
    discriminator_clip: float = 10.0
    averaging: float = 0.999
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    weights: Mapping[str, float] = field(default_factory=lambda: {"mel": 15.0, "commitment": 1.0})
    balanced: bool = False
    mel: MelName = "dac"
    game: Literal["hinge", "squares"] = "hinge"
    relative_features: bool = False
    discriminators: Mapping[DiscriminatorName, int] = field(default_factory=dict)
    levelled: bool = False
    adversarial_from: float = 0.3
    discriminator_share: float = 1.0
    frozen_from: float = 1.0
    quantised_from: float = 0.05
    start: str = "transform"
    codebooks: Literal["averages", "gradient"] = "averages"
    codebook_decay: float = 0.99
    starting_batches: int = 24
    paths: int = 1
    dead_below: float = 0.4
    dropout_share: float = 0.0
    dropout_choices: tuple[int, ...] = ()
    dropout_together: bool = False
    augmentation: Augmentation = field(default_factory=Augmentation)
    licence: str = "Apache-2.0"
    save_every: int = 500
    sample_every: int = 0

    def adversarial_step(self) -> int:
        """The step from which discriminators join; `steps` if none does."""
        if not self.discriminators:
            return self.steps
        return round(self.adversarial_from * self.steps)

    def quantised_step(self) -> int:
        """The step from which frames are quantised."""
        return round(self.quantised_from * self.steps)

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain JSON values."""
        return asdict(self)

    def problems(self) -> dict[str, bool]:
        """What must hold of the values, and whether it does."""
        shares = (self.adversarial_from, self.frozen_from, self.quantised_from, self.discriminator_share)
        return {
            "steps, batch, save_every and paths are at least 1": (
                min(self.steps, self.batch, self.save_every, self.paths) >= 1
            ),
            "starting_batches is at least 1, unless trained codebooks are kept": (
                self.starting_batches >= (self.start in ("transform", "noise"))
            ),
            "seconds is above 0": self.seconds > 0,
            f"weights are of {', '.join(LOSSES)}": not self.weights.keys() - set(LOSSES),
            "parts of the steps, shares and probabilities are from 0 to 1": all(
                0 <= part <= 1 for part in (*shares, self.dropout_share, self.augmentation.mixing)
            ),
            "speed is above 0": self.augmentation.speed[0] > 0,
        }


LOSSES = (
    "waveform", "mel", "stft", "loudness", "low", "adversarial", "features", "commitment", "codebook", "distillation",
    "outline",
)  # fmt: skip

RECIPES: dict[str, Recipe] = {
    "soundstream-small": Recipe(
        weights={"mel": 15.0, "adversarial": 1.0, "features": 100.0, "commitment": 1.0},
        discriminators={"residual_stft": 8, "melgan_scales": 4}, dropout_share=0.25,
    ),
    "encodec-small": Recipe(
        weights={"waveform": 0.1, "mel": 2.0, "adversarial": 4.0, "features": 4.0, "commitment": 1.0}, balanced=True,
        relative_features=True, discriminators={"stft": 8}, discriminator_share=2 / 3,
        dropout_share=0.25, dropout_choices=(1, 2, 4, 8), dropout_together=True, clip=1.0,
    ),
    "audiodec-small": Recipe(
        weights={"mel": 45.0, "adversarial": 8.0, "features": 80.0, "commitment": 1.0}, mel="hifigan", game="squares",
        discriminators={"audiodec_periods": 4, "audiodec_scales": 16}, adversarial_from=0.5, frozen_from=0.5,
    ),
    "hificodec-small": Recipe(
        weights={"mel": 45.0, "adversarial": 9.0, "features": 90.0, "commitment": 2.5},
        mel="hifigan", game="squares", discriminators={"periods": 4, "hifigan_scales": 16, "stft": 8},
    ),
    "speechtokenizer-small": Recipe(
        weights={
            "waveform": 100.0, "mel": 45.0, "adversarial": 9.0, "features": 90.0, "commitment": 10.0,
            "distillation": 10.0,
        },
        mel="hifigan", game="squares", discriminators={"periods": 4, "hifigan_scales": 16, "stft": 8},
        dropout_share=0.25,
    ),
    "dac-small": Recipe(
        weights={"mel": 15.0, "adversarial": 8.0, "features": 200.0, "commitment": 0.25, "codebook": 1.0},
        game="squares", discriminators={"dac_periods": 4, "bands": 8}, levelled=True, codebooks="gradient",
        dropout_share=0.25,
    ),
    "funcodec-small": Recipe(
        weights={"waveform": 1.0, "mel": 15.0, "adversarial": 1.0, "features": 100.0, "commitment": 1.0},
        discriminators={"stft": 8}, dropout_share=0.25, dropout_choices=(1, 2, 4, 8), dropout_together=True,
    ),
    "funcodec-small-digits": Recipe(
        steps=1400, batch=4, seconds=1.28, warm_up=50, weights={"waveform": 100.0, "mel": 15.0, "commitment": 0.25},
        start="funcodec-small", quantised_from=0.01, codebook_decay=0.95, dropout_share=0.75,
        dropout_choices=(2, 4, 4, 8), licence="CC-BY-SA-4.0",
    ),
}  # fmt: skip
"""The recipes of the small codecs: their papers' discriminators, games and ratios of weights.

Three in four examples use all codebooks where a codec drops any (in DAC, every second): that helps its richest point.
SoundStream, EnCodec and FunCodec have DAC's mel distance in place of squared logarithms, in which silence outweighs all
else for as long as such short trainings last. The papers' forms can be asked for.
"""


AnyRecipe = TypeVar("AnyRecipe", bound=Recipe | LMRecipe)


def adapted(recipe: AnyRecipe, path: Path | None, name: str = "", **changes: Any) -> AnyRecipe:
    """`recipe` with what the YAML file at `path` and `changes` (but for None) say otherwise.

    Weights are changed one by one: those of losses that are not named stay. Under ``only`` in the file stand settings
    for single systems; those for the one called `name` count, before what the file says for all.

    Raises:
        UsageError: The file cannot be read, or says something that is not known or not possible.
    """
    given = _read(path, name) if path else {}
    given |= {setting: value for setting, value in changes.items() if value is not None}
    source = str(path) if path else "the options"
    known = recipe.to_json()
    if unknown := sorted(given.keys() - known.keys()):
        raise UsageError(f"{source}: unknown setting {', '.join(unknown)}; known are {', '.join(known)}")
    if isinstance(given.get("weights"), dict):
        given["weights"] = {**known["weights"], **given["weights"]}
    return _checked(replace(recipe, **given), source)


def _read(path: Path, name: str) -> dict[str, Any]:
    import yaml

    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UsageError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict) or not all(isinstance(name, str) for name in settings):
        raise UsageError(f"{path} holds no settings: it needs lines such as `steps: 1000`")
    single = settings.pop("only", {})
    if not isinstance(single, dict) or not all(isinstance(own, dict) for own in single.values()):
        raise UsageError(f"{path}: `only` holds settings by the names of systems, such as `dac-small: {{steps: 1000}}`")
    if unknown := sorted(single.keys() - RECIPES.keys()):
        raise UsageError(f"{path}: `only` has settings for {', '.join(unknown)}; known are {', '.join(RECIPES)}")
    own = single.get(name, {})
    both = {key: {**settings[key], **value} for key, value in own.items() if _mappings(settings.get(key), value)}
    return {**settings, **own, **both}


def _mappings(*values: object) -> bool:
    return all(isinstance(value, dict) for value in values)


def _checked(recipe: AnyRecipe, source: str) -> AnyRecipe:
    from pydantic import TypeAdapter, ValidationError

    try:
        checked = TypeAdapter(type(recipe)).validate_python(recipe.to_json())
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{source}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    for rule, holds in checked.problems().items():
        if not holds:
            raise UsageError(f"{source}: {rule}")
    return checked
