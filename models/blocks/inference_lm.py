"""Language models made ready to run: on a CPU laid out as few rows at a time want it, or compiled.

To multiply a matrix by one row takes as long as to read it from memory, and so should two rows or eight. PyTorch's own
kernel takes twice as long for two, as guidance has them. oneDNN's, on weights in blocks that it chooses, does not.
"""

from __future__ import annotations

from types import MethodType
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbench.models.blocks.backbone import Backbone, BackboneLayer
from codecbench.models.compiling import require_compiler

Network = TypeVar("Network", bound=nn.Module)

LARGE = 1 << 18
"""Weights of a linear layer that are worth a layout."""
_ops = torch.ops.mkldnn


def ready_lm(network: Network, device: str, *, compiled: bool = False, rows: int = 1) -> Network:
    """`network`, a language model, on `device`, for inference alone; its large linear layers laid out if that is a CPU.

    What is laid out can be run and not read: the weights are in the layout alone. With `compiled`, the Transformers'
    layers are left to `torch.compile` in place of that, one for all of a kind, for caches of any length. On a GPU a
    Transformer then becomes a CUDA graph, with a cache whose shape does not change; that has not been run yet.

    Args:
        network: The language model.
        device: A torch device string.
        compiled: See above.
        rows: Of a linear layer's input, that the layout is for. More are slower than they could be, and fewer are
            extended with zeros, which costs less than a layout for one does with two.

    Raises:
        UsageError: It is to be compiled, and there is no C++ compiler.
    """
    network.requires_grad_(False).eval().to(device)
    if compiled:
        _compile(network, device)
    elif torch.device(device).type == "cpu" and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        embeddings = {id(part.weight) for part in network.modules() if isinstance(part, nn.Embedding)}
        for part in network.modules():
            if type(part) is nn.Linear and part.weight.numel() >= LARGE and id(part.weight) not in embeddings:
                part.__class__ = _Linear
                cast("_Linear", part).lay_out(rows)
    return network


class _Linear(nn.Linear):
    """A linear layer whose weight is laid out."""

    laid_out: Tensor
    rows: int

    def lay_out(self, rows: int) -> None:
        self.rows = rows
        self.register_buffer("laid_out", _ops._reorder_linear_weight(self.weight, rows), persistent=False)
        self.weight = nn.Parameter(self.weight.new_empty(0), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        count = x.shape[:-1].numel()
        if count >= self.rows:
            y: Tensor = _ops._linear_pointwise(x, self.laid_out, self.bias, "none", [], "")
            return y
        more = functional.pad(x.reshape(count, -1), (0, 0, 0, self.rows - count))
        y = _ops._linear_pointwise(more, self.laid_out, self.bias, "none", [], "")
        return y[:count].view(*x.shape[:-1], self.out_features)


def _compile(network: nn.Module, device: str) -> None:
    require_compiler(device)
    step: Any = torch.compile(BackboneLayer.forward, dynamic=True)
    for part in network.modules():
        if isinstance(part, Backbone) and torch.device(device).type == "cuda":
            part.static = True
            part.__dict__["run"] = torch.compile(part.run, mode="reduce-overhead")
        elif isinstance(part, Backbone):
            for layer in part.layers:
                layer.__dict__["forward"] = MethodType(step, layer)
