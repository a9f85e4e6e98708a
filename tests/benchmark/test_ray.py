"""The Ray engine: the parts that need no cluster, and whole runs on a cluster of two nodes of this machine."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from codecbench.benchmark.datasets.base import Asked, Dataset, DatasetCard, Utterance
from codecbench.benchmark.plan import Needs
from codecbench.benchmark.sweep import Sweep
from codecbench.errors import InfrastructureError, UsageError

ADAPTERS = Path(__file__).with_name("adapters.py")
Command = Callable[..., list[str]]
ToldOf = Callable[[Path], dict[int, str]]
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@needs_ray
@pytest.mark.slow  # it is not, but CI has Ray only there
@pytest.mark.parametrize("listens", [False, True])
def test_an_address_that_does_not_answer_is_one_line_within_ten_seconds(command: Command, listens: bool) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if listens:
            silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1] if listens else free_port()}"
        script = f"from codecbench.benchmark.ray_cluster import check_address; check_address('{address}')"
        subprocess.run([sys.executable, "-c", script], stderr=subprocess.DEVNULL, check=False)  # imports are in memory
        started = time.monotonic()
        options = ("--engine", "ray", "--address", address)
        done = subprocess.run(command("identity", options=options), capture_output=True, text=True, check=False)
    assert time.monotonic() - started < 10
    assert done.returncode == 4
    assert done.stderr.startswith(f"codecbench: no Ray cluster answers at {address}: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--engine", "ray", "--address", "ray://127.0.0.1:10001"), "is no address of a Ray cluster"),
        (("--engine", "ray", "--address", "somewhere"), "is no address of a Ray cluster"),
        (("--address", "127.0.0.1:6379"), "it goes with --engine ray"),
    ],
)
def test_a_wrong_address_is_one_line(command: Command, options: tuple[str, ...], message: str) -> None:
    done = subprocess.run(command("identity", options=options), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr


@needs_ray
@pytest.mark.slow
def test_what_ray_raises_is_one_line_that_says_what_to_do() -> None:
    from ray.exceptions import ObjectStoreFullError, OutOfDiskError, RaySystemError, RayTaskError

    from codecbench.benchmark.ray_cluster import explained

    for error in (ObjectStoreFullError("Failed to put object"), OutOfDiskError("Local disk is full")):
        assert "Ray's object store is full" in str(explained(error))
    ours = RayTaskError("arrive", "Traceback\n  many lines", InfrastructureError("node x has numpy 1"))
    assert str(explained(ours)) == "node x has numpy 1"
    lost = explained(RaySystemError("broken\npipe"))
    assert isinstance(lost, InfrastructureError)
    assert "\n" not in str(lost)
    assert "run the same command again to resume" in str(lost)


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("1 worker(s) were killed due to the node running low on memory.", "node out of memory"),
        ("The actor died because its node has died. Node Id: 12", "node lost"),
        ("its worker process has died. Worker exit type: SYSTEM_ERROR", "process lost"),
    ],
)
def test_a_lost_actor_is_no_fault_of_the_system(said: str, cause: str) -> None:
    from codecbench.benchmark.ray_engine import _death

    death = _death(RuntimeError(said))
    assert (death.cause, death.foreign) == (cause, True)


def test_a_node_that_would_give_other_results_is_refused(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from codecbench.benchmark.environment import versions
    from codecbench.benchmark.ray_seat import Origin, difference

    adapter = tmp_path / "mine.py"
    system = SimpleNamespace(target=f"{adapter}:Mine", code="0" * 64)
    plan: Any = SimpleNamespace(systems={"mine": system})
    assert "has no " in difference("x", plan, Origin(tmp_path, {}, versions(), ""))
    adapter.write_text("")
    assert "has another " in difference("x", plan, Origin(tmp_path, {}, versions(), ""))
    other = {**versions(), "numpy": "1.0"}
    assert "node x has numpy 2" in difference("x", plan, Origin(tmp_path, {}, other, ""))
    empty: Any = SimpleNamespace(systems={})
    assert difference("x", empty, Origin(tmp_path, {}, versions(), "")) == ""


def test_recordings_that_are_brought_keep_their_facts_and_have_names_of_their_own() -> None:
    from codecbench.benchmark.ray_seat import moved, name_of, recordings_of

    asked = Asked("tts", "hello", prompt=Path("a/voice.wav"))
    utterances = (Utterance("u", Path("a/1.wav"), speaker="s"), Utterance("v", Path("b/1.wav"), asked=asked))
    dataset = moved(Dataset(DatasetCard("d"), utterances), Path("/there"))
    files = [path for utterance in dataset.utterances for path in recordings_of(utterance)]
    assert len(set(files)) == 3
    assert {path.parent for path in files} == {Path("/there")}
    assert {path.suffix for path in files} == {".wav"}
    assert files[0].name == name_of(Path("a/1.wav"))
    assert [(u.id, u.speaker) for u in dataset.utterances] == [("u", "s"), ("v", "")]


@pytest.mark.parametrize(
    ("needs", "workers"),
    [
        (Needs(), 5), (Needs(cpus=4), 1), (Needs(cpus=5), 0), (Needs(gpus=0.1), 4), (Needs(gpus=1), 2),
        (Needs(cpus=0.1, gpus=0.3), 6), (Needs(gpus=2), 1), (Needs(cpus=1, memory_gb=3), 2),
    ],
)  # fmt: skip
def test_as_many_workers_as_its_nodes_hold(needs: Needs, workers: int) -> None:
    from codecbench.benchmark.ray_cluster import _fits

    nodes = [{"CPU": 4.0, "GPU": 2.0, "memory": 8e9}, {"CPU": 1.0, "memory": 1e9}]
    assert sum(_fits(needs, node) for node in nodes) == workers


def sweep_of(**facts: Any) -> Sweep:
    names = {"models": ["identity"], "datasets": ["demo"], "metrics": ["lsd"]}
    return Sweep.model_validate({**names, **facts})


def test_what_a_worker_needs_is_the_sweeps_and_a_gpu_only_on_a_gpu() -> None:
    from codecbench.benchmark.plan import _needs

    def needs(**facts: Any) -> Needs:
        sweep = sweep_of(**facts)
        return _needs(sweep.models[0], sweep)

    assert needs() == Needs(cpus=1, gpus=0)
    assert needs(device="cuda") == Needs(cpus=1, gpus=1)
    assert needs(device="cuda", resources={"gpus": 0.25}) == Needs(cpus=1, gpus=0.25)
    assert needs(resources={"gpus": 0.25, "cpus": 2}) == Needs(cpus=2, gpus=0)
    own = {"models": [{"name": "identity", "resources": {"memory_gb": 4}}], "resources": {"cpus": 8}}
    assert needs(**own) == Needs(cpus=1, memory_gb=4)
    with pytest.raises(ValueError, match="a whole number of them"):
        sweep_of(resources={"gpus": 1.5})


def test_a_gpu_of_a_number_is_not_for_a_cluster() -> None:
    from types import SimpleNamespace

    from codecbench.benchmark.engines import make_engine

    plan: Any = SimpleNamespace(systems={"a": SimpleNamespace(options=SimpleNamespace(device="cuda:1"))})
    with pytest.raises(UsageError, match="say --device cuda in place of cuda:1"):
        make_engine("ray", plan, None)


def test_logs_of_all_nodes_stand_side_by_side_and_equal_evidence_is_one_file(tmp_path: Path) -> None:
    from codecbench.benchmark.plan import Plan
    from codecbench.benchmark.ray_engine import RayEngine

    engine = RayEngine(Plan({}, {}, (), 300, tmp_path, tmp_path), None, None)
    for node in ("n1", "n2"):
        engine._keep(node, "logs/a.12.log", node.encode())
        engine._keep(node, "evidence/ab/abc.flac", b"flac")
    engine._keep("n1", "logs/a.12.log", b"more")
    found = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*.*")}
    assert found == {"logs/a.12.n1.log": b"more", "logs/a.12.n2.log": b"n2", "evidence/ab/abc.flac": b"flac"}


# Whole runs. Each starts processes enough for some ten seconds, and many more on a machine that has other work.


def whole_run(test: Callable[..., None]) -> Callable[..., None]:
    marked: Callable[..., None] = needs_ray(pytest.mark.slow(pytest.mark.timeout(900)(test)))
    return marked


class Nodes:
    """The cluster of `ray_nodes.py`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.address = self._line()
        assert self.address.startswith("127.0.0.2:")

    def tell(self, order: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()
        assert self._line() == "done"

    def _line(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    """Two nodes of one core each."""
    script = Path(__file__).with_name("ray_nodes.py")
    with (
        tempfile.TemporaryDirectory(prefix="cb-", dir="/tmp", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patched,
    ):
        patched.setenv("RAY_TMPDIR", folder)
        patched.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patched.setenv("RAY_AUTH_MODE", "token")
        patched.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        with subprocess.Popen(
            [sys.executable, str(script)], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            yield Nodes(process)
            process.communicate(timeout=60)


class Runs:
    """Runs of one sweep into folders of `tmp_path`, each with a cache of its own, so that none knows of the others."""

    def __init__(self, command: Command, tmp_path: Path, rows_on_disk: Callable[[Path], int]) -> None:
        self.command, self.folder, self.rows_on_disk = command, tmp_path, rows_on_disk

    def environment(self, out: str) -> dict[str, str]:
        return {**os.environ, "CODECBENCH_CACHE": str(self.folder / f"cache-{out}")}

    def start(self, out: str, *systems: str, options: tuple[str, ...]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*systems, out=out, options=options), env=self.environment(out), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def go(self, out: str, *systems: str, options: tuple[str, ...], check: int = 0) -> str:
        with self.start(out, *systems, options=options) as process:
            _, stderr = process.communicate(timeout=400)
        assert process.returncode == check, stderr
        return stderr

    def bytes_of(self, out: str, name: str = "results") -> bytes:
        return (self.folder / out / f"{name}.parquet").read_bytes()

    def wait_for_rows(self, out: str, rows: int) -> None:
        deadline = time.monotonic() + 300
        while self.rows(out) < rows and time.monotonic() < deadline:
            time.sleep(0.05)
        assert self.rows(out) >= rows

    def rows(self, out: str) -> int:
        """Rows of items that `out` has so far."""
        return self.rows_on_disk(self.folder / out)


@pytest.fixture
def runs(command: Command, tmp_path: Path, rows_on_disk: Callable[[Path], int]) -> Runs:
    return Runs(command, tmp_path, rows_on_disk)


def on(cluster: Nodes) -> tuple[str, ...]:
    return "--engine", "ray", "--address", cluster.address


KEPT = ("--isolation", "none", "--keep-codes", "--keep-audio", "2")


@whole_run
def test_it_ends_in_the_bytes_of_the_local_engine(runs: Runs, cluster: Nodes) -> None:
    systems = "identity", "Steps", "Aborts", "NoMemory", "CannotLoad"
    options = {"a": KEPT, "b": (*KEPT, *on(cluster))}
    told = {out: runs.go(out, *systems, options=more, check=3) for out, more in options.items()}
    assert runs.bytes_of("a") == runs.bytes_of("b")
    assert runs.bytes_of("a", "evidence") == runs.bytes_of("b", "evidence")
    assert sorted(told["a"].splitlines()) == sorted(told["b"].splitlines())
    assert "/u03: failed:crash(SIGABRT)" in told["b"]


def seats(folder: Path, told_of: ToldOf) -> list[int]:
    """The actors whose workers have `folder` in their environment."""
    found = set()
    for pid in told_of(folder):
        with suppress(OSError):
            parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            if Path(f"/proc/{parent}/cmdline").read_bytes().startswith(b"ray::Seat"):
                found.add(parent)
    return sorted(found)


@whole_run
def test_a_killed_actor_and_a_removed_node_change_nothing(
    runs: Runs, cluster: Nodes, tmp_path: Path, processes_told_of: ToldOf
) -> None:
    runs.go("whole", "Slow", "Raises", options=(), check=2)
    cluster.tell("add")
    with runs.start("torn", "Slow", "Raises", options=(*on(cluster), "--jobs", "3")) as process:
        runs.wait_for_rows("torn", 3)
        os.kill(seats(tmp_path, processes_told_of)[0], signal.SIGKILL)
        runs.wait_for_rows("torn", 12)
        cluster.tell("remove")
        assert process.poll() is None
        _, stderr = process.communicate(timeout=400)
    assert process.returncode == 2, stderr
    assert "error:" not in stderr
    assert runs.bytes_of("torn") == runs.bytes_of("whole")
    assert not processes_told_of(tmp_path)


@whole_run
def test_a_cluster_of_its_own_ends_with_an_interrupt_and_the_run_resumes(
    runs: Runs, tmp_path: Path, processes_told_of: ToldOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--limit", "6", "--isolation", "none")
    runs.go("whole", "Slow", options=options)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with runs.start("torn", "Slow", options=(*options, "--engine", "ray")) as process:
        runs.wait_for_rows("torn", 3)
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert time.monotonic() - started < 30
    assert process.returncode == 130, stderr
    assert not processes_told_of(tmp_path)
    assert "resumed" in runs.go("torn", "Slow", options=options)
    assert runs.bytes_of("torn") == runs.bytes_of("whole")


@whole_run
def test_what_no_node_has_is_one_line(runs: Runs, tmp_path: Path, recordings: Path) -> None:
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(f"models: [identity]\ndatasets: ['{recordings}']\nmetrics: [lsd]\nresources: {{cpus: 1000}}\n")
    options = ("--engine", "ray", "--out", str(tmp_path / "run"))
    arguments = [sys.executable, "-m", "codecbench", "run", str(sweep), *options]
    done = subprocess.run(arguments, env=runs.environment("run"), capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "no node of the cluster has 1000 cores and 0 GPUs" in done.stderr.splitlines()[-1]


def sandboxed_node(cluster: Nodes, hidden: Path) -> list[str]:
    """The command of a node of two cores that sees all of this machine's files but those of `hidden`."""
    start = ("start", "--block", "--address", cluster.address, "--num-cpus", "2", "--node-ip-address", "127.0.0.5")
    return [
        "bwrap", "--dev-bind", "/", "/", "--tmpfs", str(hidden), "--unshare-pid", "--proc", "/proc",
        "--die-with-parent", str(Path(sys.executable).with_name("ray")), *start,
        "--object-store-memory", str(80 << 20),
    ]  # fmt: skip


@whole_run
def test_a_node_without_the_recordings_and_the_run_folder_is_brought_them(
    runs: Runs, cluster: Nodes, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, recordings: Path
) -> None:
    command = sandboxed_node(cluster, tmp_path_factory.getbasetemp())
    works = ["bwrap", "--dev-bind", "/", "/", "--unshare-pid", "--proc", "/proc", "true"]
    if not shutil.which("bwrap") or subprocess.run(works, check=False, capture_output=True).returncode:
        pytest.skip("no bubblewrap")
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(
        f"models: [identity, '{ADAPTERS}:Steps']\ndatasets: ['{recordings}']\nmetrics: [si_sdr, lsd]\n"
        "limit: 4\nisolation: none\nkeep_codes: true\nkeep_audio: 2\nresources: {cpus: 2}\n"
    )
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as node:
        for out, options in {"a": (), "b": on(cluster)}.items():
            arguments = [str(sweep), "--out", str(tmp_path / out), *options]
            done = subprocess.run(
                [sys.executable, "-m", "codecbench", "run", *arguments], env=runs.environment(out), check=False,
                capture_output=True, text=True, timeout=400,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
        node.terminate()
    for name in ("results", "evidence"):
        assert runs.bytes_of("a", name) == runs.bytes_of("b", name)
    kept = [sorted(p.name for p in (tmp_path / out / "evidence").rglob("*.*")) for out in "ab"]
    assert kept[0] == kept[1] != []
