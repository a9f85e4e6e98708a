"""Speaker similarity: embeddings equal to those of the packages that the models come from."""

import json
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codecbench.benchmark.cache import DiskCache
from codecbench.errors import InfrastructureError, InvalidSystem, UsageError
from codecbench.metrics import speaker
from codecbench.metrics.base import Output, Reference, Signal, evaluate
from codecbench.metrics.conformance import signals
from codecbench.metrics.speaker import ECAPA, ECAPA_WEIGHTS, GE2E, embedding
from codecbench.tolerant_torchaudio import import_speechbrain

FOLDER = Path(__file__).parents[1] / "golden"
ENTRIES = [entry for entry in json.loads((FOLDER / "model_metrics.json").read_text()) if entry["of"] == "ge2e"]
METRICS = {metric.name: metric for metric in speaker.METRICS}
SPEECH = signals.speech(2.0)

needs_ge2e = pytest.mark.skipif(find_spec("resemblyzer") is None, reason="the package Resemblyzer is not installed")


def score(output: Any, name: str = "spk_sim") -> float:
    outcome = evaluate(METRICS[name], Reference(SPEECH, 16_000), Output(output, 16_000))
    assert outcome.status == "ok", outcome.reason
    assert outcome.value is not None
    return outcome.value


def test_there_are_golden_values() -> None:
    assert len(ENTRIES) == 4


@needs_ge2e
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry['seconds']}s-{entry['snr']}dB")
def test_ge2e_embeddings_are_resemblyzers(entry: dict[str, Any]) -> None:
    samples = signals.speech(entry["seconds"])
    if entry["snr"] is not None:
        samples = signals.at_snr(samples, entry["snr"])
    np.testing.assert_allclose(embedding(Signal(samples, 16_000), GE2E), entry["embedding"], atol=1e-5)


@needs_ge2e
def test_identical_is_one_and_noise_moves_away_from_it() -> None:
    assert score(SPEECH.copy()) == 1.0
    light, heavy = (score(signals.at_snr(SPEECH, snr)) for snr in (20, 0))
    assert 1 > light > heavy > 0


@needs_ge2e
@pytest.mark.parametrize("gain", [0.02, 1.7, -1.0])
def test_level_and_polarity_are_no_change_of_speaker(gain: float) -> None:
    assert score(SPEECH * np.float32(gain)) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("samples", "windows"),
    [(16_000, 1), (25_600, 1), (31_519, 1), (31_520, 2), (43_839, 2), (43_840, 3), (160_000, 12)],
)
def test_windows_of_ge2e(samples: int, windows: int) -> None:
    mel = speaker.ge2e_windows(signals.noise(samples))
    assert mel.shape == (windows, 160, 40)
    assert mel.dtype == np.float32


def test_what_has_no_similarity() -> None:
    silence = np.zeros_like(SPEECH)
    cases = [
        (Reference(SPEECH, 16_000), silence, "failed", "output_silent"),
        (Reference(silence, 16_000), SPEECH, "undefined", "ref_silent"),
        (Reference(SPEECH, 16_000, domain="music"), SPEECH, "undefined", "domain(music)"),
        (Reference(SPEECH[:15_000], 16_000), SPEECH, "undefined", "too_short"),
    ]
    for metric in METRICS.values():
        for reference, samples, status, reason in cases:
            outcome = evaluate(metric, reference, Output(samples, 16_000))
            assert (outcome.status, outcome.reason) == (status, reason)


@needs_ge2e
def test_embeddings_outlive_the_run(tmp_path: Path) -> None:
    first = embedding(Signal(SPEECH, 16_000, DiskCache(tmp_path)), GE2E)
    unloadable = replace(GE2E, load=lambda _: pytest.fail("loaded"))
    again = embedding(Signal(SPEECH, 16_000, DiskCache(tmp_path)), unloadable)
    np.testing.assert_array_equal(first, again)


