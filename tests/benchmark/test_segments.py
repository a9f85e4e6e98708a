"""Segments: a crash tears only the end, damage is named, and a full disk loses nothing acknowledged."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecbench.benchmark.segments import (
    SegmentWriter,
    decode_line,
    encode_line,
    read_segments,
    write_atomically,
)
from codecbench.errors import InfrastructureError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def write_rows(folder: Path, count: int) -> Path:
    writer = SegmentWriter(folder)
    for number in range(count):
        writer.append({"n": number, "text": 'a "quoted" line\nand ünïcode \udcff'})
    writer.close()
    return writer.path


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_a_row_survives_its_line(row: dict[str, object]) -> None:
    line = encode_line(row)
    assert decode_line(line) == row
    assert line.count(b"\n") == 1
    json.loads(line.decode("utf-8", "surrogatepass"))


def test_nan_is_no_row() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode_line({"value": float("nan")})


@settings(deadline=None)
@given(st.data())
def test_any_flipped_bit_of_a_line_is_noticed(data: st.DataObject) -> None:
    line = bytearray(encode_line({"a": 1, "b": "text"}))
    bit = data.draw(st.integers(0, 8 * len(line) - 1))
    line[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ValueError, match=r"not a row|checksum differs"):
        decode_line(bytes(line))


def test_a_last_row_torn_at_any_byte_is_dropped_and_kept_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_rows(tmp_path, 3)
    whole = path.read_bytes()
    last = len(whole.splitlines(keepends=True)[-1])
    for cut in range(1, last):
        path.write_bytes(whole[:-cut])
        path.with_suffix(".torn").unlink(missing_ok=True)
        caplog.clear()
        assert [row["n"] for _, row in read_segments(tmp_path)] == [0, 1]
        assert path.with_suffix(".torn").read_bytes() == whole[-last:-cut] + b"\n"
        assert path.read_bytes() == whole[:-last]
        assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_damaged_byte_in_the_middle_stops_with_file_line_and_offset(tmp_path: Path) -> None:
    path = write_rows(tmp_path, 3)
    whole = bytearray(path.read_bytes())
    line = len(whole) // 3
    whole[line + 40] ^= 1
    path.write_bytes(whole)
    with pytest.raises(InfrastructureError, match=rf"000001\.jsonl, line 2, offset {line}: damaged row"):
        list(read_segments(tmp_path))
    assert path.read_bytes() == bytes(whole)


def test_each_writer_has_a_segment_of_its_own_and_empty_ones_leave_nothing(tmp_path: Path) -> None:
    write_rows(tmp_path, 2)
    SegmentWriter(tmp_path).close()
    write_rows(tmp_path, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000001.jsonl", "000002.jsonl"]
    assert len(list(read_segments(tmp_path))) == 3


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from codecbench.benchmark.segments import SegmentWriter
from codecbench.errors import InfrastructureError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
writer = SegmentWriter(Path(sys.argv[1]))
try:
    for number in range(10_000):
        writer.append({"n": number, "text": "x" * 50})
except InfrastructureError as error:
    print(writer.acknowledged, error)
"""


def test_a_full_disk_names_itself_and_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    acknowledged, message = done.stdout.split(" ", 1)
    assert message.startswith(f"disk full at {tmp_path}")
    assert int(acknowledged) >= 100
    assert len(list(read_segments(tmp_path))) >= int(acknowledged)


@pytest.mark.parametrize("point", ["before", "written", "synced", "replaced"])
def test_a_kill_during_an_atomic_write_leaves_the_old_file_or_the_new(tmp_path: Path, point: str) -> None:
    target = tmp_path / "file.bin"
    write_atomically(target, b"old")
    code = "import sys; from pathlib import Path; from codecbench.benchmark.segments import write_atomically as w; "
    killed = subprocess.run(
        [sys.executable, "-c", code + "w(Path(sys.argv[1]), b'new' * 1000)", str(target)],
        env={**os.environ, "CODECBENCH_FAILPOINT": f"{point}-file.bin"},
        check=False,
    )
    assert killed.returncode == -9
    assert target.read_bytes() == (b"new" * 1000 if point == "replaced" else b"old")
