"""What a metric is: a pure function of a reference and an output, and the facts that give its numbers a meaning.

A metric file holds, in this order: what it measures and how to read it, the function, and `METRICS`. A function
returns a number or raises: `Undefined` when the metric does not exist for this *reference* (the same for every
system), `Failed` when the *output* makes it impossible (the system's fault; it stays in the denominator). Any
other exception is an error of ours. No function returns a number in place of a failure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, cast

import numpy as np

from codecbench.audio import Audio, resample, resampler_signature

if TYPE_CHECKING:
    from codecbench.weights import WeightFile

Direction = Literal["higher", "lower", "none"]
Status = Literal["ok", "undefined", "failed", "error", "missing"]
Comparison = Literal["samples", "sounds", "texts", "likelihoods", "pairs"]
Likely = tuple[float, int, float]
"""A log-likelihood in nats, over so many tokens, of so many seconds."""
SIGNALS: frozenset[Comparison] = frozenset({"samples", "sounds"})
"""What can be compared of a recording and its decoded version."""
ANY_DOMAIN = frozenset({"speech", "music", "sound"})
SPEECH = frozenset({"speech"})
MIN_ACTIVE_SECONDS = 0.2
"""With less than this to hear, a recording holds no speech."""
SILENCE_PEAK = 10 ** (-80 / 20)
"""A signal whose peak is below -80 dBFS counts as silent."""

T = TypeVar("T")


class Undefined(Exception):
    """The metric is not defined on this reference; `str` is the reason, such as ``ref_silent``."""


class Failed(Exception):
    """The output makes the metric impossible; `str` is the reason, such as ``output_silent``."""


class Cache(Protocol):
    """A persistent store of JSON values, keyed by everything that determines them."""

    def get(self, key: Mapping[str, Any]) -> Any | None:
        """The value, or None."""

    def put(self, key: Mapping[str, Any], value: Any) -> None:
        """Keep a value."""


class Signal:
    """One recording as metrics see it: mono samples, with everything derived from them computed once.

    Args:
        samples: Float32 ``[T]``, nominally in [-1, 1].
        sample_rate: In Hz.
        cache: Where `remember` keeps values between runs; None for nowhere.
    """

    def __init__(self, samples: Audio, sample_rate: int, cache: Cache | None = None) -> None:
        if samples.ndim != 1 or samples.dtype != np.float32:
            raise ValueError(f"a signal is float32 [T], got {samples.dtype} {list(samples.shape)}")
        self.samples = samples
        self.sample_rate = sample_rate
        self.cache = cache
        self._memo: dict[str, Any] = {}

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate

    @property
    def silent(self) -> bool:
        """No sample reaches -80 dBFS."""
        return not len(self.samples) or float(np.abs(self.samples).max()) < SILENCE_PEAK

    @property
    def active_seconds(self) -> float:
        """Seconds of the 20 ms frames whose level is within 40 dB of the loudest frame's."""
        return self.memo("active", self._active_seconds)

    def _active_seconds(self) -> float:
        size = self.sample_rate // 50
        whole = np.pad(self.samples, (0, -len(self.samples) % size))
        power = np.square(whole.reshape(-1, size), dtype=np.float64).mean(axis=1)
        return float(np.count_nonzero(power > power.max(initial=0.0) * 1e-4)) * size / self.sample_rate

    def at(self, rate: int) -> Audio:
        """The samples ``[T']`` resampled to `rate` Hz."""
        return self.memo(f"at {rate}", lambda: resample(self.samples, self.sample_rate, rate))

    def memo(self, key: str, compute: Callable[[], T]) -> T:
        """`compute()`, kept in memory under `key` for as long as the signal lives."""
        if key not in self._memo:
            self._memo[key] = compute()
        return cast("T", self._memo[key])

    def remember(self, key: Mapping[str, Any], compute: Callable[[], T]) -> T:
        """`compute()`, a JSON value, kept between runs under `key` and the digest of the samples.

        `key` names everything else that the value depends on: model and its hash, versions, settings.
        """
        full = {**key, "audio": self.digest}

        def look_up() -> T:
            known = None if self.cache is None else self.cache.get(full)
            if known is None:
                known = compute()
                if self.cache is not None:
                    self.cache.put(full, known)
            return cast("T", known)

        return self.memo(repr(sorted(full.items())), look_up)

    @property
    def digest(self) -> str:
        """SHA-256 of the samples and the rate."""
        return self.memo(
            "digest",
            lambda: hashlib.sha256(b"%d " % self.sample_rate + self.samples.tobytes()).hexdigest(),
        )


