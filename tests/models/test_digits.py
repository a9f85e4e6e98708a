"""Strings of spoken digits: what is in them, and that they are the same again."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from codecbench.benchmark.datasets.manifest import read_folder
from codecbench.errors import UsageError
from codecbench.models.base import LoadOptions
from codecbench.models.small import SmallEncodec
from codecbench.models.training import digits
from codecbench.models.training.digits import RATE, WORDS, DigitStrings, coded_pool, takes


def test_takes_are_found_in_either_layout_and_have_the_same_order(digit_takes: Path, tmp_path: Path) -> None:
    published = takes(digit_takes)
    assert len(published) == 160
    assert [take.split for take in published[:8]] == ["test"] * 5 + ["train"] * 2 + ["held-out"]
    lines = ["id,path,speaker,digit,split"]
    for take in reversed(published):
        name = f"{take.speaker}_{take.digit}_{take.take:02d}"
        (tmp_path / f"{name}.wav").symlink_to(take.path)
        lines.append(f"{name},{name}.wav,{take.speaker},{take.digit},{take.split}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    listed = takes(tmp_path)
    assert [(t.speaker, t.digit, t.take) for t in listed] == [(t.speaker, t.digit, t.take) for t in published]
    ours, theirs = (DigitStrings(folder, "train", 3).draw(5) for folder in (digit_takes, tmp_path))
    np.testing.assert_array_equal(ours.samples, theirs.samples)


@settings(max_examples=20)
@given(number=st.integers(0, 10_000))
def test_a_string_is_what_it_says(digit_takes: Path, number: int) -> None:
    strings = DigitStrings(digit_takes, "train", seed=1)
    string = strings.draw(number)
    assert 3 <= len(string.words) <= 6
    assert string.text.split() == [WORDS[take.digit] for take in string.takes]
    assert {take.speaker for take in string.takes} == {string.speaker}
    assert {take.split for take in string.takes} == {"train"}
    assert string.samples.dtype == np.float32
    assert np.abs(string.samples).max() < 1
    spoken = sum(soundfile.info(take.path).duration for take in string.takes)
    pauses = string.clip.duration - spoken
    assert 0.05 <= pauses / (len(string.words) + 1) <= 0.25
    assert len(string.starts) == len(string.words)
    assert 0.05 <= string.starts[0] <= 0.25
    for take, start, end in zip(string.takes, string.starts, [*string.starts[1:], string.clip.duration], strict=True):
        assert 0.049 <= end - start - soundfile.info(take.path).duration <= 0.251
    np.testing.assert_array_equal(DigitStrings(digit_takes, "train", seed=1).draw(number).samples, string.samples)


def test_each_digit_is_where_its_word_stands(digit_takes: Path) -> None:
    string = DigitStrings(digit_takes, "test").draw(0, speaker="bob", digits=[7, 0, 9])
    assert (string.words, string.speaker) == (("seven", "zero", "nine"), "bob")
    frames = string.samples[: len(string.samples) // 800 * 800].reshape(-1, 800)
    loud = frames[np.sqrt((frames**2).mean(axis=1)) > 0.04]
    heard = [float(np.argmax(np.abs(np.fft.rfft(frame * np.hanning(800)))) * RATE / 800) for frame in loud]
    changes = [heard[0]] + [b for a, b in pairwise(heard) if abs(a - b) > 50]
    assert changes == pytest.approx([200 + 60 * 7, 200, 200 + 60 * 9], abs=25)


def test_splits_and_seeds_differ(digit_takes: Path) -> None:
    test, train = DigitStrings(digit_takes, "test").draw(0), DigitStrings(digit_takes, "train").draw(0)
    other = DigitStrings(digit_takes, "train", seed=1).draw(0)
    assert test.takes != train.takes != other.takes
    assert not {take.path for take in test.takes} & {take.path for take in train.takes}


@pytest.mark.parametrize("speed", [(1.25, 1.25), (1.2, 1.3)])
def test_pitch_goes_with_the_speed(digit_takes: Path, speed: tuple[float, float]) -> None:
    strings = DigitStrings(digit_takes, "train", speed=speed)
    heard = []
    for string in (strings.draw(4, digits=[9]), DigitStrings(digit_takes, "train").draw(4, digits=[9])):
        spectrum = np.abs(np.fft.rfft(string.samples, 16 * RATE))
        heard.append(float(np.argmax(spectrum)) / 16)
    assert speed[0] - 0.01 <= heard[0] / heard[1] <= speed[1] + 0.01
    assert strings.draw(4, digits=[9]).samples.tolist() == strings.draw(4, digits=[9]).samples.tolist()


def test_pauses_are_as_quiet_as_the_recordings_and_no_zeros(digit_takes: Path) -> None:
    string = DigitStrings(digit_takes, "test").draw(1)
    start = string.samples[: round(0.04 * RATE)]
    assert 1e-5 < np.sqrt((start**2).mean()) < 0.02
    assert np.count_nonzero(start) > 0.9 * len(start)


def test_what_is_not_there_is_said(digit_takes: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no recordings of the Free Spoken Digit Dataset"):
        takes(tmp_path)
    with pytest.raises(UsageError, match="no recording of four by carl in the test split"):
        DigitStrings(digit_takes, "test").draw(0, speaker="carl", digits=[4])
    (tmp_path / "0_ada_9.wav").symlink_to(digit_takes / "recordings/0_ada_6.wav")
    with pytest.raises(UsageError, match="no takes of the test split"):
        DigitStrings(tmp_path, "test")
    (tmp_path / "manifest.csv").write_text("path,speaker\na_0.wav,ada\n")
    with pytest.raises(UsageError, match="a row that names no take"):
        takes(tmp_path)


def test_a_pool_is_made_once_and_made_anew_when_asked_for_another(
    digit_takes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = SmallEncodec.load(LoadOptions(random_seed=0))
    strings, path = DigitStrings(digit_takes, "train"), tmp_path / "pools" / "digits.npz"
    made = coded_pool(strings, 3, codec, path)
    assert [item.text for item in made] == [strings.draw(number).text for number in range(3)]
    for number, item in enumerate(made):
        (codes,) = codec.encode([strings.draw(number).clip], codec.card.points[-1])
        np.testing.assert_array_equal(item.codes, np.stack(codes.streams))
    with monkeypatch.context() as patched:
        patched.setattr(digits, "_coded", lambda *_: pytest.fail("coded again"))
        kept = coded_pool(strings, 3, codec, path)
    for ours, theirs in zip(kept, made, strict=True):
        np.testing.assert_array_equal(ours.codes, theirs.codes)
        assert ours.codes.dtype == np.int16
        assert (ours.words, ours.speaker) == (theirs.words, theirs.speaker)
    assert len(coded_pool(DigitStrings(digit_takes, "train", seed=1), 2, codec, path)) == 2
    (faster,) = coded_pool(DigitStrings(digit_takes, "train", speed=(1.5, 1.5)), 1, codec, path)
    assert faster.codes.shape[1] < made[0].codes.shape[1]


def test_strings_are_written_as_a_dataset(digit_takes: Path, tmp_path: Path) -> None:
    strings = DigitStrings(digit_takes, "train")
    digits.write(strings, 3, tmp_path / "out")
    utterances = read_folder(tmp_path / "out")
    assert [(u.id, u.speaker, u.language, u.transcript) for u in utterances] == [
        (f"{n:04}", strings.draw(n).speaker, "en", strings.draw(n).text) for n in range(3)
    ]
    samples, rate = soundfile.read(utterances[2].path, dtype="float32")
    assert rate == RATE
    np.testing.assert_allclose(samples, strings.draw(2).samples, atol=1 / 32768)
