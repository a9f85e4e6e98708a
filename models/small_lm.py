"""What small language models share, which ``codecbench train`` trains on strings of spoken digits.

Each is a page of configuration and wiring on the networks of its family: ``valle_small``, ``viola_small`` and so on.
They speak the first `CODEBOOKS` codebooks of the codec `CODEC` at 16 kHz, 50 frames a second. Of text they know the ten
digits, each a symbol of its own; any other word is read as its bytes, which mean nothing to them.

The weights lie in this package, ``small/NAME.safetensors``, in half precision, as those of `codecbench.models.small`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from codecbench.models import small
from codecbench.models.base import Card, LoadOptions, OperatingPoint, Stream, Task
from codecbench.models.codec_tokens import CodecTokens
from codecbench.models.phonemes import BEGIN, BYTES, FIRST_BYTE, STOP, Reading, Script, framed
from codecbench.models.training.digits import WORDS
from codecbench.models.training.student import LMRecipe, Pool

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from codecbench.audio import Clip
    from codecbench.models.blocks.valle import FineLM, Prompt
    from codecbench.models.training.digits import Coded, DigitStrings

CODEC = next(system for system in small.SYSTEMS if system.card.name == "funcodec-small-digits")
"""The codec whose tokens all small language models speak."""
CODEBOOKS = 3
"""More make digits no easier to understand in this codec, and models slower."""
FRAME_RATE = small.SAMPLE_RATE / small.HOP
HELD_OUT = range(5, 7)
"""The takes of the training split that are kept from training, to see what it comes to."""
VOICE = 30, 75
"""Fewest and most frames of a voice to learn from; of longer ones, as many are heard."""
ALONE, FREE = 0.5, 0.1
"""Probability of a batch without voices, and of an example without text."""
BREATH = 0.04
"""A word begins so many seconds before its sound does."""
SHORTEST = 8
"""Frames that a word has at least."""
SAMPLING = (("temperature", 1.0), ("top_k", 5))
"""Of those that speak code by code: found best on held-out takes."""
SPREAD = 6
"""A batch is chosen, by length, from as many times its number of examples."""
SYMBOLS = BYTES + len(WORDS)
"""Ids that `read_digits` may give: those of `phonemes.read_bytes`, then a digit each."""


def card(
    name: str, family: str, tasks: tuple[Task, ...], paper: str, *, codebooks: int = CODEBOOKS, **facts: Any
) -> Card:  # fmt: skip
    """The card of a small language model over the first `codebooks` of the codec."""
    stream = Stream(small.CODEBOOK_SIZE, FRAME_RATE)
    kbps = codebooks * 10 * FRAME_RATE / 1000
    return Card(
        name=name, kind="lm", family=family, track="small", sample_rate=small.SAMPLE_RATE, channels=1,
        points=(OperatingPoint(f"{kbps:g}kbps", kbps, codebooks),), streams=(stream,) * codebooks, tasks=tasks,
        paper=paper, **small.carried(name), **facts,
    )  # fmt: skip


def codec_tokens(options: LoadOptions, codebooks: int = CODEBOOKS) -> CodecTokens:
    """The first `codebooks` of the codec, with this package's weights, or random ones."""
    from codecbench.models.blocks.inference import ready

    network = ready(CODEC.filled(replace(options, weights=None)), options.device)
    return CodecTokens(network, codebooks, small.HOP, small.SAMPLE_RATE, options.device, zero_padded=True)


def symbols(text: str) -> list[int]:
    """The ids of a text: a digit, as a word or as a figure, is one, another word its bytes."""
    ids: list[int] = []
    for word in re.findall(r"\d|[^\s\d]+", text.lower()):
        bare = word.strip(".,;:!?-")
        if bare.isdecimal() and bare.isascii():
            ids.append(BYTES + int(bare))
        elif bare in WORDS:
            ids.append(BYTES + WORDS.index(bare))
        else:
            ids += [FIRST_BYTE + byte for byte in f"{word} ".encode()]
    return ids


def spelled(ids: Sequence[int]) -> str:
    """The text of the `ids` of digits."""
    return " ".join(WORDS[number - BYTES] for number in ids)


