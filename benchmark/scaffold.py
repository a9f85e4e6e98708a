"""A new model: its file and its test, which work as they are and say what to fill in."""

from __future__ import annotations

import keyword
import re
import sys
from pathlib import Path
from string import Template

from codecbench.errors import UsageError
from codecbench.models.registry import MODULES, all_systems

CODEC = '''"""${title}: EDIT one line on what it is, and its source (paper, release)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from codecbench.audio import Audio, Clip
from codecbench.models.base import Card, Codec, Codes, LoadOptions, OperatingPoint, Stream

# This template codes each sample by itself with a logarithmic law of 256 levels. It is honest and complete, and sounds
# like a telephone. Replace what is marked; import what is heavy (torch, ...) inside functions.
SAMPLE_RATE = 16_000
LEVELS = 256
CURVE = 255.0


class ${class_name}(Codec):
    """EDIT one line."""

    # The declared facts; `codecbench show NAME` prints them, and `codecbench check` measures what can be measured.
    card = Card(
        name="${name}",
        kind="codec",
        family="Template",  # EDIT the architecture
        track="small",  # official for published weights, classical without learnt parameters
        sample_rate=SAMPLE_RATE,
        channels=1,
        streams=(Stream(codebook_size=LEVELS, frame_rate=SAMPLE_RATE),),  # EDIT one a codebook
        points=(OperatingPoint("128kbps", 128.0, streams=1),),  # EDIT poorest first; the bitrate shown is measured
        causal=True,  # EDIT whether no frame depends on later samples; None if unknown
        licence="Apache-2.0",  # EDIT of this code; `weights`, `weights_licence`, `training_data`, `paper` as they apply
        contamination="nothing was trained",  # EDIT what is known of test recordings among the training data
    )

    @classmethod
    def load(cls, options: LoadOptions) -> ${class_name}:  # noqa: ARG003
        """Load the model: EDIT from `options.weights`, or random weights from `options.random_seed`."""
        return cls()

    def encode(self, clips: Sequence[Clip], point: OperatingPoint) -> list[Codes]:  # noqa: ARG002
        """EDIT: one `Codes` a clip, whatever the clips' lengths and their order."""
        return [self._encode(clip) for clip in clips]

    def decode(self, codes: Sequence[Codes]) -> list[Audio]:
        """EDIT: float32 samples [C, T] for each item, with the T of the clip that went in."""
        return [self._decode(item) for item in codes]

    def _encode(self, clip: Clip) -> Codes:
        samples = np.clip(clip.samples[0].astype(np.float64), -1, 1)
        compressed = np.sign(samples) * np.log1p(CURVE * np.abs(samples)) / np.log1p(CURVE)
        tokens = np.rint((compressed + 1) / 2 * (LEVELS - 2)).astype(np.int64)
        return Codes(clip.length, clip.sample_rate, clip.channels, streams=(tokens,), codebook_sizes=(LEVELS,))

    def _decode(self, item: Codes) -> Audio:
        compressed = item.streams[0] / (LEVELS - 2) * 2 - 1
        samples = np.sign(compressed) * np.expm1(np.abs(compressed) * np.log1p(CURVE)) / CURVE
        return np.asarray(samples, np.float32)[None]


SYSTEMS = (${class_name},)
'''