class Reference(Signal):
    """The original, with what the dataset knows of it. `language` is a BCP 47 tag; unknown facts are empty.

    `comparable` says what can be compared of it and an output, see `Metric.compares`; `prompt` is what a language model
    hears (None where nothing is asked), `text` what it is to say, translate or depict, and `contrast` a recording of
    another speaker, which no system hears (None if there is none).
    """

    def __init__(
        self, samples: Audio, sample_rate: int, *, transcript: str = "", language: str = "",
        domain: str = "speech", comparable: frozenset[Comparison] = SIGNALS, prompt: Signal | None = None,
        text: str = "", contrast: Signal | None = None, cache: Cache | None = None,
    ) -> None:  # fmt: skip
        super().__init__(samples, sample_rate, cache)
        self.comparable = comparable
        self.prompt = prompt
        self.contrast = contrast
        self.text = text
        self.transcript = transcript
        self.language = language
        self.domain = domain


@dataclass(frozen=True)
class Alignment:
    """What a system does to every signal: delay in samples (late is positive), polarity (1 or -1), gain in dB.

    `delay` counts samples at `sample_rate`, with a fraction.
    """

    delay: float = 0.0
    polarity: int = 1
    gain_db: float = 0.0
    sample_rate: int = 48_000


class Output(Signal):
    """What a system made of a reference, at the same rate; as long as the reference, unless it is an answer.

    `text` is an answer that is a text; `bits_per_second` is how unlikely the reference is to a language model; `pair`
    is how likely it finds the better and the worse recording of a pair. `continues` says that the output begins where
    the prompt ends, and does not hold it.
    """

    def __init__(
        self, samples: Audio, sample_rate: int, *, alignment: Alignment | None = None, text: str | None = None,
        bits_per_second: float | None = None, pair: tuple[Likely, Likely] | None = None, continues: bool = False,
        cache: Cache | None = None,
    ) -> None:  # fmt: skip
        super().__init__(samples, sample_rate, cache)
        self.alignment = alignment or Alignment()
        self.text = text
        self.bits_per_second = bits_per_second
        self.pair = pair
        self.continues = continues


@dataclass(frozen=True)
class Score:
    """A value and its `weight` in the mean over a corpus: 1, or a count where the mean is a ratio of sums.

    `texts` are what the value was computed from, where that is text: what was said, what was heard.
    """

    value: float
    weight: float = 1.0
    texts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Material:
    """What one item adds to a value that only a corpus has (see `Metric.shares`): plain JSON, in `data`."""

    data: Any
    texts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Value:
    """The outcome of a metric for one item: if `status` is ok, a value or `material`, else a reason."""

    status: Status
    reason: str = ""
    value: float | None = None
    weight: float = 1.0
    texts: Mapping[str, str] = field(default_factory=dict)
    material: Any = None


