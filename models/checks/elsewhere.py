"""A second process that gets the probe's bytes first, and the probe itself only afterwards.

What an encoder kept in the first process (a global, an object, a file in its temporary folder) is not there. Run as a
module it is that process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from codecbench.audio import Audio
from codecbench.models.base import Codes
from codecbench.models.bitstream import pack, unpack

if TYPE_CHECKING:
    from codecbench.models.checks.subject import Options, Subject


@dataclass(frozen=True, eq=False)
class Found:
    """What the second process made: the output for the bytes, the codes of the clip, or why there are none."""

    output: Audio | None = None
    codes: Codes | None = None
    decode_error: str = ""
    encode_error: str = ""


@cache
def ask(subject: Subject) -> Found:
    """Send the probe's bytes, then the probe, through a second process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "codes").write_bytes(pack(subject.coded).to_bytes())
        np.save(folder / "clip.npy", subject.probe.samples)
        request = {"target": absolute(subject.target), "options": plain(subject.options), "folder": name}
        for part in ("work", "tmp"):
            (folder / part).mkdir()
        done = subprocess.run(  # noqa: S603 - our own module
            [sys.executable, "-m", __name__, json.dumps(request)], capture_output=True, text=True, cwd=folder / "work",
            env={**os.environ, "PYTHONHASHSEED": "1", "TMPDIR": str(folder / "tmp")},
        )  # fmt: skip
        died = done.stderr.strip().splitlines()[-1:] or [f"it ended with {done.returncode}"]
        decoded, encoded = folder / "output.npy", folder / "encoded"
        return Found(
            output=np.load(decoded) if decoded.exists() else None,
            codes=unpack(encoded.read_bytes()) if encoded.exists() else None,
            decode_error="" if decoded.exists() else died[0],
            encode_error="" if encoded.exists() else died[0],
        )


def absolute(target: str) -> str:
    """`target`, understood from any folder."""
    path, colon, attribute = target.rpartition(":")
    return f"{Path(path).resolve()}{colon}{attribute}" if path.endswith(".py") else target


def plain(options: Options) -> dict[str, object]:
    """`options` as JSON values."""
    return {**asdict(options), "weights": str(options.weights.resolve()) if options.weights else None}


def options_of(given: dict[str, object]) -> Options:
    """The options that were made plain for another process."""
    from codecbench.models.checks.subject import Options

    weights = given["weights"]
    return Options(**{**given, "points": tuple(given["points"]), "weights": Path(str(weights)) if weights else None})  # type: ignore[arg-type]


def main(request: str) -> None:
    """Decode the bytes, then encode another clip and the probe, each into a file of the request's folder."""
    from codecbench.models.checks.probes import frozen
    from codecbench.models.checks.subject import Subject

    asked = json.loads(request)
    folder = Path(asked["folder"])
    subject = Subject(asked["target"], options_of(asked["options"]))
    codes = unpack((folder / "codes").read_bytes())
    np.save(folder / "output.npy", subject.decode([codes])[0])
    subject.exercise()
    clip = frozen(np.load(folder / "clip.npy"), codes.sample_rate)
    (folder / "encoded").write_bytes(pack(subject.encode([clip])[0]).to_bytes())


if __name__ == "__main__":
    main(sys.argv[1])
