"""Reading audio files: every sample format within one step, and every bad file refused with its reason."""

import math
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from codecbench.errors import InfrastructureError, UsageError
from codecbench.recording import DataError, printable, read

RATE = 16_000


def wav(
    data: bytes, *, kind: int = 1, bits: int = 16, channels: int = 1, rate: int = RATE, declared: int | None = None
) -> bytes:
    """A WAV file byte by byte, so that a header can say anything."""
    size = len(data) if declared is None else declared
    frame = channels * bits // 8
    head = struct.pack("<HHIIHH", kind, channels, rate, rate * frame & 0xFFFFFFFF, frame & 0xFFFF, bits)
    return (
        b"RIFF" + struct.pack("<I", 36 + size & 0xFFFFFFFF) + b"WAVE"
        + b"fmt " + struct.pack("<I", 16) + head + b"data" + struct.pack("<I", size) + data
    )  # fmt: skip


def put(folder: Path, content: bytes, name: str = "a.wav") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def noise(frames: int = 4000, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(7).uniform(-0.9, 0.9, (frames, channels))


def flac(folder: Path, samples: np.ndarray | None = None, subtype: str = "PCM_16", rate: int = RATE) -> Path:
    path = folder / "a.flac"
    soundfile.write(path, noise() if samples is None else samples, rate, subtype)
    return path


def with_streaminfo(content: bytes, **fields: int) -> bytes:
    """A FLAC file with other values in its STREAMINFO block."""
    value = int.from_bytes(content[18:26], "big")
    for name, new in fields.items():
        shift, bits = {"rate": (44, 20), "channels": (41, 3), "total": (0, 36)}[name]
        value = value & ~(((1 << bits) - 1) << shift) | new << shift
    return content[:18] + value.to_bytes(8, "big") + content[26:]


def a_law(code: int) -> int:
    """The 13-bit value of a G.711 A-law octet, scaled to 16 bits (ITU-T G.711, table 1)."""
    code ^= 0x55
    segment, step = (code & 0x70) >> 4, (code & 0x0F) << 4
    size = step + 8 if segment == 0 else step + 0x108 << segment - 1
    return size if code & 0x80 else -size


def mu_law(code: int) -> int:
    """The 14-bit value of a G.711 µ-law octet, scaled to 16 bits (ITU-T G.711, table 2)."""
    code = ~code & 0xFF
    size = (((code & 0x0F) << 3) + 0x84 << ((code & 0x70) >> 4)) - 0x84
    return -size if code & 0x80 else size


def integers(bits: int) -> np.ndarray:
    """Both ends, the steps around zero, and a ramp between."""
    top = 2 ** (bits - 1)
    return np.unique(np.concatenate([[-top, -1, 0, 1, top - 1], np.linspace(-top, top - 1, 1001).astype(np.int64)]))


FLOATS = np.array([0.0, 1.0, -1.0, 1.5, -2.25, 1 / 3, 1e-8])
OCTETS = bytes(range(256))
VECTORS = {
    "WAV PCM_U8": (wav(OCTETS, bits=8), (np.arange(256) - 128) / 128),
    "WAV PCM_16": (wav(integers(16).astype("<i2").tobytes()), integers(16) / 2**15),
    "WAV PCM_24": (
        wav(b"".join(int(v).to_bytes(3, "little", signed=True) for v in integers(24)), bits=24), integers(24) / 2**23,
    ),
    "WAV PCM_32": (wav(integers(32).astype("<i4").tobytes(), bits=32), integers(32) / 2**31),
    "WAV FLOAT": (wav(FLOATS.astype("<f4").tobytes(), kind=3, bits=32), FLOATS),
    "WAV DOUBLE": (wav(FLOATS.astype("<f8").tobytes(), kind=3, bits=64), FLOATS),
    "WAV ALAW": (wav(OCTETS, kind=6, bits=8), np.array([a_law(c) for c in range(256)]) / 2**15),
    "WAV ULAW": (wav(OCTETS, kind=7, bits=8), np.array([mu_law(c) for c in range(256)]) / 2**15),
}  # fmt: skip


@pytest.mark.parametrize("subtype", VECTORS)
def test_every_sample_format_decodes_to_its_values(tmp_path: Path, subtype: str) -> None:
    content, expected = VECTORS[subtype]
    recording = read(put(tmp_path, content))
    assert recording.subtype == subtype
    assert recording.clip.sample_rate == RATE
    # float32 has 24 bits: exact for all but 32-bit integers and float64, which are rounded to nearest.
    np.testing.assert_array_equal(recording.clip.samples, expected.astype(np.float32)[None])


@pytest.mark.parametrize("bits", [16, 24])
def test_flac_is_exact(tmp_path: Path, bits: int) -> None:
    values = integers(bits)
    path = flac(tmp_path, (values << 32 - bits).astype(np.int32), f"PCM_{bits}")
    recording = read(path)
    assert recording.subtype == f"FLAC PCM_{bits}"
    np.testing.assert_array_equal(recording.clip.samples[0], (values / 2 ** (bits - 1)).astype(np.float32))


@pytest.mark.parametrize(
    ("kind", "subtype", "tolerance"),
    [("OGG", "VORBIS", 0.3), ("OGG", "OPUS", 0.3), ("MP3", "MPEG_LAYER_III", 0.3), ("AIFF", "PCM_16", 1e-4),
     ("RF64", "PCM_16", 1e-4), ("WAVEX", "PCM_24", 1e-6)],
)  # fmt: skip
def test_other_containers(tmp_path: Path, kind: str, subtype: str, tolerance: float) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    path = tmp_path / "a.bin"
    soundfile.write(path, tone, RATE, subtype, format=kind)
    recording = read(path)
    assert recording.subtype == f"{kind} {subtype}"
    assert recording.clip.length == RATE
    assert np.abs(recording.clip.samples[0] - tone)[2000:-2000].max() < tolerance
    put(tmp_path, path.read_bytes()[: path.stat().st_size // 2], "half.bin")
    with pytest.raises(DataError, match=r"half\.bin: truncated: "):
        read(tmp_path / "half.bin")


def test_channels_stay_apart(tmp_path: Path) -> None:
    frames = np.array([[1, -2, 3], [4, -5, 6]], "<i2")
    clip = read(put(tmp_path, wav(frames.tobytes(), channels=3))).clip
    np.testing.assert_array_equal(clip.samples * 2**15, frames.T)


def test_g722_has_two_samples_an_octet_and_is_16_khz(tmp_path: Path) -> None:
    import av

    tone = (8000 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)).astype(np.int16)[None]
    path = tmp_path / "a.g722"
    with av.open(str(path), "w", format="g722") as container:
        stream = container.add_stream("g722", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    recording = read(path)
    assert (recording.subtype, recording.clip.sample_rate) == ("G722", RATE)
    assert recording.clip.length == 2 * path.stat().st_size == RATE
    # Two filter banks of 24 taps delay by 22 samples; the rest is quantisation at 64 kbit/s.
    error = recording.clip.samples[0, 22:] - tone[0, :-22] / 2**15
    assert (
        10 * math.log10(np.mean(tone[0] / 2**15.0) ** 2 + np.var(tone[0] / 2**15))
        - 10 * math.log10(np.mean(error[1000:] ** 2))
        > 25
    )


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda d: d / "a.wav", r"a\.wav: no such file"),
    "folder": (lambda d: d, "not a file"),
    "empty": (lambda d: put(d, b""), r"empty file \(0 bytes\)"),
    "header only": (lambda d: put(d, wav(b"")), "no samples"),
    "half a header": (lambda d: put(d, wav(b"")[:20]), "not an audio file"),
    "fewer bytes than a frame": (lambda d: put(d, wav(b"\1")), "no samples"),
    "truncated": (lambda d: put(d, wav(bytes(2 * 31989), declared=2 * 64000)), "truncated: header 64000, got 31989"),
    "claims 2 GB": (lambda d: put(d, wav(bytes(100), declared=2**31 - 2)), "truncated: header 1073741823, got 50"),
    "written to a pipe": (lambda d: put(d, wav(bytes(100), declared=2**32 - 1)), "does not state its length"),
    "1000 channels": (lambda d: put(d, wav(bytes(20000), channels=1000)), "1000 channels; at most 8"),
    "no rate": (lambda d: put(d, wav(bytes(100), rate=0)), "not an audio file"),
    "rate 2^32-1": (lambda d: put(d, wav(bytes(100), rate=2**32 - 1)), "not an audio file"),
    "rate 1": (lambda d: put(d, wav(bytes(100), rate=1)), "sample rate 1 Hz; 4000 to 192000"),
    "rate 200 kHz": (lambda d: put(d, wav(bytes(100), rate=200_000)), "sample rate 200000 Hz"),
    "too long": (lambda d: put(d, wav(bytes(2 * 4000 * 601), rate=4000)), r"601\.0 s long; the limit is 600 s"),
    "page": (lambda d: put(d, b"\n<!DOCTYPE html><html>log in</html>"), "HTML page"),
    "pointer": (lambda d: put(d, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "git lfs pull"),
    "text": (lambda d: put(d, b"hello, world"), "not an audio file"),
    "raw": (lambda d: put(d, bytes(100), "a.raw"), "not an audio file"),
    "a format that hides truncation": (lambda d: put(d, b".snd" + struct.pack(">5I", 24, 100, 3, RATE, 1) + bytes(100)),
                                       "AU files are not supported"),
    "chunks without end": (lambda d: put(d, wav(b"")[:36] + b"junk\0\0\0\0" * 2000), "1000 chunks"),
    "nan": (lambda d: put(d, wav(np.array([0, 0, np.nan, 1, np.inf], "<f4").tobytes(), kind=3, bits=32)),
            "2 samples are NaN or infinite, the first at index 2"),
    "beyond float32": (lambda d: put(d, wav(np.array([0, 1e300], "<f8").tobytes(), kind=3, bits=64)),
                       "1 samples are NaN or infinite, the first at index 1"),
    "flac cut": (lambda d: put(d, flac(d).read_bytes()[:5000], "cut.flac"), r"truncated: header 4000, got \d+ \("),
    "flac that claims more": (lambda d: put(d, with_streaminfo(flac(d).read_bytes(), total=8000), "b.flac"),
                              "truncated: header 8000, got 4000"),
    "flac without length": (lambda d: put(d, with_streaminfo(flac(d).read_bytes(), total=0), "b.flac"),
                            "does not state its length"),
    "flac of 50 days": (lambda d: put(d, with_streaminfo(flac(d).read_bytes(), total=2**36 - 1), "b.flac"),
                        "s long; the limit is 600 s"),
    "flac of 3.6 GB": (
        lambda d: put(
            d, with_streaminfo(flac(d).read_bytes(), rate=192_000, channels=7, total=599 * 192_000), "b.flac"
        ),
        "would decode to 3509 MiB; the limit is 512 MiB"),
    "g722 too long": (lambda d: put(d, bytes(8000 * 601), "a.g722"), r"601\.0 s long"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_with_its_name_and_the_reason(tmp_path: Path, name: str) -> None:
    make, reason = BAD[name]
    path = make(tmp_path)
    with pytest.raises(DataError, match=reason) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == UsageError.exit_code


def test_an_hour_of_silence_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = flac(tmp_path, np.zeros(4000 * 3600, np.int16), rate=4000)
    assert path.stat().st_size < 100_000
    with pytest.raises(DataError, match=r"3600\.0 s long; the limit is 600 s"):
        read(path)
    assert read(path, max_duration=3600).clip.length == 4000 * 3600


def test_a_header_that_lies_costs_no_memory(tmp_path: Path) -> None:
    small = flac(tmp_path).read_bytes()
    put(tmp_path, with_streaminfo(small, rate=192_000, total=599 * 192_000), "0.flac")
    put(tmp_path, with_streaminfo(small, rate=192_000, channels=7, total=2**36 - 1), "1.flac")
    put(tmp_path, wav(bytes(100), declared=2**31 - 2), "2.wav")
    put(tmp_path, wav(bytes(20_000), channels=1000, declared=2**32 - 2), "3.wav")
    code = """
import resource, sys
from pathlib import Path
import numpy, soundfile
from codecbench.recording import DataError, read
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
refused = 0
for path in sorted(Path(sys.argv[1]).glob("[0-9].*")):
    try:
        read(path)
    except DataError:
        refused += 1
print(refused, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    refused, grown = map(int, done.stdout.split())
    assert refused == 4
    assert grown < 50_000, "KiB"


def test_a_failing_disk_is_not_the_users_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, wav(bytes(100)))

    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(InfrastructureError, match=r"cannot read .*a\.wav: Input/output error"):
        read(path)


NAMES = [
    b"new\nline.wav", b"tab\t.wav", b"-rf.wav", b"'\"; $(x).wav", "\U0001f3b5.wav".encode(), b"not utf-8 \xff\xfe.wav",
    "\u202egnp.wav".encode(), b"CON.wav", b"x" * 251 + b".wav", b"<script>\".wav",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_of_any_bytes(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    path.write_bytes(wav(bytes(2000)))
    assert read(path).clip.length == 1000
    path.write_bytes(b"")
    with pytest.raises(DataError, match="empty file") as caught:
        read(path)
    assert str(caught.value).isprintable()
    str(caught.value).encode()


def test_printable_escapes_what_cannot_be_seen() -> None:
    assert printable("a b\n\t\udcff\u202eé\U0001f3b5") == "a b\\n\\t\\udcff\\u202eé\U0001f3b5"


def _valid(kind: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a")
        soundfile.write(path, noise(3000), RATE, "VORBIS" if kind == "OGG" else "PCM_16", format=kind)
        return path.read_bytes()


VALID = {kind: _valid(kind) for kind in ("WAV", "FLAC", "OGG", "AIFF")}


@settings(max_examples=150)
@given(st.sampled_from(sorted(VALID)), st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(1, 255)), max_size=4))
def test_flipped_bytes_load_or_are_refused(kind: str, flips: list[tuple[int, int]]) -> None:
    content = bytearray(VALID[kind])
    for where, mask in flips:
        # Half of the flips hit the header, where the harm is.
        content[where % (100 if where % 2 else len(content))] ^= mask
    with tempfile.TemporaryDirectory() as folder:
        path = put(Path(folder), bytes(content))
        try:
            clip = read(path).clip
        except DataError as error:
            assert str(error).startswith(f"{path}: ")  # noqa: PT017 - either outcome is right
        else:
            assert clip.length >= 1
            assert np.isfinite(clip.samples).all()


@settings(max_examples=100)
@given(st.sampled_from(sorted(VALID)), st.floats(0, 1, exclude_max=True))
def test_a_file_that_is_cut_never_loads(kind: str, share: float) -> None:
    content = VALID[kind]
    with tempfile.TemporaryDirectory() as folder:
        path = put(Path(folder), content[: int(share * len(content))])
        with pytest.raises(DataError):
            read(path)
