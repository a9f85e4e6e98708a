"""The shared blocks, against `transformers`, NumPy and their own definitions."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codecbench.models.blocks.conv import Conv1d, ConvStyle, ConvTranspose1d, fold_weight_norm, pad
from codecbench.models.blocks.lstm import SkipLSTM
from codecbench.models.blocks.quantise import ResidualVQ, fill_codebooks
from codecbench.models.blocks.seanet import SEANet, build
from codecbench.models.blocks.segment import layout, overlap_add

STYLES = [
    ConvStyle("none", causal=False),
    ConvStyle("none", causal=True),
    ConvStyle("weight", causal=True),
    ConvStyle("group", causal=False),
    ConvStyle("weight", causal=False, padding="constant"),
]


def config(style: ConvStyle, **changes: Any) -> Any:
    from transformers import EncodecConfig

    norm = {"weight": "weight_norm", "group": "time_group_norm"}[style.norm]
    return EncodecConfig(norm_type=norm, use_causal_conv=style.causal, pad_mode=style.padding, **changes)


def reference_padding(length: int, kernel: int, stride: int, dilation: int, causal: bool) -> tuple[int, int]:
    """Left and right padding as the rule is usually written, with the number of frames as a rounded-up fraction."""
    extent = (kernel - 1) * dilation + 1
    total = extent - stride
    frames = int(np.ceil((length - extent + total) / stride + 1))
    extra = (frames - 1) * stride + extent - total - length
    return (total, extra) if causal else (total - total // 2, total // 2 + extra)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(7, 1, 1), (3, 1, 9), (4, 2, 1), (10, 5, 1), (16, 8, 1)])
@pytest.mark.parametrize("length", [1, 5, 17, 100, 103])
def test_conv_equals_explicit_padding(kernel: int, stride: int, dilation: int, causal: bool, length: int) -> None:
    torch.manual_seed(0)
    conv = Conv1d(2, 3, kernel, stride=stride, dilation=dilation, style=ConvStyle("none", causal, "constant"))
    x = torch.randn(1, 2, length)
    padding = reference_padding(length, kernel, stride, dilation, causal)
    expected = conv.conv(torch.from_numpy(np.pad(x.numpy(), [(0, 0), (0, 0), padding])))
    assert torch.equal(conv(x), expected)
    assert expected.shape[-1] == -(-length // stride)


@given(length=st.integers(1, 40), left=st.integers(0, 12), right=st.integers(0, 12))
def test_reflection(length: int, left: int, right: int) -> None:
    x = torch.arange(1.0, length + 1)[None, None]
    # A signal that is too short to be mirrored is a longer one that ends in zeros.
    longer = np.pad(x.numpy()[0, 0], (0, max(0, max(left, right) + 1 - length)))
    expected = np.pad(longer, (left, right), mode="reflect")[: length + left + right]
    np.testing.assert_array_equal(pad(x, left, right, "reflect")[0, 0].numpy(), expected)


@given(frames=st.integers(1, 30), stride=st.integers(1, 8), style=st.sampled_from(STYLES))
@settings(max_examples=40)
def test_lengths_divide_by_the_stride(frames: int, stride: int, style: ConvStyle) -> None:
    down = Conv1d(1, 2, 2 * stride, stride=stride, style=style)
    up = ConvTranspose1d(2, 1, 2 * stride, stride=stride, style=style)
    with torch.inference_mode():
        assert up(torch.zeros(1, 2, frames)).shape == (1, 1, frames * stride)
        for cut in range(stride):
            assert down(torch.zeros(1, 1, frames * stride - cut)).shape == (1, 2, frames)


def test_causal_group_norm_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be causal"):
        ConvStyle("group", causal=True)


def test_kernel_smaller_than_stride_is_refused() -> None:
    with pytest.raises(ValueError, match="skips samples"):
        Conv1d(1, 1, 2, stride=3, style=ConvStyle())


def test_folded_weight_norm_changes_nothing() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        Conv1d(2, 4, 7, style=ConvStyle("weight")), ConvTranspose1d(4, 2, 6, stride=3, style=ConvStyle("weight"))
    )
    x = torch.randn(1, 2, 50)
    before, parameters = net(x), len(list(net.parameters()))
    fold_weight_norm(net)
    assert len(list(net.parameters())) == parameters - 2
    assert torch.equal(net(x), before)


NETS = [
    SEANet(width=4, dimension=6, strides=(2, 3), style=ConvStyle("weight", causal=True)),
    SEANet(channels=2, width=4, dimension=6, strides=(2, 5), units=2, dilation_base=3, style=ConvStyle("group")),
    SEANet(
        width=8, dimension=5, strides=(3, 2, 4), units=3, kernel_size=5, residual_kernel_size=5, last_kernel_size=3,
        compress=4, conv_skip=False, lstm_layers=1, style=ConvStyle("weight", padding="constant"),
    ),
]  # fmt: skip


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("length", [1, 9, 203])
def test_seanet_equals_transformers(net: SEANet, length: int) -> None:
    from transformers.models.encodec.modeling_encodec import EncodecDecoder, EncodecEncoder

    shape = config(
        net.style, audio_channels=net.channels, num_filters=net.width, hidden_size=net.dimension,
        upsampling_ratios=net.strides[::-1], num_residual_layers=net.units, dilation_growth_rate=net.dilation_base,
        kernel_size=net.kernel_size, residual_kernel_size=net.residual_kernel_size, compress=net.compress,
        last_kernel_size=net.last_kernel_size, use_conv_shortcut=net.conv_skip, num_lstm_layers=net.lstm_layers,
    )  # fmt: skip
    ours = build(net, 1, 2, seed=1)
    encoder, decoder = EncodecEncoder(shape), EncodecDecoder(shape)
    encoder.load_state_dict(ours.encoder.state_dict())
    decoder.load_state_dict(ours.decoder.state_dict())
    x = torch.randn(2, net.channels, length, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        latent, expected = ours.encoder(x), encoder(x)
        torch.testing.assert_close(latent, expected, rtol=0, atol=1e-6)
        assert latent.shape == (2, net.dimension, -(-length // net.hop))
        torch.testing.assert_close(ours.decoder(latent), decoder(latent), rtol=0, atol=1e-6)
        assert ours.decoder(latent).std() > 1e-4


def test_skip_lstm_is_lstm_plus_input() -> None:
    block = SkipLSTM(3, 2)
    x = torch.randn(2, 3, 7)
    expected, _ = block.lstm(x.permute(2, 0, 1))
    torch.testing.assert_close(block(x), expected.permute(1, 2, 0) + x)


def test_bidirectional_lstm_adds_its_input_to_both_directions() -> None:
    block = SkipLSTM(3, 2, bidirectional=True)
    x = torch.randn(2, 3, 7)
    expected, _ = block.lstm(x.permute(2, 0, 1))
    torch.testing.assert_close(block(x), expected.permute(1, 2, 0) + torch.cat([x, x], dim=1))
    assert block(x).shape == (2, 6, 7)


@pytest.fixture(scope="module")
def quantiser() -> ResidualVQ:
    quantiser = ResidualVQ(8, 64, 6)
    generator = torch.Generator().manual_seed(0)
    fill_codebooks(quantiser, torch.randn(1, 6, 500, generator=generator), generator)
    return quantiser


@pytest.fixture(scope="module")
def latent() -> torch.Tensor:
    return torch.randn(2, 6, 50, generator=torch.Generator().manual_seed(1))


def test_codes_are_nearest_neighbours(quantiser: ResidualVQ, latent: torch.Tensor) -> None:
    codes = quantiser.encode(latent)
    residual = latent.transpose(1, 2).double()
    for k, layer in enumerate(quantiser.layers):
        nearest = torch.cdist(residual, layer.embed.double()).argmin(-1)
        assert torch.equal(codes[:, k], nearest)
        assert len(set(nearest.flatten().tolist())) > 20
        residual = residual - layer.embed.double()[nearest]


def test_fewer_codebooks_are_a_prefix(quantiser: ResidualVQ, latent: torch.Tensor) -> None:
    codes = quantiser.encode(latent)
    for count in range(1, 9):
        assert torch.equal(quantiser.encode(latent, count), codes[:, :count])
        entries = [layer.embed[codes[:, k]] for k, layer in enumerate(quantiser.layers[:count])]
        torch.testing.assert_close(quantiser.decode(codes[:, :count]), sum(entries).transpose(1, 2))  # type: ignore[union-attr]


def test_more_codebooks_mean_less_distortion(quantiser: ResidualVQ, latent: torch.Tensor) -> None:
    codes = quantiser.encode(latent)
    errors = [float((quantiser.decode(codes[:, :k]) - latent).pow(2).mean()) for k in range(1, 9)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.3 * errors[0]


def test_too_many_codebooks_are_refused(quantiser: ResidualVQ) -> None:
    with pytest.raises(ValueError, match="zip"):
        quantiser.decode(torch.zeros(1, 9, 3, dtype=torch.long))


@given(length=st.integers(1, 500), size=st.integers(1, 100), data=st.data())
def test_layout_covers_the_clip(length: int, size: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, size))
    spans = layout(length, size, stride)
    assert [start for start, _ in spans] == list(range(0, length, stride))
    assert all(0 < end - start <= size for start, end in spans)
    assert spans[-1][1] == length
    assert all(start <= end for (_, end), (start, _) in pairwise(spans))


@given(length=st.integers(1, 300), size=st.integers(20, 60), overlap=st.integers(0, 10), extra=st.integers(0, 5))
@settings(deadline=None)
def test_overlap_add_against_numpy(length: int, size: int, overlap: int, extra: int) -> None:
    rng = np.random.default_rng(length)
    spans = layout(length, size, size - overlap)
    segments = [rng.standard_normal((1, 2, end - start + extra)).astype(np.float32) for start, end in spans]
    n = segments[0].shape[-1]
    triangle = np.minimum(np.arange(1, n + 1), np.arange(n, 0, -1)) / (n + 1)
    total, weight = np.zeros((1, 2, length)), np.zeros(length)
    for segment, (start, end) in zip(segments, spans, strict=True):
        total[..., start:end] += triangle[: end - start] * segment[..., : end - start]
        weight[start:end] += triangle[: end - start]
    found = overlap_add([torch.from_numpy(segment) for segment in segments], spans).numpy()
    np.testing.assert_allclose(found, total / weight, atol=1e-5)


def test_overlap_add_restores_what_was_cut() -> None:
    x = torch.randn(1, 2, 1000, generator=torch.Generator().manual_seed(0))
    spans = layout(1000, 100, 90)
    torch.testing.assert_close(overlap_add([x[..., start:end] for start, end in spans], spans), x)
