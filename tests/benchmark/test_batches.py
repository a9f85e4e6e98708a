"""Several recordings in one call of an adapter: as one after the other, and a failure costs the others nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecbench.audio import Audio, Clip
from codecbench.benchmark.batches import code_together
from codecbench.benchmark.coding import Coded, SystemFailure, code_clip
from codecbench.models.base import Card, Codec, Codes, OperatingPoint, Stream
from codecbench.models.whole_clip import in_groups

POINTS = (OperatingPoint("one", streams=1), OperatingPoint("two", streams=2))
CARD = Card(
    name="room", kind="codec", family="Room", track="classical", sample_rate=8000, channels=1, points=POINTS,
    streams=(Stream(16, 8000),) * 2, nested=True,
)  # fmt: skip


class OutOfMemoryError(RuntimeError):
    """Known by its name, as torch's is."""


class Room(Codec):
    """Codes up to `size` clips at once, and none that is `odd`."""

    card = CARD

    def __init__(self, size: int, odd: str = "") -> None:
        self.size, self.odd, self.asked = size, odd, list[int]()

    def encode(self, clips: Sequence[Clip], point: OperatingPoint) -> list[Codes]:
        self.asked.append(len(clips))
        if len(clips) > self.size:
            raise OutOfMemoryError("too many")
        if self.odd and any(clip.length == 80 + int(self.odd) for clip in clips):
            raise ArithmeticError("not this one")
        return [Codes(c.length, 8000, 1, (tokens(c),) * (point.streams or 2), (16,) * (point.streams or 2))
                for c in clips]  # fmt: skip

    def decode(self, codes: Sequence[Codes]) -> list[Audio]:
        return [item.streams[0][None].astype(np.float32) * np.float32(len(item.streams) / 32) for item in codes]


def tokens(clip: Clip) -> Any:
    return np.rint(clip.samples[0] * 15).astype(np.int64)


def clips(count: int) -> dict[str, Clip]:
    rng = np.random.default_rng(0)
    return {str(n): Clip(rng.uniform(0, 1, (1, 80 + n)).astype(np.float32), 8000) for n in range(count)}


def facts(outcome: Coded | SystemFailure) -> object:
    if isinstance(outcome, SystemFailure):
        return str(outcome)
    return outcome.bits, outcome.header_bits, outcome.digest, outcome.sample_rate


@pytest.mark.parametrize(
    ("size", "odd", "asked"),
    [(8, "", [8]), (2, "", [8, 4, 2, 2, 4, 2, 2]), (8, "5", [8, 4, 4, 2, 1, 1, 2]), (0, "", None)],
)
def test_a_batch_is_what_its_clips_are_alone(size: int, odd: str, asked: list[int] | None) -> None:
    codec, given = Room(size, odd), clips(8)
    found = code_together(codec, CARD, given, POINTS, POINTS[1])
    assert list(found) == list(given)
    assert asked is None or codec.asked == asked
    for name, clip in given.items():
        alone = list(code_clip(Room(size, odd), CARD, clip, POINTS, POINTS[1]))
        assert [(point, facts(outcome)) for point, outcome in found[name]] == [(p, facts(o)) for p, o in alone]
    failed = [name for name, own in found.items() if isinstance(own[0][1], SystemFailure)]
    assert failed == (list(given) if not size else [odd] * bool(odd))


def test_each_has_its_share_of_the_time_by_its_length() -> None:
    found = code_together(Room(8), CARD, clips(3), POINTS, POINTS[1])
    coded = [own[0][1] for own in found.values()]
    assert all(isinstance(one, Coded) for one in coded)
    seconds = [one.encode_seconds for one in coded if isinstance(one, Coded) and one.encode_seconds]
    assert np.array(seconds) / seconds[0] == pytest.approx(np.array([80, 81, 82]) / 80)


@given(st.lists(st.integers(0, 5)))
def test_groups_come_back_in_order(items: list[int]) -> None:
    groups: list[list[int]] = []

    def work(group: list[int]) -> list[str]:
        groups.append(group)
        return [f"<{item}>" for item in group]

    assert in_groups(items, lambda item: item % 3, work) == [f"<{item}>" for item in items]
    assert len(groups) == len({item % 3 for item in items})


@pytest.mark.slow
def test_a_run_in_batches_ends_in_the_same_bytes(run: Callable[..., Any], tmp_path: Path) -> None:
    systems = "Steps", "Raises", "NoMemory", "Aborts"
    for out, options in {"alone": (), "batches": ("--batch", "5")}.items():
        run(*systems, out=out, options=options, check=2)
    alone, batches = ((tmp_path / out / "results.parquet").read_bytes() for out in ("alone", "batches"))
    assert alone == batches


def test_a_run_in_batches_is_another_run(run: Callable[..., Any]) -> None:
    run("Steps", options=("--limit", "2"))
    done = run("Steps", options=("--limit", "2", "--batch", "2"), check=1)
    assert "holds another run: systems 'steps' was" in done.stderr


def test_a_batch_has_a_size(run: Callable[..., Any]) -> None:
    assert (
        "'batch': Input should be greater than or equal to 1" in run("Steps", options=("--batch", "0"), check=1).stderr
    )
