import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecbench.benchmark.cache import DiskCache
from codecbench.metrics.base import Cache, Signal

KEY = {"what": "transcript", "audio": "ab12", "beam": 5}

json_values = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def files(root: Path, pattern: str = "*") -> list[Path]:
    return sorted(path for path in root.rglob(pattern) if path.is_file())


def test_is_a_cache(tmp_path: Path) -> None:
    cache: Cache = DiskCache(tmp_path)
    assert cache.get(KEY) is None


@given(value=json_values)
def test_every_json_value_comes_back_in_another_instance(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    root = tmp_path_factory.mktemp("cache")
    DiskCache(root).put(KEY, value)
    assert DiskCache(root).get(KEY) == value
    assert len(files(root)) == 1


def test_order_of_the_key_does_not_matter_but_every_part_of_it_does(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    cache.put(KEY, "words")
    assert cache.get(dict(reversed(KEY.items()))) == "words"
    assert cache.get({**KEY, "beam": 1}) is None
    assert cache.get({**KEY, "model": ""}) is None


def test_nothing_in_a_file_depends_on_time_or_place(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        DiskCache(tmp_path / folder).put(KEY, [0.1, "é"])
    one, two = (files(tmp_path / folder)[0] for folder in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    assert one.relative_to(tmp_path / "one") == two.relative_to(tmp_path / "two")


@pytest.mark.parametrize("value", [(1, 2), {1: "a"}, {"a": (1,)}])
def test_refuses_a_value_that_would_come_back_changed(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ValueError, match="not a plain JSON value"):
        DiskCache(tmp_path).put(KEY, value)


def test_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        DiskCache(tmp_path).put(KEY, float("nan"))


def corruptions(good: bytes) -> dict[str, bytes]:
    blob = json.loads(good)
    foreign = {**blob, "key": {**blob["key"], "audio": "cd34"}}
    return {
        "empty": b"",
        "torn": good[: len(good) // 2],
        "binary": b"\xff\xfe\x00",
        "another shape": b"[1, 2]",
        "value changed": good.replace(b"words", b"sword"),
        "foreign": json.dumps(foreign).encode(),
    }


@pytest.mark.parametrize("kind", list(corruptions(b'{"key": {"audio": ""}}')))
def test_a_corrupt_file_is_set_aside_with_one_warning_and_computed_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    cache = DiskCache(tmp_path)
    cache.put(KEY, "words")
    path = files(tmp_path)[0]
    bad = corruptions(path.read_bytes())[kind]
    path.write_bytes(bad)

    with caplog.at_level(logging.WARNING):
        assert cache.get(KEY) is None
        assert cache.get(KEY) is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "is corrupt" in caplog.text
    assert [path.read_bytes() for path in files(tmp_path, "*.bad")] == [bad]

    cache.put(KEY, "words")
    assert cache.get(KEY) == "words"


def test_a_disk_that_refuses_costs_one_warning_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    cache = DiskCache(tmp_path)
    with caplog.at_level(logging.WARNING):
        monkeypatch.setattr(Path, "replace", full)
        for beam in range(3):
            cache.put({**KEY, "beam": beam}, "words")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "No space left on device" in caplog.text
    assert files(tmp_path) == []


def test_a_root_that_is_no_folder_costs_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "file"
    root.write_text("in the way")
    cache = DiskCache(root)
    with caplog.at_level(logging.WARNING):
        cache.put(KEY, 1)
        assert cache.get(KEY) is None
    assert len(caplog.records) == 1


WRITE_AND_READ = """
import sys
from pathlib import Path
from codecbench.benchmark.cache import DiskCache
cache = DiskCache(Path(sys.argv[1]))
wrong = 0
for _ in range(40):
    for item in range(5):
        cache.put({"item": item}, ["x" * 2000, item])
        wrong += cache.get({"item": item}) != ["x" * 2000, item]
print(wrong)
"""


def test_many_writers_of_one_key_never_see_half_a_value(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITE_AND_READ, str(tmp_path)]
    writers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [writer.communicate(timeout=60)[0] for writer in writers] == ["0\n"] * 3
    assert len(files(tmp_path)) == 5


def test_a_signal_remembers_through_it(tmp_path: Path) -> None:
    import numpy as np

    calls: list[int] = []

    def compute() -> str:
        calls.append(1)
        return "words"

    samples = np.linspace(-1, 1, 100, dtype=np.float32)
    for _ in range(2):
        signal = Signal(samples, 16_000, DiskCache(tmp_path))
        assert signal.remember({"model": "m"}, compute) == "words"
    other = Signal(samples, 8_000, DiskCache(tmp_path))
    assert other.remember({"model": "m"}, compute) == "words"
    assert len(calls) == 2
