r"""Our codecs and their released implementations side by side: the same weights, clips and process.

For every codec, clip length and number of threads, ours and the release encode and decode in turns, once to warm up
and `--repeats` times on the clock; the medians count. With one thread that is the processor's clock, which other
programs on the machine disturb little; with more it is the wall's. Every row also says in how many frames the codes
differ between the two, and by how much the waveforms that both decode from the release's codes do: the exit code is 1
where that is 1e-5 or more, or where codes differ in more than one frame in a hundred. (Where two entries of a codebook
are as near as rounding, either may be chosen, and all later codebooks of that frame then have another remainder.)

Make the releases' environment of their own beside the repository, since their dependencies disagree with ours:

    python -m venv releases && . releases/bin/activate
    pip install -e . -c constraints.txt transformers einops librosa argbind julius ffmpy flatten-dict \
        importlib-resources ipython markdown2 pyloudnorm randomname torch-stoi tensorboard
    pip install --no-deps encodec==0.1.1 descript-audio-codec==1.0.0 descript-audiotools==0.7.2 \
        speechtokenizer==1.0.1 funcodec==0.2.0 typeguard==2.13.3 humanfriendly kaldiio pytorch-wpe torch-complex \
        soundstream==0.0.1 vector-quantize-pytorch==1.32.0 einx loguru torch-einops-utils frozendict
    git clone https://github.com/facebookresearch/AudioDec         # e451e62
    git clone https://github.com/yangdongchao/AcademiCodec         # b6ac134
    python benchmarks/codec_speed.py --audiodec AudioDec --academicodec AcademiCodec --markdown
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from releases import RELEASES, Release, both, compare

from codecbench.audio import Clip
from codecbench.models.base import Codec


@dataclass(frozen=True)
class Row:
    """Seconds of processor or wall time that a clip of `seconds` takes."""

    system: str
    release: str
    seconds: float
    threads: int
    encode: float
    their_encode: float
    decode: float
    their_decode: float
    frames: int
    differ: int
    error: float

    @property
    def agrees(self) -> bool:
        """Both did the same work."""
        return self.differ <= self.frames / 100 and self.error < 1e-5

    @property
    def ratios(self) -> tuple[float, float]:
        """How many times as fast ours is, in encoding and in decoding."""
        return self.their_encode / self.encode, self.their_decode / self.decode


def sound(seconds: float, rate: int, channels: int) -> Clip:
    """Noise whose level swings between loud and nearly silent."""
    length = round(seconds * rate)
    noise = np.random.RandomState(0).standard_normal((channels, length))
    level = 0.101 + 0.1 * np.sin(2 * np.pi * 3 * np.arange(length) / rate)
    return Clip(np.asarray(level * noise, np.float32), rate)


def measure(system: str, release: str, pair: tuple[Codec, Release], clip: Clip, threads: int, repeats: int) -> Row:
    """Time both, and see that they do the same work."""
    ours, theirs = pair
    torch.set_num_threads(threads)
    point, x = ours.card.points[-1], torch.from_numpy(clip.samples)[None]
    begun = time.process_time(), time.perf_counter()
    (codes,) = ours.encode([clip], point)
    ours.decode([codes])
    first = time.process_time() - begun[0], time.perf_counter() - begun[1]
    print(f"{system}: first calls took {first[0]:.1f} s of the processor, {first[1]:.1f} s in all", file=sys.stderr)
    found, state = theirs.encode(x)
    differ = int((np.stack(codes.streams) != found.numpy()).any(axis=0).sum())
    codes = replace(codes, streams=tuple(found.to(torch.int32).numpy()))
    error = compare(theirs.decode(state), ours.decode([codes])[0], theirs.early)
    calls: tuple[Callable[[], Any], ...] = (
        lambda: ours.encode([clip], point), lambda: theirs.encode(x),
        lambda: ours.decode([codes]), lambda: theirs.decode(state),
    )  # fmt: skip
    clock = time.process_time if threads == 1 else time.perf_counter
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for call, taken in zip(calls, times, strict=True):
            start = clock()
            call()
            taken.append(clock() - start)
    mine, other, decode, their_decode = (statistics.median(taken) for taken in times)
    return Row(
        system, release, clip.duration, threads, mine, other, decode, their_decode, found.shape[1], differ, error
    )


def text(row: Row) -> str:
    """One line for the terminal."""
    encode, decode = row.ratios
    agree = "same" if row.agrees else "DIFFERENT"
    return (
        f"{row.system:28} {row.release:24} {row.seconds:4g} s {row.threads} thr  "
        f"encode {row.encode:7.3f} {row.their_encode:7.3f} x{encode:5.2f}  "
        f"decode {row.decode:7.3f} {row.their_decode:7.3f} x{decode:5.2f}  "
        f"{agree} ({row.differ} of {row.frames} frames, {row.error:.0e})"
    )


def markdown(rows: Sequence[Row]) -> str:
    """A table of all rows, and one of their medians and minima."""
    lines = [
        "| Codec | Release | Clip | Threads | Encode | Decode | Encode, s/s | Decode, s/s | Frames that differ |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        encode, decode = row.ratios
        lines.append(
            f"| `{row.system}` | {row.release} | {row.seconds:g} s | {row.threads} | {encode:.2f} | {decode:.2f} "
            f"| {row.encode / row.seconds:.3f} | {row.decode / row.seconds:.3f} | {row.differ} of {row.frames} |"
        )
    lines += ["", "| Clip | Threads | Encode, median (least) | Decode, median (least) |", "|--:|--:|--:|--:|"]
    for seconds, threads in sorted({(row.seconds, row.threads) for row in rows}, key=lambda key: key[::-1]):
        some = [row.ratios for row in rows if (row.seconds, row.threads) == (seconds, threads)]
        both_ways = [f"{statistics.median(ratios):.2f} ({min(ratios):.2f})" for ratios in zip(*some, strict=True)]
        lines.append(f"| {seconds:g} s | {threads} | {' | '.join(both_ways)} |")
    return "\n".join(lines)


def processor() -> str:
    """The processor's name, as the system has it."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().split("\n") if line.startswith("model name")] if info.exists() else []
    return names[0].partition(": ")[2] if names else platform.processor()


