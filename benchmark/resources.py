"""Memory and threads of a worker process."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path
from types import TracebackType

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_PR_SET_PDEATHSIG = 1
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


class PeakMemory:
    """Within it, `peak_mb` is the highest resident memory of this process since it was entered.

    Where the kernel cannot reset its mark (it can on Linux), the highest of the process's life.
    """

    def __enter__(self) -> PeakMemory:
        try:
            _CLEAR.write_text("5")
            self._reset = True
        except OSError:
            self._reset = False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def peak_mb(self) -> float:
        """In MB (10^6 bytes)."""
        if self._reset:
            for line in _STATUS.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024 / 1e6
        scale = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends, however that happens (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == 1:
            os._exit(1)


def pin_threads(environment: dict[str, str]) -> dict[str, str]:
    """`environment` with every numeric library held to one thread: the processes share the cores, not threads."""
    return {**environment, **dict.fromkeys(THREAD_VARIABLES, "1")}
