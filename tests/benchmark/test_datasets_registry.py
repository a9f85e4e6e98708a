"""What a dataset may be called, and what is said when it cannot be had."""

import csv
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import soundfile

from codecbench.benchmark.datasets import registry
from codecbench.benchmark.datasets.base import DatasetCard, Source, Utterance, check
from codecbench.benchmark.datasets.manifest import read_folder
from codecbench.errors import UsageError
from codecbench.recording import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    registry._sources.cache_clear()
    yield tmp_path / "cache"
    registry._sources.cache_clear()


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in "ab":
        soundfile.write(folder / f"{name}.wav", [[0.1, 0.3]] * 1600, 16_000)
    return folder


def test_names_and_cards() -> None:
    assert registry.names() == [
        "demo", "librispeech", "libritts", "ljspeech", "vctk", "digits-tts", "digits-asr", "digits-continuation",
        "librispeech-valle", "librispeech-valle2", "librispeech-pc", "seed-tts-eval", "librispeech-gslm", "pairs",
        "storycloze", "salmon", "swuggy", "swuggy-invocab", "sblimp",
    ]  # fmt: skip
    for name in registry.names():
        card = registry.describe(name)
        assert card.name == name
        assert card.title
        assert card.licence
        assert card.url.startswith("https://") or card.licence == "yours"
        assert registry.path(name) is None
    assert registry.describe("librispeech/dev-other").name == "librispeech/dev-other"


def test_listing_loads_nothing_heavy() -> None:
    code = "import sys; from codecbench.benchmark.datasets import registry; registry.names(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "scipy", "soundfile", "av", "pandas", "pydantic", "datasets", "urllib.request"}
    assert not heavy & set(done.stdout.split())


@pytest.mark.parametrize("form", ["mine", "./mine/", "{}/mine", "mine/list.csv", "mine/list.jsonl"])
def test_folders_and_manifests(tmp_path: Path, recordings: Path, form: str) -> None:
    (recordings / "list.csv").write_text("path\nb.wav\na.wav\n")
    (recordings / "list.jsonl").write_text('{"path": "b.wav"}\n{"path": "a.wav"}\n')
    data = registry.open_dataset(form.format(tmp_path))
    assert data.card.name == ("list" if "list" in form else "mine")
    assert [u.id for u in data.utterances] == (["b", "a"] if "list" in form else ["a", "b"])


def test_a_folder_and_its_manifest_have_one_name(recordings: Path) -> None:
    (recordings / "manifest.csv").write_text("path\na.wav\n")
    by_folder, by_file = registry.open_dataset("mine"), registry.open_dataset("mine/manifest.csv")
    assert by_folder == by_file
    assert by_folder.card.name == "mine"


@pytest.mark.usefixtures("recordings")
def test_the_channel_policy_may_be_chosen() -> None:
    data = registry.open_dataset("mine")
    assert data.card.channels == "downmix"
    assert data.load(data.utterances[0]).samples[0, 0] == pytest.approx(0.2, abs=1e-4)
    with pytest.raises(DataError, match="2 channels"):
        check(registry.open_dataset("mine", channels="reject"))


def test_known_bad_utterances_are_left_out(recordings: Path) -> None:
    (recordings / "a.wav").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 of 2 recordings of 'mine' cannot be used: 'a': .*known_bad"):
        check(registry.open_dataset("mine"))
    data = registry.open_dataset("mine", known_bad=["a"])
    assert [c.id for c in check(data)] == ["b"]
    with pytest.raises(DataError, match="dataset 'mine' has no utterances"):
        registry.open_dataset("mine", known_bad=["a", "b"])


def test_a_corpus_in_a_folder_of_the_user(tmp_path: Path) -> None:
    chapter = tmp_path / "LS" / "test-other" / "1" / "2"
    chapter.mkdir(parents=True)
    (chapter / "1-2.trans.txt").write_text("1-2-0000 YES\n")
    part = registry.open_dataset("librispeech:LS/test-other")
    assert part.card.name == "librispeech/test-other"
    whole = registry.open_dataset(f"librispeech:{tmp_path / 'LS'}")
    assert whole.card.name == "librispeech"
    assert part.utterances[0].transcript == whole.utterances[0].transcript == "YES"
    with pytest.raises(DataError, match=r"'1-2-0000': .*1-2-0000\.flac: no such file"):
        check(whole)
    with pytest.raises(DataError, match="dataset 'vctk' has no utterances"):
        registry.open_dataset("vctk:LS")