def read_digits(transcript: str, text: str, *, language: str = "", source_language: str = "") -> Reading:  # noqa: ARG001
    """A `phonemes.Reader` of digits."""
    voice = symbols(transcript)
    return framed([*voice, *symbols(text)], len(voice), BEGIN, STOP)


SCRIPT = Script(SYMBOLS, read_digits, spelled, range(BYTES, SYMBOLS))
"""Digits are all that small models write."""


def strings(data: Path, recipe: LMRecipe) -> tuple[DigitStrings, DigitStrings]:
    """The strings of the digits in the folder `data` that are learnt from, and those that are held out."""
    from codecbench.models.training.digits import DigitStrings

    learnt = DigitStrings(data, "train", lengths=recipe.digits, numbers=range(HELD_OUT.stop, 1000), speed=recipe.speed)
    return learnt, DigitStrings(data, "train", lengths=recipe.digits, numbers=HELD_OUT)


def first_of(clip: Clip | None) -> Clip | None:
    """The beginning of a recording, as much as is heard of a voice."""
    return clip and replace(clip, samples=clip.samples[:, : VOICE[1] * small.HOP].copy())


class Student:
    """What small language models say of their training: `training.student.Student`, but for network and loss.

    Attributes:
        recipe: How this package's weights were made.
    """

    card: ClassVar[Card]
    recipe: ClassVar[LMRecipe] = LMRecipe()

    @classmethod
    def blank(cls, seed: int) -> Any:
        """All that learns, with random weights from `seed`; torch's own random state is left as it was.

        A model that need not be `acquainted` has `network` alone.
        """
        return cls.network(seed)

    @classmethod
    def acquainted(cls, network: Any) -> None:
        """Tell `network`, which is `blank`, how codes sound, by `acquaint`."""
        raise NotImplementedError

    @classmethod
    def network(cls, seed: int) -> nn.Module:
        """All that learns, as it is before the first step."""
        network: nn.Module = cls.blank(seed)
        cls.acquainted(network)
        return network

    @classmethod
    def filled(cls, options: LoadOptions) -> Any:
        """The network with this package's weights, those of a file that ``codecbench train`` wrote, or random ones.

        Raises:
            InvalidSystem: The weights are not there, or are another network's.
        """
        network = cls.blank(options.random_seed or 0)
        if options.random_seed is None:
            name = cls.card.name
            small.read(network, name, options.weights or small.FOLDER / f"{name}.safetensors")
        return network

    @classmethod
    def pool(cls, data: Path, recipe: LMRecipe) -> Pool:
        """Strings of the digits in the folder `data`, as `Said`; their codes are kept in the cache."""
        from codecbench.models.training.digits import coded_pool
        from codecbench.paths import cache_dir
        from codecbench.recording import read

        codec, name = CODEC.load(LoadOptions()), CODEC.card.name
        own, others = strings(data, recipe)
        folder, kind = cache_dir("training", name), "-".join(map(str, (*recipe.digits, *recipe.speed)))
        training = coded_pool(own, recipe.strings, codec, folder / f"train-{kind}.npz")
        held_out = coded_pool(others, recipe.held_out, codec, folder / f"held-out-{kind}.npz")
        seconds = sum(read(take.path).clip.duration for take in own.takes)
        return Pool(_said(own, training), _said(others, held_out), seconds, len(own.takes), {"codec": name})

    @classmethod
    def examples(cls, items: Sequence[Said], count: int, rng: np.random.Generator) -> list[Example]:
        """As of `examples`."""
        return examples(items, count, rng)


@dataclass(frozen=True, eq=False)
class Said:
    """A string in codes ``[K, F]``, and the frames at which its words begin, the first one at 0."""

    codes: NDArray[np.int16]
    words: tuple[str, ...]
    speaker: str
    starts: tuple[int, ...]

    @property
    def text(self) -> str:
        """The transcript."""
        return " ".join(self.words)


def _said(strings: DigitStrings, pool: Sequence[Coded]) -> list[Said]:
    """The strings of a `pool`, which are those of `strings`, with the places where words begin."""
    found = []
    for number, item in enumerate(pool):
        starts = [max(0, int((second - BREATH) * FRAME_RATE)) for second in strings.draw(number).starts]
        found.append(Said(item.codes, item.words, item.speaker, (0, *starts[1:])))
    return found


