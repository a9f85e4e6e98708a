"""Networks compiled by `torch.compile`, as an alternative to the layout of `codecbench.models.blocks.inference`.

Encoder and decoder are compiled in pieces, each for signals of any length. A piece has one stride at most: with
several, the compiler spends minutes on the arithmetic of lengths. LSTMs run as they are, since the compiler does not
take them, and so does the search in the codebooks: fused, it would add up in another order, and flip codes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from torch import nn

from codecbench.models.compiling import require_compiler
from codecbench.paths import cache_dir

VERSIONS = 8
"""Of a piece: clips shorter than its padding need some of their own. Beyond, it runs uncompiled."""
_CONVS = nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d


def compile_network(network: Any, device: str) -> None:
    """Let the encoder and the decoder of `network`, in place, be compiled when they are first called.

    What the compiler makes is kept in the user's cache, unless ``TORCHINDUCTOR_CACHE_DIR`` names another folder.

    Raises:
        UsageError: There is no C++ compiler.
    """
    require_compiler(device)
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_dir("compiled").absolute()))
    for part in (network.encoder, network.decoder):
        for piece in _pieces(part):
            piece.compile(dynamic=True, recompile_limit=VERSIONS, isolate_recompiles=True)


def _pieces(part: nn.Module) -> Iterator[nn.Module]:
    """The largest modules in `part` that have parameters, one stride at most, and no LSTM."""
    inside = list(part.modules())
    strides = sum(isinstance(each, _CONVS) and any(step > 1 for step in each.stride) for each in inside)
    if strides > 1 or any(isinstance(each, nn.LSTM) for each in inside):
        for child in part.children():
            yield from _pieces(child)
    elif any(True for _ in part.parameters()):
        yield part
