"""Metrics of sound and music: the distance itself, the networks in the layouts they come in, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from codecbench.errors import InfrastructureError, InvalidSystem, UsageError
from codecbench.metrics import fad, pretrained, sound_models, vggish
from codecbench.metrics.base import Failed, Output, Reference, Value, evaluate
from codecbench.metrics.registry import find

RATE = 48_000


def sound(seed: int, seconds: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    return (0.2 * np.sin(2 * np.pi * rng.uniform(100, 4000) * time) + rng.normal(0, 0.02, len(time))).astype(np.float32)


def scored(name: str, seed: int, other: int, text: str = "a low hum") -> Value:
    reference = Reference(sound(seed), RATE, domain="music", text=text)
    return evaluate(find(name), reference, Output(sound(other), RATE))


def test_the_distance_in_closed_form() -> None:
    one, two = np.array([1.0, -2.0]), np.array([0.5, 0.0])
    narrow, wide = np.diag([1.0, 4.0]), np.diag([9.0, 0.25])
    expected = 0.25 + 4 + (3 - 1) ** 2 + (0.5 - 2) ** 2  # of independent axes: means apart, and deviations apart
    assert fad.frechet(one, narrow, two, fad.root(wide)) == pytest.approx(expected)
    assert fad.frechet(one, narrow, one, fad.root(narrow)) == pytest.approx(0, abs=1e-12)


def test_the_distance_is_that_of_the_root_of_a_matrix() -> None:
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(0)
    outputs, truths = ([rng.normal(k, 1 + k, (3, 5)) @ rng.normal(0, 1, (5, 5)) for _ in range(9)] for k in (0, 1))
    material = [[sound_models.packed(a), sound_models.packed(b)] for a, b in zip(outputs, truths, strict=True)]

    def independent(rows: list[np.ndarray]) -> float:
        (x, y), mixed = (np.concatenate(rows).astype("<f4"), np.concatenate(truths).astype("<f4")), np.cov
        a, b = mixed(x, rowvar=False, dtype=np.float64), mixed(y, rowvar=False, dtype=np.float64)
        apart = x.astype(np.float64).mean(0) - y.astype(np.float64).mean(0)
        return float(apart @ apart + np.trace(a + b - 2 * sqrtm(a @ b).real))

    shares = np.array(fad.shares(material))
    assert shares.mean() == pytest.approx(independent(outputs), rel=1e-7)
    without = np.array([independent(outputs[:k] + outputs[k + 1 :]) for k in range(9)])
    assert shares == pytest.approx(shares.mean() + 8 * (without.mean() - without), rel=1e-6)


def test_few_answers_have_no_distance() -> None:
    row = sound_models.packed(np.ones((1, 3)))
    with pytest.raises(Failed, match=r"too_few_items\(1"):
        fad.shares([[row, row]])
    with pytest.raises(Failed, match=r"too_few_embeddings\(2\)"):
        fad.shares([[row, row]] * 2)


def test_vggish_hears_what_the_release_hears() -> None:
    """By torchvggish 0.2's features, of the same tones."""
    time = np.arange(32_000) / 16_000
    tones = 0.3 * np.sin(2 * np.pi * 440 * time) + 0.1 * np.sin(2 * np.pi * 3000 * time * (1 + 0.1 * time))
    found = vggish.patches(tones.astype(np.float32))
    assert found.shape == (2, 96, 64)
    some = [found[0, 0, 0], found[0, 50, 10], found[1, 95, 63], found[1, 3, 40], found.mean(), found.std()]
    by_release = [-4.00035967228177, 1.2823979062854167, -4.600517399154525, -4.495082687774853, -3.2843298, 2.2034736]
    assert some == pytest.approx(by_release, abs=1e-5)
    assert vggish.patches(np.ones(100, np.float32)).shape == (1, 96, 64)