@dataclass(frozen=True, eq=False)
class Example:
    """Speech to learn.

    Attributes:
        voice: Codes ``[K, P]`` of the same speaker, saying something else; ``P`` may be 0.
        text: What is said; empty if that is not told.
        codes: ``[K, F]``.
        starts: The frames at which words begin; none without text.
    """

    voice: Tensor
    text: str
    codes: Tensor
    starts: tuple[int, ...] = ()


def examples(items: Sequence[Said], count: int, rng: np.random.Generator) -> list[Example]:
    """`count` examples of nearly equal lengths, so that little is padded.

    A part of the batches has no voices. In every batch, a part of the examples are two strings in a row without text,
    from which to learn to go on from speech.
    """
    import torch

    of = _by_speaker(items)
    alone = rng.random() < ALONE
    drawn = []
    for _ in range(count * SPREAD):
        item = items[int(rng.integers(len(items)))]
        own = of[item.speaker]
        other = _codes(own[int(rng.integers(len(own)))])
        free, heard = rng.random() < FREE, int(rng.integers(*VOICE, endpoint=True))
        if free:
            drawn.append(Example(other[:, :0], "", torch.cat([other, _codes(item)], dim=1)))
        else:
            voice = other[:, : 0 if alone else heard]
            drawn.append(Example(voice, item.text, _codes(item), item.starts))
    drawn.sort(key=lambda example: example.voice.shape[1] + example.codes.shape[1])
    start = int(rng.integers(len(drawn) - count + 1))
    return drawn[start : start + count]


def _by_speaker(items: Sequence[Said]) -> dict[str, list[Said]]:
    of: dict[str, list[Said]] = {}
    for item in items:
        of.setdefault(item.speaker, []).append(item)
    return of


def _codes(item: Said) -> Tensor:
    """The codes ``[K, F]`` of the first `CODEBOOKS` codebooks."""
    import torch

    return torch.from_numpy(item.codes[:CODEBOOKS]).long()


@cache
def entries() -> list[Tensor]:
    """The entries ``[N, C]`` of the codec's first codebooks."""
    network: Any = CODEC.filled(LoadOptions())
    return [layer.embed for layer in network.quantiser.layers[:CODEBOOKS]]


def acquaint(codebook: int, *tables: Tensor) -> None:
    """Let the rows of `tables` ``[N, C]`` begin alike where entries of a `codebook` are alike; their scale stays.

    Random vectors would have to learn from few recordings which codes sound alike.
    """
    import torch

    own = entries()[codebook]
    random = torch.Generator().manual_seed(codebook)
    with torch.no_grad():
        for table in tables:
            spread = torch.randn(own.shape[1], table.shape[1], generator=random)
            known = (own - own.mean(dim=0)) @ spread
            table.copy_(known / known.std() * table.std())


def acquaint_fine(network: FineLM) -> None:
    """As of `acquaint`, for all that the second network of VALL-E hears and says."""
    tables: list[Any] = list(network.codes)
    heads: list[Any] = list(network.head)
    for k, table in enumerate(tables):
        acquaint(k, table.weight[: small.CODEBOOK_SIZE], *([heads[k - 1].weight] if k else []))


def fine_losses(
    network: FineLM, prompts: Sequence[Prompt], codes: Sequence[Tensor], random: torch.Generator
) -> dict[str, Tensor]:  # fmt: skip
    """Cross-entropies of `codes` ``[K, F]`` after `prompts`, of all codebooks but the first.

    In training, of one of them, and of every other example: the first network has more to learn.
    """
    import torch
    from torch.nn import functional

    levels: Sequence[int] = range(1, network.shape.codebooks)
    if network.training:
        levels = [int(torch.randint(1, network.shape.codebooks, (), generator=random))]
        prompts, codes = prompts[::2], codes[::2]
    return {
        f"codebook {level + 1}": functional.cross_entropy(
            torch.cat(network(prompts, codes, level)), torch.cat([own[level] for own in codes])
        )
        for level in levels
    }
