"""Reading audio files: what is refused, and why, before a sample of it is used.

Decoders are lenient: a file cut in half reads as a shorter recording, and a few hundred bytes can claim hours. Here
the header is held against limits before anything is allocated, and against what was decoded afterwards.

WAV (also RF64 and AIFF), FLAC, Ogg and MP3 go through libsndfile, raw G.722 (64 kbit/s) through FFmpeg.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from struct import unpack
from typing import BinaryIO

import numpy as np

from codecbench.audio import Clip
from codecbench.errors import InfrastructureError, UsageError

SUFFIXES = (".aif", ".aiff", ".flac", ".g722", ".mp3", ".oga", ".ogg", ".opus", ".wav")
"""Endings of the files that a folder is searched for."""

MAX_CHANNELS = 8
MIN_RATE, MAX_RATE = 4_000, 192_000
MAX_DURATION = 600.0
MAX_VALUES = 1 << 27
"""Samples times channels that one file may hold: 512 MiB of float32."""

FORMATS = frozenset({"AIFF", "FLAC", "MP3", "OGG", "RF64", "WAV", "WAVEX"})
"""libsndfile's names of the formats whose truncation can be told; it reads a dozen others, and cuts them silently."""

MAX_CHUNKS = 1000

UNSTATED = "its header does not state its length (was it written to a pipe?); convert it once, file to file"


class DataError(UsageError):
    """A recording, a manifest or an archive that cannot be used; ``str`` is one line that names it."""


@dataclass(frozen=True, eq=False)
class Recording:
    """A decoded file: its `clip` ``[C, T]`` at the native rate, and its `subtype`, such as ``WAV PCM_24``."""

    clip: Clip
    subtype: str


