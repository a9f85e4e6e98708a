"""Decoding files of unknown origin: a decoder that hangs or dies costs its file, and nothing else."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codecbench.benchmark.datasets import decoders as module
from codecbench.benchmark.datasets.base import Dataset, DatasetCard, Utterance, check
from codecbench.benchmark.datasets.decoders import Decoders
from codecbench.benchmark.datasets.registry import open_dataset
from codecbench.recording import DataError

UTTERANCE = Utterance("u", Path("some.wav"))
DATASET = Dataset(DatasetCard("d"), (UTTERANCE,))


@pytest.fixture
def decoders() -> Any:
    made: list[Decoders] = []

    def make(examine: Callable[..., Any]) -> Decoders:
        made.append(Decoders(examine, DATASET))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_file_that_takes_too_long_is_given_up_and_its_decoder_ended(
    recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_dataset(str(recordings))
    assert len(check(dataset)) == 12
    monkeypatch.setattr(module, "SECONDS", 0.0)
    ended: list[int] = []
    end = module._Decoder.end

    def count(decoder: module._Decoder) -> None:
        ended.append(1)
        end(decoder)

    monkeypatch.setattr(module._Decoder, "end", count)
    with pytest.raises(DataError, match=r"12 of 12 recordings.*00\.wav: decode_timeout: not decoded after 0 s"):
        check(dataset)
    assert len(ended) >= 12


def test_a_decoder_that_dies_is_replaced(decoders: Any) -> None:
    asked = decoders(os._exit)  # called with a dataset and an utterance, it raises TypeError, which ends the process
    for _ in range(2):
        with pytest.raises(DataError, match=r"some\.wav: its decoder crashed"):
            asked.ask(UTTERANCE)


def test_what_it_says_of_a_file_arrives_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"<html>not audio")
    with pytest.raises(DataError, match=r"1 of 1 recordings.*bad\.wav"):
        check(Dataset(DatasetCard("d"), (Utterance("bad", tmp_path / "bad.wav"),)))


def test_no_process_is_left(recordings: Path) -> None:
    import multiprocessing

    before = set(multiprocessing.active_children())
    check(open_dataset(str(recordings)))
    assert set(multiprocessing.active_children()) <= before
