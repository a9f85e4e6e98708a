"""Compiled codecs give what uncompiled ones give, and clips of new lengths are not compiled again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from codecbench.audio import Clip
from codecbench.errors import UsageError
from codecbench.models.base import Codec, LoadOptions
from codecbench.models.compiling import require_compiler
from codecbench.models.registry import find

LENGTHS = 4_000, 6_001, 9_600, 11_999
RECOMPILED = 6
"""Of all pieces together, at most, after the first clip."""


def test_without_a_compiler_nothing_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"needs a C\+\+ compiler, and 'g\+\+' is not on the path"):
        require_compiler()
    with pytest.raises(UsageError, match="C\\+\\+ compiler"):
        find("encodec-small").load(LoadOptions(random_seed=0, compile=True))
    require_compiler("cuda")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler itself
@pytest.mark.skipif(not shutil.which("g++"), reason="there is no C++ compiler")
@pytest.mark.timeout(900)  # a minute alone, several beside other tests
def test_a_compiled_codec_is_the_same_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")
    from torch._dynamo.utils import counters

    plain, compiled = (
        cast("Codec", find("encodec_24khz").load(LoadOptions(random_seed=0, compile=flag))) for flag in (False, True)
    )
    point, random = plain.card.points[-1], np.random.default_rng(0)
    counters.clear()
    graphs = []
    for length in LENGTHS:
        samples = np.asarray(0.1 * random.standard_normal((1, length)), np.float32)
        clip = Clip(samples, plain.card.sample_rate or 0)
        (expected,), (found,) = plain.encode([clip], point), compiled.encode([clip], point)
        assert all(np.array_equal(a, b) for a, b in zip(expected.streams, found.streams, strict=True))
        (wave,), (other,) = plain.decode([expected]), compiled.decode([expected])
        assert np.abs(wave - other).max() < 1e-5
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[0] >= 2, "nothing was compiled"
    assert graphs[-1] - graphs[0] <= RECOMPILED
    assert not counters["graph_break"]