def tiny_vggish(path: Path) -> Path:
    """Random weights with the names of the release, in narrow layers."""
    import torch

    generator, state, narrow = torch.Generator().manual_seed(0), {}, 1
    for place, wide in zip(vggish.PLACES, (2, 2, 3, 3, 4, 4), strict=True):
        state[f"features.{place}.weight"] = torch.randn(wide, narrow, 3, 3, generator=generator) / 3
        state[f"features.{place}.bias"] = torch.zeros(wide)
        narrow = wide
    for place, (wide, narrow) in {0: (8, 4 * 6 * 4), 2: (8, 8), 4: (5, 8)}.items():
        state[f"embeddings.{place}.weight"] = torch.randn(wide, narrow, generator=generator) / 3
        state[f"embeddings.{place}.bias"] = torch.zeros(wide)
    torch.save(state, path)
    return path


def test_the_network_of_vggish(tmp_path: Path) -> None:
    import torch
    from torch.nn.functional import conv2d, linear, max_pool2d

    path = tiny_vggish(tmp_path / "vggish.pth")
    samples = sound(0)[: 16_000 * 2]
    found = vggish.load(path)(samples)
    state = torch.load(path, weights_only=True)
    x = torch.from_numpy(vggish.patches(samples))[:, None]
    for place in vggish.PLACES:  # the layers as the paper lists them: pools after 1, 2, 4 and 6
        x = conv2d(x, state[f"features.{place}.weight"], state[f"features.{place}.bias"], padding=1).relu()
        x = max_pool2d(x, 2) if place in (0, 3, 8, 13) else x
    x = x.transpose(1, 3).transpose(1, 2).reshape(len(x), -1)  # channels last, as the weights were exported
    for place in (0, 2, 4):
        x = linear(x, state[f"embeddings.{place}.weight"], state[f"embeddings.{place}.bias"])
        x = x.relu() if place < 4 else x
    assert found.shape == (2, 5)
    assert torch.allclose(found, x, atol=1e-5)
    torch.save({**state, "extra": torch.zeros(1)}, path)
    with pytest.raises(InvalidSystem, match="does not fit"):
        vggish.load(path)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds a narrow VGGish in place of the published one."""
    path = tiny_vggish(tmp_path / "vggish.pth")
    monkeypatch.setattr(sound_models, "local_path", lambda _: path)
    for remembered in (sound_models.parts, sound_models._loaded):
        remembered.cache_clear()
    return path


@pytest.mark.usefixtures("published")
def test_fad_of_a_list() -> None:
    metric = find("fad")
    assert metric.shares
    values = [scored("fad", seed, seed + 100) for seed in range(4)]
    assert {value.status for value in values} == {"ok"}
    same = [scored("fad", seed, seed) for seed in range(4)]
    apart, none = (np.mean(metric.shares([v.material for v in found])) for found in (values, same))
    assert none == pytest.approx(0, abs=1e-5)  # processors sum in an order of their own
    assert apart > 1e-3
    assert "|model:vggish-" in metric.signature()


def test_vggish_has_to_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound_models, "local_path", lambda _: None)
    prepare = find("fad").prepare
    assert prepare
    with pytest.raises(InfrastructureError, match="codecbench weights get fad"):
        prepare()


@pytest.fixture(scope="module")
def clap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLAP model of random weights, with the files of the released ones."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder, library = tmp_path_factory.mktemp("clap") / "tiny-clap", pretrained.transformers()
    torch.manual_seed(0)
    audio = {"num_mel_bins": 64, "spec_size": 128, "hidden_size": 8, "patch_embeds_hidden_size": 4, "depths": [1, 1],
             "num_attention_heads": [2, 2], "num_hidden_layers": 2, "window_size": 4, "patch_size": 4,
             "patch_stride": [4, 4], "num_classes": 2, "projection_dim": 8, "enable_fusion": False}  # fmt: skip
    text = {"vocab_size": 8, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 8, "max_position_embeddings": 40, "projection_dim": 8, "pad_token_id": 1}  # fmt: skip
    config = library.ClapConfig(text_config=text, audio_config=audio, projection_dim=8)
    library.ClapModel(config).save_pretrained(folder)
    library.ClapFeatureExtractor(truncation="rand_trunc", max_length_s=1).save_pretrained(folder)
    words = {word: k for k, word in enumerate(["<unk>", "<pad>", "a", "low", "high", "hum"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"unk_token": "<unk>", "pad_token": "<pad>"}
    library.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return folder


def test_clap_is_the_cosine_of_the_models_own_embeddings(clap: Path) -> None:
    import torch

    library = pretrained.transformers()
    model = library.ClapModel.from_pretrained(clap).eval()
    given = library.AutoFeatureExtractor.from_pretrained(clap)(sound(7), sampling_rate=RATE, return_tensors="pt")
    ids = torch.tensor([[2, 3, 5]])
    with torch.inference_mode():
        both = model(input_ids=ids, attention_mask=torch.ones_like(ids), **given)
    expected = float(both.audio_embeds[0] @ both.text_embeds[0])
    value = scored(f"clap:{clap}", 0, 7)
    assert value.value == pytest.approx(expected, abs=1e-5)
    assert scored(f"clap:{clap}", 0, 7, text="").reason == "no_text"
    assert "|model:tiny-clap-" in find(f"clap:{clap}").signature()
    assert find(f"fad:{clap}").signature().startswith(f"fad:{clap}|model:tiny-clap-")


def test_long_recordings_are_heard_in_windows_without_chance(clap: Path) -> None:
    long = Output(np.concatenate([sound(1), sound(2), sound(3, 0.05)]), RATE)
    rows = sound_models.heard(long, "clap", str(clap))
    assert rows.shape == (2, 8)
    first, second = (sound_models.heard(Output(sound(seed), RATE), "clap", str(clap)) for seed in (1, 2))
    assert rows == pytest.approx(np.concatenate([first, second]), abs=1e-6)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audio spectrogram transformer of random weights, with the files of the released ones."""
    import torch

    folder, library = tmp_path_factory.mktemp("ast") / "tiny-ast", pretrained.transformers()
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = library.ASTConfig(**sizes, max_length=64, num_mel_bins=32, num_labels=6)
    library.ASTForAudioClassification(config).save_pretrained(folder)
    library.ASTFeatureExtractor(max_length=64, num_mel_bins=32).save_pretrained(folder)
    return folder


