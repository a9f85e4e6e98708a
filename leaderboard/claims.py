"""What a reader should know of an entry's codes: it claims another bitrate than it takes, or does not repeat itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from codecbench.leaderboard.board import Board
from codecbench.leaderboard.summary import Row, Section

TOLERANCE = 0.01
"""Difference between claim and measurement, as a share of the claim, that is worth a word."""
PACKET_SECONDS = 0.02
"""The frame of an entry that sends packets, of which no frame rate is known."""


@dataclass(frozen=True)
class Mismatch:
    """An entry's declared bitrate and the one measured, both in kbps."""

    system: str
    point: str
    claimed: float
    measured: float


def mismatches(board: Board, section: Section) -> tuple[Mismatch, ...]:
    """Entries of one dataset whose claim is more than `TOLERANCE` from what they take.

    A recording need not end with a frame, so up to a frame of each counts for nobody's fault.
    """
    dataset = board.datasets.get(section.dataset)
    seconds = sum(item.duration for item in dataset.utterances) if dataset else 0.0
    if not dataset or not seconds:  # the mean over all datasets has no claim
        return ()
    rounded_up = len(dataset.utterances) / seconds
    return tuple(
        Mismatch(row.system, row.point, claimed, row.kbps.value)
        for row in section.rows
        if (claimed := row.properties.get("nominal_kbps"))
        and row.kbps
        and not -TOLERANCE <= row.kbps.value / claimed - 1 <= TOLERANCE + rounded_up * _frame(row)
    )


def _frame(row: Row) -> float:
    """Seconds of a frame."""
    rate = row.properties.get("frame_rate")
    return 1 / rate if rate else PACKET_SECONDS


def cautions(board: Board, section: Section) -> Iterator[str]:
    """Both facts as sentences, none where there is nothing to say."""
    if found := mismatches(board, section):
        claims = ", ".join(f"{m.system} {m.point} ({m.claimed:g} claimed, {m.measured:.2f} taken)" for m in found)
        yield f"Bitrates that are not those claimed: {claims}. Entries are ranked at the measured ones."
    unsteady = [f"{row.system} {row.point}" for row in section.rows if row.properties.get("repeatable") == 0]
    if unsteady:
        yield f"Coding a recording again gives something else: {', '.join(unsteady)}. Their values are of one coding."
