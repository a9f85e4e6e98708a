"""Discriminators, losses and quantisers in training equal the releases' on the same weights.

``training.npz`` is written by ``regenerate_training.py``; SpeechBrain has a HiFi-GAN of its own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.golden.checkpoints import clip, content, excerpt
from torch import Tensor, nn

from codecbench import tolerant_torchaudio, weights
from codecbench.models.blocks.factorised import ResidualFactorisedVQ
from codecbench.models.blocks.learning import MovingAverage, kmeans
from codecbench.models.blocks.quantise import ResidualVQ
from codecbench.models.training import losses, mel
from codecbench.models.training.balancer import Balancer
from codecbench.models.training.discriminators import Jury, Verdict
from codecbench.models.training.discriminators_spectral import MultiBandSTFT, MultiResolution, MultiScaleSTFT
from codecbench.models.training.discriminators_wave import MultiPeriod, MultiScale, audiodec, hifigan
from codecbench.tolerant_torchaudio import import_speechbrain

RATE, LENGTH = 16_000, 4_001
Golden = dict[str, NDArray[np.float32]]
Rules = tuple[tuple[str, str], ...]


@pytest.fixture(scope="module")
def golden() -> Golden:
    with np.load(Path(__file__).parents[1] / "golden" / "training.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def waves() -> tuple[Tensor, Tensor]:
    clips = torch.from_numpy(np.stack([clip(LENGTH + i)[:LENGTH] for i in range(4)]))[:, None]
    return clips[:2], clips[2:]


def frames(batch: int, dimension: int, count: int, seed: int) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).standard_normal((batch, dimension, count)).astype(np.float32))


def fill(module: nn.Module, golden: Golden, name: str, rules: Rules, drop: str = r"$^") -> None:
    shapes = json.loads(str(golden[f"{name}/shapes"]))
    state = {key: torch.from_numpy(values) for key, values in content(shapes, 0, 1.0).items()}
    weights.load_state(module, weights.rename_keys(state, rules, drop), Path(name))


def check(verdicts: Sequence[Verdict], golden: Golden, name: str) -> None:
    assert f"{name}/logits/{len(verdicts) - 1}" in golden
    assert f"{name}/logits/{len(verdicts)}" not in golden
    for i, verdict in enumerate(verdicts):
        expected = golden[f"{name}/logits/{i}"]
        assert np.std(expected) > 1e-3
        np.testing.assert_allclose(excerpt(verdict.logits.detach().flatten().numpy()), expected, rtol=1e-4, atol=1e-5)
        means = [float(feature.detach().abs().mean()) for feature in verdict.features]
        np.testing.assert_allclose(means, golden[f"{name}/features/{i}"], rtol=1e-5)


STACK: Rules = (
    (r"^discriminators\.", "stacks."),
    (r"\.(convs|layers)\.(\d+)\.(0\.)?(conv\.)?", r".hidden.\2."),
    (r"\.(conv_post|output_conv)\.(conv\.)?", ".last."),
)


def test_encodec_discriminator(golden: Golden, waves: tuple[Tensor, Tensor]) -> None:
    module = MultiScaleSTFT((256, 512, 128), width=8)
    fill(module, golden, "encodec", STACK)
    check(module(waves[0]), golden, "encodec")


DAC: Rules = (
    (r"^discriminators\.([01])\.convs\.(\d)\.0\.", r"members.0.stacks.\1.hidden.\2."),
    (r"^discriminators\.([01])\.conv_post\.", r"members.0.stacks.\1.last."),
    *((rf"^discriminators\.{i + 2}\.band_convs\.(\d)\.(\d)\.0\.", rf"members.1.stacks.{i}.\1.\2.") for i in range(2)),
    *((rf"^discriminators\.{i + 2}\.conv_post\.", rf"members.1.lasts.{i}.") for i in range(2)),
)


def test_dac_discriminator_and_its_losses(golden: Golden, waves: tuple[Tensor, Tensor]) -> None:
    module = Jury(MultiPeriod((2, 3), always_padded=True), MultiBandSTFT((512, 256)), levelled=True)
    fill(module, golden, "dac", DAC)
    with torch.no_grad():
        fake, real = module(waves[0]), module(waves[1])
    check(fake, golden, "dac")
    count, layers = len(fake), sum(len(verdict.features) for verdict in fake)  # the release adds up; these are means
    assert count * float(losses.tell_apart(fake, real, "squares")) == pytest.approx(
        float(golden["dac/discriminator_loss"]), rel=1e-5
    )
    adversarial, features = golden["dac/generator_losses"]
    assert count * float(losses.fool(fake, "squares")) == pytest.approx(float(adversarial), rel=1e-5)
    assert layers * float(losses.match_features(fake, real)) == pytest.approx(float(features), rel=1e-5)


def test_audiodec_period_discriminator(golden: Golden, waves: tuple[Tensor, Tensor]) -> None:
    module = MultiPeriod((2, 3), last_kernel_size=2)
    fill(module, golden, "audiodec_periods", STACK)
    check(module(waves[0]), golden, "audiodec_periods")


def test_audiodec_scale_discriminator(golden: Golden, waves: tuple[Tensor, Tensor]) -> None:
    module = MultiScale(audiodec(16))
    rules = (*STACK[:1], (r"\.layers\.7\.(conv\.)?", ".last."), *STACK[1:])
    fill(module, golden, "audiodec_scales", rules)
    check(module(waves[0]), golden, "audiodec_scales")


def test_audiodec_resolution_discriminator(golden: Golden, waves: tuple[Tensor, Tensor]) -> None:
    module = MultiResolution()
    rules = (*STACK[:1], (r"\.layers\.5\.(conv\.)?", ".last."), *STACK[1:])
    fill(module, golden, "audiodec_resolutions", rules, drop=r"window$")
    check(module(waves[0]), golden, "audiodec_resolutions")


def test_hifigan_scale_discriminator_equals_speechbrains(waves: tuple[Tensor, Tensor]) -> None:
    import_speechbrain()
    from speechbrain.lobes.models.HifiGAN import MultiScaleDiscriminator

    theirs, ours = MultiScaleDiscriminator().eval(), MultiScale(hifigan()).eval()
    state = {name: tensor for name, tensor in theirs.state_dict().items() if not name.startswith("discriminators.0.")}
    kept = {name: tensor for name, tensor in ours.state_dict().items() if name.startswith("stacks.0.")}
    weights.load_state(ours, kept | weights.rename_keys(state, STACK), Path("speechbrain"))
    logits, features = theirs(waves[0])
    verdicts = ours(waves[0])
    for i in (1, 2):  # the first has spectral norms, whose old and new forms hold different tensors
        torch.testing.assert_close(verdicts[i].logits.flatten(1), logits[i])
        assert len(verdicts[i].features) == len(features[i]) - 1
        torch.testing.assert_close(verdicts[i].features[-1], features[i][-2])


def test_dac_mel_and_stft_distances(golden: Golden, waves: tuple[Tensor, Tensor]) -> None:
    assert float(mel.MelDistance(mel.dac(), RATE)(*waves)) == pytest.approx(float(golden["dac/mel"]), rel=1e-4)
    assert float(losses.multi_scale_stft(*waves)) == pytest.approx(float(golden["dac/stft"]), rel=1e-4)


def test_encodec_mel_distance_equals_torchaudios_spectra(waves: tuple[Tensor, Tensor]) -> None:
    transform = tolerant_torchaudio.load().transforms.MelSpectrogram
    whole = [wave[..., :3840] for wave in waves]  # of 30 and of 15 steps
    total = 0.0
    for window in (512, 1024):
        spectrum = transform(RATE, window, hop_length=window // 4, n_mels=64, center=False)
        edge = (window - window // 4) // 2
        one, other = (spectrum(nn.functional.pad(wave, (edge, edge), "reflect")) for wave in whole)
        assert one.shape[-1] == 3840 // (window // 4)
        logs = ((one + 1e-5).log10() - (other + 1e-5).log10()).pow(2).mean()
        total += float((one - other).abs().mean() + (window - 1) ** 0.5 * logs)
    assert float(mel.MelDistance(mel.encodec((512, 1024)), RATE)(*whole)) == pytest.approx(total, rel=1e-4)


def test_dac_quantiser(golden: Golden) -> None:
    module = ResidualFactorisedVQ(3, 32, 16, 4)
    fill(module, golden, "dac_quantiser", ((r"^quantizers\.", "layers."),))
    x = frames(4, 16, 20, 1).requires_grad_()
    result = module(x, torch.from_numpy(golden["dac_quantiser/numbers"]))
    (result.frames.sum() + result.commitment + result.codebook).backward()
    expected = {key.partition("/")[2]: value for key, value in golden.items() if key.startswith("dac_quantiser/")}
    assert len(np.unique(expected["numbers"])) > 1
    assert np.array_equal(result.codes.numpy(), expected["codes"])
    assert x.grad is not None
    found = {
        "frames": result.frames, "commitment": result.commitment, "codebook": result.codebook, "gradient": x.grad,
        "entries_gradient": module.layers[1].codebook.weight.grad,
    }  # fmt: skip
    for key, value in found.items():
        assert value is not None
        np.testing.assert_allclose(value.detach().numpy(), expected[key], rtol=1e-4, atol=1e-6, err_msg=key)


def test_encodec_quantiser(golden: Golden) -> None:
    module = ResidualVQ(3, 16, 8)
    drop = r"(inited|cluster_size|embed_avg)$"
    fill(module, golden, "encodec_quantiser", ((r"\._codebook\.", "."),), drop)
    module.learn(MovingAverage(kmeans=0, dead_below=0))
    for batch in range(2):
        result = module(frames(4, 8, 50, batch))
    assert np.array_equal(result.codes.transpose(0, 1).numpy(), golden["encodec_quantiser/codes"])
    entries = torch.stack([layer.embed for layer in module.layers]).numpy()
    for key, value in {"frames": result.frames, "commitment": result.commitment, "entries": entries}.items():
        np.testing.assert_allclose(value, golden[f"encodec_quantiser/{key}"], rtol=1e-4, atol=1e-5, err_msg=key)


def test_kmeans(golden: Golden) -> None:
    torch.manual_seed(5)
    means, counts = kmeans(frames(1, 8, 200, 7)[0].t().contiguous(), 16, 10)
    np.testing.assert_allclose(means.numpy(), golden["encodec_quantiser/kmeans"], rtol=1e-4, atol=1e-5)
    assert counts.sum() == 200


def test_balancer(golden: Golden) -> None:
    balancer = Balancer({"a": 1.0, "b": 3.0, "c": 4.0}, decay=0.9)
    for step in range(3):
        output = frames(2, 1, 100, step).requires_grad_()
        given = {"a": 100 * output.abs().mean(), "b": (output**3).mean()}
        given |= {"c": 1e-3 * output.exp().sum()} if step else {}
        gradient = balancer.gradient(given, output)
    np.testing.assert_allclose(gradient.numpy(), golden["balancer"], rtol=1e-4)
