"""The default dataset: 48 real recordings that Debian packages carry, 2.7 minutes, no account and no root needed.

``demo.csv`` lists them: 40 sentences in five languages, eight a language, of four speakers (the announcements of a
telephone exchange, 16 kHz), and 4 clips each of music and of sounds (44.1 kHz). `docs/decisions/0007-datasets.md`
says how they were chosen.
"""

from __future__ import annotations

import csv
import logging
import os
import shutil
import subprocess
import wave
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from codecbench.benchmark.datasets.base import DatasetCard, Source
from codecbench.benchmark.datasets.manifest import read_folder
from codecbench.errors import InfrastructureError
from codecbench.paths import sha256_of
from codecbench.recording import read

if TYPE_CHECKING:
    from codecbench.download import Progress

log = logging.getLogger(__name__)

FACTS = ("id", "speaker", "language", "domain", "transcript", "sha256")
MAX_SECONDS = 5.0
"""Music and sounds are cut to their first seconds; no sentence is longer."""

INSTEAD = "use recordings of your own: --datasets FOLDER"


@cache
def rows() -> tuple[dict[str, str], ...]:
    """The rows of ``demo.csv``.

    Columns: ``id``, ``package``, ``member`` (path in the package), ``source_sha256`` (of that file), ``speaker``,
    ``language``, ``domain``, ``transcript``, ``sha256`` (of the WAV that is made from it).
    """
    with Path(__file__).with_name("demo.csv").open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


def _write_manifest(folder: Path) -> None:
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ("path", *FACTS), extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({"path": f"{row['id']}.wav", **row} for row in rows())


def _complete(folder: Path) -> bool:
    """Prepared, and from this version's list."""
    try:
        with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
            listed = [tuple(row[name] for name in FACTS) for row in csv.DictReader(file)]
    except (OSError, KeyError, ValueError, csv.Error):
        return False
    return listed == [tuple(row[name] for name in FACTS) for row in rows()]


def _fill(folder: Path, _: str, progress: Progress | None) -> None:
    """Get the packages, and make the recordings and their manifest in the empty `folder`."""
    debs = folder / "packages"
    root = _installed() or _unpacked(debs, progress)
    for done, row in enumerate(rows(), 1):
        _convert(root / row["member"], row, folder / f"{row['id']}.wav")
        if progress:
            progress(done, len(rows()))
    _write_manifest(folder)
    shutil.rmtree(debs, ignore_errors=True)


def _installed() -> Path | None:
    """The file system's root, if the packages are installed."""
    root = Path("/")
    return root if all((root / row["member"]).is_file() for row in rows()) else None


def _unpacked(folder: Path, progress: Progress | None) -> Path:
    """Download the packages with apt, which verifies them, and unpack them below `folder`."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise InfrastructureError(f"the demo recordings come from Debian packages, and there is no apt here; {INSTEAD}")
    packages = sorted({row["package"] for row in rows()})
    root, lists = folder / "root", folder / "lists"
    root.mkdir(parents=True)
    lists.mkdir()
    if _run("apt-get", "-q", "download", *packages, folder=folder):
        # The system's package lists may be empty or old. Lists of our own need no root and change nothing.
        own = ("-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={lists}", "-o", "Debug::NoLocking=1")
        stale = _run("apt-get", "-q", *own, "update", folder=folder)
        if problem := _run("apt-get", "-q", *own, "download", *packages, folder=folder):
            raise InfrastructureError(
                f"apt cannot download the demo recordings ({stale or problem}); check the network and "
                f"`apt-get update`, or {INSTEAD}"
            )
    for done, deb in enumerate(sorted(folder.glob("*.deb")), 1):
        if problem := _run("dpkg-deb", "-x", str(deb), str(root), folder=folder):
            raise InfrastructureError(f"cannot unpack {deb.name}: {problem}")
        if progress:
            progress(done, len(packages))
    return root


def _run(*command: str, folder: Path) -> str:
    """Run `command` in `folder`; its first error, empty if it succeeded."""
    try:
        done = subprocess.run(  # noqa: S603 - fixed commands, no shell
            command, cwd=folder, env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True, errors="replace",
            timeout=600, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return ""
    lines = [line for line in done.stderr.splitlines() if line.startswith(("E:", "dpkg-deb: error"))]
    return lines[0] if lines else f"{command[0]} failed with {done.returncode}"


def _convert(source: Path, row: dict[str, str], target: Path) -> None:
    """Decode `source` and write its first seconds as 16-bit WAV; both files must be the ones that are listed."""
    try:
        digest = sha256_of(source)
    except OSError as error:
        raise InfrastructureError(f"{row['package']} has no /{row['member']}: {error.strerror}; {INSTEAD}") from error
    if digest != row["source_sha256"]:
        raise InfrastructureError(
            f"/{row['member']} of {row['package']} is another recording than the demo's: sha256 {digest}, expected "
            f"{row['source_sha256']}; {INSTEAD}"
        )
    clip = read(source).clip
    pcm = np.round(clip.samples[:, : round(MAX_SECONDS * clip.sample_rate)] * 32768).astype("<i2")
    with wave.open(str(target), "wb") as out:
        out.setnchannels(clip.channels)
        out.setsampwidth(2)
        out.setframerate(clip.sample_rate)
        out.writeframes(pcm.T.tobytes())
    if sha256_of(target) != row["sha256"]:
        raise InfrastructureError(
            f"the decoder of this FFmpeg or libsndfile gives other samples for {row['id']} than it should, and scores "
            "would not compare; install the wheels of av and soundfile"
        )


SOURCE = Source(
    DatasetCard(
        "demo", "Demo: speech in five languages, music and sounds", "CC-BY-SA-3.0 AND CC-BY-3.0 AND CC0-1.0",
        "https://www.asterisk.org",
        note="Announcements by four speakers, G.722 at 64 kbit/s and 16 kHz; music and sounds at 44.1 kHz. To try "
        "things out, not to rank systems.",
    ),
    read_folder, _fill, _complete, automatic=True,
)  # fmt: skip
