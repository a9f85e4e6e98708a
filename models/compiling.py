"""What compiling a network needs of the machine."""

from __future__ import annotations

import os
import shutil

from codecbench.errors import UsageError


def require_compiler(device: str = "cpu") -> None:
    """Check that there is the C++ compiler that `torch.compile` calls for a CPU.

    Raises:
        UsageError: There is none.
    """
    command = os.environ.get("CXX", "g++")
    if device.startswith("cpu") and not shutil.which(command):
        raise UsageError(f"compiling networks for a CPU needs a C++ compiler, and '{command}' is not on the path")
