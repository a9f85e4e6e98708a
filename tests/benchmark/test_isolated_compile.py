"""Compiled networks in hosts: the option arrives there, and what was compiled is kept for the next host."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codecbench.audio import Clip
from codecbench.benchmark.isolation.client import IsolatedCodec
from codecbench.benchmark.isolation.hosts import HostSettings
from codecbench.benchmark.isolation.levels import INSIDE, Level, compiled_folder, environment, limits_for, sandbox
from codecbench.models.base import LoadOptions
from codecbench.models.registry import find

SYSTEM = "encodec-small"
OPTIONS = LoadOptions(random_seed=0, compile=True)
needs_bwrap = pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap is not installed")


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where compiled networks are kept."""
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path))
    return tmp_path / "compiled"


def test_only_systems_of_this_package_share_what_they_compile(kept: Path) -> None:
    assert compiled_folder(SYSTEM, OPTIONS) == kept
    assert compiled_folder(SYSTEM, LoadOptions(random_seed=0)) is None
    assert compiled_folder("some/adapter.py:Codec", OPTIONS) is None
    python = Path("/usr/bin/python3")
    shared, own = (list(sandbox(python, (), folder)) for folder in (kept, None))
    assert shared[shared.index("--bind") + 1] == str(kept)
    assert "--bind" not in own
    for command, folder in ((shared, str(kept)), (own, f"{INSIDE}/compiled")):
        assert command[command.index("TORCHINDUCTOR_CACHE_DIR") + 1] == folder
    assert environment("home", kept)["TORCHINDUCTOR_CACHE_DIR"] == str(kept)
    assert environment("home")["TORCHINDUCTOR_CACHE_DIR"] == "home/compiled"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not shutil.which("g++"), reason="there is no C++ compiler")
@pytest.mark.parametrize("level", ["process", pytest.param("bwrap", marks=needs_bwrap)])
def test_a_host_compiles_and_the_next_one_finds_it(level: Level, kept: Path) -> None:
    card = find(SYSTEM).card
    rate = card.sample_rate or 0
    clip = Clip(0.1 * np.random.default_rng(0).standard_normal((1, rate), np.float32), rate)
    settings = HostSettings(SYSTEM, OPTIONS, level, limits_for(800))
    libraries = []
    outputs = []
    for _ in range(2):
        with closing(IsolatedCodec(card, settings)) as codec:
            codec.start()
            codec.begin_item()
            (codes,) = codec.encode([clip], card.points[-1])
            outputs.append(codec.decode([codes])[0])
        libraries.append(sorted(kept.rglob("*.so")))
    assert libraries[0], "nothing was compiled, or it was not kept"
    assert libraries[1] == libraries[0], "the second host compiled again"
    assert np.array_equal(outputs[0], outputs[1])
    plain: Any = find(SYSTEM).load(LoadOptions(random_seed=0))
    assert np.abs(plain.decode([codes])[0] - outputs[0]).max() < 1e-5
