"""The parts of isolation: messages, plain values, logs, limits and environments."""

import json
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from codecbench.benchmark.isolation import environments
from codecbench.benchmark.isolation.describe import describe
from codecbench.benchmark.isolation.environments import find_uv
from codecbench.benchmark.isolation.log import HALF_BYTES, CappedLog, printable
from codecbench.benchmark.isolation.plain import from_plain, to_plain
from codecbench.benchmark.isolation.protocol import (
    FRAME,
    MARK,
    Assembler,
    Message,
    ProtocolError,
    receive,
    send,
    to_bytes,
    unwire_many,
    wire_many,
)
from codecbench.errors import UsageError
from codecbench.models import registry as models
from codecbench.models.base import SIDE_DTYPES, Card, Codes, LoadOptions

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ARRAYS = st.sampled_from((*SIDE_DTYPES, "float64", "int64", "uint64")).flatmap(
    lambda dtype: arrays(dtype, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)


def through(message: Message, cap: int = 1 << 20, piece: int = 7) -> Message:
    """`message` as it arrives, some bytes at a time."""
    raw = b"".join(bytes(part) for part in to_bytes(message))
    assembler = Assembler(cap)
    while raw:
        room = assembler.room()
        count = min(piece, len(room), len(raw))
        room[:count] = raw[:count]
        raw = raw[count:]
        if found := assembler.took(count):
            assert not raw
            return found
    raise AssertionError("no message")


@given(st.text(), st.dictionaries(st.text(), JSON, max_size=4), st.lists(ARRAYS, max_size=4))
def test_messages_arrive_as_they_were(kind: str, facts: dict[str, Any], items: list[np.ndarray[Any, Any]]) -> None:
    found = through(Message(kind, facts, tuple(items)))
    assert (found.kind, found.facts) == (kind, facts)
    assert len(found.arrays) == len(items)
    for a, b in zip(found.arrays, items, strict=True):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
        assert not a.flags.writeable


@given(st.binary(max_size=200), st.integers(0, 1 << 64 - 1))
def test_no_bytes_do_more_than_raise(raw: bytes, body: int) -> None:
    for data in (raw, FRAME.pack(MARK, max(len(raw), 1), body % 100) + raw):
        assembler = Assembler(1000)
        left = data
        try:
            while left and (room := assembler.room()):
                count = min(len(room), len(left))
                room[:count] = left[:count]
                left = left[count:]
                assembler.took(count)
        except ProtocolError:
            continue


@pytest.mark.parametrize(
    ("header", "body", "message"),
    [
        (b"[]", 0, "other fields"),
        (b'{"kind":"x","facts":{},"arrays":[],"more":1}', 0, "other fields"),
        (b'{"kind":1,"facts":{},"arrays":[]}', 0, "kind is no text"),
        (b'{"kind":"x","facts":[],"arrays":[]}', 0, "facts no mapping"),
        (b'{"kind":"x","facts":{},"arrays":{}}', 0, "no list"),
        (b'{"kind":"x","facts":{},"arrays":[["<f4",[2]]]}', 4, "do not fill"),
        (b'{"kind":"x","facts":{},"arrays":[["<f4",[1099511627776]]]}', 4, "impossible"),
        (b'{"kind":"x","facts":{},"arrays":[["<f4",[-1]]]}', 4, "impossible"),
        (b'{"kind":"x","facts":{},"arrays":[["<f4",[true]]]}', 4, "impossible"),
        (b'{"kind":"x","facts":{},"arrays":[["|O",[1]]]}', 8, "impossible"),
        (b'{"kind":"x","facts":{},"arrays":[["|V8",[1]]]}', 8, "impossible"),
        (b'{"kind":"x","facts":{},"arrays":[[["<f4"],[1]]]}', 4, "no pair"),
        (b'{"kind":"x","facts":{},"arrays":[7]}', 4, "no pair"),
        (b"\xff", 0, "no JSON"),
    ],
)
def test_headers_are_checked(header: bytes, body: int, message: str) -> None:
    assembler = Assembler(1 << 20)
    assembler.room()[:] = FRAME.pack(MARK, len(header), body)
    assert assembler.took(FRAME.size) is None
    assembler.room()[:] = header
    with pytest.raises(ProtocolError, match=message):
        assembler.took(len(header))


@pytest.mark.parametrize(("header", "body"), [(0, 0), (1 << 21, 0), (10, 1001), (10, 1 << 63)])
def test_sizes_are_checked_before_anything_is_allocated(header: int, body: int) -> None:
    assembler = Assembler(1000)
    assembler.room()[:] = struct.pack("<4sIQ", MARK, header, body)
    with pytest.raises(ProtocolError, match="over"):
        assembler.took(FRAME.size)


def test_objects_are_never_sent() -> None:
    with pytest.raises(ProtocolError, match="an array of object"):
        to_bytes(Message("x", {}, (np.array([{}], dtype=object),)))


def test_a_socket_carries_messages_both_ways() -> None:
    ours, theirs = socket.socketpair()
    big = Message("encode", {"rate": 8000}, (np.zeros((2, 500_000), np.float32),))
    sender = threading.Thread(target=send, args=(ours, big))
    sender.start()
    assert receive(theirs, 1 << 30).arrays[0].shape == (2, 500_000)
    sender.join()
    ours.close()
    with pytest.raises(EOFError):
        receive(theirs, 1 << 30)
    theirs.close()


def test_codes_arrive_as_they_were() -> None:
    tokens = Codes(
        5, 8000, 1, (np.array([1, 2]), np.array([0, 3, 3], np.uint8)), (4, 5), {"scale": np.ones((1, 2), np.float16)}
    )
    packets = Codes(7, 48000, 2, packets=(b"", b"abc", b"\0"))
    facts, found = wire_many([tokens, packets])
    a, b = unwire_many(json.loads(json.dumps(facts)), found)
    assert all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in zip(a.streams, tokens.streams, strict=True))
    assert a.codebook_sizes == (4, 5)
    assert a.side["scale"].dtype == np.dtype("float16")
    assert b.packets == packets.packets
    assert (b.length, b.sample_rate, b.channels) == (7, 48000, 2)


