# It runs next to released code that is not installed beside the benchmark, so:
# mypy: ignore-errors
"""Write ``training.npz``: what the releases of EnCodec, DAC and AudioDec make of seeded weights in training.

Run with ``python tests/golden/regenerate_training.py ENCODEC AUDIODEC``, clones of
https://github.com/facebookresearch/encodec (commit 0e2d0ae) and https://github.com/facebookresearch/AudioDec (commit
e451e62), where the benchmark, descript-audio-codec 1.0.0 and torchaudio are installed.

Every module is filled by `content` with seed 0 under its own names; ``NAME/shapes`` holds those. ``NAME/logits/I`` and
``NAME/features/I`` are, for each verdict, an excerpt of its logits and the mean absolute values of its features. The
other values are what their functions below say.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch

from codecbench import tolerant_torchaudio

tolerant_torchaudio.load()
encodec_clone, audiodec_clone = sys.argv[1:]
sys.path.insert(0, encodec_clone)

from audiotools import AudioSignal  # noqa: E402
from checkpoints import clip, content, excerpt  # noqa: E402
from dac.model.discriminator import Discriminator  # noqa: E402
from dac.nn.loss import GANLoss, MelSpectrogramLoss, MultiScaleSTFTLoss  # noqa: E402
from dac.nn.quantize import ResidualVectorQuantize  # noqa: E402
from encodec.balancer import Balancer  # noqa: E402
from encodec.msstftd import MultiScaleSTFTDiscriminator  # noqa: E402
from encodec.quantization.core_vq import ResidualVectorQuantization, kmeans  # noqa: E402

RATE, LENGTH = 16_000, 4_001
arrays: dict[str, np.ndarray] = {}


def fill(name: str, module: torch.nn.Module) -> torch.nn.Module:
    shapes = {key: list(tensor.shape) for key, tensor in module.state_dict().items() if "window" not in key}
    weights = {key: torch.from_numpy(values) for key, values in content(shapes, 0, 1.0).items()}
    module.load_state_dict(weights, strict=False)
    arrays[f"{name}/shapes"] = np.array(json.dumps(shapes))
    return module


def waves() -> tuple[torch.Tensor, torch.Tensor]:
    """Two batches of two clips ``[2, 1, T]``."""
    clips = torch.from_numpy(np.stack([clip(LENGTH + i)[:LENGTH] for i in range(4)]))[:, None]
    return clips[:2], clips[2:]


def frames(batch: int, dimension: int, count: int, seed: int) -> torch.Tensor:
    """Frames ``[B, D, F]`` with normal values."""
    return torch.from_numpy(np.random.RandomState(seed).standard_normal((batch, dimension, count)).astype(np.float32))


def keep(name: str, logits: list[torch.Tensor], features: list[list[torch.Tensor]]) -> None:
    for i, (logit, feature) in enumerate(zip(logits, features, strict=True)):
        arrays[f"{name}/logits/{i}"] = excerpt(logit.flatten().numpy())
        arrays[f"{name}/features/{i}"] = np.array([float(one.abs().mean()) for one in feature])


def encodec_discriminator() -> None:
    windows = [256, 512, 128]
    module = MultiScaleSTFTDiscriminator(
        8, n_ffts=windows, win_lengths=windows, hop_lengths=[window // 4 for window in windows]
    )
    keep("encodec", *fill("encodec", module)(waves()[0]))


def dac_discriminator() -> None:
    module = fill("dac", Discriminator(periods=[2, 3], fft_sizes=[512, 256], sample_rate=RATE))
    verdicts = module(waves()[0])
    keep("dac", [verdict[-1] for verdict in verdicts], [verdict[:-1] for verdict in verdicts])
    losses = GANLoss(module)
    signals = [AudioSignal(wave, RATE) for wave in waves()]
    arrays["dac/discriminator_loss"] = losses.discriminator_loss(*signals).numpy()
    arrays["dac/generator_losses"] = np.array([float(loss) for loss in losses.generator_loss(*signals)])


def dac_losses() -> None:
    signals = [AudioSignal(wave, RATE) for wave in waves()]
    mel = MelSpectrogramLoss(
        n_mels=[5, 10, 20, 40, 80, 160, 320], window_lengths=[32, 64, 128, 256, 512, 1024, 2048], pow=1.0,
        mag_weight=0.0, mel_fmin=[0] * 7, mel_fmax=[None] * 7,
    )  # fmt: skip
    arrays["dac/mel"] = mel(*signals).numpy()
    arrays["dac/stft"] = MultiScaleSTFTLoss()(*signals).numpy()


def dac_quantiser() -> None:
    """Four frames' batch with the numbers of codebooks drawn for half of it; gradients of all losses to the input."""
    module = fill("dac_quantiser", ResidualVectorQuantize(16, 3, 32, 4, quantizer_dropout=0.5)).train()
    with torch.enable_grad():
        x = frames(4, 16, 20, 1).requires_grad_()
        torch.manual_seed(3)
        quantised, codes, _, commitment, codebook = module(x)
        (quantised.sum() + commitment + codebook).backward()
    torch.manual_seed(3)
    numbers = torch.full((4,), 3)
    numbers[:2] = torch.randint(1, 4, (4,))[:2]
    found = {"numbers": numbers, "frames": quantised, "codes": codes, "commitment": commitment, "codebook": codebook}
    found |= {"gradient": x.grad, "entries_gradient": module.quantizers[1].codebook.weight.grad}
    arrays.update({f"dac_quantiser/{key}": value.detach().numpy() for key, value in found.items()})


