"""Manifests and folders of the user: precise errors, hostile names, no surprises."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecbench.benchmark.datasets.base import Utterance
from codecbench.benchmark.datasets.manifest import read_folder, read_manifest
from codecbench.recording import DataError

FILES = ["a.wav", "b.flac", "sub/c.wav"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


def put(folder: Path, content: str | bytes, name: str = "list.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_every_column(folder: Path) -> None:
    digest = "ab" * 32
    rows = (
        f"path,id,speaker,language,domain,transcript,sha256,x_mood\nsub/c.wav,C,s1,fr,music, Bonjour. ,{digest},grim\n"
    )
    expected = Utterance("C", folder / "sub/c.wav", "s1", "fr", "music", "Bonjour.", digest)
    assert read_manifest(put(folder, rows)) == (expected,)
    line = dict(zip(rows.split("\n")[0].split(","), rows.split("\n")[1].split(","), strict=True))
    assert read_manifest(put(folder, json.dumps(line), "list.jsonl")) == (expected,)


def test_only_the_path_is_needed(folder: Path) -> None:
    expected = (Utterance("sub/c", folder / "sub/c.wav"), Utterance("a", folder / "a.wav"))
    assert read_manifest(put(folder, "path\n./sub/../sub/c.wav\na.wav\n")) == (
        Utterance("sub/c", folder / "sub/../sub/c.wav"), expected[1],
    )  # fmt: skip
    assert read_manifest(put(folder, '{"path": "sub/c.wav"}\n\n{"path": "a.wav"}\n', "l.jsonl")) == expected


def test_absolute_paths_and_empty_values(folder: Path) -> None:
    content = f"path,id,speaker,domain,sha256\n{folder / 'a.wav'},one,,,\n"
    assert read_manifest(put(folder, content)) == (Utterance("one", folder / "a.wav"),)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_byte_order_mark_line_ends_and_blank_lines(folder: Path, mark: bytes, end: str) -> None:
    table = end.join(["path,transcript", 'a.wav,"é, ""x"""', "", "b.flac,y", ""])
    lines = end.join(['{"path": "a.wav", "transcript": "é, \\"x\\""}', "", '{"path": "b.flac", "transcript": "y"}'])
    for name, text in (("list.csv", table), ("list.jsonl", lines)):
        found = read_manifest(put(folder, mark + text.encode(), name))
        assert [(u.id, u.transcript) for u in found] == [("a", 'é, "x"'), ("b", "y")]


BAD_CSV = {
    "": "line 1: no column 'path'; there are: none",
    "id,file\n": "line 1: no column 'path'; there are: id, file",
    "path\n": "no utterances",
    "path,speker\n": "line 1: unknown column 'speker'; did you mean 'speaker'?",
    "path, id\n": "line 1: unknown column ' id'; did you mean 'id'?",
    "path,text\n": "line 1: unknown column 'text'; did you mean 'transcript'?",
    "path,sample_rate\n": "line 1: unknown column 'sample_rate'; a column of your own starts with x_",
    "path,mood\n": "line 1: unknown column 'mood'; a column of your own starts with x_, as in x_mood",
    "path,id,id\n": "line 1: the column 'id' appears twice",
    "path,id\na.wav\n": "line 2: 1 values for 2 columns",
    "path,id\na.wav,1\nb.flac,2,3\n": "line 3: 3 values for 2 columns",
    "path\na.wav\nnone.wav\n": "line 3: no such file: ",
    "path\nsub\n": "line 2: no such file: ",
    "path,id\n,1\n": "line 2: 'path' is '', which names no file",
    "path,id\n..,1\n": "line 2: 'path' is '..', which names no file",
    'path,id\n"a\n.w",1\na.wav,2\nb.flac,2\n': r"line 2: no such file: .*a\n.w; line 5: the id '2' is that of line 4",
    "path\na.wav\nb.flac\na.wav\n": "line 4: the id 'a' is that of line 2",
    "path,id\na.wav,Caf\u00e9\nb.flac,CAFE\u0301\n": "line 3: the id 'CAFE\u0301' is that of line 2",
    "path,id\na.wav,a\tb\n": r"line 2: the id 'a\tb' has characters that cannot be printed",
    "path,domain\na.wav,noise\n": "line 2: domain 'noise'; it is one of speech, music, sound",
    "path,sha256\na.wav,abc\n": "line 2: 'sha256' is not 64 hexadecimal digits",
    'path\n"a.wav\n': "line 2: unexpected end of data",
    'path\n"a"b\n': "line 2: ",
    "path,transcript\na.wav," + "x" * 10_000_000 + "\n": "line 2: field larger than field limit",
}