def change(facts: list[dict[str, Any]], name: str, value: Any) -> list[dict[str, Any]]:
    return [{**facts[0], name: value}]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("length", "5", "'length' is no int"),
        ("length", True, "'length' is no int"),
        ("codebook_sizes", [4, 5, 6], "an array is missing"),
        ("codebook_sizes", [4], "left over"),
        ("codebook_sizes", [4.0, 5], "no integers"),
        ("side", [1], "no text"),
        ("packets", True, "an array is missing"),
        ("codebook_sizes", [2, 5], r"outside \[0, 2\)"),
    ],
)
def test_codes_are_checked(name: str, value: Any, message: str) -> None:
    facts, found = wire_many([Codes(5, 8000, 1, (np.array([1, 2]), np.array([0, 3])), (4, 5))])
    with pytest.raises(ValueError, match=message):
        unwire_many(change(facts, name, value), found)


def test_sizes_of_packets_are_checked() -> None:
    facts, (sizes, data) = wire_many([Codes(5, 8000, packets=(b"abc", b"de"))])
    for wrong in (sizes + 1, -sizes, sizes.astype(np.int32), sizes[None]):
        with pytest.raises(ProtocolError, match="do not fit"):
            unwire_many(facts, (wrong, data))


def test_every_card_survives() -> None:
    cards = [system.card for system in models.all_systems().values()]
    assert len(cards) > 15
    for card in cards:
        assert from_plain(Card, json.loads(json.dumps(to_plain(card)))) == card
    options = LoadOptions("cuda", Path("/a/b"), 3)
    assert from_plain(LoadOptions, json.loads(json.dumps(to_plain(options)))) == options


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("kind", "virus", "kind is 'virus'"),
        ("sample_rate", "24000", "sample_rate is '24000'"),
        ("channels", True, "channels is 'True'"),
        ("points", [{"name": 3}], r"points\[0\]\.name is '3'"),
        ("points", [{"kbps": 3}], r"points\[0\]: .*missing"),
        ("points", "all", "points is 'all'"),
        ("evil", 1, "no field 'evil'"),
        ("expected_failures", [["a"]], r"expected_failures\[0\]"),
    ],
)
def test_a_card_is_checked(name: str, value: Any, message: str) -> None:
    plain = to_plain(models.find("identity").card)
    with pytest.raises(ValueError, match=message):
        from_plain(Card, {**plain, name: value})


def test_a_log_keeps_head_and_tail(tmp_path: Path) -> None:
    log = CappedLog()
    log.feed(b"first\n")
    for _ in range(300):
        log.feed(b"x" * 10_000)
    log.feed(b"\nlast \x1b[31mred\n")
    text = log.text()
    assert text.startswith("first\n")
    assert text.endswith("\nlast  [31mred\n")
    assert f"[{log.size - 2 * HALF_BYTES} bytes left out]" in text
    assert log.last_line() == "last  [31mred"
    log.save(tmp_path / "logs/a.log")
    assert log.size == 0
    assert (tmp_path / "logs/a.log").read_text().startswith("first\n")


@given(st.binary())
def test_what_is_shown_has_no_control_characters(data: bytes) -> None:
    assert all(c in "\n\t" or c.isprintable() for c in printable(data))