def encodec_quantiser() -> None:
    """Two batches; the entries after both."""
    module = fill("encodec_quantiser", ResidualVectorQuantization(
        num_quantizers=3, dim=8, codebook_size=16, kmeans_init=False, threshold_ema_dead_code=0,
    )).train()  # fmt: skip
    for layer in module.layers:
        layer._codebook.inited.fill_(1.0)
        layer._codebook.cluster_size.fill_(1.0)
        layer._codebook.embed_avg.copy_(layer._codebook.embed)
    for batch in range(2):
        quantised, codes, losses = module(frames(4, 8, 50, batch))
    found = {"frames": quantised, "codes": codes, "commitment": losses.sum()}
    found["entries"] = torch.stack([layer._codebook.embed for layer in module.layers])
    arrays.update({f"encodec_quantiser/{key}": value.numpy() for key, value in found.items()})
    torch.manual_seed(5)
    arrays["encodec_quantiser/kmeans"] = kmeans(frames(1, 8, 200, 7)[0].t().contiguous(), 16, 10)[0].numpy()


def encodec_balancer() -> None:
    """The gradient after three steps of losses of different scales, with a loss that starts at the second."""
    balancer = Balancer({"a": 1.0, "b": 3.0, "c": 4.0}, ema_decay=0.9)
    with torch.enable_grad():
        for step in range(3):
            output = frames(2, 1, 100, step).requires_grad_()
            losses = {"a": 100 * output.abs().mean(), "b": (output**3).mean()}
            losses |= {"c": 1e-3 * output.exp().sum()} if step else {}
            balancer.backward(losses, output)
    arrays["balancer"] = output.grad.numpy()


def audiodec_discriminators() -> None:
    sys.path.insert(0, audiodec_clone)
    from models.vocoder.modules import discriminator  # noqa: TID251 - the release's

    wave = waves()[0]
    parts = {
        "audiodec_periods": discriminator.HiFiGANMultiPeriodDiscriminator(periods=[2, 3]),
        "audiodec_scales": discriminator.HiFiGANMultiScaleDiscriminator(
            follow_official_norm=True, discriminator_params={"downsample_scales": [4, 4, 4, 4, 1], "channels": 16,
                                                             "max_downsample_channels": 128}),
        "audiodec_resolutions": discriminator.UnivNetMultiResolutionSpectralDiscriminator(),
    }  # fmt: skip
    for name, module in parts.items():
        verdicts = fill(name, module)(wave)
        keep(name, [verdict[-1] for verdict in verdicts], [verdict[:-1] for verdict in verdicts])


if __name__ == "__main__":
    with torch.no_grad():
        for make in (encodec_discriminator, dac_discriminator, dac_losses, dac_quantiser, encodec_quantiser,
                     encodec_balancer, audiodec_discriminators):  # fmt: skip
            make()
    np.savez_compressed(Path(__file__).parent / "training.npz", **arrays)
    print({name: value.shape for name, value in arrays.items()})