def test_divergence_of_classes(classifier: Path) -> None:
    import torch

    name, library = f"kld:{classifier}", pretrained.transformers()
    assert scored(name, 1, 1).value == 0.0
    model = library.ASTForAudioClassification.from_pretrained(classifier).eval()
    extractor = library.AutoFeatureExtractor.from_pretrained(classifier)
    logs = []
    for seed in (1, 2):
        samples = Output(sound(seed), RATE).at(16_000)
        windows = [samples[: 64 * 160], samples[64 * 160 :]]
        with torch.inference_mode():
            found = [model(**extractor(w, sampling_rate=16_000, return_tensors="pt")).logits[0] for w in windows]
        logs.append(torch.stack([logits.softmax(-1) for logits in found]).mean(0).log())
    expected = torch.nn.functional.kl_div(logs[1], logs[0], log_target=True, reduction="sum")
    assert scored(name, 1, 2).value == pytest.approx(float(expected), rel=1e-3)
    assert "|prob:softmax|" in find(name).signature()
    speech = Reference(sound(1), RATE, domain="speech")
    assert evaluate(find(name), speech, Output(sound(1), RATE)).reason == "domain(speech)"


def test_a_network_of_another_kind_is_refused(clap: Path, classifier: Path) -> None:
    for name, said in {
        f"clap:{classifier}": "is of type audio-spectrogram-transformer, and clap is wanted",
        f"kld:{clap}": "is of type clap", "kld": "name the network", f"fad:{classifier}": "and clap is wanted",
    }.items():  # fmt: skip
        prepare = find(name).prepare
        assert prepare
        with pytest.raises(UsageError, match=said):
            prepare()