WRONG = {
    "dmo": "unknown dataset 'dmo': did you mean demo",
    "zzz": "unknown dataset 'zzz': `codecbench list datasets` shows all",
    "librispeech": "the dataset 'librispeech' is not here: codecbench data get librispeech, or name a folder that has "
    "it: librispeech:FOLDER",
    "librispeech/dev-clean": "codecbench data get librispeech/dev-clean, or .* librispeech:FOLDER",
    "librispeech/dev": "'librispeech' has no subset 'dev': its subsets are test-clean, test-other",
    "demo/x": "'demo' has no subset 'x': it has no subsets",
    "vctk": "the dataset 'vctk' is not here: download it from https://doi.org/10.7488/ds/2645, or name a folder",
    "librispeech:/no/such": r"no such folder: /no/such \(in 'librispeech:/no/such'\)",
    "./gone": "no such folder or manifest: ./gone",
    "gone.csv": "no such folder or manifest: gone.csv",
    "notes.txt": r"notes\.txt is no dataset: name a folder, or a manifest that ends in \.csv or \.jsonl",
    "hf:one": "'hf:one' is no hub dataset: write hf:owner/name:config:split",
    "hf:../..:a:b": "is no hub dataset",
    "hf:a/b:c/d:e": "is no hub dataset",
    "hf:a/b:c:test": "the dataset 'hf:a/b:c:test' is not here: codecbench data get hf:a/b:c:test$",
}


@pytest.mark.parametrize("spec", WRONG)
def test_what_cannot_be_opened_says_what_to_do(tmp_path: Path, spec: str) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match=WRONG[spec]):
        registry.open_dataset(spec)


def test_get_and_path_of_what_is_not_registered() -> None:
    for function in (registry.get, registry.path, registry.describe):
        with pytest.raises(UsageError, match="unknown dataset 'ljspeeech': did you mean ljspeech"):
            function("ljspeeech")
    with pytest.raises(UsageError, match=r"'vctk' cannot be downloaded by codecbench; see .*, then use vctk:FOLDER"):
        registry.get("vctk")


def entry_points(*sources: Source) -> Any:
    points = [SimpleNamespace(load=lambda source=source: source) for source in sources]
    return lambda group: points if group == "codecbench.datasets" else []


def test_third_parties_register_through_entry_points(
    tmp_path: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(folder: Path, subset: str, _: object) -> None:
        (recordings / "a.wav").rename(folder / f"{subset}.wav")

    source = Source(DatasetCard("theirs", subsets=("s", "t")), read_folder, fill, automatic=True)
    monkeypatch.setattr(registry, "entry_points", entry_points(source))
    assert registry.names()[-1] == "theirs"
    data = registry.open_dataset("theirs/t")
    assert (data.card.name, [u.id for u in data.utterances]) == ("theirs/t", ["t"])
    assert data.utterances[0].path == tmp_path / "cache/datasets/theirs/t/t.wav"


def test_a_name_cannot_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "entry_points", entry_points(Source(DatasetCard("demo"), read_folder)))
    with pytest.raises(UsageError, match="dataset 'demo' is registered twice"):
        registry.names()


def test_two_recordings_of_a_source_with_one_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = [Utterance("x", Path("1")), Utterance("X", Path("2"))]
    source = Source(DatasetCard("theirs"), lambda _: pair)
    monkeypatch.setattr(registry, "entry_points", entry_points(source))
    with pytest.raises(DataError, match="dataset 'theirs': two recordings have the id 'X': 1 and 2"):
        registry.open_dataset(f"theirs:{tmp_path}")


def test_the_entry_point_group_is_the_documented_one() -> None:
    point = EntryPoint("theirs", "codecbench.benchmark.datasets.corpora:SOURCES", "codecbench.datasets")
    assert isinstance(point.load()[0], Source)


def test_the_documented_columns_are_those_that_are_read(recordings: Path) -> None:
    from codecbench.benchmark.datasets import manifest, requests

    with (recordings / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([manifest.OF_RECORDINGS, ["a.wav", *[""] * 6]])
    assert all(f"``{name}``" in str(manifest.__doc__) for name in manifest.OF_RECORDINGS)
    assert all(f"``{name}``" in str(requests.__doc__) for name in requests.COLUMNS)
    assert len(registry.open_dataset("mine").utterances) == 1