@dataclass(frozen=True)
class Metric:
    """A metric and its facts.

    Attributes:
        name: The identifier, such as ``pesq_wb``.
        title: For people.
        unit: Of the value; empty for a plain number.
        direction: Which way is better; ``none`` for a description.
        score: Maps a reference and an output, of equal length and rate, to the value.
        parts: The signature's parts beyond name, frame, resampler and version: implementation with its
            version, band, model with its hash, normaliser. Called only when the metric is used.
        floor: The worst value there is, imputed for a failed item in the worst-case score; None if unbounded.
        perfect: The value of an output equal to its reference; None if that depends on the reference.
        domains: The kinds of recording on which the metric means something.
        min_seconds: Shorter references are undefined.
        needs_transcript: Undefined without a reference text.
        weights: Model files that the metric needs and that no package carries.
        version: Raised when the metric's own code changes its values.
        compares: ``samples``: reference and output at equal times, so an answer of its own length has no value.
            ``sounds``: recordings of any lengths. ``texts``: answers that are texts. ``likelihoods``: how likely a
            language model finds the reference. ``pairs``: which recording of a pair it finds likelier.
        frame: ``system``: at the dataset's rate, resampling included. ``codec``: at the codec's own rate.
        variant: Makes the metric with another model from the text behind a colon (``wer:base``); None if it has
            no variants.
        prepare: Makes sure that everything the metric needs is there, before anything is started, or raises
            `UsageError` or `InfrastructureError`; None if it needs nothing that could be missing.
        shares: Of a metric that has a value for a corpus alone, and whose `score` returns `Material`: maps the data of
            all items that have some to one number each, whose mean is the corpus's value (see
            `codecbench.metrics.corpus`). May raise `Failed`. None if `score` returns values.
    """

    name: str
    title: str
    unit: str
    direction: Direction
    score: Callable[[Reference, Output], float | Score | Material]
    parts: Callable[[], Mapping[str, str]]
    floor: float | None = None
    perfect: float | None = None
    domains: frozenset[str] = ANY_DOMAIN
    min_seconds: float = 0.0
    needs_transcript: bool = False
    weights: tuple[WeightFile, ...] = ()
    version: int = 1
    compares: Comparison = "samples"
    frame: Literal["system", "codec"] = "system"
    variant: Callable[[str], Metric] | None = None
    prepare: Callable[[], None] | None = None
    shares: Callable[[Sequence[Any]], Sequence[float]] | None = None

    def in_codec_frame(self) -> Metric:
        """The same metric at the codec's own rate, called ``NAME@codec``."""
        return replace(self, name=f"{self.name}@codec", frame="codec")

    def signature(self) -> str:
        """Everything that the number depends on but the audio; values of different signatures never mix."""
        facts = {**self.parts(), "frame": self.frame, "rs": resampler_signature(), "v": str(self.version)}
        return "|".join([self.name, *(f"{key}:{value}" for key, value in facts.items())])

    def facts(self) -> dict[str, Any]:
        """What readers of results need to know, as plain JSON values."""
        return {
            "name": self.name, "title": self.title, "unit": self.unit, "direction": self.direction,
            "floor": self.floor, "perfect": self.perfect, "domains": sorted(self.domains),
        }  # fmt: skip


def undefined_reason(metric: Metric, reference: Reference) -> str:
    """Why `metric` is undefined on `reference`, whatever the system; empty if it is defined.

    Asked for items that have no output to score: it scores the reference against itself, the best answer there is.
    """
    best = Output(
        reference.samples, reference.sample_rate, text=reference.transcript, bits_per_second=0.0,
        pair=((0.0, 1, 1.0), (-1.0, 1, 1.0)),
    )  # fmt: skip
    value = evaluate(metric, reference, best)
    return value.reason if value.status == "undefined" else ""


def evaluate(metric: Metric, reference: Reference, output: Output) -> Value:
    """Score one item; the one place where an exception becomes a status."""
    try:
        _check_domain(metric, reference)
        result = metric.score(reference, output)
    except Undefined as reason:
        return Value("undefined", str(reason))
    except Failed as reason:
        return Value("failed", str(reason))
    except Exception as error:  # noqa: BLE001 - a metric's own crash is recorded as an error, never as a number
        return Value("error", f"metric({type(error).__name__}: {error})")
    if isinstance(result, Material):
        return Value("ok", texts=result.texts, material=result.data)
    score = result if isinstance(result, Score) else Score(float(result))
    if not np.isfinite(score.value):
        return Value("error", f"metric(returned {score.value})")
    return Value("ok", "", float(score.value), float(score.weight), score.texts)


def _check_domain(metric: Metric, reference: Reference) -> None:
    if metric.compares not in reference.comparable:
        raise Undefined(f"not_comparable({metric.compares})")
    if reference.domain not in metric.domains:
        raise Undefined(f"domain({reference.domain})")
    speech = metric.domains == SPEECH
    if reference.duration < max(metric.min_seconds, MIN_ACTIVE_SECONDS * speech):
        raise Undefined("too_short")
    if speech and not reference.silent and reference.active_seconds < MIN_ACTIVE_SECONDS:
        raise Undefined("ref_no_speech")
    if metric.needs_transcript and not reference.transcript.strip():
        raise Undefined("no_transcript")


def require_sound(reference: Reference, output: Output) -> None:
    """Raise `Undefined` for a silent reference, `Failed` for a silent output."""
    if reference.silent:
        raise Undefined("ref_silent")
    if output.silent:
        raise Failed("output_silent")