LM = '''"""${title}: EDIT one line on what it is, and its source (paper, release)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from codecbench.audio import Clip
from codecbench.models.base import (
    Card, Codes, Likelihood, LoadOptions, OperatingPoint, Request, Response, Sampling, SpeechLM, Stream,
)  # fmt: skip
from codecbench.models.controls import MuLaw
from codecbench.models.limits import check_clip, check_request, check_sampling

# This template draws each token by itself from one distribution, over the tokens of 8-bit µ-law. It is honest and
# complete, and hisses. Replace what is marked; import what is heavy (torch, ...) inside functions.
SAMPLE_RATE = 8_000
TOKENS = 256
FRAME = 1  # samples that one token stands for


class ${class_name}(SpeechLM):
    """EDIT one line."""

    # The declared facts; `codecbench show NAME` prints them, and `codecbench check` measures what can be measured.
    card = Card(
        name="${name}",
        kind="lm",
        family="Template",  # EDIT the architecture
        track="small",  # official for published weights
        sample_rate=SAMPLE_RATE,
        channels=1,
        streams=(Stream(codebook_size=TOKENS, frame_rate=SAMPLE_RATE / FRAME),),  # EDIT of the codec that it speaks in
        points=(OperatingPoint("64kbps", 64.0, streams=1),),
        tasks=("continuation",),  # EDIT what it can do
        licence="Apache-2.0",  # EDIT of this code; `weights`, `weights_licence`, `training_data`, `paper` as they apply
        contamination="nothing was trained",  # EDIT what is known of test recordings among the training data
    )

    def __init__(self) -> None:
        self._codec = MuLaw()  # EDIT the codec
        # EDIT the network. Here: natural logarithms of the tokens' probabilities [N], the likelier the softer.
        levels = self._codec.decode([_codes(np.arange(TOKENS))])[0][0]
        logits = -60 * np.abs(levels).astype(np.float64) - 0.001 * np.arange(TOKENS)
        self._scores = logits - np.log(np.exp(logits).sum())

    @classmethod
    def load(cls, options: LoadOptions) -> ${class_name}:  # noqa: ARG003
        """Load the model: EDIT from `options.weights`, or random weights from `options.random_seed`."""
        return cls()

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        """One response a request, the same for the same seed; ValueError for what the model cannot do."""
        check_sampling(sampling)
        for request in requests:
            check_request(self.card, request, frame=80)
        return [self._continue(sampling) for _ in requests]

    def loglikelihood(self, items: Sequence[Clip]) -> list[Likelihood]:
        """Log-likelihood of each clip in nats, over its tokens."""
        for clip in items:
            check_clip(self.card, clip)
        return [self._score(clip) for clip in items]

    def _continue(self, sampling: Sampling) -> Response:
        """EDIT: look at the prompt, and draw one token after another."""
        tokens = _draw(self._scores, int(sampling.max_seconds * SAMPLE_RATE / FRAME), sampling)
        return Response(Clip(self._codec.decode([_codes(tokens)])[0], SAMPLE_RATE), tokens=len(tokens))

    def _score(self, clip: Clip) -> Likelihood:
        """EDIT: each token's score given those before it."""
        (tokens,) = self._codec.encode([clip], self._codec.card.points[0])[0].streams
        return Likelihood(float(self._scores[tokens].sum()), len(tokens), clip.duration)


def _codes(tokens: NDArray[np.int64]) -> Codes:
    return Codes(len(tokens) * FRAME, SAMPLE_RATE, streams=(tokens,), codebook_sizes=(TOKENS,))


def _draw(scores: NDArray[np.float64], count: int, sampling: Sampling) -> NDArray[np.int64]:
    """Draw `count` tokens by `scores` [N], restricted to the `top_k` likeliest and to a share `top_p` of the mass."""
    if sampling.temperature == 0:
        return np.full(count, scores.argmax(), np.int64)
    order = np.argsort(-scores, kind="stable")[: sampling.top_k or None]
    weights = np.exp((scores[order] - scores.max()) / sampling.temperature)
    kept = np.cumsum(weights) - weights < sampling.top_p * weights.sum()
    rng = np.random.default_rng(sampling.seed)
    return rng.choice(order[kept], count, p=weights[kept] / weights[kept].sum()).astype(np.int64)


SYSTEMS = (${class_name},)
'''

TEST = '''"""${title} holds to the interface; EDIT and equals its original on shared weights."""

from pathlib import Path

from codecbench.models.checks.runner import check
from codecbench.models.checks.subject import Options

TARGET = f"{Path(__file__).with_name('${name}.py')}:${class_name}"


def test_passes_every_check() -> None:
    report = check(TARGET, Options(long_seconds=2.0))  # EDIT random_seed=0 until there are weights
    assert report.results
    assert [(result.check, result.reason) for result in report.results if not result.ok] == []
'''

TEMPLATES = {"codec": CODEC, "lm": LM}


def create(name: str, kind: str, folder: Path) -> list[Path]:
    """Write the file of a new model of `kind` and its test to `folder`, and return both paths.

    Raises:
        UsageError: The name cannot be a module's, is taken, or a file of it exists; nothing was written.
    """
    if kind not in TEMPLATES:
        raise UsageError(f"unknown kind '{kind}': {' or '.join(TEMPLATES)}")
    check_name(name)
    paths = [folder / f"{name}.py", folder / f"test_{name}.py"]
    for path in paths:
        if path.exists():
            raise UsageError(f"{path} exists; choose another name or another folder with --out")
    facts = {"name": name, "class_name": class_name(name, kind), "title": name.replace("_", " ")}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in zip(paths, (TEMPLATES[kind], TEST), strict=True):
            path.write_text(Template(text).substitute(facts), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}") from error
    return paths


def check_name(name: str) -> None:
    """Raise UsageError unless `name` can be the name of a new model and of its module."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name) or keyword.iskeyword(name):
        raise UsageError(f"'{name}' is no name for a module: lower-case letters, digits and _, a letter first")
    if name in all_systems() or f"codecbench.models.{name}" in MODULES:
        raise UsageError(f"the model '{name}' exists already; choose another name")
    if name in sys.stdlib_module_names:
        raise UsageError(f"'{name}' is a module of Python's own; choose another name")


def class_name(name: str, kind: str) -> str:
    """The class of the model called `name`: ``my_codec`` and ``mycodec`` make ``MyCodec``, ``tiny_lm`` ``TinyLM``."""
    ending = {"codec": "codec", "lm": "lm"}[kind]
    parts = [part for part in name.split("_") if part]
    if len(parts[-1]) > len(ending) and parts[-1].endswith(ending):
        parts[-1:] = [parts[-1].removesuffix(ending), ending]
    return "".join("LM" if part == "lm" else part.capitalize() for part in parts)