def printable(text: str) -> str:
    r"""`text` on one line: control, invisible and undecodable characters as escapes, such as ``\n`` or ``\udcff``."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def read(path: Path, max_duration: float = MAX_DURATION) -> Recording:
    """Decode the audio file at `path`.

    Integer samples become float32 in [-1, 1), exactly up to 24 bits and to float32 precision beyond. Float samples
    keep their values, whatever they are.

    Args:
        path: A file of one of `SUFFIXES`; what it is, is told from its content (but for ``.g722``, which has no
            header).
        max_duration: Longest recording that is accepted, in seconds.

    Raises:
        DataError: The file is missing, empty, truncated, damaged, of an unsupported format, beyond the limits of
            this module, or holds values that are not finite. The message names the file and the reason.
        InfrastructureError: The disk failed.
    """
    shown = printable(str(path))
    try:
        return _read(path, max_duration)
    except DataError as error:
        raise DataError(f"{shown}: {error}") from error.__cause__
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"{shown}: no such file") from error
    except PermissionError as error:
        raise DataError(f"{shown}: permission denied") from error
    except OSError as error:
        raise InfrastructureError(f"cannot read {shown}: {error.strerror or error}") from error


def _read(path: Path, max_duration: float) -> Recording:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise DataError("not a file")
    if not status.st_size:
        raise DataError("empty file (0 bytes)")
    with path.open("rb") as file:
        head = file.read(512)
        if disguise := _disguise(head):
            raise DataError(disguise)
        file.seek(0)
        if path.suffix.lower() == ".g722":
            clip, subtype = _g722(file, status.st_size, max_duration)
        else:
            _check_whole(file, head, status.st_size)
            clip, subtype = _libsndfile(path, max_duration)
    finite = np.isfinite(clip.samples).all(axis=0)
    if not finite.all():
        bad = int(clip.samples.size - np.isfinite(clip.samples).sum())
        raise DataError(f"{bad} samples are NaN or infinite, the first at index {int(np.argmin(finite))}")
    return Recording(clip, subtype)


def _disguise(head: bytes) -> str:
    """What stands in place of the audio, told from the first bytes; empty if nothing does."""
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        return "a git-LFS pointer, not audio; fetch the file with `git lfs pull`"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "an HTML page, not audio; the download went wrong"
    return ""


def _check_limits(frames: int, channels: int, rate: int, max_duration: float) -> None:
    if frames <= 0:
        raise DataError("no samples")
    if not 1 <= channels <= MAX_CHANNELS:
        raise DataError(f"{channels} channels; at most {MAX_CHANNELS} are supported")
    if not MIN_RATE <= rate <= MAX_RATE:
        raise DataError(f"sample rate {rate} Hz; {MIN_RATE} to {MAX_RATE} Hz are supported")
    if frames > max_duration * rate:
        raise DataError(f"{frames / rate:.1f} s long; the limit is {max_duration:g} s")
    if frames * channels > MAX_VALUES:
        raise DataError(f"would decode to {frames * channels >> 18} MiB; the limit is {MAX_VALUES >> 18} MiB")


def _libsndfile(path: Path, max_duration: float) -> tuple[Clip, str]:
    import soundfile

    try:
        # As bytes: a name need not be UTF-8.
        sound = soundfile.SoundFile(os.fsencode(path))
    except (soundfile.SoundFileError, TypeError) as error:
        raise DataError(f"not an audio file that can be read: {_reason(error)}") from error
    with sound:
        kind = f"{sound.format} {sound.subtype}"
        if sound.format not in FORMATS:
            raise DataError(f"{sound.format} files are not supported; convert it to WAV or FLAC")
        if sound.frames >= 1 << 36:
            raise DataError(UNSTATED)
        _check_limits(sound.frames, sound.channels, sound.samplerate, max_duration)
        # Lazily committed by the system, so a header that lies costs nothing.
        out = np.empty((sound.frames, sound.channels), np.float32)
        # soundfile would seek after the read, which fails behind the end of a FLAC and hides where that was.
        sound.seekable = lambda: False
        try:
            got, problem = len(sound.read(out=out)), ""
        except soundfile.SoundFileError as error:
            got, problem = sound.tell(), f" ({_reason(error)})"
        if got != sound.frames:
            raise DataError(f"truncated: header {sound.frames}, got {got}{problem}")
        if problem:
            raise DataError(f"damaged{problem}")
        return Clip(np.ascontiguousarray(out.T), sound.samplerate), kind


def _reason(error: Exception) -> str:
    """The words of libsndfile itself."""
    return printable(str(getattr(error, "error_string", error))).removeprefix("Error : ").rstrip(".")


def _check_whole(file: BinaryIO, head: bytes, size: int) -> None:
    """Refuse a file that ends before its header says, where libsndfile would return what is left."""
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"FORM"):
        _check_chunks(file, head[:4], size)
    elif head[:4] == b"OggS":
        file.seek(max(0, size - (1 << 16)))
        tail = file.read()
        page = tail[max(0, tail.rfind(b"OggS")) :]
        # RFC 3533: flags, of which 4 ends the stream, in octet 5; the lengths of the segments from octet 27 on.
        if len(page) < 27 or not page[5] & 4 or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]]):
            raise DataError("truncated: its last page does not end the stream")


def _check_chunks(file: BinaryIO, magic: bytes, size: int) -> None:
    """The sample data that a WAV or AIFF declares must be there."""
    order = ">" if magic in (b"RIFX", b"FORM") else "<"
    frame_bytes, long_length = 1, 0xFFFFFFFF
    file.seek(12)
    for _ in range(MAX_CHUNKS):
        header = file.read(8)
        if len(header) < 8:
            return
        name, (length,) = header[:4], unpack(order + "I", header[4:])
        start = file.tell()
        if name in (b"data", b"SSND"):
            declared = long_length if length == 0xFFFFFFFF else length
            if declared == 0xFFFFFFFF:
                raise DataError(UNSTATED)
            there = size - start
            if there < declared:
                preamble = 8 if name == b"SSND" else 0
                counts = [(n - preamble) // frame_bytes for n in (declared, there)]
                raise DataError(f"truncated: header {counts[0]}, got {counts[1]}")
            return
        body = file.read(min(length, 24))
        if name == b"ds64" and len(body) >= 16:
            (long_length,) = unpack("<Q", body[8:16])
        elif name == b"fmt " and len(body) >= 14:
            frame_bytes = max(1, unpack(order + "H", body[12:14])[0])
        elif name == b"COMM" and len(body) >= 8:
            channels, bits = unpack(">H4xH", body[:8])
            frame_bytes = max(1, channels * ((bits + 7) // 8))
        file.seek(start + length + length % 2)
    raise DataError(f"no samples within its first {MAX_CHUNKS} chunks")


def _g722(file: BinaryIO, size: int, max_duration: float) -> tuple[Clip, str]:
    """Decode raw G.722 at 64 kbit/s: 16 kHz, mono, two samples a byte (ITU-T G.722)."""
    import av

    _check_limits(2 * size, 1, 16_000, max_duration)
    blocks = []
    try:
        with av.open(file, mode="r", format="g722") as container:
            blocks = [frame.to_ndarray() for frame in container.decode(audio=0)]
    except av.FFmpegError as error:
        raise DataError(f"not G.722: {error.strerror}") from error
    pcm = np.concatenate(blocks, axis=1) if blocks else np.zeros((1, 0), np.int16)
    if pcm.shape != (1, 2 * size):
        raise DataError(f"truncated: {2 * size} samples expected, got {pcm.shape[1]}")
    return Clip(pcm.astype(np.float32) / np.float32(32768), 16_000), "G722"
