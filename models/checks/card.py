"""Checks of the card: facts that need no loaded system."""

from __future__ import annotations

import json
import pickle
import re
from math import isfinite

from codecbench.models.checks.base import ALL, Failed, Skipped, all_checks, check
from codecbench.models.checks.subject import Subject

PAPERS = (
    r"arXiv:\d{4}\.\d{4,5}(v\d+)?", r"doi:10\.\d{4,9}/\S+", r"https?://\S+",
    r"(ITU-[TR]|3GPP TS|RFC|ISO/IEC|ETSI \w+|IETF) [\w.\-/]+.*",
)  # fmt: skip


@check(ALL, loads=False)
def card_name(subject: Subject) -> None:
    """The name is 1 to 64 lower-case letters, digits, `.`, `_` and `-`: it is safe in files, tables and links."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", subject.card.name):
        raise Failed(f"the name {subject.card.name!r} has other characters, or is too long")


@check(ALL, loads=False)
def card_kind(subject: Subject) -> None:
    """Kind, track and tasks agree: controls are of the track of controls, and language models alone have tasks."""
    card = subject.card
    if card.kind != "lm" and (card.kind == "control") != (card.track == "control"):
        raise Failed(f"kind '{card.kind}' on track '{card.track}'")
    if (card.kind == "lm") != bool(card.tasks):
        raise Failed(f"kind '{card.kind}' with the tasks {list(card.tasks)}")
    if not card.family:
        raise Failed("the family is empty")


@check(ALL, loads=False)
def card_audio(subject: Subject) -> None:
    """Sample rate and channels are possible: 4 to 192 kHz, one channel or more; a control may leave the rate open."""
    card = subject.card
    if card.sample_rate is None and card.kind != "control":
        raise Failed("no sample rate")
    if card.sample_rate is not None and not 4_000 <= card.sample_rate <= 192_000:
        raise Failed(f"a sample rate of {card.sample_rate} Hz")
    if card.channels is not None and card.channels < 1:
        raise Failed(f"{card.channels} channels")


@check(ALL, loads=False)
def card_licence(subject: Subject) -> None:
    """The licence of the code is an SPDX expression."""
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    try:
        canonical = canonicalize_license_expression(subject.card.licence)
    except InvalidLicenseExpression as error:
        raise Failed(f"'{subject.card.licence}' is no SPDX licence expression") from error
    if canonical != subject.card.licence:
        raise Failed(f"'{subject.card.licence}' is spelt '{canonical}' by SPDX")


@check(ALL, loads=False)
def card_weights(subject: Subject) -> None:
    """Every weights file has a name of its own, a source and a licence, and the card states the weights' licence."""
    card = subject.card
    if not card.weights:
        raise Skipped("it has no official weights")
    for file in card.weights:
        if not file.licence or not card.weights_licence:
            raise Failed(f"no licence is stated for {file.name}; write 'not stated' if its publisher states none")
        if not file.url.startswith("https://"):
            raise Failed(f"{file.name} has the source {file.url!r}, which is no https address")
    if len({file.name for file in card.weights}) < len(card.weights):
        raise Failed("two weights files have one name")


@check(ALL, loads=False)
def card_training_data(subject: Subject) -> None:
    """A system with official weights says what it was trained on, or that this was not published."""
    if not subject.card.weights:
        raise Skipped("it has no official weights")
    if not all(subject.card.training_data) or not subject.card.training_data:
        raise Failed("no training data is declared; write 'not published' if its publisher states none")


@check(ALL, loads=False)
def card_paper(subject: Subject) -> None:
    """The paper is an arXiv identifier, a DOI, a standard or a link; official and classical systems name one."""
    paper = subject.card.paper
    if not paper and subject.card.track in {"official", "classical"}:
        raise Failed("no paper or standard is named")
    if paper and not any(re.fullmatch(form, paper) for form in PAPERS):
        raise Failed(f"'{paper}' is not like arXiv:2210.13438, doi:10.1234/x, a standard (ITU-T G.711) or a link")


