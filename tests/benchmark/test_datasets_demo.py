"""The demo dataset: its list, how it is prepared, and (where apt is) the recordings themselves."""

import hashlib
import os
import shutil
import stat
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from codecbench.benchmark.datasets import demo, registry
from codecbench.benchmark.datasets.base import Dataset, check
from codecbench.errors import InfrastructureError
from codecbench.recording import read


def test_the_list_is_balanced_and_short() -> None:
    rows = demo.rows()
    assert len(rows) == len({row["id"] for row in rows}) == len({row["sha256"] for row in rows}) == 48
    speech = [row for row in rows if row["domain"] == "speech"]
    assert Counter(row["language"] for row in speech) == dict.fromkeys(("en", "es", "fr", "it", "ru"), 8)
    assert Counter(row["domain"] for row in rows) == {"speech": 40, "music": 4, "sound": 4}
    assert all(row["transcript"] and row["speaker"] and row["package"].endswith("-g722") for row in speech)
    assert {(row["speaker"], row["language"]) for row in speech} == {
        ("allison", "en"), ("allison", "es"), ("june", "fr"), ("carlo", "it"), ("ivrvoiceru", "ru"),
    }  # fmt: skip
    first = rows[:5]
    assert len({row["language"] for row in first if row["language"]}) >= 3
    assert "music" in {row["domain"] for row in first}
    for row in rows:
        assert len(row["source_sha256"]) == len(row["sha256"]) == 64
        assert not row["member"].startswith("/")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "datasets" / "demo"


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the packages: one G.722 file of a second, and six seconds of stereo FLAC."""
    root = tmp_path / "packages"
    (root / "usr").mkdir(parents=True)
    (root / "usr/a.g722").write_bytes(bytes(8000))
    signal = np.random.default_rng(0).integers(-(2**15), 2**15, (6 * 44_100, 2), np.int16)
    soundfile.write(root / "usr/b.flac", signal, 44_100)
    rows = [
        {"id": "a", "package": "p1", "member": "usr/a.g722", "domain": "speech", "transcript": 'A, "b".'},
        {"id": "b", "package": "p2", "member": "usr/b.flac", "domain": "music", "transcript": ""},
    ]
    for row in rows:
        row |= {"speaker": "", "language": "", "sha256": ""}
        row["source_sha256"] = hashlib.sha256((root / row["member"]).read_bytes()).hexdigest()
        with pytest.raises(InfrastructureError, match="gives other samples"):
            demo._convert(root / row["member"], row, tmp_path / "out.wav")
        row["sha256"] = hashlib.sha256((tmp_path / "out.wav").read_bytes()).hexdigest()
    monkeypatch.setattr(demo, "rows", lambda: tuple(rows))
    return root


def test_it_is_prepared_at_first_use(
    packages: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(demo, "_installed", lambda: packages)
    data = registry.open_dataset("demo")
    assert caplog.messages == [f"preparing the dataset 'demo' in {cache}"]
    assert [(u.id, u.domain, u.transcript) for u in data.utterances] == [("a", "speech", 'A, "b".'), ("b", "music", "")]
    checked = check(data)
    assert [(c.sample_rate, c.duration) for c in checked] == [(16_000, 1.0), (44_100, 5.0)]
    source = read(packages / "usr/b.flac").clip.samples[:, : 5 * 44_100]
    np.testing.assert_array_equal(read(cache / "b.wav").clip.samples, source)
    assert sorted(p.name for p in cache.iterdir()) == ["a.wav", "b.wav", "manifest.csv"]
    assert registry.open_dataset(str(cache)).utterances == data.utterances


def test_once_prepared_it_needs_neither_packages_nor_network(
    packages: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_installed", lambda: packages)
    registry.get("demo")
    monkeypatch.setattr(demo, "_installed", lambda: pytest.fail("looked for packages"))
    monkeypatch.setenv("PATH", "/nonexistent")
    assert len(check(registry.open_dataset("demo"))) == 2
    assert registry.get("demo") == registry.path("demo") == cache


def test_a_list_of_another_version_is_prepared_anew(
    packages: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_installed", lambda: packages)
    registry.get("demo")
    rows = ({**demo.rows()[0], "transcript": "Other."},)
    monkeypatch.setattr(demo, "rows", lambda: rows)
    assert registry.path("demo") is None
    assert [u.transcript for u in registry.open_dataset("demo").utterances] == ["Other."]
    assert not (cache / "b.wav").exists()


def test_a_changed_recording_stops_the_run(packages: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_installed", lambda: packages)
    registry.get("demo")
    with (cache / "a.wav").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(InfrastructureError, match=r"a\.wav is not the file that the dataset names"):
        check(registry.open_dataset("demo"))


def test_another_recording_of_the_same_name_is_refused(
    packages: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_installed", lambda: packages)
    (packages / "usr/a.g722").write_bytes(bytes(8001))
    with pytest.raises(InfrastructureError, match=r"/usr/a\.g722 of p1 is another recording than the demo's"):
        registry.get("demo")
    (packages / "usr/a.g722").unlink()
    with pytest.raises(InfrastructureError, match=r"p1 has no /usr/a\.g722: No such file or directory; use recordings"):
        registry.get("demo")
    assert [p.name for p in cache.parent.iterdir()] == [".demo.lock"]


def commands(folder: Path, apt_get: str) -> None:
    """Stand-ins for apt-get and dpkg-deb."""
    folder.mkdir()
    deb = '[ "$1" = -x ] || exit 9\ncase "$2" in *p1.deb) f=a.g722;; *) f=b.flac;; esac\n'
    deb += 'mkdir -p "$3/usr" && cp "$PACKAGES/usr/$f" "$3/usr/$f"\n'
    for name, text in (("apt-get", apt_get), ("dpkg-deb", deb)):
        (folder / name).write_text(f"#!/bin/sh\n{text}")
        (folder / name).chmod(stat.S_IRWXU)


DOWNLOAD = 'case "$*" in *"download p1 p2") touch p1.deb p2.deb;; *) exit 9;; esac\n'
STALE = 'case "$*" in *update) touch "$LOG";; *) [ -e "$LOG" ] || { echo "E: no p1" >&2; exit 100; };; esac\n'
UPDATED = 'case "$*" in *update) exit 0;; esac\n'


@pytest.mark.parametrize("apt_get", [DOWNLOAD, STALE + UPDATED + DOWNLOAD], ids=["lists here", "no lists"])
def test_packages_come_from_apt(
    packages: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apt_get: str
) -> None:
    commands(tmp_path / "bin", apt_get)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PACKAGES", str(packages))
    monkeypatch.setenv("LOG", str(tmp_path / "updated"))
    steps: list[tuple[int, int | None]] = []
    assert registry.get("demo", lambda done, total: steps.append((done, total))) == cache
    assert steps == [(1, 2), (2, 2), (1, 2), (2, 2)]
    assert (tmp_path / "updated").exists() == (apt_get is not DOWNLOAD)
    assert sorted(p.name for p in cache.iterdir()) == ["a.wav", "b.wav", "manifest.csv"]


@pytest.mark.usefixtures("packages")
def test_apt_that_fails_is_one_line(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands(tmp_path / "bin", 'echo "W: slow" >&2; echo "E: Could not resolve host" >&2; exit 100')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(
        InfrastructureError, match=r"\(E: Could not resolve host\); check the network and `apt-get up"
    ) as e:
        registry.get("demo")
    assert "\n" not in str(e.value)
    assert [p.name for p in cache.parent.iterdir()] == [".demo.lock"]


@pytest.mark.usefixtures("packages", "cache")
def test_without_apt_it_says_what_else_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(InfrastructureError, match="no apt here; use recordings of your own: --datasets FOLDER"):
        registry.open_dataset("demo")


@pytest.fixture(scope="module")
def real() -> Dataset:
    if registry.path("demo") is None and not shutil.which("apt-get"):
        pytest.skip("the demo recordings come from Debian packages, and there is no apt here")
    return registry.open_dataset("demo")


@pytest.mark.demo_data
def test_the_recordings_are_sound(real: Dataset) -> None:
    checked = check(real)
    assert 150 < sum(c.duration for c in checked) < 170
    assert not [c.id for c in checked if c.flags]
    for utterance, facts in zip(real.utterances, checked, strict=True):
        samples = real.load(utterance).samples[0]
        assert 2.3 < facts.duration <= 5
        assert -30 < 10 * np.log10(np.mean(samples.astype(float) ** 2)) < -10
        if utterance.domain != "speech":
            assert facts.sample_rate == 44_100
            continue
        assert facts.sample_rate == 16_000
        # G.722 is wideband: there is energy above the telephone band.
        spectrum = np.abs(np.fft.rfft(samples)) ** 2
        assert spectrum[round(len(samples) * 4000 / 16_000) :].sum() > 1e-5 * spectrum.sum()
        frames = samples[: len(samples) // 320 * 320].reshape(-1, 320)
        assert 0.8 < np.mean((frames**2).mean(axis=1) > 10**-4.5) <= 1


@pytest.mark.demo_data
def test_the_recordings_are_the_published_ones(real: Dataset) -> None:
    digests = [hashlib.sha256(u.path.read_bytes()).hexdigest() for u in real.utterances]
    assert digests == [row["sha256"] for row in demo.rows()]
