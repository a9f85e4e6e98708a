"""Downloads against a server on the loopback interface that misbehaves on demand."""

from __future__ import annotations

import fcntl
import hashlib
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from codecbench import download
from codecbench.download import fetch
from codecbench.errors import InfrastructureError
from codecbench.paths import sha256_of

BODY = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(BODY).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `body`; the other attributes say how it fails."""

    body = BODY
    cut = 0
    """Close the connection after this many bytes of the response; 0 for never."""
    ranges = True
    sized = True
    chunked = False
    asked: list[str | None]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file.bin"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers["Range"]
        self.server.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        rest = self.server.body[start:]
        if "missing" in self.path:
            return self.send_error(404)
        if start and not rest:
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if self.server.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif self.server.sized:
            self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        sent = rest[: self.server.cut or None]
        if self.server.chunked:
            end = b"" if self.server.cut else b"0\r\n\r\n"
            sent = b"%x\r\n%b\r\n%b" % (len(sent), sent, end)
        self.wfile.write(sent)
        self.close_connection = True
        return None

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    @property
    def protocol_version(self) -> str:  # type: ignore[override]
        return "HTTP/1.1" if self.server.chunked else "HTTP/1.0"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "file.bin"


def part(target: Path) -> Path:
    return target.with_name("file.bin.part")


@pytest.mark.parametrize("sha256", ["", SHA256, SHA256.upper(), SHA256[:8]])
def test_download(server: Server, target: Path, sha256: str) -> None:
    seen: list[tuple[int, int | None]] = []
    assert fetch(server.url, target, sha256, lambda done, total: seen.append((done, total))) == SHA256
    assert target.read_bytes() == BODY
    assert not part(target).exists()
    assert seen[-1] == (len(BODY), len(BODY))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_an_interrupted_download_is_resumed(server: Server, target: Path) -> None:
    server.cut = 300_000
    message = f"cut off at 300000 of {len(BODY)} bytes; run the same command again to resume"
    with pytest.raises(InfrastructureError, match=message):
        fetch(server.url, target, SHA256)
    assert not target.exists()
    assert part(target).stat().st_size == 300_000
    server.cut = 0
    seen: list[tuple[int, int | None]] = []
    fetch(server.url, target, SHA256, lambda done, total: seen.append((done, total)))
    assert target.read_bytes() == BODY
    assert server.asked == [None, "bytes=300000-"]
    assert seen[0][0] > 300_000
    assert seen[-1] == (len(BODY), len(BODY))


def test_interruption_by_the_user_keeps_what_came(server: Server, target: Path) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(server.url, target, SHA256, stop)
    assert part(target).stat().st_size > 0
    assert not target.exists()
    fetch(server.url, target, SHA256)
    assert target.read_bytes() == BODY
    assert server.asked[1] is not None


def test_without_a_hash_a_download_starts_anew(server: Server, target: Path) -> None:
    server.cut = 1000
    with pytest.raises(InfrastructureError, match=r"cut off at 1000 of \d+ bytes$"):
        fetch(server.url, target)
    server.cut = 0
    fetch(server.url, target)
    assert server.asked == [None, None]
    assert target.read_bytes() == BODY


def test_a_server_that_ignores_ranges_sends_all_again(server: Server, target: Path) -> None:
    target.parent.mkdir()
    part(target).write_bytes(BODY[:5000])
    server.ranges = False
    fetch(server.url, target, SHA256)
    assert server.asked == ["bytes=5000-"]
    assert target.read_bytes() == BODY


def test_a_part_that_is_whole_needs_no_more(server: Server, target: Path) -> None:
    target.parent.mkdir()
    part(target).write_bytes(BODY)
    fetch(server.url, target, SHA256)
    assert server.asked == [f"bytes={len(BODY)}-"]
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("damage", [b"\0" * 5000, BODY + b"more"])
def test_a_part_of_something_else_is_thrown_away(server: Server, target: Path, damage: bytes) -> None:
    target.parent.mkdir()
    part(target).write_bytes(damage)
    with pytest.raises(InfrastructureError, match=f"another file: .*expected {SHA256}"):
        fetch(server.url, target, SHA256)
    assert list(target.parent.iterdir()) == []
    fetch(server.url, target, SHA256)
    assert target.read_bytes() == BODY


def test_a_wrong_hash_names_both_and_the_size(server: Server, target: Path) -> None:
    message = f"another file: {len(BODY)} bytes with sha256 {SHA256}, expected 01234567"
    with pytest.raises(InfrastructureError, match=message):
        fetch(server.url, target, "01234567")
    assert list(target.parent.iterdir()) == []


def test_an_existing_file_survives_a_failed_download(server: Server, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"old")
    with pytest.raises(InfrastructureError):
        fetch(server.url, target, "01234567")
    assert target.read_bytes() == b"old"
    fetch(server.url, target, SHA256)
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("sha256", ["", SHA256])
@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b"\n<!DOCTYPE html><title>Sign in</title>", "an HTML page"),
        (b"<html><body>404</body></html>", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n", "a git-LFS pointer"),
    ],
)
def test_what_is_sent_in_place_of_the_file_is_named(
    server: Server, target: Path, body: bytes, name: str, sha256: str
) -> None:
    server.body = body
    with pytest.raises(InfrastructureError, match=f"gave {name} in place of the file"):
        fetch(server.url, target, sha256)
    assert list(target.parent.iterdir()) == []


def test_html_is_fine_where_its_hash_is_expected(server: Server, target: Path) -> None:
    server.body = b"<html></html>"
    fetch(server.url, target, hashlib.sha256(server.body).hexdigest())
    assert target.read_bytes() == server.body


def test_a_file_of_unknown_size_needs_a_hash(server: Server, target: Path) -> None:
    server.sized = False
    with pytest.raises(InfrastructureError, match="neither its size nor its sha256 is known"):
        fetch(server.url, target)
    fetch(server.url, target, SHA256)
    assert target.read_bytes() == BODY


def test_chunked_transfer(server: Server, target: Path) -> None:
    server.chunked = True
    server.cut = 1000
    with pytest.raises(InfrastructureError, match="cannot download"):
        fetch(server.url, target)
    assert not target.exists()
    server.cut = 0
    fetch(server.url, target)
    assert target.read_bytes() == BODY


def test_http_errors_are_one_line(server: Server, target: Path) -> None:
    url = server.url.replace("file", "missing")
    with pytest.raises(InfrastructureError, match=f"^cannot download {re.escape(url)}: HTTP 404 Not Found$") as caught:
        fetch(url, target, SHA256)
    assert caught.value.exit_code == 4


def test_nobody_listens(target: Path) -> None:
    with Server(("127.0.0.1", 0), Handler) as server:
        url = server.url
    with pytest.raises(InfrastructureError, match="Connection refused"):
        fetch(url, target)


def test_a_silent_server_is_given_up(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "TIMEOUT", 0.1)
    with Server(("127.0.0.1", 0), Handler) as server, pytest.raises(InfrastructureError, match="timed out"):
        fetch(server.url, target)  # it listens, but nobody serves


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/a", "no url"])
def test_other_schemes_are_refused(url: str, target: Path) -> None:
    with pytest.raises(InfrastructureError, match="only http and https"):
        fetch(url, target)


def test_a_folder_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InfrastructureError, match="cannot write"):
        fetch(server.url, tmp_path / "file" / "x.bin")


def test_two_downloads_of_one_file_do_not_mix(server: Server, target: Path) -> None:
    target.parent.mkdir()
    with part(target).open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(InfrastructureError, match="another process is downloading"):
            fetch(server.url, target, SHA256)
    assert server.asked == []
    fetch(server.url, target, SHA256)
    assert target.read_bytes() == BODY


def test_sha256_of(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(BODY)
    assert sha256_of(tmp_path / "x") == SHA256