SCRIPT = '# /// script\n# requires-python = ">=3.11"\n# dependencies = [{}]\n# ///\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import numpy\n", ()),
        (SCRIPT.format('"tiny", "b>=2"'), ("tiny", "b>=2")),
        ("# /// script\n# dependencies = [\n#   'a',\n#\n#   'b',\n# ]\n# ///\nx = 1\n", ("a", "b")),
        ("# /// script\n# requires-python = '>=3.11'\n# ///\n", ()),
        ("# /// other\n# dependencies = ['a']\n# ///\n", ()),
    ],
)
def test_requirements_are_read_from_the_script_block(text: str, expected: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(text)
    assert environments.requirements_of(tmp_path / "a.py") == expected


@pytest.mark.parametrize(("inside", "message"), [("1", "no list of requirements"), ("[", "no TOML")])
def test_a_wrong_script_block_is_wrong_usage(inside: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(SCRIPT.replace("[{}]", inside))
    with pytest.raises(UsageError, match=message):
        environments.requirements_of(tmp_path / "a.py")


def test_without_uv_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(UsageError, match=r"needs an environment of its own \(numpy, tiny\).* -m pip install uv"):
        environments.python_for(["tiny"])
    assert environments.python_for([]) is None


@pytest.fixture
def tiny_package(tmp_path: Path) -> Path:
    """A wheel of the package ``tinycodec`` 1.0, which is in no index."""
    import zipfile

    info = "tinycodec-1.0.dist-info"
    wheel = tmp_path / "tinycodec-1.0-py3-none-any.whl"
    files = {
        "tinycodec.py": "LEVELS = 256\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: tinycodec\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD")))
    return wheel


@pytest.mark.slow
@pytest.mark.parametrize("level", ["process", "bwrap"])
def test_an_adapter_runs_with_packages_of_its_own(
    tiny_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: Any, fetched: Callable[[str], None]
) -> None:
    from codecbench.audio import Clip
    from codecbench.benchmark.coding import Coded, code_clip
    from codecbench.benchmark.isolation.client import IsolatedCodec
    from codecbench.benchmark.isolation.hosts import HostSettings
    from codecbench.benchmark.isolation.levels import limits_for

    if level == "bwrap" and not shutil.which("bwrap"):
        pytest.skip("bubblewrap is not installed")
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path / "cache"))
    fetched("numpy")
    rogue = (Path(__file__).parents[1] / "rogues/processes.py").read_text()
    adapter = tmp_path / "own.py"
    needs = SCRIPT.format(f'"tinycodec @ {tiny_package.as_uri()}"')
    adapter.write_text(f"{needs}\nimport tinycodec\n\n{rogue}\nassert tinycodec.LEVELS == 256\n")
    found = describe(f"{adapter}:Sound", level)
    assert found.python is not None
    assert found.python.is_relative_to(tmp_path / "cache/environments")
    assert describe(f"{adapter}:Sound", level).python == found.python  # made once
    settings = HostSettings(f"{adapter}:Sound", LoadOptions(), level, limits_for(30), python=found.python)
    codec = IsolatedCodec(found.card, settings)
    codec.start()
    ((_, outcome),) = code_clip(codec, found.card, Clip(np.zeros((1, 100), np.float32), 8000), found.card.points)
    codec.close()
    assert isinstance(outcome, Coded)
    import importlib.util

    assert importlib.util.find_spec("tinycodec") is None  # it is nowhere but there


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Skips the test where uv, or an index that has a package, is out of reach."""

    def check(package: str) -> None:
        uv = find_uv()
        if not uv:
            pytest.skip("uv is not installed")
        monkeypatch.setenv("UV_NO_PROGRESS", "1")
        done = subprocess.run(
            [uv, "pip", "install", "--dry-run", "--python", sys.executable, "--reinstall-package", package, package],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            pytest.skip(f"no index can be reached: {done.stderr[-200:]}")

    return check


def test_requirements_that_cannot_be_met_are_wrong_usage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path))
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\necho no such package >&2\nexit 2\n")
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(UsageError, match="cannot install numpy, tiny: no such package"):
        environments.python_for(["tiny"])
    assert not list(tmp_path.glob("environments/*"))


def test_a_registered_card_can_ask_for_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    from codecbench.benchmark.isolation import describe as module

    card = replace(models.find("identity").card, name="foreign", requirements=("tiny",))
    monkeypatch.setattr(module, "_ask", lambda *_: (card, ""))
    monkeypatch.setattr(module, "python_for", lambda needed: Path("/own/python") if needed else None)
    assert describe("foreign", "process").python == Path("/own/python")
