"""Compiled codecs give what uncompiled ones give, and clips of new lengths are not compiled again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from codecbench.errors import UsageError
from codecbench.models.base import LoadOptions
from codecbench.models.compiling import require_compiler
from codecbench.models.registry import find

LENGTHS = 400, 601, 960, 1_199
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
@pytest.mark.timeout(900)  # most of a minute alone, several beside other tests
@pytest.mark.filterwarnings("ignore")  # of the compiler itself
@pytest.mark.skipif(not shutil.which("g++"), reason="there is no C++ compiler")
def test_a_compiled_network_is_the_same_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small SEANet: a released one has the same kinds of piece, and takes minutes to compile."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")
    import torch
    from torch._dynamo.utils import counters

    from codecbench.models.blocks.compiled import compile_network
    from codecbench.models.blocks.conv import ConvStyle
    from codecbench.models.blocks.seanet import SEANet, build, enliven

    plain, compiled = (
        build(SEANet(dimension=16, width=4, strides=(2, 4), lstm_layers=1, style=ConvStyle(causal=True)), 4, 64)
        for _ in range(2)
    )
    for network in (plain, compiled):
        enliven(network, 0, level=0.1)
        network.requires_grad_(False).eval()
    compile_network(compiled, "cpu")
    counters.clear()
    graphs = []
    with torch.inference_mode():
        for length in LENGTHS:
            audio = 0.1 * torch.randn(1, 1, length, generator=torch.Generator().manual_seed(length))
            expected, found = plain.encode(audio), compiled.encode(audio)
            assert torch.equal(expected, found)
            assert float((plain.decode(expected) - compiled.decode(expected)).abs().max()) < 1e-5
            graphs.append(counters["stats"]["unique_graphs"])
    assert len(set(expected.flatten().tolist())) > 8, "one code for all would be no test"
    assert graphs[0] >= 2, "nothing was compiled"
    assert graphs[-1] - graphs[0] <= RECOMPILED
    assert not counters["graph_break"]
