import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from codecbench.benchmark.cache import DiskCache
from codecbench.benchmark.datasets import base, checked
from codecbench.benchmark.datasets.base import Dataset, DatasetCard, Utterance
from codecbench.benchmark.datasets.decoders import Decoders
from codecbench.recording import DataError


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    import soundfile

    monkeypatch.setattr(checked, "SETTLED_SECONDS", -1.0)
    for number in range(3):
        soundfile.write(tmp_path / f"{number}.wav", np.random.default_rng(number).normal(0, 0.1, 800), 8000)
    return Dataset(DatasetCard("d"), tuple(Utterance(str(n), tmp_path / f"{n}.wav") for n in range(3)))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the recordings that were decoded, here and not in a process of their own."""
    found: list[str] = []

    def ask(decoders: Decoders, utterance: Utterance) -> base.Checked:
        found.append(utterance.id)
        return base._check(decoders._dataset, utterance)

    monkeypatch.setattr(Decoders, "ask", ask)
    return found


def test_only_what_has_changed_is_decoded_again(dataset: Dataset, tmp_path: Path, decoded: list[str]) -> None:
    cache = DiskCache(tmp_path / "cache")
    first = checked.check_changed(dataset, cache)
    assert sorted(decoded) == ["0", "1", "2"]
    assert first == base.check(dataset)
    decoded.clear()
    assert checked.check_changed(dataset, cache) == first
    assert decoded == []

    file = dataset.utterances[1].path
    file.write_bytes(dataset.utterances[0].path.read_bytes())
    second = checked.check_changed(dataset, cache)
    assert decoded == ["1"]
    assert second[1].digest == first[0].digest != first[1].digest
    assert [second[0], second[2]] == [first[0], first[2]]


def test_a_change_behind_the_same_size_and_time_is_seen(dataset: Dataset, tmp_path: Path, decoded: list[str]) -> None:
    cache = DiskCache(tmp_path / "cache")
    checked.check_changed(dataset, cache)
    decoded.clear()
    file = dataset.utterances[1].path
    before = file.stat()
    file.write_bytes(dataset.utterances[0].path.read_bytes())
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    checked.check_changed(dataset, cache)
    assert decoded == ["1"]


def test_another_policy_or_stated_digest_is_another_check(dataset: Dataset, tmp_path: Path, decoded: list[str]) -> None:
    cache = DiskCache(tmp_path / "cache")
    checked.check_changed(dataset, cache)
    decoded.clear()
    checked.check_changed(replace(dataset, card=replace(dataset.card, channels="reject")), cache)
    assert len(decoded) == 3
    wrong = replace(dataset.utterances[0], sha256="0" * 64)
    with pytest.raises(Exception, match="is not the file that the dataset names"):
        checked.check_changed(replace(dataset, utterances=(wrong, *dataset.utterances[1:])), cache)


def test_a_file_that_has_just_changed_is_not_trusted(
    dataset: Dataset, tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checked, "SETTLED_SECONDS", 60.0)
    cache = DiskCache(tmp_path / "cache")
    for _ in range(2):
        checked.check_changed(dataset, cache)
    assert len(decoded) == 6
    monkeypatch.setattr(time, "time", lambda: dataset.utterances[0].path.stat().st_ctime + 61)
    for _ in range(2):
        checked.check_changed(dataset, cache)
    assert len(decoded) == 9


def test_problems_are_told_again(dataset: Dataset, tmp_path: Path, decoded: list[str]) -> None:
    dataset.utterances[1].path.write_bytes(b"no audio")
    cache = DiskCache(tmp_path / "cache")
    for _ in range(2):
        with pytest.raises(DataError, match="1 of 3 recordings of 'd' cannot be used: '1'"):
            checked.check_changed(dataset, cache)
    assert "1" in decoded
