"""Memory and threads of a worker process."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path
from types import TracebackType

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_PR_SET_PDEATHSIG = 1
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


class PeakMemory:
    """Within it, `growth_mb` is how far this process's resident memory has risen since it was entered, at its peak.

    Linux alone can reset its mark of the peak; elsewhere, and where that is forbidden, the growth is unknown (None).
    """

    def __enter__(self) -> PeakMemory:
        try:
            _CLEAR.write_text("5")
            self._before: float | None = _memory_mb("VmRSS")
        except OSError:
            self._before = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def growth_mb(self) -> float | None:
        """In MB (10^6 bytes), at least 0."""
        return None if self._before is None else max(0.0, _memory_mb("VmHWM") - self._before)


def _memory_mb(field: str) -> float:
    lines = _STATUS.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024 / 1e6


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends, however that happens (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == 1:
            os._exit(1)


def pin_threads(environment: dict[str, str]) -> dict[str, str]:
    """`environment` with every numeric library held to one thread: the processes share the cores, not threads."""
    return {**environment, **dict.fromkeys(THREAD_VARIABLES, "1")}