def test_missing_package_is_one_line_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speaker, "find_spec", lambda _: None)
    prepare = METRICS["spk_sim"].prepare
    assert prepare
    with pytest.raises(UsageError, match="pip install --no-deps Resemblyzer"):
        prepare()


def test_missing_weights_are_one_line_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path))
    metric = METRICS["spk_sim_ecapa"]
    assert metric.weights == (ECAPA_WEIGHTS,)
    assert metric.prepare
    with pytest.raises(InfrastructureError, match="codecbench weights get spk_sim_ecapa"):
        metric.prepare()


@pytest.fixture(scope="module")
def random_ecapa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of SpeechBrain's own class with random weights, at the place of the official one."""
    import torch

    import_speechbrain()
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN

    torch.manual_seed(0)
    network = ECAPA_TDNN(
        input_size=80, channels=[1024, 1024, 1024, 1024, 3072], kernel_sizes=[5, 3, 3, 3, 1],
        dilations=[1, 2, 3, 4, 1], attention_channels=128, lin_neurons=192,
    )  # fmt: skip
    state = network.state_dict()
    assert len(state) == 231, "as many tensors as the official file has"
    for name, tensor in state.items():
        if name.endswith("running_mean"):
            tensor.normal_()
    folder = tmp_path_factory.mktemp("cache")
    path = folder / "weights" / ECAPA_WEIGHTS.name
    path.parent.mkdir()
    torch.save(state, path)
    return folder


def test_ecapa_is_speechbrains_verification(random_ecapa: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setenv("CODECBENCH_CACHE", str(random_ecapa))
    from speechbrain.inference.classifiers import EncoderClassifier
    from speechbrain.lobes.features import Fbank
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
    from speechbrain.processing.features import InputNormalization

    network = ECAPA_TDNN(80, lin_neurons=192, channels=[1024, 1024, 1024, 1024, 3072])
    network.load_state_dict(torch.load(ECAPA.weights(), weights_only=True))
    modules = {
        "compute_features": Fbank(n_mels=80), "embedding_model": network,
        "mean_var_norm": InputNormalization(norm_type="sentence", std_norm=False), "classifier": torch.nn.Identity(),
    }  # fmt: skip
    oracle = EncoderClassifier(modules=modules, hparams={"label_encoder": None})
    noisy = signals.at_snr(SPEECH, 5)
    expected = oracle.encode_batch(torch.from_numpy(np.stack([SPEECH, noisy])))[:, 0]

    np.testing.assert_allclose(embedding(Signal(SPEECH, 16_000), ECAPA), expected[0].numpy(), atol=1e-4, rtol=1e-4)
    cosine = torch.nn.functional.cosine_similarity(expected[0], expected[1], dim=0)
    assert score(noisy, "spk_sim_ecapa") == pytest.approx(float(cosine), abs=1e-5)
    assert score(SPEECH.copy(), "spk_sim_ecapa") == 1.0


def test_modules_can_still_be_looked_at(random_ecapa: Path) -> None:
    assert random_ecapa.is_dir()
    modules = [module for name, module in sys.modules.items() if name.startswith("speechbrain.")]
    assert modules
    for module in modules:
        hasattr(module, "no_such_attribute")  # a stand-in would raise ImportError


def test_a_file_that_was_not_published_is_refused(random_ecapa: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECBENCH_CACHE", str(random_ecapa))
    prepare = METRICS["spk_sim_ecapa"].prepare
    assert prepare
    with pytest.raises(InfrastructureError, match="is not the published file"):
        prepare()


def test_a_file_of_another_model_is_refused(tmp_path: Path) -> None:
    import torch

    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "other.ckpt")
    with pytest.raises(InvalidSystem, match="does not fit the model"):
        ECAPA.load(tmp_path / "other.ckpt")


@needs_ge2e
def test_signature_names_encoder_weights_and_level() -> None:
    assert "|model:resemblyzer-39373b86|feat:mel40-30dBFS|" in METRICS["spk_sim"].signature()
