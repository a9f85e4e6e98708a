"""What becomes of each adapter of ``processes.py``, at each level of isolation: a status, and nothing left behind."""

import fcntl
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from codecbench.audio import Clip
from codecbench.benchmark.coding import Coded, SystemFailure, code_clip
from codecbench.benchmark.isolation.client import IsolatedCodec
from codecbench.benchmark.isolation.describe import describe
from codecbench.benchmark.isolation.hosts import HostSettings
from codecbench.benchmark.isolation.levels import Level, Limits
from codecbench.benchmark.isolation.loading import LoadFailure
from codecbench.benchmark.isolation.log import HALF_BYTES
from codecbench.models.base import Card, LoadOptions

FILE = Path(__file__).with_name("processes.py")
LIMITS = Limits(item_seconds=30, load_seconds=60, memory=600_000_000, tasks=100)
HURRIED = Limits(item_seconds=2, load_seconds=60, memory=600_000_000, tasks=100)
needs_bwrap = pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap is not installed")
LEVELS = ("process", pytest.param("bwrap", marks=needs_bwrap))

Rogue = Callable[..., IsolatedCodec]


@pytest.fixture(scope="module")
def card() -> Card:
    return describe(f"{FILE}:Sound", "process").card


@pytest.fixture
def rogue(
    card: Card, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes_told_of: Callable[[Path], dict[int, str]]
) -> Iterator[Rogue]:
    """Hosts one; afterwards no process that was started for it may be left."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path / "cache"))  # a host is told of it: that tells ours apart
    codecs = []

    def host(name: str, level: Level = "process", limits: Limits = LIMITS, *, audit: bool = False) -> IsolatedCodec:
        settings = HostSettings(f"{FILE}:{name}", LoadOptions(), level, limits, audit=audit, log=tmp_path / "log.txt")
        codec = IsolatedCodec(card, settings)
        codecs.append(codec)
        codec.start()
        assert processes_told_of(tmp_path)
        return codec

    yield host
    for codec in codecs:
        codec.close()
    assert not processes_told_of(tmp_path)


def clip(*, marked: bool = False) -> Clip:
    samples = np.asarray(np.sin(np.arange(800) / 9)[None] / 2, np.float32)
    samples[0, 0] = 1.0 if marked else 0.0
    samples.setflags(write=False)
    return Clip(samples, 8000)


def outcome(codec: IsolatedCodec, given: Clip) -> Coded | SystemFailure:
    ((_, found),) = code_clip(codec, codec.card, given, codec.card.points)
    return found


def reason(codec: IsolatedCodec, *, marked: bool = True) -> str:
    """The reason for which an item failed; empty if it did not."""
    found = outcome(codec, clip(marked=marked))
    return str(found) if isinstance(found, SystemFailure) else ""


def sound_but_for_the_deed(codec: IsolatedCodec) -> str:
    """Code a clip, a marked one and another; only the marked one may fail. Returns its reason."""
    assert reason(codec, marked=False) == ""
    found = reason(codec)
    assert reason(codec, marked=False) == ""
    return found


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Sound", ""),
        ("Segfaults", "crash(SIGSEGV)"),
        ("Aborts", "crash(SIGABRT)"),
        ("OverflowsTheStack", "crash(SIGSEGV)"),
        ("ExitsAtOnce", "crash(exit 0)"),
        ("ExitsPolitely", "crash(exit 0)"),
        ("KillsItself", "crash(SIGKILL)"),
        ("AllocatesAtOnce", "memory"),
        ("Leaks", "memory"),
        ("LosesTheDevice", "device(CUDA error: device-side assert triggered)"),
        ("SendsLooseCodes", "codes(stream 0 has codes in [16384, 1099511627776]"),
        ("Daemonises", ""),
        ("ClosesItsOutput", ""),
        ("PatchesNumpy", ""),
        ("PrintsAnAnswer", "crash(exit 0)"),
        ("SpeaksOutOfTurn", "contract(protocol: it does not begin with the mark of a message)"),
        ("AnswersAnotherRequest", "contract(protocol: it answers another request)"),
        ("AnnouncesTooMuch", "contract(protocol: a header of 100 and a body of"),
        ("NestsDeeply", "contract(protocol: its header is no JSON)"),
        ("SendsAPickle", "contract(protocol: it does not begin with the mark of a message)"),
        ("RaisesOddly", "exception(Odd [2J:  [31mlong long"),
    ],
)
def test_a_deed_costs_its_item_and_no_other(
    rogue: Rogue, level: Level, name: str, expected: str, tmp_path: Path
) -> None:
    mean = np.mean
    found = sound_but_for_the_deed(rogue(name, level))
    assert found.startswith(expected)
    assert bool(found) == bool(expected)
    assert np.mean is mean
    assert not (tmp_path / "canary").exists()


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ["Sleeps", "HoldsTheInterpreter", "Deadlocks", "IgnoresSignals"])
def test_what_hangs_is_killed_within_two_seconds_of_its_limit(rogue: Rogue, level: Level, name: str) -> None:
    codec = rogue(name, level, HURRIED)
    started = time.monotonic()
    assert reason(codec) == "timeout(2 s)"
    assert 2 <= time.monotonic() - started < 4
    assert reason(codec, marked=False) == ""
    assert codec.condemned() == ""


def test_a_host_killed_from_outside_costs_nothing(rogue: Rogue) -> None:
    codec = rogue("TakesItsTime")
    for _ in range(2):
        pid = codec.process("decode")
        assert pid is not None
        killer = threading.Timer(0.2, os.kill, (pid, signal.SIGKILL))
        killer.start()
        assert reason(codec) == ""
        killer.join()
        assert codec.process("decode") != pid


@pytest.mark.usefixtures("no_leftovers")
def test_what_a_device_failed_is_tried_once_more(rogue: Rogue) -> None:
    codec = rogue("LosesTheDeviceOnce")
    before = codec.process("decode")
    assert sound_but_for_the_deed(codec) == ""
    assert codec.process("decode") != before


def test_three_timeouts_in_a_row_are_enough(rogue: Rogue) -> None:
    codec = rogue("Sleeps", limits=Limits(0.5, 60, 600_000_000))
    for marked in (True, True, False, True, True, True):
        assert codec.condemned() == ""
        assert reason(codec, marked=marked) == ("timeout(0.5 s)" if marked else "")
    assert codec.condemned() == "timeout(3 items in a row)"


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("name", "refused"),
    [("ForksOn", "exception(BlockingIOError: "), ("StartsThreads", "exception(RuntimeError: can't")],
)
def test_processes_and_threads_are_counted(rogue: Rogue, level: Level, name: str, refused: str) -> None:
    # The kernel refuses more where a control group may be made; elsewhere the supervisor sees them and ends the host.
    found = sound_but_for_the_deed(rogue(name, level))
    assert found.startswith((refused, "crash(more than 100 processes and threads)"))


@pytest.mark.parametrize("name", ["PrintsMuch", pytest.param("PrintsVeryMuch", marks=pytest.mark.slow)])
def test_what_is_printed_is_capped(rogue: Rogue, name: str, tmp_path: Path) -> None:
    codec = rogue(name)
    assert sound_but_for_the_deed(codec) == ""
    codec.close()
    text = (tmp_path / "log.txt").read_text()
    assert "bytes left out]" in text
    assert HALF_BYTES < len(text) <= 2 * HALF_BYTES + 100


def test_what_is_printed_has_no_control_characters(rogue: Rogue, tmp_path: Path) -> None:
    codec = rogue("PrintsControls")
    assert sound_but_for_the_deed(codec) == ""
    codec.close()
    text = (tmp_path / "log.txt").read_text()
    assert "visible" in text
    assert all(c == "\n" or c == "\t" or c.isprintable() for c in text)


@pytest.mark.parametrize(
    ("level", "expected"), [("process", "crash(SIGKILL)"), pytest.param("bwrap", "", marks=needs_bwrap)]
)
def test_killing_its_parent_ends_the_host_at_most(rogue: Rogue, level: Level, expected: str) -> None:
    assert sound_but_for_the_deed(rogue("KillsItsParent", level)) == expected


@pytest.mark.parametrize("name", ["WritesElsewhere", "ChangesAFile"])
def test_writing_elsewhere_is_seen(rogue: Rogue, tmp_path: Path, name: str) -> None:
    (tmp_path / "results.csv").write_text("0.5\n")
    codec = rogue(name)
    assert reason(codec, marked=False) == ""
    assert codec.witnessed.trespassed([tmp_path]) == ""
    assert reason(codec) == ""
    written = tmp_path / ("written-by-rogue" if name == "WritesElsewhere" else "results.csv")
    assert codec.witnessed.trespassed([tmp_path]) == f"wrote_outside({written})"
    assert codec.witnessed.trespassed([tmp_path / "elsewhere"]) == ""


@needs_bwrap
@pytest.mark.parametrize("name", ["WritesElsewhere", "ChangesAFile"])
def test_in_a_sandbox_there_is_nowhere_else_to_write(rogue: Rogue, tmp_path: Path, name: str) -> None:
    (tmp_path / "results.csv").write_text("0.5\n")
    codec = rogue(name, "bwrap")
    assert sound_but_for_the_deed(codec).startswith("exception(")
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]
    assert (tmp_path / "results.csv").read_text() == "0.5\n"
    assert codec.witnessed.trespassed([tmp_path]) == ""


def test_the_network_is_seen(rogue: Rogue) -> None:
    codec = rogue("UsesTheNetwork")
    assert sound_but_for_the_deed(codec) in ("", "exception(OSError: [Errno 101] Network is unreachable)")
    assert codec.witnessed.network == {"('192.0.2.1', 9)"}


@needs_bwrap
def test_in_a_sandbox_there_is_no_network(rogue: Rogue) -> None:
    codec = rogue("UsesTheNetwork", "bwrap")
    assert sound_but_for_the_deed(codec) == "exception(OSError: [Errno 101] Network is unreachable)"
    assert codec.witnessed.network == {"('192.0.2.1', 9)"}


@pytest.mark.parametrize("level", LEVELS)
def test_nothing_of_the_users_is_in_sight(rogue: Rogue, level: Level, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "1234")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("LD_PRELOAD", "")
    found = sound_but_for_the_deed(rogue("TellsWhatItSees", level))
    assert found.startswith("exception(RuntimeError: [] ['CODECBENCH_CACHE', ")  # its folder is empty
    assert "…" not in found  # nothing was cut off
    for hidden in ("SECRET_TOKEN", "PYTHONPATH", "LD_PRELOAD", "PYTEST", str(Path.cwd()), "USER"):
        assert hidden not in found


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CannotBeLoaded", "load(crash(SIGABRT): cannot find libcodec.so)"),
        ("NoCodec", "load(TypeError: "),
        ("CountsOddly", "load(contract(its parameters are 1000"),
    ],
)
def test_a_system_that_cannot_be_loaded_says_why(rogue: Rogue, level: Level, name: str, expected: str) -> None:
    with pytest.raises(LoadFailure) as caught:
        rogue(name, level)
    assert str(caught.value).startswith(expected)


def audited(codec: IsolatedCodec) -> str:
    found = outcome(codec, clip())
    return str(found) if isinstance(found, SystemFailure) else ""


@pytest.fixture
def no_leftovers() -> Iterator[None]:
    """Remove what smugglers leave, before and after, while no other process of tests is about to."""
    left = [Path("/dev/shm/codecbench-rogue.npy"), Path("/dev/shm/codecbench-rogue")]  # noqa: S108
    with Path("/dev/shm/codecbench-rogue.lock").open("w") as lock:  # noqa: S108
        fcntl.flock(lock, fcntl.LOCK_EX)
        for path in left:
            path.unlink(missing_ok=True)
        yield
        for path in left:
            path.unlink(missing_ok=True)


@pytest.mark.usefixtures("no_leftovers")
@pytest.mark.parametrize(
    ("name", "unaudited", "at_process", "at_bwrap"),
    [
        ("Sound", "", "", ""),
        ("Remembers", "", "exception(IndexError: ", "exception(IndexError: "),
        # Processes that share a disk share what lies on it: only the sandbox's audit finds these.
        ("LeavesAFile", "", "", "exception(FileNotFoundError: "),
        ("SharesMemory", "", "", "exception(FileNotFoundError: "),
    ],
)
def test_only_bytes_pass_from_encoder_to_decoder_in_an_audit(
    rogue: Rogue, name: str, unaudited: str, at_process: str, at_bwrap: str
) -> None:
    assert audited(rogue(name)) == unaudited
    for path in ("/dev/shm/codecbench-rogue.npy", "/dev/shm/codecbench-rogue"):  # noqa: S108
        Path(path).unlink(missing_ok=True)
    assert audited(rogue(name, audit=True)).startswith(at_process)
    if shutil.which("bwrap"):
        found = audited(rogue(name, "bwrap", audit=True))
        assert found.startswith(at_bwrap)
        assert bool(found) == bool(at_bwrap)


@needs_bwrap
def test_a_sandbox_shows_neither_recordings_nor_results_nor_home(rogue: Rogue, tmp_path: Path) -> None:
    codec = rogue("Sound", "bwrap")
    pid = codec.process("encode")
    assert pid is not None
    root = Path(f"/proc/{pid}/root")
    if not os.access(root, os.R_OK):
        pytest.skip("this user may not look into the sandbox")
    assert not Path(f"{root}{tmp_path}").exists()
    home, python = Path.home(), Path(sys.base_prefix).resolve()
    assert not home.is_relative_to(python)
    ours = [python.relative_to(home).parts[0]] if python.is_relative_to(home) else []
    seen = Path(f"{root}{home}")
    assert [path.name for path in seen.iterdir()] == ours if seen.exists() else not ours
    assert not Path(f"{root}{FILE.parent}/test_processes.py").exists()
    assert Path(f"{root}{FILE}").exists()
    import codecbench.benchmark.datasets as datasets

    for folder in datasets.__path__:
        assert list(Path(f"{root}{Path(folder).resolve()}").iterdir()) == []
