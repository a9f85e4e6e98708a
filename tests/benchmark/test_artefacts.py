import logging
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from codecbench.audio import Audio
from codecbench.benchmark.artefacts import Artefacts, size_limit
from codecbench.benchmark.coding import Coded
from codecbench.benchmark.scoring import facts_of
from codecbench.errors import UsageError
from codecbench.models.base import Codes

KEY = {"system": "s", "clip": "ab12"}


def coded(output: Audio) -> Coded:
    codes = Codes(len(output), 8000, 1, (np.array([3, 1, 2]),), (4,))
    return Coded(codes, 8, 40, output, 8000, 0.5, 0.25, 1.0)


def keep(artefacts: Artefacts, output: Audio, key: dict[str, str] = KEY) -> Path:
    item = coded(output)
    before = set(artefacts.root.rglob("*"))
    artefacts.put(key, item, facts_of(item))
    (path,) = (path for path in set(artefacts.root.rglob("*")) - before if path.is_file())
    return path


floats = arrays(np.float32, st.integers(1, 50), elements=st.floats(-4, 4, width=32))
wholes = arrays(np.int16, st.integers(1, 50)).map(lambda whole: whole.astype(np.float32) / np.float32(32_768))


@given(output=floats | wholes)
def test_an_output_comes_back_to_the_last_bit_and_with_no_times(
    tmp_path_factory: pytest.TempPathFactory, output: Audio
) -> None:
    artefacts = Artefacts(tmp_path_factory.mktemp("cache"))
    keep(artefacts, output)
    kept = Artefacts(artefacts.root).look(KEY)
    assert kept is not None
    found = kept.coded()
    assert found is not None
    assert found.output.tobytes() == output.tobytes()
    assert found.output.dtype == np.float32
    assert kept.digest == found.digest == coded(output).digest
    assert (found.encode_seconds, found.decode_seconds, found.memory_mb) == (None, None, None)
    assert facts_of(found) == kept.facts
    assert found.codes.streams[0].tolist() == [3, 1, 2]


def test_whole_numbers_take_half_the_room(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole = keep(Artefacts(tmp_path / "a"), rng.integers(-32_768, 32_768, 9000).astype(np.float32) / np.float32(32_768))
    real = keep(Artefacts(tmp_path / "b"), rng.normal(size=9000).astype(np.float32))
    assert real.stat().st_size - whole.stat().st_size == pytest.approx(2 * 9000, abs=50)  # heads differ a little


def test_another_key_finds_nothing(tmp_path: Path) -> None:
    artefacts = Artefacts(tmp_path)
    keep(artefacts, np.zeros(9, np.float32))
    assert artefacts.look({**KEY, "clip": "cd34"}) is None


@pytest.mark.parametrize("place", [0, 20, 200, -37, -1])
def test_a_changed_byte_is_found_and_the_file_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, place: int
) -> None:
    artefacts = Artefacts(tmp_path)
    path = keep(artefacts, np.linspace(-1, 1, 9, dtype=np.float32))
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        kept = artefacts.look(KEY)
        assert kept is None or kept.coded() is None
    assert caplog.text.count("is corrupt") == 1
    assert not path.exists()
    assert path.with_suffix(".bad").read_bytes() == data
    keep(artefacts, np.linspace(-1, 1, 9, dtype=np.float32))
    assert artefacts.look(KEY) is not None


def test_a_truncated_file_is_found(tmp_path: Path) -> None:
    artefacts = Artefacts(tmp_path)
    path = keep(artefacts, np.linspace(-1, 1, 9, dtype=np.float32))
    whole = path.read_bytes()
    for length in (0, 10, len(whole) - 40, len(whole) - 1):
        path.write_bytes(whole[:length])
        kept = artefacts.look(KEY)
        assert kept is None or kept.coded() is None


def test_a_file_that_is_gone_between_look_and_read_is_none(tmp_path: Path) -> None:
    artefacts = Artefacts(tmp_path)
    path = keep(artefacts, np.zeros(9, np.float32))
    kept = artefacts.look(KEY)
    path.unlink()
    assert kept is not None
    assert kept.coded() is None


def test_a_full_disk_costs_one_warning_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    artefacts, item = Artefacts(tmp_path), coded(np.zeros(9, np.float32))
    monkeypatch.setattr(Path, "write_bytes", full)
    with caplog.at_level(logging.WARNING):
        for clip in "abc":
            artefacts.put({"clip": clip}, item, facts_of(item))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "No space left on device" in caplog.text
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_beyond_the_limit_the_least_recently_used_go_first(tmp_path: Path) -> None:
    artefacts = Artefacts(tmp_path, limit=10_000)
    rng = np.random.default_rng(0)
    paths = [keep(Artefacts(tmp_path), rng.normal(size=500).astype(np.float32), {"clip": str(i)}) for i in range(6)]
    for age, path in enumerate(reversed(paths)):
        os.utime(path, (1e9 - age, 1e9 - age))
    assert artefacts.look({"clip": "0"})  # the oldest is used again
    artefacts.trim()
    left = [i for i, path in enumerate(paths) if path.exists()]
    assert left == [0, *range(6 - len(left) + 1, 6)]
    assert sum(path.stat().st_size for path in paths if path.exists()) <= 9_000


def test_what_is_put_is_held_below_the_limit(tmp_path: Path) -> None:
    artefacts = Artefacts(tmp_path, limit=100_000)
    rng = np.random.default_rng(0)
    for number in range(60):
        item = coded(rng.normal(size=1000).astype(np.float32))
        artefacts.put({"clip": number}, item, facts_of(item))
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 105_000


def test_the_limit_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECBENCH_CACHE_GB", "0.5")
    assert size_limit() == 500_000_000
    monkeypatch.setenv("CODECBENCH_CACHE_GB", "much")
    with pytest.raises(UsageError, match="write a number of gigabytes"):
        size_limit()
