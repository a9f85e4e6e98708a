"""Corpora in their published layouts, their download, and archives that are safe to unpack."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from codecbench import download
from codecbench.benchmark.datasets import corpora, registry, staging
from codecbench.benchmark.datasets.base import Utterance
from codecbench.errors import InfrastructureError
from codecbench.recording import DataError


def put(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


LIBRISPEECH = {
    "LibriSpeech/test-clean/61/70968/61-70968.trans.txt": "61-70968-0000 HE BEGAN\n61-70968-0001 BUT  WHAT\n",
    "LibriSpeech/test-clean/61/70968/61-70968-0000.flac": "",
    "LibriSpeech/test-clean/61/70968/61-70968-0001.flac": "",
    "LibriSpeech/test-clean/121/1/121-1.trans.txt": "121-1-0000 ALSO\n",
    "LibriSpeech/README.TXT": "",
}


def test_librispeech(tmp_path: Path) -> None:
    root = put(tmp_path, LIBRISPEECH)
    chapter = root / "LibriSpeech/test-clean/61/70968"
    assert tuple(corpora.read_librispeech(root)) == (
        Utterance("121-1-0000", root / "LibriSpeech/test-clean/121/1/121-1-0000.flac", "121", "en", transcript="ALSO"),
        Utterance("61-70968-0000", chapter / "61-70968-0000.flac", "61", "en", transcript="HE BEGAN"),
        Utterance("61-70968-0001", chapter / "61-70968-0001.flac", "61", "en", transcript="BUT  WHAT"),
    )
    assert len(tuple(corpora.read_librispeech(chapter))) == 2


def test_libritts(tmp_path: Path) -> None:
    stem = "LibriTTS/dev-clean/84/121123/84_121123_000007_000001"
    put(tmp_path, {f"{stem}.wav": "", f"{stem}.normalized.txt": "Maximilian.\n", f"{stem}.original.txt": "M."})
    expected = Utterance(Path(stem).name, tmp_path / f"{stem}.wav", "84", "en", transcript="Maximilian.")
    assert tuple(corpora.read_libritts(tmp_path)) == (expected,)
    (tmp_path / f"{stem}.normalized.txt").unlink()
    with pytest.raises(DataError, match=r"84_121123_000007_000001\.normalized\.txt: no such file"):
        tuple(corpora.read_libritts(tmp_path))


def test_ljspeech(tmp_path: Path) -> None:
    root = put(tmp_path, {"LJSpeech-1.1/metadata.csv": 'LJ001-0001|"A" in 1455|"A" in fourteen\nLJ001-0002|b|b.\n'})
    wavs = root / "LJSpeech-1.1" / "wavs"
    assert tuple(corpora.read_ljspeech(root)) == (
        Utterance("LJ001-0001", wavs / "LJ001-0001.wav", "LJ", "en", transcript='"A" in fourteen'),
        Utterance("LJ001-0002", wavs / "LJ001-0002.wav", "LJ", "en", transcript="b."),
    )
    put(tmp_path, {"LJSpeech-1.1/metadata.csv": "LJ001-0001\n"})
    with pytest.raises(DataError, match=r"metadata\.csv: a line without a text: 'LJ001-0001'"):
        tuple(corpora.read_ljspeech(root))


def test_vctk(tmp_path: Path) -> None:
    audio = "wav48_silence_trimmed"
    files = ["p225/p225_001_mic1.flac", "p225/p225_001_mic2.flac", "p315/p315_001_mic1.flac"]
    put(tmp_path, {f"{audio}/{name}": "" for name in files} | {"txt/p225/p225_001.txt": "Please call Stella.\n"})
    assert tuple(corpora.read_vctk(tmp_path)) == (
        Utterance("p225_001", tmp_path / audio / files[0], "p225", "en", transcript="Please call Stella."),
        Utterance("p315_001", tmp_path / audio / files[2], "p315", "en"),
    )


def archive(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for info, content in members:
            info.size = len(content) or info.size
            tar.addfile(info, io.BytesIO(content) if content else None)
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


FILE = (member("a/good.txt"), b"good")
UNSAFE = {
    "parent": [(member("../x"), b"x")],
    "inner parent": [(member("a/../../x"), b"x")],
    "absolute": [(member("/abs/x"), b"x")],
    "drive": [(member("C:x"), b"x")],
    "backslash": [(member("..\\x"), b"x")],
    "symbolic link": [(member("a/l", tarfile.SYMTYPE, "/etc"), b""), (member("a/l/x"), b"x")],
    "hard link": [(member("a/l", tarfile.LNKTYPE, "/etc/passwd"), b"")],
    "device": [(member("a/null", tarfile.CHRTYPE), b"")],
    "pipe": [(member("a/pipe", tarfile.FIFOTYPE), b"")],
    "twice": [(member("a/x"), b"1"), (member("a/x"), b"2")],
    "twice but for case": [(member("a/x"), b"1"), (member("./A/X"), b"2")],
    "bomb": [(member("a/zeros"), bytes(20 << 20))],
}


@pytest.mark.parametrize("name", UNSAFE)
def test_an_unsafe_archive_is_refused_whole(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "in" / "folder"
    folder.mkdir(parents=True)
    packed = archive(tmp_path / "x.tar.gz", FILE, *UNSAFE[name])
    with pytest.raises(DataError, match=r"x\.tar\.gz: refused: it"):
        staging.unpack(packed, folder)
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "in", folder, packed]


def test_a_sparse_member_of_10_gb_is_refused(tmp_path: Path) -> None:
    info = member("a/sparse")
    info.size = 10 << 30
    data = info.tobuf(tarfile.GNU_FORMAT)
    path = tmp_path / "x.tar"
    path.write_bytes(data + bytes(1024))
    with pytest.raises(DataError, match="refused: it would unpack to more than 30 times its size"):
        staging.unpack(path, tmp_path)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_safe_archive_unpacks(tmp_path: Path, mode: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    root = (member("./a", tarfile.DIRTYPE), b"")
    staging.unpack(archive(tmp_path / "x", root, root, FILE, (member("a/é.txt"), b"e"), mode=mode), folder)
    assert {p.name: p.read_bytes() for p in (folder / "a").iterdir()} == {"good.txt": b"good", "é.txt": b"e"}


@pytest.mark.parametrize("keep", [0, 10, 60, 0.5])
def test_a_damaged_archive(tmp_path: Path, keep: float) -> None:
    packed = archive(tmp_path / "x.tar.gz", FILE, (member("a/noise"), os.urandom(4000)))
    content = packed.read_bytes()
    packed.write_bytes(content[: int(keep if keep > 1 else keep * len(content))])
    with pytest.raises(DataError, match=r"x\.tar\.gz: damaged or unsafe archive"):
        staging.unpack(packed, tmp_path)


def test_a_download_is_checked_unpacked_and_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path / "cache"))
    put(tmp_path / "made", LIBRISPEECH)
    packed = tmp_path / "made.tar.gz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(tmp_path / "made/LibriSpeech", "LibriSpeech")
    digest = hashlib.sha256(packed.read_bytes()).hexdigest()
    monkeypatch.setitem(corpora.LIBRISPEECH, "test-other", digest)
    asked: list[tuple[str, str]] = []

    def fetch(url: str, target: Path, sha256: str, progress: object) -> None:
        assert progress is None
        asked.append((url, sha256))
        target.write_bytes(packed.read_bytes())

    monkeypatch.setattr(download, "fetch", fetch)
    assert registry.path("librispeech/test-other") is None
    folder = registry.get("librispeech/test-other")
    assert folder == registry.path("librispeech/test-other") == tmp_path / "cache/datasets/librispeech/test-other"
    assert registry.get("librispeech/test-other") == folder
    assert asked == [("https://www.openslr.org/resources/12/test-other.tar.gz", digest)]
    assert [p.name for p in folder.parent.iterdir() if not p.name.endswith(".lock")] == ["test-other"]
    data = registry.open_dataset("librispeech/test-other")
    assert (data.card.name, len(data.utterances)) == ("librispeech/test-other", 3)


def test_a_failed_download_leaves_nothing_at_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path))

    def fetch(*_: object) -> None:
        raise InfrastructureError("cut off at 3 of 4 bytes")

    monkeypatch.setattr(download, "fetch", fetch)
    with pytest.raises(InfrastructureError, match="cut off"):
        registry.get("ljspeech")
    assert registry.path("ljspeech") is None
    assert [p.name for p in (tmp_path / "datasets").iterdir()] == [".ljspeech.lock"]


def test_a_download_that_was_complete_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path))
    (tmp_path / "datasets").mkdir()
    packed = archive(tmp_path / "datasets/.LJSpeech-1.1.tar.bz2", FILE, mode="w:bz2")
    monkeypatch.setitem(corpora.LJSPEECH, "", hashlib.sha256(packed.read_bytes()).hexdigest())
    monkeypatch.setattr(download, "fetch", lambda *_: pytest.fail("downloaded again"))
    assert (registry.get("ljspeech") / "a/good.txt").read_bytes() == b"good"
    assert not packed.exists()


def test_prepare_replaces_an_incomplete_folder(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "old").touch()

    def complete(there: Path) -> bool:
        return (there / "new").exists()

    staging.prepare(folder, lambda empty: (empty / "new").touch(), complete)
    assert [p.name for p in folder.iterdir()] == ["new"]
    staging.prepare(folder, lambda _: pytest.fail("it is complete"), complete)


def test_prepare_keeps_the_old_folder_when_it_fails(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()

    def fill(_: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(InfrastructureError, match=r"cannot prepare .*: .*No space left"):
        staging.prepare(folder, fill, lambda _: False)
    assert folder.exists()
    assert not (tmp_path / ".data.partial").exists()


def test_of_two_processes_one_prepares(tmp_path: Path) -> None:
    filled: list[Path] = []
    started, go = threading.Event(), threading.Event()

    def fill(empty: Path) -> None:
        filled.append(empty)
        started.set()
        assert go.wait(10)

    threads = [threading.Thread(target=staging.prepare, args=(tmp_path / "data", fill)) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert started.wait(10)
    go.set()
    for thread in threads:
        thread.join(10)
    assert len(filled) == 1


def test_a_killed_prepare_leaves_nothing_half_made(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from codecbench.benchmark.datasets.staging import prepare
def fill(empty):
    (empty / "half").touch()
    print("here", flush=True)
    time.sleep(60)
prepare(Path(sys.argv[1]), fill)
"""
    folder = tmp_path / "data"
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"here\n"
        process.send_signal(signal.SIGKILL)
    assert not folder.exists()
    staging.prepare(folder, lambda empty: (empty / "whole").touch())
    assert [p.name for p in folder.iterdir()] == ["whole"]
    assert not (tmp_path / ".data.partial").exists()


READERS: list[Callable[[Path], object]] = [
    corpora.read_librispeech, corpora.read_libritts, corpora.read_ljspeech, corpora.read_vctk,
]  # fmt: skip


@pytest.mark.parametrize("read", READERS)
def test_an_empty_folder_has_no_utterances(tmp_path: Path, read: Callable[[Path], list[Utterance]]) -> None:
    assert not list(read(tmp_path))
