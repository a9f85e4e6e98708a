"""What a reader should know of an entry's codes: it is not what it declares, or does not repeat itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from codecbench.leaderboard.board import Board, System
from codecbench.leaderboard.summary import Row, Section

TOLERANCE = 0.01
"""Difference between claim and measurement of a bitrate, as a share of the claim, that is worth a word."""
DELAY_TOLERANCE = 1.0
"""Difference between the declared and the measured delay, in milliseconds, that is worth a word."""
PACKET_SECONDS = 0.02
"""The frame of an entry that sends packets, of which no frame rate is known."""
UNITS = {"bitrate": "kbps", "delay": "ms"}


@dataclass(frozen=True)
class Mismatch:
    """What an entry declares on a dataset and what was measured: a bitrate in kbps, or a delay in milliseconds."""

    system: str
    point: str
    claimed: float
    measured: float
    what: Literal["bitrate", "delay"] = "bitrate"
    dataset: str = ""

    @property
    def unit(self) -> str:
        """Of both numbers."""
        return UNITS[self.what]

    @property
    def badge(self) -> str:
        """In the fewest words."""
        return f"declares {self.claimed:.4g} {self.unit}" + (" delay" if self.what == "delay" else "")

    @property
    def text(self) -> str:
        """In a sentence."""
        return f"{self.claimed:.4g} {self.unit} of {self.what} declared, {self.measured:.2f} measured on {self.dataset}"


def mismatches(board: Board, section: Section) -> tuple[Mismatch, ...]:
    """Claims of one dataset's entries that are not what was measured: bitrates by entry, then delays."""
    dataset = board.datasets.get(section.dataset)
    if not dataset or section.task:  # the mean over all datasets has no claim
        return ()
    seconds = sum(item.duration for item in dataset.utterances)
    rounded_up = len(dataset.utterances) / seconds if seconds else 0.0
    return (*(_bitrates(section, rounded_up) if seconds else ()), *_delays(board, section))


def _bitrates(section: Section, rounded_up: float) -> Iterator[Mismatch]:
    """Claims more than `TOLERANCE` from what is taken.

    A recording need not end with a frame, so up to a frame of each, `rounded_up` a second, counts for nobody's fault.
    """
    for row in section.rows:
        claimed = row.properties.get("nominal_kbps")
        if not claimed or not row.kbps:
            continue
        if not -TOLERANCE <= row.kbps.value / claimed - 1 <= TOLERANCE + rounded_up * _frame(row):
            yield Mismatch(row.system, row.point, claimed, row.kbps.value, "bitrate", section.title)


def _delays(board: Board, section: Section) -> Iterator[Mismatch]:
    """Delays left over once the declared one was removed; a control may delay what it likes."""
    for row in section.rows:
        left = row.properties.get("delay_ms", 0.0)
        if row.track != "control" and abs(left) > DELAY_TOLERANCE:
            claimed = _declared_delay(board.systems[row.system])
            yield Mismatch(row.system, row.point, claimed, claimed + left, "delay", section.title)


def _declared_delay(system: System) -> float:
    """In milliseconds."""
    delay, rate = system.facts.get("delay"), system.facts.get("sample_rate")
    return 1000 * delay / rate if isinstance(delay, int | float) and isinstance(rate, int | float) and rate else 0.0


def _frame(row: Row) -> float:
    """Seconds of a frame."""
    rate = row.properties.get("frame_rate")
    return 1 / rate if rate else PACKET_SECONDS


def cautions(board: Board, section: Section) -> Iterator[str]:
    """What is to be known of a section's entries as sentences, none where there is nothing to say."""
    found = mismatches(board, section)
    if rates := [claim for claim in found if claim.what == "bitrate"]:
        claims = ", ".join(f"{m.system} {m.point} ({m.claimed:g} claimed, {m.measured:.2f} taken)" for m in rates)
        yield f"Bitrates that are not those claimed: {claims}. Entries are ranked at the measured ones."
    if delays := [claim for claim in found if claim.what == "delay"]:
        yield f"Delays in ms that are not those declared: {_by_system(delays)}. Scores are of aligned recordings."
    unsteady = [f"{row.system} {row.point}" for row in section.rows if row.properties.get("repeatable") == 0]
    if unsteady:
        yield f"Coding a recording again gives something else: {', '.join(unsteady)}. Their values are of one coding."


def _by_system(claims: Sequence[Mismatch]) -> str:
    """Each system once, with the least and the most that was measured of its points."""
    found: dict[tuple[str, float], list[float]] = {}
    for claim in claims:
        found.setdefault((claim.system, claim.claimed), []).append(claim.measured)
    spans = {key: sorted({f"{value:.2f}" for value in values}, key=float) for key, values in found.items()}
    return ", ".join(
        f"{system} ({claimed:g} declared, {' to '.join(dict.fromkeys((span[0], span[-1])))} measured)"
        for (system, claimed), span in spans.items()
    )
