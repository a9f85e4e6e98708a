"""Datasets: the channel policy, the check before a run, and the fingerprint."""

import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from codecbench.benchmark.datasets.base import (
    Channels,
    Checked,
    Dataset,
    DatasetCard,
    Utterance,
    check,
    fingerprint,
    fold,
    several,
)
from codecbench.errors import InfrastructureError, UsageError
from codecbench.recording import DataError

RATE = 16_000


def tone(seconds: float = 0.5, level: float = 0.5) -> np.ndarray:
    return level * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE)


def dataset(folder: Path, *signals: np.ndarray, channels: Channels = "downmix", max_duration: float = 600) -> Dataset:
    utterances = []
    for i, signal in enumerate(signals):
        path = folder / f"{i}.wav"
        soundfile.write(path, signal, RATE, "FLOAT")
        utterances.append(Utterance(f"u{i}", path, "s", "en", "speech", f"text {i}"))
    return Dataset(DatasetCard("d", channels=channels, max_duration=max_duration), tuple(utterances))


def test_downmix_is_the_mean_of_all_channels(tmp_path: Path) -> None:
    signal = np.random.default_rng(0).uniform(-1, 1, (100, 6)).astype(np.float32)
    data = dataset(tmp_path, signal)
    clip = data.load(data.utterances[0])
    assert clip.channels == 1
    assert clip.samples.dtype == np.float32
    np.testing.assert_array_equal(clip.samples[0], signal.astype(np.float64).mean(axis=1).astype(np.float32))


def test_a_mono_recording_is_untouched(tmp_path: Path) -> None:
    data = dataset(tmp_path, tone(), channels="reject")
    np.testing.assert_array_equal(data.load(data.utterances[0]).samples[0], tone().astype(np.float32))


def test_reject_refuses_stereo(tmp_path: Path) -> None:
    data = dataset(tmp_path, np.stack([tone(), tone()], axis=1), channels="reject")
    with pytest.raises(DataError, match=r"0\.wav: 2 channels, and the dataset rejects all but mono"):
        data.load(data.utterances[0])
    with pytest.raises(DataError, match=r"1 of 1 recordings of 'd' cannot be used: 'u0': .*2 channels"):
        check(data)


def test_the_cards_duration_limit_holds(tmp_path: Path) -> None:
    data = dataset(tmp_path, tone(2), max_duration=1)
    with pytest.raises(DataError, match=r"2\.0 s long; the limit is 1 s"):
        check(data)


def test_check_says_what_every_system_will_hear(tmp_path: Path) -> None:
    data = dataset(tmp_path, tone(0.5), tone(0.25))
    steps: list[tuple[int, int]] = []
    first, second = check(data, lambda done, total: steps.append((done, total)))
    assert steps == [(1, 2), (2, 2)]
    assert (first.id, first.sample_rate, first.frames, first.duration) == ("u0", RATE, 8000, 0.5)
    assert (second.id, second.frames, second.subtype, second.flags) == ("u1", 4000, "WAV FLOAT", ())
    assert first.digest == sha256(b"16000 Hz float32 " + tone().astype("<f4").tobytes()).hexdigest()


def test_the_digest_is_of_the_sound_and_not_of_the_file(tmp_path: Path) -> None:
    values = np.round(tone() * 2**15).astype(np.int16)
    utterances = []
    for name, subtype, rate in [("a.wav", "PCM_16", RATE), ("a.flac", "PCM_24", RATE), ("b.wav", "PCM_16", RATE + 1)]:
        soundfile.write(tmp_path / name, values, rate, subtype)
        utterances.append(Utterance(name, tmp_path / name))
    wav, flac, faster = (c.digest for c in check(Dataset(DatasetCard("d"), tuple(utterances))))
    assert wav == flac != faster


def clicks(count: int) -> np.ndarray:
    signal = tone()
    signal[100 : 100 + count] = 1.0
    return signal


FLAGS: dict[str, tuple[np.ndarray, tuple[str, ...]]] = {
    "tone": (tone(), ()),
    "full-scale tone": (tone(level=0.999), ()),
    "square": (np.sign(tone() + 1e-9), ("ref_clipped",)),
    "two samples": (clicks(2), ()),
    "three samples": (clicks(3), ("ref_clipped",)),
    "one channel of two": (np.stack([clicks(3), 0 * tone()], axis=1), ("ref_clipped",)),
    "offset": (tone(level=0.1) + 0.5, ("ref_dc",)),
    "-90 dBFS": (tone(level=10**-4.5), ("ref_low_level", "ref_silent")),
    "-70 dBFS": (tone(level=10**-3.5), ("ref_low_level",)),
    "silence": (np.zeros(8000), ("ref_low_level", "ref_silent")),
    "click": (np.eye(1, 80_000)[0] / 2, ()),
    "one sample": (np.full(1, 0.005), ()),
}


