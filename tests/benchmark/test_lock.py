"""One writer a run folder."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from codecbench.benchmark.lock import locked
from codecbench.errors import InfrastructureError, UsageError

HOLD = """
import sys, time
from pathlib import Path
from codecbench.benchmark.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_is_told_who_holds_it_and_a_killed_holder_frees_it_at_once(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        started = time.monotonic()
        with (
            pytest.raises(InfrastructureError, match=rf"locked by pid {holder.pid} host \S+ since 20"),
            locked(tmp_path),
        ):
            pass
        assert time.monotonic() - started < 1
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("parent", ["a file", "a read-only file system"])
def test_a_folder_that_cannot_be_written_is_a_usage_error(tmp_path: Path, parent: str) -> None:
    folder = Path("/sys") if parent == "a read-only file system" else tmp_path / "file"
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=rf"cannot write to {folder}/run: .*; choose another --out"):
        locked(folder / "run").__enter__()