@pytest.mark.parametrize("content", BAD_CSV, ids=lambda c: c[:40])
def test_a_wrong_csv_is_refused_with_the_line(folder: Path, content: str) -> None:
    with pytest.raises(DataError) as caught:
        read_manifest(put(folder, content))
    message = str(caught.value)
    assert message.startswith(f"{folder / 'list.csv'}: ")
    start, _, end = BAD_CSV[content].partition(".*")
    assert start in message
    assert end in message
    assert "\n" not in message
    assert len(message) < 1000


BAD_JSON = {
    '{"path": "a.wav", "transcript": NaN}': "line 1: NaN is not JSON",
    '{"path": "a.wav", "x_level": -Infinity}': "line 1: -Infinity is not JSON",
    '{"path": "a.wav", "path": "b.flac"}': "line 1: a key appears twice",
    '{"path": "a.wav", "id": 1}': "line 1: 'id' is 1, not a string",
    '{"path": "a.wav", "speaker": null}': "line 1: 'speaker' is null, not a string",
    '{"path": "\\ud800.wav"}': "line 1: 'path' is '\\ud800.wav', which names no file",
    '{"path": "a\\u0000.wav"}': "line 1: 'path' is 'a\\x00.wav', which names no file",
    '{"path": "a.wav", "transcript": "\\ud800"}': "line 1: 'transcript' is not UTF-8",
    '["a.wav"]': "line 1: not an object",
    '{"path": "a.wav"}\n{"id": "1"}': "line 2: no column 'path'; there are: id",
    '{"path": "a.wav"}\n{"path": ': "line 2: ",
    '{"path": "a.wav", "x": 1}': "line 1: unknown column 'x'",
    '{"path": "' + "a" * (1 << 20) + '"}': "line 1: longer than 1048576 characters",
    '{"path": ' + "[" * 100_000: "line 1: ",
    "": "no utterances",
}


@pytest.mark.parametrize("content", BAD_JSON, ids=lambda c: c[:40])
def test_a_wrong_json_lines_is_refused_with_the_line(folder: Path, content: str) -> None:
    with pytest.raises(DataError) as caught:
        read_manifest(put(folder, content, "list.jsonl"))
    assert f"{folder / 'list.jsonl'}: {BAD_JSON[content]}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_text_that_is_not_utf8_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="line 2: 'transcript' is not UTF-8"):
        read_manifest(put(folder, b"path,transcript\na.wav,caf\xe9\n"))
    with pytest.raises(DataError, match="no column 'path'"):
        read_manifest(put(folder, "path\na.wav\n".encode("utf-16")))