@pytest.mark.parametrize("name", FLAGS)
def test_flags(tmp_path: Path, name: str) -> None:
    signal, expected = FLAGS[name]
    assert check(dataset(tmp_path, signal))[0].flags == expected


def test_all_bad_recordings_are_counted_and_some_named(tmp_path: Path) -> None:
    data = dataset(tmp_path, *[tone()] * 8)
    for utterance in data.utterances[1:]:
        utterance.path.write_bytes(b"")
    with pytest.raises(DataError, match=r"^7 of 8 recordings of 'd' cannot be used: 'u1': .*; and 2 more") as caught:
        check(data)
    assert str(caught.value).count("empty file") == 5
    assert isinstance(caught.value, UsageError)


def test_a_file_that_changed_is_not_scored(tmp_path: Path) -> None:
    data = dataset(tmp_path, tone(), tone())
    path = data.utterances[1].path
    stated = replace(data.utterances[1], sha256=sha256(path.read_bytes()).hexdigest().upper())
    data = replace(data, utterances=(data.utterances[0], stated))
    assert len(check(data)) == 2
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(InfrastructureError, match=r"1\.wav is not the file that the dataset names: its sha256 is "):
        check(data)
    path.unlink()
    with pytest.raises(DataError, match=r"1\.wav: no such file"):
        check(data)


def test_check_stops_at_once_when_interrupted(tmp_path: Path) -> None:
    data = dataset(tmp_path, *[tone(0.1)] * 50)
    calls = 0

    def interrupt(*_: int) -> None:
        nonlocal calls
        calls += 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(data, interrupt)
    assert calls == 1


def change(**facts: Any) -> Callable[[Dataset, list[Checked]], tuple[Dataset, list[Checked]]]:
    def apply(data: Dataset, checked: list[Checked]) -> tuple[Dataset, list[Checked]]:
        last = replace(data.utterances[-1], **facts)
        return replace(data, utterances=(*data.utterances[:-1], last)), checked

    return apply


CHANGES: dict[str, Callable[[Dataset, list[Checked]], tuple[Dataset, list[Checked]]]] = {
    "id": change(id="other"),
    "speaker": change(speaker="t"),
    "language": change(language="fr"),
    "domain": change(domain="music"),
    "transcript": change(transcript="text 1."),
    "audio": lambda d, c: (d, [c[0], replace(c[1], digest="0" * 64)]),
    "policy": lambda d, c: (replace(d, card=replace(d.card, channels="reject")), c),
    "number": lambda d, c: (d.limited(1), c[:1]),
}


@pytest.mark.parametrize("what", CHANGES)
def test_the_fingerprint_changes_with_anything_that_is_scored(tmp_path: Path, what: str) -> None:
    data = dataset(tmp_path, tone(), tone(0.25))
    checked = check(data)
    assert fingerprint(*CHANGES[what](data, checked)) != fingerprint(data, checked)


def test_the_fingerprint_stays_where_nothing_that_is_scored_changes(tmp_path: Path) -> None:
    data = dataset(tmp_path, tone(), tone(0.25))
    checked = check(data)
    moved = tuple(replace(u, path=u.path.rename(tmp_path / f"moved{u.path.name}")) for u in data.utterances)
    other = Dataset(replace(data.card, name="e", note="n"), moved[::-1])
    assert fingerprint(other, check(other)) == fingerprint(data, checked)


def test_a_dataset_is_small_and_survives_the_way_to_a_worker(tmp_path: Path) -> None:
    data = dataset(tmp_path, tone())
    name = tmp_path / os.fsdecode(b"\xff.wav")
    data.utterances[0].path.rename(name)
    data = replace(data, utterances=(replace(data.utterances[0], path=name),))
    sent = pickle.dumps(data)
    assert len(sent) < 2000
    assert check(pickle.loads(sent)) == check(data)  # noqa: S301 - our own bytes


def test_limited_takes_the_first(tmp_path: Path) -> None:
    data = dataset(tmp_path, tone(), tone(), tone())
    assert [u.id for u in data.limited(2).utterances] == ["u0", "u1"]
    assert data.limited(None) == data.limited(10) == data
    with pytest.raises(UsageError, match="a limit of 0"):
        data.limited(0)


def test_ids_are_compared_without_case_and_normalisation() -> None:
    assert fold("Caf\u00e9") == fold("cafe\u0301") == fold("CAFE\u0301")
    assert fold("straße") == fold("STRASSE")
    assert fold("a") != fold("á")


def test_several_names_a_few() -> None:
    assert several(["a", "b"]) == "a; b"
    assert several(list("abcdefg"), 3) == "a; b; c; and 4 more"
