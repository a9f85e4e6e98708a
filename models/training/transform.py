"""How the training of a network of strided convolutions begins: as a transform, not as noise.

With random weights, such a network first has to find out how to split a waveform into bands and put it together again,
and in the few steps that a processor allows it hardly does. Here every stride begins as a block cosine transform of
the bands before it, and every residual unit as little more than its skip. The lowest bands become the latent frames,
as many as they have room for; all other weights stay random, but small. So low frequencies pass from the first step
on. A network that works on spectra needs no such help.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from codecbench.models.blocks import conv, dac, mrf, seanet, soundstream

NOISE = 0.3
"""What random weights beside the transform are multiplied by."""
LOUD = 20.0
"""What random weights of the encoder's first convolution are multiplied by: at the level of speech, activations hardly
bend what they are given, and a network that is linear cannot measure how loud a band is."""
RESIDUAL = 0.1
"""What the results of residual units are multiplied by."""
LATENT = 8.0
"""What bands are multiplied by on their way into the latent frames, and divided by on their way out."""
LEVEL = 0.1
"""Of the output, where the encoder normalises, and so forgets, the level of the input."""
Band = tuple[int, int]
"""The band before a stride, and the coefficient of its blocks."""
Spread = Callable[[int, int], Tensor]
"""How so many bands lie on so many channels, ``[channels, bands]``."""

_PADDED = (conv.Conv1d, conv.ConvTranspose1d)
_PLAIN = (nn.Conv1d, nn.ConvTranspose1d)
_UNITS = (soundstream.ResidualUnit, seanet.ResidualUnit, dac.ResidualUnit, mrf.MultiReceptiveField)


@torch.no_grad()
def begin(network: Any) -> None:
    """Give an encoder and a decoder of strided one-dimensional convolutions their first weights; leave others alone."""
    encoder, decoder = list(_path(network.encoder)), list(_path(network.decoder))
    if len(encoder) < 3:
        return
    for module in network.modules():
        _quieten(module)
    rectified = any(isinstance(module, mrf.MultiReceptiveField) for module in network.modules())
    spread = _spread if rectified else _plain
    strides = [_stride(layer) for layer in encoder[1:-1]]
    most = [_shape(layer)[0] // (2 if rectified else 1) for layer in encoder[1:-1]]
    most[-1] = min(most[-1], _shape(encoder[-1])[0])  # what the last convolution cannot pass on is not wanted
    splits, bands = list[list[Band]](), 1
    for stride, limit in zip(strides, most, strict=True):
        splits.append(split(bands, stride, limit))
        bands = len(splits[-1])
    groups = len(network.quantiser.layers[0]) if rectified else 1
    latent = _grouped(_shape(encoder[-1])[0], bands, groups)
    _analyse(encoder, splits, spread, latent)
    _synthesise(decoder, splits, spread, latent)
    if rectified:
        conv.scale_output(decoder[-1], LEVEL)


def cosines(size: int) -> Tensor:
    """The orthonormal cosine transform of type II ``[size, size]``, a row a coefficient."""
    position, index = torch.arange(size) + 0.5, torch.arange(size)[:, None]
    rows = torch.cos(math.pi / size * index * position) * math.sqrt(2 / size)
    rows[0] /= math.sqrt(2)
    return rows


def split(bands: int, stride: int, most: int) -> list[Band]:
    """The `most` lowest of what blocks of `stride` make of `bands` bands, by frequency: odd bands are upside down."""

    def frequency(band: Band) -> int:
        place, index = band
        return place * stride + (index if place % 2 == 0 else stride - 1 - index)

    return sorted(product(range(bands), range(stride)), key=frequency)[:most]


def _analyse(layers: list[nn.Module], splits: list[list[Band]], spread: Spread, latent: Tensor) -> None:
    first, *strided, last = layers
    _carry(first, _present(first, 1), spread(_shape(first)[0], 1), torch.eye(1), noise=LOUD)
    bands = 1
    for layer, found in zip(strided, splits, strict=True):
        stride, start = _stride(layer), _tap(layer)
        weight = torch.zeros(len(found), bands, _kernel(layer))
        for made, (band, index) in enumerate(found):
            weight[made, band, start : start + stride] = cosines(stride)[index] / math.sqrt(stride)
        outputs, inputs = _shape(layer)
        _carry(layer, weight, spread(outputs, len(found)), _collected(spread(inputs, bands)))
        bands = len(found)
    _carry(last, LATENT * _present(last, bands), latent, _collected(spread(_shape(last)[1], bands)))


def _synthesise(layers: list[nn.Module], splits: list[list[Band]], spread: Spread, latent: Tensor) -> None:
    first, *strided, last = layers
    bands = latent.shape[1]
    _carry(first, _present(first, bands) / LATENT, spread(_shape(first)[0], bands), latent.t())
    for layer, split_up in zip(strided, reversed(splits), strict=True):
        stride, start, found = _stride(layer), _tap(layer), split_up[:bands]
        made = max(band for band, _ in found) + 1
        weight = torch.zeros(made, bands, _kernel(layer))
        for place, (band, index) in enumerate(found):
            weight[band, place, start : start + stride] = cosines(stride)[index] * math.sqrt(stride)
        outputs, inputs = _shape(layer)
        _carry(layer, weight, spread(outputs, made), _collected(spread(inputs, bands)))
        bands = made
    _carry(last, _present(last, 1), torch.eye(1), _collected(spread(_shape(last)[1], 1)))


def _plain(channels: int, bands: int) -> Tensor:
    """How `bands` bands lie on channels, ``[channels, bands]``: each on its own."""
    return torch.eye(channels, bands)


def _spread(channels: int, bands: int) -> Tensor:
    """As `_plain`, but upright on one channel and upside down on another: together they pass a leaky ReLU unbent."""
    pairs = torch.zeros(channels, bands)
    for band in range(bands):
        pairs[2 * band, band], pairs[2 * band + 1, band] = 1, -1
    return pairs


def _collected(spread: Tensor) -> Tensor:
    """The inverse ``[bands, channels]``; what a leaky ReLU leaves of a pair is a tenth more than one of them."""
    both = spread.abs().sum(dim=0) > 1
    return spread.t() / torch.where(both, 1 + mrf.SLOPE, 1.0)[:, None]


def _grouped(channels: int, bands: int, groups: int) -> Tensor:
    """How bands lie on the channels of latent frames: dealt out to the groups of a grouped quantiser."""
    placed = torch.zeros(channels, bands)
    for band in range(bands):
        placed[band % groups * (channels // groups) + band // groups, band] = 1
    return placed


def _carry(layer: nn.Module, weight: Tensor, outputs: Tensor, inputs: Tensor, noise: float = NOISE) -> None:
    """Let `layer` do to bands what `weight` ``[bands out, bands in, kernel]`` says; the channels beside keep noise."""
    bands = torch.einsum("on,nmk,mi->oik", outputs, weight, inputs)
    kept = noise * (outputs.abs().sum(dim=1) == 0)[:, None, None]
    inner = _inner(layer)
    if isinstance(inner, nn.ConvTranspose1d):
        bands, kept = bands.transpose(0, 1), kept.transpose(0, 1)
    _set(layer, bands + kept * inner.weight)


def _present(layer: nn.Module, bands: int) -> Tensor:
    """The weight that passes `bands` bands on as they are."""
    weight = torch.zeros(bands, bands, _kernel(layer))
    weight[range(bands), range(bands), _tap(layer)] = 1
    return weight


def _path(module: nn.Module) -> Iterable[nn.Module]:
    """The convolutions in `module` that are in no residual unit, in order, with what pads or trims them."""
    for part in module.children():
        if isinstance(part, (*_PADDED, *_PLAIN)):
            yield part
        elif not isinstance(part, _UNITS):
            yield from _path(part)


def _quieten(module: nn.Module) -> None:
    """Make a residual unit little more than its skip, and so an LSTM, which has one around it."""
    last: Iterable[nn.Module] = ()
    if isinstance(module, nn.LSTM):
        for name, parameter in module.named_parameters():
            parameter.mul_(0 if "bias" in name else NOISE)
    elif isinstance(module, seanet.ResidualUnit):
        last = [module.block[-1]]
        if isinstance(module.shortcut, conv.Conv1d):
            _set(module.shortcut, torch.eye(_shape(module.shortcut)[0])[..., None])
    elif isinstance(module, soundstream.ResidualUnit):
        last = [module.convs[-1]]
    elif isinstance(module, dac.ResidualUnit):
        last = [module[-1]]
    elif isinstance(module, mrf.ResidualStack):
        last = module.plain
    for layer in last:
        _set(layer, RESIDUAL * _inner(layer).weight)


def _tap(layer: nn.Module) -> int:
    """Where in the kernel the block of samples lies that a frame goes with."""
    inner, stride = _inner(layer), _stride(layer)
    kept = inner.weight.clone()
    marked = torch.ones_like(kept)
    marked[0, 0] = torch.arange(1.0, _kernel(layer) + 1)
    _set(layer, marked)
    frame, up = 8, isinstance(inner, nn.ConvTranspose1d)
    x = torch.zeros(1, _shape(layer)[1], 16 * (1 if up else stride))
    x[0, 0, frame * (1 if up else stride)] = 1
    found = round(float(layer(x)[0, 0, frame * (stride if up else 1)])) - 1
    _set(layer, kept)
    return max(0, min(found, _kernel(layer) - stride))


def _inner(layer: nn.Module) -> Any:
    return layer.conv if isinstance(layer, _PADDED) else layer


def _stride(layer: nn.Module) -> int:
    return int(_inner(layer).stride[0])


def _kernel(layer: nn.Module) -> int:
    return int(_inner(layer).kernel_size[0])


def _shape(layer: nn.Module) -> tuple[int, int]:
    """Channels out and in."""
    inner = _inner(layer)
    return inner.out_channels, inner.in_channels


def _set(layer: nn.Module, weight: Tensor) -> None:
    """Set a weight, normalised or not; the bias becomes zero."""
    inner = _inner(layer)
    if parametrize.is_parametrized(inner, "weight"):
        inner.weight = weight
    else:
        inner.weight.copy_(weight)
    if inner.bias is not None:
        inner.bias.zero_()
