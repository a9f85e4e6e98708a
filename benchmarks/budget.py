r"""Where the time of a sweep goes: in encoders, in decoders, in each metric, and in everything else.

    python benchmarks/budget.py                                        # the demo sweep, on 1 process and on 2
    python benchmarks/budget.py --dataset FOLDER --models opus,encodec_24khz --random-weights 0 --metrics pesq_wb,stoi
    python benchmarks/budget.py --nested encodec_24khz --points 1.5kbps,3kbps,6kbps,12kbps,24kbps

Every sweep runs cold: nothing is taken from earlier runs. Seconds of encoders and decoders are those of the processes
that host them. The loading of codecs, with the libraries that they import, has a row of its own; that of a metric's
model is in its first value. "Else" is all processor time that is in none of these, with its largest parts below. The
bound is the kernels' own processor time over the processes: no order of the same work ends earlier. Where other
programs share the machine, read the processor time.

With `--nested`, the sweep of all points is compared with one sweep a point: the seconds inside the adapter.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest.mock import patch

from codecbench.benchmark import coding, isolation, probe, scoring, worker
from codecbench.benchmark.evidence import Keeper
from codecbench.benchmark.isolation import client, hosts
from codecbench.benchmark.isolation.process import HostProcess
from codecbench.benchmark.isolation.protocol import Message
from codecbench.benchmark.isolation.supervise import descendants
from codecbench.benchmark.plan import Plan
from codecbench.benchmark.run import run_sweep
from codecbench.benchmark.sweep import Sweep, read_sweep

FOLDER = "CODECBENCH_BUDGET"
DEMO = Path(isolation.__file__).parents[1] / "demo.yaml"
TICK = os.sysconf("SC_CLK_TCK")
KERNELS = ("encode", "decode", "load", "metric ")


def main() -> None:
    """Measure, and print tables in Markdown."""
    options = _options()
    sweep = _sweep(options)
    if options.nested:
        _print_nested(sweep)
        return
    for jobs in options.jobs:
        measured = measure(sweep, jobs)
        print(f"\n## {jobs} process{'es' * (jobs > 1)}\n")
        print(table(measured, jobs))


def measure(sweep: Sweep, jobs: int) -> dict[str, Any]:
    """Run `sweep` cold; returns wall and processor seconds, in all and by part."""
    with tempfile.TemporaryDirectory() as name, patch.dict(os.environ, {FOLDER: name}):
        with patch.object(worker, "main", timed_worker):
            before = _cpu_here()
            started = time.perf_counter()
            run_sweep(sweep, Path(name, "run"), jobs=jobs, quiet=True, cache=False)
            wall = time.perf_counter() - started
            spent = _cpu_here() - before
        workers = [json.loads(file.read_text()) for file in Path(name).glob("worker-*.json")]
    parts: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for part, (cpu, seconds) in (item for found in workers for item in found["parts"].items()):
        parts[part][0] += cpu
        parts[part][1] += seconds
    coordinator = spent - sum(found["own"] for found in workers)
    each = [found["cpu"] for found in workers]
    return {"wall": wall, "cpu": coordinator + sum(each), "coordinator": coordinator, "workers": each, "parts": parts}


def table(measured: dict[str, Any], jobs: int) -> str:
    """The budget as Markdown."""
    parts, total = measured["parts"], measured["cpu"]
    kernels = {name: spent for name, spent in parts.items() if name.startswith(KERNELS)}
    own = sum(cpu for cpu, _ in kernels.values())
    bound = own / jobs
    lines = ["| Part | Processor, s | Share | Wall, s |", "|---|--:|--:|--:|"]
    lines += [_line(name, cpu, wall, total) for name, (cpu, wall) in _largest_first(kernels)]
    lines.append(_line("**else**", total - own, None, total))
    rest = {name: spent for name, spent in parts.items() if name not in kernels}
    rest["coordinator, with the check of recordings"] = [measured["coordinator"], measured["wall"]]
    untold = total - own - sum(cpu for cpu, _ in rest.values())
    lines += [_line(f"else: {name}", cpu, wall, total) for name, (cpu, wall) in _largest_first(rest)]
    lines.append(_line("else: what no row names", untold, None, total))
    lines.append(_line("**all**", total, measured["wall"], total))
    return "\n".join(lines) + (
        f"\n\nBound {bound:.1f} s ({own:.1f} s of kernels over {jobs}); wall is {measured['wall'] / bound:.2f} of it. "
        f"Else is {(total - own) / total:.1%} of the processor time. The busiest worker has "
        f"{max(measured['workers']) / sum(measured['workers']) * len(measured['workers']):.2f} times the mean of all."
    )


def _largest_first(parts: dict[str, list[float]]) -> list[tuple[str, list[float]]]:
    return sorted(parts.items(), key=lambda item: -item[1][0])


def _line(name: str, cpu: float, wall: float | None, total: float) -> str:
    return f"| {name} | {cpu:.1f} | {cpu / total:.1%} | {'' if wall is None else f'{wall:.1f}'} |"


def _print_nested(sweep: Sweep) -> None:
    points = sweep.points
    spent = {name: _adapter_seconds(sweep.model_copy(update={"points": (name,)})) for name in points}
    together = _adapter_seconds(sweep)
    lines = ["| Points | Seconds in the adapter |", "|---|--:|"]
    lines += [f"| {name} | {seconds:.1f} |" for name, seconds in spent.items()]
    lines += [f"| sum | {sum(spent.values()):.1f} |", f"| all in one sweep | {together:.1f} |"]
    print("\n".join(lines) + f"\n\nOne sweep takes {together / sum(spent.values()):.2f} of the separate ones.")


def _adapter_seconds(sweep: Sweep) -> float:
    parts = measure(sweep, 1)["parts"]
    return float(parts["encode"][0] + parts["decode"][0])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweep", type=Path, default=DEMO, help="a sweep file; the demo by default")
    parser.add_argument("--dataset", help="a dataset, in place of the sweep's")
    parser.add_argument("--models", help="names, by commas")
    parser.add_argument("--metrics", help="names, by commas")
    parser.add_argument("--points", help="names, by commas")
    parser.add_argument("--limit", type=int, help="the first utterances only")
    parser.add_argument("--random-weights", type=int, help="seed")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--nested", help="a nested codec, whose points are compared with sweeps of their own")
    return parser.parse_args()


def _sweep(options: argparse.Namespace) -> Sweep:
    models = options.nested or options.models
    return read_sweep(options.sweep, {
        "models": _split(models), "datasets": [options.dataset] if options.dataset else None,
        "metrics": ["si_sdr"] if options.nested else _split(options.metrics), "points": _split(options.points),
        "limit": options.limit, "random_weights": options.random_weights,
    })  # fmt: skip


def _split(text: str | None) -> list[str] | None:
    return text.split(",") if text else None


# What follows runs in the workers.


class Clock:
    """Processor and wall seconds by part; a part within another counts for itself alone."""

    def __init__(self) -> None:
        self.parts: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self.ended = 0.0
        self._inside: list[list[float]] = []

    @contextmanager
    def part(self, name: str, also: Callable[[], float] = lambda: 0.0) -> Iterator[None]:
        """Within it, time is that of `name`; `also` tells the processor time of other processes that work for it."""
        self._inside.append([0.0, 0.0])
        cpu, wall = _cpu_here(children=False) + also(), time.perf_counter()
        try:
            yield
        finally:
            spent = [_cpu_here(children=False) + also() - cpu, time.perf_counter() - wall]
            within = self._inside.pop()
            for i in (0, 1):
                self.parts[name][i] += spent[i] - within[i]
                if self._inside:
                    self._inside[-1][i] += spent[i]

    def wrap(self, owner: Any, name: str, part: str | Callable[..., str], also: Any = None) -> None:
        """Time every call of ``owner.name``; `also` is given its arguments."""
        function = getattr(owner, name)

        def timed(*given: Any, **named: Any) -> Any:
            label = part if isinstance(part, str) else part(*given)
            with self.part(label, (lambda: also(*given)) if also else lambda: 0.0):
                return function(*given, **named)

        setattr(owner, name, timed)


def timed_worker(connection: Connection, plan: Plan, lifeline: Connection) -> None:
    """`codecbench.benchmark.worker.main`, with a clock."""
    clock = Clock()
    clock.parts["start of workers"] = [_cpu_here(children=False), 0.0]
    _attach(clock)
    run = worker.Worker.run
    file = Path(os.environ[FOLDER], f"worker-{os.getpid()}.json")

    def told(self: worker.Worker, unit: Any) -> Iterator[Any]:
        yield from run(self, unit)
        cpu = _cpu_here(children=False) + _tree(os.getpid()) + clock.ended
        file.write_text(
            json.dumps({"cpu": cpu, "own": _cpu_here(), "parts": clock.parts})
        )  # the coordinator kills it when all is done

    with patch.object(worker.Worker, "run", told):
        worker.main(connection, plan, lifeline)


def _attach(clock: Clock) -> None:
    for verb in ("encode", "decode"):
        clock.wrap(client.IsolatedCodec, verb, verb, lambda codec, *_: _tree_of(codec))
    clock.wrap(scoring, "evaluate", lambda metric, *_: f"metric {metric.name}")
    clock.wrap(hosts.Hosts, "_running", "start of hosts", lambda codec, *_: _tree_of(codec))
    _attach_to_loading(clock)
    clock.wrap(coding, "pack", "bitstream")
    clock.wrap(coding, "unpack", "bitstream")
    for module in (worker, scoring):
        clock.wrap(module, "codec_input" if module is worker else "resample", "resampling")
    clock.wrap(probe, "estimate", "alignment of systems")
    clock.wrap(probe, "stability", "alignment of systems")
    clock.wrap(scoring.References, "get", "reading of recordings")
    clock.wrap(Keeper, "keep", "evidence")
    clock.wrap(worker, "tokens_of", "token histograms")
    close = hosts.Hosts.close

    def closed(self: hosts.Hosts) -> None:
        clock.ended += _tree_of(self)
        with clock.part("end of hosts"):
            close(self)

    hosts.Hosts.close = closed  # type: ignore[method-assign]


def _attach_to_loading(clock: Clock) -> None:
    ask = HostProcess.ask

    def timed(host: HostProcess, request: Message, deadline: float, cap: int) -> Message:
        if request.kind != "load":
            return ask(host, request, deadline, cap)
        with clock.part("load", lambda: _of(host._supervisor.pid) + _tree(host._supervisor.pid)):
            return ask(host, request, deadline, cap)

    HostProcess.ask = timed  # type: ignore[method-assign, assignment]


def _tree_of(codec: hosts.Hosts) -> float:
    """Processor seconds of the hosts of `codec`, their supervisors, and all that they started."""
    supervisors = [slot.process._supervisor.pid for slot in codec._slots if slot.process]
    return sum(_of(pid) + _tree(pid) for pid in supervisors)


def _tree(pid: int) -> float:
    return sum(map(_of, descendants(pid)))


def _of(pid: int) -> float:
    """Processor seconds of a process and of its children that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / TICK


def _cpu_here(children: bool = True) -> float:
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)[: 1 + children]
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, kinds))


if __name__ == "__main__":
    main()
