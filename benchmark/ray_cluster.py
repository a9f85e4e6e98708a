"""A connection to a Ray cluster: one that is there, or one on this machine for the time of a run."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
import threading
from contextlib import suppress
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

from codecbench.benchmark.plan import Needs
from codecbench.errors import CodecbenchError, InfrastructureError, UsageError

ANSWER_SECONDS = 4.0
CONNECT_SECONDS = 120.0
END_SECONDS = 20.0
_STORE_BYTES = 100 << 20
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
"""RFC 9113, 3.4: the preface of a client, with empty settings. Any server of gRPC answers with settings of its own."""
_SETTINGS = 4


def check_address(address: str | None) -> str | None:
    """The address that is meant: `address`, else ``$RAY_ADDRESS``, else None for a cluster of this machine alone.

    Raises:
        UsageError: Ray is not installed, or this is no address.
        InfrastructureError: Nothing answers there.
    """
    address = address or os.environ.get("RAY_ADDRESS") or None
    host, _, port = (address or "").rpartition(":")
    somewhere = address not in (None, "auto")
    if somewhere and ("/" in host or not host or not port.isdigit()):
        raise UsageError(f"'{address}' is no address of a Ray cluster: give HOST:PORT of its head node, or auto")
    if find_spec("ray") is None:
        raise UsageError("the engine 'ray' needs Ray: pip install 'codecbench[ray]'")
    if somewhere and not _answers(host.strip("[]"), int(port)):
        raise InfrastructureError(
            f"no Ray cluster answers at {address}: start one with `ray start --head --port {port}`, or mend --address"
        )
    return address


def _answers(host: str, port: int) -> bool:
    """Whether something that may be Ray listens there. Ray itself takes minutes to find out that nothing does."""
    try:
        with socket.create_connection((host, port), ANSWER_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0") not in ("0", ""):
                return True
            connection.settimeout(ANSWER_SECONDS)
            connection.sendall(_GREETING)
            head = connection.recv(9, socket.MSG_WAITALL)
            return len(head) == 9 and head[3] == _SETTINGS
    except OSError:
        return False


class Cluster:
    """A connection of this process. One that the process has already, as in a notebook, is used and left open.

    Args:
        address: As `check_address` returns it.
        cores: Of a cluster of this machine, which ends with the connection.

    Raises:
        InfrastructureError: It cannot be had.
    """

    def __init__(self, address: str | None, cores: int) -> None:
        import ray

        self._joined = ray.is_initialized()
        self.own = address is None and not self._joined
        # The paths of Ray's sockets are long, and limited.
        self._folder = tempfile.mkdtemp(prefix="cb-ray-", dir="/tmp") if self.own else ""
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self.own:
            options |= {
                "address": "local", "num_cpus": cores, "include_dashboard": False, "_temp_dir": self._folder,
                "object_store_memory": _STORE_BYTES,
            }  # fmt: skip
            if sys.platform == "linux":  # in place of 127.0.0.1 Ray takes an address that the network can reach
                options["_node_ip_address"] = "127.0.0.2"
        else:
            options["address"] = address
        self._ready, self._over = threading.Event(), threading.Event()
        self._failed: list[Exception] = []
        # In a thread, because it may take forever, and would replace the signal handlers of the main thread.
        self._thread = threading.Thread(target=self._live, args=(options,), daemon=True)
        if not self._joined:
            self._connect(str(options["address"]))

    def _connect(self, address: str) -> None:
        variables = {"RAY_USAGE_STATS_ENABLED": "0"}
        if self.own:  # Ray asks for a token, and would put one into the user's home
            variables["RAY_AUTH_TOKEN"] = os.environ.get("RAY_AUTH_TOKEN") or secrets.token_hex(32)
        with patch.dict(os.environ, variables):
            self._thread.start()
            self._ready.wait(CONNECT_SECONDS)
        if self._failed or not self._ready.is_set():
            self.close()
            reason = f" ({self._failed[0]})" if self._failed else f" within {CONNECT_SECONDS:g} s"
            raise InfrastructureError(
                f"no connection to the Ray cluster at {address}{reason}; this machine must be one of its nodes "
                "(`ray start --address HOST:PORT`), with the same RAY_AUTH_MODE and token"
            )

    def _live(self, options: dict[str, Any]) -> None:
        """Hold the connection until it is closed: Ray's processes end with the thread that has started them."""
        import ray

        try:
            ray.init(**options)
        except Exception as error:  # noqa: BLE001 - Ray raises many kinds, and all mean that there is no connection
            self._failed.append(error)
        self._ready.set()
        self._over.wait()
        with suppress(Exception):
            ray.shutdown()

    def capacity(self, needs: Needs) -> int:
        """How many workers of these needs its nodes hold when nothing else runs there."""
        import ray

        return sum(_fits(needs, node["Resources"]) for node in ray.nodes() if node["Alive"])

    def largest(self) -> str:
        """What its nodes have, in words."""
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return "; ".join(sorted({f"{n.get('CPU', 0):g} cores, {n.get('GPU', 0):g} GPUs" for n in nodes})) or "no nodes"

    def close(self) -> None:
        """End the connection, and the cluster if it is of this process."""
        self._over.set()
        if self._ready.is_set():
            self._thread.join(END_SECONDS)
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)


def _fits(needs: Needs, has: dict[str, float]) -> int:
    shares = [(needs.cpus, "CPU", 1.0), (needs.gpus, "GPU", 1.0), (needs.memory_gb, "memory", 1e9)]
    return min((int(has.get(name, 0) / unit / need + 1e-6) for need, name, unit in shares if need), default=1)


def explained(error: Exception) -> CodecbenchError:
    """What an error that Ray raised means to a user, on one line."""
    import ray.exceptions as known

    cause = getattr(error, "cause", None)
    if isinstance(cause, CodecbenchError):
        return InfrastructureError(str(cause))
    shown = next((line for line in str(cause or error).strip().splitlines() if line.strip()), type(error).__name__)
    if isinstance(cause or error, known.ObjectStoreFullError | known.OutOfDiskError):
        return InfrastructureError(
            f"Ray's object store is full ({shown}): give it more with `ray start --object-store-memory`, free the disk "
            "that it spills to, or put the recordings where all nodes see them"
        )
    kind = type(cause or error).__name__
    return InfrastructureError(f"Ray failed ({kind}: {shown}); run the same command again to resume")
