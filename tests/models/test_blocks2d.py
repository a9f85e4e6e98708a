"""Convolutions over spectrograms and the way there and back, against NumPy, torchaudio and their own definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codecbench import tolerant_torchaudio
from codecbench.models.blocks.conv import ConvStyle
from codecbench.models.blocks.conv2d import Conv2d, ConvTranspose2d, pad
from codecbench.models.blocks.seanet2d import Decoder2d, Encoder2d, SEANet2d
from codecbench.models.blocks.spectral import SpectralCodec, SpectralNet, analyse, synthesise

PLAIN = ConvStyle(padding="constant")


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [((7, 7), (1, 1), (1, 1)), ((3, 3), (1, 1), (1, 4)),
                                                            ((8, 4), (4, 2), (1, 1)), ((6, 10), (3, 5), (1, 1)),
                                                            ((1, 1), (1, 1), (1, 1))])  # fmt: skip
@pytest.mark.parametrize("frames", [1, 5, 16, 17])
def test_conv_equals_explicit_padding(
    kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int], frames: int
) -> None:
    conv = Conv2d(2, 4, kernel, stride=stride, dilation=dilation, groups=2, style=PLAIN)
    x = noise(1, 2, 33, frames)
    total = [(k - 1) * d + 1 - s for k, s, d in zip(kernel, stride, dilation, strict=True)]
    lacks = int(np.ceil(frames / stride[1])) * stride[1] - frames
    bands, time = ((total[0] + 1) // 2, total[0] // 2), ((total[1] + 1) // 2 + lacks, total[1] // 2)
    expected = conv.conv(torch.from_numpy(np.pad(x.numpy(), [(0, 0), (0, 0), bands, time])))
    assert torch.equal(conv(x), expected)
    assert expected.shape == (1, 4, 33 // stride[0], -(-frames // stride[1]))


@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    bands=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    frames=st.tuples(st.integers(0, 5), st.integers(0, 5)),
)
def test_reflection(size: tuple[int, int], bands: tuple[int, int], frames: tuple[int, int]) -> None:
    x = np.arange(1.0, size[0] * size[1] + 1).reshape(size)
    expected = x
    for axis, sides in enumerate((bands, frames)):
        # A signal that is too short to be mirrored is a longer one that ends in zeros.
        longer = [(0, max(0, max(sides) + 1 - size[axis])) if i == axis else (0, 0) for i in (0, 1)]
        both = [sides if i == axis else (0, 0) for i in (0, 1)]
        whole = np.pad(np.pad(expected, longer), both, mode="reflect")
        expected = whole.take(range(size[axis] + sum(sides)), axis=axis)
    found = pad(torch.from_numpy(x)[None, None], bands, frames, "reflect")[0, 0].numpy()
    np.testing.assert_array_equal(found, expected)


@given(frames=st.integers(1, 30), bands=st.integers(1, 9), stride=st.tuples(st.integers(1, 5), st.integers(1, 5)))
@settings(max_examples=40)
def test_sizes_divide_and_multiply_by_the_stride(frames: int, bands: int, stride: tuple[int, int]) -> None:
    kernel = 2 * stride[0], 2 * stride[1]
    down = Conv2d(1, 2, kernel, stride=stride, style=ConvStyle())
    with torch.inference_mode():
        for extra in range(min(2, stride[0])):
            up = ConvTranspose2d(2, 1, kernel, stride=stride, extra=extra, style=ConvStyle())
            assert up(torch.zeros(1, 2, bands, frames)).shape == (1, 1, bands * stride[0] + extra, frames * stride[1])
            x = torch.zeros(1, 1, bands * stride[0] + extra, frames * stride[1] - min(extra, stride[1] - 1))
            assert down(x).shape == (1, 2, bands, frames)


@pytest.mark.parametrize("frames", range(1, 9))
def test_frames_that_do_not_fill_a_stride_come_back_late(frames: int) -> None:
    """Pairs of frames are averaged and repeated: what comes back is where it was, or later by what was added."""
    down, up = (kind(1, 1, (1, 4), stride=(1, 2), style=PLAIN) for kind in (Conv2d, ConvTranspose2d))
    for conv, value in ((down, 0.5), (up, 1.0)):
        conv.load_state_dict({"conv.weight": value * torch.tensor([[[[0.0, 1, 1, 0]]]]), "conv.bias": torch.zeros(1)})
    for at in range(frames):
        x = torch.zeros(1, 1, 1, frames)
        x[..., at] = 1
        late = frames % 2
        assert torch.nonzero(up(down(x))[0, 0, 0]).flatten().tolist() == [
            (at + late) // 2 * 2,
            (at + late) // 2 * 2 + 1,
        ]
    net = SEANet2d(strides=((2, 1), (2, 2)))
    assert SpectralCodec(SpectralNet(net, net), 1, 2).delay(160 * (frames - 1)) == 160 * late


def test_seanet_keeps_the_size_of_a_spectrogram() -> None:
    net = SEANet2d(width=8, dimension=5, strides=((4, 1), (4, 2), (4, 3), (4, 1)), units=2, lstm_layers=1, group=4,
                   up_group=2, kernel_size=3, style=ConvStyle("group"))  # fmt: skip
    encoder, decoder = Encoder2d(net), Decoder2d(net)
    with torch.inference_mode():
        latent = encoder(noise(1, 3, 257, 31))
        assert latent.shape == (1, 5, 6)
        assert decoder(latent).shape == (1, 3, 257, 36)
    convs = [module for module in encoder.modules() if isinstance(module, torch.nn.Conv2d)]
    # The first; two units of narrow, widening and skip with 4, 4 and 8 channels on their narrower side.
    assert [conv.groups for conv in convs[:7]] == [1, 1, 1, 2, 1, 1, 2]
    assert [conv.dilation for conv in convs[1:5:3]] == [(1, 1), (1, 2)]
    ups = [module for module in decoder.modules() if isinstance(module, torch.nn.ConvTranspose2d)]
    assert [(up.groups, up.weight.shape[1]) for up in ups] == [(32, 2), (16, 2), (8, 2), (4, 2)]


@pytest.mark.parametrize("length", [257, 320, 1_001])
def test_analysis_equals_torchaudio(length: int) -> None:
    x = noise(1, 1, length)
    torchaudio = tolerant_torchaudio.load()
    spectrum = torchaudio.transforms.Spectrogram(512, hop_length=160, power=None)(x[:, 0])
    magnitude, cosine, sine = analyse(x, 512, 160).unbind(1)
    assert magnitude.shape == (1, 257, length // 160 + 1)
    torch.testing.assert_close(magnitude.exp() * torch.complex(cosine, sine), spectrum)
    torch.testing.assert_close(cosine.square() + sine.square(), torch.ones_like(sine))


@given(length=st.integers(1, 1_500))
@settings(max_examples=30)
def test_synthesis_inverts_analysis(length: int) -> None:
    """Also after the centre of the last spectrum."""
    x = noise(1, 1, length, seed=length).double()
    magnitude, cosine, sine = analyse(x, 512, 160).unbind(1)
    before = magnitude.exp().expm1().log()  # a softplus makes the magnitude of it
    found = synthesise(torch.stack([before, cosine, sine], dim=1), 512, 160)
    assert found.shape == (1, 1, 160 * (length // 160 + 1))
    torch.testing.assert_close(found[..., :length], x, rtol=0, atol=1e-5)


def test_silence_has_the_smallest_magnitude_and_no_phase() -> None:
    magnitude, cosine, sine = analyse(torch.zeros(1, 1, 400), 512, 160).unbind(1)
    torch.testing.assert_close(magnitude, torch.full_like(magnitude, -13.8155106))  # the logarithm of 1e-6
    assert not cosine.any()
    assert not sine.any()
