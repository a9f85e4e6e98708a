"""What tests of several folders share."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no fault of what is tested.
settings.register_profile("codecbench", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("codecbench")


@pytest.fixture(autouse=True)
def _one_random_state() -> None:
    """Random weights and signals are those of the test, whichever tests ran before it."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve clips of 0.5 to 1.1 s at 8 kHz by three speakers, as 16-bit WAV, with a manifest; clip 3 is marked."""
    import soundfile

    folder = tmp_path_factory.mktemp("recordings")
    lines = ["id,path,speaker,domain"]
    for number in range(12):
        rng = np.random.default_rng(number)
        time = np.arange(4000 + 400 * number) / 8000
        tone = sum(np.sin(2 * np.pi * f * time + rng.uniform(0, 6)) / 8 for f in rng.uniform(100, 3000, 4))
        samples = (tone + rng.normal(0, 0.01, len(time))) * (0.5 + 0.4 * np.sin(2 * np.pi * 3 * time))
        samples[0] = 0.99 if number == 3 else 0.0
        soundfile.write(folder / f"{number:02d}.wav", np.clip(samples, -0.99, 0.99), 8000)
        lines.append(f"u{number:02d},{number:02d}.wav,s{number % 3},{'speech' if number % 2 else 'music'}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "manifest.csv"


@pytest.fixture(scope="session")
def digit_takes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tones in place of spoken digits, laid out as the Free Spoken Digit Dataset: two speakers, eight takes a digit.

    A digit has its frequency, a speaker his overtones, a take its length. The last take is of the held-out split.
    """
    import soundfile

    folder = tmp_path_factory.mktemp("fsdd") / "recordings"
    folder.mkdir()
    for speaker, overtone in (("ada", 2), ("bob", 3)):
        for digit in range(10):
            for take in (*range(7), 45):
                rng = np.random.default_rng([digit, take, overtone])
                time = np.arange(2400 + 160 * (take % 8)) / 8000
                phase = 2 * np.pi * (200 + 60 * digit) * time
                swell = np.sin(np.pi * time / time[-1])
                tone = swell * (np.sin(phase) + 0.5 * np.sin(overtone * phase)) / 4 + rng.normal(0, 0.001, len(time))
                soundfile.write(folder / f"{digit}_{speaker}_{take}.wav", tone, 8000)
    return folder.parent


@pytest.fixture
def processes_told_of() -> Callable[[Path], dict[int, str]]:
    """``processes_told_of(folder)``: the processes that have `folder` in their environment, and their commands."""

    def told_of(folder: Path) -> dict[int, str]:
        found = {}
        for process in Path("/proc").iterdir():
            with suppress(OSError):
                if process.name.isdigit() and os.fsencode(folder) in (process / "environ").read_bytes():
                    found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    return told_of
