"""The lists of requests of spoken digits: put together the same way each time, from recordings of the user's or not."""

from __future__ import annotations

import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codecbench.benchmark.datasets import digits, registry
from codecbench.benchmark.datasets.base import check
from codecbench.benchmark.sweep import read_sweep
from codecbench.errors import InfrastructureError, UsageError
from codecbench.recording import read

LISTS = [source.card.name for source in digits.SOURCES]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(digits.FSDD, raising=False)
    monkeypatch.setattr(digits, "REQUESTS", 6)  # of the thirty: put together as all are
    return tmp_path / "cache" / "datasets"


@pytest.fixture
def own(digit_takes: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's recordings, made known."""
    monkeypatch.setenv(digits.FSDD, str(digit_takes))
    return digit_takes


def test_there_are_three() -> None:
    assert LISTS == ["digits-tts", "digits-asr", "digits-continuation"]
    assert set(LISTS) < set(registry.names())


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("name", LISTS)
def test_a_list_is_put_together_at_first_use(name: str, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = registry.open_dataset(name)
    assert caplog.messages == [f"preparing the dataset '{name}' in {cache / name}"]
    assert data.task == name.removeprefix("digits-")
    assert len(data.utterances) == digits.REQUESTS
    assert Counter(u.speaker for u in data.utterances) == {"ada": 3, "bob": 3}
    assert {u.language for u in data.utterances} == {"en"}
    checked = check(data)
    assert {c.sample_rate for c in checked} == {16_000}
    assert not any(c.flags for c in checked)
    (cache / name).rename(cache / "before")
    registry.open_dataset(name)
    for file in (cache / "before").iterdir():
        assert file.read_bytes() == (cache / name / file.name).read_bytes()


@pytest.mark.usefixtures("own")
def test_a_text_is_said_by_the_speaker_of_the_prompt_and_not_by_that_of_the_contrast() -> None:
    for u in registry.open_dataset("digits-tts").utterances:
        assert u.asked is not None
        assert u.asked.text == u.transcript
        assert 3 <= len(u.transcript.split()) <= 6
        assert len(u.asked.prompt_transcript.split()) >= 4
        truth, prompt, contrast = (overtones(path) for path in (u.path, u.asked.prompt, u.asked.contrast))
        assert truth == prompt == u.speaker != contrast


def overtones(path: Path | None) -> str:
    """Who speaks in a recording of tones: ada has overtones an octave above, bob has none there."""
    assert path is not None
    samples = read(path).clip.samples[0]
    spectrum = np.abs(np.fft.rfft(samples))
    hertz = np.arange(len(spectrum)) * 16_000 / len(samples)
    found = dict.fromkeys(("ada", "bob"), 0.0)
    for speaker, overtone in (("ada", 2), ("bob", 3)):
        for digit in range(10):
            near = np.abs(hertz - overtone * (200 + 60 * digit)) < 8
            found[speaker] += float((spectrum[near] ** 2).sum())
    return max(found, key=lambda name: found[name])


@pytest.mark.usefixtures("own")
def test_a_continuation_hears_three_whole_digits() -> None:
    for u in registry.open_dataset("digits-continuation").utterances:
        assert u.asked is not None
        samples = read(u.path).clip.samples[0]
        cut = round(u.asked.prompt_seconds * 16_000)
        levels = np.sqrt(np.convolve(samples**2, np.ones(160) / 160, "same"))
        assert levels[cut - 160 : cut].max() < 0.02
        loud = levels > 0.03
        assert np.count_nonzero(np.diff(loud[:cut].astype(int)) == 1) >= 3
        assert not u.transcript


def test_a_folder_may_be_named(digit_takes: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = registry.open_dataset(f"digits-asr:{digit_takes}")
    assert registry.open_dataset(f"digits-asr:{digit_takes}").utterances == named.utterances
    assert registry.path("digits-asr") is None
    monkeypatch.setenv(digits.FSDD, str(digit_takes))
    plain = registry.open_dataset("digits-asr")
    for ours, theirs in zip(plain.utterances, named.utterances, strict=True):
        assert (ours.transcript, ours.path.read_bytes()) == (theirs.transcript, theirs.path.read_bytes())
    assert registry.open_dataset(f"digits-asr:{cache / 'digits-asr'}").utterances == plain.utterances


def test_a_sweep_without_metrics_measures_what_its_lists_name() -> None:
    sweep = read_sweep(None, {"models": ["identity"], "datasets": ["digits-asr:there", {"name": "digits-tts"}, "x"]})
    assert sweep.metrics == ("answer_digit_error_rate", "digit_error_rate", "spk_sim_prompt", "spk_sim_contrast")
    asked = {"models": ["identity"], "datasets": ["digits-asr"], "metrics": ["lsd"]}
    assert read_sweep(None, asked).metrics == ("lsd",)
    with pytest.raises(UsageError, match="'metrics' is missing"):
        read_sweep(None, {"models": ["identity"], "datasets": ["demo", "x"]})


def test_a_folder_without_digits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no recordings of the Free Spoken Digit Dataset"):
        registry.open_dataset(f"digits-tts:{tmp_path / 'empty'}")


@pytest.mark.usefixtures("own")
def test_a_list_of_another_version_is_made_anew(cache: Path) -> None:
    registry.get("digits-asr")
    (cache / "digits-asr" / digits.STAMP).write_text("0")
    assert registry.path("digits-asr") is None
    registry.open_dataset("digits-asr")
    assert (cache / "digits-asr" / digits.STAMP).read_text() == digits.VERSION


def test_the_release_is_fetched_once(
    digit_takes: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "release.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(digit_takes / "recordings", "free-spoken-digit-dataset-1.0.10/recordings")
    fetched = list[str]()

    def fetch(url: str, target: Path, **_: object) -> str:
        fetched.append(url)
        shutil.copy(archive, target)
        return ""

    monkeypatch.setattr("codecbench.download.fetch", fetch)
    with pytest.raises(InfrastructureError, match="holds 160 recordings of digits, and should hold 3000"):
        registry.get("digits-asr")
    assert not (cache / "fsdd").exists()
    monkeypatch.setattr(digits, "TAKES", 160)
    for name in LISTS:
        registry.get(name)
    assert fetched == [digits.URL] * 2


def test_offline_it_says_how_a_folder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*_: object, **__: object) -> str:
        raise InfrastructureError("cannot download: no network")

    monkeypatch.setattr("codecbench.download.fetch", fetch)
    with pytest.raises(InfrastructureError, match=r"no network; if you have the recordings, .* in \$CODECBENCH_FSDD"):
        registry.open_dataset("digits-tts")


@pytest.mark.skipif(find_spec("resemblyzer") is None, reason="the package Resemblyzer is not installed")
@pytest.mark.usefixtures("own")
def test_a_run_hears_digits_and_both_voices(run: Callable[..., Any], rows: Callable[..., list[dict[str, Any]]]) -> None:
    metrics = "digit_error_rate,spk_sim_prompt,spk_sim_contrast"
    options = ("--models", "identity,prompt_loop", "--datasets", "digits-tts", "--limit", "2")
    run(metrics=metrics, options=options)
    found = {(row["system"], row["utterance"], row["metric"]): row for row in rows()}
    for system in ("identity", "prompt_loop"):
        for utterance in ("00", "01"):
            assert [found[system, utterance, metric]["status"] for metric in metrics.split(",")] == ["ok"] * 3
    looped = {metric: found["prompt_loop", "00", metric]["value"] for metric in metrics.split(",")}
    assert looped["spk_sim_prompt"] > max(0.95, looped["spk_sim_contrast"])
