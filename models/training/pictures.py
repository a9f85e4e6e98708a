"""What can be seen and heard of a training: curves of its losses, and samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codecbench.audio import Audio


def curves(history: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw every loss of `history` over its steps, smoothed over a fiftieth of them; held-out distance as dots."""
    from matplotlib.figure import Figure

    names = sorted({name for row in history for name in row if name != "step"})
    columns = 3
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(4 * columns, 2.6 * max(rows, 1)), layout="constrained")
    for i, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, i + 1)
        points = np.array([(row["step"], row[name]) for row in history if name in row], dtype=float)
        width = max(1, len(points) // 50)
        smooth = np.convolve(points[:, 1], np.ones(width) / width, mode="valid")
        style = "o-" if name.startswith("held-out") else "-"
        axes.plot(points[width - 1 :, 0], smooth, style, linewidth=1, markersize=3)
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=100)


def samples(pairs: Sequence[tuple[Audio, Audio]], rate: int, folder: Path, step: int) -> None:
    """Write what was heard and what came out ``[T]`` as WAV files, and the spectrograms of both as a picture."""
    import soundfile
    from matplotlib.figure import Figure

    folder.mkdir(exist_ok=True)
    figure = Figure(figsize=(10, 3 * len(pairs)), layout="constrained")
    for i, pair in enumerate(pairs):
        for j, (what, audio) in enumerate(zip(("original", f"step {step}"), pair, strict=True)):
            file = f"{i}-original.wav" if j == 0 else f"{i}-step-{step:06d}.wav"
            soundfile.write(folder / file, np.clip(audio, -1, 1), rate)
            axes = figure.add_subplot(len(pairs), 2, 2 * i + j + 1)
            axes.specgram(audio + 1e-6 * np.resize([1.0, -1.0], len(audio)), NFFT=512, Fs=rate, noverlap=384, vmin=-120)
            axes.set_title(what, fontsize=9)
    figure.savefig(folder / f"step-{step:06d}.png", dpi=80)