@check(ALL, loads=False)
def card_points(subject: Subject) -> None:
    """There is an operating point; names are unique and simple; declared bitrates are positive, poorest first."""
    points = subject.card.points
    names = [point.name for point in points]
    if not points or len(set(names)) < len(names):
        raise Failed(f"the points are {names}: at least one, each with a name of its own")
    odd = [name for name in names if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", name)]
    if odd:
        raise Failed(f"the point {odd[0]!r} has characters other than letters, digits and . _ + -")
    rates = [point.kbps for point in points if point.kbps is not None]
    if any(not isfinite(rate) or rate <= 0 for rate in rates) or sorted(set(rates)) != rates:
        raise Failed(f"the points declare {rates} kbps, which do not rise from point to point")


@check(ALL, loads=False)
def card_streams(subject: Subject) -> None:
    """Codebooks and frame rates are possible, every point uses streams that exist, and nested ones use ever more."""
    card = subject.card
    streams = [*card.streams, *(stream for point in card.points for stream in point.own_streams)]
    if any(s.codebook_size < 2 or (s.frame_rate is not None and s.frame_rate <= 0) for s in streams):
        raise Failed("a codebook has fewer than two entries, or a frame rate is not above zero")
    counts = [point.streams for point in card.points if point.streams is not None]
    if any(not 1 <= count <= len(card.streams) for count in counts):
        raise Failed(f"points use {counts} streams of {len(card.streams)}")
    if card.nested and (len(counts) < len(card.points) or sorted(set(counts)) != counts):
        raise Failed(f"the points are nested, but use {counts} streams: each must use more than the one before")


@check(loads=False)
def card_bitrates(subject: Subject) -> None:
    """Each point's declared bitrate is what its streams' codebook sizes and frame rates come to, within 2 %."""
    card = subject.card
    told = 0
    for point in card.points:
        counted = card.nominal_kbps(point.streams or 0)
        if counted is None or point.kbps is None or point.own_streams:
            continue
        told += 1
        if abs(counted - point.kbps) > 0.02 * point.kbps:
            raise Failed(f"{point.name} declares {point.kbps:g} kbps; its streams come to {counted:.3g}")
    if not told:
        raise Skipped("no point declares both a bitrate and streams with frame rates")


@check(ALL, loads=False)
def card_timing(subject: Subject) -> None:
    """Delay and look-ahead are whole samples, the warm-up is not negative, and what streams says its look-ahead."""
    card = subject.card
    if not isinstance(card.delay, int) or not isinstance(card.lookahead, int | None):
        raise Failed(f"a delay of {card.delay!r} and a look-ahead of {card.lookahead!r} samples")
    streams = card.streaming and card.kind != "lm"  # a language model looks at what it has said itself
    if card.warm_up < 0 or (streams and card.lookahead is None):
        raise Failed(f"a warm-up of {card.warm_up} samples; streaming {card.streaming}, look-ahead {card.lookahead}")


@check(ALL, loads=False)
def card_requirements(subject: Subject) -> None:
    """Required packages are PEP 508 requirements, and a required extra is one of this package's."""
    from importlib.metadata import metadata

    from packaging.requirements import InvalidRequirement, Requirement

    for requirement in subject.card.requirements:
        try:
            Requirement(requirement)
        except InvalidRequirement as error:
            raise Failed(f"'{requirement}' is no requirement: {error}") from error
    extras = metadata("codecbench").get_all("Provides-Extra") or []
    if subject.card.requires and subject.card.requires not in extras:
        raise Failed(f"codecbench has no extra '{subject.card.requires}'; it has {', '.join(extras)}")


@check(ALL, loads=False)
def card_expected_failures(subject: Subject) -> None:
    """Every expected failure names a check that exists, once, and gives a reason."""
    names = [name for name, _ in subject.card.expected_failures]
    unknown = [name for name in names if name not in all_checks()]
    if unknown or len(set(names)) < len(names):
        raise Failed(f"expected failures {names}: {unknown or 'some twice'}" + " no check of that name" * bool(unknown))
    bare = [name for name, reason in subject.card.expected_failures if len(reason.split()) < 3]
    if bare:
        raise Failed(f"the expected failure of '{bare[0]}' has no reason")


@check(ALL, loads=False)
def card_travels(subject: Subject) -> None:
    """Card and system survive pickling, and the card is strict JSON: workers and result files need that."""
    card = subject.card
    json.dumps(card.to_json(), allow_nan=False)
    if pickle.loads(pickle.dumps(card)) != card:  # noqa: S301 - our own bytes
        raise Failed("the card is another after pickling")
    pickle.loads(pickle.dumps(subject.system))  # noqa: S301
    hash(card)