def main() -> None:
    """Measure what the command line asks for, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="*", help="names of systems; all that have a release if none is given")
    parser.add_argument("--audiodec", type=Path, help="clone of AudioDec")
    parser.add_argument("--academicodec", type=Path, help="clone of AcademiCodec")
    parser.add_argument("--seconds", type=float, nargs="+", default=[1, 5, 10])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, torch.get_num_threads()])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="run ours through torch.compile")
    parser.add_argument("--markdown", action="store_true", help="print tables at the end")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    clones = {"AudioDec": options.audiodec, "AcademiCodec": options.academicodec}
    rows = []
    for release, (_, systems) in RELEASES.items():
        wanted = [name for name in systems if name in (options.systems or systems)]
        if clones.get(release, Path()) is None:
            print(f"{release}: no clone is given; skipped", file=sys.stderr)
            continue
        for system in wanted:
            rows += run(system, release, clones, options)
    if options.markdown:
        print(f"\n{processor()}, Python {platform.python_version()}, torch {torch.__version__}\n\n{markdown(rows)}")
    sys.exit(not all(row.agrees for row in rows))


def run(system: str, release: str, clones: Any, options: argparse.Namespace) -> list[Row]:
    """All rows of one system."""
    rows = []
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        pair = both(system, release, Path(folder), clones, compiled=options.compile)
        card = pair[0].card
        for threads in sorted(set(options.threads)):
            for seconds in options.seconds:
                clip = sound(seconds, card.sample_rate or 0, card.channels or 1)
                rows.append(measure(system, release, pair, clip, threads, options.repeats))
                print(text(rows[-1]), flush=True)
    return rows


if __name__ == "__main__":
    main()