def test_a_manifest_that_is_missing(folder: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.csv: no such file"):
        read_manifest(folder / "gone.csv")


def test_known_bad_rows_may_lack_their_file_but_not_their_place(folder: Path) -> None:
    path = put(folder, "path,id\na.wav,1\nnone.wav,2\n")
    assert [u.id for u in read_manifest(path, ["2"])] == ["1"]
    with pytest.raises(DataError, match="line 3: the id '2' is that of line 2"):
        read_manifest(put(folder, "path,id\nnone.wav,2\na.wav,2\n"), ["2"])


NAMES = [
    b"new\nline.wav", b"tab\t.wav", b"-rf.wav", b"'\"; $(x).wav", "\U0001f3b5.wav".encode(), b"no utf-8 \xff.wav",
    "\u202egnp.wav".encode(), b"CON.wav", b"x" * 251 + b".wav", b"<script>\".wav", b"a,b.wav", b"c\r\n.wav",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_hostile_names(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    path.touch()
    quoted = b'"' + name.replace(b'"', b'""') + b'"'
    by_csv = read_manifest(put(tmp_path, b"path\n" + quoted + b"\n"))
    by_json = read_manifest(put(tmp_path, json.dumps({"path": path.name}), "list.jsonl"))
    by_folder = read_folder(tmp_path)
    assert by_csv == by_json == by_folder
    (found,) = by_csv
    assert found.path.samefile(path)
    assert found.id.isprintable()
    found.id.encode()


def test_ids_do_not_depend_on_the_locale(tmp_path: Path) -> None:
    for name in ("é.wav", "\U0001f3b5.wav"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name.encode())).touch()
    put(tmp_path, "path\né.wav\n\U0001f3b5.wav\n")
    code = """
import sys
from pathlib import Path
from codecbench.benchmark.datasets.manifest import read_folder, read_manifest
folder = Path(sys.argv[1])
found = [*read_folder(folder), *read_manifest(folder / "list.csv")]
assert all(u.path.is_file() for u in found)
print(ascii([u.id for u in found]))
"""
    seen = set()
    for settings_ in ({"LC_ALL": "C", "PYTHONUTF8": "0"}, {"PYTHONUTF8": "1"}):
        environment = {**os.environ, **settings_}
        command = [sys.executable, "-c", code, str(tmp_path)]
        seen.add(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert seen == {ascii(["é", "\U0001f3b5"] * 2) + "\n"}


def test_a_folder_is_read_in_the_order_of_its_paths(folder: Path) -> None:
    (folder / "B.WAV").touch()
    for name in (".hidden.wav", "notes.txt", "._a.wav", "list.m3u"):
        (folder / name).touch()
    (folder / ".git").mkdir()
    (folder / ".git" / "x.wav").touch()
    (folder / "a.txt").write_text("\ufeffHello\n")
    (folder / "sub" / "c.lab").write_text("Bonjour")
    (folder / "B.WAV").rename(folder / "Z.WAV")
    assert read_folder(folder) == (
        Utterance("Z", folder / "Z.WAV"),
        Utterance("a", folder / "a.wav", transcript="Hello"),
        Utterance("b", folder / "b.flac"),
        Utterance("sub/c", folder / "sub/c.wav", transcript="Bonjour"),
    )
    assert [u.id for u in read_folder(folder, ["a", "Z"])] == ["b", "sub/c"]


def test_links_to_folders_are_followed_once(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "d.wav").touch()
    (elsewhere / "loop").symlink_to(folder)
    (folder / "linked").symlink_to(elsewhere)
    (folder / "self").symlink_to(folder)
    assert [u.id for u in read_folder(folder)] == ["a", "b", "linked/d", "sub/c"]


@pytest.mark.parametrize("names", [("a.wav", "a.flac"), ("a.wav", "A.wav"), ("e\u0301.wav", "\u00e9.wav")])
def test_two_recordings_with_one_id_are_both_named(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(DataError, match="two recordings have the id ") as caught:
        read_folder(tmp_path)
    assert all(name in str(caught.value) for name in names)


def test_a_folder_without_recordings(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(DataError, match=r"no recordings in .*: looked for \.aif"):
        read_folder(tmp_path)


def test_a_transcript_that_is_not_utf8(folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match=r"a\.txt: not UTF-8"):
        read_folder(folder)


def test_a_folders_manifest_is_preferred(folder: Path) -> None:
    put(folder, "path\na.wav\n", "manifest.csv")
    assert [u.id for u in read_folder(folder)] == ["a"]


@settings(max_examples=200)
@given(st.binary(max_size=200), st.sampled_from(["list.csv", "list.jsonl"]))
def test_any_bytes_are_a_manifest_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    with pytest.raises(DataError):
        read_manifest(put(folder, b"path\n" + content if name.endswith("csv") else content, name))
