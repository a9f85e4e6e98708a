"""Memory and threads of a worker process."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType

_PR_SET_PDEATHSIG = 1
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


class PeakMemory:
    """Within it, `growth_mb` is how far a process's resident memory has risen since it was entered, at its peak.

    Linux alone can reset its mark of the peak; elsewhere, and where that is forbidden, the growth is unknown (None).

    Args:
        process: The process; this one by default.
    """

    def __init__(self, process: int | None = None) -> None:
        self._folder = Path("/proc", "self" if process is None else str(process))
        self._before: float | None = None

    def __enter__(self) -> PeakMemory:
        with suppress(OSError):
            (self._folder / "clear_refs").write_text("5")
            self._before = self._memory_mb("VmRSS")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def growth_mb(self) -> float | None:
        """In MB (10^6 bytes), at least 0; None too if the process has ended."""
        if self._before is None:
            return None
        with suppress(OSError):
            return max(0.0, self._memory_mb("VmHWM") - self._before)
        return None

    def _memory_mb(self, field: str) -> float:
        lines = (self._folder / "status").read_text().splitlines()
        sizes = [int(line.split()[1]) for line in lines if line.startswith(field)]
        if not sizes:  # it has ended, and only its exit code is left
            raise OSError(f"no {field}")
        return sizes[0] * 1024 / 1e6


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends, however that happens (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == 1:
            os._exit(1)


def pin_threads(environment: dict[str, str]) -> dict[str, str]:
    """`environment` with every numeric library held to one thread: the processes share the cores, not threads."""
    return {**environment, **dict.fromkeys(THREAD_VARIABLES, "1")}
